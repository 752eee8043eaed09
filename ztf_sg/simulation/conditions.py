"""Simulated cutouts of images in all conditions: band, seeing, shape of the PSF, sky, zero point, crowding.

No class has a signal-to-noise ratio, a band or a condition of its own, so that nothing but the shape of the
light tells them apart: a training set without a prior.
"""

from types import SimpleNamespace

import galsim
import numpy as np
import pandas as pd
from astropy.coordinates import SkyCoord
from joblib import Parallel, delayed

from ztf_sg.cutouts import CLASS_NAMES, CutoutSet
from ztf_sg.simulation import parameters as p
from ztf_sg.simulation.detector import expose, sky_level, slope_factor
from ztf_sg.simulation.drawing import add_object
from ztf_sg.simulation.psf import aperture_shares
from ztf_sg.ztf import APERTURES, CUTOUT_SHAPE, FIRST_PIXEL, PIXEL_SCALE, QUADRANT, READ_NOISE, one_turn

ORIGIN = "ztf_sg training sky (simulated)"
FILTERS = ("ZTF_g", "ZTF_r", "ZTF_i")

# Conditions of images: ranges, even in the logarithm but for MAGZP_RANGE and those of the camera.
SEEING_RANGE = (1.1, 5.6)  # SEEING of the header [px]
SEEING_SHAPE = (1.2, 2.2)  # of a beta distribution of its logarithm within the range: a median of 1.9 px
BACKGROUND_RANGE = (80.0, 1200.0)  # [DN]
MAGZP_RANGE = (25.2, 26.5)  # [mag]
NEIGHBOURS_RANGE = (0.05, 0.8)  # mean per cutout, from the Galactic pole to the plane
GAIN_RANGE, SATURATE_RANGE = (5.8, 6.5), (46000.0, 61000.0)  # [e-/DN], [DN]; as in real headers

PSF_MAG_APERTURE = 20  # diameter [px] of the aperture that holds the light of PSF magnitudes, by real APCOR6
APCOR_ERRORS = (0.003, 0.0012, 0.001, 0.0012, 0.002, 0.0028)  # APCORUN of real headers, medians [mag]

PSF_SLOPE = 0.07  # relative change of the width across a quadrant, along each axis [scatter]

# Shapes of PSFs: half-integer Moffat indices are those that GalSim draws fast.
PSF_BETAS, PSF_ELLIPTICITY = (2.5, 3.5, 4.5), 0.07  # scatter of each component of the distortion
PSF_BETA_WEIGHTS = (1, 1, 2)  # of a Dirichlet distribution
LARGEST_COMA, COMA_WIDTH, COMA_OFFSET = 0.4, 2.7, 0.65  # share; width, and scatter of its place [px]

# Fourier transforms are three times faster with these, and right to 5e-4 of the peak.
FAST = {"folding_threshold": 0.02, "maxk_threshold": 0.005}

# Objects.
SNR_RANGE, SNR_APERTURE = (8.0, 3000.0), 4  # even in the logarithm; in an aperture of this diameter [px]
NEIGHBOUR_SNR, NEIGHBOUR_SLOPE = (5.0, 1000.0), 0.75  # range; counts above a flux fall with this power of it
NEIGHBOUR_DISTANCE = (3.5, 15.0)  # [px]
BINARY_FRACTION = 0.06  # of the stars
RADIUS_MAGNITUDES = (16.5, 21.0)  # magnitudes beyond have the radii of these
DISC_FRACTION, ELLIPTICITY, LARGEST_ELLIPTICITY = 0.6, 0.3, 0.6  # scale of a half-normal distribution

TRUTH = ("snr", "magnitude", "radius", "sersic", "separation", "neighbours", "galactic_latitude")


