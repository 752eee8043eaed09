"""The measurement of one cutout after the other, compiled by numba.

A pass over a cutout looks only at the pixels that matter for each quantity. Signal is the sky-subtracted
image [DN], shape (height, width); x and y are the centre of the object [px, from 0].
"""

from functools import cache

import numpy as np

from ztf_sg.compilation import compiled, inlined

BORDER = 2  # width of the border that the sky is measured in [px]
GAPS = (132, 57, 23, 10, 4, 1)  # of Ciura 2001, by which the pixels are sorted
CLIP_SIGMA, CLIP_ROUNDS = 3.0, 5  # of its pixels
CENTROID_RADIUS = 2.5  # the object is sought this close to the middle of the cutout [px]
CENTROID_FWHM = 3.0  # of the weight, or that of a broader PSF [px]
CENTROID_STEPS = 3  # how often the weight is moved
CENTROID_REACH = 1.5  # how far the weight is followed [its FWHM]
CORE_RADIUS = 2.5  # within which no light is taken for a neighbour's [px]
NEIGHBOUR_SIGMA = 4.0  # by how much a neighbour's pixel outshines the opposite one [sigma]
OBJECT_ERROR = 0.4  # relative difference of opposite pixels of one object
APERTURE_PARTS = 5  # that each pixel is split into per side
EDGE = 0.81  # a pixel whose centre is that much nearer than the edge of a circle is inside of it [px]
FIT_RADII, FIT_WIDTHS = (4.0, 7.0), 2.2  # profiles are compared within so many PSF widths, from 4 to 7 px
LINEAR_SHARE = 0.8  # of the level SATURATE, above which counts are not compared with a profile
# Errors of the PSF: relative to it, so that bright pixels do not have all the weight, and relative to all its
# light, so that the wings of bright stars have not.
PSF_ERROR, WINGS_ERROR = 0.02, 3e-4
MOMENTS_FWHM = 6.0  # of the weight of the second moments [px]
NODES = np.array([-np.sqrt(0.15), 0.0, np.sqrt(0.15)])  # of Gauss's quadrature over a pixel
WEIGHTS = np.array([5.0, 8.0, 5.0]) / 18
BLENDED_SHARE = 0.1  # of an object's light, from which on the light of neighbours is worth a flag
LARGEST_RADIUS, STEPS_PER_RADIUS = 24, 64  # of tabulated Moffat profiles, in units of alpha
LOWEST_INVERSE, HIGHEST_INVERSE, TABULATED = 1 / 12, 1 / 1.35, 128  # of their indices


@cache
def tabulated_profiles():
    """Return Moffat profiles (1 + t**2)**-beta of inverse indices in equal steps, shape (indices, radii)."""
    squared = (np.arange(LARGEST_RADIUS * STEPS_PER_RADIUS + 1) / STEPS_PER_RADIUS) ** 2
    beta = 1 / np.linspace(LOWEST_INVERSE, HIGHEST_INVERSE, TABULATED)
    return np.exp(-beta[:, None] * np.log1p(squared))


@inlined
def near(centre, reach, length):
    """Return the range of the pixels of an axis that are within some reach of a centre."""
    return range(max(int(np.ceil(centre - reach)), 0), min(int(np.floor(centre + reach)) + 1, length))


