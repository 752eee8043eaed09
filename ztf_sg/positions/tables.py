"""Tables of objects in files of many kinds, which are told by what they hold, not by their names."""

import csv
import re
import warnings
from contextlib import suppress
from functools import partial
from io import BytesIO, StringIO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.io import fits, votable
from astropy.table import Table
from astropy.utils.data import get_readable_fileobj
from astropy.utils.exceptions import AstropyWarning

from ztf_sg.files import local_path
from ztf_sg.positions.columns import find_columns, shown_columns

SURPLUS = "fields beyond the header"  # the column for those of a line that has more of them
SURPLUS_FIELD = "more"
INDEX = "Unnamed: 0"
TEXT_TARGETS = ("NAME", "TYPE")
FIRST_BYTES = 4096  # which tell what a file is
WHITE_SPACE = r"\s+"
DELIMITERS = ("\t", ";", ",", "|", WHITE_SPACE)
COMMENT = re.compile(r"^[ \t]*#.*(?:\n|\Z)", re.MULTILINE)
LEADING_COMMENTS = re.compile(r"(?:[ \t]*(?:#.*)?\n)*")
# what files that hold no table for us begin with, and what to do
REFUSED = {
    rb"(?i)\s*(<!doctype html|<html)": (
        "is an HTML page, such as that of a log-in or an error; download the table again"
    ),
    rb"PK\x03\x04": "is a zip archive or an Excel workbook; save the table as CSV",
    rb"\x89HDF": "is an HDF5 file; save the table as Parquet or CSV",
    rb"%PDF": "is a PDF document; save the table as CSV",
    rb"\s*[{\[]": "is JSON; save the table as CSV",
}
# formats of astropy.io.ascii, by what they begin with
ASCII_FORMATS = {
    r"# %ECSV": "ecsv",
    r"[\\|]": "ipac",
    r"Title:": "mrt",
    r"#\s+1 [A-Z][A-Z0-9_]+\s": "sextractor",
}


def read_table(path):
    """Return the table of positions that a file holds.

    Parameters
    ----------
    path : path-like
        Of text with a delimiter, such as CSV, of an ECSV, IPAC, SExtractor or machine-readable table (MRT),
        a VOTable, FITS table or Parquet file. It may be compressed, as .gz, .bz2 or .xz.

    Returns
    -------
    astropy.table.Table, pyarrow.Table or pandas.DataFrame
        Of text with a delimiter, a DataFrame with the columns of :func:`find_columns`, and `SURPLUS`.

    Raises
    ------
    FileNotFoundError, IsADirectoryError
        If there is no such file.
    ValueError
        If it holds no table of positions, or several.
    """
    path = local_path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder; name one file in it")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; check its name")
    try:
        with get_readable_fileobj(str(path), encoding="binary") as file:
            content = file.read()
    except (EOFError, OSError) as error:
        raise ValueError(f"cannot be read ({error}); copy or download it again") from error
    with warnings.catch_warnings():  # about the letter of standards, units and so on
        warnings.simplefilter("ignore", AstropyWarning)
        return _table_of(content)


def _table_of(content):
    """Return the table that the content of a file holds."""
    first = content[:FIRST_BYTES]
    for pattern, reason in REFUSED.items():
        if re.match(pattern, first):
            raise ValueError(reason)
    for pattern, (kind, read) in READERS.items():
        if re.match(pattern, first):
            return _one_of(_parsed(read, content, kind), kind)
    text = _decoded(content)
    for pattern, kind in ASCII_FORMATS.items():
        if re.match(pattern, text):
            return _parsed(partial(Table.read, format=f"ascii.{kind}"), text, f"{kind} table")
    return _delimited_table(text)


def _parsed(read, content, kind):
    """Return what a function reads from the content of a file.

    Raises
    ------
    ValueError
        If it is damaged: the readers of formats raise almost anything then.
    """
    try:
        return read(content)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"cannot be read as {kind} ({reason}); copy or download it again") from error


def _fits_tables(content):
    with fits.open(BytesIO(content)) as hdus:
        tables = [hdu for hdu in hdus if isinstance(hdu, (fits.BinTableHDU, fits.TableHDU))]
        return [Table.read(hdu, unit_parse_strict="silent") for hdu in tables]


def _parquet_tables(content):
    return [pq.read_table(pa.BufferReader(content))]


def _votables(content):
    document = votable.parse(BytesIO(content))
    systems = {system.ID: system for system in document.iter_coosys()}
    tables = []
    for element in document.iter_tables():
        table = element.to_table(use_names_over_ids=True)
        table.meta = _frame_of_positions(table.colnames, element.fields, systems)
        tables.append(table)
    return tables