def simulate_cutouts(n_images, per_image, seed, filters=FILTERS, psf=None, snr_range=None, n_jobs=2):
    """Return simulated stars and galaxies in turn, `per_image` from each of `n_images` images.

    Parameters
    ----------
    n_images, per_image : int
        Each image has conditions of its own; they follow from its number and the seed alone.
    seed : int or sequence of int
    filters : sequence of str
        FILTER of the images, one of which each image draws.
    psf : callable, optional
        ``psf(rng, fwhm)`` returns the shape of the PSF of an image, a GalSim profile whose FWHM is about 1;
        it is scaled to the FWHM [px] of the image. :func:`draw_psf` by default.
    snr_range : tuple of float, optional
        Signal-to-noise ratios in an aperture of 4 px, even in the logarithm; `SNR_RANGE` by default.
    n_jobs : int
        Processes among which the images are shared.

    Returns
    -------
    CutoutSet
        n_images * per_image cutouts. Its table has some truth in addition: snr, in an aperture of 4 px
        without neighbours; magnitude, in the band of the image; half-light radius [arcsec, 0 for stars] and
        sersic index of galaxies; separation of binary stars [arcsec, 0 for single ones]; neighbours, their
        number; galactic_latitude of the image [deg].
    """
    images = Parallel(n_jobs=n_jobs)(
        delayed(_simulate_image)(
            number, per_image, seed, tuple(filters), psf or draw_psf, snr_range or SNR_RANGE
        )
        for number in range(n_images)
    )
    pixels, rows = zip(*(cutout for image in images for cutout in image), strict=True)
    table = pd.DataFrame(list(rows))
    labels = table.pop("label").to_numpy()
    return CutoutSet(np.stack(pixels), labels, table)


def draw_psf(rng, fwhm):
    """Draw the shape of a PSF for images of a FWHM [px]: a mixture of Moffat profiles of FWHM 1, and coma.

    The optics have a size in pixels, so that coma shows in sharp images only.
    """
    shares = rng.dirichlet(PSF_BETA_WEIGHTS)
    core = galsim.Sum([galsim.Moffat(b, fwhm=1) * share for b, share in zip(PSF_BETAS, shares, strict=True)])
    e1, e2 = np.clip(rng.normal(0, PSF_ELLIPTICITY, 2), -0.3, 0.3)
    coma = galsim.Moffat(PSF_BETAS[0], fwhm=np.hypot(1, COMA_WIDTH / fwhm))
    coma = coma.shift(*rng.normal(0, COMA_OFFSET / fwhm, 2))
    share = rng.uniform(0, LARGEST_COMA)
    return core.shear(e1=e1, e2=e2) * (1 - share) + coma * share


def scaled_psf(shape, fwhm):
    """Return a profile scaled to a FWHM [px], with unit flux and its centroid at the origin.

    The FWHM is that of a circle as large as the area where the light is above half of its maximum.
    """
    scale = 0.02
    light = shape.drawImage(nx=151, ny=151, scale=scale, method="no_pixel").array
    found = 2 * scale * np.sqrt(np.sum(light > light.max() / 2) / np.pi)
    psf = shape.withFlux(1.0).dilate(fwhm / found).withGSParams(**FAST)
    return psf.shift(-psf.centroid)


def _simulate_image(number, per_image, seed, filters, draw_shape, snr_range):
    """Return the cutouts of an image, a list of pixels and rows of the table."""
    rng = np.random.default_rng([*np.atleast_1d(seed), 4, number])
    image, psf = _draw_image(rng, number, filters, draw_shape)
    return [_simulate_cutout(rng, image, psf, snr_range, order) for order in range(per_image)]


def _draw_image(rng, number, filters, draw_shape):
    """Draw the conditions of an image, a dict as of a row of `simulate_exposures`, and its PSF."""
    latitude = rng.uniform(-90, 90)
    place = SkyCoord(rng.uniform(0, 360), latitude, unit="deg", frame="galactic").icrs
    seeing = SEEING_RANGE[0] * (SEEING_RANGE[1] / SEEING_RANGE[0]) ** rng.beta(*SEEING_SHAPE)
    fwhm = max(seeing - rng.normal(p.SEEING_EXCESS, p.SEEING_EXCESS_SCATTER), p.SMALLEST_FWHM)
    psf = scaled_psf(draw_shape(rng, fwhm), fwhm)
    saturate = rng.uniform(*SATURATE_RANGE)
    image = {
        "ra": place.ra.deg, "dec": place.dec.deg, "galactic_latitude": latitude, "number": number,
        "filter": filters[rng.integers(len(filters))], "obsmjd": 58000.0 + number, "seeing": seeing,
        "magzp": rng.uniform(*MAGZP_RANGE), "gain": rng.uniform(*GAIN_RANGE), "saturate": saturate,
        "full_well": saturate * rng.uniform(*p.FULL_WELL), "background": _log_uniform(rng, BACKGROUND_RANGE),
        "noise_excess": max(rng.normal(p.NOISE_EXCESS, p.NOISE_EXCESS_SCATTER), 1.0),
        "sky_slope_x": rng.normal(0, p.SKY_SLOPE), "sky_slope_y": rng.normal(0, p.SKY_SLOPE),
        "psf_slope_x": rng.normal(0, PSF_SLOPE), "psf_slope_y": rng.normal(0, PSF_SLOPE),
        "shift": rng.normal(0, p.ASTROMETRIC_SCATTER, 2),
        "neighbours": NEIGHBOURS_RANGE[1] * np.prod(NEIGHBOURS_RANGE) ** (abs(latitude) / 90),
        **_growth(rng, psf),
    }  # fmt: skip
    variance = image["background"] / image["gain"] + (READ_NOISE / image["gain"]) ** 2
    return image | {"noise": image["noise_excess"] * np.sqrt(variance)}, psf


