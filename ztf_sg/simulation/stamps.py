"""Simulated stamps of alerts with truth: asteroids, satellites, and all that is taken for them."""

from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from ztf_sg.checks import is_whole_number
from ztf_sg.simulation import confusers, moving_sources, static_sources
from ztf_sg.simulation.fourier import BOX
from ztf_sg.simulation.masks import draw_mask, saturated_mask
from ztf_sg.simulation.scenes import CENTRE, draw_scene
from ztf_sg.simulation.stamp_conditions import draw_exposure
from ztf_sg.simulation.subtraction import FIRST, SIDE, STAMP, matched, observe
from ztf_sg.streaks import Triplets

PER_EXPOSURE = 8  # stamps that share an exposure
# Signal-to-noise ratios, as in real alerts: counts above one fall with a power of it. Streaks have a search
# of their own, which goes fainter.
LEAST_SNR, LEAST_STREAK_SNR, LARGEST_SNR, SNR_SLOPE = 10.0, 7.0, 500.0, 1.0
PASSING_FRACTION = 0.004  # share of the stamps of asteroids and others that a trail passes
MIDDLE = (slice(CENTRE - 2, CENTRE + 3),) * 2  # where no detection lacks data
UNKNOWN = {name: np.nan for name in ("length", "angle", "rate", "period", "width")} | {"beside": False}
# Seeing by the pipeline [px], which is wider than the PSF: slope with its FWHM, offset and scatter [px].
SEEING_SLOPE, SEEING_OFFSET, SEEING_SCATTER = 0.85, 0.9, 0.12
FWHM_ERROR = (0.15, 0.15)  # mean and scatter of the logarithm of the FWHM in alerts
MISSING_FRACTION = 0.004  # share of the stamps without a reference, and of those without a science image


@dataclass(frozen=True)
class Kind:
    """A kind of detection: label, share of the stamps, what adds it to a scene, and its faintest."""

    label: int
    share: float
    add: callable
    least_snr: float = LEAST_SNR


KINDS = {
    "asteroid": Kind(1, 0.20, moving_sources.add_asteroid),
    "streak": Kind(1, 0.12, moving_sources.add_streak, LEAST_STREAK_SNR),
    "trail": Kind(2, 0.08, moving_sources.add_trail),
    "trail_end": Kind(2, 0.02, moving_sources.add_trail_end),
    "trail_beside": Kind(2, 0.07, moving_sources.add_trail_beside),
    "trails": Kind(2, 0.03, moving_sources.add_trails),
    "train": Kind(2, 0.09, moving_sources.add_train),
    "flash": Kind(2, 0.04, moving_sources.add_flash),
    "variable": Kind(0, 0.11, static_sources.add_variable),
    "nucleus": Kind(0, 0.05, static_sources.add_nucleus),
    "supernova": Kind(0, 0.05, static_sources.add_supernova),
    "comet": Kind(0, 0.01, moving_sources.add_comet),
    "bad_column": Kind(0, 0.015, confusers.add_bad_column),
    "spike": Kind(0, 0.02, confusers.add_spike),
    "ghost": Kind(0, 0.015, confusers.add_ghost),
    "dipole": Kind(0, 0.02, confusers.add_dipole),
    "residual": Kind(0, 0.02, confusers.add_residual),
    "reference_edge": Kind(0, 0.01, confusers.add_reference_edge),
    "cosmic_ray": Kind(0, 0.015, confusers.add_cosmic_ray),
    "hot_pixels": Kind(0, 0.005, confusers.add_hot_pixels),
    "noise": Kind(0, 0.01, confusers.add_nothing),
}


