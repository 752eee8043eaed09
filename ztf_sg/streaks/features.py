"""Features of moving objects: what the three images of a stamp say of the source in its middle.

They have no dimension and do not change if the stamp is turned; night, band, seeing, magnitude, position and
angle are none of them, as those would tell the sample rather than the class.
"""

import numpy as np
import pandas as pd
from scipy.special import expit

from ztf_sg.parallel import map_chunks
from ztf_sg.streaks import compiled
from ztf_sg.streaks.no_data import known_pixels
from ztf_sg.streaks.stamps import BRIGHTER, IMAGES, Triplets
from ztf_sg.streaks.star_width import star_fwhm
from ztf_sg.streaks.trail_fit import profile_width

SMALLEST_STAMP = 31  # height and width [px]
FEWEST_PIXELS = 100  # with data, of an image that is measured
GAIN = 6.2  # of ZTF's images [e-/DN]
USUAL_FWHM, FWHM_RANGE = 2.3, (1.3, 7.0)  # of stars in ZTF's images [px]
# The difference image's FWHM by the pipeline, fwhm x seeratio in alerts, is wider than that of stars [px];
# seeratio is at most 2.
PIPELINE_SLOPE, PIPELINE_OFFSET, LARGEST_SEERATIO = 1.15, 0.35, 1.999
PRESENT = 12.0  # signal-to-noise ratio of a trail from which on it is there for sure
LENGTH_GAIN = 9.0  # of chi squared, from which on a length is significant
TRAIL_PARAMETERS = 2  # length and angle: those of a trail that a point has not
# Signal-to-noise ratio that the best line or source of noise seldom has, and steepness of the step there.
SEEN, STEEPNESS = 5.5, 1.5
FAINT = 0.1  # signal-to-noise ratio of the template, in that of the difference, below which it tells little
BLUNT = 1.5  # sharpness that counts no more
NOISE_NARROW = 0.8  # the usual `narrow` of lines of noise
LOWER_QUANTILE = 0.1587  # of noise, one standard deviation below its median

TEMPLATE_FEATURES = (
    "template",
    "template_ratio",
    "template_near",
    "template_along",
    "static",
    "whole",
)
"""What needs the template."""
SHAPE_FEATURES = (
    "presence", "misfit", "trail_gain", "trail_weight", "length", "width", "sharpness",
    "free_ends", "reach", "beyond",
    "companion", "mirror",
    *(f"{line}{part}" for line in ("line", "central") for part in ("", "_narrow", "_lit")),
)  # fmt: skip
"""What the difference image alone has, or the science image in its stead."""
FEATURES = (*TEMPLATE_FEATURES, *SHAPE_FEATURES)
"""What :func:`measure_stamps` measures."""
IMAGE_SETS = ("all", "difference", "science", "none")
"""What a stamp has: two of its images, which give the third, one of them alone, or none of use."""


def measure_stamps(triplets):
    """Measure the features of n stamps.

    Parameters
    ----------
    triplets : Triplets
        Stamps of at least 31 px. ``table["fwhm"]`` and ``table["seeratio"]`` of alerts tell the width of
        stars where they are there; otherwise the sources in the stamp do.

    Returns
    -------
    pandas.DataFrame
        n rows of `FEATURES`, and `images`, one of `IMAGE_SETS`. The `TEMPLATE_FEATURES` are NaN where there
        is no template, and all are where neither the difference nor the science image has pixels.

    Raises
    ------
    TypeError
        If triplets is no Triplets.
    ValueError
        If the stamps are too small, or there are none.
    """
    return dimensionless(raw_measures(triplets))


def raw_measures(triplets):
    """Return the `MEASURES` of n stamps, with `images`, presumed width [px] and noise [DN], as a DataFrame.

    Arguments and errors as :func:`measure_stamps`.
    """
    check_stamps(triplets)
    parts = map_chunks(lambda rows: _measure_chunk(triplets, rows), len(triplets))
    return pd.concat(parts, ignore_index=True)


def check_stamps(triplets):
    """Raise an error unless triplets are stamps that can be measured."""
    if not isinstance(triplets, Triplets):
        raise TypeError(
            f"expected Triplets, as load_alerts gives, got {type(triplets).__name__}; "
            "for cutouts of one image there is StarGalaxyClassifier"
        )
    if len(triplets) == 0:
        raise ValueError("no stamps: the set is empty")
    if min(triplets.difference.shape[1:]) < SMALLEST_STAMP:
        height, width = triplets.difference.shape[1:]
        raise ValueError(
            f"stamps of {height} x {width} px are too small to see whether a line crosses them; "
            f"give at least {SMALLEST_STAMP} px, best the 63 px of alerts"
        )


