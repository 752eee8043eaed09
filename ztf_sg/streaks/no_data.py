"""Pixels without data that are numbers all the same: values that mark them, and padding at the edges."""

import numpy as np
from scipy import ndimage

HUGE = 1e30  # templates of ZTF have the least float32, -3.4e38, where they have no data [DN]
FEWEST_ALIKE = 12  # pixels in a row of padding
NARROWEST = 8  # padding inside of an image; bad columns that are side by side are fewer [px]


def known_pixels(stack):
    """Return images with NaN where they have no data, float32 (n, height, width).

    No data are values beyond `HUGE`, and wide areas of pixels that are alike from an edge on along their row
    or column: brokers and cutout tools fill what the border of an image cuts off so, mostly by zeros. Taken
    for sky they would be a sky without noise, and an edge in it. Narrow ones are dead columns, saturated
    trails, or the sky of 8 bits.
    """
    known = np.where(np.abs(stack) < HUGE, stack, np.float32(np.nan))
    along, across = known, known.swapaxes(1, 2)
    sides = (along, along[:, :, ::-1], across, across[:, :, ::-1])
    last = FEWEST_ALIKE - 1
    filled = [(side[:, :, :1] == side[:, :, last : last + 1]).any(axis=(1, 2)) for side in sides]
    rows = np.flatnonzero(np.any(filled, axis=0))
    fills = [_alike_from_the_edge(side[rows]) for side in sides]
    is_fill = fills[0] | fills[1][:, :, ::-1] | (fills[2] | fills[3][:, :, ::-1]).swapaxes(1, 2)
    known[rows] = np.where(_wide_parts(is_fill), np.float32(np.nan), known[rows])
    return known


def _alike_from_the_edge(images):
    """Return which pixels are like all those before them in their row, if these are many, bool as images."""
    alike = np.logical_and.accumulate(images == images[:, :, :1], axis=2)
    return alike & (alike.sum(axis=2, keepdims=True) >= FEWEST_ALIKE)


def _wide_parts(masks):
    """Return masks without what is narrower than `NARROWEST` px; they go on beyond the edges."""
    margin = [(0, 0), *[(NARROWEST, NARROWEST)] * 2]
    beyond = np.pad(masks, margin, constant_values=True).view(np.uint8)
    wide = ndimage.grey_opening(beyond, (1, NARROWEST, NARROWEST))
    return wide[:, NARROWEST:-NARROWEST, NARROWEST:-NARROWEST] > 0
