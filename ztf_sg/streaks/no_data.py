"""Pixels without data that are numbers all the same: values that mark them, and padding at the edges."""

import numpy as np

HUGE = 1e30  # templates of ZTF have the least float32, -3.4e38, where they have no data [DN]
FEWEST_ALIKE = 8  # pixels of a row or column that are alike by no chance


def known_pixels(stack):
    """Return images with NaN where they have no data, float32 (n, height, width).

    No data are values beyond `HUGE`, and rows and columns at the edges whose pixels are all alike: brokers
    and cutout tools pad stamps at the border of an image so, mostly by zeros. Taken for sky they would be a
    sky without noise, and an edge in it.
    """
    known = np.where(np.abs(stack) < HUGE, stack, np.float32(np.nan))
    for images in (known, known.swapaxes(1, 2)):
        padded = np.flatnonzero(_are_alike(images[:, [0, -1]]).any(axis=1))
        is_padding = _from_the_edges(_are_alike(images[padded]) | np.isnan(images[padded]).all(axis=2))
        images[padded] = np.where(is_padding[..., None], np.float32(np.nan), images[padded])
    return known


def _are_alike(images):
    """Return in which rows of images all pixels with data are alike, and more than a few, (n, rows)."""
    has_data = np.isfinite(images)
    lowest, highest = (
        each(images, axis=2, initial=start, where=has_data)
        for each, start in ((np.min, np.inf), (np.max, -np.inf))
    )
    return (has_data.sum(axis=2) >= FEWEST_ALIKE) & (lowest == highest)


def _from_the_edges(rows):
    """Return which rows are marked like all those between them and an edge, bool (n, rows)."""
    first = np.logical_and.accumulate(rows, axis=1)
    return first | np.logical_and.accumulate(rows[:, ::-1], axis=1)[:, ::-1]
