"""The pixels of an image that show the sky alone, in units of their noise, and those that sources cover."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

MESH = 32  # the background and its noise are measured in boxes of this size [px]
FEWEST_PIXELS = 64  # of a box, that it is measured in
CLIP_SIGMA, CLIP_ROUNDS = 3.0, 3
SOURCE_PEAK, SOURCE_EDGE = 5.0, 2.0  # of a smoothed source, its peak and where it ends [sigma]
FAINT_PEAK = 4.0  # of a source that may be one; without these the sky is as symmetric as noise [sigma]
LEAST_ELONGATION = 4.0  # of the axes of what may be a trail and is no source
LEAST_LENGTH = 6.0  # and its length [FWHM]
LARGE = 3.0  # radius of a source that may have spikes [FWHM]
SPIKES = 3.0  # how far such a source reaches at most [radii of a circle of its area]
GROWTH = 0.4  # by which share of its radius a source is masked beyond its edge
BRIGHTER = 4.0  # a part of a trail that is so many times brighter than the rest is a source in its way
BAD_COLUMN = 6.0  # of the light of a bad column [sigma]
COLUMN_BOX = 5  # wide bad columns, each of them faint, are seen by the light of so many together
COLUMN_CLIP = 2.0  # of pixels and of the parts of a column, which stars shine on [sigma]
COLUMN_PARTS = 32  # of a column, at least; they have at most `MESH` px
SURROUNDINGS = 64  # columns that one is compared with; the wider, the less the bad one matters
SHORTEST_FAULT = 384  # of a column that is bad up to an edge; trails leave it earlier, unless along it [px]
FWHM_PEAK = 20.0  # sources with at least this peak tell the FWHM [sigma]
TYPICAL_FWHM = 2.2  # [px]
FWHM_PER_SIGMA = np.sqrt(8 * np.log(2))


@dataclass(frozen=True, eq=False)
class SkyPixels:
    """An image prepared for the search for trails.

    Parameters
    ----------
    values : numpy.ndarray (height, width), float32
        Pixels less their background in units of its noise; 0 where there is no data.
    has_data, is_sky, is_empty : numpy.ndarray (height, width), bool
        Pixels with data, those of them that no source covers, and those of these that not even a faint one
        covers, which may be noise or a flash of a trail.
    noise : numpy.ndarray (height, width), float32
        Standard deviation of the sky [DN].
    bad_columns : numpy.ndarray of int
        Columns that are bad in all of their rows, or from one of them to an edge.
    points : numpy.ndarray (n, 2)
        x and y [px] of the small ones of the sources.
    stars : numpy.ndarray (m, 3)
        x, y and reach [px] of the large ones, which may have spikes.
    fwhm : float
        FWHM of the point-spread function [px].
    """

    values: np.ndarray
    has_data: np.ndarray
    is_sky: np.ndarray
    is_empty: np.ndarray
    noise: np.ndarray
    bad_columns: np.ndarray
    points: np.ndarray
    stars: np.ndarray
    fwhm: float


def prepare_sky(image, fwhm=None, saturate=np.inf):
    """Return the :class:`SkyPixels` of an image.

    Parameters
    ----------
    image : numpy.ndarray (height, width)
        Pixels [DN]; NaN where there is no data.
    fwhm : float, optional
        FWHM of the point-spread function [px]; measured by the sources of the image if it is left out.
    saturate : float
        Saturation level [DN].
    """
    image = np.asarray(image, dtype=np.float32)
    has_data = np.isfinite(image)
    background, noise = background_and_noise(image)
    is_bad = find_bad_columns((image - background) / noise, has_data)
    # without the bad columns, which pull the background of their neighbours
    rest, noise = background_and_noise(np.where(is_bad, np.float32(np.nan), image - background))
    values = np.where(has_data, (image - background - rest) / noise, 0).astype(np.float32)
    is_bad = find_bad_columns(values, has_data)
    has_data &= ~is_bad
    values[is_bad] = 0
    fwhm = measure_fwhm(values) if fwhm is None else fwhm
    sources, faint, *places = mask_sources(values, fwhm, image >= saturate)
    is_sky, bad_columns = has_data & ~sources, np.flatnonzero(is_bad.any(axis=0))
    return SkyPixels(values, has_data, is_sky, is_sky & ~faint, noise, bad_columns, *places, fwhm)


def background_and_noise(image):
    """Return the background of an image and its noise [DN], float32 (height, width) each.

    They are clipped medians and scatters of boxes of `MESH` px, smoothed over 3 x 3 boxes, and linear in
    between.
    """
    sides = [-(-side // MESH) for side in image.shape]
    padding = [(0, n * MESH - side) for n, side in zip(sides, image.shape, strict=True)]
    padded = np.pad(image, padding, constant_values=np.nan)
    boxes = padded.reshape(sides[0], MESH, sides[1], MESH).swapaxes(1, 2).reshape(-1, MESH**2)
    layers = [_smoothed(layer.reshape(sides)) for layer in clipped_medians(boxes)]
    weights = [_weights(side, n) for side, n in zip(image.shape, sides, strict=True)]
    return [weights[0] @ layer.astype(np.float32) @ weights[1].T for layer in layers]


def clipped_medians(boxes):
    """Return median and scatter of each of n boxes of m pixels, clipped; NaN where too few have data.

    The scatter is half the range of the middle 68.27 %, or the lower half of it if that is less, as sources
    raise the upper half.
    """
    ranked = np.sort(boxes, axis=1)
    first, last = np.zeros(len(boxes), dtype=int), np.isfinite(ranked).sum(axis=1)
    for _ in range(CLIP_ROUNDS):
        low, middle, high = (_quantile(ranked, first, last, share) for share in (0.15865, 0.5, 0.84135))
        scatter = np.minimum((high - low) / 2, middle - low)
        limit = CLIP_SIGMA * scatter
        first = (ranked < (middle - limit)[:, None]).sum(axis=1)
        last = (ranked <= (middle + limit)[:, None]).sum(axis=1)
    usable = (last - first >= FEWEST_PIXELS) & (scatter > 0)
    return np.where(usable, middle, np.nan), np.where(usable, scatter, np.nan)


def _quantile(ranked, first, last, share):
    """Return the value below which a share of the sorted values from first to last is, row by row."""
    place = np.clip(first + ((last - first - 1) * share).round().astype(int), 0, ranked.shape[1] - 1)
    return ranked[np.arange(len(ranked)), place]


def _smoothed(layer):
    """Return the medians of 3 x 3 boxes; boxes without a value have that of the nearest one."""
    missing = ~np.isfinite(layer)
    if missing.all():
        raise ValueError(
            f"the image has no part of {MESH} x {MESH} px with {FEWEST_PIXELS} pixels of sky that differ"
        )
    nearest = ndimage.distance_transform_edt(missing, return_distances=False, return_indices=True)
    return ndimage.median_filter(layer[tuple(nearest)], 3, mode="nearest")


def _weights(side, n):
    """Return by which weights the values of n boxes make those of the pixels of a side, linear in between."""
    places = (np.arange(side) + 0.5) / MESH - 0.5
    low = np.clip(np.floor(places).astype(int), 0, max(n - 2, 0))
    share = np.clip(places - low, -0.5, 1.5) if n > 1 else np.zeros(side)
    weights = np.zeros((side, n), dtype=np.float32)
    weights[np.arange(side), low] = 1 - share
    if n > 1:
        weights[np.arange(side), low + 1] = share
    return weights


def find_bad_columns(values, has_data):
    """Return the pixels of columns that are too bright or too dark, bool (height, width).

    A column is bad in all of its rows, or from one of them to an edge of the image, as a defect spoils the
    charge that passes it on its way out. All quarters of its bad rows must show it.
    """
    size = max(min(MESH, len(values) // COLUMN_PARTS), 1)
    clipped = np.where(has_data, np.clip(values, -COLUMN_CLIP, COLUMN_CLIP), 0)
    light, n = (_sums_of_parts(array, size) for array in (clipped, has_data))
    excess = (light - n * _level_around(light / np.maximum(n, 1))) / np.sqrt(np.maximum(n, 1))
    excess = np.clip(excess, -COLUMN_CLIP, COLUMN_CLIP)
    parts, bad = np.arange(len(light))[:, None], np.zeros(light.shape, dtype=bool)
    for box in (1, COLUMN_BOX):
        wide = np.sqrt(box) * ndimage.uniform_filter1d(excess, box)
        for order in (slice(None), slice(None, None, -1)):
            together = _bad_parts(wide[order], BAD_COLUMN, SHORTEST_FAULT // size)
            alone = _bad_parts(excess[order], BAD_COLUMN / np.sqrt(box), SHORTEST_FAULT // size)
            bad |= (parts < np.minimum(together, alone))[order]
    return np.repeat(bad, size, axis=0)[: len(values)]


def _sums_of_parts(array, size):
    """Return the sums of `size` pixels of each column after another, (parts, width)."""
    padded = np.pad(array, [(0, -len(array) % size), (0, 0)])
    return padded.reshape(-1, size, array.shape[1]).sum(axis=1, dtype=float)


def _level_around(level):
    """Return the medians of `SURROUNDINGS` columns each, (parts, width), which halos of galaxies raise."""
    n_more = -level.shape[1] % SURROUNDINGS
    boxes = np.pad(level, [(0, 0), (0, n_more)], mode="symmetric").reshape(len(level), -1, SURROUNDINGS)
    return np.repeat(np.median(boxes, axis=2), SURROUNDINGS, axis=1)[:, : level.shape[1]]


def _bad_parts(excess, least, shortest):
    """Return how many parts of each column are bad from the first on, by their excess [sigma].

    All of them together have `least` sigma, and each quarter at least half of its share of that.
    """
    light = np.concatenate([np.zeros((1, excess.shape[1])), np.cumsum(excess, axis=0)])
    n_bad = np.zeros(excess.shape[1], dtype=int)
    for stop in {*range(shortest, len(excess)), len(excess)}:
        edges = np.linspace(0, stop, 5).astype(int)
        quarters = np.diff(light[edges], axis=0) / np.sqrt(np.diff(edges))[:, None]
        total = light[stop] / np.sqrt(stop)
        is_bad = (np.abs(total) > least) & ((np.sign(total) * quarters).min(axis=0) > least / 4)
        n_bad[is_bad] = np.maximum(n_bad[is_bad], stop)
    return n_bad


def measure_fwhm(values):
    """Return the FWHM of the point-spread function [px], the median of that of bright round sources."""
    labels, n = ndimage.label(values > FWHM_PEAK / 2)
    if not n:
        return TYPICAL_FWHM
    widths = []
    for number, place in enumerate(ndimage.find_objects(labels), start=1):
        part = values[place]
        if min(part.shape) < 2 or max(part.shape) > 2 * min(part.shape) + 1:
            continue
        peak = part[labels[place] == number].max()
        if peak >= FWHM_PEAK:
            widths.append(np.sqrt(4 / np.pi * np.sum(part >= peak / 2)))
    return float(np.median(widths)) if len(widths) >= 3 else TYPICAL_FWHM


def mask_sources(values, fwhm, is_saturated):
    """Return which pixels sources cover, and where the sources are.

    A source is all that is bright and not as long and straight as a trail. It reaches from its peak to where
    its smoothed light is lost in the noise, and by a share of its radius beyond, as it shines farther.

    Returns
    -------
    covered, faint : numpy.ndarray of bool (height, width)
        Pixels of sources, and of those that are too faint to tell them from noise.
    points : numpy.ndarray (n, 2)
        x and y [px] of small sources.
    stars : numpy.ndarray (m, 3)
        x, y and reach [px] of large ones.
    """
    sigma = fwhm / FWHM_PER_SIGMA
    smooth = ndimage.gaussian_filter(values, sigma) * np.float32(2 * np.sqrt(np.pi) * sigma)
    labels, n = ndimage.label(smooth > SOURCE_EDGE, structure=np.ones((3, 3)))
    covered, faint, points, stars = *np.zeros((2, *values.shape), dtype=bool), [], []
    peaks = ndimage.maximum(smooth, labels, np.arange(1, n + 1)) if n else np.empty(0)
    places = ndimage.find_objects(labels)
    for number in np.flatnonzero(peaks > FAINT_PEAK):
        place = places[number]
        inside, light = labels[place] == number + 1, smooth[place]
        if not is_saturated[place][inside].any() and is_elongated(inside, fwhm):
            inside &= light > BRIGHTER * np.percentile(light[inside], 75)
        if peaks[number] <= SOURCE_PEAK:
            _cover(faint, place, inside)
            continue
        _cover(covered, place, inside)
        radius = np.sqrt(inside.sum() / np.pi)
        peak = _peak(place, np.where(inside, light, 0))
        if radius > LARGE * fwhm:
            stars.append((*peak, min(np.hypot(*inside.shape) / 2, SPIKES * radius)))
        else:
            points.append(peak)
    return covered, faint, np.reshape(points, (-1, 2)), np.reshape(stars, (-1, 3))


def _peak(place, light):
    """Return x and y [px] of the middle of the brighter pixels of a source, which saturation makes alike."""
    weights = np.maximum(light - 0.5 * light.max(), 0)
    rows, columns = np.indices(light.shape)
    total = max(weights.sum(), 1e-30)
    return place[1].start + (weights * columns).sum() / total, place[0].start + (weights * rows).sum() / total


def is_elongated(inside, fwhm):
    """Tell whether a mask is that of a long and straight thing, by its moments."""
    rows, columns = np.nonzero(inside)
    if len(rows) < 3:
        return False
    minor, major = np.sqrt(np.maximum(np.linalg.eigvalsh(np.cov(rows, columns)), 1 / 12))
    return major > LEAST_ELONGATION * minor and major * np.sqrt(12) > LEAST_LENGTH * fwhm


def _cover(covered, place, inside):
    """Mark the pixels of a source, and those around."""
    growth = max(1, int(GROWTH * np.sqrt(inside.sum() / np.pi)))
    window = tuple(slice(max(s.start - growth, 0), s.stop + growth) for s in place)
    padding = [(s.start - w.start, 0) for s, w in zip(place, window, strict=True)]
    target = covered[window]
    padding = [(b, side - b - n) for (b, _), side, n in zip(padding, target.shape, inside.shape, strict=True)]
    grown = np.pad(inside, padding)
    if growth > 1:
        target |= ndimage.distance_transform_edt(~grown) <= growth
    else:
        target |= ndimage.binary_dilation(grown)
