"""Kinds of damage to FITS files: how each is done, and what it demands of the reader.

"kept" records are unusual, but whole, and must be served bit by bit; "refused" ones must be named; of
"either", such as flipped bits, each will do. Nothing here reads or writes with ztf_sg.
"""

import bz2
import gzip
import io
import lzma
import zipfile
from typing import NamedTuple

import numpy as np
from astropy.io import fits

KEPT, REFUSED, EITHER = "kept", "refused", "either"
PIXEL = 1.012 / 3600  # [deg]


class Record(NamedTuple):
    """A cutout: name, pixels (height, width), header values by keyword, position of its centre [deg]."""

    name: str
    pixels: np.ndarray
    values: dict
    ra: float
    dec: float


def make_header(record):
    """Return the header of a record, with a tangential projection."""
    height, width = record.pixels.shape[-2:] if record.pixels.ndim > 1 else (1, 1)
    header = fits.Header(record.values)
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN", "DEC--TAN"
    header["CRVAL1"], header["CRVAL2"] = record.ra, record.dec
    header["CRPIX1"], header["CRPIX2"] = (width + 1) / 2, (height + 1) / 2
    header["CD1_1"], header["CD1_2"], header["CD2_1"], header["CD2_2"] = -PIXEL, 0.0, 0.0, PIXEL
    header["RADESYS"] = "ICRS"
    return header


def fits_bytes(record, dtype="f4", before=(), header=None, named=None):
    """Return a FITS file of one image with its header, after other HDUs if there are some."""
    header = make_header(record) if header is None else header
    pixels = record.pixels.astype(dtype)
    image = fits.ImageHDU(pixels, header, name=named) if before else fits.PrimaryHDU(pixels, header)
    return hdu_bytes(*before, image)


def hdu_bytes(*hdus):
    """Return a FITS file of some HDUs."""
    content = io.BytesIO()
    fits.HDUList(list(hdus)).writeto(content, output_verify="ignore")
    return content.getvalue()


def with_card(record, card):
    """Return a FITS file with the text of a card in the place of that of the same keyword."""
    content = fits_bytes(record)
    start = content.find(card[:8].encode())
    if start < 0:
        start = content.find(b"END" + b" " * 77)
        content = (
            content[:start]
            + card.ljust(80)[:80].encode("latin-1")
            + b"END".ljust(80)
            + content[start + 160 :]
        )
        return content
    return content[:start] + card.ljust(80)[:80].encode("latin-1") + content[start + 80 :]


def flip(content, rng, first=0, last=None, count=1):
    """Return bytes with some bits flipped."""
    content = bytearray(content)
    for place in rng.integers(first, last or len(content), count):
        content[place] ^= 1 << int(rng.integers(8))
    return bytes(content)


def cut(content, rng, first=1):
    """Return the first bytes of some."""
    return content[: int(rng.integers(first, len(content)))]


def blank(content, rng):
    """Return bytes of which a block reads zero, as of a download that was interrupted and went on."""
    start = int(rng.integers(len(content)))
    return content[:start] + bytes(len(content[start : start + 512])) + content[start + 512 :]


