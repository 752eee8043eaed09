"""Alert packets as nested values, taken apart into stamps, label and metadata."""

import re
from numbers import Real
from typing import NamedTuple

import numpy as np

from ztf_sg.streaks.stamp_pixels import StampError, stamp_pixels
from ztf_sg.streaks.stamps import BRIGHTER, UNKNOWN

CANDIDATE = "candidate"  # the record of the detection
IMAGE_COLUMN = re.compile(
    r"(?:b:)?(?:cutout_?)?(science|template|difference)(?:[._]?stamp_?data)?", re.IGNORECASE
)
STAMP_DATA = "stampdata"
PREFIX = re.compile(r"([idv]:)?(candidate[._])?")  # of Fink, and of records whose fields became columns
LABELS = {"other": 0, "star": 0, "galaxy": 0, "artifact": 0, "comet": 0, "asteroid": 1, "satellite": 2}
NOTHING = (None, "", "null", "None")


class Alert(NamedTuple):
    """A detection: where it was found, stamps (height, width) by name, label, and metadata by column."""

    where: str
    images: dict
    label: int
    values: dict


def image_of_column(name):
    """Return which stamp a column or field holds: science, template or difference; None if it is another."""
    match = IMAGE_COLUMN.fullmatch(name)
    return match[1].lower() if match else None


def alert_of(where, packet):
    """Return the Alert that a packet holds: an Avro packet, the row of a table, or FITS stamps by name.

    Raises
    ------
    StampError
        If a stamp cannot be used, or there is none. The message names the alert.
    """
    values = _values(packet)
    name = name_of(values)
    images = {}
    for key, value in packet.items():
        kind, value = image_of_column(str(key)), _stamp_data(value)
        if kind is None or value is None:
            continue
        try:
            if kind in images:
                raise StampError("is there twice")
            images[kind] = stamp_pixels(value)
        except StampError as error:
            raise StampError(f"{name + ': ' if name else ''}the {kind} stamp {error}") from error
    if not any(np.isfinite(pixels).any() for pixels in images.values()):
        raise StampError(f"{name + ': ' if name else ''}has no stamp with a pixel")
    return Alert(where, images, _label(packet.get("label")), values)


def name_of(values):
    """Return what an alert is called: its name if it has one, or object and number of the candidate."""
    parts = [values.get(key) for key in ("objectId", "candid")]
    joined = "_".join(str(part) for part in parts if part not in NOTHING)
    return str(values["name"]) if values.get("name") not in NOTHING else joined


def _values(packet):
    """Return the single values of a packet and of its candidate record, by column, without prefixes."""
    record = packet.get(CANDIDATE)
    values = {key: value for key, value in packet.items() if image_of_column(str(key)) is None}
    values |= record if isinstance(record, dict) else {}
    values = {PREFIX.sub("", str(key), count=1): value for key, value in values.items()}
    values = {key: value for key, value in values.items() if isinstance(value, str | Real | None)}
    if "isdiffpos" in values:
        values["isdiffpos"] = BRIGHTER.get(str(values["isdiffpos"]).lower())
    return values


def _stamp_data(value):
    """Return the bytes or numbers of a stamp, which packets have beside its file name; None for nothing."""
    if isinstance(value, dict):
        found = [each for key, each in value.items() if str(key).lower().replace("_", "") == STAMP_DATA]
        value = found[0] if found else next(iter(value.values()), None)
    return None if isinstance(value, str) and not value else value


def _label(value):
    """Return the label that a text or number states; -1 if it states none."""
    if isinstance(value, str):
        return LABELS.get(value.strip().lower(), UNKNOWN)
    is_known = isinstance(value, Real) and value in (0, 1, 2)
    return int(value) if is_known and not isinstance(value, bool) else UNKNOWN
