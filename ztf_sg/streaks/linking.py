"""Linking the flashes of a tumbling satellite: detections of one exposure at equal steps on a great circle.

One flash looks like an asteroid; several at equal steps do not come about by chance. Great circles are lines
in the tangent plane. Each pair of near neighbours predicts where a third flash must be; what is found there
is followed in both directions, and believed if so many in a row are expected less than 0.01 times by chance,
given the density of the detections. The work grows as the number of pairs of neighbours, n log n.
"""

from math import comb
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from scipy.special import binom

NEIGHBOURS = 48  # of each detection that may be its next flash
SMALLEST_STEP = 4.0  # below which detections are one source [arcsec]
SEED_ERROR = 3.0  # of predictions from a pair [arcsec]
ERROR = 0.5  # of positions [arcsec]
CELLS = 4  # into which this is divided, so that copies are in one
SIGMAS = 3.5  # largest distance from a prediction, in errors of it
GAIN = 1.5  # relative change of speed per radian: 2 tan(angle from the nearest point of a straight orbit)
LINE, CURVE = 2.0, 0.1  # share of this change that predictions by lines and by curves leave out
NEAREST = 10  # flashes that predict the next one
MOST_MISSING = 6  # flashes missing in a row
FEWEST = 4  # flashes of a satellite
REACH = np.arange(-6, 8)  # steps at which the flashes of a candidate are counted
THIRDS = (-2, -1, 2, 3)  # steps at which the third flash is looked for
FALSE_LINKS = 0.01  # expected by chance in an exposure
PROMISING = 100.0  # expected number of candidates, known at the steps REACH only, that are worth following
IRREGULAR = 1 / 8  # rms distance from the fit, in steps, that flashes do not reach; for any points it is 1/5
SURELY_TRAIL = 6  # candidates with many others on their line, after which a point is on a trail
MOST_IN_VAIN = 200  # candidates that are followed in vain: a lattice of points has them without end
LINE_LENGTH = 500.0  # beyond the ends of a candidate, at least, on which other points are counted [arcsec]
WIDEST = 30.0  # largest distance of a detection from the centre of its exposure [deg]
ARCSEC = 180 * 3600 / np.pi  # in a radian
EXPOSURE_COLUMNS = ("jd", "fid")
NONE = -1
COLUMNS = {"satellite": NONE, "step": NONE, "spacing": np.nan, "n_flashes": 0, "rms": np.nan}  # of no flash


def link_flashes(table):
    """Find the satellites whose flashes are among the detections of exposures.

    Parameters
    ----------
    table : pandas.DataFrame
        n detections with ra, dec [deg]. They are of one exposure for each value of the column ``exposure``;
        if there is none, for each pair of jd and fid; if these are missing, too, of one exposure.

    Returns
    -------
    pandas.DataFrame
        The table with further columns: satellite, a number from 0 on or -1 without one; step, the number of
        the flash along its path, from 0 on, in which missing ones count; and of its satellite the spacing of
        steps [arcsec], n_flashes, and the rms distance from a smooth path [arcsec]. Detections within 0.5
        arcsec of each other, such as copies, are one flash.

    Raises
    ------
    TypeError
        If the table is no DataFrame.
    ValueError
        If ra or dec are missing or not finite, or the detections of an exposure are too far apart for one.

    Examples
    --------
    >>> import pandas as pd
    >>> detections = pd.DataFrame({"ra": 10 + 0.006 * np.array([0, 1, 2, 4, 5]), "dec": 0.0})
    >>> link_flashes(detections)["step"].tolist()
    [0, 1, 2, 4, 5]
    """
    _check(table)
    columns = {name: np.full(len(table), value) for name, value in COLUMNS.items()}
    number = 0
    for exposure, rows in _exposures(table):
        points = _tangent_plane(
            table["ra"].to_numpy(float)[rows], table["dec"].to_numpy(float)[rows], exposure
        )
        sources, source_of = _merged(points)
        for track in find_tracks(sources):
            step_of = np.full(len(sources), NONE)
            step_of[track.members] = track.steps
            is_member = step_of[source_of] != NONE
            values = (number, step_of[source_of[is_member]], track.spacing, len(track.members), track.rms)
            for name, value in zip(columns, values, strict=True):
                columns[name][rows[is_member]] = value
            number += 1
    return table.assign(**columns)


