"""The trailed point-spread function fitted to stamps, and how exactly that can be done at all.

The light of a source that moves evenly is the point-spread function convolved with a segment, and with the
pixel (Veres et al. 2012, PASP 124, 1197). The point-spread function is a Gaussian here, of variance
``(fwhm / 2.355)**2 + 1 / 12``, the latter that of a pixel. All fluxes are in units of the noise of a pixel.
"""

import math

import numpy as np

from ztf_sg.compilation import compiled, copy_into, inlined

PARAMETERS = ("flux", "x", "y", "width", "length", "angle")
"""Of a trail: [noise], middle [px], standard deviation of its profile [px], [px], [radian]."""
SIGMA_PER_FWHM = 1 / np.sqrt(8 * np.log(2))
PIXEL_VARIANCE = 1 / 12  # [px2]
WIDTH_ERROR = 0.15  # of the natural logarithm of the width that is presumed
WIDTHS = (0.4, 2.5)  # least and greatest width [presumed widths]
SHORT = 0.05  # below this length a trail is a point [widths]
REACH = 3.5  # of the light around the segment [widths]
STEPS = 40  # of the fit, at most
POINT = 4  # number of the parameters that a point has
DONE = 5e-3  # change of chi squared that ends the fit
DAMPING, DAMPED_MOST = 1e-3, 1e6
LEAST_PIVOT = 1e-9  # share of a parameter's information that its own is, at least


@inlined
def _trail(dx, dy, cosine, sine, width, length, gradient):
    """Return the light of a trail of flux 1 at an offset from its middle; fill its gradient (6,)."""
    u, v = dx * cosine + dy * sine, dy * cosine - dx * sine
    across = math.exp(-0.5 * (v / width) ** 2) / (math.sqrt(2 * math.pi) * width)
    if length < SHORT * width:
        along = math.exp(-0.5 * (u / width) ** 2) / (math.sqrt(2 * math.pi) * width)
        light = across * along
        by_u, by_length = -u / width**2 * light, length / 12 * (u**2 / width**4 - 1 / width**2) * light
        by_width = light * ((u**2 + v**2) / width**3 - 2 / width)
    else:
        front, back = (u + length / 2) / width, (u - length / 2) / width
        # the normal distribution at both ends
        there, here = math.exp(-0.5 * front**2), math.exp(-0.5 * back**2)
        along = (_normal_integral(front, there) - _normal_integral(back, here)) / length
        there, here = there / math.sqrt(2 * math.pi), here / math.sqrt(2 * math.pi)
        light = across * along
        by_u = across * (there - here) / (width * length)
        by_length = across * (there + here) / (2 * width * length) - light / length
        by_width = light * (v**2 / width**3 - 1 / width) - across * (front * there - back * here) / (
            width * length
        )
    by_v = -v / width**2 * light
    gradient[0] = light
    gradient[1] = by_v * sine - by_u * cosine
    gradient[2] = -by_u * sine - by_v * cosine
    gradient[3] = by_width
    gradient[4] = by_length
    gradient[5] = by_u * v - by_v * u
    return light


@inlined
def _normal_integral(x, exponential):
    """Return the normal distribution's integral from 0 to x, right to 1e-7; `exponential` is exp(-x**2 / 2).

    Abramowitz & Stegun 1964, formula 7.1.26.
    """
    t = 1 / (1 + 0.3275911 / math.sqrt(2.0) * abs(x))
    tail = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return math.copysign(0.5 - 0.5 * tail * exponential, x)


