"""Cutouts -> a few photometric features that mean the same on every night.

A point source obeys m_ap(d) = m_psf - APCOR(d) for the apertures of its image, an extended one does
not. The concentration features compare each object with that curve of growth of its own image.
"""

import numpy as np
import pandas as pd
from astropy.stats import sigma_clip

from ztf_sg.dataset import CutoutSet

APERTURES = (2, 3, 4, 6)  # diameters of APCOR1..4 [px]; larger ones reach into the neighbours
READ_NOISE = 10.0  # [e-], of ZTF's camera
CENTROID_RADIUS = 2.5  # the object is sought this close to the middle of the cutout [px]
FIT_RADIUS = 5.0  # of the pixels around the object that profiles are compared on [px]
CORE_RADIUS = 2.5  # within which nothing is taken for a neighbour's light [px]
NEIGHBOUR_SIGMA = 4.0  # by how much a pixel must outshine the one opposite [sigma]
PSF_BETA, PSF_FWHM_OVER_SEEING = 2.38, 0.878  # Moffat profile that reproduces APCOR at the header's SEEING
PSF_ERROR = 0.02  # relative error of that profile, which keeps bright pixels from having all the weight
SPREAD_WIDTHS = (1.3, 2.0, 3.5)  # of the broader profiles that objects are compared with, in PSF widths
FEATURES = (
    "magnitude", "log_snr", "spread_1.3", "spread_2.0", "spread_3.5",
    "conc_2", "conc_3", "conc_4", "size", "ellipticity",
)  # fmt: skip
"""Names of the features: see :func:`embed`."""

# Mean relation of real APCOR1..4 with SEEING, [mag] at 1.6 px and [mag / px]: for images without APCOR.
# benchmarks/calibrate_mock_sky.py prints it for any folder of cutouts.
MEAN_APCOR = np.array([-0.833, -0.385, -0.201, -0.074])
APCOR_SLOPE = np.array([-0.531, -0.303, -0.170, -0.073])


def embed(cutouts):
    """Return photometric features of cutouts.

    Parameters
    ----------
    cutouts : CutoutSet
        n cutouts.

    Returns
    -------
    pandas.DataFrame
        n rows, finite, with the columns

        - magnitude: 6 px aperture magnitude, corrected with APCOR4 [mag];
        - log_snr: log10 of the signal-to-noise ratio in the 4 px aperture;
        - spread_1.3, spread_2.0, spread_3.5: weight of a profile so many times broader than the PSF,
          relative to that of the PSF and to what a point source would have, see :func:`spread`;
        - conc_2, conc_3, conc_4: log10 of the flux inside 2, 3 and 4 px relative to that inside 6 px,
          over the same ratio of the image's point sources [dex]; 0 for a star;
        - size: weighted radius of the light over the header's seeing;
        - ellipticity: that of the weighted second moments, 0 (round) to 1.

    Raises
    ------
    TypeError
        If cutouts is not a CutoutSet.
    ValueError
        If the set is empty.

    Notes
    -----
    Fluxes are floored at their own noise before a logarithm is taken, so that no feature is infinite.
    Images without APCOR get the mean relation of APCOR with seeing.
    """
    if not isinstance(cutouts, CutoutSet):
        raise TypeError(
            f"expected a CutoutSet, as load_cutouts gives, got {type(cutouts).__name__}; "
            "for tables of pixels there is PixelClassifier"
        )
    if len(cutouts) == 0:
        raise ValueError("no cutouts: the set is empty")
    images = cutouts.images.astype(float)
    sky, noise = background(images)
    signal = images - sky[:, None, None]
    gain, seeing = (cutouts.table[name].to_numpy(dtype=float) for name in ("gain", "seeing"))
    noise = np.maximum(noise, np.sqrt(np.maximum(sky, 0) / gain + (READ_NOISE / gain) ** 2))
    x, y = centroids(signal)
    signal = without_neighbours(signal, x, y, noise, gain)
    fluxes = aperture_fluxes(signal, x, y)
    areas = np.pi * (np.array(APERTURES) / 2) ** 2
    errors = np.sqrt(np.maximum(fluxes, 0) / gain[:, None] + areas * noise[:, None] ** 2)
    floored = np.maximum(fluxes, errors)
    magzp = cutouts.table["magzp"].to_numpy(dtype=float)[:, None]
    magnitudes = magzp - 2.5 * np.log10(floored) + aperture_corrections(cutouts.table)
    concentration = -0.4 * (magnitudes[:, :3] - magnitudes[:, 3:])
    radius, ellipticity = moments(signal, x, y)
    columns = [
        magnitudes[:, 3],
        np.log10(floored[:, 2] / errors[:, 2]),
        *spread(signal, x, y, seeing, noise, gain).T,
        *concentration.T,
        radius / seeing,
        ellipticity,
    ]
    return pd.DataFrame(dict(zip(FEATURES, columns, strict=True)))


