"""One cutout: read and checked as it comes from a service, or cut out of a whole image, trimmed and saved."""

import logging
import threading
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.nddata import Cutout2D, NoOverlapError, PartialOverlapError
from astropy.utils.exceptions import AstropyWarning
from astropy.wcs import WCS, WcsError

from ztf_sg.cutouts import CutoutError, check_cutout, read_cutout
from ztf_sg.files import atomic_write
from ztf_sg.services.errors import UnusableAnswer
from ztf_sg.ztf import CUTOUT_SHAPE, CUTOUT_SIZE, QUADRANT, first_pixel, image_name, image_wcs

logger = logging.getLogger(__name__)

MAX_DISTORTION = 30  # between the WCS of an image and its tangent plane in the metadata [px]
CENTRING_TOLERANCE = 3  # how far an object may be from the middle of its cutout, in x and in y [px]

# what astropy raises for headers with damaged cards
DAMAGE = (ValueError, TypeError, KeyError, AttributeError, fits.VerifyError, WcsError)

# reading FITS turns warnings into errors for a while, for all threads: one at a time
_reading = threading.Lock()


def read_answer(content, name):
    """Read a fetched cutout, and bring it to size.

    Parameters
    ----------
    content : bytes
        A FITS file.
    name : str
        What to call it in messages.

    Returns
    -------
    astropy.io.fits.PrimaryHDU
        Of 20 x 20 px.

    Raises
    ------
    UnusableAnswer
        If it is not a usable cutout.
    """
    file = BytesIO(content)
    file.name = name
    try:
        with _reading, warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)  # what is wrong with it is told by the error
            data, header = read_cutout(file)
            hdu = trim_cutout(fits.PrimaryHDU(data, header))
            hdu.verify("exception")
        return hdu
    except CutoutError as error:
        raise UnusableAnswer(str(error)) from error
    except DAMAGE as error:
        raise UnusableAnswer(f"{name}: its header is damaged ({error})") from error


def check_place(hdu, position, origin):
    """Raise UnusableAnswer unless a cutout shows a position, and comes from where it should.

    Parameters
    ----------
    hdu : astropy.io.fits.PrimaryHDU
    position : named tuple
        With RA and DEC [deg, ICRS].
    origin : str
        What its ORIGIN must be.

    Returns
    -------
    astropy.io.fits.PrimaryHDU
        The cutout, as given.
    """
    if hdu.header.get("ORIGIN") != origin:
        raise UnusableAnswer(f"ORIGIN is {hdu.header.get('ORIGIN')!r}, expected {origin!r}")
    height, width = hdu.shape
    x, y = usable_wcs(hdu.header).world_to_pixel_values(position.RA, position.DEC)
    offset = max(abs(x - (width - 1) / 2), abs(y - (height - 1) / 2))
    if not offset <= CENTRING_TOLERANCE:
        raise UnusableAnswer(
            f"RA {position.RA:.5f}, DEC {position.DEC:.5f} is {offset:.0f} px off the middle of the cutout"
        )
    return hdu


def usable_wcs(header):
    """Return the celestial WCS of a header, or raise UnusableAnswer if it has none.

    Parameters
    ----------
    header : astropy.io.fits.Header

    Returns
    -------
    astropy.wcs.WCS
    """
    try:
        wcs = WCS(header)
        wcs.wcs.set()
    except DAMAGE as error:
        raise UnusableAnswer(f"the header has no usable WCS ({error})") from error
    if not (wcs.naxis == 2 and wcs.has_celestial):
        raise UnusableAnswer("the header has no WCS of the sky")
    return wcs


def check_source(header, image):
    """Raise UnusableAnswer unless a header is that of an image, or of a cutout of it.

    Parameters
    ----------
    header : astropy.io.fits.Header
    image : pandas.Series
        Metadata row of the image.

    Notes
    -----
    The FILENAME card of ZTF's images is the name of the exposure of the whole CCD; QID tells the quadrant.
    """
    exposure = str(header.get("FILENAME", "")).removesuffix(".fits")
    quadrant = header.get("QID", int(image["qid"]))
    same = bool(exposure) and image_name(image).startswith(exposure)
    if not same or str(quadrant) != str(int(image["qid"])):
        raise UnusableAnswer(
            f"the header is that of {exposure!r}, quadrant {quadrant}, not of {image_name(image)}"
        )


def save_image(content, path, image):
    """Save a whole image under its name, or not at all.

    Parameters
    ----------
    content : bytes
        A FITS file.
    path : path-like
    image : pandas.Series
        Its metadata row.

    Raises
    ------
    UnusableAnswer
        If the file is not that image.
    """
    _check_image(BytesIO(content), len(content), image)
    with atomic_write(path) as file:
        file.write(content)
    logger.info("%s: kept", Path(path).name)


def is_whole_image(path, image):
    """Tell whether a file is there, and a whole image.

    Parameters
    ----------
    path : pathlib.Path
    image : pandas.Series
        Metadata row of the image.

    Returns
    -------
    bool
    """
    try:
        with open(path, "rb") as file:
            _check_image(file, path.stat().st_size, image)
    except (FileNotFoundError, UnusableAnswer):
        return False
    return True


