"""Directions on the sky as unit vectors, and moving objects at the epochs of images."""

import numpy as np

from ztf_sg.ztf import one_turn

J2000 = 2451545.0  # the Julian date of the epoch 2000.0
JULIAN_YEAR = 365.25  # [d]
UNIX_JD = 2440587.5  # the Julian date of numpy's day 0
MAS = np.radians(1 / 3.6e6)  # [rad]


def directions(ra, dec):
    """Return the unit vectors towards positions [deg], and east and north of them, each (..., 3)."""
    ra, dec = np.radians(ra), np.radians(dec)
    sin_ra, cos_ra, sin_dec, cos_dec = np.sin(ra), np.cos(ra), np.sin(dec), np.cos(dec)
    towards = np.stack([cos_dec * cos_ra, cos_dec * sin_ra, sin_dec], axis=-1)
    east = np.stack([-sin_ra, cos_ra, np.zeros_like(ra)], axis=-1)
    north = np.stack([-sin_dec * cos_ra, -sin_dec * sin_ra, cos_dec], axis=-1)
    return towards, east, north


def towards_at(ra, dec, motion, epochs):
    """Return the unit vectors towards a moving object at n epochs, (n, 3).

    The object moves on a straight line in space, square to the line of sight at its own epoch, as in
    `astropy.coordinates.SkyCoord.apply_space_motion` without parallax and radial velocity.

    Parameters
    ----------
    ra, dec : float
        Position at its own epoch [deg, ICRS].
    motion : tuple of float
        Proper motion in RA, with the cosine of DEC, and in DEC [mas/yr], and the epoch [Julian year].
    epochs : numpy.ndarray
        Julian years, (n,).
    """
    pmra, pmdec, epoch = motion
    towards, east, north = directions(ra, dec)
    years = np.asarray(epochs)[..., np.newaxis] - epoch
    moved = towards + years * MAS * (pmra * east + pmdec * north)
    return moved / np.linalg.norm(moved, axis=-1, keepdims=True)


def position_at(ra, dec, motion, epoch):
    """Return the RA (0..360) and DEC [deg, ICRS] of an object at an epoch; arguments as of `towards_at`."""
    x, y, z = towards_at(ra, dec, motion, epoch)
    return float(one_turn(np.degrees(np.arctan2(y, x)))), float(np.degrees(np.arctan2(z, np.hypot(x, y))))


def epochs_of(filefracdays):
    """Return the epochs of images [Julian year] from their filefracdays, YYYYMMDDffffff."""
    days, fractions = np.divmod(np.asarray(filefracdays, dtype=np.int64), 10**6)
    years, months = days // 10_000 - 1970, days // 100 % 100 - 1
    dates = (12 * years + months).astype("datetime64[M]").astype("datetime64[D]").astype(int) + days % 100 - 1
    return 2000 + (dates + fractions / 1e6 + UNIX_JD - J2000) / JULIAN_YEAR


def night_of(filefracday):
    """Return the night of a filefracday: in California, a date of universal time is one night."""
    return filefracday // 10**6
