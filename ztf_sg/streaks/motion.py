"""What the shape of a source in a stamp says of its motion, and whether a trail crosses the stamp."""

import numpy as np
import pandas as pd

from ztf_sg.ztf import PIXEL_SCALE

TRAIL_SNR, TRAIL_LIT = 7.0, 0.6  # least signal-to-noise ratio of a trail, and the lit share of its pixels
TRAIL_NARROW = (
    0.9  # greatest share that the middle pixels have in its signal-to-noise ratio; more is a column
)
UNROUND = 0.5  # by how much the PSF may be wider along one axis than across [its variance]
UNSEEN = {"free_ends": 0, "flashes": 0, "trail": False}  # where there are no pixels
MAGNITUDE = 2.5 / np.log(10)  # of a relative change of the flux


def has_trail(raw):
    """Return whether a trail crosses stamps, through their source or beside it.

    Parameters
    ----------
    raw : pandas.DataFrame
        Of :func:`~ztf_sg.streaks.features.raw_measures`, n rows.

    Returns
    -------
    pandas.Series of bool
    """
    found = pd.Series(False, index=raw.index)
    for line in ("line", "central"):
        is_wide = raw[f"{line}_narrow"] < TRAIL_NARROW
        found |= (raw[line] > TRAIL_SNR) & (raw[f"{line}_lit"] > TRAIL_LIT) & is_wide
    return found


def motion_table(raw, table, exptime):
    """Return lengths, angles, rates, periods and magnitudes, as ``MovingObjectClassifier.measure``.

    Parameters
    ----------
    raw : pandas.DataFrame
        Of :func:`~ztf_sg.streaks.features.raw_measures`, n rows.
    table : pandas.DataFrame
        With the column magzpsci [mag] or without, n rows.
    exptime : float
        [s]
    """
    per_minute = 60 / exptime
    length_error, angle_error = _errors(raw)
    length, length_error = raw["length"] * PIXEL_SCALE, length_error * PIXEL_SCALE
    flux = np.where(raw["flux"] > 0, raw["flux"] * raw["noise"], np.nan)
    zero_point = pd.to_numeric(table["magzpsci"], errors="coerce") if "magzpsci" in table else np.nan
    found = {
        "length": length,
        "length_error": length_error,
        "angle": np.rad2deg(raw["angle"]),
        "angle_error": np.minimum(np.rad2deg(angle_error), 90.0),
        "rate": length * per_minute,
        "rate_error": length_error * per_minute,
        "magnitude": zero_point - 2.5 * np.log10(flux),
        "magnitude_error": MAGNITUDE * raw["flux_error"] * raw["noise"] / flux,
        "free_ends": raw["free_ends"].astype(int),
        "flashes": raw["flashes"].astype(int),
        "period": raw["period"] * PIXEL_SCALE,
        "trail": has_trail(raw),
    }
    found = pd.DataFrame({name: np.asarray(values) for name, values in found.items()})
    unseen = (raw["images"] == "none").to_numpy() | ~np.isfinite(raw["snr"]) | (raw["pixels"] == 0)
    found.loc[unseen, found.columns.difference([*UNSEEN])] = np.nan
    return found.assign(**{name: found[name].mask(unseen, value) for name, value in UNSEEN.items()})


def _errors(raw):
    r"""Return the errors of length [px] and angle [radian], (n,) each, in images whose PSF may not be round.

    A segment of length :math:`L` has the variance :math:`L^2 / 12` along it. If the PSF may be wider by a
    variance :math:`v` along an axis, or across, a measured length :math:`L` is one between
    :math:`\sqrt{L^2 - 12 v}`, or zero, and :math:`\sqrt{L^2 + 12 v}`. The principal axis is turned by
    :math:`\arctan(12 v / L^2) / 2` at most; this over :math:`\sqrt{2}` is typical.

    Pixels tell this variance, so the error :math:`\sigma` of the length of a point is without bound: that of
    its square is :math:`2 L \sigma`, and :math:`\sqrt{2 L \sigma}` what the length may be.
    """
    measured = np.minimum(raw["length_error"], np.sqrt(2 * raw["length"] * raw["length_error"]))
    wider = 12 * UNROUND * raw["width"] ** 2
    least, most = (np.sqrt(np.maximum(raw["length"] ** 2 + sign * wider, 0)) for sign in (-1, 1))
    unround = np.maximum(raw["length"] - least, most - raw["length"])
    turned = np.arctan2(wider, np.sqrt(2) * raw["length"] ** 2) / 2
    return np.hypot(measured, unround), np.hypot(raw["angle_error"], turned)
