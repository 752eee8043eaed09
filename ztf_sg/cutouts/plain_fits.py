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

from ztf_sg.cutouts.schema import NUMBER_KEYS, TEXT_KEYS, CutoutError
from ztf_sg.ztf import FITS_BLOCK, one_turn

CARD = 80  # [bytes]
END_CARD = b"END".ljust(CARD)
SIMPLE_CARD = re.compile(rb"SIMPLE  = {20}T ")
INTEGER = re.compile(rb"= +(-?\d+) *(?:/[ -~]*)?")
NUMBER = re.compile(rb"= +([+-]?\d+(?:\.\d*)?(?:E[+-]?\d+)?) *(?:/[ -~]*)?")
TEXT = re.compile(rb"= +'([ -%(-9;-~]*)' *(?:/[ -~]*)?")  # : and & may mean more than text
KEYWORD = re.compile(r"(?!HIERARCH|CONTINUE)[A-Z0-9_-]* *")
SKY_KEYWORD = re.compile(
    r"WCSAXES|CTYPE\d|CUNIT\d|CRVAL\d|CDELT\d|CROTA\d|(CD|PC)(\d_\d|00\d00\d)|LONPOLE|LATPOLE|RADE(C)?SYS|EQUINOX|EPOCH"
    r"|PV\d_\d+|[AB]P?_(ORDER|DMAX|\d_\d)"
)
ICRS = re.compile(rb"RADE(C)?SYS *= 'ICRS *'")
OTHER_FRAME = re.compile(rb"RADE(C)?SYS|EQUINOX|EPOCH")  # than ICRS, unless that is stated
SKY_AXES = re.compile(rb"CTYPE[12] *= '(RA--|DEC-|GLON|GLAT)")
EQUINOXES = (1800, 2100)  # between which that of a header must be, for 0 stands for none
PIXEL_SCALES = (0.01, 600)  # between which those of a header must be [arcsec / px], for 0 is taken for 1 deg
IMAGE_KEYS = ("BITPIX", "NAXIS", "NAXIS1", "NAXIS2")
SCALING_KEYS = ("BSCALE", "BZERO", "BLANK")
# words in the EXTNAMEs of images that are no cutouts, but stand beside one in a file
OTHER_WORD = re.compile(
    r"(SCI|SCIENCE|IMAGE|IMG|I|DATA|BAD|PIX|PIXEL|INV|EXP|STAR)?"
    r"(MASK|MSK|FLAGS?|QUAL|QUALITY|BADPIX|BPM|ERR|ERRORS?|VAR|VARIANCE|SIGMA|UNC|UNCERT|UNCERTAINTY|RMS|STD|STDDEV"
    r"|NOISE|WEIGHTS?|WHT|WGT|WMAP|BKG|BKGD|BACK|BACKGROUND|PSF|SEGM|SEG|SEGMENTATION|COVERAGE|COV|CONTEXT|CON|CTX"
    r"|MODEL|NEXP|SKY|DQ|QF|DEPTH|SNR|SCORR|CHI2?|THUMB|THUMBNAIL|PREVIEW)"
    r"(MAP|IMG|IMAGE|ARRAY|PLANE|PIX|RMS|ERR|VAR|MODEL)*\d*"
)
NO_OTHER_WORD = re.compile(r"\w*SUB\w*|CORR(ECTED)?|REMOVED|REDUCED|CLEANED|NO|WITHOUT|LESS|MATCHED")
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
    if is_other_image(values.pop("EXTNAME", "")):
        return None
    size = [values.pop(key, 0) for key in IMAGE_KEYS]
    image = _image(content, FITS_BLOCK * (end // FITS_BLOCK + 1), *size)
    return None if image is None else (image, values, projection)


def is_other_image(name):
    """Tell by an EXTNAME whether an image is a mask, error map, background or the like, and no cutout.

    An image less its background is no background.
    """
    words = re.findall(r"[A-Z0-9]+", name.upper())
    joined = "".join(words)
    if any(map(NO_OTHER_WORD.fullmatch, words)):
        return False
    return any(map(OTHER_WORD.fullmatch, [*words, joined]))


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
            raise CutoutError(f"is a zip archive of {len(names)} files; unpack it, for a file is one cutout")
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
    if len(SKY_AXES.findall(projection)) < 2:
        raise ValueError("its axes are not RA and DEC, or galactic longitude and latitude")
    if b"CTYPE1  = 'RA--" in projection and not (other_frame or has_polynomials):
        wcs = Wcsprm(header=projection, relax=True)
        wcs.fix()
        _check_scales(wcs)
        ra, dec = wcs.p2s(offsets, 1)["world"].T
    else:
        header = fits.Header.fromstring(projection)
        header["CRPIX1"] = header["CRPIX2"] = 0.0
        equinox = header.get("EQUINOX", header.get("EPOCH", 2000.0))
        if other_frame and not EQUINOXES[0] < equinox < EQUINOXES[1]:
            raise ValueError(f"its equinox is {equinox}")
        wcs = WCS(header)
        if not (wcs.naxis == 2 and wcs.has_celestial):
            raise ValueError("it is not of the sky")
        _check_scales(wcs.wcs)
        wcs_to_celestial_frame(wcs)  # raises a ValueError for a frame that astropy does not know
        sky = wcs.pixel_to_world(*(offsets.T - 1)).icrs
        ra, dec = sky.ra.deg, sky.dec.deg
    return np.stack([one_turn(ra), dec], axis=1)


def _check_scales(wcs):
    """Raise a ValueError if the pixels of a Wcsprm are of no plausible size."""
    scales = np.linalg.norm(wcs.get_cdelt()[:, None] * wcs.get_pc(), axis=0) * 3600
    if not (scales > PIXEL_SCALES[0]).all() or not (scales < PIXEL_SCALES[1]).all():
        raise ValueError(f"its pixels are of {' x '.join(f'{scale:.3g}' for scale in scales)} arcsec")


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