def has_data(stack):
    """Return which images have pixels enough, of more than one value, to be measured, bool (n,)."""
    values = np.where(np.isfinite(stack), stack, np.nan).reshape(len(stack), -1)
    counted = np.isfinite(values).sum(axis=1) >= FEWEST_PIXELS
    lowest, highest = (
        each(values, axis=1, initial=start, where=np.isfinite(values))
        for each, start in ((np.min, np.inf), (np.max, -np.inf))
    )
    return counted & (highest > lowest)


def dimensionless(raw):
    """Return the features that follow from :func:`raw_measures`, see :func:`measure_stamps`."""
    snr = np.maximum(raw["snr"], 1)
    known = raw["images"] == "all"
    reduced = [raw[name] / np.maximum(raw["pixels"], 1) for name in ("null_chi2", "trail_chi2")]
    gain = raw["point_chi2"] - raw["trail_chi2"]
    light = np.maximum(np.abs(raw["science_flux"]), np.abs(raw["light_flux"]))
    found = {
        "template": np.arcsinh(raw["template_snr"] / 3),
        "template_ratio": np.arcsinh(raw["template_snr"] / (FAINT * snr)),
        "template_near": np.arcsinh(raw["template_near"] / 3),
        "template_along": raw["template_lit"],
        "static": (raw["science_flux"] - raw["light_flux"]) / np.maximum(light, 1e-30),
        "whole": np.tanh(raw["science_snr"] / snr),
    }
    found = {name: np.where(known, values, np.nan) for name, values in found.items()}
    found |= {
        "presence": np.clip(np.sqrt(np.maximum(raw["null_chi2"] - raw["trail_chi2"], 0)) / PRESENT, 0, 1),
        "misfit": np.sqrt(np.clip(reduced[1] - 1, 0, None) / np.maximum(reduced[0], 1)),
        "trail_gain": np.clip(gain / np.maximum(raw["null_chi2"] - raw["trail_chi2"], 1), 0, 1),
        "trail_weight": _trail_weight(gain),
        "length": np.where(gain > LENGTH_GAIN, np.log1p(raw["length"] / raw["width"]), 0.0),
        "width": np.log(raw["width"] / raw["presumed_width"]),
        "sharpness": np.minimum(raw["sharpness"], BLUNT),
        "free_ends": raw["free_ends"],
        "reach": np.minimum(raw["reach"], 1),
        "beyond": raw["beyond"],
        "companion": _seen(raw["companion"]) * np.arcsinh(raw["companion"] / 4),
        "mirror": _seen(raw["companion"]) * np.arcsinh(raw["mirror"] / 4),
    }
    for line in ("line", "central"):
        found[line], seen = np.arcsinh(raw[line] / 3), _seen(raw[line])
        found[f"{line}_narrow"] = seen * (raw[f"{line}_narrow"] - NOISE_NARROW)
        found[f"{line}_lit"] = seen * raw[f"{line}_lit"]
    features = pd.DataFrame({name: np.asarray(found[name], dtype=float) for name in FEATURES})
    features[raw["images"].to_numpy() == "none"] = np.nan
    return features.assign(images=raw["images"])


def _trail_weight(gain):
    r"""Return the weight of evidence for a trail rather than a point, 0 to 1, from the gain in chi squared.

    These are Akaike weights, :math:`1 / (1 + \exp(k - \Delta\chi^2 / 2))`, for the :math:`k = 2` more
    parameters of a trail (Burnham & Anderson 2002, Model Selection and Multimodel Inference, section 2.9).
    """
    return expit(gain / 2 - TRAIL_PARAMETERS)


def _seen(snr):
    """Return a weight of what is the best of many, from 0 in noise to 1; its details count as much.

    What is told of the best line of noise is noise, and would make stamps differ that are alike.
    """
    return expit(STEEPNESS * (snr - SEEN))


