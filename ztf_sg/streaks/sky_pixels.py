"""The pixels of an image that show the sky alone, in units of their noise, and those that sources cover."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

MESH = 64  # the background and its noise are measured in boxes of this size [px]
FEWEST_PIXELS = 64  # of a box, that it is measured in
CLIP_SIGMA, CLIP_ROUNDS = 3.0, 3
SOURCE_PEAK, SOURCE_EDGE = 5.0, 2.0  # of a smoothed source, its peak and where it ends [sigma]
LEAST_ELONGATION = 4.0  # of the axes of what may be a trail and is no source
LEAST_LENGTH = 6.0  # and its length [FWHM]
GROWTH = 0.4  # by which share of its radius a source is masked beyond its edge
BRIGHTER = 4.0  # a part of a trail that is so many times brighter than the rest is a source in its way
BAD_COLUMN = 7.0  # of the median of a column [sigma]
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
    is_sky : numpy.ndarray (height, width), bool
        Pixels with data that no source covers.
    noise : numpy.ndarray (height, width), float32
        Standard deviation of the sky [DN].
    bad_columns : numpy.ndarray of int
    fwhm : float
        FWHM of the point-spread function [px].
    """

    values: np.ndarray
    is_sky: np.ndarray
    noise: np.ndarray
    bad_columns: np.ndarray
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
    values = np.where(has_data, (image - background) / noise, 0).astype(np.float32)
    bad_columns = find_bad_columns(values, has_data)
    has_data[:, bad_columns] = False
    values[~has_data] = 0
    fwhm = measure_fwhm(values) if fwhm is None else fwhm
    sources = mask_sources(values, fwhm, image >= saturate)
    return SkyPixels(values, has_data & ~sources, noise, bad_columns, fwhm)


def background_and_noise(image):
    """Return the background of an image and its noise [DN], float32 (height, width) each.

    They are clipped medians and scatters of boxes of `MESH` px, smoothed over 3 x 3 boxes, and linear in
    between.
    """
    shape = np.maximum(np.round(np.array(image.shape) / MESH).astype(int), 1)
    edges = [np.linspace(0, side, n + 1).astype(int) for side, n in zip(image.shape, shape, strict=True)]
    measured = np.full((2, *shape), np.nan)
    for row, column in np.ndindex(*shape):
        box = image[edges[0][row] : edges[0][row + 1], edges[1][column] : edges[1][column + 1]]
        measured[:, row, column] = _clipped(box[np.isfinite(box)])
    middles = [(np.arange(side) + 0.5) * n / side - 0.5 for side, n in zip(image.shape, shape, strict=True)]
    return [_interpolated(_smoothed(layer), *middles) for layer in measured]


def _clipped(pixels):
    """Return median and scatter of pixels, clipped; NaN if they are too few."""
    for _ in range(CLIP_ROUNDS):
        if len(pixels) < FEWEST_PIXELS:
            return np.nan, np.nan
        low, middle, high = np.percentile(pixels, [15.865, 50, 84.135])
        scatter = min((high - low) / 2, middle - low)  # sources raise the upper half
        pixels = pixels[np.abs(pixels - middle) <= CLIP_SIGMA * max(scatter, 1e-30)]
    return middle, scatter


def _smoothed(layer):
    """Return the medians of 3 x 3 boxes; boxes without a value have that of the nearest one."""
    missing = ~np.isfinite(layer)
    if missing.all():
        raise ValueError(f"the image has no box of {MESH} px with {FEWEST_PIXELS} pixels of data")
    nearest = ndimage.distance_transform_edt(missing, return_distances=False, return_indices=True)
    return ndimage.median_filter(layer[tuple(nearest)], 3, mode="nearest")


def _interpolated(layer, rows, columns):
    """Return a layer at rows and columns of its boxes, linear in between, float32."""
    def weights(places, n):
        low = np.clip(np.floor(places).astype(int), 0, max(n - 2, 0))
        high = np.minimum(low + 1, n - 1)
        return low, high, np.clip(places - low, -0.5, 1.5)

    low, high, share = weights(rows, layer.shape[0])
    layer = layer[low] * (1 - share)[:, None] + layer[high] * share[:, None]
    low, high, share = weights(columns, layer.shape[1])
    return (layer[:, low] * (1 - share) + layer[:, high] * share).astype(np.float32)


def find_bad_columns(values, has_data):
    """Return the numbers of columns whose upper and lower half are both too bright, or both too dark."""
    halves = np.array_split(np.arange(len(values)), 2)
    excess = []
    for rows in halves:
        part = np.where(has_data[rows], values[rows], np.nan)
        n = np.maximum(has_data[rows].sum(axis=0), 1)
        median = np.nan_to_num(_column_medians(part))
        excess.append(median * np.sqrt(n) / 1.2533)
    lower, upper = excess
    same = np.sign(lower) == np.sign(upper)
    return np.flatnonzero(same & (np.minimum(np.abs(lower), np.abs(upper)) > BAD_COLUMN / np.sqrt(2)))


def _column_medians(part):
    """Return the medians of columns, those without data NaN."""
    empty = np.isnan(part).all(axis=0)
    medians = np.full(part.shape[1], np.nan)
    medians[~empty] = np.nanmedian(part[:, ~empty], axis=0)
    return medians


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
    """Return which pixels are covered by sources: all that is bright and not as long and straight as a trail.

    A source reaches from its peak to where its smoothed light is lost in the noise, and as bright ones shine
    farther, by a share of its radius beyond.
    """
    sigma = fwhm / FWHM_PER_SIGMA
    smooth = ndimage.gaussian_filter(values, sigma) * np.float32(2 * np.sqrt(np.pi) * sigma)
    labels, n = ndimage.label(smooth > SOURCE_EDGE, structure=np.ones((3, 3)))
    covered = np.zeros(values.shape, dtype=bool)
    if not n:
        return covered
    peaks = ndimage.maximum(smooth, labels, np.arange(1, n + 1))
    places = ndimage.find_objects(labels)
    for number in np.flatnonzero(peaks > SOURCE_PEAK):
        place = places[number]
        inside = labels[place] == number + 1
        if not is_saturated[place][inside].any() and is_elongated(inside, fwhm):
            light = smooth[place]
            inside &= light > BRIGHTER * np.percentile(light[inside], 75)
        _cover(covered, place, inside)
    return covered


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
