"""Cutouts -> a few photometric features that mean the same on every night.

A point source obeys m_ap(d) = m_psf - APCOR(d) for the apertures of its image, an extended one does
not. The concentration features compare each object with that curve of growth of its own image.
"""

from functools import cache

import galsim
import numpy as np
import pandas as pd
from astropy.stats import sigma_clip
from scipy.ndimage import gaussian_filter

from ztf_sg import ztf
from ztf_sg.cutouts import CutoutSet
from ztf_sg.parallel import map_chunks
from ztf_sg.ztf import READ_NOISE

APERTURES = ztf.APERTURES[:4]  # larger ones reach into the neighbours
INSTRUMENTAL = [f"magnitude_{diameter}" for diameter in APERTURES]  # without aperture corrections
CENTROID_RADIUS = 2.5  # the object is sought this close to the middle of the cutout [px]
FIT_RADIUS = 5.0  # of the pixels around the object that profiles are compared on [px]
CORE_RADIUS = 2.5  # within which nothing is taken for a neighbour's light [px]
NEIGHBOUR_SIGMA = 4.0  # by how much a pixel must outshine the one opposite [sigma]
PSF_BETA, PSF_FWHM_OVER_SEEING = 2.38, 0.878  # Moffat profile that reproduces APCOR at the header's SEEING
PSF_ERROR = 0.02  # relative error of that profile, which keeps bright pixels from having all the weight
SPREAD_WIDTHS = (1.3, 2.0, 3.5)  # of the broader profiles that objects are compared with, in PSF widths
SMOOTHING = 1.0  # sigma of the Gaussian that images are smoothed with before their adaptive moments [px]
SEEING_GRID = np.linspace(0.8, 6.0, 27)  # for which those of point sources are measured [px]
PEAK_RADIUS = 1.6  # within which the brightest pixel of an object is sought [px]
FEATURES = (
    "magnitude", "log_snr", "spread_1.3", "spread_2.0", "spread_3.5",
    "conc_2", "conc_3", "conc_4", "size", "ellipticity",
    "adaptive_size", "adaptive_ellipticity", "adaptive_rho4", "sharpness", "residual",
)  # fmt: skip
"""Names of the features: see :func:`measure_features`."""

# Mean relation of real APCOR1..4 with SEEING, [mag] at 1.6 px and [mag / px]: for images without APCOR.
# tools/calibrate_mock_sky.py prints it for any folder of cutouts.
MEAN_APCOR = np.array([-0.833, -0.385, -0.201, -0.074])
APCOR_SLOPE = np.array([-0.531, -0.303, -0.170, -0.073])
# An image without APCOR is its own witness, if it has so many objects of such a log10 S/N, and if the half of
# them that is most alike disagrees with the mean relation by no more than this [mag].
STACK_COUNT, STACK_LOG_SNR, STACK_TOLERANCE = 6, 1.5, 0.1


def measure_features(cutouts, features=FEATURES):
    """Return photometric features of cutouts.

    Parameters
    ----------
    cutouts : CutoutSet
        n cutouts.
    features : sequence of str
        Which of :data:`FEATURES` are wanted; others that take time are not measured.

    Returns
    -------
    pandas.DataFrame
        n rows, finite, with those of the following columns:

        - magnitude: 6 px aperture magnitude, corrected with APCOR4 [mag];
        - log_snr: log10 of the signal-to-noise ratio in the 4 px aperture;
        - spread_1.3, spread_2.0, spread_3.5: weight of a profile so many times broader than the PSF,
          relative to that of the PSF and to what a point source would have, see :func:`spread`;
        - conc_2, conc_3, conc_4: log10 of the flux inside 2, 3 and 4 px relative to that inside 6 px,
          over the same ratio of the image's point sources, see :func:`curves_of_growth` [dex]; 0 for a star;
        - size: weighted radius of the light over the header's seeing;
        - ellipticity: that of the weighted second moments, 0 (round) to 1;
        - adaptive_size, adaptive_ellipticity and adaptive_rho4: log10 of the size over the PSF's [dex], the
          distortion, and the fourth moment less the PSF's, see :func:`adaptive_moments`;
        - sharpness and residual: log10 of the brightest pixel's share of the light over a point source's, and
          of the chi squared a pixel of the best-fitting point source [dex], see :func:`psf_fit`.

    Raises
    ------
    TypeError
        If cutouts is not a CutoutSet.
    ValueError
        If the set is empty, or a feature is not known.

    Notes
    -----
    Fluxes are floored at their own noise before a logarithm is taken, so that no feature is infinite.
    """
    if not isinstance(cutouts, CutoutSet):
        raise TypeError(
            f"expected a CutoutSet, as load_cutouts gives, got {type(cutouts).__name__}; "
            "for tables of pixels there is PixelClassifier"
        )
    if len(cutouts) == 0:
        raise ValueError("no cutouts: the set is empty")
    unknown = [name for name in features if name not in FEATURES]
    if unknown:
        raise ValueError(f"features: no {', '.join(map(repr, unknown))}; there are {', '.join(FEATURES)}")
    measured = _measure(cutouts, set(features))
    corrections, _ = curves_of_growth(cutouts.table, *_photometry_of(measured))
    magnitudes = measured[INSTRUMENTAL].to_numpy() + corrections
    measured["magnitude"] = magnitudes[:, 3]
    measured[["conc_2", "conc_3", "conc_4"]] = -0.4 * (magnitudes[:, :3] - magnitudes[:, 3:])
    return measured[list(features)]


