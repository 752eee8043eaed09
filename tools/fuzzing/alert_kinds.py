"""Kinds of damage to alert packets and to files of them, and what each demands of the reader.

The demands are those of `fits_kinds`: kept, refused or either.
"""

import gzip
import io

import numpy as np
from astropy.io import fits

from .alert_packets import (
    KINDS,
    avro_bytes,
    bytes_table,
    fits_stamp,
    flat_table,
    list_table,
    parquet_bytes,
    struct_table,
    tar_bytes,
)
from .fits_kinds import EITHER, KEPT, REFUSED, blank, cut, flip, shuffle


def with_stamp(content):
    """Return a damage of packets: the bytes of one stamp are others, which may depend on what they were."""

    def damage(packet, stamps, rng):
        kind = f"cutout{KINDS[rng.integers(3)]}"
        cutout = packet[kind]
        changed = content(cutout["stampData"], rng) if callable(content) else content
        return packet | {kind: cutout | {"stampData": changed}}

    return damage


def unpacked(change):
    """Return a change of the FITS file in a packed stamp, packed again."""
    return lambda content, rng: gzip.compress(change(gzip.decompress(content), rng), 1)


def of_shape(*shapes):
    """Return a change of a stamp into noise of one of some shapes."""
    return lambda content, rng: fits_stamp(rng.normal(size=shapes[rng.integers(len(shapes))]).astype("f4"))


def card(old, *texts):
    """Return a change of a card in the header of a stamp."""

    def change(content, rng):
        start = content.index(old)
        return (
            content[:start] + texts[rng.integers(len(texts))].ljust(80)[:80].encode() + content[start + 80 :]
        )

    return unpacked(change)


def by_astropy(make):
    """Return a change of a stamp into what astropy writes of an HDU that is made of its pixels."""

    def change(content, rng):
        with fits.open(io.BytesIO(gzip.decompress(content)), ignore_missing_simple=True) as hdus:
            pixels = hdus[0].data.astype("f4")
        file = io.BytesIO()
        fits.HDUList(make(pixels)).writeto(file)
        return file.getvalue()

    return change


def with_values(**values):
    """Return a damage of packets: values of the candidate record, each a choice of some."""

    def damage(packet, stamps, rng):
        chosen = {key: options[rng.integers(len(options))] for key, options in values.items()}
        return packet | {"candidate": packet["candidate"] | chosen}

    return damage


def without_stamps(packet, stamps, rng):
    """Return a packet with no stamp."""
    return packet | {f"cutout{kind}": None for kind in KINDS}


ODD = (np.nan, np.inf, -np.inf, 1e308, -1e308, 5e-324, 0.0, -999.0, None)
PACKET_KINDS = {
    "untouched": (lambda packet, stamps, rng: packet, KEPT),
    "odd numbers": (with_values(jd=ODD, ra=ODD, dec=ODD, magpsf=ODD, fwhm=ODD, xpos=ODD, ypos=ODD), KEPT),
    "odd texts": (
        with_values(isdiffpos=("", "x" * 5000, "\0", "1", "\u2028é"), ssnamenr=("", "null", None)),
        KEPT,
    ),
    "odd names": (
        lambda packet, stamps, rng: packet | {"objectId": ("", "\n", "../x", "a" * 999)[rng.integers(4)]},
        KEPT,
    ),
    "odd filter": (with_values(fid=(0, -1, 2**31 - 1, -(2**31))), KEPT),
    "plain FITS": (with_stamp(lambda content, rng: gzip.decompress(content)), KEPT),
    "packed twice": (with_stamp(lambda content, rng: gzip.compress(content)), EITHER),
    "by astropy": (with_stamp(by_astropy(lambda pixels: [fits.PrimaryHDU(pixels)])), KEPT),
    "float64": (with_stamp(by_astropy(lambda pixels: [fits.PrimaryHDU(pixels.astype("f8"))])), KEPT),
    "in an extension": (
        with_stamp(by_astropy(lambda pixels: [fits.PrimaryHDU(), fits.ImageHDU(pixels)])),
        KEPT,
    ),
    "padding missing": (with_stamp(unpacked(lambda content, rng: content[: 2880 + 4 * 63 * 63])), KEPT),
    "bytes behind": (with_stamp(unpacked(lambda content, rng: content + rng.bytes(100))), KEPT),
    "no stamps": (without_stamps, REFUSED),
    "empty stamp": (with_stamp(b""), REFUSED),
    "noise for a stamp": (
        with_stamp(lambda content, rng: rng.bytes(int(rng.integers(1, 5000)) * 4 - 1)),
        REFUSED,
    ),
    "floats for a stamp": (
        with_stamp(lambda content, rng: rng.bytes(int(rng.integers(1, 5000)) * 4)),
        EITHER,
    ),
    "web page for a stamp": (with_stamp(b"<html><body>404 Not Found</body></html>"), REFUSED),
    "stamp cut short": (with_stamp(lambda content, rng: cut(content, rng)), REFUSED),
    "FITS cut short": (
        with_stamp(unpacked(lambda content, rng: content[: int(rng.integers(1, 2880 + 15800))])),
        REFUSED,
    ),
    "bits of a stamp flipped": (with_stamp(lambda content, rng: flip(content, rng, 10, count=3)), REFUSED),
    "bits of FITS flipped": (with_stamp(unpacked(lambda content, rng: flip(content, rng, count=4))), EITHER),
    "bits of a header flipped": (
        with_stamp(unpacked(lambda content, rng: flip(content, rng, 0, 480, 3))),
        EITHER,
    ),
    "block of a stamp blank": (with_stamp(blank), EITHER),
    "blocks out of order": (with_stamp(lambda content, rng: shuffle(content, rng)), EITHER),
    "bomb": (with_stamp(gzip.compress(b"SIMPLE  =                    T" + bytes(2**25), 1)), REFUSED),
    "stamp of another size": (with_stamp(of_shape((64, 63), (21, 21), (63, 200), (31, 63))), REFUSED),
    "whole image": (with_stamp(of_shape((600, 600))), REFUSED),
    "stamp of a pixel": (with_stamp(of_shape((1, 1), (1, 63), (63, 1))), REFUSED),
    "cube": (with_stamp(by_astropy(lambda pixels: [fits.PrimaryHDU(np.stack([pixels] * 3))])), REFUSED),
    "spectrum": (with_stamp(by_astropy(lambda pixels: [fits.PrimaryHDU(pixels[0])])), REFUSED),
    "no image": (with_stamp(by_astropy(lambda pixels: [fits.PrimaryHDU()])), REFUSED),
    "odd BITPIX": (
        with_stamp(card(b"BITPIX", "BITPIX  =  17", "BITPIX  = -64", "BITPIX  = 'a'", "BITPIX  =")),
        EITHER,
    ),
    "odd NAXIS1": (
        with_stamp(
            card(b"NAXIS1", "NAXIS1  = -63", "NAXIS1  = 0", "NAXIS1  = 99999999", "NAXIS1  = 1E400", "NAXIS1")
        ),
        EITHER,
    ),
    "odd NAXIS": (
        with_stamp(card(b"NAXIS ", "NAXIS   = 0", "NAXIS   = 999", "NAXIS   = 3", "NAXIS   = -1")),
        EITHER,
    ),
    "no end of the header": (with_stamp(card(b"END ", "COMMENT")), EITHER),
}


