"""The simulated sky: `parameters`, with their sources; `population`, its objects; `exposures`, its images.

`drawing` puts the light of an object, blurred by the `psf`, on the `detector`, which makes counts of it.
`conditions` makes cutouts of images in all conditions, without a sky that they belong to, to train on.

`stamps` makes stamps of alerts: `stamp_conditions` draws exposures, `scenes` what is around a detection;
`moving_sources`, `static_sources` and `confusers` add the detection by `fourier` transforms; `subtraction`
makes images of the scene, and `masks` says what has no data.
"""

from ztf_sg.simulation.mock_sky import ORIGIN, MockSky, write_catalogue

__all__ = ["MockSky", "ORIGIN", "write_catalogue"]
