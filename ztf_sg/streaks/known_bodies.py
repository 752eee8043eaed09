"""Which known body explains a detection: satellites from their elements, asteroids from tables of them.

Elements are propagated by SGP4 (Vallado et al. 2006, AIAA 2006-6753). Positions are those that an image
calibrated on stars shows: a satellite, which moves along with the observer, is displaced against them by up
to 20.5 arcsec, as it does not share the aberration of their light.
"""

import astropy.units as u
import numpy as np
import pandas as pd
from astropy.coordinates import get_body_barycentric_posvel, get_sun
from astropy.time import Time
from sgp4.api import SatrecArray
from skyfield.api import load, wgs84
from skyfield.sgp4lib import TEME

from ztf_sg.checks import is_number
from ztf_sg.streaks.elements import read_elements
from ztf_sg.ztf import one_turn

EXPOSURE_TIME = 30.0  # of ZTF [s]
PALOMAR = wgs84.latlon(33.3563, -116.8648, elevation_m=1712)
LIGHT_SPEED = 299_792.458  # [km/s]
EARTH_RADIUS = 6378.137  # [km]
POSITION_ERROR = 1.0  # of elements that are no more than some days old [km]
MATCH_TOLERANCE = 2.0  # of the position of a detection [arcsec]
MAGNITUDE_TOLERANCE = 1.5  # between the predicted magnitude, of another band, and the measured one [mag]
ENDS = ("ra_start", "dec_start", "ra_end", "dec_end")


def satellites_in_field(elements, time, ra, dec, radius, exptime=EXPOSURE_TIME):
    """Return the satellites that cross a field during an exposure from Palomar.

    Parameters
    ----------
    elements : path-like
        File of two-line elements, with or without names, or of OMM records in JSON, CSV or XML.
    time : astropy.time.Time or float
        Of the middle of the exposure; a number is a Julian date (UTC).
    ra, dec : float
        Centre of the field [deg, ICRS].
    radius : float
        Of the field [deg].
    exptime : float
        Exposure time [s].

    Returns
    -------
    pandas.DataFrame
        One row per satellite: name, number (of its catalogue), kind ("satellite"), ra, dec at mid-exposure
        and ra_start, dec_start, ra_end, dec_end of the trail [deg], rate [arcsec/min], position_angle of the
        motion [deg, north through east], range [km], sunlit (bool; in the Earth's shadow, taken as a
        cylinder, it is not), age of the elements [d], uncertainty of the position [arcsec], magnitude (NaN:
        it is not predicted).
        ``attrs["skipped"]`` is a DataFrame of the elements that cannot be used: name and reason.

    Raises
    ------
    ValueError
        The file holds no elements, or position, time, radius or exposure time make no sense.
    FileNotFoundError
        There is no such file.
    """
    time = check_field(ra, dec, time, radius, exptime)
    names, records, skipped = read_elements(elements)
    times = time + np.array([-0.5, 0.0, 0.5]) * exptime * u.s
    positions, directions, faults = _seen(records, times)
    failed = [(names[row], f"SGP4 cannot propagate it ({faults[row]})") for row in sorted(faults)]
    distance = _distance_to_path(_unit_vectors(ra, dec), directions)
    in_field = (distance <= np.radians(radius)) & _is_up(directions[1], time)
    rows = [row for row in np.flatnonzero(in_field) if row not in faults]
    table = _satellite_table(names, records, positions, directions, rows, time, exptime)
    table.attrs["skipped"] = pd.DataFrame([*skipped, *failed], columns=["name", "reason"])
    return table


