"""Every number of the simulated sky, and where it comes from.

"Calibrated" are numbers with which the distributions agree that ``python tools/calibrate_mock_sky.py``
prints, those of real ZTF i-band cutouts beside simulated ones: distributions over whole nights, never single
objects. Those of the PSF, but for the coma's light and width, it fits; others are set by hand. "Documented"
ones are those of the ZTF camera (Dekany et al. 2020, PASP 132, 038001) and pipeline (Masci et al. 2019, PASP
131, 018003). "Assumed" ones are plausible, and the cutouts do not tell them well.
"""

# The sky area, a corner of a sweep that reaches over the edge of the reference region [deg].
RA_RANGE, DEC_RANGE = (4.8, 6.8), (-1.9, 0.1)

# Camera. Documented, as in the headers of all images.
GAIN, EXPTIME = 6.2, 30.0  # [e-/DN], [s]
SATURATE, SATURATE_SCATTER = 49100.0, 800.0  # SATURATE of the headers [DN]; calibrated
FULL_WELL = (1.08, 1.32)  # where saturated pixels level off, in units of SATURATE: range; calibrated

# Fields, made up: number, and centre [deg].
FIELDS = {8001: (5.35, -1.35), 8002: (6.25, -0.45), 8003: (5.1, -0.6), 8004: (6.5, -1.2)}
NIGHTS = 12  # each field is exposed once a night, in conditions of its own

# Seeing FWHM of the headers [px]: of an exposure, and of a quadrant about it. Calibrated, allowing for the
# images that are not sharp enough for the search and so are missing among real cutouts.
SEEING, SEEING_SCATTER, QUADRANT_SEEING_SCATTER = 1.74, 0.09, 0.13
SEEING_RANGE = (1.36, 2.3)

# Sky [DN]: dark sky, and moonlight on some nights, both log-normal. Calibrated: among the cutouts 5, 50 and
# 95 % have 179, 259 and 653 DN.
DARK_SKY, DARK_SKY_SCATTER = 230.0, 0.22
MOONLIT_FRACTION, MOONLIGHT, MOONLIGHT_SCATTER = 0.4, 250.0, 0.6
QUADRANT_SKY_SCATTER = 0.06  # relative, vignetting and scattered light; calibrated
SKY_SLOPE = 0.01  # relative change of the sky across a quadrant, along each axis; calibrated

# Zero point [mag] at airmass 1, of a night and of a quadrant about it; extinction as in Masci et al. 2019.
MAGZP, MAGZP_SCATTER, QUADRANT_MAGZP_SCATTER, EXTINCTION = 25.60, 0.04, 0.08, 0.05
AIRMASS_RANGE = (1.2, 1.6)

# Point-spread function: an elliptical core, a mixture of two Moffat profiles of equal FWHM, and a wider round
# profile that is displaced from it: the coma of the optics, most of which is the same in all images. Charge
# diffusion is part of it, the pixel is not. Calibrated, by a fit to the bright stars of each image.
REFERENCE_SEEING = 1.65  # SEEING at which the following two are given [px]
PSF_FWHM, PSF_FWHM_SLOPE, PSF_FWHM_SCATTER = 1.30, 0.78, 0.05  # of the core [px], its change a px of SEEING
PSF_BETAS = (2.5, 3.5)  # Moffat indices
PSF_STEEP, PSF_STEEP_SLOPE, PSF_STEEP_SCATTER = (
    0.35,
    0.9,
    0.3,
)  # share of the steeper one in the core, as above
PSF_E1, PSF_E2 = (0.01, 0.08), (-0.03, 0.09)  # distortion (a^2 - b^2) / (a^2 + b^2): mean, scatter
PSF_E_CORRELATION = -0.85  # of the two components, over the quadrants
COMA_FLUX, COMA_WIDTH = 0.12, 2.2  # share of the light, and width in units of the core's
COMA_X, COMA_Y = (0.25, 0.5), (0.95, 0.15)  # displacement in units of the core's FWHM: mean, scatter
PSF_SLOPE = 0.06  # relative change of the width across a quadrant, along each axis; from concentrations
PSF_MAG_OFFSET, PSF_MAG_SCATTER = (
    -0.010,
    0.007,
)  # magnitude of all the light less PSF magnitude, an image [mag]; APCOR6