def simulate_stamps(n, seed, kinds=None, n_jobs=2):
    """Return simulated stamps of alerts with truth.

    The difference of a negative alert is reference minus science, as in the alerts of ZTF: the detection is
    bright in it.

    Parameters
    ----------
    n : int
    seed : int or sequence of int
        A stamp follows from its number and the seed alone.
    kinds : sequence of str, optional
        Kinds of detections, of :data:`KINDS`, by their shares; all by default. A ``flash`` is a lone flash
        of a satellite, which no single stamp tells from an asteroid.
    n_jobs : int
        Processes among which the exposures are shared.

    Returns
    -------
    Triplets
        Stamps of 63 x 63 px, the detection within half a pixel of the centre. The table has metadata of
        alerts: name, night, jd [d], fid, magzpsci, magpsf [mag], isdiffpos, fwhm of the source [px, which is
        not that of the image], seeratio; and truth: kind; flux of the change [DN], for trails that within one
        FWHM; snr under the best weights; length between the ends [px], infinite for trails and trains; angle
        [deg]; rate ["/min]; period of the flashes [px]; width of the image of the source across its motion
        [px, FWHM]; psf_fwhm of the image [px]; x, y of the detection [px]; beside, whether a trail passes the
        detection. What a kind has not is NaN.

    Raises
    ------
    ValueError
        If a kind is unknown, or n is no whole number from 1 on.
    """
    if not (is_whole_number(n) and n >= 1):
        raise ValueError(f"n={n!r}: expected a whole number of stamps, 1 or more")
    kinds = list(KINDS if kinds is None else kinds)
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown or not kinds:
        raise ValueError(f"unknown kinds of detections {unknown}; give some of {', '.join(KINDS)}")
    seed = [int(part) for part in np.atleast_1d(seed)]
    numbers = range(-(-n // PER_EXPOSURE))
    exposures = Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(_simulate_exposure)(seed, number, kinds) for number in numbers
    )
    images, rows = np.empty((3, n, SIDE, SIDE), dtype=np.float32), []
    for *pixels, row in islice(chain.from_iterable(exposures), n):
        images[:, len(rows)] = pixels
        rows.append(row)
    table = pd.DataFrame(rows)
    labels = table["kind"].map({name: kind.label for name, kind in KINDS.items()}).to_numpy()
    return Triplets(*images, labels, table)


def _simulate_exposure(seed, number, kinds):
    """Return the stamps of an exposure: three images and a row of the table of each."""
    rng = np.random.default_rng([*seed, 5, number])
    exposure = draw_exposure(rng, number)
    shares = np.array([KINDS[kind].share for kind in kinds])
    return [
        _simulate_stamp(rng, exposure, str(rng.choice(kinds, p=shares / shares.sum())), order)
        for order in range(PER_EXPOSURE)
    ]


def _simulate_stamp(rng, exposure, kind, order):
    """Return the three images of a detection [DN], and its row of the table."""
    scene = draw_scene(rng, exposure)
    confusers.add_columns_beside(rng, scene)
    confusers.add_cosmic_ray_beside(rng, scene)
    snr = min(KINDS[kind].least_snr * rng.random() ** (-1 / SNR_SLOPE), LARGEST_SNR)
    truth = UNKNOWN | {"kind": kind} | KINDS[kind].add(rng, scene, snr)
    if KINDS[kind].label < 2 and rng.random() < PASSING_FRACTION:
        moving_sources.add_passing_trail(rng, scene, snr)
        truth["beside"] = True
    images = observe(rng, scene)
    sign = _centre(scene, images)
    _mask(rng, scene, images)
    images = [image[STAMP] for image in images]
    images[2] = sign * images[2]
    return *images, _row(rng, exposure, truth, images[2], order, scene) | {
        "isdiffpos": "t" if sign > 0 else "f"
    }


def _centre(scene, images):
    """Move the highest peak of the difference to the centre of the box; return whether it is positive, +-1.

    Only kinds whose detection is no source are moved.
    """
    y, x = np.indices((BOX, BOX))
    significance = matched(scene.exposure, images[2], scene.trail)
    near = np.maximum(abs(x - scene.x), abs(y - scene.y)) <= max(scene.search, 1)
    row, column = np.unravel_index(np.argmax(np.abs(significance) * near), near.shape)
    if scene.search:
        shift = CENTRE - row, CENTRE - column
        scene.x = scene.y = float(CENTRE)
        for image in (*images, scene.no_data):
            image[:] = np.roll(image, shift, axis=(0, 1))
    return 1 if significance[row, column] > 0 else -1


def _mask(rng, scene, images):
    """Set pixels without data to NaN."""
    mask = scene.no_data | draw_mask(rng, scene.x, scene.y)
    mask |= saturated_mask(rng, images[0] - scene.exposure.background, scene.exposure.full_well)
    mask[MIDDLE] = False
    for image in images:
        image[mask] = np.nan
    for image in images[:2]:
        if rng.random() < MISSING_FRACTION:
            image[:] = np.nan


def _row(rng, exposure, truth, difference, order, scene):
    """Return the row of the table of a detection: metadata of its alert, and truth."""
    seeing = SEEING_SLOPE * exposure.fwhm + SEEING_OFFSET + rng.normal(0, SEEING_SCATTER)
    fwhm = _source_fwhm(difference) * np.exp(rng.normal(*FWHM_ERROR))
    flux = max(abs(truth["flux"]), 1.0)
    return {
        "name": f"{truth['kind']}_{exposure.number}_{order}", "night": exposure.night,
        "jd": exposure.night + 0.7, "fid": exposure.fid, "magzpsci": exposure.magzp,
        "magpsf": exposure.magzp - 2.5 * np.log10(flux), "fwhm": fwhm, "seeratio": min(seeing / fwhm, 2.0),
        "psf_fwhm": exposure.fwhm, "x": scene.x - FIRST, "y": scene.y - FIRST, **truth,
    }  # fmt: skip


def _source_fwhm(difference):
    """Return the FWHM [px] of a source by its area above half of its peak, as noisy as those of alerts."""
    middle = SIDE // 2
    near = difference[middle - 5 : middle + 6, middle - 5 : middle + 6]
    peak = np.nanmax(near[4:7, 4:7])
    return 2 * np.sqrt(max(np.sum(near > peak / 2), 1) / np.pi)
