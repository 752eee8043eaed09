"""Packets in Avro files, one after the other, in bounded memory.

A file is a header with the schema, and blocks of packets with marks between them. Blocks are taken apart
here and packets by fastavro, so that a damaged block costs no other one, and nothing unpacks without limit.
Format: https://avro.apache.org/docs/1.11.1/specification/#object-container-files.
"""

import bz2
import json
import lzma
import zlib
from io import BytesIO

from fastavro import parse_schema, schemaless_reader

MAGIC = b"Obj\x01"
MARK_BYTES = 16
MOST_BYTES = 2**27  # of a block, packed or unpacked: a ZTF packet has some 70 kB
PART = 2**16  # read at a time [bytes]
HEADER = parse_schema({"type": "map", "values": "bytes"})
UNPACKERS = {
    "deflate": lambda: zlib.decompressobj(wbits=-15),
    "bzip2": bz2.BZ2Decompressor,
    "xz": lzma.LZMADecompressor,
}


class AvroError(ValueError):
    """What is wrong with an Avro file or a part of it."""


def iter_packets(stream):
    """Yield the packets of an Avro file as pairs of dict and None, or of None and what is wrong.

    After a fault within a block, the next block is read. A fault that leaves no way on comes last.

    Parameters
    ----------
    stream : binary file object
        Read forwards only.
    """
    reader = _Reader(stream)
    try:
        schema, unpack, mark = _header(reader)
        while count := reader.block_count():
            yield from _packets(reader.block(mark), count, unpack, schema)
    except AvroError as error:
        yield None, str(error)


class _Reader:
    """Numbers and bytes of a stream; a stream that breaks, as packed ones may, raises an AvroError."""

    def __init__(self, stream):
        self._stream = stream

    def take(self, size):
        """Return so many bytes, or all that are left."""
        parts, left = [], size
        while left:
            try:
                part = self._stream.read(min(PART, left))
            except Exception as error:  # of gzip, tarfile or the disk
                raise AvroError(f"is cut short or damaged ({' '.join(str(error).split())})") from error
            if not part:
                break
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def exactly(self, size):
        """Return so many bytes."""
        content = self.take(size)
        if len(content) < size:
            raise AvroError(f"is cut short: it ends within {size} bytes; fetch it again")
        return content

    def number(self, first=b""):
        """Return a number in Avro's form: groups of 7 bits, the lowest first, with zigzag for the sign."""
        value = 0
        for group in range(10):
            byte = (first if first and not group else self.exactly(1))[0]
            value |= (byte & 0x7F) << (7 * group)
            if byte < 0x80:
                return (value >> 1) ^ -(value & 1)
        raise AvroError("is damaged: a number has no end")

    def block_count(self):
        """Return how many packets the next block has; 0 at the end of the file."""
        first = self.take(1)
        if not first:
            return 0
        count = self.number(first)
        if count <= 0:
            raise AvroError(f"is damaged: a block states {count} packets")
        return count

    def block(self, mark):
        """Return the bytes of a block, whose mark is right."""
        size = self.number()
        if not 0 <= size <= MOST_BYTES:
            raise AvroError(f"is damaged: a block states {size} bytes; those read have at most {MOST_BYTES}")
        content = self.exactly(size)
        if self.exactly(MARK_BYTES) != mark:
            raise AvroError("is damaged: a block does not end where it states")
        return content


def _header(reader):
    """Return schema, unpacker and mark of an Avro file."""
    if reader.exactly(len(MAGIC)) != MAGIC:
        raise AvroError("is no Avro file with a schema")
    values = {}
    while count := reader.number():
        if count < 0:  # then the size of the entries follows
            count, _ = -count, reader.number()
        for _ in range(count):
            key = reader.exactly(_length(reader)).decode(errors="replace")
            values[key] = reader.exactly(_length(reader))
    codec = values.get("avro.codec", b"null").decode(errors="replace")
    if codec not in ("null", *UNPACKERS):
        raise AvroError(f"is packed by {codec}, which is not read here; write it with deflate")
    try:
        schema = json.loads(values.get("avro.schema", b""))
        parsed = parse_schema(schema)
    except Exception as error:  # fastavro has errors of many kinds for schemas
        raise AvroError(f"has no valid schema ({_short(error)})") from error
    if _may_repeat_nothing(schema):
        raise AvroError("has a schema of lists of nothing, which may have no end")
    return parsed, UNPACKERS.get(codec), reader.exactly(MARK_BYTES)


def _length(reader):
    """Return the length of a text in the header."""
    length = reader.number()
    if not 0 <= length <= MOST_BYTES:
        raise AvroError(f"is damaged: its header has a text of {length} bytes")
    return length


def _may_repeat_nothing(schema):
    """Tell whether a schema has lists of items that take no bytes, so that a number alone makes any many."""
    if isinstance(schema, list):
        return any(map(_may_repeat_nothing, schema))
    if not isinstance(schema, dict):
        return False
    if schema.get("type") == "array" and _takes_nothing(schema.get("items")):
        return True
    return any(_may_repeat_nothing(value) for value in schema.values())


def _takes_nothing(schema):
    """Tell whether values of a schema take no bytes."""
    if not isinstance(schema, dict):
        return schema == "null"
    if schema.get("type") == "record":
        return all(_takes_nothing(field.get("type")) for field in schema.get("fields", []))
    return schema.get("type") == "null" or schema.get("size") == 0


def _packets(content, count, unpack, schema):
    """Yield the packets of a block, or what is wrong with the rest of it."""
    number = 0
    try:
        stream = BytesIO(_unpacked(content, unpack) if unpack else content)
        for number in range(count):  # noqa: B007 - tells how many are lost
            packet = schemaless_reader(stream, schema)
            if not isinstance(packet, dict):
                raise AvroError(f"is no alert packet, but {type(packet).__name__}")
            yield packet, None
    except GeneratorExit:
        raise
    except Exception as error:  # damaged bytes raise errors of many kinds
        lost = f", and {count - number - 1} after it in its block" if count - number > 1 else ""
        yield None, f"is cut short or damaged ({_short(error)}){lost}"
        return
    if stream.read(1):
        yield None, "is damaged: its block holds more bytes than packets"


def _unpacked(content, make_unpacker):
    """Return the bytes of a packed block; an AvroError if they are too many, or have no end."""
    unpacker = make_unpacker()
    unpacked = unpacker.decompress(content, MOST_BYTES + 1)
    if len(unpacked) > MOST_BYTES:
        raise AvroError(f"its block unpacks to more than {MOST_BYTES / 2**20:.0f} MB")
    if not unpacker.eof:
        raise AvroError("its packed block has no end")
    return unpacked


def _short(error):
    return f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