class Track(NamedTuple):
    """Flashes of a satellite: their rows, numbers of steps from 0 on, spacing and rms [arcsec]."""

    members: np.ndarray
    steps: np.ndarray
    spacing: float
    rms: float


def find_tracks(points):
    """Return the Tracks among points in the tangent plane [arcsec], shape (n, 2)."""
    if len(points) < FEWEST:
        return []
    tree = cKDTree(points)
    first, second, density = _neighbours(tree, points)
    tracks, free, on_trail, in_vain = [], np.ones(len(points), bool), np.zeros(len(points), int), 0
    for seed in _seeds(tree, points, first, second, density):
        rows = list(seed.values())
        if not free[rows].all() or (on_trail[rows] >= SURELY_TRAIL).all():
            continue
        members = _candidate(tree, points, seed, free)
        others = _others_on_line(points, members)
        if len(others) > len(members) / 2:
            on_trail[[*members.values(), *others]] += 1
        elif _chance(points, members, len(first), density, len(others)) < FALSE_LINKS:
            tracks.append(_track(points, members))
            free[tracks[-1].members] = False
            continue
        in_vain += 1
        if in_vain == MOST_IN_VAIN:
            break
    return tracks


def _check(table):
    """Raise an error unless a table has the position of all detections."""
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"table: expected a pandas.DataFrame, got {type(table).__name__}")
    missing = [name for name in ("ra", "dec") if name not in table]
    if missing:
        raise ValueError(
            f"the table lacks the columns {', '.join(missing)}; found {list(table.columns)[:10]}"
        )
    bad = np.flatnonzero(~np.isfinite(table[["ra", "dec"]].to_numpy(float)).all(axis=1))
    if len(bad):
        raise ValueError(f"{len(bad)} detections have no position, the first in row {bad[0]}; leave them out")


def _exposures(table):
    """Return name and rows of each exposure."""
    if not len(table):
        return []
    keys = ["exposure"] if "exposure" in table else [key for key in EXPOSURE_COLUMNS if key in table]
    if not keys:
        return [("the exposure", np.arange(len(table)))]
    groups = table.reset_index(drop=True).groupby(keys, dropna=False, sort=False).indices
    return [(f"the exposure with {', '.join(keys)} = {name}", rows) for name, rows in groups.items()]


def _tangent_plane(ra, dec, exposure):
    """Return the gnomonic projection [arcsec] of positions [deg] about their mean, shape (n, 2)."""
    ra, dec = np.radians(ra), np.radians(dec)
    points = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)
    centre = points.mean(axis=0) / np.linalg.norm(points.mean(axis=0))
    along = points @ centre
    if not (along > np.cos(np.radians(WIDEST))).all():
        raise ValueError(f"the detections of {exposure} are more than {WIDEST:g} deg from their centre")
    east = np.cross([0.0, 0.0, 1.0] if abs(centre[2]) < 0.9 else [1.0, 0.0, 0.0], centre)
    east /= np.linalg.norm(east)
    return points @ np.stack([east, np.cross(centre, east)], axis=1) / along[:, None] * ARCSEC


def _merged(points):
    """Return the means of points that are the same source, to within `ERROR`, and the number of each point's.

    Copies would be the nearest neighbours of each other, and others on the line of their own satellite.
    """
    cells = np.floor(points / (ERROR / CELLS))  # one point of each is enough, as many copies have many pairs
    _, chosen, cell_of = np.unique(cells, axis=0, return_index=True, return_inverse=True)
    first, second = cKDTree(points[chosen]).query_pairs(ERROR, output_type="ndarray").T
    pairs = coo_array((np.ones(len(first)), (first, second)), shape=(len(chosen), len(chosen)))
    n, source_of_cell = connected_components(pairs, directed=False)
    if n == len(points):
        return points, np.arange(n)
    source_of = source_of_cell[cell_of.ravel()]
    counts = np.bincount(source_of, minlength=n)
    sources = [np.bincount(source_of, axis, n) / counts for axis in points.T]
    return np.stack(sources, axis=1), source_of