def _growth(rng, psf):
    """Return the share of a star's light in the aperture of the signal-to-noise ratio, and draw APCOR1..6.

    A header states the APCOR1..6 [mag] of an image with some error.
    """
    *shares, whole = aperture_shares(psf, (*APERTURES, PSF_MAG_APERTURE))
    offset = rng.normal(p.PSF_MAG_OFFSET, p.PSF_MAG_SCATTER)
    values = 2.5 * np.log10(np.array(shares) / whole) - offset + rng.normal(0, APCOR_ERRORS)
    corrections = {f"apcor{number}": float(value) for number, value in enumerate(values, start=1)}
    return {"star_share": shares[APERTURES.index(SNR_APERTURE)], **corrections}


def _simulate_cutout(rng, image, psf, snr_range, order):
    """Return the pixels of a cutout of an image, and its row of the table."""
    label = order % len(CLASS_NAMES)
    origin = rng.integers(0, np.array(QUADRANT) - CUTOUT_SHAPE[::-1])
    centre = origin + FIRST_PIXEL - rng.random(2)
    psf = psf.dilate(slope_factor(image, "psf", *centre))
    snr = _log_uniform(rng, snr_range)
    row = _draw_star(rng) if label == 0 else _draw_galaxy(rng, image, snr)
    scatter = np.hypot(p.POSITION_SCATTER, p.GALAXY_POSITION_SCATTER * row.RADIUS) / PIXEL_SCALE
    light, counts = _light(row, image, psf, snr, origin, centre + image["shift"] + rng.normal(0, scatter, 2))
    neighbours = rng.poisson(image["neighbours"])
    for _ in range(neighbours):
        light += _neighbour(rng, image, psf, origin, centre)
    sky = sky_level(image, origin, CUTOUT_SHAPE)
    pixels = expose(light, sky, image, rng, image["gain"])
    keys = ("seeing", "magzp", "filter", "obsmjd", "gain", "saturate", "galactic_latitude")
    east, north = (centre - np.array(QUADRANT) / 2) * PIXEL_SCALE / 3600 * (-1, -1)
    return pixels, {
        "name": f"{CLASS_NAMES[label]}_{image['number']}_{order}.fits", "label": label,
        "ra": float(one_turn(image["ra"] + east / np.cos(np.radians(image["dec"])))),
        "dec": image["dec"] + north,
        "exptime": p.EXPTIME, "origin": ORIGIN, **{key: image[key] for key in keys},
        **{f"apcor{number}": image[f"apcor{number}"] for number in range(1, 7)},
        "snr": snr, "magnitude": image["magzp"] - 2.5 * np.log10(counts), "radius": row.RADIUS,
        "sersic": row.INDEX, "separation": row.SEPARATION, "neighbours": neighbours,
    }  # fmt: skip


def _draw_star(rng):
    """Draw a star, sometimes a close pair, as a row that `drawing` understands."""
    separation = p.BINARY_SEPARATION * np.exp(rng.normal(0, p.BINARY_SEPARATION_SCATTER))
    binary = rng.random() < BINARY_FRACTION
    return SimpleNamespace(
        CLASS="star", RADIUS=0.0, INDEX=0.0, ANGLE=rng.uniform(0, 2 * np.pi),
        COMPANION=10 ** (-0.4 * rng.exponential(2.0)) if binary else 0.0,
        SEPARATION=min(separation, p.LARGEST_BINARY_SEPARATION) if binary else 0.0,
    )  # fmt: skip


