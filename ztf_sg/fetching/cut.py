"""What services send, read and checked: cutouts, and whole images that cutouts are cut from."""

from contextlib import contextmanager, suppress
from functools import partial
from io import BytesIO

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS, WcsError

from ztf_sg.cutouts import CutoutError, check_cutout, header_values, read_cutout
from ztf_sg.cutouts.folder import quiet_astropy
from ztf_sg.services import UnusableAnswer
from ztf_sg.ztf import CUTOUT_SHAPE, QUADRANT, first_pixel, image_name, image_wcs

MAX_DISTORTION = 30  # between the WCS of an image and its tangent plane in the metadata [px]
CENTRING_TOLERANCE = 3  # how far an object may be from the middle of its cutout, in x and in y [px]

# cards of a whole image, or of an HDU among others, that do not fit a part of its pixels in a file of its own
WHOLE_FILE_KEYS = (
    *("CHECKSUM", "DATASUM", "ZHECKSUM", "ZDATASUM", "BSCALE", "BZERO", "BLANK", "DATAMIN", "DATAMAX"),
    *("EXTNAME", "EXTVER", "EXTLEVEL", "INHERIT"),
)

TRAIL = "TRAIL"  # card that tells whether a trail crosses a cutout

# what astropy raises for headers with damaged cards
DAMAGE = (ValueError, TypeError, KeyError, AttributeError, fits.VerifyError, WcsError)


def read_answer(content, name):
    """Return the cutout of 20 x 20 px in the bytes of a FITS file, a PrimaryHDU.

    Raises UnusableAnswer if there is no usable one; `name` is what messages call it.
    """
    file = BytesIO(content)
    file.name = name
    try:
        with quiet_astropy():
            hdu = trim_cutout(fits.PrimaryHDU(*read_cutout(file)))
            hdu.verify("exception")
        return hdu
    except CutoutError as error:
        raise UnusableAnswer(str(error)) from error
    except DAMAGE as error:
        raise UnusableAnswer(f"{name}: its header is damaged ({error})") from error


def check_answer(hdu, origin, position=None, image=None):
    """Return a cutout as given, or raise UnusableAnswer if it is not what was asked for.

    Its ORIGIN must be `origin`; `position`, a named tuple with RA and DEC [deg, ICRS], must lie in its
    middle; and it must come from `image`, a metadata row.
    """
    if hdu.header.get("ORIGIN") != origin:
        raise UnusableAnswer(f"ORIGIN is {hdu.header.get('ORIGIN')!r}, expected {origin!r}")
    if image is not None:
        _check_source(hdu.header, image)
    if position is not None:
        pixel = usable_wcs(hdu.header).world_to_pixel_values(position.RA, position.DEC)
        offset = np.abs(pixel - (np.array(hdu.shape[::-1]) - 1) / 2).max()
        if not offset <= CENTRING_TOLERANCE:
            name = f"RA {position.RA:.5f}, DEC {position.DEC:.5f}"
            raise UnusableAnswer(f"{name} is {offset:.0f} px off the middle of the cutout")
    return hdu


def is_cutout(path, origin, position=None, image=None):
    """Tell whether a file is there, and a cutout that passes `check_answer`."""
    try:
        check_answer(read_answer(path.read_bytes(), path.name), origin, position, image)
    except (FileNotFoundError, UnusableAnswer):
        return False
    return True


def trail_of(path):
    """Return "yes" or "no" by the card `TRAIL` of a cutout's file, "" without one."""
    with quiet_astropy():
        return {True: "yes", False: "no"}.get(fits.getheader(path).get(TRAIL), "")


def check_image(content, image):
    """Raise UnusableAnswer unless the bytes of a file are the whole image of a metadata row."""
    name = image_name(image)
    try:
        with quiet_astropy():
            header = fits.getheader(BytesIO(content))
            fits.PrimaryHDU(header=header).verify("exception")
            header_length = len(header.tostring())
    except (OSError, *DAMAGE) as error:
        raise UnusableAnswer(f"{name}: no FITS header ({error})") from error
    width, height = side = header.get("NAXIS1"), header.get("NAXIS2")
    if side != QUADRANT or len(content) < header_length + 4 * width * height:
        raise UnusableAnswer(f"{name}: {width} x {height} px in {len(content)} bytes are no whole image")
    _check_source(header, image)
    corner = usable_wcs(header).pixel_to_world_values(0, 0)
    if not np.hypot(*image_wcs(image).wcs_world2pix(*corner, 0)) < MAX_DISTORTION:
        raise UnusableAnswer(f"{name}: its WCS is not that of the archive's metadata")


