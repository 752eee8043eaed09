"""The comparison of one object with the point-spread function (PSF) of its image, compiled by numba.

Signal is the sky-subtracted image [DN], shape (height, width); x and y are the centre of the object [px, from
0]. The PSF is a Moffat profile from a table.
"""

from functools import cache

import numpy as np

from ztf_sg.compilation import compiled, inlined

FIT_RADII, FIT_WIDTHS = (4.0, 7.0), 2.2  # profiles are compared within so many PSF widths, from 4 to 7 px
LINEAR_SHARE = 0.8  # of the level SATURATE, above which counts are not compared with a profile
# Errors of the PSF: relative to it, so that bright pixels do not have all the weight, and relative to all its
# light, so that the wings of bright stars have not.
PSF_ERROR, WINGS_ERROR = 0.02, 3e-4
LONG_BORDER = 128  # pixels of the border of a cutout whose edge is far from its middle
REFINED_FWHM, REFINED_RADIUS = 2.0, 2.2  # PSFs below this are fitted to the pixels this near [px]
REFINEMENTS, LONGEST_STEP = 2, 0.2  # how often, and how far at once, the centre is moved [px]
# Nine nodes of Gauss's quadrature over a pixel [px], and their weights.
NODES_Y = np.repeat([-np.sqrt(0.15), 0.0, np.sqrt(0.15)], 3)
NODES_X = NODES_Y.reshape(3, 3).T.copy().ravel()
WEIGHTS = np.outer([5.0, 8.0, 5.0], [5.0, 8.0, 5.0]).ravel() / 18**2
LINE_NODES, LINE_WEIGHTS = NODES_X[:3].copy(), np.array([5.0, 8.0, 5.0]) / 18  # the same over an edge
LARGEST_RADIUS, STEPS_PER_RADIUS = 24, 64  # of tabulated Moffat profiles, in units of alpha
LOWEST_INVERSE, HIGHEST_INVERSE, TABULATED = 1 / 12, 1 / 1.35, 128  # of their indices


@cache
def tabulated_profiles():
    """Return Moffat profiles (1 + t**2)**-beta of inverse indices in equal steps, shape (indices, radii).

    The last two radii stand for all those beyond the table, and have no light.
    """
    squared = (np.arange(LARGEST_RADIUS * STEPS_PER_RADIUS + 2) / STEPS_PER_RADIUS) ** 2
    beta = 1 / np.linspace(LOWEST_INVERSE, HIGHEST_INVERSE, TABULATED)
    profiles = np.exp(-beta[:, None] * np.log1p(squared))
    profiles[:, -2:] = 0
    return profiles


@inlined
def near(centre, reach, length):
    """Return the range of the pixels of an axis that are within some reach of a centre."""
    return range(max(int(np.ceil(centre - reach)), 0), min(int(np.floor(centre + reach)) + 1, length))


@inlined
def profile_at(profile, place):
    """Return a tabulated profile at a place between its radii; 0 beyond the table."""
    place = min(place, len(profile) - 2.0)
    k = int(place)
    return profile[k] + (place - k) * (profile[k + 1] - profile[k])


@inlined
def pixel_of_profile(profile, places, scale):
    """Return the average of a tabulated profile over a pixel from the places of its nine nodes."""
    total = 0.0
    for k in range(9):
        total += WEIGHTS[k] * profile_at(profile, places[k] * scale)
    return total


@compiled
def means_of_border(profile, unit, scales, x, y, border, means):
    """Fill `means` with the means over the border of a profile, in places `unit` per pixel, by its scales.

    Far from the middle the profile is smooth, and the pixels of one colour of a chessboard will do.
    """
    means[:] = 0.0
    colours = 2 if border.shape[1] >= LONG_BORDER else 1
    used = 0
    for n in range(border.shape[1]):
        if (border[0, n] + border[1, n]) % colours == 0:
            used += 1
            place = unit * np.sqrt((border[0, n] - y) ** 2 + (border[1, n] - x) ** 2)
            for k in range(len(scales)):
                means[k] += profile_at(profile, place * scales[k])
    for k in range(len(scales)):
        means[k] *= scales[k] ** 2 / used


@inlined
def change_of_pixel(profile, unit, along, across):
    """Return by how much a pixel of a profile changes per px that the centre moves along an axis.

    The pixel is `along` px from the centre on this axis, and `across` px on the other; light enters it at one
    edge and leaves it at the other.
    """
    change = 0.0
    for k in range(3):
        other = (across + LINE_NODES[k]) ** 2
        near_edge = profile_at(profile, unit * np.sqrt((along - 0.5) ** 2 + other))
        change += LINE_WEIGHTS[k] * (
            near_edge - profile_at(profile, unit * np.sqrt((along + 0.5) ** 2 + other))
        )
    return change


