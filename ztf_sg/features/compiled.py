"""The measurement of one cutout after the other, compiled by numba.

A pass over a cutout looks only at the pixels that matter for each quantity. Signal is the sky-subtracted
image [DN], shape (height, width); x and y are the centre of the object [px, from 0].
"""

import numpy as np

from ztf_sg.compilation import compiled, copy_into
from ztf_sg.features.psf_fit import (
    LINEAR_SHARE,
    REFINED_FWHM,
    compare_with_psf,
    fit_radius,
    fitted_centre,
    near,
    profile_of_index,
)
from ztf_sg.features.sky import border_pixels, sky_and_noise

CENTROID_RADIUS = 2.5  # the object is sought this close to the middle of the cutout [px]
CENTROID_FWHM = 3.0  # of the weight, or that of a broader PSF [px]
PIXEL_FWHM_SQUARED = 8 * np.log(2.0) / 12  # of a Gaussian with the variance of a pixel [px2]
CENTROID_STEPS = 3  # how often the weight is moved
CENTROID_REACH = 1.5  # how far the weight is followed [its FWHM]
CORE_RADIUS = 2.5  # within which no light is taken for a neighbour's [px]
NEIGHBOUR_SIGMA = 4.0  # by how much a neighbour's pixel outshines the opposite one [sigma]
OBJECT_ERROR = 0.4  # relative difference of opposite pixels of one object
APERTURE_PARTS = 5  # that each pixel is split into per side
EDGE = 0.81  # a pixel whose centre is that much nearer than the edge of a circle is inside of it [px]
FLUX_RADIUS, FLAG_RADIUS = (
    2.0,
    7.0,
)  # of the light that is the guess of an object's; within which neighbours count [px]
MOMENTS_FWHM = 6.0  # of the weight of the second moments [px]
BLENDED_SHARE = 0.1  # of an object's light, from which on the light of neighbours is worth a flag


@compiled
def centroid(signal, fwhm):
    """Return x and y of the object in the middle, under a moving Gaussian weight; `fwhm` is that of the PSF.

    It starts at the brightest pixel of the lightly smoothed middle, and stays within 2.5 px of the middle.
    The weight draws the mean of a star's light towards its own centre; a step is longer than the mean is far
    from there, by 1 + (width of the star / width of the weight)**2, which makes up for that.
    """
    height, width = signal.shape
    middle_y, middle_x = 0.5 * (height - 1), 0.5 * (width - 1)
    brightest, y, x = -np.inf, middle_y, middle_x
    for i in near(middle_y, CENTROID_RADIUS, height):
        for j in near(middle_x, CENTROID_RADIUS, width):
            if (i - middle_y) ** 2 + (j - middle_x) ** 2 <= CENTROID_RADIUS**2:
                total = 0.0
                for k in range(-1, 2):
                    for m in range(-1, 2):
                        total += signal[min(max(i + k, 0), height - 1), min(max(j + m, 0), width - 1)]
                if total > brightest:
                    brightest, y, x = total, float(i), float(j)
    width_of_weight = max(CENTROID_FWHM, fwhm)
    step = 1 + min((fwhm**2 + PIXEL_FWHM_SQUARED) / width_of_weight**2, 1.0)
    sharpness, reach = 4 * np.log(2.0) / width_of_weight**2, CENTROID_REACH * width_of_weight
    weights = np.empty(width)
    for _ in range(CENTROID_STEPS):
        total = sum_x = sum_y = 0.0
        for j in near(x, reach, width):
            weights[j] = np.exp(-sharpness * (j - x) ** 2)
        for i in near(y, reach, height):
            row = row_x = 0.0
            for j in near(x, reach, width):
                light = max(signal[i, j], 0.0) * weights[j]
                row += light
                row_x += light * (j - x)
            weight = np.exp(-sharpness * (i - y) ** 2)
            total += weight * row
            sum_x += weight * row_x
            sum_y += weight * row * (i - y)
        if total > 0:
            x += min(max(step * sum_x / total, -1.0), 1.0)
            y += min(max(step * sum_y / total, -1.0), 1.0)
            x = min(max(x, middle_x - CENTROID_RADIUS), middle_x + CENTROID_RADIUS)
            y = min(max(y, middle_y - CENTROID_RADIUS), middle_y + CENTROID_RADIUS)
    return x, y


