"""The point-spread function (PSF) of an image: the Moffat profile whose curve of growth its header has.

A point source obeys m_ap(d) = m_psf - APCOR(d) for the apertures of its image, an extended one does not. The
share of a Moffat profile's light inside of those apertures is tabulated, and the table is searched for the
width and the index whose shares agree best with APCOR1..6.
"""

from functools import cache

import numpy as np
import pandas as pd

from ztf_sg.parallel import slices
from ztf_sg.ztf import APERTURES

APCOR_COLUMNS = [f"apcor{number}" for number in range(1, 7)]
APCOR_ERRORS = np.array([0.010, 0.007, 0.005, 0.005, 0.015, 0.030])  # of a round profile [mag]
WIDTHS = np.geomspace(0.5, 12, 60)  # FWHM of the tabulated profiles [px]
INDICES = 1 / np.linspace(1 / 1.35, 1 / 12, 25)  # and their Moffat indices
REFINEMENTS, STEP = 2, 1e-4  # of the best tabulated profile; of derivatives
RADII = np.linspace(0, 9, 181)  # of the rings that the light is summed in [px]
IMAGES_AT_ONCE = 250  # whose distances from all tabulated profiles are in memory
LARGEST_MISS = 0.1  # of the best profile's corrections [mag]; those of ZTF images are within 0.04

# Of images without APCOR: SEEING less FWHM [px], and index, medians of simulated images; the FWHM of an image
# scatters by 14 % around the guess where SEEING is below 1.5 px, and by 3 % above 2 px.
SEEING_EXCESS, TYPICAL_INDEX = 0.37, 2.4


def image_psf(table):
    """Return FWHM [px] and Moffat index of each cutout's image, and whether APCOR tells them, (n,) each.

    Parameters
    ----------
    table : pandas.DataFrame
        That of a CutoutSet. Where fewer than three of APCOR1..6 are finite, or no profile of the table is
        near them, width and index are those that images of this SEEING typically have.

    Returns
    -------
    fwhm, beta : numpy.ndarray
        Of the profile before the pixels average it.
    from_apcor : numpy.ndarray
    """
    corrections = _given_corrections(table)
    seeing = table["seeing"].to_numpy(dtype=float)
    fwhm = np.maximum(seeing - SEEING_EXCESS, 0.5 * seeing)
    beta = np.full(len(table), TYPICAL_INDEX)
    from_apcor = np.isfinite(corrections).sum(axis=1) >= 3
    if from_apcor.any():
        rows = pd.DataFrame(corrections[from_apcor])
        image = rows.groupby(list(rows), sort=False, dropna=False).ngroup().to_numpy()
        images = rows.drop_duplicates().to_numpy()
        fitted = [_fit(images[some]) for some in slices(len(images), IMAGES_AT_ONCE)]
        profiles = np.concatenate(fitted, axis=1)
        good = _is_near(images, *profiles)[image]
        from_apcor[from_apcor] = good
        fwhm[from_apcor], beta[from_apcor] = profiles[:, image[good]]
    return fwhm, beta, from_apcor


def curve_of_growth(table, fwhm, beta, from_apcor):
    """Return the aperture corrections APCOR1..6 of each cutout's image [mag], shape (n, 6).

    Parameters
    ----------
    table : pandas.DataFrame
        That of a CutoutSet.
    fwhm, beta, from_apcor : numpy.ndarray
        What `image_psf` returns; missing corrections follow from that profile, as do all of an image whose
        profile is not from them.
    """
    given = _given_corrections(table)
    given[~from_apcor] = np.nan
    missing = ~np.isfinite(given)
    if missing.any():
        rows = missing.any(axis=1)
        model = 2.5 * np.log10(aperture_shares(fwhm[rows], beta[rows]))
        weights = np.where(missing[rows], 0, APCOR_ERRORS**-2)
        differences = np.where(missing[rows], 0, given[rows] - model)
        offset = (weights * differences).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-9)
        given[rows] = np.where(missing[rows], model + offset[:, None], given[rows])
    return given


def aperture_shares(fwhm, beta):
    """Return the shares of a star's light inside of the apertures `APERTURES`, shape (n, 6).

    They are averages over the positions of a star on the pixels. Pixels that the edge of an aperture divides
    count by the share inside, so that the profile is averaged over a pixel twice.

    Parameters
    ----------
    fwhm, beta : array-like
        Widths [px] and indices of n Moffat profiles.
    """
    fwhm, beta = np.asarray(fwhm, dtype=float)[:, None], np.asarray(beta, dtype=float)[:, None]
    squared = (RADII / moffat_radius(fwhm, beta)) ** 2
    inside = 1 - np.exp((1 - beta) * np.log1p(squared))
    return np.diff(inside, axis=1) @ _windows()