def shuffle(content, rng):
    """Return bytes with a block in the place of another."""
    size = max(len(content) // 8, 1)
    blocks = [content[n : n + size] for n in range(0, len(content), size)]
    return b"".join(blocks[n] for n in rng.permutation(len(blocks)))


def with_value(key, *values):
    """Return a damage that writes one of some texts, unquoted, as the value of a keyword."""

    def damage(record, rng):
        return ".fits", with_card(record, f"{key:8}= {values[rng.integers(len(values))]:>20}")

    return damage


def without_key(*keys):
    """Return a damage that leaves out one of some keywords."""

    def damage(record, rng):
        header = make_header(record)
        del header[keys[rng.integers(len(keys))]]
        return ".fits", fits_bytes(record, header=header)

    return damage


def with_pixel(*values):
    """Return a damage that gives three pixels one of some values."""

    def damage(record, rng):
        pixels = record.pixels.copy()
        pixels.ravel()[rng.choice(pixels.size, 3, replace=False)] = values[rng.integers(len(values))]
        return ".fits", fits_bytes(record._replace(pixels=pixels))

    return damage


def in_place_of(*contents):
    """Return a damage of files that hold one of some other things."""
    return lambda record, rng: (".fits", contents[rng.integers(len(contents))])


def of_shape(change):
    """Return a damage that changes the shape of the pixels."""
    return lambda record, rng: (".fits", fits_bytes(record._replace(pixels=change(record.pixels))))


def packed(suffix, pack):
    """Return a damage that compresses the file."""
    return lambda record, rng: (suffix, pack(fits_bytes(record)))


def changed(change):
    """Return a damage of a whole file by a function of its bytes and the generator."""
    return lambda record, rng: (".fits", change(fits_bytes(record), rng))


def renamed(*suffixes):
    """Return a damage that only gives the file one of some suffixes."""
    return lambda record, rng: (str(suffixes[rng.integers(len(suffixes))]), fits_bytes(record))


def in_folder(record, rng):
    """Put the file into a sub-folder."""
    folder = rng.choice(["night 1", "2019-09-17", "field=345", "Sternwarte-Süd"])
    return f"{folder}/{record.name}.fits", fits_bytes(record)


def zipped(content):
    """Return a zip archive of one file."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("cutout.fits", content)
    return archive.getvalue()


def fpacked(record, rng):
    """Compress the pixels without loss, as fpack does."""
    image = fits.CompImageHDU(record.pixels, make_header(record), compression_type="GZIP_2", quantize_level=0)
    return ".fits.fz", hdu_bytes(fits.PrimaryHDU(), image)


def after_mask(record, rng):
    """Put the image behind a mask."""
    mask = fits.ImageHDU((record.pixels > 260).astype(rng.choice(["u1", "i2", "i4"])), name="MASK")
    return ".fits", fits_bytes(record, before=[fits.PrimaryHDU(), mask], named="SCI")


def with_keywords_in_primary(record, rng):
    """Put the header into the primary HDU, and the image into an extension."""
    image = fits.ImageHDU(record.pixels, name=rng.choice(["SCI", "IMAGE", ""]))
    return ".fits", hdu_bytes(fits.PrimaryHDU(header=make_header(record)), image)


def only_a_mask(record, rng):
    """Leave a mask only."""
    mask = fits.ImageHDU((record.pixels > 260).astype("u1"), make_header(record), name="MASK")
    return ".fits", hdu_bytes(fits.PrimaryHDU(), mask)


def only_a_table(record, rng):
    """Put the pixels into a table."""
    table = fits.BinTableHDU.from_columns([fits.Column("pixels", "400E", array=[record.pixels.ravel()])])
    return ".fits", hdu_bytes(fits.PrimaryHDU(header=make_header(record)), table)


def with_foreign_cards(record, rng):
    """Add cards of other conventions, and some that resemble those in use."""
    header = make_header(record)
    header["HIERARCH ESO INS FILT NAME"] = "none"
    header["LONGTEXT"] = "it's " * 30
    header["HISTORY"] = "".join(map(chr, rng.integers(32, 127, 60)))
    header["COMMENT"] = "SEEING  = 99.0"
    header["SEEINGX"] = "nan"
    return ".fits", fits_bytes(record, header=header)


def in_another_notation(record, rng):
    """Return numbers as old software writes them: D exponents, other columns, comments that touch."""
    value = record.values["SEEING"]
    texts = [
        f"{value * 10!r}D-01",
        f"  {value!r}/FWHM",
        f"{value!r}".rjust(40),
        f"+{value!r}",
        f"{value!r}E+00",
    ]
    text = texts[rng.integers(len(texts))]
    return ".fits", with_card(record, f"SEEING  = {text}")


FITS_KINDS = {
    "untouched": (renamed(".fits"), KEPT),
    "other suffix": (renamed(".FITS", ".fit", ".fts", ".Fits"), KEPT),
    "sub-folder": (in_folder, KEPT),
    "gzip": (packed(".fits.gz", gzip.compress), KEPT),
    "bzip2": (packed(".fits.bz2", bz2.compress), KEPT),
    "xz": (packed(".fits.xz", lzma.compress), KEPT),
    "zip": (packed(".fits.zip", zipped), KEPT),
    "gzip named .fits": (packed(".fits", gzip.compress), KEPT),
    "plain named .fits.gz": (renamed(".fits.gz"), KEPT),
    "fpack": (fpacked, KEPT),
    "bytes after the end": (
        changed(lambda content, rng: content + rng.bytes(int(rng.integers(1, 6000)))),
        KEPT,
    ),
    "no padding": (
        changed(
            lambda content, rng: content[: content.find(b"END".ljust(80)) // 2880 * 2880 + 2880 + 4 * 400]
        ),
        KEPT,
    ),
    "integers": (lambda r, rng: (".fits", fits_bytes(r, rng.choice(["i2", "i4", "u2", "i8"]))), KEPT),
    "double precision": (lambda r, rng: (".fits", fits_bytes(r, "f8")), KEPT),
    "mask before the image": (after_mask, KEPT),
    "keywords in the primary HDU": (with_keywords_in_primary, KEPT),
    "foreign cards": (with_foreign_cards, KEPT),
    "numbers in another notation": (in_another_notation, KEPT),
    "non-finite number": (
        with_value("SEEING", "nan", "-inf", "NaN", "Infinity", "NAN", "1.#QNAN", "inf"),
        REFUSED,
    ),
    "non-finite number of another key": (with_value("MAGZP", "nan", "inf", "-nan", "1E999"), REFUSED),
    "decimal comma": (with_value("GAIN", "6,2", "6,20", "'6,2'"), REFUSED),
    "text in place of a number": (with_value("SATURATE", "'high'", "high", "'5e4 DN'", "5e4 DN"), REFUSED),
    "number in place of a text": (with_value("FILTER", "2", "2.5", "T"), REFUSED),
    "truth value": (with_value("EXPTIME", "T", "F"), REFUSED),
    "not above 0": (with_value("SEEING", "0", "-1.5", "-0.0"), REFUSED),
    "huge integer": (with_value("OBSMJD", "9" * 60, "1" + "0" * 65), EITHER),
    "no value": (with_value("GAIN", "", "/ not known"), REFUSED),
    "keyword missing": (
        without_key("SEEING", "MAGZP", "FILTER", "OBSMJD", "EXPTIME", "GAIN", "SATURATE"),
        REFUSED,
    ),
    "WCS damaged": (with_value("CRVAL1", "nan", "'east'", "none"), REFUSED),
    "NaN pixel": (with_pixel(np.nan), REFUSED),
    "infinite pixel": (with_pixel(np.inf, -np.inf), REFUSED),
    "other shape": (of_shape(lambda pixels: pixels[:-1]), REFUSED),
    "one axis": (of_shape(lambda pixels: pixels.ravel()), REFUSED),
    "three axes": (of_shape(lambda pixels: np.stack([pixels, pixels])), REFUSED),
    "no pixels": (lambda r, rng: (".fits", hdu_bytes(fits.PrimaryHDU(header=make_header(r)))), REFUSED),
    "more axes stated than there are": (with_value("NAXIS", "3", "4", "999"), REFUSED),
    "larger size stated than there is": (with_value("NAXIS2", "200000", "99999999999", "300"), REFUSED),
    "impossible number of bits": (with_value("BITPIX", "-33", "7", "'f4'", "0"), REFUSED),
    "only a mask": (only_a_mask, REFUSED),
    "only a table": (only_a_table, REFUSED),
    "no file of FITS": (
        in_place_of(
            b"<html>503</html>", b"\x89PNG\r\n", b"{}", b"\0" * 5000, b"SIMPLE", b"PAR1", b"PK\x03\x04"
        ),
        REFUSED,
    ),
    "empty": (in_place_of(b""), REFUSED),
    "no END": (changed(lambda c, rng: c.replace(b"END".ljust(80), b" " * 80, 1)), REFUSED),
    "header cut short": (changed(lambda c, rng: c[: int(rng.integers(1, 2000))]), REFUSED),
    "pixels cut short": (changed(lambda c, rng: c[: 2880 + int(rng.integers(0, 1500))]), REFUSED),
    "gzip cut short": (packed(".fits.gz", lambda c: gzip.compress(c)[: len(gzip.compress(c)) // 2]), REFUSED),
    "gzip with flipped bits": (
        lambda r, rng: (".fits.gz", flip(gzip.compress(fits_bytes(r)), rng, 10)),
        REFUSED,
    ),
    "bits of the header flipped": (changed(lambda c, rng: flip(c, rng, 0, 2880, 3)), EITHER),
    "bits of the pixels flipped": (changed(lambda c, rng: flip(c, rng, 2880)), EITHER),
    "many bits flipped": (changed(lambda c, rng: flip(c, rng, count=200)), EITHER),
    "blocks out of order": (changed(shuffle), EITHER),
    "blank block": (changed(blank), EITHER),
}
