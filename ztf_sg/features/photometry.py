"""Sky, centre and aperture fluxes of the objects in the middle of cutouts, as functions of plain images."""

import numpy as np

from ztf_sg import ztf
from ztf_sg.features import compiled

APERTURES = ztf.APERTURES[:4]  # diameters [px]; larger ones reach into the neighbours


def background(images):
    """Return sky level and noise [DN], shape (n,) each, of the border of cutouts, clipped at 3 sigma.

    Parameters
    ----------
    images : numpy.ndarray
        [DN], shape (n, height, width).
    """
    return compiled.backgrounds(np.ascontiguousarray(images))


def centroids(signal):
    """Return x and y [px, counted from 0], shape (n,) each, of the object in the middle of each cutout.

    The brightest pixel of the lightly smoothed middle is refined with a moving Gaussian weight, and kept
    within 2.5 px of the middle.

    Parameters
    ----------
    signal : numpy.ndarray
        Sky-subtracted counts [DN], shape (n, height, width).
    """
    return compiled.centres(np.ascontiguousarray(signal), compiled.CENTROID_FWHM)


def aperture_fluxes(signal, x, y, diameters=APERTURES):
    """Return fluxes [DN] inside m circular apertures, shape (n, m); pixels count by the share inside.

    Parameters
    ----------
    signal : numpy.ndarray
        Sky-subtracted counts [DN], shape (n, height, width); it is 0 beyond the edge.
    x, y : numpy.ndarray
        Centres [px, counted from 0], shape (n,).
    diameters : sequence of float
        [px], m of them.
    """
    x, y = (np.asarray(centre, dtype=float) for centre in (x, y))
    return compiled.light_in_circles(np.ascontiguousarray(signal), x, y, np.array(diameters) / 2)
