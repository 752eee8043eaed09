"""The simulated sky: stars, galaxies and the camera, drawn with GalSim.

`parameters` holds every number with its source. `population` draws the objects, `exposures` the nights and
images, `psf` the point-spread functions; `drawing` puts light on the detector, `detector` makes counts of it.
`mock_sky` and `gaia` stand in for the live services.
"""

from ztf_sg.simulation.mock_sky import ORIGIN, MockSky, write_catalogue

__all__ = ["MockSky", "ORIGIN", "write_catalogue"]