@compiled
def replace_neighbours(signal, x, y, noise, gain, cleaned):
    """Fill `cleaned` with the signal, but the light of neighbours is replaced by that of opposite pixels.

    Pixels much brighter than the opposite one belong to a neighbour, as objects look the same when turned by
    180 degrees: the idea of SDSS's deblender (Lupton 2005). Pixels nearer than `CORE_RADIUS` to the centre,
    and those whose opposite is outside the image, stay.
    """
    height, width = signal.shape
    double_y, double_x = int(np.round(2 * y)), int(np.round(2 * x))
    copy_into(cleaned, signal)
    for i in range(max(double_y - height + 1, 0), min(double_y + 1, height)):
        for j in range(max(double_x - width + 1, 0), min(double_x + 1, width)):
            value, opposite = signal[i, j], signal[double_y - i, double_x - j]
            light = max(opposite, 0.0)
            variance = 2 * noise**2 + light / gain + (OBJECT_ERROR * light) ** 2
            excess = max(value - opposite, 0.0)
            far = (i - y) ** 2 + (j - x) ** 2 > CORE_RADIUS**2
            cleaned[i, j] = opposite if far & (excess**2 > NEIGHBOUR_SIGMA**2 * variance) else value


@compiled
def aperture_flux(signal, x, y, radius):
    """Return the light inside a circle; pixels count by the share inside, and have none beyond the edge."""
    height, width = signal.shape
    flux = 0.0
    for i in near(y, radius + 1, height):
        for j in near(x, radius + 1, width):
            distance = np.sqrt((i - y) ** 2 + (j - x) ** 2)
            if distance < radius - EDGE:
                flux += signal[i, j]
            elif distance < radius + EDGE:
                flux += signal[i, j] * _share_inside(i - y, j - x, radius)
    return flux


@compiled
def _share_inside(dy, dx, radius):
    """Return the share of a pixel inside a circle around the origin, whose edge is soft over one part."""
    share = 0.0
    for k in range(APERTURE_PARTS):
        part_y = dy + (k + 0.5) / APERTURE_PARTS - 0.5
        for m in range(APERTURE_PARTS):
            part_x = dx + (m + 0.5) / APERTURE_PARTS - 0.5
            distance = np.sqrt(part_y**2 + part_x**2)
            share += min(max((radius - distance) * APERTURE_PARTS + 0.5, 0.0), 1.0)
    return share / APERTURE_PARTS**2


@compiled
def second_moments(signal, x, y):
    """Return radius [px] and ellipticity from second moments Q under a Gaussian weight.

    They are the square root of Qxx + Qyy, and the modulus of (Qxx - Qyy, 2 Qxy) / (Qxx + Qyy), at most 1.
    """
    height, width = signal.shape
    sharpness = 4 * np.log(2.0) / MOMENTS_FWHM**2
    weights = np.exp(-sharpness * (np.arange(width) - x) ** 2)
    total = xx = yy = xy = 0.0
    for i in range(height):
        dy = i - y
        row = row_x = row_xx = 0.0
        for j in range(width):
            dx = j - x
            light = signal[i, j] * weights[j]
            row += light
            row_x += light * dx
            row_xx += light * dx * dx
        weight = np.exp(-sharpness * dy**2)
        total += weight * row
        xx += weight * row_xx
        yy += weight * row * dy * dy
        xy += weight * row_x * dy
    if total <= 0:
        total = np.inf
    trace = min(max((xx + yy) / total, 0.1), 50.0)
    return np.sqrt(trace), min(np.hypot((xx - yy) / total, 2 * xy / total) / trace, 1.0)


@compiled
def flags(image, signal, cleaned, x, y, saturate, radius, flux, found):
    """Fill `found` with whether an object is saturated, truncated, blended.

    Saturated: a pixel within `CORE_RADIUS` of the centre reaches the level SATURATE. Truncated: the edge of
    the image is nearer than the radius within which profiles are fitted. Blended: neighbours within 7 px have
    at least a tenth of the object's `flux` [DN].
    """
    height, width = image.shape
    found[0] = False
    for i in near(y, CORE_RADIUS, height):
        for j in near(x, CORE_RADIUS, width):
            found[0] |= image[i, j] >= saturate
    found[1] = min(x, y, width - 1 - x, height - 1 - y) + 0.5 < radius
    neighbours = 0.0
    for i in near(y, FLAG_RADIUS, height):
        for j in near(x, FLAG_RADIUS, width):
            neighbours += signal[i, j] - cleaned[i, j]
    found[2] = neighbours > BLENDED_SHARE * max(flux, 0.0) and neighbours > 0


