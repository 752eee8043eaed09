"""Alert packets like those of ZTF, with stamps of noise, and the files that hold them; nothing of ztf_sg.

The schema has what is needed of that of ZTF: https://zwickytransientfacility.github.io/ztf-avro-alert/.
"""

import gzip
import io
import tarfile

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SIZE = 63  # of a stamp [px]
KINDS = ("Science", "Template", "Difference")
NUMBERS = ("jd", "ra", "dec", "magpsf", "sigmapsf", "fwhm", "magzpsci", "xpos", "ypos", "rb", "distnr")
CUTOUT = {
    "type": "record",
    "name": "cutout",
    "namespace": "ztf.alert",
    "fields": [{"name": "fileName", "type": "string"}, {"name": "stampData", "type": "bytes"}],
}
CANDIDATE_FIELDS = [
    *({"name": name, "type": ["double", "null"]} for name in NUMBERS),
    {"name": "fid", "type": "int"},
    {"name": "candid", "type": ["long", "null"]},
    {"name": "isdiffpos", "type": "string"},
    {"name": "ssnamenr", "type": ["string", "null"]},
]
SCHEMA = {
    "type": "record",
    "name": "alert",
    "namespace": "ztf",
    "fields": [
        {"name": "schemavsn", "type": "string"},
        {"name": "objectId", "type": "string"},
        {"name": "candid", "type": "long"},
        {"name": "candidate", "type": {"type": "record", "name": "candidate", "fields": CANDIDATE_FIELDS}},
        {"name": "prv_candidates", "type": ["null", {"type": "array", "items": "ztf.candidate"}]},
        {"name": "cutoutScience", "type": [CUTOUT, "null"]},
        {"name": "cutoutTemplate", "type": ["ztf.alert.cutout", "null"]},
        {"name": "cutoutDifference", "type": ["ztf.alert.cutout", "null"]},
    ],
}
PARSED_SCHEMA = fastavro.parse_schema(SCHEMA)


def fits_stamp(pixels, first_card="SIMPLE  =                    T"):
    """Return a packed FITS file of a stamp; ZTF's own begin with a card that is not as the standard wants."""
    height, width = pixels.shape
    cards = [
        first_card,
        "BITPIX  =                  -32",
        "NAXIS   =                    2",
        f"NAXIS1  = {width:20d}",
        f"NAXIS2  = {height:20d}",
        "END",
    ]
    header = "".join(card.ljust(80) for card in cards).encode().ljust(2880)
    data = pixels.astype(">f4").tobytes()
    return gzip.compress(header + data.ljust(-(-len(data) // 2880) * 2880, b"\0"), 1, mtime=0)


def make_packet(rng, number=0, shape=(SIZE, SIZE)):
    """Return a packet, and its stamps (3, height, width) in the order of `KINDS`."""
    stamps = rng.normal(0, 15, (3, *shape)).astype(np.float32)
    stamps[rng.random(stamps.shape) < 0.01] = np.nan
    candid = 10**18 + int(rng.integers(10**12)) * 1000 + number
    candidate = {name: float(rng.uniform(1, 25)) for name in NUMBERS}
    candidate |= {"jd": float(rng.uniform(2458000, 2461000)), "xpos": 1000.0, "ypos": 1000.0}
    candidate |= {"fid": int(rng.integers(1, 4)), "candid": candid, "isdiffpos": "t", "ssnamenr": None}
    packet = {
        "schemavsn": "3.3",
        "objectId": f"ZTF18{''.join(chr(97 + each) for each in rng.integers(0, 26, 7))}",
        "candid": candid,
        "candidate": candidate,
        "prv_candidates": [candidate] * int(rng.integers(3)) or None,
    }
    for kind, pixels in zip(KINDS, stamps, strict=True):
        card = ("SIMPLE  =                    T", "SIMPLE  = T")[number % 2]
        packet[f"cutout{kind}"] = {
            "fileName": f"candid{candid}_{kind}",
            "stampData": fits_stamp(pixels, card),
        }
    return packet, stamps


def avro_bytes(packets, codec="null", sync_interval=16_000):
    """Return an Avro file of some packets."""
    content = io.BytesIO()
    fastavro.writer(content, PARSED_SCHEMA, packets, codec=codec, sync_interval=sync_interval)
    return content.getvalue()


def tar_bytes(files, mode="w"):
    """Return a tarball of files, a dict of names to bytes; mode "w:gz" packs it."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return content.getvalue()


def struct_table(packets):
    """Return a table with structs, as Fink's data transfer and other lakes have them."""
    return pa.table({key: [packet[key] for packet in packets] for key in packets[0]})


def flat_table(packets, stamps):
    """Return a table with prefixes and lists of rows of pixels, as Fink's REST API gives it."""
    columns = {
        f"i:{key}": [packet["candidate"][key] for packet in packets] for key in (*NUMBERS, "fid", "isdiffpos")
    }
    columns["i:objectId"] = [packet["objectId"] for packet in packets]
    columns["i:candid"] = [packet["candid"] for packet in packets]
    for number, kind in enumerate(KINDS):
        columns[f"b:cutout{kind}_stampData"] = [each[number].tolist() for each in stamps]
    return pa.table(columns)


def list_table(packets, stamps):
    """Return a table with names, labels and flat lists of float32."""
    columns = {
        "name": [f"alert_{packet['candid']}" for packet in packets],
        "label": ["asteroid"] * len(packets),
        "jd": [packet["candidate"]["jd"] for packet in packets],
    }
    for number, kind in enumerate(KINDS):
        columns[kind.lower()] = pa.array([each[number].ravel() for each in stamps], pa.list_(pa.float32()))
    return pa.table(columns)


def bytes_table(packets, stamps):
    """Return a table with the bytes of float32 pixels."""
    columns = {key: [packet[key] for packet in packets] for key in ("objectId", "candid")}
    for number, kind in enumerate(KINDS):
        columns[f"cutout{kind}"] = [each[number].astype("<f4").tobytes() for each in stamps]
    return pa.table(columns)


def parquet_bytes(table, row_group_size=2):
    """Return the Parquet file of a table, with checksums."""
    content = io.BytesIO()
    pq.write_table(table, content, row_group_size=row_group_size, write_page_checksum=True)
    return content.getvalue()
