"""Photometry of the object in the middle of each cutout: sky, centre, aperture fluxes and magnitudes.

Arguments are the same throughout: signal, sky-subtracted counts [DN], shape (n, height, width); x and y,
centres [px, counted from 0]; noise, that of the sky [DN]; gain [e-/DN]; all but the first of shape (n,).
"""

import numpy as np
from astropy.stats import sigma_clip

from ztf_sg import ztf
from ztf_sg.features.psf import curve_of_growth

APERTURES = ztf.APERTURES[:4]  # diameters [px]; larger ones reach into the neighbours
CONCENTRATIONS = tuple(f"conc_{diameter}" for diameter in APERTURES[:3])
APERTURE_PARTS = 5  # that each pixel is split into per side
CENTROID_RADIUS = 2.5  # the object is sought this close to the middle of the cutout [px]
CENTROID_FWHM, CENTROID_STEPS = 3.0, 3  # of the weight [px], and how often it is moved
CORE_RADIUS = 2.5  # within which no light is taken for a neighbour's [px]
NEIGHBOUR_SIGMA = 4.0  # by how much a neighbour's pixel outshines the opposite one [sigma]


def background(images):
    """Return sky level and noise [DN], shape (n,) each, of the border of cutouts, clipped at 3 sigma.

    Parameters
    ----------
    images : numpy.ndarray
        [DN], shape (n, height, width).
    """
    border = np.ones(images.shape[1:], dtype=bool)
    border[2:-2, 2:-2] = False
    clipped = sigma_clip(images[:, border], sigma=3, maxiters=5, axis=1, cenfunc="median", stdfunc="mad_std")
    return np.ma.median(clipped, axis=1).filled(0), np.ma.std(clipped, axis=1).filled(0)


def centroids(signal):
    """Return x and y [px, counted from 0], shape (n,) each, of the object in the middle of each cutout.

    The brightest pixel of the lightly smoothed middle is refined with a moving Gaussian weight, and kept
    within 2.5 px of the middle.

    Parameters
    ----------
    signal : numpy.ndarray
        Sky-subtracted counts [DN], shape (n, height, width).
    """
    rows, columns = np.indices(signal.shape[1:])
    middle_y, middle_x = (np.array(signal.shape[1:]) - 1) / 2
    central = np.hypot(columns - middle_x, rows - middle_y) <= CENTROID_RADIUS
    peak = np.argmax(np.where(central, _smooth(signal), -np.inf).reshape(len(signal), -1), axis=1)
    y, x = (index.astype(float) for index in np.unravel_index(peak, signal.shape[1:]))
    for _ in range(CENTROID_STEPS):
        weight = gaussian_weight(signal.shape, x, y, CENTROID_FWHM) * np.maximum(signal, 0)
        total = weight.sum(axis=(1, 2))
        safe = np.where(total > 0, total, 1.0)
        step_x = 2 * ((weight * columns).sum(axis=(1, 2)) / safe - x) * (total > 0)
        step_y = 2 * ((weight * rows).sum(axis=(1, 2)) / safe - y) * (total > 0)
        x = np.clip(x + np.clip(step_x, -1, 1), middle_x - CENTROID_RADIUS, middle_x + CENTROID_RADIUS)
        y = np.clip(y + np.clip(step_y, -1, 1), middle_y - CENTROID_RADIUS, middle_y + CENTROID_RADIUS)
    return x, y


def without_neighbours(signal, x, y, noise, gain):
    """Return the signal with pixels of neighbours replaced by those on the opposite side of the object.

    Pixels much brighter than the opposite one belong to a neighbour, as objects look the same when turned by
    180 degrees: the idea of SDSS's deblender (Lupton 2005). Pixels nearer than `CORE_RADIUS` to the centre,
    and those whose opposite is outside the image, stay.
    """
    n, height, width = signal.shape
    rows, columns = np.indices((height, width))
    opposite_rows = np.round(2 * y).astype(int)[:, None, None] - rows
    opposite_columns = np.round(2 * x).astype(int)[:, None, None] - columns
    opposite = _pixels_at(signal, opposite_rows, opposite_columns, np.inf)
    light = np.maximum(opposite, 0)
    error = np.sqrt(2 * noise[:, None, None] ** 2 + light / gain[:, None, None] + (0.4 * light) ** 2)
    outside = np.hypot(*offsets(signal.shape, x, y)) > CORE_RADIUS
    return np.where(outside & (signal > opposite + NEIGHBOUR_SIGMA * error), opposite, signal)


