import io
import json
import re

import fastavro
import numpy as np
import pytest
from fuzzing.alert_packets import SCHEMA, avro_bytes, make_packet
from hypothesis import given
from hypothesis import strategies as st

from ztf_sg.streaks.avro import MOST_BYTES, iter_packets

MARK = b"M" * 16


def number(value):
    """Return a number as Avro writes it."""
    content = io.BytesIO()
    fastavro.schemaless_writer(content, "long", value)
    return content.getvalue()


def text(value):
    return number(len(value)) + value


def avro_file(schema, body, count=1, codec=b"null", size=None):
    schema = schema if isinstance(schema, bytes) else json.dumps(schema).encode()
    header = number(2) + text(b"avro.schema") + text(schema) + text(b"avro.codec") + text(codec) + number(0)
    return (
        b"Obj\x01" + header + MARK + number(count) + number(len(body) if size is None else size) + body + MARK
    )


def record(*fields):
    return {"type": "record", "name": "A", "fields": [{"name": name, "type": kind} for name, kind in fields]}


def nested(depth):
    kind = "int"
    for _ in range(depth):
        kind = {"type": "array", "items": kind}
    return record(("a", kind))


EMPTY = {"type": "record", "name": "E", "fields": []}
HOSTILE = {
    "A within A": (record(("a", "A")), b"", 1),
    "A within A ": (record(("a", ["null", "A"])), number(1) * 10**5, 1),
    "lists of nothing": (record(("a", {"type": "array", "items": "null"})), number(2**40), 1),
    "lists of nothing ": (record(("e", EMPTY), ("a", {"type": "array", "items": "E"})), number(2**40), 1),
    "packets without content": (record(), b"", 2**40),
    "nested more than 50 times": (nested(500), number(1) * 1000, 1),
    "no valid schema": (b"{", b"x", 1),
    "no valid schema ": (record(("a", "unknown")), b"x", 1),
    "no valid schema  ": ({"type": "record"}, b"x", 1),
    "no alert packet, but int": ("int", number(5), 1),
    "EOFError": (record(("a", {"type": "fixed", "name": "F", "size": 2**60})), b"x", 1),
    "EOFError ": (record(("a", "bytes")), number(2**60) + b"x", 1),
    "more bytes than packets": (record(("a", "int")), number(1) + b"x", 1),
    "a block states -1 packets": (record(("a", "int")), number(1), -1),
}


@pytest.mark.parametrize("reason", HOSTILE)
def test_hostile_files_are_named_and_end(reason):
    schema, body, count = HOSTILE[reason]
    *packets, (packet, fault) = iter_packets(io.BytesIO(avro_file(schema, body, count)))
    assert packet is None and reason.strip() in fault
    assert len(packets) <= 1


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"Obk\x01", "no Avro file"),
        (b"Obj\x01" + number(1) + number(2**50), "its header has a text of"),
        (b"Obj\x01" + b"\xff" * 20, "a number has no end"),
        (avro_file(record(("a", "int")), number(1), codec=b"snappy"), "packed by snappy.*deflate"),
        (avro_file(record(("a", "int")), number(1), size=MOST_BYTES + 1), f"states {MOST_BYTES + 1} bytes"),
        (avro_file(record(("a", "int")), number(1), size=0), "does not end where it states"),
        (avro_file(record(("a", "int")), b"\xff" * 9, codec=b"deflate"), "damaged"),
    ],
)
def test_damaged_files_are_named(content, reason):
    *_, (packet, fault) = iter_packets(io.BytesIO(content))
    assert packet is None
    assert re.search(reason, fault)


@given(st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=50), st.sampled_from(["null", "deflate"]))
def test_packets_are_those_of_fastavro(values, codec):
    content = io.BytesIO()
    schema = record(("a", "long"))
    fastavro.writer(content, schema, [{"a": value} for value in values], codec=codec, sync_interval=20)
    content.seek(0)
    assert [packet["a"] for packet, _ in iter_packets(content)] == values


def test_whole_packets_are_those_of_fastavro():
    rng = np.random.default_rng(0)
    content = avro_bytes([make_packet(rng, number)[0] for number in range(4)])
    expected = list(fastavro.reader(io.BytesIO(content), reader_schema=SCHEMA))
    assert [packet for packet, fault in iter_packets(io.BytesIO(content))] == expected


class Breaking(io.BytesIO):
    def read(self, size=-1):
        if self.tell() > 10:
            raise OSError("the disk is gone")
        return super().read(min(size, 4))


def test_a_stream_that_breaks_is_named():
    ((packet, fault),) = iter_packets(Breaking(avro_file(record(("a", "int")), number(1))))
    assert packet is None and "the disk is gone" in fault
