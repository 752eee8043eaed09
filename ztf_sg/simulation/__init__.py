"""The physics of the mock sky: stars, galaxies and the camera, drawn with GalSim.

All numbers stand in `parameters`, each with its source; the others put them to use: `population` (objects),
`exposures` (nights and images), `psf`, `drawing` (light on the detector), `detector` (what it makes of it).
"""

from ztf_sg.simulation.mock_sky import ORIGIN, MockSky, write_catalogue

__all__ = ["MockSky", "ORIGIN", "write_catalogue"]
