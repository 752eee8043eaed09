"""Trails of satellites and asteroids across images: where they are, and which pixels they spoil."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from astropy.io.fits import Header
from astropy.wcs import WCS

from ztf_sg.checks import filled, is_number
from ztf_sg.streaks import trail_profile as profile
from ztf_sg.streaks.flash_rows import find_rows
from ztf_sg.streaks.lines import line_segments
from ztf_sg.streaks.no_data import HUGE, known_pixels
from ztf_sg.streaks.sky_pixels import FWHM_PER_SIGMA, prepare_sky
from ztf_sg.ztf import PIXEL_SCALE

COLUMNS = (
    "x1", "y1", "x2", "y2", "ra1", "dec1", "ra2", "dec2", "length", "angle", "width", "surface_brightness",
    "surface_magnitude", "snr", "dotted", "spacing",
)  # fmt: skip
SMALLEST = 32  # height and width of an image [px]
WIDEST_PSF = 30.0  # FWHM of an image that is one of the sky [px]
BLUR = 1.15  # width of the lines looked for [width of point sources]
FLASH_STEPS = (2.5, 28.0)  # range of the distance between flashes that look like stars [FWHM]
MIN_SEGMENT_SNR = 5.8  # of a segment that is looked at more closely
PROMISING = 0.75  # share of the signal-to-noise ratio of a trail that a segment must have
MIN_SNR = 7.5  # of a trail; in simulated quadrants false ones are seen up to 7.3
BRIGHT_SNR = 8.0  # of a line that has more light than the few faint sources that lie along it by chance
SHORTEST_TRAIL = 40.0  # [px]
NARROWEST = 0.65  # FWHM of a trail at least [FWHM of point sources]; bad pixels are narrower
COLUMN_DRIFT = 4.0  # a trail within so many columns over all its length is a fault of the detector [px]
COLUMN_WIDTHS = 1.5  # or within so many of its widths: its line may cross a broad fault from side to side
OUTLIER = 3.0  # by how much a part of a trail may exceed the typical one and count [sigma]
EVEN_PARTS = 4  # into which a trail is divided; each must show light
EVENNESS = 0.25  # of the brightness of a part, at least, relative to that of the whole
SPIKE_REACH = 4.0  # a trail through a star must be seen so far from it [reach of its mask]
SPIKE_OFFSET = 0.03  # how far from the star's middle the line of a spike is at most, relative to that
SPIKE_FADING = 0.6  # brightness of the far half of a trail through a star at least, relative to the near
MASKED_LIGHT = 0.25  # the mask reaches to where a trail is this bright [noise]
SPOILED = 2.0  # half the width of the mask at least [FWHM of the trail]


@dataclass(frozen=True, eq=False)
class Trails:
    """The trails of an image.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per trail, the one of the highest signal-to-noise ratio first. x1, y1, x2, y2: its ends [px],
        0 at the centre of the first pixel; ra1, dec1, ra2, dec2 [deg, ICRS], NaN without a WCS; length [px]
        between the ends; angle [deg], counter-clockwise from +x, 0 <= angle < 180; width: FWHM across [px];
        surface_brightness of its ridge [DN/px], averaged along it; surface_magnitude, the same
        [mag/arcsec^2], NaN without a zero point; snr of all light along the line; dotted, bool, whether it is
        made of flashes; spacing of these [arcsec], NaN for a continuous one.
    mask : numpy.ndarray of bool (height, width)
        Pixels to leave out of photometry.
    bad_columns : numpy.ndarray of int
        Columns of the detector that are too bright or too dark, in all of their rows or from one of them to
        an edge; they are no trails.
    """

    table: pd.DataFrame
    mask: np.ndarray
    bad_columns: np.ndarray

    def __len__(self):
        return len(self.table)


def find_trails(image, header=None, fwhm=None):
    """Find the trails of moving objects in a science image.

    Straight lines of light are looked for along all directions, from a few ten pixels long to across the
    image, once its stars and galaxies are masked. What is narrower than point sources, lies along a column
    or fades along its way, as the spikes of stars do, is no trail.

    Parameters
    ----------
    image : array-like (height, width)
        Pixels [DN], from 32 px to a quadrant of 3072 x 3080 px; NaN where there is no data. Wide areas of
        pixels that are alike from an edge on have none.
    header : astropy.io.fits.Header, optional
        Header of the image, for positions on the sky (WCS), magnitudes (MAGZP), the width of the
        point-spread function (SEEING) and the level of saturation (SATURATE). What is not there, or makes no
        sense, is done without.
    fwhm : float, optional
        FWHM of the point-spread function [px]; SEEING if it is left out, or measured by the image's stars.

    Returns
    -------
    Trails

    Raises
    ------
    TypeError
        If the header is neither a header nor a mapping.
    ValueError
        If the image is none, is too small or has hardly any data, or `fwhm` is no number above 0 and up to
        30.

    Warns
    -----
    UserWarning
        If the WCS of the header cannot be used.

    Examples
    --------
    >>> import numpy as np
    >>> image = 200 + np.random.default_rng(1).normal(0, 6, (128, 128))
    >>> image[60:63] += 15
    >>> find_trails(image, fwhm=2.5).table[["y1", "y2"]].round().to_numpy().tolist()
    [[61.0, 61.0]]
    """
    image = _checked_image(image)
    header = {} if header is None else header
    if not isinstance(header, Header | Mapping):
        raise TypeError(f"header: expected an astropy.io.fits.Header, got {type(header).__name__}")
    sky = prepare_sky(image, _checked_fwhm(fwhm, header), _saturation(header))
    found = _search(sky)
    table = pd.DataFrame([_row(trail, sky, header) for trail in found], columns=list(COLUMNS))
    table = table.astype({"dotted": bool}).sort_values("snr", ascending=False, ignore_index=True)
    return Trails(_add_positions(table, header), trail_mask(found, sky), sky.bad_columns)


@dataclass(frozen=True, eq=False)
class _Trail:
    """A trail as it was found: lengths in px, brightness in units of the noise."""

    line: profile.Line
    width: float
    ridge: float
    snr: float
    period: float


def _checked_image(image):
    """Return an image as float32 with NaN where there is no data."""
    image = np.asarray(filled(image))
    if image.ndim != 2 or min(image.shape) < SMALLEST or image.dtype.kind not in "fiu":
        raise ValueError(
            f"image: expected real numbers of shape (height, width) from {SMALLEST} px, got {image.dtype} of "
            f"shape {image.shape}"
        )
    with np.errstate(over="ignore"):
        image = image.astype(np.float32)
    return known_pixels(image[None])[0]


def _checked_fwhm(fwhm, header):
    """Return a FWHM [px], that of the header by default, None if there is none."""
    if fwhm is None:
        seeing = _number(header, "SEEING", np.nan)
        return seeing if 0 < seeing <= WIDEST_PSF else None
    if not (is_number(fwhm) and 0 < fwhm <= WIDEST_PSF):
        raise ValueError(
            f"fwhm={fwhm!r}: expected a number above 0 and up to {WIDEST_PSF:g} [px], or None to measure it"
        )
    return float(fwhm)


def _saturation(header):
    """Return the level of saturation of a header [DN]; infinity if it states none, which some do by 0."""
    level = _number(header, "SATURATE", 0.0)
    return level if 0 < level < HUGE else np.inf


def _number(header, key, default):
    """Return a number of a header, or the default if there is none."""
    value = header.get(key, default)
    return float(value) if is_number(value) else default


def _search(sky):
    """Return the trails of an image; each hides its pixels from the next ones."""
    usable, sigma = sky.is_sky.copy(), BLUR * sky.fwhm / FWHM_PER_SIGMA
    found = _flashing_trails(usable, sky, sigma)
    values, tried = np.clip(sky.values, -profile.CLIP, profile.CLIP), []
    for _, *ends in line_segments(np.where(usable, values, 0), usable, sigma, MIN_SEGMENT_SNR):
        line = profile.Line.between(*ends)
        if _lies_on(line, tried, sky.fwhm) or not _is_promising(line, usable, values, sigma):
            continue
        tried.append(line)
        trail = _measure(line, usable, sky, sigma, profile.BLOCK)
        if trail is not None:
            _hide(trail, usable)
            if _is_trail(trail, sky):
                found.append(trail)
    return found


def _flashing_trails(usable, sky, sigma):
    """Return the trails of bright flashes, which were taken for stars; they are hidden from now on."""
    found, tried = [], []
    for ends, step in zip(*find_rows(sky.points, *(np.array(FLASH_STEPS) * sky.fwhm), sky.fwhm), strict=True):
        line = profile.Line.between(*ends)
        if _lies_on(line, tried, 2 * sky.fwhm):
            continue
        trail = _measure_flashes(line, usable, sky, sigma, step)
        tried.append(line if trail is None else trail.line)
        if trail is not None and np.isfinite(trail.period) and _is_trail(trail, sky):
            found.append(trail)
            _hide(trail, usable)
    return found


def _measure_flashes(line, usable, sky, sigma, step):
    """Return the trail that a row of sources is a part of, None if there is none; it may grow each time."""
    for _ in range(profile.ROUNDS):
        band = profile.pixels_near(line, sky.has_data, sky.values, line.length, line.length, 2 * sky.fwhm)
        is_flash = usable.copy()
        is_flash[band.rows, band.columns] = True
        trail = _measure(line, is_flash, sky, sigma, max(step, profile.BLOCK))
        if trail is None or trail.line.length < 1.2 * line.length:
            break
        line = trail.line
    return trail


def _lies_on(line, others, tolerance):
    """Tell whether a line is a part of one of others, to within a tolerance [px]."""
    for other in others:
        c, s = np.cos(other.direction), np.sin(other.direction)
        for x, y in (line.point(0), line.point(line.length)):
            dx, dy = x - other.x, y - other.y
            along, across = dx * c + dy * s, dy * c - dx * s
            if abs(across) > tolerance or not -tolerance < along < other.length + tolerance:
                break
        else:
            return True
    return False


def _is_promising(line, usable, values, sigma):
    """Tell whether a segment has light along all of its way, and not only in a few places."""
    band = profile.pixels_near(line, usable, values, reach=int(np.ceil(4 * sigma)))
    parts = max(int(line.length / profile.BLOCK), EVEN_PARTS)
    number = np.minimum((band.along / line.length * parts).astype(int), parts - 1)
    weight = np.exp(-0.5 * (band.across / sigma) ** 2)
    light, squares = (np.bincount(number, array, parts) for array in (weight * band.values, weight**2))
    has_data = squares > 0
    light, squares = light[has_data], squares[has_data]
    return _robust_snr(light / squares, 1 / squares) > PROMISING * MIN_SNR


def _measure(line, usable, sky, sigma, block):
    """Return the trail of which a segment is a part, None if there is no light beyond the noise.

    Its ends are found by parts of `block` px.
    """
    for _ in range(profile.ROUNDS):
        n_before = int(np.ceil(line.length / block))
        beyond = n_before * block
        line = profile.fit_line(line, usable, sky.values, sigma)
        band = profile.pixels_near(line, usable, sky.values, beyond, beyond)
        parts = profile.along_profile(band, sigma, block, -beyond, 3 * n_before)
        first, last = profile.find_ends(*parts, slice(n_before, 2 * n_before))
        new = line.part(first * block - beyond, last * block - beyond)
        if new.length < SHORTEST_TRAIL:
            return None
        moved = max(abs(a - b) for a, b in zip(new.ends, line.ends, strict=True))
        line = new
        if moved < block:
            break
    if block == profile.BLOCK:
        line = _with_fine_ends(line, usable, sky, sigma)
    return _described(line, usable, sky, block) if line.length > SHORTEST_TRAIL else None


def _with_fine_ends(line, usable, sky, sigma):
    """Return a line with its ends found anew, by parts of `profile.FINE` px."""
    around, step = 2 * profile.BLOCK, profile.FINE
    band = profile.pixels_near(line, usable, sky.values, around, around)
    n, skipped = int((line.length + 2 * around) / step), 2 * around // step
    parts = profile.along_profile(band, sigma, step, -around, n)
    first, last = profile.find_ends(*parts, slice(skipped, n - skipped))
    return line.part(first * step - around, last * step - around)


def _described(line, usable, sky, block):
    """Return the trail along a line; None unless it has light in all of its parts."""
    band = profile.pixels_near(line, usable, sky.values)
    if not len(band.values):
        return None
    width, ridge = profile.fit_width(*profile.across_profile(band, line.length), sky.fwhm)
    sigma = np.clip(width, 0.5 * sky.fwhm, profile.WIDEST * sky.fwhm) / FWHM_PER_SIGMA
    parts = _parts(line, band, sigma, block)
    snr = _robust_snr(*parts)
    if snr < MIN_SNR or _is_uneven(*parts) or _is_spike(line, band, sigma, sky.stars):
        return None
    fine = profile.along_profile(band, sigma, profile.FINE, 0, int(line.length / profile.FINE))
    period = profile.find_period(*fine, profile.FINE, sky.fwhm)
    if np.isnan(period) and snr < BRIGHT_SNR and _is_made_of_sources(line, usable, sky, sigma, block, parts):
        return None
    return _Trail(line, width, ridge, snr, period)


def _parts(line, band, sigma, block):
    """Return brightness and variance of parts of a line of about `block` px."""
    n = max(int(line.length / block), EVEN_PARTS)
    return profile.along_profile(band, sigma, line.length / n, 0, n)


def _is_made_of_sources(line, usable, sky, sigma, block, parts):
    """Tell whether a line is fainter than trails are once the faint sources along it are left out.

    Some of these lie along a line by chance. What is left of its weight must be as bright as that of a trail.
    """
    empty = profile.pixels_near(line, usable & sky.is_empty, sky.values)
    rest = _parts(line, empty, sigma, block)
    left = np.sum(1 / rest[1]) / np.sum(1 / parts[1])
    return _robust_snr(*rest) < MIN_SNR * np.sqrt(left)


def _is_uneven(brightness, variance):
    """Tell whether a part of a line has much less light than the whole."""
    whole = _weighted_mean(brightness, variance)
    divided = (np.array_split(array, EVEN_PARTS) for array in (brightness, variance))
    parts = [_weighted_mean(*part) for part in zip(*divided, strict=True)]
    return any(part < EVENNESS * whole for part in parts)


def _is_spike(line, band, sigma, stars):
    """Tell whether the light of a line through a bright star is that of the star."""
    c, s = np.cos(line.direction), np.sin(line.direction)
    dx, dy = stars[:, 0] - line.x, stars[:, 1] - line.y
    along, across, reach = dx * c + dy * s, dy * c - dx * s, SPIKE_REACH * stars[:, 2]
    through = (np.abs(across) < SPIKE_OFFSET * reach) & (along > -reach) & (along < line.length + reach)
    weight = np.exp(-0.5 * (band.across / sigma) ** 2)
    light, squares = weight * band.values, weight**2
    for place, star_reach in zip(along[through], reach[through], strict=True):
        distance = np.abs(band.along - place)
        outside = distance > star_reach
        if np.sum(light[outside]) <= MIN_SNR * np.sqrt(np.sum(squares[outside])):
            return True
        beside = distance > star_reach / 2
        is_far = distance > np.median(distance[beside])
        near, far = (np.sum(light[part]) / np.sum(squares[part]) for part in (beside & ~is_far, is_far))
        if far < SPIKE_FADING * near:
            return True
    return False


def _weighted_mean(brightness, variance):
    """Return the mean brightness; NaN without data."""
    weights = 1 / variance
    return np.sum(brightness * weights) / np.sum(weights) if weights.any() else np.nan


def _robust_snr(brightness, variance):
    """Return the signal-to-noise ratio of a line, to which no single part contributes much."""
    has_data = np.isfinite(variance)
    if not has_data.any():
        return 0.0
    snr = brightness[has_data] / np.sqrt(variance[has_data])
    capped = np.minimum(snr, max(np.median(snr), 0) + OUTLIER)
    weights = 1 / np.sqrt(variance[has_data])
    return np.sum(capped * weights) / np.sqrt(np.sum(weights**2))


def _is_trail(trail, sky):
    """Tell whether a line of light is wide enough, and does not lie along a column of the detector."""
    x1, _, x2, _ = trail.line.ends
    wide_enough = NARROWEST * sky.fwhm < trail.width < profile.WIDEST * sky.fwhm
    return wide_enough and abs(x1 - x2) > max(COLUMN_DRIFT, COLUMN_WIDTHS * trail.width)


def _half_width(trail):
    """Return how far from the ridge of a trail its light matters [px]."""
    sigma = trail.width / FWHM_PER_SIGMA
    faint = sigma * np.sqrt(2 * np.log(max(trail.ridge / MASKED_LIGHT, 1.0)))
    # beyond its core the profile of stars falls by a power of the distance, of about 3
    wings = 0.5 * trail.width * np.cbrt(max(trail.ridge / MASKED_LIGHT, 1.0))
    return max(SPOILED * trail.width, faint, min(wings, 15 * trail.width))


def _pixels_of(trail, shape):
    """Return rows and columns of the pixels that a trail covers."""
    half = _half_width(trail)
    everything = np.broadcast_to(np.True_, shape)
    values = np.broadcast_to(np.float32(0), shape)
    band = profile.pixels_near(trail.line, everything, values, half, half, int(np.ceil(half)))
    return band.rows, band.columns


def _hide(trail, usable):
    usable[_pixels_of(trail, usable.shape)] = False


def trail_mask(trails, sky):
    """Return which pixels trails cover, bool (height, width)."""
    mask = np.zeros(sky.values.shape, dtype=bool)
    for trail in trails:
        mask[_pixels_of(trail, mask.shape)] = True
    return mask


def _row(trail, sky, header):
    """Return the row of a trail."""
    x1, y1, x2, y2 = trail.line.ends
    row, column = (
        int(np.clip(round(middle), 0, side - 1))
        for middle, side in zip(((y1 + y2) / 2, (x1 + x2) / 2), sky.values.shape, strict=True)
    )
    brightness = float(trail.ridge * sky.noise[row, column])
    zero_point = _number(header, "MAGZP", np.nan)
    return {
        "x1": x1, "y1": y1, "x2": x2, "y2": y2,
        "length": trail.line.length, "angle": float(np.degrees(trail.line.direction) % 180),
        "width": trail.width, "surface_brightness": brightness,
        "surface_magnitude": zero_point - 2.5 * np.log10(brightness / PIXEL_SCALE**2),
        "snr": trail.snr, "dotted": bool(np.isfinite(trail.period)), "spacing": trail.period * PIXEL_SCALE,
    }  # fmt: skip


def _add_positions(table, header):
    """Return the table with the positions of the ends [deg], by the WCS of a header."""
    table[["ra1", "dec1", "ra2", "dec2"]] = np.nan
    if not len(table) or not header:
        return table
    try:
        wcs = WCS(header).celestial
        for end in "12" if wcs.has_celestial else "":
            position = wcs.pixel_to_world(*table[[f"x{end}", f"y{end}"]].to_numpy().T).icrs
            table[f"ra{end}"], table[f"dec{end}"] = position.ra.deg, position.dec.deg
    except Exception as error:  # of wcslib, of many kinds
        reason = " ".join(str(error).split())
        warnings.warn(f"the trails have no positions: the WCS cannot be used ({reason})", stacklevel=3)
    return table