def spread(signal, x, y, seeing, noise, gain):
    r"""Return how much better broader profiles go with the objects than the PSF does.

    With weights W of the pixels, PSF :math:`\phi`, a broader profile G and the image p, it is
    :math:`(G^T W p) / (\phi^T W p) - (G^T W \phi) / (\phi^T W \phi)`: 0 for a star, positive for a
    galaxy. It is the spread_model of Desai et al. 2012, ApJ 757, 83, with Moffat profiles.

    Parameters
    ----------
    signal : numpy.ndarray
        Sky-subtracted counts [DN], shape (n, height, width).
    x, y, seeing : numpy.ndarray
        Centres and FWHM [px], shape (n,).
    noise, gain : numpy.ndarray
        Sky noise [DN] and gain [e-/DN], shape (n,).

    Returns
    -------
    numpy.ndarray
        Dimensionless, shape (n, 3): one column a width of :data:`SPREAD_WIDTHS`.
    """
    psf = moffat(signal.shape, x, y, PSF_FWHM_OVER_SEEING * seeing)
    flux = np.maximum(aperture_fluxes(signal, x, y, (4,))[:, 0], 1)[:, None, None]
    variance = noise[:, None, None] ** 2 + psf * flux / gain[:, None, None] + (PSF_ERROR * psf * flux) ** 2
    rows, columns = np.indices(signal.shape[1:])
    near = np.hypot(columns - x[:, None, None], rows - y[:, None, None]) < FIT_RADIUS
    weight = near / variance
    psf_weighted = np.einsum("nij,nij,nij->n", psf, psf, weight)
    in_psf = np.einsum("nij,nij,nij->n", psf, signal, weight)
    in_psf = np.maximum(in_psf, 0.1 * np.sqrt(psf_weighted))
    features = []
    for width in SPREAD_WIDTHS:
        broad = moffat(signal.shape, x, y, width * PSF_FWHM_OVER_SEEING * seeing) * weight
        features.append(
            np.einsum("nij,nij->n", broad, signal) / in_psf
            - np.einsum("nij,nij->n", broad, psf) / psf_weighted
        )
    return np.stack(features, axis=1)


def moffat(shape, x, y, fwhm, oversampling=3):
    """Return pixel-averaged Moffat profiles of unit sum.

    Parameters
    ----------
    shape : tuple of int
        (n, height, width).
    x, y, fwhm : numpy.ndarray
        Centres and widths [px], shape (n,).
    oversampling : int
        Each pixel is averaged over this many points a side.

    Returns
    -------
    numpy.ndarray
        Of the shape asked for.
    """
    rows, columns = np.indices(shape[1:])
    alpha_squared = (fwhm / 2) ** 2 / (2 ** (1 / PSF_BETA) - 1)
    offsets = (np.arange(oversampling) + 0.5) / oversampling - 0.5
    profile = np.zeros(shape)
    for dy in offsets:
        for dx in offsets:
            squared = (columns + dx - x[:, None, None]) ** 2 + (rows + dy - y[:, None, None]) ** 2
            profile += (1 + squared / alpha_squared[:, None, None]) ** -PSF_BETA
    return profile / profile.sum(axis=(1, 2), keepdims=True)


