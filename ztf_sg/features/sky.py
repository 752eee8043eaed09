"""The sky of a cutout: level and noise of the pixels of its border, compiled by numba."""

import numpy as np

from ztf_sg.compilation import compiled

BORDER = 2  # width of the border that the sky is measured in [px]
SAMPLED, BEYOND = 8, 2.0  # which of the pixels guess their range; by how much of it the buckets exceed it
CLIP_SIGMA, CLIP_ROUNDS = 3.0, 5  # of its pixels


@compiled
def border_pixels(height, width):
    """Return rows and columns, shape (2, m), of the pixels that the sky is measured in."""
    found, n = np.empty((2, height * width), dtype=np.intp), 0
    for i in range(height):
        inside = BORDER <= i < height - BORDER
        for j in range(width):
            if not inside or j < BORDER or j >= width - BORDER:
                found[0, n], found[1, n] = i, j
                n += 1
    return found[:, :n]


@compiled
def sky_and_noise(image, border, ranked):
    """Return level and noise of the border of an image, clipped at 3 sigma around its median.

    `border` is what `border_pixels` returns, and `ranked` room for m numbers. The scatter that clips is
    1.4826 times the median of the distances from the median; those are found by stepping outwards, since the
    pixels are sorted.
    """
    n = len(ranked)
    for k in range(n):
        ranked[k] = image[border[0, k], border[1, k]]
    _sort(ranked)
    first, last = 0, n
    for _ in range(CLIP_ROUNDS):
        centre = 0.5 * (ranked[(first + last - 1) // 2] + ranked[(first + last) // 2])
        limit = CLIP_SIGMA * 1.482602218505602 * _median_distance(ranked, first, last, centre)
        before = last - first
        while ranked[first] < centre - limit:
            first += 1
        while ranked[last - 1] > centre + limit:
            last -= 1
        if last - first == before:
            break
    level = 0.5 * (ranked[(first + last - 1) // 2] + ranked[(first + last) // 2])
    mean = ranked[first:last].mean()
    squares = 0.0
    for value in ranked[first:last]:
        squares += (value - mean) ** 2
    return level, np.sqrt(squares / (last - first))


@compiled
def _sort(values):
    """Sort values: into buckets of equal width first, which for noise hold one or two each.

    The buckets reach as far as the middle half of a sample does, twice more on both sides; what lies beyond
    is in the outermost ones. (numba's own sort takes seconds to compile, and is half as fast.)
    """
    n = len(values)
    sample = values[::SAMPLED].copy()
    _insertion_sort(sample)
    lower, upper = sample[len(sample) // 4], sample[(3 * len(sample)) // 4]
    low = lower - BEYOND * (upper - lower)
    scale = n / max((1 + 2 * BEYOND) * (upper - lower), 1e-30)
    buckets, ends, unsorted = np.empty(n, dtype=np.intp), np.zeros(n, dtype=np.intp), values.copy()
    for i in range(n):
        buckets[i] = int(min(max((values[i] - low) * scale, 0.0), n - 1.0))
        ends[buckets[i]] += 1
    for k in range(1, n):
        ends[k] += ends[k - 1]
    for i in range(n):
        ends[buckets[i]] -= 1
        values[ends[buckets[i]]] = unsorted[i]
    _insertion_sort(values)


@compiled
def _insertion_sort(values):
    for i in range(1, len(values)):
        value, j = values[i], i
        while j > 0 and values[j - 1] > value:
            values[j] = values[j - 1]
            j -= 1
        values[j] = value


@compiled
def _median_distance(ranked, first, last, centre):
    """Return the median of the distances of the sorted values from first to last from their median."""
    n = last - first
    high = (first + last) // 2
    low = high - 1
    previous = nearest = 0.0
    for _ in range(n // 2 + 1):
        previous = nearest
        below = centre - ranked[low] if low >= first else np.inf
        above = ranked[high] - centre if high < last else np.inf
        if below < above:
            nearest = below
            low -= 1
        else:
            nearest = above
            high += 1
    return nearest if n % 2 else 0.5 * (previous + nearest)