def is_whole_image(path, image):
    """Tell whether a file is there, and passes `check_image`."""
    try:
        check_image(path.read_bytes(), image)
    except (FileNotFoundError, UnusableAnswer):
        return False
    return True


def usable_wcs(header):
    """Return the celestial WCS of a header, an `astropy.wcs.WCS`; raise UnusableAnswer if it has none."""
    try:
        wcs = WCS(header)
        wcs.wcs.set()
    except DAMAGE as error:
        raise UnusableAnswer(f"the header has no usable WCS ({error})") from error
    if not (wcs.naxis == 2 and wcs.has_celestial):
        raise UnusableAnswer("the header has no WCS of the sky")
    return wcs


def _check_source(header, image):
    """Raise UnusableAnswer unless a header is that of an image, or of a cutout of it.

    The FILENAME card of ZTF's images is the name of the exposure of the whole CCD; QID tells the quadrant.
    """
    exposure = str(header.get("FILENAME", "")).removesuffix(".fits")
    quadrant = header.get("QID", int(image["qid"]))
    same = bool(exposure) and image_name(image).startswith(exposure)
    if not same or str(quadrant) != str(int(image["qid"])):
        raise UnusableAnswer(
            f"the header is that of {exposure!r}, quadrant {quadrant}, not of {image_name(image)}"
        )


@contextmanager
def open_image(path, find_trails=None):
    """Open a whole image; give a function of RA and DEC [deg, ICRS] that cuts it as `cut_image` does.

    `find_trails`, a function as :func:`ztf_sg.find_trails`, finds the trails that cross cutouts.
    """
    with fits.open(path) as hdus:
        wcs = usable_wcs(hdus[0].header)
        crossed = _crossed_pixels(hdus[0], find_trails) if find_trails else None
        yield partial(cut_image, hdus[0], wcs, crossed=crossed)


def _crossed_pixels(hdu, find_trails):
    """Return which pixels of an image trails cross, None if they cannot be looked for."""
    with suppress(ValueError):  # without sky there is none; what is wrong with a cutout is said of each
        return find_trails(hdu.data, hdu.header).mask


def cut_image(hdu, wcs, ra, dec, crossed=None):
    """Return the cutout around a position [deg, ICRS] of an image, with the pixels that the archive gives.

    Given which pixels trails cross, bool of the image's shape, its card `TRAIL` tells whether they cross it.
    Raises UnusableAnswer if it would not lie within the image, or is of no use.
    """
    name = f"RA {ra:.5f}, DEC {dec:.5f}"
    x, y = wcs.world_to_pixel_values(ra, dec)
    if not np.isfinite([x, y]).all():
        raise UnusableAnswer(f"{name} is not on the image's side of the sky")
    (left, width), (bottom, height) = first_pixel(x), first_pixel(y)
    if min(left, bottom) < 0 or left + width > hdu.shape[1] or bottom + height > hdu.shape[0]:
        raise UnusableAnswer(f"{name} is too near the edge of its image")
    place = slice(bottom, bottom + height), slice(left, left + width)
    cutout = _part(hdu, *place)
    if crossed is not None:
        cutout.header[TRAIL] = (bool(crossed[place].any()), "whether a trail crosses this cutout")
    try:
        check_cutout(name, cutout.data, header_values(cutout.header))
    except CutoutError as error:
        raise UnusableAnswer(str(error)) from error
    return cutout


def trim_cutout(hdu):
    """Bring a cutout that is one pixel too large to size, by dropping its first row or column.

    Parameters
    ----------
    hdu : astropy.io.fits.PrimaryHDU
        Cutout of 20 or 21 px on a side.

    Returns
    -------
    astropy.io.fits.PrimaryHDU
        With its WCS moved along; 20 x 20 px.

    Raises
    ------
    CutoutError
        If the cutout has any other size.
    """
    bottom, left = (side - wanted for side, wanted in zip(hdu.data.shape, CUTOUT_SHAPE, strict=True))
    if bottom not in (0, 1) or left not in (0, 1):
        height, width = hdu.data.shape
        raise CutoutError(f"{height} x {width} px cannot be trimmed to {CUTOUT_SHAPE[0]} x {CUTOUT_SHAPE[1]}")
    return _part(hdu, slice(bottom, None), slice(left, None))


def _part(hdu, rows, columns):
    """Return a part of an image, with the WCS moved along, and without what held for the whole file."""
    part = fits.PrimaryHDU(hdu.data[rows, columns].astype(np.float32), hdu.header)
    for key in WHOLE_FILE_KEYS:
        part.header.remove(key, ignore_missing=True, remove_all=True)
    for key, first in (("CRPIX1", columns.start), ("CRPIX2", rows.start)):
        if first:
            part.header[key] = part.header.get(key, 0.0) - first
    return part