def _check_image(file, length, image):
    """Raise UnusableAnswer unless a FITS file of so many bytes is a certain whole image."""
    name = image_name(image)
    try:
        with _reading, warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)
            header = fits.getheader(file)
            fits.PrimaryHDU(header=header).verify("exception")
            header_length = len(header.tostring())
    except (OSError, *DAMAGE) as error:
        raise UnusableAnswer(f"{name}: no FITS header ({error})") from error
    side = header.get("NAXIS1"), header.get("NAXIS2")
    if side != QUADRANT or length < header_length + 4 * side[0] * side[1]:
        raise UnusableAnswer(f"{name}: {side[0]} x {side[1]} px in {length} bytes are no whole image")
    check_source(header, image)
    corner = usable_wcs(header).pixel_to_world_values(0, 0)
    if not np.hypot(*image_wcs(image).wcs_world2pix(*corner, 0)) < MAX_DISTORTION:
        raise UnusableAnswer(f"{name}: its WCS is another one than the archive's metadata tell")


def cut_image(hdu, ra, dec, size=CUTOUT_SIZE, wcs=None):
    """Cut a cutout out of a whole image, with the same pixels as the cutout service gives.

    Parameters
    ----------
    hdu : astropy.io.fits.PrimaryHDU
        The image.
    ra, dec : float
        Where [deg, ICRS].
    size : float
        Width of the cutout [arcsec].
    wcs : astropy.wcs.WCS, optional
        The image's WCS, if it is there already.

    Returns
    -------
    astropy.io.fits.PrimaryHDU
        With the header of the image, and the WCS moved along.

    Raises
    ------
    UnusableAnswer
        If the cutout would not lie within the image, or is of no use.
    """
    wcs = usable_wcs(hdu.header) if wcs is None else wcs
    x, y = wcs.world_to_pixel_values(ra, dec)
    if not np.isfinite([x, y]).all():
        raise UnusableAnswer(f"RA {ra:.5f}, DEC {dec:.5f} is not on the image's side of the sky")
    (left, width), (bottom, height) = first_pixel(x, size), first_pixel(y, size)
    middle = (left + (width - 1) / 2, bottom + (height - 1) / 2)
    try:
        cutout = Cutout2D(hdu.data, middle, (height, width), wcs, mode="strict", copy=True)
    except (NoOverlapError, PartialOverlapError) as error:
        raise UnusableAnswer(f"RA {ra:.5f}, DEC {dec:.5f} is too near the edge of its image") from error
    header = hdu.header.copy()
    header["CRPIX1"], header["CRPIX2"] = cutout.wcs.wcs.crpix
    pixels = cutout.data.astype(np.float32)
    try:
        check_cutout(f"RA {ra:.5f}, DEC {dec:.5f}", pixels, header)
    except CutoutError as error:
        raise UnusableAnswer(str(error)) from error
    return fits.PrimaryHDU(pixels, header)


def trim_cutout(hdu, shape=CUTOUT_SHAPE):
    """Bring a cutout that is one pixel too large to size, by dropping its first row or column.

    Parameters
    ----------
    hdu : astropy.io.fits.PrimaryHDU
        Cutout of 20 or 21 px on a side.
    shape : tuple of int
        The (height, width) wanted.

    Returns
    -------
    astropy.io.fits.PrimaryHDU
        With its WCS moved along.

    Raises
    ------
    CutoutError
        If the cutout has any other size.
    """
    height, width = hdu.data.shape
    if height - shape[0] not in (0, 1) or width - shape[1] not in (0, 1):
        raise CutoutError(f"{height} x {width} px cannot be trimmed to {shape[0]} x {shape[1]}")
    top, left = height - shape[0], width - shape[1]
    trimmed = fits.PrimaryHDU(hdu.data[top:, left:], hdu.header)
    for key, shift in (("CRPIX1", left), ("CRPIX2", top)):
        if shift and key in trimmed.header:
            trimmed.header[key] -= shift
    return trimmed


def save_cutout(hdu, path):
    """Save a cutout under its name, or not at all.

    Parameters
    ----------
    hdu : astropy.io.fits.PrimaryHDU
    path : path-like
    """
    with atomic_write(path) as file:
        hdu.writeto(file, output_verify="ignore")  # it was verified when it was read


def is_cutout_of(path, position, origin):
    """Tell whether a file is a good cutout of a position.

    Parameters
    ----------
    path : pathlib.Path
    position, origin
        As of :func:`check_place`.

    Returns
    -------
    bool
    """
    try:
        check_place(read_answer(path.read_bytes(), path.name), position, origin)
    except UnusableAnswer:
        return False
    return True


def has_origin(path, origin):
    """Tell whether a file is a readable cutout with an ORIGIN.

    Parameters
    ----------
    path : pathlib.Path
    origin : str

    Returns
    -------
    bool
    """
    try:
        return read_answer(path.read_bytes(), path.name).header.get("ORIGIN") == origin
    except UnusableAnswer:
        return False