def psf_sources(cutouts):
    """Return what the curve of growth of each cutout's image is taken from, see :func:`curves_of_growth`.

    Parameters
    ----------
    cutouts : CutoutSet
        n cutouts.

    Returns
    -------
    numpy.ndarray
        "header", "stack" or "seeing", shape (n,).
    """
    return curves_of_growth(cutouts.table, *_photometry_of(_measure(cutouts, set())))[1]


def curves_of_growth(table, magnitudes, log_snr):
    """Return the aperture corrections of each cutout's image, and what they come from.

    They are APCOR1..4 of the header. Where it has none, and the set has enough bright cutouts of the same
    image, the half of them that is most alike stands for its point sources, and the median of their curves of
    growth is taken (*stack*); otherwise, or if that is not credible, the mean relation of APCOR with
    SEEING (*seeing*), which also gives the correction of the largest aperture in the former case.

    Parameters
    ----------
    table : pandas.DataFrame
        n rows, as of a CutoutSet.
    magnitudes : numpy.ndarray
        Aperture magnitudes without corrections, for :data:`APERTURES` [mag], shape (n, 4).
    log_snr : numpy.ndarray
        log10 of the signal-to-noise ratio, shape (n,).

    Returns
    -------
    corrections : numpy.ndarray
        APCOR1..4, or what stands for them [mag], shape (n, 4).
    source : numpy.ndarray
        "header", "stack" or "seeing", shape (n,).
    """
    header = table[[f"apcor{number}" for number in range(1, 5)]].to_numpy(dtype=float)
    modelled = MEAN_APCOR + APCOR_SLOPE * (table["seeing"].to_numpy(dtype=float)[:, None] - 1.6)
    given = np.isfinite(header)
    corrections = np.where(given, header, modelled)
    source = np.where(given.all(axis=1), "header", "seeing").astype("<U6")
    absent = np.flatnonzero(~given.any(axis=1))
    image = ["obsmjd", "seeing", "magzp"]
    for places in table[image].iloc[absent].groupby(image, dropna=False).indices.values():
        rows = absent[places]
        bright = rows[log_snr[rows] > STACK_LOG_SNR]
        if len(bright) < STACK_COUNT:
            continue
        growth = magnitudes[bright, 3:] - magnitudes[bright]
        stacked = modelled[rows[0], 3] + np.median(growth[_most_alike(growth[:, 1])], axis=0)
        if np.abs(stacked - modelled[rows[0]]).max() <= STACK_TOLERANCE:
            corrections[rows], source[rows] = stacked, "stack"
    return corrections, source


def _most_alike(values):
    """Return the rows of the half of some numbers that lies closest together."""
    order, count = np.argsort(values), len(values) // 2 + 1
    ranges = values[order[count - 1 :]] - values[order[: len(values) - count + 1]]
    return order[np.argmin(ranges) :][:count]


def _photometry_of(measured):
    return measured[INSTRUMENTAL].to_numpy(), measured["log_snr"].to_numpy()


def _measure(cutouts, wanted):
    """Return what is measured on each cutout by itself: aperture magnitudes and the wanted features."""
    parts = map_chunks(lambda rows: _measure_chunk(cutouts[rows], wanted), len(cutouts))
    return pd.concat(parts, ignore_index=True)


