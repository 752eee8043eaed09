"""Every number of the simulated sky, and where it comes from.

"Calibrated": simulated cutouts then have the distributions of real ZTF i-band cutouts, over whole nights.
``python tools/calibrate_mock_sky.py`` prints both, and fits the numbers of the PSF but for COMA_FLUX and
COMA_WIDTH; the other numbers are set by hand. "Documented": as described for the camera (Dekany et al. 2020,
PASP 132, 038001) and the pipeline (Masci et al. 2019, PASP 131, 018003). "Assumed": plausible, and hardly
constrained by the cutouts.
"""

# The area of sky: a corner of a sweep that reaches over the edge of the reference region [deg].
RA_RANGE, DEC_RANGE = (4.8, 6.8), (-1.9, 0.1)

# The camera. Documented, and in the headers of all images.
GAIN, EXPTIME = 6.2, 30.0  # [e-/DN], [s]
SATURATE, SATURATE_SCATTER = 49100.0, 800.0  # SATURATE of the headers [DN]; calibrated
FULL_WELL = (1.08, 1.32)  # range of the level that saturated pixels reach, in units of SATURATE; calibrated

# Fields, made up: number and centre [deg].
FIELDS = {8001: (5.35, -1.35), 8002: (6.25, -0.45), 8003: (5.1, -0.6), 8004: (6.5, -1.2)}
NIGHTS = 12  # each field is exposed once a night, in conditions of its own

# FWHM of the seeing as in the headers [px]: its mean and scatter among exposures, and its scatter among the
# quadrants of one. Calibrated, with allowance for the images that the search for sharp ones leaves out.
SEEING, SEEING_SCATTER, QUADRANT_SEEING_SCATTER = 1.74, 0.09, 0.13
SEEING_RANGE = (1.36, 2.3)

# The sky [DN]: dark sky, and moonlight on some nights, both log-normal. Calibrated: the quantiles 5, 50 and
# 95 % of the cutouts are 179, 259 and 653 DN.
DARK_SKY, DARK_SKY_SCATTER = 230.0, 0.22
MOONLIT_FRACTION, MOONLIGHT, MOONLIGHT_SCATTER = 0.4, 250.0, 0.6
QUADRANT_SKY_SCATTER = 0.06  # relative, from vignetting and scattered light; calibrated
SKY_SLOPE = 0.01  # relative change of the sky across a quadrant, along each axis; calibrated

# Zero point at airmass 1 [mag], its scatter among exposures and among quadrants, and the extinction [mag per
# airmass] of Masci et al. 2019.
MAGZP, MAGZP_SCATTER, QUADRANT_MAGZP_SCATTER, EXTINCTION = 25.60, 0.04, 0.08, 0.05
AIRMASS_RANGE = (1.2, 1.6)

# Point-spread function: an elliptical core, which is a mixture of two Moffat profiles of equal FWHM, and a
# wider round profile displaced from it, the coma of the optics, which is much the same in all images. It
# includes charge diffusion but not the pixel. Calibrated, by a fit to the bright stars of each image.
REFERENCE_SEEING = 1.65  # SEEING at which PSF_FWHM and PSF_STEEP are given [px]; slopes are per px of SEEING
PSF_FWHM, PSF_FWHM_SLOPE, PSF_FWHM_SCATTER = 1.30, 0.78, 0.05  # of the core [px]
PSF_BETAS = (2.5, 3.5)  # Moffat indices
PSF_STEEP, PSF_STEEP_SLOPE, PSF_STEEP_SCATTER = 0.35, 0.9, 0.3  # share of the larger index in the core
PSF_E1, PSF_E2 = (0.01, 0.08), (-0.03, 0.09)  # distortion (a^2 - b^2) / (a^2 + b^2): mean, scatter
PSF_E_CORRELATION = -0.85  # of the two components, over the quadrants
COMA_FLUX, COMA_WIDTH = 0.12, 2.2  # share of the light, and width in units of the core's
COMA_X, COMA_Y = (0.25, 0.5), (0.95, 0.15)  # displacement in units of the core's FWHM: mean, scatter
PSF_SLOPE = 0.06  # relative change of the width across a quadrant, along each axis; from concentrations
# Magnitude of all the light minus PSF magnitude [mag]: mean and scatter among images; from APCOR6.
PSF_MAG_OFFSET, PSF_MAG_SCATTER = -0.010, 0.007

# True positions of objects, relative to where the WCS puts their catalogue positions.
ASTROMETRIC_SCATTER = 0.04  # of an image as a whole, on each axis [px]; assumed
POSITION_SCATTER = 0.05  # of an object, on each axis [arcsec]: catalogue errors, proper motion; calibrated
GALAXY_POSITION_SCATTER = 0.06  # of a galaxy in addition, in half-light radii; assumed

# Sky noise over sqrt(sky / gain + (read noise / gain)^2): mean, scatter among quadrants; calibrated.
NOISE_EXCESS, NOISE_EXCESS_SCATTER = 1.05, 0.03