def _neighbours(tree, points):
    """Return the rows of all pairs of neighbours, and the density around each point [1 / arcsec^2]."""
    count = min(NEIGHBOURS + 1, len(points))
    distance, neighbour = tree.query(points, count)
    pairs = np.stack([np.repeat(np.arange(len(points)), count - 1), neighbour[:, 1:].ravel()], axis=1)
    pairs = np.unique(np.sort(pairs[distance[:, 1:].ravel() > SMALLEST_STEP], axis=1), axis=0)
    density = count / (np.pi * np.maximum(distance[:, -1], SMALLEST_STEP) ** 2)
    return pairs[:, 0], pairs[:, 1], density


def _seeds(tree, points, first, second, density):
    """Return candidates of three points at whole steps, as dicts of rows by step; the likeliest first."""
    step = points[second] - points[first]
    tolerance = _seed_tolerance(np.linalg.norm(step, axis=1))
    steps, rows = [], []
    for third in THIRDS:
        distance, found = tree.query(
            points[first] + third * step, distance_upper_bound=tolerance.max(initial=0.0)
        )
        hits = np.flatnonzero(distance < tolerance)
        steps.append(np.tile((0, 1, third), (len(hits), 1)))
        rows.append(np.stack([first[hits], second[hits], found[hits]], axis=1))
    steps, rows = np.concatenate(steps), np.concatenate(rows)
    counts, size = _counts(tree, points, steps, rows)
    probability = _probability(density[rows[:, 0]], size)
    expected = len(first) * binom(len(REACH) - 2, counts - 2) * probability ** (counts - 2)
    order = np.lexsort([size, -counts])
    order = order[((counts >= FEWEST) & (expected < PROMISING))[order]]
    return [dict(zip(steps[n].tolist(), rows[n].tolist(), strict=True)) for n in order]


def _counts(tree, points, steps, rows):
    """Return how many points each candidate has at the steps `REACH`, and the size of its step [arcsec]."""
    numbers = np.arange(len(rows))
    start, end = (points[rows[numbers, each(steps, axis=1)]] for each in (np.argmin, np.argmax))
    first, last = steps.min(axis=1), steps.max(axis=1)
    step = (end - start) / (last - first)[:, None]
    size = np.linalg.norm(step, axis=1)
    predicted = start[:, None] + (REACH - first[:, None])[..., None] * step[:, None]
    distance, _ = tree.query(predicted)
    return (distance < _seed_tolerance(size)[:, None]).sum(axis=1), size


def _seed_tolerance(size):
    """Return the largest distance [arcsec] of a flash from where two others predict it, by their step."""
    return np.minimum(SEED_ERROR + LINE * _bend(size), size / 3)


def _bend(size):
    """Return by how much a step may be longer than the one before [arcsec]."""
    return GAIN * size**2 / ARCSEC


def _probability(density, size):
    """Return the chance of a point where a flash is predicted, given the density [1 / arcsec^2]."""
    return np.minimum(1.0, density * np.pi * _seed_tolerance(size) ** 2)


def _candidate(tree, points, seed, free):
    """Return the candidate that a seed leads to, at a fraction of its step if more points are there."""
    members = _refined(points, _followed(tree, points, seed, free))
    for parts in (2, 2, 3, 5):
        if len(members) < FEWEST or _step_size(points, members) < parts * SMALLEST_STEP:
            continue
        finer = {parts * step: row for step, row in members.items()}
        finer = _refined(points, _followed(tree, points, finer, free))
        members = finer if len(finer) > len(members) else members
    return members


def _followed(tree, points, members, free):
    """Return a candidate with the free points that continue it at further steps, or fill its gaps."""
    members = dict(members)
    for direction in (1, -1):
        missing, step = 0, (max(members) if direction > 0 else min(members)) + direction
        while missing <= MOST_MISSING:
            missing = 0 if _add_point_at(tree, points, members, step, free) else missing + 1
            step += direction
    for step in set(range(min(members), max(members))) - set(members):
        _add_point_at(tree, points, members, step, free)
    return members


def _add_point_at(tree, points, members, step, free):
    """Add the free point where a candidate has a flash at some step, if there is one; return whether."""
    near = sorted(members, key=lambda each: abs(each - step))[:NEAREST]
    position, tolerance = _predicted(points, {each: members[each] for each in near}, step)
    distance, row = tree.query(position)
    is_new = distance < tolerance and free[row] and row not in members.values()
    if is_new:
        members[step] = int(row)
    return is_new


