"""Fast reading of plain FITS images: float32 pixels, and cards written in the standard's simplest form.

Only the cards in use are read, of the 266 of a ZTF header. Files that are not plain are left to astropy, as
are those that may hold more than one image, or an image that is no cutout.
"""

import bz2
import lzma
import re
import zlib
from functools import lru_cache, partial
from io import BytesIO
from zipfile import ZipFile

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS, Wcsprm
from astropy.wcs.utils import wcs_to_celestial_frame

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
    r"WCSAXES|CTYPE\d|CUNIT\d|CRVAL\d|CDELT\d|CROTA\d|(CD|PC)\d_\d|LONPOLE|LATPOLE|RADE(C)?SYS|EQUINOX|EPOCH"
    r"|PV\d_\d+|[AB]P?_(ORDER|DMAX|\d_\d)"
)
ICRS = re.compile(rb"RADE(C)?SYS *= 'ICRS *'")
OTHER_FRAME = re.compile(rb"RADE(C)?SYS|EQUINOX|EPOCH")  # than ICRS, unless that is stated
IMAGE_KEYS = ("BITPIX", "NAXIS", "NAXIS1", "NAXIS2")
SCALING_KEYS = ("BSCALE", "BZERO", "BLANK")
# EXTNAMEs of images that are no cutouts, but stand beside one in a file
OTHER_IMAGE = re.compile(
    r"^(?!.*SUB)"  # an image less its background is no background
    r"(.*(MASK(?!ED)|MSK|FLAG|QUALITY|BAD_?PIX|BPM|ERR|VAR(?!IABLE)|SIGMA|UNCERT|RMS|STD|NOISE(?!D|LESS)|WEIGHT|WHT"
    r"|WGT|WMAP|BKG|BACK|PSF|SEGM|COVERAGE|CONTEXT|MODEL|N_?EXP|EXP.*MAP)|DQ|(QF|UNC|CON|CTX|SKY)$)",
    re.IGNORECASE,
)
NEXT_IMAGE = b"XTENSION"
PATTERNS = (
    dict.fromkeys(IMAGE_KEYS, INTEGER)
    | dict.fromkeys(NUMBER_KEYS, NUMBER)
    | dict.fromkeys((*TEXT_KEYS, "EXTNAME"), TEXT)
)


def read_plain_image(path):
    """Return image, header values and projection of a plain FITS file; None for any other file.

    The image is float32, shape (height, width); the values are a dict of those `NUMBER_KEYS` and `TEXT_KEYS`
    that the header has; the projection is that of :func:`projection_cards`.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            content = decompressed(file.read())
    except Exception:  # damaged files raise errors of many kinds
        return None
    end = content.find(END_CARD)
    if end % CARD or not SIMPLE_CARD.match(content):
        return None
    plain, start, projection = _layout_of(content[:end])
    values = _values(content, start) if plain else {}
    if OTHER_IMAGE.search(values.pop("EXTNAME", "")):
        return None
    size = [values.pop(key, 0) for key in IMAGE_KEYS]
    image = _image(content, FITS_BLOCK * (end // FITS_BLOCK + 1), *size)
    return None if image is None else (image, values, projection)


def decompressed(content):
    """Return the bytes of a file, decompressed by gzip, bzip2, xz or zip if they look so.

    Errors of these libraries are passed on; an EOFError says that the file is cut short. Bytes after the
    compressed ones are ignored, and what was compressed is compared with its checksum.
    """
    for magic, decompress in DECOMPRESSORS.items():
        if content.startswith(magic):
            return decompress(content)
    return content


def _unpacked(content, make_decompressor):
    """Return what some bytes were compressed from, with those like them that follow, as of joined files."""
    magic, parts = content[:2], []
    while content.startswith(magic):
        decompressor = make_decompressor()
        parts.append(decompressor.decompress(content))
        if not decompressor.eof:
            raise EOFError("the compressed bytes have no end")
        content = decompressor.unused_data
    return b"".join(parts)


def _unzipped(content):
    """Return the only file in the bytes of a zip archive."""
    with ZipFile(BytesIO(content)) as archive:
        names = archive.namelist()
        if len(names) != 1:
            raise ValueError(f"expected a zip archive of one file, got {len(names)}")
        return archive.read(names[0])


DECOMPRESSORS = {  # by the first bytes of a file
    b"\x1f\x8b": partial(_unpacked, make_decompressor=partial(zlib.decompressobj, wbits=31)),
    b"BZh": partial(_unpacked, make_decompressor=bz2.BZ2Decompressor),
    b"\xfd7zXZ\0": partial(_unpacked, make_decompressor=lzma.LZMADecompressor),
    b"PK\x03\x04": _unzipped,
}


def projection_cards(header):
    """Return the WCS cards of an astropy header, but for CRPIX, as bytes; cutouts of one image share them."""
    return _layout_of(header.tostring(endcard=False, padding=False).encode())[2]


def sky_positions(projection, offsets):
    """Return RA and DEC [deg, ICRS] of pixels, shape (n, 2), from their x - CRPIX1 and y - CRPIX2 [px].

    A projection, as of :func:`projection_cards`, that is none of the sky raises a WcsError or a ValueError.
    A header that states an equinox and no frame is of FK5 or FK4, as the standard has it.
    wcslib alone converts ZTF's projection (TPV), fifty times as fast as ``astropy.wcs.WCS``, which is needed
    only for SIP polynomials, for the PV cards of old SCAMP versions, and for frames other than ICRS.
    """
    lacking = [
        key for key in ("CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2", "CD") if key.encode() not in projection
    ]
    if lacking:
        raise ValueError(f"the header lacks {', '.join(lacking).replace('CD', 'CD1_1 or CDELT1')}")
    has_polynomials = b"PV1_" in projection and b"---TPV'" not in projection
    has_polynomials |= b"-SIP" in projection or b"A_ORDER" in projection
    other_frame = OTHER_FRAME.search(projection) and not ICRS.search(projection)
    if b"CTYPE1  = 'RA--" in projection and not (other_frame or has_polynomials):
        wcs = Wcsprm(header=projection)
        wcs.fix()
        ra, dec = wcs.p2s(offsets, 1)["world"].T
    else:
        header = fits.Header.fromstring(projection)
        header["CRPIX1"] = header["CRPIX2"] = 0.0
        wcs = WCS(header)
        if not (wcs.naxis == 2 and wcs.has_celestial):
            raise ValueError("it is not of the sky")
        wcs_to_celestial_frame(wcs)  # raises a ValueError for a frame that astropy does not know
        sky = wcs.pixel_to_world(*(offsets.T - 1)).icrs
        ra, dec = sky.ra.deg, sky.dec.deg
    return np.stack([ra % 360 % 360, dec], axis=1)  # % 360 of -1e-15 is 360


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
    if content.startswith(NEXT_IMAGE, start + length):
        return None
    pixels = np.frombuffer(content, ">f4", width * height, start)
    return pixels.astype(np.float32).reshape(height, width)