def explain(detections, bodies):
    """Return which known body explains each detection of an exposure.

    A body explains a detection that lies on its path during the exposure, within its uncertainty and 2
    arcsec, and is at most 1.5 mag from its magnitude, where both are known. Of several, the one that is
    nearest in units of its uncertainty is chosen.

    Parameters
    ----------
    detections : pandas.DataFrame
        n rows with ra, dec [deg], and magpsf [mag] if known.
    bodies : pandas.DataFrame
        Of :func:`satellites_in_field` or :func:`ztf_sg.services.skybot.bodies_in_field`, or both joined.

    Returns
    -------
    pandas.DataFrame
        n rows with the index of the detections: body (name) and kind, missing without one; separation
        [arcsec] from the path; magnitude_difference, measured minus predicted [mag], NaN if not known.
    """
    n = len(detections)
    points = _unit_vectors(detections["ra"], detections["dec"]).reshape(n, 3)
    path = [_unit_vectors(bodies[f"ra{end}"], bodies[f"dec{end}"]) for end in ("_start", "", "_end")]
    separation = _distance_to_path(points[:, None], np.stack(path)[:, None]) * 206_264.806
    measured = detections["magpsf"].to_numpy(float) if "magpsf" in detections else np.full(n, np.nan)
    difference = measured[:, None] - bodies["magnitude"].to_numpy(float)
    limit = np.nan_to_num(bodies["uncertainty"].to_numpy(float)) + MATCH_TOLERANCE
    fits = (separation <= limit) & ~(np.abs(difference) > MAGNITUDE_TOLERANCE)
    cost = np.where(fits, separation / limit, np.inf)
    best = np.argmin(cost, axis=1) if len(bodies) else np.zeros(n, dtype=int)
    found = np.isfinite(cost).any(axis=1)
    chosen = np.arange(n)[found], best[found]
    table = pd.DataFrame({"body": None, "kind": None}, index=detections.index, dtype=object)
    table["separation"] = table["magnitude_difference"] = np.nan
    for column in ("name", "kind"):
        values = np.full(n, None, dtype=object)
        values[found] = bodies[column].to_numpy(object)[best[found]]
        table["body" if column == "name" else column] = values
    table.loc[found, "separation"] = separation[chosen]
    table.loc[found, "magnitude_difference"] = difference[chosen]
    return table


def with_ends(bodies, exptime):
    """Return a table of bodies with the columns `ENDS` [deg] of their paths during an exposure [s].

    They move by `rate` [arcsec/min] towards `position_angle` [deg], and are at ra, dec [deg] at its middle.
    """
    half = np.radians(bodies["rate"].to_numpy(float) / 3600 * exptime / 60 / 2)[:, None]
    middle = _unit_vectors(bodies["ra"], bodies["dec"])
    east, north = _axes(bodies["ra"], bodies["dec"])
    angle = np.radians(bodies["position_angle"].to_numpy(float))[:, None]
    heading = np.sin(angle) * east + np.cos(angle) * north
    ends = [np.cos(half) * middle + sign * np.sin(half) * heading for sign in (-1, 1)]
    return bodies.assign(**dict(zip(ENDS, (*_angles(ends[0]), *_angles(ends[1])), strict=True)))


def check_field(ra, dec, time, radius, exptime):
    """Return the time as an astropy Time; raise a ValueError if a field or its exposure make no sense."""
    if not (is_number(ra) and is_number(dec) and abs(ra) <= 360 and abs(dec) <= 90):
        raise ValueError(f"ra={ra!r}, dec={dec!r}: expected a position [deg]")
    if not (is_number(radius) and 0 < radius <= 90):
        raise ValueError(f"radius={radius!r}: expected a number above 0 and up to 90 [deg]")
    if not (is_number(exptime) and 0 < exptime <= 3600):
        raise ValueError(f"exptime={exptime!r}: expected a number above 0 and up to 3600 [s]")
    try:
        time = time if isinstance(time, Time) else Time(float(time), format="jd", scale="utc")
    except (TypeError, ValueError) as error:
        raise ValueError(f"time={time!r}: expected an astropy Time or a Julian date") from error
    if not time.isscalar or not 2_430_000 < time.utc.jd < 2_500_000:
        raise ValueError(f"time={time!r}: expected one time from 1941 to 2132")
    return time


def _seen(records, times):
    """Return where satellites are seen from Palomar at some times.

    Returns
    -------
    positions : numpy.ndarray
        Geocentric positions [km, GCRS], shape (times, satellites, 3).
    directions : numpy.ndarray
        Unit vectors from the observer among the stars, of the same shape.
    faults : dict of int to str
        What SGP4 says of satellites that cannot be propagated, by row.
    """
    moments = load.timescale(builtin=True).from_astropy(times)
    errors, positions, velocities = SatrecArray(records).sgp4(times.utc.jd1, times.utc.jd2)
    faults = {int(row): f"error {errors[row].max()}" for row in np.flatnonzero(errors.any(axis=1))}
    to_gcrs = np.moveaxis(TEME.rotation_at(moments), 2, 0).transpose(0, 2, 1)
    positions, velocities = (np.einsum("tij,stj->tsi", to_gcrs, values) for values in (positions, velocities))
    observer = PALOMAR.at(moments).position.km.T[:, None]
    earth = get_body_barycentric_posvel("earth", times)[1].xyz.to_value(u.km / u.s).T[:, None]
    offsets = positions - observer
    delays = np.linalg.norm(offsets, axis=2, keepdims=True) / LIGHT_SPEED
    return positions, _normalized(offsets - (velocities + earth) * delays), faults


