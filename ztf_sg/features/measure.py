"""Measurement of the features of a set of cutouts."""

import numpy as np
import pandas as pd

from ztf_sg.cutouts import CutoutSet
from ztf_sg.features.photometry import (
    CONCENTRATIONS,
    aperture_photometry,
    background,
    centroids,
    without_neighbours,
)
from ztf_sg.features.shapes import SPREAD_WIDTHS, moments, spread_model
from ztf_sg.parallel import map_chunks
from ztf_sg.ztf import READ_NOISE

SPREAD_MODELS = tuple(f"spread_model_{width}" for width in SPREAD_WIDTHS)
MOMENTS = ("size", "ellipticity")
NEEDED_COLUMNS = ("gain", "magzp", "seeing")
FEATURES = ("magnitude", "log_snr", *SPREAD_MODELS, *CONCENTRATIONS, *MOMENTS)
"""Names of the features: see :func:`measure_features`."""


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
        n rows, finite, with the wanted ones of the following columns:

        - magnitude: 6 px aperture magnitude, corrected with APCOR4 [mag];
        - log_snr: log10 of the signal-to-noise ratio in the 4 px aperture;
        - spread_model_1.3, spread_model_2.0, spread_model_3.5: how much better a profile that is so many
          times broader matches the object than the point-spread function of its image does; 0 for a star;
        - conc_2, conc_3, conc_4: log10 of the flux inside 2, 3 and 4 px relative to that inside 6 px, over
          the same ratio of the image's point sources [dex]; 0 for a star;
        - size: weighted radius of the light over the header's seeing;
        - ellipticity: that of the weighted second moments, 0 (round) to 1.

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
    unknown = [name for name in features if name not in FEATURES]
    if unknown:
        raise ValueError(f"features: no {', '.join(map(repr, unknown))}; there are {', '.join(FEATURES)}")
    parts = map_chunks(lambda rows: _measure(cutouts[rows], set(features)), len(cutouts))
    return pd.concat(parts, ignore_index=True)[list(features)]


def _measure(cutouts, wanted):
    """Return the wanted features of a chunk of cutouts, and those that cost nothing."""
    gain, seeing = (cutouts.table[name].to_numpy(dtype=float) for name in ("gain", "seeing"))
    images = cutouts.images.astype(float)
    sky, noise = background(images)
    signal = images - sky[:, None, None]
    noise = np.maximum(noise, np.sqrt(np.maximum(sky, 0) / gain + (READ_NOISE / gain) ** 2))
    x, y = centroids(signal)
    signal = without_neighbours(signal, x, y, noise, gain)
    columns = aperture_photometry(signal, x, y, noise, cutouts.table)
    if wanted.intersection(SPREAD_MODELS):
        columns |= zip(SPREAD_MODELS, spread_model(signal, x, y, seeing, noise, gain).T, strict=True)
    if wanted.intersection(MOMENTS):
        radius, ellipticity = moments(signal, x, y)
        columns |= {"size": radius / seeing, "ellipticity": ellipticity}
    return pd.DataFrame(columns)
