"""The manifest of a folder of cutouts: one line a cutout, saying what it is and what became of it."""

import csv
import io
import os
import threading
from pathlib import Path

import pandas as pd

from ztf_sg.files import atomic_write

MANIFEST = "manifest.csv"
MANIFEST_COLUMNS = ("file", "RA", "DEC", "type", "source_image", "origin", "filter", "max_seeing", "status")
SAVED, SKIPPED, FAILED = "saved", "skipped", "failed"
POSITION_TOLERANCE = 0.1 / 3600  # by how much a listed position may differ from the manifest's [deg]


class ManifestError(ValueError):
    """A folder of cutouts that does not go with the request; the message says why and what to do."""


class Manifest:
    """The manifest of a folder, to be added to line by line, from several threads.

    A line is on the disk before :meth:`append` returns, and one that a killed process did not finish is
    dropped. A later line on the same file replaces an earlier one.

    Parameters
    ----------
    directory : pathlib.Path

    Attributes
    ----------
    rows : dict of str to dict
        The lines by file, in order.
    """

    def __init__(self, directory):
        self.path = directory / MANIFEST
        self._lock = threading.Lock()
        self._mend()
        self.rows = {row["file"]: row for row in read_manifest(directory).to_dict("records")}

    def append(self, row):
        """Add a line, its status without line breaks."""
        row = {**row, "status": " ".join(row["status"].split())}
        with self._lock, open(self.path, "ab", buffering=0) as file:
            length = file.tell()
            lines = [] if length else [MANIFEST_COLUMNS]
            content = _csv_lines([*lines, _values(row)])
            try:
                while content:  # a disk that is nearly full takes the beginning, and only then refuses
                    content = content[file.write(content) :]
                os.fsync(file.fileno())
            except BaseException:
                file.truncate(length)
                raise
            self.rows[row["file"]] = row

    def sort(self, names):
        """Bring the lines of some files to the end of the manifest, in the order given."""
        last = set(names)
        order = [
            *(name for name in self.rows if name not in last),
            *(name for name in names if name in self.rows),
        ]
        self.rows = {name: self.rows[name] for name in order}
        content = _csv_lines([MANIFEST_COLUMNS, *map(_values, self.rows.values())])
        if content != self.path.read_bytes():
            with atomic_write(self.path) as file:
                file.write(content)

    def check(self, places, request):
        """Make sure that the folder goes with a request.

        Parameters
        ----------
        places : dict of str to named tuple
            The positions asked for, with RA and DEC [deg], by file.
        request : dict
            What all lines must agree in.

        Raises
        ------
        ManifestError
            They differ.
        """
        directory = self.path.parent
        for row in self.rows.values():
            for key, value in request.items():
                if row[key] != value:
                    raise ManifestError(
                        f"{directory}: its cutouts were made with {key} {row[key]!r}, not {value!r}; "
                        "name another folder"
                    )
        for name, position in places.items():
            row = self.rows.get(name)
            if row and not _same_place(row, position):
                raise ManifestError(
                    f"{directory}: {name} was made for RA {row['RA']}, DEC {row['DEC']}, but the list now "
                    f"has RA {position.RA}, DEC {position.DEC}; name another folder"
                )

    def _mend(self):
        """Drop a last line that a killed process did not finish."""
        content = self.path.read_bytes() if self.path.exists() else b""
        if content and not content.endswith(b"\n"):
            with atomic_write(self.path) as file:
                file.write(content[: content.rfind(b"\n") + 1])
        if self.path.exists() and not self.path.stat().st_size:
            self.path.unlink()


def read_manifest(directory):
    """Read the manifest of a folder of cutouts; an empty table if it has none.

    Returns
    -------
    pandas.DataFrame
        Columns file, RA, DEC [deg], type, source_image, origin, filter, max_seeing [arcsec] and status:
        "saved", "skipped: reason" (there is no such cutout) or "failed: reason" (another run may get it).

    Raises
    ------
    ManifestError
        If the manifest lacks a column, or is damaged.
    """
    path = Path(directory) / MANIFEST
    if not path.exists():
        return pd.DataFrame(columns=list(MANIFEST_COLUMNS))
    try:
        table = pd.read_csv(path, dtype={"source_image": str, "status": str}, keep_default_na=False)
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: damaged ({error}); mend or delete the line that it names") from error
    missing = [name for name in MANIFEST_COLUMNS if name not in table]
    if missing:
        raise ManifestError(
            f"{path}: lacks {', '.join(missing)}; move the folder's files away and fetch them again"
        )
    return table.drop_duplicates("file", keep="last", ignore_index=True)


def outcome(row):
    """Return the outcome that a line of a manifest tells: "saved", "skipped" or "failed"."""
    return row["status"].split(":")[0]


def count_outcomes(manifest):
    """Return how many cutouts had which outcome.

    Parameters
    ----------
    manifest : pandas.DataFrame
        See :func:`read_manifest`.

    Returns
    -------
    pandas.DataFrame
        One row a class, one column an outcome: saved, skipped, failed.
    """
    kind = manifest["file"].str.split("_").str[0].rename("class")
    outcome = manifest["status"].str.split(":").str[0].rename("outcome")
    return pd.crosstab(kind, outcome).reindex(columns=[SAVED, SKIPPED, FAILED], fill_value=0)


def _same_place(row, position):
    return max(abs(row["RA"] - position.RA), abs(row["DEC"] - position.DEC)) < POSITION_TOLERANCE


def _csv_lines(rows):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _values(row):
    numbers = {name: f"{row[name]:.7f}" for name in ("RA", "DEC", "max_seeing")}
    return [{**row, **numbers}[name] for name in MANIFEST_COLUMNS]