@compiled
def fitted_centre(signal, x, y, noise, gain, limit, flux, alpha, beta, profile):
    """Return x and y where the PSF fits the middle of an object best, by steps of Gauss and Newton.

    The pixels of a sharp PSF are too few for a weighted mean: it is up to 0.06 px off. Arguments are those of
    `compare_with_psf`; the amplitude is free.
    """
    height, unit = (beta - 1) / (np.pi * alpha**2), STEPS_PER_RADIUS / alpha
    places, start_x, start_y = np.empty(9), x, y
    for _ in range(REFINEMENTS):
        pp = px = py = xx = xy = yy = sp = sx = sy = 0.0
        for i in near(y, REFINED_RADIUS, signal.shape[0]):
            for j in near(x, REFINED_RADIUS, signal.shape[1]):
                dy, dx = i - y, j - x
                if dy**2 + dx**2 >= REFINED_RADIUS**2 or signal[i, j] > limit:
                    continue
                for k in range(9):
                    places[k] = unit * np.sqrt((dy + NODES_Y[k]) ** 2 + (dx + NODES_X[k]) ** 2)
                psf = height * pixel_of_profile(profile, places, 1.0)
                psf_x = height * change_of_pixel(profile, unit, dx, dy)
                psf_y = height * change_of_pixel(profile, unit, dy, dx)
                light = psf * flux
                weight = 1 / (noise**2 + light / gain + (PSF_ERROR * light) ** 2)
                pp += weight * psf**2
                px += weight * psf * psf_x
                py += weight * psf * psf_y
                xx += weight * psf_x**2
                xy += weight * psf_x * psf_y
                yy += weight * psf_y**2
                sp += weight * psf * signal[i, j]
                sx += weight * psf_x * signal[i, j]
                sy += weight * psf_y * signal[i, j]
        if pp == 0 or sp <= 0:
            return start_x, start_y
        # what the amplitude cannot fit
        xx, xy, yy = xx - px**2 / pp, xy - px * py / pp, yy - py**2 / pp
        sx, sy = (sx * pp / sp - px), (sy * pp / sp - py)
        determinant = xx * yy - xy**2
        if determinant <= 1e-9 * xx * yy:
            return start_x, start_y
        x += min(max((yy * sx - xy * sy) / determinant, -LONGEST_STEP), LONGEST_STEP)
        y += min(max((xx * sy - xy * sx) / determinant, -LONGEST_STEP), LONGEST_STEP)
    return x, y


@inlined
def fit_radius(fwhm):
    """Return the radius within which an object is compared with its PSF [px]."""
    return min(max(FIT_WIDTHS * fwhm, FIT_RADII[0]), FIT_RADII[1])


@compiled
def compare_with_psf(
    signal, x, y, noise, gain, limit, flux, alpha, beta, profile, radius, scales, border, found
):
    """Fill `found` with the log10 of the S/N of the PSF fitted to an object, and its spread_model by width.

    With weights W of the pixels, PSF phi, a broader profile G and the image p, spread_model is
    (G W p) / (phi W p) - (G W phi) / (phi W phi), as of Desai et al. 2012, ApJ 757, 83. The profiles lose
    what the sky, measured in the border, takes from them. `scales` are 1, that of the PSF, and those of the
    broader profiles [1 / PSF width]; `flux` is a guess of the object's [DN]; pixels farther away than
    `radius`, and those above `limit` [DN], do not count.
    """
    n_scales = len(scales)
    height = (beta - 1) / (np.pi * alpha**2)
    unit = STEPS_PER_RADIUS / alpha
    places, borders = np.empty(9), np.empty(n_scales)
    in_image, in_psf = np.zeros(n_scales), np.zeros(n_scales)
    means_of_border(profile, unit, scales, x, y, border, borders)
    floor = noise**2 + (WINGS_ERROR * flux) ** 2
    second = third = matched = 0.0
    for i in near(y, radius, signal.shape[0]):
        for j in near(x, radius, signal.shape[1]):
            if (i - y) ** 2 + (j - x) ** 2 >= radius**2 or signal[i, j] > limit:
                continue
            for k in range(9):
                places[k] = unit * np.sqrt((i - y + NODES_Y[k]) ** 2 + (j - x + NODES_X[k]) ** 2)
            psf = height * (pixel_of_profile(profile, places, 1.0) - borders[0])
            light = max(psf, 0.0) * flux
            weight = 1 / (floor + light / gain + (PSF_ERROR * light) ** 2)
            second += psf**2
            third += psf**2 * max(psf, 0.0)
            matched += psf * signal[i, j]
            in_psf[0] += weight * psf**2
            in_image[0] += weight * psf * signal[i, j]
            for k in range(1, n_scales):
                broad = scales[k] ** 2 * pixel_of_profile(profile, places, scales[k]) - borders[k]
                broad *= weight * height
                in_image[k] += broad * signal[i, j]
                in_psf[k] += broad * psf
    if second == 0:  # all pixels are saturated
        found[:] = 0.0
        return
    variance = noise**2 * second + max(matched / second, 0) * third / gain
    found[0] = np.log10(max(matched / np.sqrt(variance), 1.0))
    psf_in_image = max(in_image[0], 0.1 * np.sqrt(in_psf[0]))
    for k in range(1, n_scales):
        found[k] = in_image[k] / psf_in_image - in_psf[k] / in_psf[0]


@compiled
def profile_of_index(profiles, beta, profile):
    """Fill `profile` with the Moffat profile of an index, between those of `tabulated_profiles`."""
    place = (1 / beta - LOWEST_INVERSE) / (HIGHEST_INVERSE - LOWEST_INVERSE) * (len(profiles) - 1)
    place = min(max(place, 0.0), len(profiles) - 1.0)
    k = min(int(place), len(profiles) - 2)
    share = place - k
    for m in range(profile.size):
        profile[m] = (1 - share) * profiles[k, m] + share * profiles[k + 1, m]