# Where objects are, against where the WCS puts their catalogue position.
ASTROMETRIC_SCATTER = 0.04  # of an image as a whole, each axis [px]; assumed
POSITION_SCATTER = 0.05  # of an object, each axis [arcsec]: catalogue errors, proper motion; calibrated
GALAXY_POSITION_SCATTER = 0.06  # further one of galaxies, in half-light radii; assumed

# Noise.
NOISE_EXCESS, NOISE_EXCESS_SCATTER = (
    1.05,
    0.03,
)  # sky noise over sqrt(sky / gain + (read noise / gain)^2),
# and its scatter among quadrants; calibrated
FLAT_ERROR = 0.004  # relative error of a pixel's response; assumed
HOT_PIXEL_RATE = 2e-5  # share of pixels; assumed
HOT_PIXEL_COUNTS = 300.0  # mean of an exponential distribution [DN]; assumed
COSMIC_RAY_RATE = 1.5e-6  # a pixel and exposure: 1.3 cm^-2 min^-1 on 15 um pixels, in 30 s; assumed
COSMIC_RAY_COUNTS, COSMIC_RAY_LENGTH = (
    400.0,
    3.0,
)  # means of exponential distributions [DN a px], [px]; assumed
TRAIL_FRACTION = 0.003  # share of cutouts that a satellite crosses; assumed
TRAIL_COUNTS = (30.0, 1000.0)  # peak of a trail [DN], drawn evenly in its logarithm; assumed

# Objects per square degree, ZTF i-band range [mag, AB] and slope of log10 counts. Calibrated.
STARS = {"density": 3000, "bright": 10.5, "faint": 21.0, "slope": 0.21}
GALAXIES = {"density": 5000, "bright": 15.0, "faint": 21.0, "slope": 0.45}
COMPANION_FRACTION = 0.05  # share of objects moved to within 1 to 6 arcsec of another one of their class
GROUPED_FRACTION = 0.2  # share of galaxies that live in groups of 2 arcmin radius
DUPLICATE_FRACTION = 0.002  # share of rows of type DUP
UNOBSERVED_FRACTION = 0.01  # share of rows without an image in one band (flux 0)

# Binaries that the catalogue has as one star, before the cut in separation; assumed, after Raghavan et al.
# 2010, ApJS 190, 1.
BINARY_FRACTION, BINARY_SEPARATION, BINARY_SEPARATION_SCATTER = 0.10, 0.25, 0.8  # median [arcsec], log-normal
LARGEST_BINARY_SEPARATION = 0.9  # wider ones are two objects of the catalogue [arcsec]

# Galaxies: half-light radius, without a disc's bulge, at i = 18.5 [arcsec], its change [dex / mag] and
# scatter [dex]. Calibrated.
RADIUS, RADIUS_SLOPE, RADIUS_SCATTER = 1.24, -0.12, 0.22
RED_FRACTION = 0.45
ELLIPTICITY, LARGEST_ELLIPTICITY = 0.20, 0.6  # scale of a Rayleigh distribution; calibrated
DISC_BULGE, BULGE_RADIUS = 0.20, 0.3  # bulges of discs: largest share of the light, radius in disc radii
KNOTS, KNOT_COUNT = 0.20, 6  # star-forming regions of blue galaxies: largest share of the light, number

# Tractor-like label errors: shares of the objects. Assumed: about 0.5 % of a selected sample are wrong.
STAR_AS_GALAXY = 0.004  # of the stars
GALAXY_AS_STAR, COMPACT_RADIUS = 0.12, 0.45  # share of galaxies below this radius [arcsec]