def _measure_chunk(cutouts, wanted):
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
    columns = dict(zip(INSTRUMENTAL, (magzp - 2.5 * np.log10(floored)).T, strict=True))
    columns["log_snr"] = np.log10(floored[:, 2] / errors[:, 2])
    for names, measure in (
        (FEATURES[2:5], lambda: spread(signal, x, y, seeing, noise, gain).T),
        (FEATURES[8:10], lambda: _relative_moments(signal, x, y, seeing)),
        (FEATURES[10:13], lambda: adaptive_moments(signal, x, y, seeing).T),
        (FEATURES[13:15], lambda: psf_fit(signal, x, y, seeing, noise, gain).T),
    ):
        if wanted.intersection(names):
            columns |= dict(zip(names, measure(), strict=True))
    return pd.DataFrame(columns)


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
    psf, weight = _psf_and_weight(signal, x, y, seeing, noise, gain)
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


def psf_fit(signal, x, y, seeing, noise, gain):
    r"""Return how unlike a point source the objects are.

    Parameters
    ----------
    signal, x, y, seeing, noise, gain
        As for :func:`spread`.

    Returns
    -------
    numpy.ndarray
        Shape (n, 2) [dex]. The first column is sharpness: the share of the brightest pixel in the flux of the
        4 px aperture, over that of a point source in the same place. The second is the residual: with the
        weights W, image p and PSF :math:`\phi` of :func:`spread`, and :math:`a = (\phi^T W p) / (\phi^T W
        \phi)`, it is :math:`\log_{10}` of the mean of :math:`W (p - a \phi)^2` over the pixels.
    """
    psf, weight = _psf_and_weight(signal, x, y, seeing, noise, gain)
    flux, psf_flux = (np.maximum(aperture_fluxes(image, x, y, (4,))[:, 0], 1e-3) for image in (signal, psf))
    rows, columns = np.indices(signal.shape[1:])
    middle = np.hypot(columns - x[:, None, None], rows - y[:, None, None]) < PEAK_RADIUS
    peak, psf_peak = (np.where(middle, image, -np.inf).max(axis=(1, 2)) for image in (signal, psf))
    floor = np.pi * 2 * noise  # of the flux: its own noise, in the 4 px aperture
    sharpness = np.log10(np.maximum(peak, noise) / np.maximum(flux, floor) * psf_flux / psf_peak)
    scale = np.einsum("nij,nij,nij->n", psf, signal, weight) / np.einsum("nij,nij,nij->n", psf, psf, weight)
    squares = weight * (signal - scale[:, None, None] * psf) ** 2
    residual = np.log10(np.maximum(squares.sum(axis=(1, 2)) / (weight > 0).sum(axis=(1, 2)), 1e-3))
    return np.stack([sharpness, residual], axis=1)


def _psf_and_weight(signal, x, y, seeing, noise, gain):
    """Return point sources of unit flux, and inverse variances of the pixels near them, as if they were."""
    psf = moffat(signal.shape, x, y, PSF_FWHM_OVER_SEEING * seeing)
    flux = np.maximum(aperture_fluxes(signal, x, y, (4,))[:, 0], 1)[:, None, None]
    variance = noise[:, None, None] ** 2 + psf * flux / gain[:, None, None] + (PSF_ERROR * psf * flux) ** 2
    rows, columns = np.indices(signal.shape[1:])
    near = np.hypot(columns - x[:, None, None], rows - y[:, None, None]) < FIT_RADIUS
    return psf, near / variance


def adaptive_moments(signal, x, y, seeing):
    """Return size, ellipticity and fourth moment of the light under the Gaussian that fits it best.

    They are the adaptive moments of Hirata & Seljak 2003, MNRAS 343, 459, by GalSim. Stars of ZTF are
    undersampled, and the method fails on half of them; on images smoothed by `SMOOTHING` it does not.

    Parameters
    ----------
    signal : numpy.ndarray
        Sky-subtracted counts [DN], shape (n, height, width).
    x, y, seeing : numpy.ndarray
        Centres and FWHM [px], shape (n,).

    Returns
    -------
    numpy.ndarray
        Shape (n, 3): log10 of the smoothed size over that of a smoothed point source [dex]; distortion, 0
        (round) to 1; and fourth radial moment less that of a point source, in units of the size. Those of a
        round point source where the method fails.
    """
    point_sigma, _, point_rho4 = _point_moments().T
    sigma, ellipticity, rho4 = _hsm(signal, x, y).T
    relative = [
        np.log10(sigma / np.interp(seeing, SEEING_GRID, point_sigma)),
        ellipticity,
        rho4 - np.interp(seeing, SEEING_GRID, point_rho4),
    ]
    return np.nan_to_num(np.stack(relative, axis=1), posinf=0.0, neginf=0.0)


