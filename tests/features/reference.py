"""The measurement of features in plain numpy, one cutout after the other, for the compiled one to agree with.

Signal is the sky-subtracted image [DN], shape (height, width); x and y are the centre of the object [px].
"""

import numpy as np
import pandas as pd
from astropy.stats import sigma_clip
from helpers import moffat

from ztf_sg.features import FEATURES, FLAGS, compiled, psf_fit
from ztf_sg.features.measure import SPREAD_WIDTHS
from ztf_sg.features.photometry import APERTURES
from ztf_sg.features.psf import curve_of_growth, image_psf
from ztf_sg.features.sky import BORDER
from ztf_sg.ztf import READ_NOISE


def measure_features(cutouts, order=3):
    """Return all features and flags of a CutoutSet; pixels of profiles are averaged over order**2 points."""
    fwhm, beta, from_apcor = image_psf(cutouts.table)
    growth = curve_of_growth(cutouts.table, fwhm, beta, from_apcor)[:, : len(APERTURES)]
    gain, saturate, magzp = (cutouts.table[name].to_numpy() for name in ("gain", "saturate", "magzp"))
    rows = [
        measure(image.astype(float), *values, order)
        for image, *values in zip(cutouts.images, gain, saturate, magzp, fwhm, beta, growth, strict=True)
    ]
    columns = [*zip(*rows, strict=True), ~from_apcor]
    return pd.DataFrame({name: np.array(c) for name, c in zip(FEATURES + FLAGS, columns, strict=True)})


def measure(image, gain, saturate, magzp, fwhm, beta, growth, order):
    """Return the features of one cutout and its flags without that of the PSF, as a list."""
    sky, scatter = background(image)
    noise = max(scatter, np.sqrt(max(sky, 0) / gain + (READ_NOISE / gain) ** 2))
    signal = image - sky
    x, y = centroid(signal, fwhm)
    cleaned = without_neighbours(signal, x, y, noise, gain)
    flux, limit = max(aperture_flux(cleaned, x, y, 2.0), 1), psf_fit.LINEAR_SHARE * saturate - sky
    if fwhm < psf_fit.REFINED_FWHM:
        x, y = fitted_centre(cleaned, x, y, noise, gain, limit, flux, fwhm, beta, order)
    fluxes = np.array([aperture_flux(cleaned, x, y, diameter / 2) for diameter in APERTURES])
    areas = np.pi * (np.array(APERTURES) / 2) ** 2
    errors = np.sqrt(np.maximum(fluxes, 0) / gain + areas * noise**2)
    magnitudes = magzp - 2.5 * np.log10(np.maximum(fluxes, errors)) + growth
    concentrations = -0.4 * (magnitudes[:3] - magnitudes[3])
    log_snr, spread = compare_with_psf(cleaned, x, y, noise, gain, limit, flux, fwhm, beta, order)
    radius, ellipticity = moments(cleaned, x, y)
    shape = [radius / fwhm, ellipticity]
    found = flags(image, signal - cleaned, x, y, saturate, fit_radius(fwhm), flux)
    return [magnitudes[3], log_snr, *spread, *concentrations, *shape, *found]


def offsets(shape, x, y):
    """Return how far columns and rows are from the centre [px], shapes (1, width) and (height, 1)."""
    return np.arange(shape[1])[None, :] - x, np.arange(shape[0])[:, None] - y


def border_of(shape):
    """Return the mask of the pixels that the sky is measured in."""
    border = np.ones(shape, dtype=bool)
    border[BORDER:-BORDER, BORDER:-BORDER] = False
    return border


def background(image):
    """Return level and noise of the sky [DN]."""
    pixels = image[border_of(image.shape)]
    clipped = sigma_clip(
        pixels, sigma=3, maxiters=5, cenfunc="median", stdfunc="mad_std", masked=False, copy=True
    )
    return np.median(clipped), np.std(clipped)


def centroid(signal, fwhm):
    """Return the centre under a Gaussian weight that follows the object."""
    middle = (np.array(signal.shape[::-1]) - 1) / 2
    reach = compiled.CENTROID_RADIUS
    padded = np.pad(signal, 1, mode="edge")
    smooth = np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).sum(axis=(2, 3))
    central = np.hypot(*offsets(signal.shape, *middle)) <= reach
    peak = np.argmax(np.where(central, smooth, -np.inf))
    centre = np.array(np.unravel_index(peak, signal.shape)[::-1] if central.any() else middle, dtype=float)
    width = max(compiled.CENTROID_FWHM, fwhm)
    factor = 1 + min((fwhm**2 + compiled.PIXEL_FWHM_SQUARED) / width**2, 1)
    for _ in range(compiled.CENTROID_STEPS):
        dx, dy = offsets(signal.shape, *centre)
        near = np.maximum(abs(dx), abs(dy)) <= compiled.CENTROID_REACH * width
        weight = near * np.exp(-4 * np.log(2) * (dx**2 + dy**2) / width**2) * np.maximum(signal, 0)
        if weight.sum() > 0:
            step = factor * np.array([(weight * dx).sum(), (weight * dy).sum()]) / weight.sum()
            centre = np.clip(centre + np.clip(step, -1, 1), middle - reach, middle + reach)
    return centre


