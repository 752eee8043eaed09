"""Fast reading of plain FITS images: float32 pixels, and cards written in the standard's simplest form.

Only the cards in use are read, of the 266 of a ZTF header. Files that are not plain are left to astropy.
"""

import re
from functools import lru_cache

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS, Wcsprm

from ztf_sg.cutouts.schema import NUMBER_KEYS, TEXT_KEYS
from ztf_sg.ztf import FITS_BLOCK

CARD = 80  # [bytes]
END_CARD = b"END".ljust(CARD)
SIMPLE_CARD = re.compile(rb"SIMPLE  = {20}T ")
INTEGER = re.compile(rb"= +(-?\d+) *(?:/[ -~]*)?")
NUMBER = re.compile(rb"= +([+-]?\d+(?:\.\d*)?(?:E[+-]?\d+)?) *(?:/[ -~]*)?")
TEXT = re.compile(rb"= +'([ -%(-9;-~]*)' *(?:/[ -~]*)?")  # : and & may mean more than text
KEYWORD = re.compile(r"(?!HIERARCH|CONTINUE)[A-Z0-9_-]* *")
SKY_KEYWORD = re.compile(
    r"WCSAXES|CTYPE\d|CUNIT\d|CRVAL\d|CDELT\d|CROTA\d|(CD|PC)\d_\d|LONPOLE|LATPOLE|RADESYS|EQUINOX"
    r"|PV\d_\d+|[AB]P?_(ORDER|DMAX|\d_\d)"
)
IMAGE_KEYS = ("BITPIX", "NAXIS", "NAXIS1", "NAXIS2")
SCALING_KEYS = ("BSCALE", "BZERO", "BLANK")
PATTERNS = (
    dict.fromkeys(IMAGE_KEYS, INTEGER) | dict.fromkeys(NUMBER_KEYS, NUMBER) | dict.fromkeys(TEXT_KEYS, TEXT)
)


def read_plain_image(path):
    """Return image, header values and projection of a plain FITS file; None for any other file.

    The image is float32, shape (height, width); the values are a dict of those `NUMBER_KEYS` and `TEXT_KEYS`
    that the header has; the projection is that of :func:`projection_cards`.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            content = file.read()
    except OSError:
        return None
    end = content.find(END_CARD)
    if end % CARD or not SIMPLE_CARD.match(content):
        return None
    plain, start, projection = _layout_of(content[:end])
    values = _values(content, start) if plain else {}
    size = [values.pop(key, 0) for key in IMAGE_KEYS]
    image = _image(content, FITS_BLOCK * (end // FITS_BLOCK + 1), *size)
    return None if image is None else (image, values, projection)


def projection_cards(header):
    """Return the WCS cards of an astropy header, but for CRPIX, as bytes; cutouts of one image share them."""
    return _layout_of(header.tostring(endcard=False, padding=False).encode())[2]


def sky_positions(projection, offsets):
    """Return RA and DEC [deg] of pixels, shape (n, 2), from their x - CRPIX1 and y - CRPIX2 [px], (n, 2).

    A projection, as of :func:`projection_cards`, that is not known raises a WcsError or a ValueError.
    wcslib alone converts ZTF's projection (TPV), fifty times as fast as ``astropy.wcs.WCS``, which is needed
    only for SIP polynomials and for the PV cards of old SCAMP versions.
    """
    has_polynomials = b"PV1_" in projection and b"---TPV'" not in projection
    if has_polynomials or b"-SIP" in projection or b"A_ORDER" in projection:
        header = fits.Header.fromstring(projection)
        header["CRPIX1"] = header["CRPIX2"] = 0.0
        return WCS(header).all_pix2world(offsets, 1)
    wcs = Wcsprm(header=projection)
    wcs.fix()
    return wcs.p2s(offsets, 1)["world"]


def _layout_of(cards):
    """Return what :func:`_layout` finds in some cards, with the cards of the projection joined."""
    plain, start, sky = _layout(np.frombuffer(cards, np.uint8).reshape(-1, CARD)[:, :8].tobytes())
    return plain, start, b"".join([cards[card : card + CARD] for card in sky])


@lru_cache(maxsize=256)
def _layout(keywords):
    """Return whether cards are plain, where the first of each keyword starts, and where the projection's do.

    The keywords are the first 8 bytes of each card, joined.
    """
    text = keywords.decode("latin-1")
    names = [text[start : start + 8] for start in range(0, len(text), 8)]
    start = {}
    for number, name in enumerate(names):
        start.setdefault(name.rstrip(), CARD * number)
    plain = all(map(KEYWORD.fullmatch, names)) and not any(key in start for key in SCALING_KEYS)
    sky = [CARD * number for number, name in enumerate(names) if SKY_KEYWORD.fullmatch(name.rstrip())]
    return plain, start, sky


def _values(content, start):
    """Return the values of those keys of `PATTERNS` that the header has, by key; none if one is not plain."""
    values = {}
    for key, pattern in PATTERNS.items():
        if key in start:
            match = pattern.fullmatch(content, start[key] + 8, start[key] + CARD)
            if match is None:
                return {}
            value = match[1].decode()
            if pattern is TEXT:
                values[key] = value.rstrip()
            else:
                values[key] = float(value) if "." in value or "E" in value else int(value)
    return values


def _image(content, start, depth, axes, width, height):
    """Return the image that begins at a byte of a file; None if it is not a complete float32 image."""
    length = FITS_BLOCK * -(-4 * width * height // FITS_BLOCK)
    if (depth, axes) != (-32, 2) or min(width, height) < 1 or len(content) < start + length:
        return None
    pixels = np.frombuffer(content, ">f4", width * height, start)
    return pixels.astype(np.float32).reshape(height, width)