@cache
def _point_moments():
    """Return the adaptive moments of point sources at the seeings of `SEEING_GRID`, as of `_hsm`."""
    middle = np.full(len(SEEING_GRID), 15.0)
    return _hsm(
        moffat((len(SEEING_GRID), 31, 31), middle, middle, PSF_FWHM_OVER_SEEING * SEEING_GRID), middle, middle
    )


def _hsm(signal, x, y):
    """Return sigma [px], distortion and rho4 by GalSim, shape (n, 3); NaN where it fails."""
    found = np.full((len(signal), 3), np.nan)
    smooth = gaussian_filter(signal, (0, SMOOTHING, SMOOTHING), mode="nearest")
    for row, image in enumerate(smooth):
        shape = galsim.hsm.FindAdaptiveMom(
            galsim.Image(image, xmin=0, ymin=0),
            guess_sig=1.5,
            guess_centroid=galsim.PositionD(x[row], y[row]),
            strict=False,
        )
        if not shape.error_message:
            found[row] = shape.moments_sigma, abs(shape.observed_shape.e), shape.moments_rho4
    return found


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
    alpha = fwhm / 2 / np.sqrt(2 ** (1 / PSF_BETA) - 1)
    offsets = (np.arange(oversampling) + 0.5) / oversampling - 0.5
    squared_y = ((np.arange(shape[1]) + offsets[:, None] - y[:, None, None]) / alpha[:, None, None]) ** 2
    squared_x = ((np.arange(shape[2]) + offsets[:, None] - x[:, None, None]) / alpha[:, None, None]) ** 2
    profile = np.zeros(shape)
    for i in range(oversampling):
        for j in range(oversampling):
            power = np.log(1 + squared_y[:, i, :, None] + squared_x[:, j, None, :])
            power *= -PSF_BETA
            profile += np.exp(power, out=power)
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
    signal, rows, columns = _window(signal, x, y, int(max(diameters) / 2) + 1)
    offsets = (np.arange(oversampling) + 0.5) / oversampling - 0.5
    squared_y = (rows[:, :, None] + offsets - y[:, None, None]) ** 2
    squared_x = (columns[:, :, None] + offsets - x[:, None, None]) ** 2
    fluxes = np.zeros((len(signal), len(diameters)))
    for i in range(oversampling):
        for j in range(oversampling):
            radius = np.sqrt(squared_y[:, :, None, i] + squared_x[:, None, :, j])
            for k, diameter in enumerate(diameters):
                inside = np.clip((diameter / 2 - radius) * oversampling + 0.5, 0, 1)
                fluxes[:, k] += np.einsum("nij,nij->n", signal, inside)
    return fluxes / oversampling**2


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


def _relative_moments(signal, x, y, seeing):
    radius, ellipticity = moments(signal, x, y)
    return radius / seeing, ellipticity


def _gaussian_weight(shape, x, y, fwhm):
    in_x, in_y = (
        np.exp(-4 * np.log(2) * (np.arange(length) - place[:, None]) ** 2 / fwhm**2)
        for length, place in ((shape[2], x), (shape[1], y))
    )
    return in_y[:, :, None] * in_x[:, None, :]


def _window(signal, x, y, reach):
    """Return the pixels up to reach around each object, 0 beyond the edge, with their rows and columns."""
    steps = np.arange(-reach, reach + 1)
    rows, columns = (np.round(place).astype(int)[:, None] + steps for place in (y, x))
    height, width = signal.shape[1:]
    pixels = signal[
        np.arange(len(signal))[:, None, None],
        np.clip(rows, 0, height - 1)[:, :, None],
        np.clip(columns, 0, width - 1)[:, None, :],
    ]
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    return np.where(inside, pixels, 0), rows, columns


def _smooth(signal):
    """Return the mean over 3 x 3 px."""
    padded = np.pad(signal, ((0, 0), (1, 1), (1, 1)), mode="edge")
    height, width = signal.shape[1:]
    return sum(padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)) / 9