@compiled
def information(signal, pixels, parameters, count, per_electron, matrix, slope):
    """Fill the Fisher matrix and the slope of half of chi squared for the first `count` parameters.

    Parameters
    ----------
    signal : numpy.ndarray
        Pixels in units of their noise, shape (height, width).
    pixels : numpy.ndarray
        Rows and columns of the pixels that count, shape (m, 2).
    parameters : numpy.ndarray
        `PARAMETERS`, shape (6,).
    per_electron : float
        Variance that a unit of light adds by its photons [noise], 0 for none.
    matrix, slope : numpy.ndarray
        Shape (6, 6) and (6,).

    Returns
    -------
    chi2 : float
    """
    flux, x, y, width, length, angle = parameters
    cosine, sine = math.cos(angle), math.sin(angle)
    matrix[:], slope[:] = 0.0, 0.0
    gradient = np.empty(6)
    chi2 = 0.0
    for n in range(len(pixels)):
        i, j = pixels[n]
        light = flux * _trail(j - x, i - y, cosine, sine, width, length, gradient)
        weight = 1 / (1 + per_electron * max(light, 0.0))
        difference = signal[i, j] - light
        chi2 += weight * difference**2
        for k in range(1, count):
            gradient[k] *= flux
        for k in range(count):
            weighted = weight * gradient[k]
            slope[k] += difference * weighted
            for m in range(k + 1):
                matrix[k, m] += weighted * gradient[m]
    for k in range(count):
        for m in range(k):
            matrix[m, k] = matrix[k, m]
    return chi2


@compiled
def pixels_around(valid, parameters):
    """Return rows and columns (m, 2) of the valid pixels that a trail may light, and some around it."""
    _, x, y, width, length, angle = parameters
    cosine, sine = math.cos(angle), math.sin(angle)
    reach = REACH * width + 1
    half_x, half_y = 0.5 * length * abs(cosine) + reach, 0.5 * length * abs(sine) + reach
    first_row, last_row = max(int(y - half_y), 0), min(int(y + half_y) + 2, valid.shape[0])
    first, last = max(int(x - half_x), 0), min(int(x + half_x) + 2, valid.shape[1])
    found, n = np.empty((max(last_row - first_row, 0) * max(last - first, 0), 2), dtype=np.intp), 0
    for i in range(first_row, last_row):
        for j in range(first, last):
            u, v = (j - x) * cosine + (i - y) * sine, (i - y) * cosine - (j - x) * sine
            beyond = max(abs(u) - length / 2, 0.0)
            if valid[i, j] > 0 and beyond**2 + v**2 <= reach**2:
                found[n, 0], found[n, 1] = i, j
                n += 1
    return found[:n]


@compiled
def fit(signal, pixels, count, per_electron, presumed, parameters, covariance):
    """Fit a trail, or a point with ``count = POINT``, by damped Gauss-Newton steps from some parameters on.

    `parameters` hold the guess before and the fit afterwards; their width is as `presumed` within an error of
    `WIDTH_ERROR`. `covariance`, shape (6, 6), is filled. Arguments as `information`.

    Returns
    -------
    chi2 : float
        Without the term of the width.
    """
    matrix, slope, trial = np.empty((6, 6)), np.empty(6), parameters.copy()
    next_matrix, next_slope = np.empty((6, 6)), np.empty(6)
    chi2 = information(signal, pixels, parameters, count, per_electron, matrix, slope)
    _presume(parameters[3], presumed, matrix, slope)
    total, damping = chi2 + _width_term(parameters[3], presumed), DAMPING
    factor, step = np.zeros((6, 6)), np.zeros(6)
    for _ in range(STEPS):
        _solve(matrix, slope, count, damping, factor, step)
        for k in range(count):
            trial[k] = parameters[k] + step[k]
        _keep_within(trial, presumed, signal.shape)
        trial_chi2 = information(signal, pixels, trial, count, per_electron, next_matrix, next_slope)
        trial_total = trial_chi2 + _width_term(trial[3], presumed)
        if trial_total <= total:
            change = total - trial_total
            chi2, total = trial_chi2, trial_total
            copy_into(parameters, trial)
            copy_into(matrix, next_matrix)
            copy_into(slope, next_slope)
            _presume(parameters[3], presumed, matrix, slope)
            damping = max(damping / 10, 1e-9)
            if change <= DONE:
                break
        else:
            damping *= 10
            if damping > DAMPED_MOST:
                break
    covariance[:] = 0.0
    for k in range(count):
        slope[:] = 0.0
        slope[k] = 1.0
        _solve(matrix, slope, count, 0.0, factor, step)
        copy_into(covariance[k, :count], step[:count])
    return chi2


