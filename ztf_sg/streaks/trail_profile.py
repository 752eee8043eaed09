"""The shape of a trail in an image: its line, its profiles across and along, its ends and its flashes."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize

from ztf_sg.compilation import compiled

CLIP = 4.0  # of pixels that are not as bright as the trail [sigma]
REACH = 20  # how far from a line its profile across is measured [px]
BLOCK = 8  # of the profile along a line, of which the ends are made [px]
SKY_PARTS = 5  # neighbouring parts of a profile along a line, by which the sky beside each is measured
ROUNDS = 8  # of fitting a line and finding its ends
CAP = 3.0  # by how much the brightness of a part counts that exceeds the typical one [sigma]
TILT_STEPS = np.arange(-3, 3.5, 1.0)  # of the ends of a line, tried before it is fitted [px]
WIDEST = 4.0  # FWHM of a trail at most, beside that of point sources [FWHM of these]
FINE = 2  # of the profile along a line, that flashes are looked for in [px]
FLASH_SIGNIFICANCE = 6.0  # of the autocorrelation of flashes [sigma]
FLASH_DEPTH = 0.35  # scatter of the brightness of flashes along a trail, relative to its mean
SHORTEST_PERIOD, FEWEST_PERIODS = 2.0, 3.0  # of flashes [FWHM], and along the trail
NEARLY_HIGHEST = 0.75  # the first peak of an autocorrelation that is so high, relative to the highest


@dataclass(frozen=True)
class Line:
    """A segment of a line from (x, y) [px], in a direction [rad], of a length [px]."""

    x: float
    y: float
    direction: float
    length: float

    @classmethod
    def between(cls, x1, y1, x2, y2):
        """Return the line from one point to another."""
        return cls(x1, y1, np.arctan2(y2 - y1, x2 - x1), np.hypot(x2 - x1, y2 - y1))

    def point(self, along, across=0.0):
        """Return x and y [px] of a point, so far along the line and to the left of it [px]."""
        c, s = np.cos(self.direction), np.sin(self.direction)
        return self.x + along * c - across * s, self.y + along * s + across * c

    @property
    def ends(self):
        """The ends x1, y1, x2, y2 [px]."""
        return (*self.point(0), *self.point(self.length))

    def part(self, first, last):
        """Return the part from `first` to `last` [px along the line]."""
        return replace(self, x=self.point(first)[0], y=self.point(first)[1], length=last - first)

    def tilted(self, first, last):
        """Return the line with its ends moved to the left [px]."""
        return Line.between(*self.point(0, first), *self.point(self.length, last))


@dataclass(frozen=True, eq=False)
class Band:
    """The n pixels with data near a line: values [noise], distances along and across it [px]."""

    values: np.ndarray
    along: np.ndarray
    across: np.ndarray
    rows: np.ndarray
    columns: np.ndarray


def pixels_near(line, usable, values, before=0.0, after=0.0, reach=REACH):
    """Return the :class:`Band` of usable pixels around a line, and so far beyond its ends [px]."""
    rows, columns = _places_near(line.part(-before, line.length + after), usable.shape, reach)
    keep = usable[rows, columns]
    rows, columns = rows[keep], columns[keep]
    c, s = np.cos(line.direction), np.sin(line.direction)
    dx, dy = columns - line.x, rows - line.y
    along, across = dx * c + dy * s, dy * c - dx * s
    keep = (along >= -before) & (along <= line.length + after) & (np.abs(across) <= reach)
    return Band(
        values[rows[keep], columns[keep]].astype(float), along[keep], across[keep], rows[keep], columns[keep]
    )


def _places_near(line, shape, reach):
    """Return rows and columns of the pixels of an image within a parallelogram around a line."""
    x1, y1, x2, y2 = line.ends
    steep = abs(y2 - y1) > abs(x2 - x1)
    (a1, b1), (a2, b2) = ((y1, x1), (y2, x2)) if steep else ((x1, y1), (x2, y2))
    if a1 > a2:
        a1, b1, a2, b2 = a2, b2, a1, b1
    sides = shape if steep else shape[::-1]
    slope = (b2 - b1) / max(a2 - a1, 1e-9)
    margin = int(np.ceil(reach * np.hypot(1, slope)))
    first, last = max(int(a1 - reach), 0), min(int(np.ceil(a2 + reach)), sides[0] - 1)
    major = np.arange(first, last + 1)[:, None]
    minor = np.round(b1 + slope * (major - a1)).astype(int) + np.arange(-margin, margin + 1)
    major = np.broadcast_to(major, minor.shape)
    inside = (minor >= 0) & (minor < sides[1])
    major, minor = major[inside], minor[inside]
    return (major, minor) if steep else (minor, major)


def fit_line(line, usable, values, sigma):
    """Return the line moved and turned to where most light is under a Gaussian profile."""
    band = pixels_near(line, usable, values, reach=4 * sigma + TILT_STEPS.max())
    values = np.clip(band.values, -CLIP, _brightest(band, sigma))
    share = band.along / line.length

    def missing(ends):
        return -_light_under(values, share, band.across, ends[0], ends[1], sigma)

    start = min(((a, b) for a in TILT_STEPS for b in TILT_STEPS), key=missing)
    simplex = np.array([start, np.add(start, (0.7, 0)), np.add(start, (0, 0.7))])
    best = minimize(missing, start, method="Nelder-Mead", options={"initial_simplex": simplex, "xatol": 0.01})
    return line.tilted(*best.x)


def _brightest(band, radius):
    """Return the value above which pixels of a band are not those of its trail [noise]."""
    near = np.abs(band.across) < radius
    if not near.any():
        return CLIP
    ridge, flashes = np.percentile(band.values[near], [75, 97])
    return max(CLIP, 3 * ridge, flashes)


@compiled
def _light_under(values, share, across, first, last, sigma):
    """Return the signal-to-noise ratio of the light under a Gaussian profile around a moved line."""
    light, variance = 0.0, 1e-9
    for k in range(len(values)):
        distance = (across[k] - first - share[k] * (last - first)) / sigma
        if abs(distance) < 4:
            weight = np.exp(-0.5 * distance**2)
            light += weight * values[k]
            variance += weight**2
    return light / np.sqrt(variance)


def along_profile(band, sigma, step, first, n):
    """Return the brightness of n parts of a line, of `step` px each from `first` on, and their variances.

    The brightness is that of the ridge of a Gaussian profile, in units of the noise; the sky beside the line
    is subtracted, whose own noise counts, too. Parts without data have infinite variance.
    """
    number = np.floor((band.along - first) / step).astype(int)
    inside = (number >= 0) & (number < n)
    weight = np.exp(-0.5 * (band.across / sigma) ** 2)
    beside = np.abs(band.across) > 4 * sigma
    around = beside * np.clip(band.values, -CLIP, CLIP)
    sums = [
        np.bincount(number[inside], quantity[inside], n)
        for quantity in (weight * band.values, weight**2, weight, around, beside)
    ]
    light, squares, weights, sky, n_sky = sums
    n_sky = np.maximum(_smooth(n_sky), 1)
    level = _smooth(sky) / n_sky
    least = 0.3 * step * sigma * np.sqrt(np.pi)
    has_data = squares > least
    squares = np.where(has_data, squares, 1.0)
    # neighbours share their sky: each counts with the variance of a fifth of it, so that their sum is right
    variance = 1 / squares + (weights / squares) ** 2 * SKY_PARTS / n_sky
    return (light - level * weights) / squares, np.where(has_data, variance, np.inf)


def _smooth(sums):
    """Return the sums of `SKY_PARTS` neighbours each."""
    return np.convolve(sums, np.ones(SKY_PARTS))[SKY_PARTS // 2 : -(SKY_PARTS // 2)]


def find_ends(brightness, variance, inside):
    """Return the first part that belongs to a trail and the one after the last, as is most likely.

    Parameters
    ----------
    brightness, variance : numpy.ndarray (n,)
        As of `along_profile`.
    inside : slice
        Parts that are known to be inside, by which the brightness of the whole is known.
    """
    weights = 1 / variance
    allowed = CAP * np.sqrt(variance)
    common = np.minimum(brightness, np.median(brightness[inside]) + allowed)
    typical = np.sum(common[inside] * weights[inside]) / max(np.sum(weights[inside]), 1e-30)
    capped = np.minimum(brightness, typical + allowed)
    gain = np.where(np.isfinite(variance), typical * (capped - typical / 2) * weights, 0.0)
    total = np.concatenate([[0.0], np.cumsum(gain)])
    rise = total - np.minimum.accumulate(total)
    last = int(np.argmax(rise))
    return last - int(np.argmin(total[last::-1])), last


def across_profile(band, length):
    """Return the profile across a line: distances [px], mean values [noise] and their errors, by 1 px."""
    inside = (band.along >= 0) & (band.along <= length)
    number = np.round(band.across[inside]).astype(int) + REACH
    values = np.clip(band.values[inside], -CLIP, _brightest(band, 2.0))
    counts = np.bincount(number, minlength=2 * REACH + 1)
    means = np.bincount(number, values, 2 * REACH + 1) / np.maximum(counts, 1)
    return np.arange(-REACH, REACH + 1), means, 1 / np.sqrt(np.maximum(counts, 1e-9))


def fit_width(distance, means, errors, fwhm):
    """Return FWHM [px] and ridge [noise] of a Gaussian profile on a level, fitted to a profile across.

    The FWHM is the best of a fine grid of them, as ridge and level are then linear.
    """
    widths = fwhm * np.geomspace(0.3, 2 * WIDEST, 80)
    weights = 1 / errors**2
    profiles = np.exp(-4 * np.log(2) * (distance / widths[:, None]) ** 2)
    centred = profiles - (profiles @ weights / weights.sum())[:, None]
    power = centred**2 @ weights
    ridges = centred @ (weights * means) / power
    best = int(np.argmax(np.maximum(ridges, 0) ** 2 * power))
    return widths[best], ridges[best]


def find_period(brightness, variance, step, fwhm):
    """Return the spacing of flashes along a trail [px], NaN if its light is continuous."""
    has_data = np.isfinite(variance)
    n = int(has_data.sum())
    if n < 12:
        return np.nan
    noise = np.mean(variance[has_data])
    mean = np.mean(brightness[has_data])
    excess = np.where(has_data, np.clip(brightness, None, 6 * max(mean, np.sqrt(noise))) - mean, 0.0)
    depth = np.sqrt(max(np.mean(excess[has_data] ** 2) - noise, 0)) / max(mean, 1e-9)
    if depth < FLASH_DEPTH:
        return np.nan
    length = len(excess)
    power = np.abs(np.fft.rfft(excess, 2 * length)) ** 2
    correlation = np.fft.irfft(power)[:length]
    pairs = np.fft.irfft(np.abs(np.fft.rfft(has_data.astype(float), 2 * length)) ** 2)[:length]
    correlation = correlation / np.maximum(pairs, 1) / (correlation[0] / pairs[0])
    low, high = int(np.ceil(SHORTEST_PERIOD * fwhm / step)), int(length / FEWEST_PERIODS)
    inner = np.arange(max(low, 1), max(high, low + 1))
    inner = inner[(inner > 0) & (inner < length - 1)]
    is_peak = (correlation[inner] >= correlation[inner - 1]) & (correlation[inner] >= correlation[inner + 1])
    peaks = inner[is_peak & (correlation[inner] * np.sqrt(np.maximum(pairs[inner], 1)) > FLASH_SIGNIFICANCE)]
    if not len(peaks):
        return np.nan
    first = peaks[correlation[peaks] >= NEARLY_HIGHEST * correlation[peaks].max()][0]
    return step * _vertex(correlation, first)


def _vertex(values, peak):
    """Return the place of the top of a parabola through a peak and its neighbours."""
    before, top, after = values[peak - 1 : peak + 2]
    curvature = before - 2 * top + after
    return peak + (0.5 * (before - after) / curvature if curvature < 0 else 0.0)
