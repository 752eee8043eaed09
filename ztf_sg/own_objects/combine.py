"""Several images of an object -> its class: likelihood ratios are multiplied, and disagreement is told."""

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_integer_dtype, is_numeric_dtype
from scipy.special import expit, logit

from ztf_sg.checks import is_number
from ztf_sg.muygps.confidence import confidence

# `python benchmarks/combining.py` prints what these three rest on: log ratios have a correlation of 0.3; the
# likeliest value is 0.5 for six images, and more for two, as single faint ones are surer than they are right.
CORRELATION = 0.5  # of the errors of two images of an object, in one band or in two: between the two
LARGEST_LOG_RATIO = 5.0  # of an image: those beyond are extrapolated, and no surer
CONTRADICTORY = 0.05  # probability of a disagreement; objects below are wrong several times as often
COLUMNS = ("object", "filter", "log_ratio", "outside")
EXPONENTS = np.linspace(0.05, 0.5, 10)  # of the bounds of the probability, of which the least counts


def combine(images, galaxy_fraction=0.5, threshold=0.5):
    r"""Return the class of each object from all of its images.

    Parameters
    ----------
    images : pandas.DataFrame
        One row per image, in any order: object (whole number); filter, whose last letter is the band; the
        log_ratio and outside of :meth:`StarGalaxyClassifier.classify_features
        <ztf_sg.StarGalaxyClassifier.classify_features>`. Images that are outside of what the classifier was
        trained on do not count, unless an object has no other. Further columns are ignored.
    galaxy_fraction : float or pandas.Series
        Share of galaxies among such objects, strictly between 0 and 1, or that of each, indexed by object.
    threshold : float
        What :meth:`StarGalaxyClassifier.confidence_threshold
        <ztf_sg.StarGalaxyClassifier.confidence_threshold>` returns.

    Returns
    -------
    pandas.DataFrame
        Indexed by object, in order: p_galaxy; class (0 star, 1 galaxy); ambiguous, whether a person should
        look at it: the probability of its likelier class, before the prior, is at most the threshold, its
        class changes with the prior, it is contradictory, or has no image but outside ones; n_images, how
        many count, and filters, their bands, such as "gri"; chi2 and p_chi2, how much they disagree and how
        probable so large a disagreement is at most; contradictory, whether that is no chance: a blend that
        sharp images alone resolve, a variable or moving source, or an image of something else.

    Raises
    ------
    TypeError
        If images is no DataFrame.
    ValueError
        If there are no rows, a column is missing, or values are missing or of another type, or
        galaxy_fraction or threshold is no number that makes sense; the message names rows or objects.

    Notes
    -----
    If the errors of n images had the correlation :math:`\rho`, `CORRELATION`, they would be worth
    :math:`n / (1 + (n-1) \rho)` independent ones. The logarithms :math:`l_i` of the likelihood ratios,
    within `LARGEST_LOG_RATIO` of 0, add up to :math:`\sum_i l_i / (1 + (n-1) \rho)`, and that of the prior
    odds is added once.

    Let :math:`P_i` be the probability that image i alone gives the class of the sum. The deviance
    :math:`\chi^2 = -2 \sum_i \ln P_i` has no chi-squared distribution, since each image adds one of two
    values: if the class is right, :math:`-2 \ln C_i` with the probability :math:`C_i = \max(P_i, 1 - P_i)`,
    otherwise :math:`-2 \ln (1 - C_i)`. Chernoff's bound of the probability to reach :math:`\chi^2` is

    .. math:: \min_s e^{-s \chi^2} \prod_i \left( C_i^{1-2s} + (1 - C_i)^{1-2s} \right).
    """
    _check_images(images)
    if not (is_number(threshold) and threshold >= 0):
        raise ValueError(f"threshold={threshold!r}: expected what confidence_threshold() returns")
    objects, rows = np.unique(images["object"].to_numpy(np.int64), return_inverse=True)
    prior = logit(_fractions(galaxy_fraction, objects))
    inside = ~images["outside"].to_numpy(bool)
    unknown = np.bincount(rows, inside) == 0
    used = inside | unknown[rows]
    rows, bands = rows[used], images["filter"].astype(str).str[-1].to_numpy()[used]
    ratios = np.clip(images["log_ratio"].to_numpy(float)[used], -LARGEST_LOG_RATIO, LARGEST_LOG_RATIO)
    n_images = np.bincount(rows)
    total = np.bincount(rows, ratios) / (1 + (n_images - 1) * CORRELATION)
    p_galaxy = expit(total + prior)
    galaxy = p_galaxy > 0.5
    chi2, probability = _disagreement(np.where(total > 0, 1, -1)[rows] * ratios, rows)
    contradictory = probability < CONTRADICTORY
    undecided = confidence(expit(total)) <= threshold
    return pd.DataFrame(
        {
            "p_galaxy": p_galaxy,
            "class": galaxy.astype(int),
            "ambiguous": undecided | ((total > 0) != galaxy) | contradictory | unknown,
            "n_images": n_images,
            "filters": _bands_of_objects(bands, rows, len(objects)),
            "chi2": chi2,
            "p_chi2": probability,
            "contradictory": contradictory,
        },
        index=pd.Index(objects, name="object"),
    )


