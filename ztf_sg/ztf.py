"""Facts about the camera of the Zwicky Transient Facility (ZTF) and its images.

Camera: Dekany et al. 2020, PASP 132, 038001; image products: Masci et al. 2019, PASP 131, 018003, and
https://irsa.ipac.caltech.edu/docs/program_interface/ztf_metadata.html.
"""

import numpy as np
import pandas as pd
from astropy.wcs import WCS

from ztf_sg.checks import is_number, is_whole_number

FILTERCODES = ("zg", "zr", "zi")
QUADRANT = (3072, 3080)  # width and height of a science image, one readout quadrant of a CCD [px]
PIXEL_SCALE = 1.012  # [arcsec / px]
MAX_SEEING = 1.85  # default limit of a search for images [arcsec, FWHM]
READ_NOISE = 10.0  # [e-]
APERTURES = (2, 3, 4, 6, 10, 14)  # diameters of the apertures that APCOR1..6 belong to [px]

CUTOUT_SIZE = 20.0  # width and height of a cutout [arcsec]
CUTOUT_SHAPE = (20, 20)  # height and width of a cutout [px]
# A cutout starts with the first pixel whose centre is at most this far before its object [px].
FIRST_PIXEL = 9.72

FITS_BLOCK = 2880  # [bytes]
HEADER_BYTES = 8 * FITS_BLOCK  # of a science image: some 270 cards of 80 bytes
IMAGE_BYTES = HEADER_BYTES + -(-4 * QUADRANT[0] * QUADRANT[1] // FITS_BLOCK) * FITS_BLOCK
CUTOUT_BYTES = HEADER_BYTES + FITS_BLOCK

NAME_COLUMNS = ("filefracday", "field", "ccdid", "qid", "filtercode", "imgtypecode")
WCS_COLUMNS = ("crpix1", "crpix2", "crval1", "crval2", "cd11", "cd12", "cd21", "cd22")


def one_turn(ra):
    """Return right ascensions from 0 on and below 360 [deg]; others than finite ones stay as they are."""
    ra = np.asarray(ra, dtype=float)
    beyond = np.isfinite(ra) & ~((ra >= 0) & (ra < 360))
    return np.where(beyond, np.where(beyond, ra, 0.0) % 360 % 360, ra)  # % 360 of -1e-15 is 360


def check_filtercode(filtercode):
    """Raise a ValueError unless a filter code is one of `FILTERCODES`."""
    if filtercode not in FILTERCODES:
        raise ValueError(f"unknown filter code {filtercode!r}; known: {', '.join(FILTERCODES)}")


def check_limits(max_seeing, max_infobits):
    """Raise a ValueError unless limits are a number above 0 [arcsec] and a whole number from 0 on."""
    if not (is_number(max_seeing) and 0 < max_seeing < np.inf):
        raise ValueError(f"max_seeing={max_seeing!r}: expected a number above 0 [arcsec]")
    if not (is_whole_number(max_infobits) and max_infobits >= 0):
        raise ValueError(f"max_infobits={max_infobits!r}: expected a whole number, 0 or more")


def image_name(image):
    """Return the file name of a science image, ``ztf_YYYYMMDDffffff_FFFFFF_zi_cCC_o_qQ_sciimg.fits``.

    Parameters
    ----------
    image : pandas.Series
        A row of ZTF metadata, with the columns `NAME_COLUMNS`.

    Raises
    ------
    ValueError
        If the row lacks one of these values.
    """
    missing = [name for name in NAME_COLUMNS if name not in image or pd.isna(image[name])]
    if missing:
        raise ValueError(f"this row of ZTF metadata lacks {', '.join(missing)}; found {list(image.index)}")
    day, field, ccd, quadrant = (int(image[name]) for name in NAME_COLUMNS[:4])
    band, kind = image["filtercode"], image["imgtypecode"]
    return f"ztf_{day}_{field:06d}_{band}_c{ccd:02d}_{kind}_q{quadrant}_sciimg.fits"


def image_wcs(image):
    """Return the tangent-plane WCS of an image; it leaves out the distortion and is good to a few px.

    Parameters
    ----------
    image : pandas.Series
        A row of ZTF metadata, with the columns `WCS_COLUMNS`.
    """
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crpix = [image["crpix1"], image["crpix2"]]
    wcs.wcs.crval = [image["crval1"], image["crval2"]]
    wcs.wcs.cd = [[image["cd11"], image["cd12"]], [image["cd21"], image["cd22"]]]
    return wcs


def first_pixel(position, size=CUTOUT_SIZE):
    """Return the first pixel of a cutout on one axis of its image, and how many pixels it has there.

    In cutouts from IRSA, objects lie 8.72 to 9.72 px from the centre of the first of 20 pixels, and a cutout
    of 21 pixels has one more in front.

    Parameters
    ----------
    position : float
        Position of the object on this axis [px, from 0].
    size : float
        Width of the cutout [arcsec].

    Examples
    --------
    >>> first_pixel(1000.0)
    (991, 20)
    """
    width = int(round(size / PIXEL_SCALE))
    return int(np.ceil(position - FIRST_PIXEL - (width - 20) / 2)), width