def _predicted(points, members, step):
    """Return where a flash must be at a step (2,), and its largest distance from there [arcsec]."""
    powers, coefficients = _fit(points, members, most=3)
    power = _powers(np.array([step - next(iter(members))]), powers.shape[1])[0]
    spread = power @ np.linalg.pinv(powers.T @ powers) @ power
    size = _step_size(points, members)
    change = (LINE if powers.shape[1] == 2 else CURVE) * _bend(size)
    return power @ coefficients, min(SIGMAS * ERROR * np.sqrt(1 + spread) + change, _seed_tolerance(size))


def _refined(points, members):
    """Return a candidate without the points that lie too far from the fit to all others."""
    members = dict(members)
    while len(members) >= FEWEST:
        residuals = _residuals(points, members)
        worst = int(np.argmax(residuals))
        if residuals[worst] < SIGMAS * ERROR + CURVE * _bend(_step_size(points, members)):
            break
        del members[list(members)[worst]]
    return members


def _others_on_line(points, members):
    """Return the rows of other points on the line of a candidate: trails and bad columns have many."""
    start, end = points[members[min(members)]], points[members[max(members)]]
    extent = np.linalg.norm(end - start)
    along, offsets = (end - start) / extent, points - (start + end) / 2
    is_near = np.abs(offsets @ [-along[1], along[0]]) < SEED_ERROR
    is_near &= np.abs(offsets @ along) < extent / 2 + max(extent, LINE_LENGTH)
    is_near[list(members.values())] = False
    return np.flatnonzero(is_near)


def _chance(points, members, n_pairs, density, n_others):
    """Return how many such candidates are expected among points without order, `n_others` on its line."""
    size = _step_size(points, members)
    if len(members) < FEWEST or size < SMALLEST_STEP or _rms(points, members) > IRREGULAR * size:
        return np.inf
    tolerance, extent = _seed_tolerance(size), size * (max(members) - min(members))
    length = extent + 2 * max(extent, LINE_LENGTH) - 2 * tolerance * len(members)  # where no member is
    on_line = 2 * tolerance * n_others / length
    probability = max(_probability(np.median(density[list(members.values())]), size), min(1.0, on_line))
    looked_at = max(members) - min(members) - 1 + 2 * (MOST_MISSING + 1)
    n_further = len(members) - 2
    return n_pairs * comb(looked_at, n_further) * probability**n_further


def _track(points, members):
    """Return the Track of a candidate."""
    steps = sorted(members)
    rows = np.array([members[step] for step in steps])
    return Track(rows, np.array(steps) - steps[0], _step_size(points, members), _rms(points, members))


def _step_size(points, members):
    """Return the mean step of a candidate [arcsec]."""
    first, last = min(members), max(members)
    return float(np.linalg.norm(points[members[last]] - points[members[first]]) / (last - first))


def _powers(steps, count):
    """Return the first powers of steps, scaled to keep numbers small, shape (n, count)."""
    return np.vander(np.asarray(steps, dtype=float) / 10, count, increasing=True)


def _fit(points, members, most=4):
    """Return powers and coefficients of the position by step: a line, unless orbits may bend more.

    Then it is a parabola, from four points on, or a cubic, from eight, with at most `most` coefficients.
    Steps count from the first member.
    """
    steps = np.array(list(members))
    sagitta = _bend(_step_size(points, members)) * np.ptp(steps) ** 2 / 8
    count = 2 if sagitta < ERROR or len(members) < 4 else 3 if len(members) < 8 else 4
    powers = _powers(steps - steps[0], min(count, most))
    return powers, np.linalg.lstsq(powers, points[list(members.values())], rcond=None)[0]


def _rms(points, members):
    """Return the rms distance [arcsec] of the points of a candidate from the fit to them."""
    return float(np.sqrt(np.mean(_residuals(points, members) ** 2)))


def _residuals(points, members):
    """Return the distances [arcsec] of the points of a candidate from the fit to them."""
    powers, coefficients = _fit(points, members)
    return np.linalg.norm(points[list(members.values())] - powers @ coefficients, axis=1)
