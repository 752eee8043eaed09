"""Files of the orbital elements of satellites: two-line elements, or OMM records in JSON, CSV or XML.

Formats: https://celestrak.org/NORAD/documentation/gp-data-formats.php.
"""

import io
import json
import re

from sgp4 import omm
from sgp4.api import Satrec

from ztf_sg.files import local_path

LINE = re.compile(r"([12]) ([ A-Z0-9]{5})[ -~]{60,62}\d")
LINE_LENGTH = 69
REMEDY = "give two-line elements or OMM records, as CelesTrak and Space-Track have them"


def read_elements(path):
    """Return the satellites in a file of elements.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    names : list of str
        Their names; the number in the catalogue without one.
    records : list of sgp4.api.Satrec
        Ready to propagate.
    skipped : list of (str, str)
        Names and reasons of those that cannot be used.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it holds no elements that can be used.
    """
    path = local_path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of elements; {REMEDY}")
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    entries = _lines(text) if _is_tle(text) else _omm_entries(path, text)
    names, records, skipped = [], [], []
    for name, where, make in entries:
        try:
            record = make()
            if record.error:
                raise ValueError(f"SGP4 refuses it, error {record.error}")
        except Exception as error:  # damaged elements raise errors of many kinds
            skipped.append(
                (name or where, f"{path}, {where}: {' '.join(str(error).split()) or type(error).__name__}")
            )
            continue
        names.append(name or str(record.satnum))
        records.append(record)
    if not records:
        reason = f" ({skipped[0][1]})" if skipped else ""
        raise ValueError(f"{path}: holds no elements of satellites that can be used{reason}; {REMEDY}")
    return names, records, skipped


def _is_tle(text):
    """Tell whether a text has lines of two-line elements."""
    return any(line[:2] in ("1 ", "2 ") and len(line.rstrip()) >= 60 for line in text.splitlines())


def _lines(text):
    """Yield name, line and maker of the record of each pair of element lines."""
    name, first = "", None
    for number, line in enumerate(text.splitlines(), 1):
        line = line.rstrip()
        if line.startswith("1 ") and len(line) > 40:
            if first:
                yield name, f"line {first[0]}", _refuse("its second line is missing")
                name = ""
            first = (number, line)
        elif line.startswith("2 ") and len(line) > 40:
            if first:
                yield name, f"line {first[0]}", _pair(first[1], line)
            else:
                yield name, f"line {number}", _refuse("its first line is missing")
            name, first = "", None
        elif line.strip():
            if first:
                yield name, f"line {first[0]}", _refuse("its second line is missing")
                first = None
            name = line.removeprefix("0 ").strip()
    if first:
        yield name, f"line {first[0]}", _refuse("its second line is missing")


def _refuse(reason):
    """Return a maker of a record that says why there is none."""

    def make():
        raise ValueError(reason)

    return make


def _pair(first, second):
    """Return a maker of the record of two lines, which checks them."""

    def make():
        for line in (first, second):
            if len(line) != LINE_LENGTH or not LINE.fullmatch(line):
                raise ValueError(f"{line[:24]!r}... is no line of {LINE_LENGTH} characters of elements")
            if _checksum(line) != int(line[-1]):
                raise ValueError(f"the checksum of {line[:24]!r}... is {_checksum(line)}, not {line[-1]}")
        if first[2:7] != second[2:7]:
            raise ValueError(f"its lines are of satellites {first[2:7]} and {second[2:7]}")
        return Satrec.twoline2rv(first, second)

    return make


def _checksum(line):
    """Return the last digit of the sum of a line's digits, with 1 for each minus."""
    return sum(int(each) if each.isdigit() else each == "-" for each in line[:-1]) % 10


def _omm_entries(path, text):
    """Yield name, place and maker of the record of each OMM record."""
    start = text.lstrip()[:1]
    try:
        if start in ("[", "{"):
            records = json.loads(text)
            records = [records] if isinstance(records, dict) else records
        else:
            parse = omm.parse_xml if start == "<" else omm.parse_csv
            records = list(parse(io.StringIO(text)))
    except Exception as error:  # of parsers of three formats
        reason = " ".join(str(error).split())[:150]
        raise ValueError(f"{path}: is no file of elements ({reason}); {REMEDY}") from error
    for number, fields in enumerate(records):
        name = str(fields.get("OBJECT_NAME") or "") if isinstance(fields, dict) else ""
        yield name, f"record {number}", lambda fields=fields: _omm_record(fields)


def _omm_record(fields):
    """Return the record of the fields of an OMM record."""
    missing = [key for key in ("EPOCH", "MEAN_MOTION", "INCLINATION", "NORAD_CAT_ID") if key not in fields]
    if missing:
        raise ValueError(f"lacks {', '.join(missing)}")
    record = Satrec()
    omm.initialize(record, fields)
    return record
