"""Measurement of the features of a set of cutouts."""

import numpy as np
import pandas as pd

from ztf_sg.cutouts import CutoutSet
from ztf_sg.features import compiled
from ztf_sg.features.photometry import APERTURES
from ztf_sg.features.psf import curve_of_growth, image_psf, moffat_radius
from ztf_sg.features.psf_fit import tabulated_profiles
from ztf_sg.parallel import map_chunks
from ztf_sg.ztf import READ_NOISE

SPREAD_WIDTHS = (1.3, 2.0, 4.0)  # of the broader profiles that objects are compared with [PSF widths]
SPREAD_MODELS = tuple(f"spread_model_{width}" for width in SPREAD_WIDTHS)
CONCENTRATIONS = tuple(f"conc_{diameter}" for diameter in APERTURES[:3])
PHOTOMETRY, SHAPES = ("magnitude", *CONCENTRATIONS), ("size", "ellipticity")
NEEDED_COLUMNS = ("gain", "magzp", "seeing")
FEATURES = ("magnitude", "log_snr", *SPREAD_MODELS, *CONCENTRATIONS, *SHAPES)
"""Names of the features, see :func:`measure_features`."""
FLAGS = ("saturated", "truncated", "blended", "psf_from_seeing")
"""Names of the flags, see :func:`measure_features`."""


def measure_features(cutouts, features=FEATURES):
    """Return photometric features of cutouts, and flags.

    Parameters
    ----------
    cutouts : CutoutSet
        n cutouts.
    features : sequence of str
        Which of :data:`FEATURES` and :data:`FLAGS` are wanted; others that take time are not measured.

    Returns
    -------
    pandas.DataFrame
        n rows with the wanted ones of the following columns. The features are finite:

        - magnitude: 6 px aperture magnitude, corrected with APCOR4 [mag];
        - log_snr: log10 of the signal-to-noise ratio of the flux that fits the point-spread function (PSF);
        - spread_model_1.3, spread_model_2.0, spread_model_4.0: how much better a profile that is so many
          times broader matches the object than the PSF of its image does (Desai et al. 2012, ApJ 757, 83);
          0 for a star;
        - conc_2, conc_3, conc_4: log10 of the flux inside 2, 3 and 4 px relative to that inside 6 px, over
          the same ratio of the image's point sources [dex]; 0 for a star;
        - size: weighted radius of the light over the FWHM of the PSF;
        - ellipticity: that of the weighted second moments, 0 (round) to 1.

        The flags are bool:

        - saturated: a pixel of the object's core reaches the level SATURATE;
        - truncated: the edge of the cutout is nearer to the object than the light that is compared;
        - blended: neighbours within 7 px have at least a tenth of the object's light;
        - psf_from_seeing: the PSF is a guess from SEEING, as fewer than three of APCOR1..6 are known, or no
          profile is near them.

    Raises
    ------
    TypeError
        If cutouts is not a CutoutSet.
    ValueError
        If the set is empty or lacks a column, or a feature is not known.
    """
    if not isinstance(cutouts, CutoutSet):
        raise TypeError(
            f"expected a CutoutSet, as load_cutouts gives, got {type(cutouts).__name__}; "
            "for tables of pixels there is PixelClassifier"
        )
    if len(cutouts) == 0:
        raise ValueError("no cutouts: the set is empty")
    missing = [name for name in NEEDED_COLUMNS if name not in cutouts.table]
    if missing:
        raise ValueError(f"the table of the cutouts lacks the columns {', '.join(missing)}; add them")
    known = FEATURES + FLAGS
    unknown = [name for name in features if name not in known]
    if unknown:
        raise ValueError(f"features: no {', '.join(map(repr, unknown))}; there are {', '.join(known)}")
    fwhm, beta, from_apcor = image_psf(cutouts.table)
    gain, saturate = (_column(cutouts.table, name) for name in ("gain", "saturate"))
    images, alpha = np.ascontiguousarray(cutouts.images).view(), moffat_radius(fwhm, beta)
    images.flags.writeable = False  # as those of some files are: other arrays would be compiled for once more
    photometry, moments = (not set(names).isdisjoint(features) for names in (PHOTOMETRY, SHAPES))
    radii = np.array(APERTURES if photometry else ()) / 2
    constants = tabulated_profiles(), radii, np.array(SPREAD_WIDTHS), moments

    def measure(rows):
        columns = (column[rows] for column in (images, gain, saturate))
        psf = (column[rows] for column in (fwhm, alpha, beta))
        return compiled.measure(*columns, READ_NOISE, *psf, *constants)

    parts = zip(*map_chunks(measure, len(cutouts)), strict=True)
    fluxes, noise, shapes, comparison, flags = (np.concatenate(part) for part in parts)
    found = dict(zip(("log_snr", *SPREAD_MODELS), comparison.T, strict=True))
    found |= dict(zip(FLAGS, (*flags.T, ~from_apcor), strict=True))
    if moments:
        found |= dict(zip(SHAPES, (shapes[:, 0] / fwhm, shapes[:, 1]), strict=True))
    if photometry:
        growth = curve_of_growth(cutouts.table, fwhm, beta, from_apcor)
        magzp = _column(cutouts.table, "magzp")
        magnitude, concentrations = _aperture_photometry(fluxes, noise, gain, magzp, growth)
        found |= dict(zip(PHOTOMETRY, (magnitude, *concentrations.T), strict=True))
    return pd.DataFrame({name: found[name] for name in features})


def _column(table, name):
    """Return a column of numbers as a new array; NaN where the table has none."""
    return np.array(table[name], dtype=float) if name in table else np.full(len(table), np.nan)


def _aperture_photometry(fluxes, noise, gain, magzp, growth):
    """Return magnitude [mag], (n,), and concentrations [dex], (n, 3), of fluxes [DN], shape (n, 4).

    Fluxes are at least their own noise, so that logarithms are finite.
    """
    areas = np.pi * (np.array(APERTURES) / 2) ** 2
    errors = np.sqrt(np.maximum(fluxes, 0) / gain[:, None] + areas * noise[:, None] ** 2)
    magnitudes = magzp[:, None] - 2.5 * np.log10(np.maximum(fluxes, errors)) + growth[:, :4]
    return magnitudes[:, 3], -0.4 * (magnitudes[:, :3] - magnitudes[:, 3:])
