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
MOST_BYTES = 2**26  # of a block, packed or unpacked: a ZTF packet has some 70 kB
DEEPEST = 50  # how deep types may be in each other
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
        if _takes_nothing(schema, {}):
            raise AvroError("has packets without content")
        parsed = parse_schema(schema)
    except AvroError:
        raise
    except Exception as error:  # fastavro has errors of many kinds for schemas
        raise AvroError(f"has no valid schema ({_short(error)})") from error
    return parsed, UNPACKERS.get(codec), reader.exactly(MARK_BYTES)


def _length(reader):
    """Return the length of a text in the header."""
    length = reader.number()
    if not 0 <= length <= MOST_BYTES:
        raise AvroError(f"is damaged: its header has a text of {length} bytes")
    return length


def _takes_nothing(schema, names, depth=0):
    """Tell whether values of a schema may take no bytes; an AvroError refuses what could be without end.

    These are types within themselves, on which fastavro crashes, and lists of values that take no bytes, of
    which a few bytes make any number. `names` has the answers for named types, None within these.
    """
    if depth > DEEPEST:
        raise AvroError(f"has a schema nested more than {DEEPEST} times")
    if isinstance(schema, list):
        for each in schema:
            _takes_nothing(each, names, depth + 1)
        return False  # the number of the choice is a byte
    if isinstance(schema, str):
        name = schema.rpartition(".")[2]
        if names.get(name, False) is None:
            raise AvroError(f"has a schema with {name} within {name}")
        return names.get(name, schema == "null")
    kind = schema["type"]
    if kind == "array" and _takes_nothing(schema["items"], names, depth + 1):
        raise AvroError("has a schema of lists of nothing, which may have no end")
    if kind == "map":
        _takes_nothing(schema["values"], names, depth + 1)
    if kind not in ("record", "error", "fixed", "enum"):
        return kind not in ("array", "map") and _takes_nothing(kind, names, depth + 1)
    name = schema["name"].rpartition(".")[2]
    names[name] = None
    types = [field["type"] for field in schema.get("fields", [])]
    is_empty = all([_takes_nothing(each, names, depth + 1) for each in types])
    names[name] = schema["size"] == 0 if kind == "fixed" else is_empty and kind != "enum"
    return names[name]


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
