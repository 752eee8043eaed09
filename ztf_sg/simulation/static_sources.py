"""Light of variable stars, nuclei of galaxies and supernovae, whose changes are no motion.

Each function adds one to a scene, and returns the truth of it: the change of the flux, whose sign is that of
the alert, and its signal-to-noise ratio.
"""

import numpy as np

from ztf_sg.simulation.fourier import points
from ztf_sg.simulation.scenes import BRIGHTEST, draw_galaxy
from ztf_sg.simulation.stamp_conditions import log_uniform

STAR_CHANGES = (0.02, 1.5)  # change of a star's flux over its flux in the reference, even in the logarithm
OUTBURST_FRACTION, OUTBURSTS = 0.1, (1.5, 100.0)  # stars that rise from little or nothing
NUCLEUS_CHANGES, SUPERNOVA_CHANGES = (0.03, 1.0), (0.05, 10.0)  # over the flux of the galaxy
HOST_SCALES, OFFSETS = (0.3, 3.5), (0.0, 2.0)  # scale length [px]; offset from the nucleus in scale lengths


def add_variable(rng, scene, snr):
    """Add a star that is brighter or fainter than in the reference."""
    outburst = rng.random() < OUTBURST_FRACTION
    ratio = log_uniform(rng, OUTBURSTS if outburst else STAR_CHANGES)
    change = _change(rng, scene, snr, ratio)
    at = [scene.x], [scene.y]
    scene.add_static(points(*at, [min(abs(change) / ratio, BRIGHTEST)]))
    scene.science += points(*at, [change])
    return {"flux": change, "snr": snr}


def add_nucleus(rng, scene, snr):
    """Add a galaxy whose nucleus is brighter or fainter than in the reference."""
    ratio = log_uniform(rng, NUCLEUS_CHANGES)
    change = _change(rng, scene, snr, ratio)
    if change < 0:  # what fades has shone before
        scene.add_static(points([scene.x], [scene.y], [-change * rng.uniform(1, 3)]))
    return _add_in_galaxy(scene, snr, change, ratio, 0.0, 0.0, draw_galaxy(rng, HOST_SCALES))


def add_supernova(rng, scene, snr):
    """Add a galaxy and a supernova in or beside it."""
    ratio, scale = log_uniform(rng, SUPERNOVA_CHANGES), log_uniform(rng, HOST_SCALES)
    distance, angle = scale * rng.uniform(*OFFSETS), rng.uniform(0, 2 * np.pi)
    galaxy = draw_galaxy(rng, (scale, scale * 1.01))
    shift = distance * np.cos(angle), distance * np.sin(angle)
    return _add_in_galaxy(scene, snr, scene.exposure.flux(snr), ratio, *shift, galaxy)


def _add_in_galaxy(scene, snr, change, ratio, dx, dy, galaxy):
    """Add a change of the flux at the detection [DN], and a galaxy at some distance dx, dy [px]."""
    host = min(abs(change) / ratio, BRIGHTEST)
    scene.add_static(points([scene.x + dx], [scene.y + dy], [host]) * galaxy)
    scene.science += points([scene.x], [scene.y], [change])
    return {"flux": change, "snr": snr}


def _change(rng, scene, snr, ratio):
    """Draw the change of a flux [DN], which cannot fall below nothing."""
    change = scene.exposure.flux(snr)
    return -change if ratio < 1 and rng.random() < 0.5 else change
