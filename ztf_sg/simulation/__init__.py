"""The simulated sky: `parameters`, with their sources; `population`, its objects; `exposures`, its images.

`drawing` puts the light of an object, blurred by the `psf`, on the `detector`, which makes counts of it.
`conditions` makes cutouts of images in all conditions, without a sky that they belong to, to train on.
"""

from ztf_sg.simulation.mock_sky import ORIGIN, MockSky, write_catalogue

__all__ = ["MockSky", "ORIGIN", "write_catalogue"]