# readers of formats, with their names, by what they begin with
READERS = {
    rb"SIMPLE  =": ("FITS file", _fits_tables),
    rb"PAR1": ("Parquet file", _parquet_tables),
    rb"(?s).*<(\w+:)?VOTABLE": ("VOTable", _votables),
}


def _frame_of_positions(names, fields, systems):
    """Return the frame and epoch of the positions of a VOTable, by the keywords of FITS."""
    if not _has_positions(names):
        return {}
    field = fields[find_columns(names).numbers["RA"]]
    only = next(iter(systems.values())) if len(systems) == 1 else None
    system = systems.get(field.ref, only)
    return {"RADESYS": system.system, "EQUINOX": system.equinox, "REF_EPOCH": system.epoch} if system else {}


def _one_of(tables, kind):
    """Return the one of several tables that has positions."""
    if not tables:
        raise ValueError(f"is a {kind} without a table; give a table of positions")
    if len(tables) == 1:
        return tables[0]
    found = [table for table in tables if _has_positions(table.colnames)]
    if len(found) != 1:
        columns = "; ".join(shown_columns(table.colnames) for table in found or tables)
        raise ValueError(
            f"holds {len(tables)} tables, {len(found)} of them with positions; save the one of your objects "
            f"in a file of its own; their columns are {columns}"
        )
    return found[0]


def _has_positions(names):
    try:
        find_columns(names)
    except ValueError:
        return False
    return True


def _decoded(content):
    """Return the text of a file, UTF-8, UTF-16 with its mark, or Latin-1, with line feeds only."""
    encodings = ("utf-8-sig", "latin-1")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        encodings = ("utf-16", "latin-1")
    elif b"\0" in content[:FIRST_BYTES]:
        raise ValueError("is a binary file of an unknown kind; save the table as CSV, FITS or Parquet")
    for encoding in encodings:
        with suppress(UnicodeDecodeError):
            text = content.decode(encoding)
            break
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _delimited_table(text):
    """Return the columns of use of text with a delimiter, as a DataFrame of text.

    The header is the first line, or a comment above it, as numpy.savetxt and TOPCAT write it.
    """
    comments = LEADING_COMMENTS.match(text)[0].strip().splitlines()
    body = COMMENT.sub("", text) if "#" in text else text
    first, _, rest = body.lstrip("\n").partition("\n")
    if not first.strip():
        raise ValueError("is empty; give a line of names, such as name,RA,DEC, and a line per object")
    delimiter, names = _header(first)
    if comments and not _has_positions(names):
        of_comment = _header(comments[-1].lstrip("# \t"))
        if len(of_comment[1]) == len(_fields(first, of_comment[0])):
            (delimiter, names), rest = of_comment, body
    return _read_columns(rest, delimiter, names, find_columns(names).numbers)


def _header(line):
    """Return the delimiter of a header, and the names that it separates."""
    fields = {delimiter: _fields(line, delimiter) for delimiter in DELIMITERS}
    most = max(fields, key=lambda delimiter: len(fields[delimiter]))
    delimiter = next((delimiter for delimiter in fields if _has_positions(fields[delimiter])), most)
    return delimiter, fields[delimiter]


def _fields(line, delimiter):
    if delimiter == WHITE_SPACE:
        return line.split()
    fields = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))
    # pandas writes an index without a name first
    return [fields[0].strip() or INDEX, *(field.strip() for field in fields[1:])]


def _read_columns(body, delimiter, names, numbers):
    """Return some columns of text without its header, by their numbers, and `SURPLUS`.

    Columns that hold numbers only are numbers, except names.
    """
    header = (" " if delimiter == WHITE_SPACE else delimiter).join(
        [*map(str, range(len(names))), SURPLUS_FIELD]
    )
    used = [str(number) for number in sorted(set(numbers.values()))]
    texts = [str(number) for target, number in numbers.items() if target in TEXT_TARGETS]
    read = partial(
        pd.read_csv,
        sep=delimiter,
        usecols=[*used, SURPLUS_FIELD],
        dtype={**dict.fromkeys(texts, str), SURPLUS_FIELD: "category"},
        keep_default_na=False,
        na_values={field: [""] for field in used if field not in texts},
        index_col=False,
        skipinitialspace=True,
        low_memory=False,
    )
    try:
        table = read(StringIO(f"{header}\n{body}"))
    except pd.errors.ParserError:  # a quotation mark that nothing closes
        table = read(StringIO(f"{header}\n{body}"), quoting=csv.QUOTE_NONE)
    return table[[*used, SURPLUS_FIELD]].set_axis([*(names[int(field)] for field in used), SURPLUS], axis=1)