@compiled
def sky_and_noise(image, border):
    """Return level and noise of the border of an image, clipped at 3 sigma around its median.

    `border` is room for its pixels. The scatter that clips is 1.4826 times the median of the distances from
    the median; those are found by stepping outwards, since the pixels are sorted.
    """
    height, width = image.shape
    n = 0
    for i in range(height):
        inside = BORDER <= i < height - BORDER
        for j in range(width):
            if not inside or j < BORDER or j >= width - BORDER:
                border[n] = image[i, j]
                n += 1
    _sort(border, n)
    first, last = 0, n
    for _ in range(CLIP_ROUNDS):
        centre = 0.5 * (border[(first + last - 1) // 2] + border[(first + last) // 2])
        limit = CLIP_SIGMA * 1.482602218505602 * _median_distance(border, first, last, centre)
        before = last - first
        while border[first] < centre - limit:
            first += 1
        while border[last - 1] > centre + limit:
            last -= 1
        if last - first == before:
            break
    level = 0.5 * (border[(first + last - 1) // 2] + border[(first + last) // 2])
    mean = border[first:last].mean()
    squares = 0.0
    for value in border[first:last]:
        squares += (value - mean) ** 2
    return level, np.sqrt(squares / (last - first))


@compiled
def _sort(values, n):
    """Sort the first n values, in the manner of Shell: numba's own sort takes seconds to compile."""
    for gap in GAPS:
        for i in range(gap, n):
            value, j = values[i], i
            while j >= gap and values[j - gap] > value:
                values[j] = values[j - gap]
                j -= gap
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


@compiled
def centroid(signal, fwhm):
    """Return x and y of the object in the middle, under a moving Gaussian weight of some width [px].

    It starts at the brightest pixel of the lightly smoothed middle, and stays within 2.5 px of the middle.
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
    sharpness, reach = 4 * np.log(2.0) / fwhm**2, CENTROID_REACH * fwhm
    for _ in range(CENTROID_STEPS):
        total = sum_x = sum_y = 0.0
        for i in near(y, reach, height):
            row = row_x = 0.0
            for j in near(x, reach, width):
                light = max(signal[i, j], 0.0) * np.exp(-sharpness * (j - x) ** 2)
                row += light
                row_x += light * (j - x)
            weight = np.exp(-sharpness * (i - y) ** 2)
            total += weight * row
            sum_x += weight * row_x
            sum_y += weight * row * (i - y)
        if total > 0:
            x += min(max(2 * sum_x / total, -1.0), 1.0)
            y += min(max(2 * sum_y / total, -1.0), 1.0)
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
    for i in range(height):
        for j in range(width):
            value = signal[i, j]
            k, m = double_y - i, double_x - j
            if 0 <= k < height and 0 <= m < width and (i - y) ** 2 + (j - x) ** 2 > CORE_RADIUS**2:
                opposite = signal[k, m]
                excess = value - opposite
                if excess > 0:
                    light = max(opposite, 0.0)
                    variance = 2 * noise**2 + light / gain + (OBJECT_ERROR * light) ** 2
                    if excess > NEIGHBOUR_SIGMA * np.sqrt(variance):
                        value = opposite
            cleaned[i, j] = value


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
    total = xx = yy = xy = 0.0
    for i in range(height):
        dy = i - y
        row = row_x = row_xx = 0.0
        for j in range(width):
            dx = j - x
            light = signal[i, j] * np.exp(-sharpness * dx**2)
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


@inlined
def profile_at(profile, radius):
    """Return a tabulated profile at a radius, in units of its own; 0 beyond the table."""
    place = radius * STEPS_PER_RADIUS
    k = int(place)
    if k >= len(profile) - 1:
        return 0.0
    return profile[k] + (place - k) * (profile[k + 1] - profile[k])


@inlined
def pixel_of_profile(profile, alpha, dy, dx):
    """Return a tabulated profile of radius alpha [px], averaged over a pixel, by Gauss's quadrature."""
    total = 0.0
    for k in range(3):
        row = 0.0
        for m in range(3):
            row += WEIGHTS[m] * profile_at(
                profile, np.sqrt((dy + NODES[k]) ** 2 + (dx + NODES[m]) ** 2) / alpha
            )
        total += WEIGHTS[k] * row
    return total


@compiled
def mean_of_border(profile, alpha, x, y, shape):
    """Return the mean of a tabulated profile over the border that the sky is measured in."""
    height, width = shape
    total, n = 0.0, 0
    for i in range(height):
        inside = BORDER <= i < height - BORDER
        for j in range(width):
            if not inside or j < BORDER or j >= width - BORDER:
                total += profile_at(profile, np.sqrt((i - y) ** 2 + (j - x) ** 2) / alpha)
                n += 1
    return total / n


@inlined
def fit_radius(fwhm):
    """Return the radius within which an object is compared with its PSF [px]."""
    return min(max(FIT_WIDTHS * fwhm, FIT_RADII[0]), FIT_RADII[1])


@compiled
def compare_with_psf(signal, x, y, noise, gain, limit, flux, radius, alpha, beta, profile, widths, found):
    """Fill `found` with the log10 of the S/N of the PSF fitted to an object, and its spread_model by width.

    With weights W of the pixels, PSF phi, a broader profile G and the image p, spread_model is
    (G W p) / (phi W p) - (G W phi) / (phi W phi), as of Desai et al. 2012, ApJ 757, 83. The profiles lose
    what the sky, measured in the border, takes from them. `flux` is a guess of the object's [DN];
    pixels farther away than `radius`, and those above `limit` [DN], do not count.
    """
    n_widths = len(widths)
    unit = (beta - 1) / (np.pi * alpha**2)
    psf_border = unit * mean_of_border(profile, alpha, x, y, signal.shape)
    borders, in_image, in_psf = np.empty(n_widths), np.zeros(n_widths), np.zeros(n_widths)
    for k in range(n_widths):
        borders[k] = unit / widths[k] ** 2 * mean_of_border(profile, widths[k] * alpha, x, y, signal.shape)
    floor = noise**2 + (WINGS_ERROR * flux) ** 2
    psf_in_psf = psf_in_image = second = third = matched = 0.0
    for i in near(y, radius, signal.shape[0]):
        for j in near(x, radius, signal.shape[1]):
            if (i - y) ** 2 + (j - x) ** 2 >= radius**2 or signal[i, j] > limit:
                continue
            psf = unit * pixel_of_profile(profile, alpha, i - y, j - x) - psf_border
            light = max(psf, 0.0) * flux
            weight = 1 / (floor + light / gain + (PSF_ERROR * light) ** 2)
            second += psf**2
            third += psf**2 * max(psf, 0.0)
            matched += psf * signal[i, j]
            psf_in_psf += weight * psf**2
            psf_in_image += weight * psf * signal[i, j]
            for k in range(n_widths):
                broad = unit / widths[k] ** 2 * pixel_of_profile(profile, widths[k] * alpha, i - y, j - x)
                broad = weight * (broad - borders[k])
                in_image[k] += broad * signal[i, j]
                in_psf[k] += broad * psf
    if second == 0:  # all pixels are saturated
        found[:] = 0.0
        return
    variance = noise**2 * second + max(matched / second, 0.0) * third / gain
    found[0] = np.log10(max(matched / np.sqrt(variance), 1.0))
    psf_in_image = max(psf_in_image, 0.1 * np.sqrt(psf_in_psf))
    for k in range(n_widths):
        found[k + 1] = in_image[k] / psf_in_image - in_psf[k] / psf_in_psf


@compiled
def profile_of_index(profiles, beta, profile):
    """Fill `profile` with the Moffat profile of an index, between those of `tabulated_profiles`."""
    place = (1 / beta - LOWEST_INVERSE) / (HIGHEST_INVERSE - LOWEST_INVERSE) * (len(profiles) - 1)
    place = min(max(place, 0.0), len(profiles) - 1.0)
    k = min(int(place), len(profiles) - 2)
    share = place - k
    for m in range(profile.size):
        profile[m] = (1 - share) * profiles[k, m] + share * profiles[k + 1, m]


@compiled
def flags(image, signal, cleaned, x, y, saturate, radius, fluxes, found):
    """Fill `found` with whether an object is saturated, truncated, blended.

    Saturated: a pixel within `CORE_RADIUS` of the centre reaches the level SATURATE. Truncated: the edge of
    the image is nearer than the radius within which profiles are fitted. Blended: neighbours within 7 px have
    at least a tenth of the object's light in its 4 px aperture.
    """
    height, width = image.shape
    found[0] = False
    for i in near(y, CORE_RADIUS, height):
        for j in near(x, CORE_RADIUS, width):
            found[0] |= image[i, j] >= saturate
    found[1] = min(x, y, width - 1 - x, height - 1 - y) + 0.5 < radius
    neighbours = 0.0
    for i in near(y, FIT_RADII[1], height):
        for j in near(x, FIT_RADII[1], width):
            neighbours += signal[i, j] - cleaned[i, j]
    found[2] = neighbours > BLENDED_SHARE * max(fluxes[2], 0.0) and neighbours > 0


@compiled
def measure(images, gain, saturate, read_noise, fwhm, alpha, beta, profiles, radii, widths):
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
        `tabulated_profiles`.
    radii : numpy.ndarray
        Of apertures [px], four of them.
    widths : numpy.ndarray
        Of the broader profiles, m of them [PSF widths].

    Returns
    -------
    fluxes, noise, shapes, comparison, found : numpy.ndarray
        Light in the apertures [DN] (n, 4); noise of the sky [DN] (n,); radius [px] and ellipticity (n, 2);
        what `compare_with_psf` finds (n, 1 + m), and `flags` (n, 3).
    """
    n, height, width = images.shape
    fluxes, noise, shapes = np.empty((n, len(radii))), np.empty(n), np.empty((n, 2))
    comparison, found = np.empty((n, 1 + len(widths))), np.empty((n, 3), dtype=np.bool_)
    border, profile = np.empty(height * width), np.empty(profiles.shape[1])
    signal, cleaned = np.empty((height, width)), np.empty((height, width))
    for row in range(n):
        sky, scatter = sky_and_noise(images[row], border)
        variance = max(sky, 0.0) / gain[row] + (read_noise / gain[row]) ** 2
        noise[row] = max(scatter, np.sqrt(variance))
        for i in range(height):
            for j in range(width):
                signal[i, j] = images[row, i, j] - sky
        x, y = centroid(signal, max(CENTROID_FWHM, fwhm[row]))
        replace_neighbours(signal, x, y, noise[row], gain[row], cleaned)
        for k in range(len(radii)):
            fluxes[row, k] = aperture_flux(cleaned, x, y, radii[k])
        shapes[row] = second_moments(cleaned, x, y)
        profile_of_index(profiles, beta[row], profile)
        radius = fit_radius(fwhm[row])
        flux = max(fluxes[row, 2], 1.0)
        limit = LINEAR_SHARE * saturate[row] - sky
        compare_with_psf(
            cleaned,
            x,
            y,
            noise[row],
            gain[row],
            limit,
            flux,
            radius,
            alpha[row],
            beta[row],
            profile,
            widths,
            comparison[row],
        )
        flags(images[row], signal, cleaned, x, y, saturate[row], radius, fluxes[row], found[row])
    return fluxes, noise, shapes, comparison, found


@compiled
def backgrounds(images):
    """Return sky level and noise of images, shape (2, n)."""
    found, border = np.empty((2, len(images))), np.empty(images[0].size)
    for row in range(len(images)):
        found[0, row], found[1, row] = sky_and_noise(images[row], border)
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
