"""The physics of the mock sky: stars, galaxies and the camera, drawn with GalSim.

All numbers stand in `parameters`, each with its source; the others put them to use: `population` (objects),
`exposures` (nights and images), `psf`, `drawing` (light on the detector), `detector` (what it makes of it).
"""