def _disagreement(agreement, rows):
    """Return the deviance of the images of each object, and how probable a larger one is at most.

    Parameters
    ----------
    agreement : numpy.ndarray
        Logarithm of the likelihood ratio of the object's class to the other one, by image.
    rows : numpy.ndarray of int
        Object of each image.
    """
    chi2 = 2 * np.bincount(rows, np.logaddexp(0, -agreement))
    likelier, other = -np.logaddexp(0, -np.abs(agreement)), -np.logaddexp(0, np.abs(agreement))
    log_bound = np.zeros(len(chi2))
    for s in EXPONENTS:
        moments = np.logaddexp((1 - 2 * s) * likelier, (1 - 2 * s) * other)
        log_bound = np.minimum(log_bound, np.bincount(rows, moments) - s * chi2)
    return chi2, np.exp(log_bound)


def _bands_of_objects(bands, rows, n_objects):
    """Return the bands of each object as a text, from blue to red, shape (n_objects,)."""
    names = sorted(set(bands), key=lambda band: ("ugrizy".find(band), band))
    seen = np.zeros((n_objects, len(names)), dtype=bool)
    seen[rows, pd.Categorical(bands, names).codes] = True
    kinds, kind = np.unique(seen, axis=0, return_inverse=True)
    texts = np.array(["".join(np.array(names)[row]) for row in kinds], dtype=object)
    return texts[kind.ravel()]


def _check_images(images):
    """Raise an error unless images are rows of the right columns and types."""
    if not isinstance(images, pd.DataFrame):
        raise TypeError(f"images: expected a pandas.DataFrame, got {type(images).__name__}")
    if missing := [name for name in COLUMNS if name not in images]:
        raise ValueError(f"images: lacks the column {', '.join(missing)}; it needs {', '.join(COLUMNS)}")
    if images.empty:
        raise ValueError("images: there are no rows; an object needs one image at least")
    kinds = {"object": is_integer_dtype, "log_ratio": is_numeric_dtype, "outside": is_bool_dtype}
    for name, is_right in kinds.items():
        if not is_right(images[name].dtype):
            kind = is_right.__name__.split("_")[1]
            raise ValueError(f"images: the column {name} is of type {images[name].dtype}, not {kind}")
    for name in COLUMNS:
        bad = np.flatnonzero(images[name].isna())
        if len(bad):
            where = f"rows {_first(bad)}, of objects {_first(images['object'].iloc[bad])}"
            raise ValueError(
                f"images: {name} is missing in {len(bad)} of {len(images)} rows ({where}); leave them out"
            )


def _fractions(galaxy_fraction, objects):
    """Return the share of galaxies of each object, or of all; raise a ValueError unless they make sense."""
    if not isinstance(galaxy_fraction, pd.Series):
        if not (is_number(galaxy_fraction) and 0 < galaxy_fraction < 1):
            raise ValueError(f"galaxy_fraction={galaxy_fraction!r}: expected a number between 0 and 1")
        return float(galaxy_fraction)
    if not galaxy_fraction.index.is_unique:
        twice = galaxy_fraction.index[galaxy_fraction.index.duplicated()].unique()
        raise ValueError(f"galaxy_fraction: several values for objects {_first(twice)}; give one for each")
    found = pd.to_numeric(galaxy_fraction.reindex(objects), errors="coerce").to_numpy(float, na_value=np.nan)
    bad = ~((found > 0) & (found < 1))
    if bad.any():
        raise ValueError(
            f"galaxy_fraction: {bad.sum()} of {len(objects)} objects have no value between 0 and 1 (objects "
            f"{_first(objects[bad])}); it is looked up in its index, by object"
        )
    return found


def _first(values):
    """Return the first five values as a text."""
    return ", ".join(map(str, list(values)[:5])) + ", ..." * (len(values) > 5)