def _draw_galaxy(rng, image, snr):
    """Draw a galaxy that has a signal-to-noise ratio on an image, as a row that `drawing` understands."""
    disc, knotty = rng.random() < DISC_FRACTION, rng.random() < 1 - p.RED_FRACTION
    ellipticity = min(abs(rng.normal(0, ELLIPTICITY)), LARGEST_ELLIPTICITY)
    shear = galsim.Shear(e=ellipticity, beta=rng.uniform(0, np.pi) * galsim.radians)
    return SimpleNamespace(
        CLASS="galaxy", RADIUS=_galaxy_radius(rng, image, snr), INDEX=1.0 if disc else 4.0,
        BULGE=rng.uniform(0, p.DISC_BULGE) if disc else 0.0,
        KNOTS=rng.uniform(0, p.KNOTS) if disc and knotty else 0.0,
        E1=-shear.g1, E2=shear.g2, OBJID=rng.integers(2**31 - 1), SEPARATION=0.0,
    )  # fmt: skip


def _galaxy_radius(rng, image, snr):
    """Draw the half-light radius [arcsec] of a galaxy by its magnitude in the band of the image.

    Of the galaxies with a signal-to-noise ratio, the larger ones are brighter and so rarer: they are drawn as
    often as the counts of galaxies say.
    """
    inside = _counts_inside(image, snr)
    while True:
        radius, share = _radius_and_share(rng.normal(0, p.RADIUS_SCATTER), image, inside)
        if rng.random() < (share / image["star_share"]) ** (2.5 * p.GALAXIES["slope"]):
            return radius


def _radius_and_share(deviation, image, inside):
    """Return the half-light radius [arcsec] of a galaxy, and the share of its light in the aperture.

    The radius follows from the magnitude, which depends on the share and so on the radius: both are found in
    turn, with a share that is right to some 10 %, as the light falls with the square of the width.
    """
    radius = 0.0
    for _ in range(5):
        share = image["star_share"] / (1 + (1.6 * radius / PIXEL_SCALE / image["seeing"]) ** 2)
        magnitude = np.clip(image["magzp"] - 2.5 * np.log10(inside / share), *RADIUS_MAGNITUDES)
        radius = p.RADIUS * 10 ** (p.RADIUS_SLOPE * (magnitude - 18.5) + deviation)
    return float(radius), share


def _counts_inside(image, snr):
    """Return the counts [DN] in the aperture of the signal-to-noise ratio that give this ratio."""
    sky = np.pi * (SNR_APERTURE / 2) ** 2 * image["noise"] ** 2
    photons = snr**2 / image["gain"]
    return (photons + np.sqrt(photons**2 + 4 * snr**2 * sky)) / 2


def _light(row, image, psf, snr, origin, place):
    """Return the light [DN] of an object in a cutout, and all its counts, for a signal-to-noise ratio."""
    light = _draw(row, psf, origin, place)
    y, x = np.indices(light.shape)
    distance = np.hypot(x + origin[0] - place[0], y + origin[1] - place[1])
    share = (light * np.clip((SNR_APERTURE + 1) / 2 - distance, 0, 1)).sum()
    counts = _counts_inside(image, snr) / share
    return light * counts, counts


def _neighbour(rng, image, psf, origin, centre):
    """Return the light [DN] of a star near the middle of a cutout."""
    low, high = NEIGHBOUR_SNR
    snr = min(low * rng.random() ** (-1 / NEIGHBOUR_SLOPE), high)
    distance = np.sqrt(rng.uniform(*np.square(NEIGHBOUR_DISTANCE)))
    angle = rng.uniform(0, 2 * np.pi)
    place = centre + distance * np.array([np.cos(angle), np.sin(angle)])
    counts = _counts_inside(image, snr) / image["star_share"]
    return counts * _draw(SimpleNamespace(CLASS="star", COMPANION=0.0), psf, origin, place)


def _draw(row, psf, origin, place):
    """Return the light of an object of unit flux in a cutout."""
    height, width = CUTOUT_SHAPE
    stamp = galsim.ImageD(width, height, xmin=int(origin[0]), ymin=int(origin[1]), scale=1.0)
    add_object(stamp, row, psf, 1.0, *place)
    return stamp.array


def _log_uniform(rng, limits):
    """Draw a number evenly in its logarithm."""
    return float(np.exp(rng.uniform(*np.log(limits))))
