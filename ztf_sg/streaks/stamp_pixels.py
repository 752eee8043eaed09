"""Pixels of one stamp, from whatever a broker gives: FITS bytes, packed or not, bare numbers, or lists."""

import re
import warnings
import zlib
from io import BytesIO
from math import isqrt

import numpy as np
from astropy.io import fits

from ztf_sg.streaks.no_data import HUGE
from ztf_sg.streaks.stamps import SMALLEST
from ztf_sg.ztf import FITS_BLOCK

GZIP = b"\x1f\x8b"
LARGEST_STAMP = 512  # height and width [px]
MOST_BYTES = 2**24  # of an unpacked stamp: one of 63 px has 16 kB and its header
CARD, END_CARD = 80, b"END".ljust(80)
FIRST_CARD = re.compile(rb"SIMPLE  = +T ")  # ZTF's is not where the standard wants it
NUMBER_CARD = re.compile(rb"(BITPIX|NAXIS[12]?) *= +(-?\d+) *(?:/.*)?")
SCALED = re.compile(rb"(BSCALE|BZERO|BLANK) *=")
SIMPLE_WARNING = "Found a SIMPLE card but its format doesn't respect the FITS Standard"


class StampError(ValueError):
    """A stamp that cannot be used; the message says what is wrong with it."""


def stamp_pixels(value):
    """Return a stamp as float32 pixels, shape (height, width); NaN where there is no data.

    Parameters
    ----------
    value : bytes, numpy.ndarray or list
        A FITS file, packed by gzip or not; the bytes of little-endian float32 pixels of a square; such
        pixels in a flat array or list; or rows of pixels, of which None is no data.

    Raises
    ------
    StampError
        If it is none of these, or larger than :data:`LARGEST_STAMP` or :data:`MOST_BYTES`.
    """
    pixels = _from_bytes(bytes(value)) if isinstance(value, bytes | bytearray | memoryview) else value
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            pixels = np.asarray(pixels, dtype=np.float32)  # None becomes NaN
    except (TypeError, ValueError, OverflowError) as error:
        raise StampError(f"is no image ({' '.join(str(error).split())})") from error
    if pixels.ndim == 1:
        pixels = _square(pixels)
    if pixels.ndim != 2 or min(pixels.shape) < SMALLEST:
        raise StampError(f"is no image of at least {SMALLEST} px: it has the shape {pixels.shape}")
    if max(pixels.shape) > LARGEST_STAMP:
        raise StampError(f"is no stamp: {pixels.shape[0]} x {pixels.shape[1]} px; cut one out of the image")
    return np.where(np.abs(pixels) < HUGE, pixels, np.float32(np.nan))


def unpacked(content, most=MOST_BYTES):
    """Return bytes that gzip packed, or others as they are; a StampError if they are too many or damaged."""
    parts = []
    while content.startswith(GZIP):
        unpacker = zlib.decompressobj(wbits=31)
        try:
            parts.append(unpacker.decompress(content, most + 1))
        except zlib.error as error:
            raise StampError(f"is damaged: gzip cannot unpack it ({error})") from error
        if sum(map(len, parts)) > most:
            raise StampError(f"unpacks to more than {most / 2**20:.0f} MB, which no stamp has")
        if not unpacker.eof:
            raise StampError("is cut short: its gzip bytes have no end")
        content = unpacker.unused_data
    return b"".join(parts) if parts else content


def fits_images(content):
    """Return the images in the bytes of a FITS file as a list of (name, pixels, header), unpacked.

    The name is the EXTNAME, or the STAMP_TYPE that ALeRCE's client gives the images of an alert.

    A StampError says what is wrong with a file that cannot be read, or holds no image.
    """
    content = unpacked(content)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=re.escape(SIMPLE_WARNING))
            with fits.open(BytesIO(content), memmap=False) as hdus:
                images = [
                    (_name(hdu.header), _readable_pixels(hdu), hdu.header)
                    for hdu in hdus
                    if hdu.is_image and hdu.header.get("NAXIS")
                ]
    except StampError:
        raise
    except Exception as error:  # damaged files raise errors of many kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        raise StampError(f"is no whole FITS file ({reason})") from error
    if not images:
        raise StampError("is a FITS file without an image")
    return images


def _name(header):
    """Return what a header calls its image; "" if it does not."""
    return str(header.get("EXTNAME") or header.get("STAMP_TYPE", "")).strip()


def _readable_pixels(hdu):
    """Return the pixels of an HDU, refused before they are read if they are too many."""
    if hdu.size > MOST_BYTES:
        raise StampError(f"is no stamp: {' x '.join(map(str, hdu.shape))} px; cut one out of the image")
    return hdu.data


def _from_bytes(content):
    """Return the pixels in some bytes: of a FITS file, or float32 numbers (n,)."""
    if not content:
        raise StampError("is empty")
    content = unpacked(content)
    if content.startswith(b"SIMPLE"):
        plain = _plain_fits(content)
        return fits_images(content)[0][1] if plain is None else plain
    if len(content) % 4:
        raise StampError(f"is neither FITS nor float32 pixels: {len(content)} bytes, from {content[:8]!r} on")
    return np.frombuffer(content, "<f4")


def _plain_fits(content):
    """Return the float32 pixels of the only image of a FITS file; None if astropy must read the file."""
    end = content.find(END_CARD)
    if end < 0 or end % CARD or not FIRST_CARD.match(content):
        return None
    cards = [content[start : start + CARD] for start in range(0, end, CARD)]
    numbers = [match for match in map(NUMBER_CARD.fullmatch, cards) if match]
    if len(numbers) != 4 or any(map(SCALED.match, cards)):
        return None
    axes = {match[1]: int(match[2]) for match in numbers}
    height, width = axes.get(b"NAXIS2", 0), axes.get(b"NAXIS1", 0)
    start, size = FITS_BLOCK * (end // FITS_BLOCK + 1), 4 * height * width
    is_plain = (axes.get(b"BITPIX"), axes.get(b"NAXIS")) == (-32, 2) and min(height, width) > 0
    if not is_plain or len(content) < start + size or content.find(b"XTENSION", start + size) >= 0:
        return None
    return np.frombuffer(content, ">f4", height * width, start).reshape(height, width)


def _square(pixels):
    """Return flat pixels as a square image."""
    side = isqrt(len(pixels))
    if not side or side * side != len(pixels):
        raise StampError(f"is no square: it has {len(pixels)} pixels; give rows of pixels")
    return pixels.reshape(side, side)