def background(images):
    """Return sky level and noise from the border pixels of cutouts, clipped at 3 sigma.

    Parameters
    ----------
    images : numpy.ndarray
        [DN], shape (n, height, width).

    Returns
    -------
    sky, noise : numpy.ndarray
        [DN], shape (n,).
    """
    border = np.ones(images.shape[1:], dtype=bool)
    border[2:-2, 2:-2] = False
    clipped = sigma_clip(images[:, border], sigma=3, maxiters=5, axis=1, cenfunc="median", stdfunc="mad_std")
    return np.ma.median(clipped, axis=1).filled(0), np.ma.std(clipped, axis=1).filled(0)


def centroids(signal, iterations=3, fwhm=3.0):
    """Return the place of the object near the middle of each cutout.

    The brightest pixel of the lightly smoothed middle is refined with a moving Gaussian weight.

    Parameters
    ----------
    signal : numpy.ndarray
        Sky-subtracted counts [DN], shape (n, height, width).
    iterations : int
    fwhm : float
        Of the weight [px].

    Returns
    -------
    x, y : numpy.ndarray
        [px, from 0], shape (n,), within :data:`CENTROID_RADIUS` of the middle.
    """
    rows, columns = np.indices(signal.shape[1:])
    middle_y, middle_x = (np.array(signal.shape[1:]) - 1) / 2
    central = np.hypot(columns - middle_x, rows - middle_y) <= CENTROID_RADIUS
    peak = np.argmax(np.where(central, _smooth(signal), -np.inf).reshape(len(signal), -1), axis=1)
    y, x = (place.astype(float) for place in np.unravel_index(peak, signal.shape[1:]))
    for _ in range(iterations):
        weight = _gaussian_weight(signal.shape, x, y, fwhm) * np.maximum(signal, 0)
        total = weight.sum(axis=(1, 2))
        safe = np.where(total > 0, total, 1.0)
        step_x = 2 * ((weight * columns).sum(axis=(1, 2)) / safe - x) * (total > 0)
        step_y = 2 * ((weight * rows).sum(axis=(1, 2)) / safe - y) * (total > 0)
        x = np.clip(x + np.clip(step_x, -1, 1), middle_x - CENTROID_RADIUS, middle_x + CENTROID_RADIUS)
        y = np.clip(y + np.clip(step_y, -1, 1), middle_y - CENTROID_RADIUS, middle_y + CENTROID_RADIUS)
    return x, y


def without_neighbours(signal, x, y, noise, gain):
    """Return images in which light that has no counterpart opposite the object is replaced by what is there.

    Objects are nearly the same when turned by 180 degrees; neighbours, trails and hot pixels beside them are
    not. It is the idea of SDSS's deblender (Lupton 2005), for one object and without templates.

    Parameters
    ----------
    signal : numpy.ndarray
        Sky-subtracted counts [DN], shape (n, height, width).
    x, y : numpy.ndarray
        Centres [px], shape (n,).
    noise, gain : numpy.ndarray
        Sky noise [DN] and gain [e-/DN], shape (n,).

    Returns
    -------
    numpy.ndarray
        Same shape; pixels nearer than `CORE_RADIUS` to the centre, and those without a counterpart in the
        image, are as they were.
    """
    n, height, width = signal.shape
    rows, columns = np.indices((height, width))
    opposite_rows = np.round(2 * y).astype(int)[:, None, None] - rows
    opposite_columns = np.round(2 * x).astype(int)[:, None, None] - columns
    inside = (opposite_rows >= 0) & (opposite_rows < height)
    inside &= (opposite_columns >= 0) & (opposite_columns < width)
    opposite = signal[
        np.arange(n)[:, None, None],
        np.clip(opposite_rows, 0, height - 1),
        np.clip(opposite_columns, 0, width - 1),
    ]
    light = np.maximum(opposite, 0)
    error = np.sqrt(2 * noise[:, None, None] ** 2 + light / gain[:, None, None] + (0.4 * light) ** 2)
    outside = np.hypot(columns - x[:, None, None], rows - y[:, None, None]) > CORE_RADIUS
    foreign = outside & inside & (signal > opposite + NEIGHBOUR_SIGMA * error)
    return np.where(foreign, opposite, signal)


