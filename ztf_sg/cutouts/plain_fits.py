"""Plain FITS images read fast: a float32 image whose cards are written as the standard's plainest ones are.

A ZTF header has 266 cards, of which some 50 are of use here, and astropy spends most of its time on checks of
each. Here the cards in use are picked by their places, which all files of a kind share. Whatever is not plain
is left to astropy: None is returned, never a guess.
"""

import re
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS, Wcsprm

from ztf_sg.ztf import FITS_BLOCK

CARD = 80  # [bytes]
END_CARD = b"END".ljust(CARD)
SIMPLE_CARD = re.compile(rb"SIMPLE  = {20}T ")
INTEGER = re.compile(rb"= +(-?\d+) *(?:/[ -~]*)?")
NUMBER = re.compile(rb"= +([+-]?\d+(?:\.\d*)?(?:E[+-]?\d+)?) *(?:/[ -~]*)?")
TEXT = re.compile(rb"= +'([ -%(-9;-~]*)' *(?:/[ -~]*)?")  # neither quotes, nor : and & which may mean more
KEYWORD = re.compile(r"(?!HIERARCH|CONTINUE)[A-Z0-9_-]* *")
SKY_KEYWORD = re.compile(
    r"WCSAXES|CTYPE\d|CUNIT\d|CRVAL\d|CDELT\d|CROTA\d|(CD|PC)\d_\d|LONPOLE|LATPOLE|RADESYS|EQUINOX"
    r"|PV\d_\d+|[AB]P?_(ORDER|DMAX|\d_\d)"
)
IMAGE_KEYS = ("BITPIX", "NAXIS", "NAXIS1", "NAXIS2")
SCALING_KEYS = ("BSCALE", "BZERO", "BLANK")


class Layout(NamedTuple):
    """Where the cards in use start in a header [bytes]."""

    plain: bool
    start: dict  # of the first card with each keyword
    sky: list  # of the cards that state the projection, CRPIX apart


def read_plain_image(path, number_keys, text_keys):
    """Return the image of a plain FITS file, its header's values in use and its projection.

    Parameters
    ----------
    path : path-like
    number_keys, text_keys : tuple of str
        Keywords wanted whose values are numbers and texts.

    Returns
    -------
    image : numpy.ndarray
        float32, shape (height, width).
    header : dict
        Value by keyword, those that the header lacks left out.
    projection : bytes
        As :func:`projection_cards` gives it.

    Notes
    -----
    None is returned of a file that is not plain, be it damaged or only unusual: let astropy tell.
    """
    with open(path, "rb", buffering=0) as file:
        content = file.read()
    end = content.find(END_CARD)
    if end % CARD or not SIMPLE_CARD.match(content):
        return None
    layout = _layout_of(content[:end])
    size = _values(content, layout.start, IMAGE_KEYS, INTEGER, int)
    header = _values(content, layout.start, number_keys, NUMBER, _number)
    texts = _values(content, layout.start, text_keys, TEXT, _text)
    image = _image(content, FITS_BLOCK * (end // FITS_BLOCK + 1), size or {})
    if not layout.plain or header is None or texts is None or image is None:
        return None
    projection = b"".join([content[place : place + CARD] for place in layout.sky])
    return image, header | texts, projection


def projection_cards(header):
    """Return the cards of a header that say how its sky is projected, CRPIX apart.

    All cutouts of one science image have the same; they differ in CRPIX alone.

    Parameters
    ----------
    header : astropy.io.fits.Header

    Returns
    -------
    bytes
    """
    cards = header.tostring(endcard=False, padding=False).encode()
    return b"".join(cards[place : place + CARD] for place in _layout_of(cards).sky)


def sky_positions(projection, offsets):
    """Return the sky positions of places given by their distance from the reference pixel.

    Parameters
    ----------
    projection : bytes
        As :func:`projection_cards` gives it.
    offsets : numpy.ndarray
        x - CRPIX1 and y - CRPIX2 [px], with x and y counted from 1 as FITS does; shape (n, 2).

    Returns
    -------
    numpy.ndarray
        RA and DEC [deg], shape (n, 2).

    Raises
    ------
    astropy.wcs.WcsError, ValueError
        If the cards state no projection that astropy knows.

    Notes
    -----
    wcslib does all of ZTF's projection (TPV) by itself. ``astropy.wcs.WCS`` gives the same after fifty times
    as long; it is needed for SIP polynomials and for the PV cards of old SCAMP versions alone.
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
    keywords = np.frombuffer(cards, np.uint8).reshape(-1, CARD)[:, :8].tobytes()
    return _layout(keywords)


@lru_cache(maxsize=256)
def _layout(keywords):
    """Return the Layout of a header from the first 8 bytes of each of its cards."""
    text = keywords.decode("latin-1")
    names = [text[place : place + 8] for place in range(0, len(text), 8)]
    start = {}
    for number, name in enumerate(names):
        start.setdefault(name.rstrip(), CARD * number)
    plain = all(map(KEYWORD.fullmatch, names)) and not any(key in start for key in SCALING_KEYS)
    sky = [CARD * number for number, name in enumerate(names) if SKY_KEYWORD.fullmatch(name.rstrip())]
    return Layout(plain, start, sky)


def _values(content, start, keys, pattern, convert):
    """Return the values of those keys that are there; None if one is not written as the pattern has it."""
    values = {}
    for key in keys:
        place = start.get(key)
        if place is None:
            continue
        match = pattern.fullmatch(content, place + 8, place + CARD)
        if match is None:
            return None
        values[key] = convert(match[1])
    return values


def _image(content, start, size):
    """Return the image that begins at a byte of a file; None if it is no whole float32 image."""
    depth, axes, width, height = (size.get(key, 0) for key in IMAGE_KEYS)
    length = FITS_BLOCK * -(-4 * width * height // FITS_BLOCK)
    if (depth, axes) != (-32, 2) or min(width, height) < 1 or len(content) < start + length:
        return None
    pixels = np.frombuffer(content, ">f4", width * height, start)
    return pixels.astype(np.float32).reshape(height, width)


def _number(value):
    return float(value) if b"." in value or b"E" in value else int(value)


def _text(value):
    return value.decode("ascii").rstrip()