def without_neighbours(signal, x, y, noise, gain):
    """Return the signal with pixels much brighter than the opposite ones replaced by those."""
    rows, columns = np.indices(signal.shape)
    rows, columns = round(2 * y) - rows, round(2 * x) - columns
    inside = (rows >= 0) & (rows < signal.shape[0]) & (columns >= 0) & (columns < signal.shape[1])
    opposite = np.where(inside, signal[np.where(inside, rows, 0), np.where(inside, columns, 0)], np.inf)
    light = np.where(inside, np.maximum(opposite, 0), 0)
    error = np.sqrt(2 * noise**2 + light / gain + (compiled.OBJECT_ERROR * light) ** 2)
    far = np.hypot(*offsets(signal.shape, x, y)) > compiled.CORE_RADIUS
    return np.where(far & (signal - opposite > compiled.NEIGHBOUR_SIGMA * error), opposite, signal)


def aperture_flux(signal, x, y, radius):
    """Return the light inside a circle; parts of pixels count, and the edge is soft over one part."""
    parts = compiled.APERTURE_PARTS
    dx, dy = offsets(signal.shape, x, y)
    flux = 0.0
    for i in (np.arange(parts) + 0.5) / parts - 0.5:
        for j in (np.arange(parts) + 0.5) / parts - 0.5:
            inside = np.clip((radius - np.hypot(dx + i, dy + j)) * parts + 0.5, 0, 1)
            flux += (signal * inside).sum() / parts**2
    return flux


def moments(signal, x, y):
    """Return radius [px] and ellipticity of the second moments under a Gaussian weight."""
    dx, dy = offsets(signal.shape, x, y)
    weight = signal * np.exp(-4 * np.log(2) * (dx**2 + dy**2) / compiled.MOMENTS_FWHM**2)
    total = weight.sum() if weight.sum() > 0 else np.inf
    xx, yy, xy = ((weight * product).sum() / total for product in (dx * dx, dy * dy, dx * dy))
    trace = np.clip(xx + yy, 0.1, 50)
    return np.sqrt(trace), min(np.hypot(xx - yy, 2 * xy) / trace, 1)


def fitted_centre(signal, x, y, noise, gain, limit, flux, fwhm, beta, order):
    """Return the centre where the PSF fits best: least squares of amplitude and place, linearised, twice."""
    start = x, y
    for _ in range(psf_fit.REFINEMENTS):
        dx, dy = offsets(signal.shape, x, y)
        near = (np.hypot(dx, dy) < psf_fit.REFINED_RADIUS) & ~(signal > limit)
        psf = moffat(dx, dy, fwhm, beta, order)
        light = psf * flux
        root = np.sqrt(near / (noise**2 + light / gain + (psf_fit.PSF_ERROR * light) ** 2)).ravel()
        steps = 1e-4 * np.eye(2)
        moved = [[moffat(dx - i, dy - j, fwhm, beta, 8) for i, j in (step, -step)] for step in steps]
        slopes = [(forth - back) / 2e-4 for forth, back in moved]
        columns = np.stack([root * part.ravel() for part in (psf, *slopes)], axis=1)
        if not (columns[:, 0] @ (root * signal.ravel()) > 0):
            return start
        amplitude = columns[:, 0] @ (root * signal.ravel()) / (columns[:, 0] @ columns[:, 0])
        residual = root * (signal - amplitude * psf).ravel()
        change = np.linalg.lstsq(columns, residual, rcond=None)[0][1:] / amplitude
        x, y = np.array([x, y]) + np.clip(change, -psf_fit.LONGEST_STEP, psf_fit.LONGEST_STEP)
    return x, y


def fit_radius(fwhm):
    """Return the radius within which profiles are compared [px]."""
    return np.clip(psf_fit.FIT_WIDTHS * fwhm, *psf_fit.FIT_RADII)


def compare_with_psf(signal, x, y, noise, gain, limit, flux, fwhm, beta, order):
    """Return log10 of the S/N of the fitted PSF, and spread_model for each of the broader profiles."""
    offset = offsets(signal.shape, x, y)
    near = (np.hypot(*offset) < fit_radius(fwhm)) & ~(signal > limit)
    if not near.any():
        return 0.0, [0.0] * len(SPREAD_WIDTHS)
    psf, *broader = (
        moffat(*offset, width * fwhm, beta, order)
        - moffat(*offset, width * fwhm, beta, order=1)[border_of(signal.shape)].mean()
        for width in (1, *SPREAD_WIDTHS)
    )
    light = np.maximum(psf, 0) * flux
    floor = noise**2 + (psf_fit.WINGS_ERROR * flux) ** 2
    weight = near / (floor + light / gain + (psf_fit.PSF_ERROR * light) ** 2)
    matched, second, third = (
        (near * psf * factor).sum() for factor in (signal, psf, psf * np.maximum(psf, 0))
    )
    variance = noise**2 * second + max(matched / second, 0) * third / gain
    in_psf, in_image = (weight * psf * psf).sum(), (weight * psf * signal).sum()
    in_image = max(in_image, 0.1 * np.sqrt(in_psf))
    spread = [(weight * b * signal).sum() / in_image - (weight * b * psf).sum() / in_psf for b in broader]
    return np.log10(max(matched / np.sqrt(variance), 1)), spread


def flags(image, neighbours, x, y, saturate, radius, flux):
    """Return whether an object is saturated, truncated and blended."""
    dx, dy = offsets(image.shape, x, y)
    core, wide = (
        np.maximum(abs(dx), abs(dy)) <= reach for reach in (compiled.CORE_RADIUS, compiled.FLAG_RADIUS)
    )
    edge = min(x, y, image.shape[1] - 1 - x, image.shape[0] - 1 - y) + 0.5
    light = neighbours[wide].sum()
    blended = light > 0 and light > compiled.BLENDED_SHARE * max(flux, 0)
    return [bool((image[core] >= saturate).any()), bool(edge < radius), bool(blended)]