@compiled
def measure(images, gain, saturate, read_noise, fwhm, alpha, beta, profiles, radii, widths, moments):
    """Measure n cutouts.

    Parameters
    ----------
    images : numpy.ndarray
        [DN], shape (n, height, width).
    gain, saturate, fwhm, alpha, beta : numpy.ndarray
        Of each image, (n,): [e-/DN], [DN], and the Moffat profile of its PSF [px].
    read_noise : float
        [e-]
    profiles : numpy.ndarray
        `~ztf_sg.features.psf_fit.tabulated_profiles`.
    radii : numpy.ndarray
        Of apertures [px], k of them.
    widths : numpy.ndarray
        Of the broader profiles, m of them [PSF widths].
    moments : bool
        Whether second moments are wanted.

    Returns
    -------
    fluxes, noise, shapes, comparison, found : numpy.ndarray
        Light in the apertures [DN] (n, k); noise of the sky [DN] (n,); radius [px] and ellipticity (n, 2),
        NaN if they are not wanted; what `compare_with_psf` finds (n, 1 + m), and `flags` (n, 3).
    """
    n, height, width = images.shape
    fluxes, noise, shapes = np.empty((n, len(radii))), np.empty(n), np.full((n, 2), np.nan)
    comparison, found = np.empty((n, 1 + len(widths))), np.empty((n, 3), dtype=np.bool_)
    signal, cleaned = np.empty((height, width)), np.empty((height, width))
    border, profile = border_pixels(height, width), np.empty(profiles.shape[1])
    ranked = np.empty(border.shape[1])
    scales = np.ones(1 + len(widths))
    for k in range(len(widths)):
        scales[k + 1] = 1 / widths[k]
    for row in range(n):
        sky, scatter = sky_and_noise(images[row], border, ranked)
        variance = max(sky, 0.0) / gain[row] + (read_noise / gain[row]) ** 2
        noise[row] = max(scatter, np.sqrt(variance))
        for i in range(height):
            for j in range(width):
                signal[i, j] = images[row, i, j] - sky
        x, y = centroid(signal, fwhm[row])
        replace_neighbours(signal, x, y, noise[row], gain[row], cleaned)
        flux, radius = max(aperture_flux(cleaned, x, y, FLUX_RADIUS), 1.0), fit_radius(fwhm[row])
        limit = LINEAR_SHARE * saturate[row] - sky
        profile_of_index(profiles, beta[row], profile)
        given = noise[row], gain[row], limit, flux, alpha[row], beta[row], profile
        if fwhm[row] < REFINED_FWHM:
            x, y = fitted_centre(cleaned, x, y, *given)
        for k in range(len(radii)):
            fluxes[row, k] = aperture_flux(cleaned, x, y, radii[k])
        if moments:
            shapes[row, 0], shapes[row, 1] = second_moments(cleaned, x, y)
        compare_with_psf(cleaned, x, y, *given, radius, scales, border, comparison[row])
        flags(images[row], signal, cleaned, x, y, saturate[row], radius, flux, found[row])
    return fluxes, noise, shapes, comparison, found


@compiled
def backgrounds(images):
    """Return sky level and noise of images, shape (2, n)."""
    found, border = np.empty((2, len(images))), border_pixels(images.shape[1], images.shape[2])
    ranked = np.empty(border.shape[1])
    for row in range(len(images)):
        found[0, row], found[1, row] = sky_and_noise(images[row], border, ranked)
    return found


@compiled
def centres(signals, fwhm):
    """Return x and y of the objects in the middle of images, shape (2, n)."""
    found = np.empty((2, len(signals)))
    for row in range(len(signals)):
        found[0, row], found[1, row] = centroid(signals[row], fwhm)
    return found


@compiled
def light_in_circles(signals, x, y, radii):
    """Return the light inside of m circles around each of n objects, shape (n, m)."""
    found = np.empty((len(signals), len(radii)))
    for row in range(len(signals)):
        for k in range(len(radii)):
            found[row, k] = aperture_flux(signals[row], x[row], y[row], radii[k])
    return found