def in_archive(packets, stamps, rng):
    """Return a tarball of packets, each in its Avro file, packed or not."""
    files = {f"{number}.avro": avro_bytes([packet]) for number, packet in enumerate(packets)}
    packed = rng.random() < 0.5
    return f"night.tar{'.gz' * packed}", tar_bytes(files, "w:gz" if packed else "w")


def in_fits(packets, stamps, rng):
    """Return a tarball of FITS stamps, three per packet."""
    files = {}
    for packet in packets:
        for kind in KINDS:
            cutout = packet[f"cutout{kind}"] or {"stampData": b""}
            files[f"{packet['candid']}_cutout{kind}.fits.gz"] = cutout["stampData"]
    return "night.tar", tar_bytes(files)


def in_avro(codec, pack=bytes, suffix=""):
    """Return a writer of an Avro file with one packet per block or all in one."""

    def write(packets, stamps, rng):
        blocks = int(rng.choice([1, 10**7]))
        return f"night.avro{suffix}", pack(avro_bytes(packets, codec, blocks))

    return write


WRITERS = {  # of packets alone: those of tables of numbers take stamps, which stay as they are
    "Avro": in_avro("null"),
    "Avro, deflate": in_avro("deflate"),
    "Avro, gzip": in_avro("null", lambda content: gzip.compress(content, 1), ".gz"),
    "tarball": in_archive,
    "FITS": in_fits,
    "Parquet": lambda packets, stamps, rng: ("night.parquet", parquet_bytes(struct_table(packets))),
}
FILE_WRITERS = WRITERS | {
    "Parquet, lists of rows": lambda packets, stamps, rng: (
        "n.parquet",
        parquet_bytes(flat_table(packets, stamps)),
    ),
    "Parquet, lists": lambda packets, stamps, rng: (
        "night.parquet",
        parquet_bytes(list_table(packets, stamps)),
    ),
    "Parquet, bytes": lambda packets, stamps, rng: (
        "night.parquet",
        parquet_bytes(bytes_table(packets, stamps)),
    ),
}
FILE_KINDS = {  # name: change of the bytes of a file
    "whole": lambda content, rng: content,
    "cut short": cut,
    "bits flipped": lambda content, rng: flip(content, rng, count=int(rng.integers(1, 4))),
    "many bits flipped": lambda content, rng: flip(content, rng, count=100),
    "bits at the start flipped": lambda content, rng: flip(content, rng, 0, min(3000, len(content)), 2),
    "block blank": blank,
    "blocks out of order": shuffle,
    "bytes missing": lambda content, rng: (lambda n: content[:n] + content[n + int(rng.integers(1, 50)) :])(
        int(rng.integers(len(content)))
    ),
    "bytes too many": lambda content, rng: (lambda n: content[:n] + rng.bytes(20) + content[n:])(
        int(rng.integers(len(content)))
    ),
    "bytes behind": lambda content, rng: content + rng.bytes(int(rng.integers(1, 600))),
    "empty": lambda content, rng: b"",
    "noise": lambda content, rng: rng.bytes(2000),
    "web page": lambda content, rng: b"<!DOCTYPE html><html><body>503</body></html>",
    "noise behind the first bytes": lambda content, rng: content[:16] + rng.bytes(5000),
}