# Marks that no object made, and errors of pixels; all assumed.
FLAT_ERROR = 0.004  # relative error of a pixel's response
HOT_PIXEL_RATE, HOT_PIXEL_COUNTS = 2e-5, 300.0  # share of the pixels; mean, exponential [DN]
COSMIC_RAY_RATE = 1.5e-6  # per pixel and exposure: 1.3 cm^-2 min^-1 on 15 um pixels, in 30 s
COSMIC_RAY_COUNTS, COSMIC_RAY_LENGTH = 400.0, 3.0  # means, exponential [DN per px], [px]
TRAIL_FRACTION = 0.003  # share of the cutouts that a satellite crosses
TRAIL_COUNTS, TRAIL_FWHM = (30.0, 1000.0), 2.0  # range of the peak [DN], even in its logarithm; width [px]

# Objects per square degree, range of the i magnitude [mag, AB], slope of log10 counts. Calibrated.
STARS = {"density": 3000, "bright": 10.5, "faint": 21.0, "slope": 0.21}
GALAXIES = {"density": 5000, "bright": 15.0, "faint": 21.0, "slope": 0.45}
COMPANION_FRACTION = 0.05  # share of the objects moved to within 1 to 6 arcsec of another one of their class
GROUPED_FRACTION = 0.2  # share of the galaxies that live in groups of 2 arcmin radius
DUPLICATE_FRACTION = 0.002  # share of the rows that have type DUP
UNDETECTED_FRACTION = 0.01  # share of the rows with no image in one band (flux 0), or only noise in it
FLUX_NOISE = 0.05  # of such a band [nanomaggies]; assumed

# Colours [mag]; assumed, but for the locus of stars.
LOCUS_SCATTER = 0.03  # of stars about it, in each colour
GALAXY_COLOURS = (  # blue galaxies, red ones: g - r, r - i, i - z without redshift; growth with it; scatter
    ((0.35, 0.15, 0.04), (0.25, 0.14, 0.09), (0.12, 0.05, 0.05)),
    ((0.72, 0.33, 0.19), (0.40, 0.12, 0.08), (0.07, 0.03, 0.03)),
)

# Binaries that the catalogue lists as one star; assumed, after Raghavan et al. 2010, ApJS 190, 1.
BINARY_FRACTION = 0.10  # share of the stars, before wide pairs are left out
BINARY_SEPARATION, BINARY_SEPARATION_SCATTER = 0.25, 0.8  # median [arcsec] and scatter, log-normal
LARGEST_BINARY_SEPARATION = 0.9  # a wider pair is two objects of the catalogue [arcsec]

# Galaxies: half-light radius, without the bulge of a disc, at i = 18.5 [arcsec], its slope [dex / mag] and
# scatter [dex]. Calibrated.
RADIUS, RADIUS_SLOPE, RADIUS_SCATTER = 1.24, -0.12, 0.22
RED_FRACTION = 0.45
ELLIPTICITY, LARGEST_ELLIPTICITY = 0.20, 0.6  # scale of a Rayleigh distribution; calibrated
DISC_BULGE, BULGE_RADIUS = 0.20, 0.3  # bulge of a disc: largest share of the light, radius in disc radii
KNOTS, KNOT_COUNT = 0.20, 6  # star-forming regions of blue discs: largest share of the light, number

# Label errors like those of Tractor. Assumed: about 0.5 % of a selected sample are wrong.
STAR_AS_GALAXY = 0.004  # share of the stars
GALAXY_AS_STAR, COMPACT_RADIUS = 0.12, 0.45  # share of the galaxies below this radius [arcsec]

# Bands g and r, whose images are of any seeing and sky. By the headers and the sky of 19 real images.
# Median and scatter of SEEING [px, log-normal]; dark sky and moonlight [DN]; zero point at airmass 1 [mag].
WIDE_BANDS = {
    "zg": {"fid": 1, "seeing": 2.3, "dark_sky": 130.0, "moonlight": 450.0, "magzp": 26.25},
    "zr": {"fid": 2, "seeing": 2.0, "dark_sky": 190.0, "moonlight": 450.0, "magzp": 26.27},
}
WIDE_SEEING_SCATTER, WIDE_SEEING_RANGE = 0.35, (1.1, 5.6)
WIDE_SKY_RANGE, WIDE_MAGZP_RANGE = (80.0, 1200.0), (25.2, 26.5)
CLOUDY_FRACTION, CLOUD_EXTINCTION = 0.15, 0.4  # share of the exposures; mean, exponential [mag]
WIDE_SATURATE, WIDE_NIGHTS = 59500.0, 6
# SEEING minus the FWHM of the PSF without the pixel [px], mean and scatter; the APCOR of real images, g to i
# and 1.4 to 4.7 px, give this if a mixture of Moffat profiles explains them.
SEEING_EXCESS, SEEING_EXCESS_SCATTER = 0.30, 0.07
SMALLEST_FWHM = 0.7  # [px]
PSF_MAG_LOSS = 0.0028  # light beyond the aperture of PSF magnitudes grows by this with FWHM^2 [mag / px^2]
