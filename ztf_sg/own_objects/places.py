"""Division of a list of positions into parts of neighbours, whose cutouts come from the same images."""

import numpy as np

OBJECTS = 2500  # largest number of objects of a part: the larger, the fewer requests per object
CUTOUTS = 24_000  # and of their cutouts, which are held in memory at a time: 40 MB


def objects_per_part(cutouts):
    """Return the largest number of objects of a part, each of which has so many cutouts."""
    return max(1, min(OBJECTS, CUTOUTS // cutouts))


def divide_by_place(ra, dec, most):
    """Divide positions into parts of neighbours, by the median along the longest axis, again and again.

    The axes are those of space, in which the sphere has neither a seam nor poles.

    Parameters
    ----------
    ra, dec : numpy.ndarray
        Positions [deg], (n,).
    most : int
        Largest number of positions of a part.

    Returns
    -------
    list of numpy.ndarray
        The rows of each part, in order; no part is empty, and n = 0 makes none.
    """
    ra, dec = np.radians(ra), np.radians(dec)
    points = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)

    def divide(rows):
        if len(rows) <= most:
            return [np.sort(rows)] * bool(len(rows))
        axis = np.ptp(points[rows], axis=0).argmax()
        rows = rows[np.argsort(points[rows, axis], kind="stable")]
        return divide(rows[: len(rows) // 2]) + divide(rows[len(rows) // 2 :])

    return divide(np.arange(len(points)))