@compiled
def elongation(signal, pixels, point):
    """Return the direction [radian] in which the light around a fitted point is elongated most.

    It is that of the quadrupole of what the point leaves, along which a short trail fits best.
    """
    flux, x, y, width = point[:POINT]
    along = across = 0.0
    for n in range(len(pixels)):
        dx, dy = pixels[n, 1] - x, pixels[n, 0] - y
        profile = math.exp(-0.5 * (dx**2 + dy**2) / width**2)
        left = signal[pixels[n, 0], pixels[n, 1]] - flux * profile / (2 * math.pi * width**2)
        along += left * profile * (dx**2 - dy**2)
        across += left * profile * 2 * dx * dy
    return 0.5 * math.atan2(across, along)


@compiled
def _solve(matrix, right, count, damping, factor, solution):
    """Fill the solution of the first `count` equations, the diagonal raised by its share `damping`.

    By Cholesky's factor, whose pivots are kept positive.
    """
    for k in range(count):
        for m in range(k + 1):
            value = matrix[k, m]
            if k == m:
                value += damping * matrix[k, k]
            for n in range(m):
                value -= factor[k, n] * factor[m, n]
            if k == m:
                factor[k, k] = math.sqrt(max(value, LEAST_PIVOT * matrix[k, k], 1e-30))
            else:
                factor[k, m] = value / factor[m, m]
    for k in range(count):
        value = right[k]
        for n in range(k):
            value -= factor[k, n] * solution[n]
        solution[k] = value / factor[k, k]
    for k in range(count - 1, -1, -1):
        value = solution[k]
        for n in range(k + 1, count):
            value -= factor[n, k] * solution[n]
        solution[k] = value / factor[k, k]


@inlined
def _width_term(width, presumed):
    return (math.log(width / presumed) / WIDTH_ERROR) ** 2


@inlined
def _presume(width, presumed, matrix, slope):
    """Add to matrix and slope what is presumed of the width."""
    matrix[3, 3] += 1 / (WIDTH_ERROR * width) ** 2
    slope[3] -= math.log(width / presumed) / (WIDTH_ERROR**2 * width)


@inlined
def _keep_within(parameters, presumed, shape):
    """Keep a trail's middle in the stamp, its width near the presumed one, and its length positive."""
    parameters[1] = min(max(parameters[1], 0.0), shape[1] - 1.0)
    parameters[2] = min(max(parameters[2], 0.0), shape[0] - 1.0)
    parameters[3] = min(max(parameters[3], WIDTHS[0] * presumed), WIDTHS[1] * presumed)
    parameters[4] = min(abs(parameters[4]), 1.5 * max(shape[0], shape[1]))


def profile_width(fwhm):
    """Return the standard deviation of the profile of a point source as pixels show it [px]."""
    return np.sqrt((np.asarray(fwhm, dtype=float) * SIGMA_PER_FWHM) ** 2 + PIXEL_VARIANCE)


def cramer_rao(flux, length, angle, fwhm, noise=1.0, gain=np.inf, known_width=True):
    """Return the least standard errors that any unbiased fit of a trail can have (Cramer-Rao).

    Parameters
    ----------
    flux : float
        Light of the whole trail [DN].
    length, fwhm : float
        Of the segment and of the point-spread function [px].
    angle : float
        [deg]
    noise : float
        Of the sky in a pixel [DN].
    gain : float
        [e-/DN]; infinite if the photons of the trail itself add no noise.
    known_width : bool
        Whether the width of the point-spread function is known.

    Returns
    -------
    dict of str to float
        flux [DN], x, y, length [px] and angle [deg]; width [px] unless it is known.
    """
    width = float(profile_width(fwhm))
    side = 2 * int(np.ceil(length / 2 + 6 * width)) + 1
    parameters = np.array([flux / noise, (side - 1) / 2, (side - 1) / 2, width, length, np.deg2rad(angle)])
    matrix, slope = np.empty((6, 6)), np.empty(6)
    pixels = np.argwhere(np.ones((side, side), dtype=bool))
    information(np.zeros((side, side)), pixels, parameters, 6, 1 / (gain * noise), matrix, slope)
    kept = [k for k, name in enumerate(PARAMETERS) if not (known_width and name == "width")]
    errors = np.sqrt(np.diag(np.linalg.inv(matrix[np.ix_(kept, kept)])))
    errors = dict(zip([PARAMETERS[k] for k in kept], errors.tolist(), strict=True))
    return errors | {"flux": errors["flux"] * noise, "angle": float(np.rad2deg(errors["angle"]))}