def aperture_fluxes(signal, x, y, diameters=APERTURES, oversampling=5):
    """Return fluxes inside circular apertures, pixels counted by the share inside.

    Parameters
    ----------
    signal : numpy.ndarray
        Sky-subtracted counts [DN], shape (n, height, width).
    x, y : numpy.ndarray
        Centres [px], shape (n,).
    diameters : sequence of float
        [px], m of them.
    oversampling : int
        Each pixel is split into this many parts a side; the circle's edge is soft over one part.

    Returns
    -------
    numpy.ndarray
        [DN], shape (n, m).
    """
    height, width = signal.shape[1:]
    offsets = (np.arange(oversampling) + 0.5) / oversampling - 0.5
    squared_y = (np.arange(height)[:, None] + offsets - y[:, None, None]) ** 2
    squared_x = (np.arange(width)[:, None] + offsets - x[:, None, None]) ** 2
    fluxes = np.zeros((len(signal), len(diameters)))
    for i in range(oversampling):
        for j in range(oversampling):
            radius = np.sqrt(squared_y[:, :, None, i] + squared_x[:, None, :, j])
            for k, diameter in enumerate(diameters):
                inside = np.clip((diameter / 2 - radius) * oversampling + 0.5, 0, 1)
                fluxes[:, k] += np.einsum("nij,nij->n", signal, inside)
    return fluxes / oversampling**2


def aperture_corrections(table):
    """Return APCOR1..4 [mag] of each cutout, shape (n, 4), from its header or else from its seeing."""
    header = table[[f"apcor{number}" for number in range(1, 5)]].to_numpy(dtype=float)
    modelled = MEAN_APCOR + APCOR_SLOPE * (table["seeing"].to_numpy()[:, None] - 1.6)
    return np.where(np.isfinite(header), header, modelled)


def moments(signal, x, y, fwhm=6.0):
    """Return radius and ellipticity of the light from second moments under a Gaussian weight.

    Parameters
    ----------
    signal : numpy.ndarray
        Sky-subtracted counts [DN], shape (n, height, width).
    x, y : numpy.ndarray
        Centres [px], shape (n,).
    fwhm : float
        Of the weight [px].

    Returns
    -------
    radius : numpy.ndarray
        Square root of the trace of the second moments [px], shape (n,).
    ellipticity : numpy.ndarray
        Modulus of ((Qxx - Qyy), 2 Qxy) / (Qxx + Qyy), at most 1, shape (n,).
    """
    rows, columns = np.indices(signal.shape[1:])
    weight = _gaussian_weight(signal.shape, x, y, fwhm) * signal
    dx, dy = columns - x[:, None, None], rows - y[:, None, None]
    total = weight.sum(axis=(1, 2))
    safe = np.where(total > 0, total, np.inf)
    xx, yy, xy = ((weight * product).sum(axis=(1, 2)) / safe for product in (dx * dx, dy * dy, dx * dy))
    trace = np.clip(xx + yy, 0.1, 50.0)
    return np.sqrt(trace), np.minimum(np.hypot(xx - yy, 2 * xy) / trace, 1.0)


def _gaussian_weight(shape, x, y, fwhm):
    rows, columns = np.indices(shape[1:])
    squared = (columns - x[:, None, None]) ** 2 + (rows - y[:, None, None]) ** 2
    return np.exp(-4 * np.log(2) * squared / fwhm**2)


def _smooth(signal):
    """Return the mean over 3 x 3 px."""
    padded = np.pad(signal, ((0, 0), (1, 1), (1, 1)), mode="edge")
    height, width = signal.shape[1:]
    return sum(padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)) / 9