def _measure_chunk(triplets, rows):
    """Return the raw measures of a slice of the stamps."""
    images, science, template, light, noise = prepared_images(triplets, rows)
    table = triplets.table.iloc[rows]
    fwhm = presumed_fwhm(table, np.where((images == "difference")[:, None, None], light, science), noise)
    widths = profile_width(fwhm)
    found = np.empty((len(images), len(compiled.MEASURES)))
    compiled.measure_stamps(light, template, science, noise, widths, GAIN, found)
    raw = pd.DataFrame(found, columns=list(compiled.MEASURES))
    for name, k in (("light_flux", 0), ("science_flux", 2)):
        raw[name] = raw["snr" if k == 0 else "science_snr"] * noise[k]
    return raw.assign(images=images, presumed_width=widths, noise=noise[0])


def prepared_images(triplets, rows):
    """Return what some stamps have, one of `IMAGE_SETS` each; their sky-subtracted images; and their noise.

    The images are science, template and light, of which the noise [DN], (3, n), has that of light first.
    The light is the difference, or the science image if there is nothing else. Of three images, two give the
    third, up to the zero point of the template, which is presumed to be that of the science image. Where
    ``isdiffpos`` of an alert is "f", the difference is reference minus science.
    """
    science, template, light = (_without_sky(known_pixels(getattr(triplets, name)[rows])) for name in IMAGES)
    there = [has_data(stack) for stack in (science, template, light)]
    full = np.sum(there, axis=0) >= 2
    images = np.select([full, there[2], there[0]], IMAGE_SETS[:3], IMAGE_SETS[3])
    sign = _signs(triplets.table.iloc[rows])
    for stack, missing, value in (
        (light, ~there[2] & full, lambda k: sign[k] * (science[k] - template[k])),
        (template, ~there[1] & full, lambda k: science[k] - sign[k] * light[k]),
        (science, ~there[0] & full, lambda k: template[k] + sign[k] * light[k]),
    ):
        stack[missing] = value(missing)
    alone = images == "science"
    light[alone] = science[alone]
    noise = np.stack([_level_and_noise(stack)[1] for stack in (light, template, science)])
    return images, science, template, light, noise.astype(float)


def _signs(table):
    """Return the sign of science minus template in the difference images of alerts, shape (n, 1, 1)."""
    brighter = table.get("isdiffpos", pd.Series("t", table.index)).astype(str).str.lower().map(BRIGHTER)
    return np.where(brighter == "f", -1.0, 1.0).astype(np.float32)[:, None, None]


def _without_sky(stack):
    return stack - _level_and_noise(stack)[0][:, None, None]


def _level_and_noise(stack):
    """Return median and noise of images, (n,) each: how far the lower quantile is below it, 1 if not at all.

    Sources are brighter than the sky, so they leave the lower half alone.
    """
    ranked = np.sort(stack.reshape(len(stack), -1)[:, ::2], axis=1)  # NaN come last
    count = np.isfinite(ranked).sum(axis=1)
    lower, level = (
        ranked[np.arange(len(ranked)), (share * np.maximum(count - 1, 0)).astype(int)]
        for share in (LOWER_QUANTILE, 0.5)
    )
    noise = level - lower
    return level, np.where(noise > 0, noise, 1.0)


def presumed_fwhm(table, stack, noise):
    """Return the FWHM [px] of stars that is presumed of n stamps, shape (n,).

    What the pipeline says of the difference image, or the sources in a stamp, or else the FWHM in the table:
    in alerts that is of the source itself.
    """
    fwhm, ratio = (_column(table, name) for name in ("fwhm", "seeratio"))
    pipeline = np.where(ratio < LARGEST_SEERATIO, (fwhm * ratio - PIPELINE_OFFSET) / PIPELINE_SLOPE, np.nan)
    found = np.where(pipeline > 0, pipeline, np.nan)
    unknown = np.flatnonzero(np.isnan(found))
    if len(unknown):
        found[unknown] = star_fwhm(stack[unknown], noise[0, unknown])
    found = np.where(np.isnan(found), fwhm, found)
    return np.clip(np.where(np.isnan(found), USUAL_FWHM, found), *FWHM_RANGE)


def _column(table, name):
    """Return a column of numbers, float (n,), NaN where the table has none that is finite."""
    if name not in table:
        return np.full(len(table), np.nan)
    values = pd.to_numeric(table[name], errors="coerce").to_numpy(float, na_value=np.nan)
    return np.where(np.isfinite(values), values, np.nan)