def _satellite_table(names, records, positions, directions, rows, time, exptime):
    """Return the table of `satellites_in_field` for some rows of the elements."""
    (ra_start, dec_start), (ra, dec), (ra_end, dec_end) = (_angles(each[rows]) for each in directions)
    east, north = _axes(ra, dec)
    motion = directions[2][rows] - directions[0][rows]
    length = (
        _angle_between(directions[0], directions[1])[rows]
        + _angle_between(directions[1], directions[2])[rows]
    )
    moments = load.timescale(builtin=True).from_astropy(time)
    offsets = positions[1][rows] - PALOMAR.at(moments).position.km
    distance = np.linalg.norm(offsets, axis=1)
    epochs = np.array([records[row].jdsatepoch + records[row].jdsatepochF for row in rows])
    return pd.DataFrame(
        {
            "name": [names[row] for row in rows],
            "number": np.array([records[row].satnum for row in rows], dtype=np.int64),
            "kind": "satellite",
            "ra": ra,
            "dec": dec,
            **dict(zip(ENDS, (ra_start, dec_start, ra_end, dec_end), strict=True)),
            "rate": np.degrees(length) * 3600 / (exptime / 60),
            "position_angle": one_turn(
                np.degrees(np.arctan2((motion * east).sum(1), (motion * north).sum(1)))
            ),
            "range": distance,
            "sunlit": _is_sunlit(positions[1][rows], time),
            "age": np.abs(time.utc.jd - epochs),
            "uncertainty": np.degrees(POSITION_ERROR / distance) * 3600,
            "magnitude": np.nan,
        }
    )


def _is_up(directions, time):
    """Return which directions, unit vectors (n, 3), are above the horizon of Palomar."""
    zenith = PALOMAR.at(load.timescale(builtin=True).from_astropy(time)).position.km
    return directions @ zenith > 0


def _is_sunlit(positions, time):
    """Return which geocentric positions [km] are outside the Earth's shadow, a cylinder."""
    sun = get_sun(time).cartesian.xyz.value
    sun = sun / np.linalg.norm(sun)
    along = positions @ sun
    across = np.linalg.norm(positions - along[:, None] * sun, axis=1)
    return (along > 0) | (across > EARTH_RADIUS)


def _distance_to_path(points, path):
    """Return the smallest angle [rad] between points and a path of arcs through three unit vectors."""
    return np.minimum(_distance_to_arc(points, path[0], path[1]), _distance_to_arc(points, path[1], path[2]))


def _distance_to_arc(points, start, end):
    """Return the angle [rad] between points and arcs of great circles; all are unit vectors (..., 3)."""
    pole = np.cross(start, end)
    size = np.linalg.norm(pole, axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        height = np.abs((points * pole).sum(-1)) / size
    is_beside = ((np.cross(pole, start) * points).sum(-1) > 0) & ((np.cross(end, pole) * points).sum(-1) > 0)
    to_ends = np.minimum(_angle_between(points, start), _angle_between(points, end))
    return np.where(is_beside & (size > 0), np.arcsin(np.clip(height, 0, 1)), to_ends)


def _angle_between(first, second):
    """Return angles [rad] between unit vectors (..., 3), exact for small ones, too."""
    return 2 * np.arcsin(np.clip(np.linalg.norm(first - second, axis=-1) / 2, 0, 1))


def _unit_vectors(ra, dec):
    """Return unit vectors (..., 3) of positions [deg]."""
    ra, dec = np.radians(np.asarray(ra, dtype=float)), np.radians(np.asarray(dec, dtype=float))
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def _axes(ra, dec):
    """Return unit vectors (n, 3) to the east and to the north at positions [deg]."""
    ra, dec = np.radians(np.asarray(ra, dtype=float)), np.radians(np.asarray(dec, dtype=float))
    east = np.stack([-np.sin(ra), np.cos(ra), np.zeros_like(ra)], axis=-1)
    north = np.stack([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)], axis=-1)
    return east, north


def _angles(vectors):
    """Return right ascension and declination [deg] of unit vectors (..., 3)."""
    ra = np.degrees(np.arctan2(vectors[..., 1], vectors[..., 0]))
    return one_turn(ra), np.degrees(np.arcsin(np.clip(vectors[..., 2], -1, 1)))


def _normalized(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
