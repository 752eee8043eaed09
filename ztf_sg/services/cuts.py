"""What a query of a catalogue asks for: the same at every catalogue service.

Fluxes are in nanomaggies: mag = 22.5 - 2.5 log10(flux).
"""

from dataclasses import dataclass

import numpy as np

BANDS = ("g", "r", "z")


@dataclass(frozen=True)
class Cuts:
    """A rectangle on the sky, and limits of brightness and blending; what is None is not cut.

    Parameters
    ----------
    ra : (float, float), optional
        Bounds in right ascension [deg, 0..360], from west to east; the first exceeds the second if the
        region crosses RA 0. As a second bound, 0 means 360.
    dec : (float, float), optional
        Bounds in declination [deg], the lower first.
    limits : dict of str to float, optional
        Faint limit [mag, AB] for each band, such as ``{"g": 20.5, "r": 20, "z": 19}``.
    max_fracflux : float, optional
        Largest share (0..1) of an object's flux that may belong to neighbours, in every band.

    Raises
    ------
    ValueError
        The bounds make no sense, or there are limits for unknown bands.
    """

    ra: tuple = None
    dec: tuple = None
    limits: dict = None
    max_fracflux: float = None

    def __post_init__(self):
        if self.ra is not None:
            west, east = map(float, self.ra)
            same = west % 360 == east % 360 and (west, east) != (0, 360)
            if not (0 <= west <= 360 and 0 <= east <= 360) or same:
                raise ValueError(f"ra={self.ra}: expected two different bounds within 0..360 deg")
        if self.dec is not None:
            south, north = map(float, self.dec)
            if not -90 <= south < north <= 90:
                raise ValueError(
                    f"dec={self.dec}: expected the lower, then the upper bound within -90..90 deg"
                )
        unknown = sorted(set(self.limits or {}) - set(BANDS))
        if unknown:
            raise ValueError(f"limits for unknown bands {', '.join(unknown)}; known: {', '.join(BANDS)}")

    @property
    def ra_ranges(self):
        """The range of right ascension as pairs of bounds [deg]: two if it crosses RA 0, else one."""
        west, east = float(self.ra[0]) % 360, float(self.ra[1]) or 360.0
        return [(west, east)] if west < east else [(west, 360.0), (0.0, east)]

    @property
    def adql(self):
        """All cuts except that of right ascension, in ADQL."""
        south, north = map(float, self.dec)
        conditions = [f"dec BETWEEN {south!r} AND {north!r}"]
        conditions += [f"flux_{band} > {_flux(mag):.9g}" for band, mag in (self.limits or {}).items()]
        if self.max_fracflux is not None:
            conditions += [f"fracflux_{band} BETWEEN 0 AND {float(self.max_fracflux)!r}" for band in BANDS]
        return " AND ".join(conditions)

    @property
    def columns(self):
        """Names of the columns that `passes` needs."""
        fluxes = [f"FLUX_{band.upper()}" for band in self.limits or {}]
        shares = [f"FRACFLUX_{band.upper()}" for band in BANDS] if self.max_fracflux is not None else []
        return ["RA"] * (self.ra is not None) + ["DEC"] * (self.dec is not None) + fluxes + shares

    def passes(self, rows):
        """Say which objects pass the cuts.

        Parameters
        ----------
        rows : numpy structured array or pandas.DataFrame
            n objects, with the columns `columns` as in a sweep file.

        Returns
        -------
        numpy.ndarray
            bool (n,).
        """
        keep = np.ones(len(rows), dtype=bool)
        if self.ra is not None:
            inside = [(rows["RA"] >= west) & (rows["RA"] <= east) for west, east in self.ra_ranges]
            keep &= np.any(inside, axis=0)
        if self.dec is not None:
            keep &= (rows["DEC"] >= self.dec[0]) & (rows["DEC"] <= self.dec[1])
        for band, limit in (self.limits or {}).items():
            keep &= rows[f"FLUX_{band.upper()}"].astype(float) > _flux(limit)
        for band in BANDS if self.max_fracflux is not None else ():
            share = rows[f"FRACFLUX_{band.upper()}"]
            keep &= (share >= 0) & (share <= self.max_fracflux)
        return np.asarray(keep)

    def __str__(self):
        return f"RA {self.ra[0]:g}..{self.ra[1]:g}, DEC {self.dec[0]:g}..{self.dec[1]:g} deg"


def _flux(magnitude):
    return 10 ** (0.4 * (22.5 - magnitude))