def aperture_fluxes(signal, x, y, diameters=APERTURES):
    """Return fluxes [DN] inside m circular apertures, shape (n, m); pixels count by the share inside.

    Parameters
    ----------
    signal, x, y : numpy.ndarray
        See the top of this module; the signal is 0 beyond the edge.
    diameters : sequence of float
        [px], m of them.
    """
    reach = int(max(diameters) / 2) + 1
    near = np.arange(-reach, reach + 1)
    rows, columns = (np.round(centre).astype(int)[:, None] + near for centre in (y, x))
    signal = _pixels_at(signal, rows[:, :, None], columns[:, None, :], 0)
    steps = (np.arange(APERTURE_PARTS) + 0.5) / APERTURE_PARTS - 0.5
    squared_y = (rows[:, :, None] + steps - y[:, None, None]) ** 2
    squared_x = (columns[:, :, None] + steps - x[:, None, None]) ** 2
    fluxes = np.zeros((len(signal), len(diameters)))
    for i in range(APERTURE_PARTS):
        for j in range(APERTURE_PARTS):
            radius = np.sqrt(squared_y[:, :, None, i] + squared_x[:, None, :, j])
            for k, diameter in enumerate(diameters):  # the circle's edge is soft over one part
                inside = np.clip((diameter / 2 - radius) * APERTURE_PARTS + 0.5, 0, 1)
                fluxes[:, k] += np.einsum("nij,nij->n", signal, inside)
    return fluxes / APERTURE_PARTS**2


def aperture_photometry(signal, x, y, noise, table):
    """Return magnitude [mag], log_snr and concentrations [dex] by name, shape (n,) each.

    The table is that of a CutoutSet. Fluxes are at least their own noise, so that logarithms are finite.
    """
    gain, magzp = (table[name].to_numpy(dtype=float)[:, None] for name in ("gain", "magzp"))
    fluxes = aperture_fluxes(signal, x, y)
    areas = np.pi * (np.array(APERTURES) / 2) ** 2
    errors = np.sqrt(np.maximum(fluxes, 0) / gain + areas * noise[:, None] ** 2)
    floored = np.maximum(fluxes, errors)
    magnitudes = magzp - 2.5 * np.log10(floored) + curve_of_growth(table)
    concentrations = -0.4 * (magnitudes[:, :3] - magnitudes[:, 3:])
    return {
        "magnitude": magnitudes[:, 3],
        "log_snr": np.log10(floored[:, 2] / errors[:, 2]),
        **dict(zip(CONCENTRATIONS, concentrations.T, strict=True)),
    }


def offsets(shape, x, y):
    """Return how far columns and rows are from the centres [px], shapes (n, 1, width) and (n, height, 1)."""
    dx, dy = (np.arange(length) - centre[:, None] for length, centre in ((shape[2], x), (shape[1], y)))
    return dx[:, None, :], dy[:, :, None]


def gaussian_weight(shape, x, y, fwhm):
    """Return round Gaussians of a width [px] that are 1 at the centres, of a shape (n, height, width)."""
    in_x, in_y = (np.exp(-4 * np.log(2) * offset**2 / fwhm**2) for offset in offsets(shape, x, y))
    return in_y * in_x


def _pixels_at(signal, rows, columns, beyond):
    """Return the pixels of each image at some rows and columns, and a given value beyond the edge."""
    n, height, width = signal.shape
    pixels = signal[np.arange(n)[:, None, None], np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    return np.where(inside, pixels, beyond)


def _smooth(signal):
    """Return the mean over 3 x 3 px."""
    padded = np.pad(signal, ((0, 0), (1, 1), (1, 1)), mode="edge")
    height, width = signal.shape[1:]
    return sum(padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)) / 9