def moffat_radius(fwhm, beta):
    """Return the radius alpha of Moffat profiles (1 + (r / alpha)**2)**-beta [px]."""
    return fwhm / 2 / np.sqrt(2 ** (1 / beta) - 1)


def _given_corrections(table):
    return np.stack([table[name].to_numpy(dtype=float) for name in APCOR_COLUMNS], axis=1)


@cache
def _windows():
    """Return which part of the light of a ring counts in each aperture, shape (rings, 6).

    A ring of radius r, moved by s, is inside of a circle of radius R over an angle of
    2 arccos((r**2 + s**2 - R**2) / (2 r s)). The moves are those within two pixels.
    """
    steps = (np.arange(16) + 0.5) / 16
    move = np.hypot(*np.meshgrid(steps, steps)).ravel()
    weight = np.outer(1 - steps, 1 - steps).ravel()
    ring = ((RADII[1:] + RADII[:-1]) / 2)[:, None]
    columns = []
    for diameter in APERTURES:
        cosine = (ring**2 + move**2 - (diameter / 2) ** 2) / (2 * ring * move)
        columns.append(np.arccos(np.clip(cosine, -1, 1)) / np.pi @ weight / weight.sum())
    return np.stack(columns, axis=1)


@cache
def _tabulated_corrections():
    """Return 2.5 log10 of the shares [mag] of all tabulated profiles, shape (widths, indices, 6)."""
    shares = [aperture_shares(np.full(len(INDICES), width), INDICES) for width in WIDTHS]
    return 2.5 * np.log10(np.stack(shares))


def _fit(corrections):
    """Return FWHM [px] and index, shape (2, n), whose shares agree best with n rows of corrections.

    The magnitude of all the light is free, as a PSF magnitude need not be that of all the light.
    """
    found = np.empty((2, len(corrections)))
    known = np.isfinite(corrections)
    for pattern in np.unique(known, axis=0):
        rows = np.flatnonzero((known == pattern).all(axis=1))
        weights = np.where(pattern, APCOR_ERRORS**-2, 0)
        weights /= weights.sum()
        data = _without_offset(np.where(pattern, corrections[rows], 0), weights)
        model = _without_offset(_tabulated_corrections().reshape(-1, len(pattern)), weights)
        distance = (model**2).sum(axis=1) - 2 * data @ model.T
        i, j = np.unravel_index(distance.argmin(axis=1), (len(WIDTHS), len(INDICES)))
        found[:, rows] = _refined(data, weights, WIDTHS[i], INDICES[j])
    return found


def _is_near(corrections, fwhm, beta):
    """Return whether the profiles fitted to n rows of corrections are near them, and not the broadest."""
    known = np.isfinite(corrections)
    differences = np.where(known, corrections - 2.5 * np.log10(aperture_shares(fwhm, beta)), 0)
    weights = np.where(known, APCOR_ERRORS**-2, 0)
    offset = (weights * differences).sum(axis=1) / weights.sum(axis=1)
    misses = np.where(known, np.abs(differences - offset[:, None]), 0)
    return (misses.max(axis=1) < LARGEST_MISS) & (fwhm < WIDTHS[-1] * (1 - STEP))


def _without_offset(corrections, weights):
    """Return rows of corrections [mag] less their weighted mean, times the root of the weights."""
    return (corrections - (corrections @ weights)[:, None]) * np.sqrt(weights)


def _refined(data, weights, fwhm, beta):
    """Return FWHM [px] and index, (n,) each, after steps of Gauss and Newton in log(FWHM) and 1 / index.

    The data are those of `_without_offset`. Both parameters stay in their tabulated ranges.
    """
    inverse = 1 / beta
    for _ in range(REFINEMENTS):
        profiles = (fwhm, 1 / inverse), (fwhm * (1 + STEP), 1 / inverse), (fwhm, 1 / (inverse - STEP))
        shares = [aperture_shares(*profile) for profile in profiles]
        model, wider, steeper = (_without_offset(2.5 * np.log10(share), weights) for share in shares)
        slopes = np.stack([wider - model, model - steeper]) / STEP
        (ww, wi), (_, ii) = np.einsum("ink,jnk->ijn", slopes, slopes)
        w, i = np.einsum("ink,nk->in", slopes, data - model)
        step = np.clip((ww * i - wi * w) / np.maximum(ww * ii - wi**2, 1e-12), -0.1, 0.1)
        step = np.clip(inverse + step, 1 / INDICES[-1], 1 / INDICES[0]) - inverse
        inverse = inverse + step
        change = np.clip((w - wi * step) / np.maximum(ww, 1e-12), -0.1, 0.1)
        fwhm = np.clip(fwhm * np.exp(change), WIDTHS[0], WIDTHS[-1])
    return fwhm, 1 / inverse
