"""What an archive answers: a status, a body and its kind; HTML pages and VOTables."""

from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr

import numpy as np


@dataclass
class Answer:
    status: int
    body: bytes
    content_type: str = "text/html; charset=utf-8"
    headers: dict = field(default_factory=dict)
    fault: str = None
    header_size: int = 0  # of a FITS file


def html(status, text, **headers):
    page = f"<!DOCTYPE html>\n<html><head><title>{text}</title></head><body><h1>{text}</h1></body></html>\n"
    return Answer(status, page.encode(), headers=headers)


def redirect(url):
    return Answer(303, b"", headers={"Location": url})


def text(content, content_type="text/plain"):
    return Answer(200, content.encode(), content_type)


_VOTABLE = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<VOTABLE version="1.3" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">'
    '<RESOURCE type="results">\n{}\n</RESOURCE></VOTABLE>\n'
)
_TYPES = {"f8": ("double", "{!r}"), "f4": ("float", "{:.9g}"), "i8": ("long", "{}"), "i4": ("int", "{}")}


def votable(rows, columns, overflow=False):
    """Return a VOTable; `columns` maps names to f8, f4, i8, i4 or char, and None in a row is null."""
    fields, writers = [], []
    for name, kind in columns.items():
        datatype, writer = _TYPES.get(kind, ("char", "{}"))
        size = ' arraysize="*"' if datatype == "char" else ""
        fields.append(f'<FIELD name={quoteattr(name)} datatype="{datatype}"{size}/>')
        writers.append(lambda value, form=writer.format: escape(form(value)))
    lines = [
        "".join(
            ["<TR>"]
            + [
                "<TD/>" if value is None else f"<TD>{write(value)}</TD>"
                for write, value in zip(writers, row, strict=True)
            ]
            + ["</TR>"]
        )
        for row in rows
    ]
    table = "\n".join(["<TABLE>", *fields, "<DATA><TABLEDATA>", *lines, "</TABLEDATA></DATA></TABLE>"])
    body = '<INFO name="QUERY_STATUS" value="OK"/>\n' + table
    if overflow:
        body += '\n<INFO name="QUERY_STATUS" value="OVERFLOW"/>'
    return Answer(200, _VOTABLE.format(body).encode(), "application/x-votable+xml")


def votable_error(status, message, attribute=""):
    """Return the error document; TAP's client knows it by its text, X-Match's by an ID (`attribute`)."""
    info = f'<INFO {attribute}name="QUERY_STATUS" value="ERROR">{escape(message)}</INFO>'
    return Answer(status, _VOTABLE.format(info).encode(), "application/x-votable+xml")


def column_kind(values):
    """Tell the VOTable type of plain Python values."""
    known = [value for value in values if value is not None]
    if known and all(isinstance(value, (int, np.integer)) for value in known):
        return "i8"
    return "f8" if all(isinstance(value, float) for value in known) else "char"
