"""The manifest of a folder of cutouts: one line per cutout, saying what it is and what became of it."""

import math
import os
import threading
from io import BytesIO
from pathlib import Path

import pandas as pd

from ztf_sg.files import atomic_write

MANIFEST = "manifest.csv"
SETTINGS = ("origin", "filter", "max_seeing", "max_infobits")  # the same for all cutouts of a folder
MANIFEST_COLUMNS = ("file", "RA", "DEC", "type", "source_image", *SETTINGS, "status")
SAVED, SKIPPED, FAILED = "saved", "skipped", "failed"
DTYPES = {"RA": float, "DEC": float, "max_seeing": float, "source_image": str, "status": str}
DIGITS = 7  # of numbers, behind the point
POSITION_TOLERANCE = 0.1 / 3600  # by how much a listed position may differ from the manifest's [deg]


class ManifestError(ValueError):
    """A folder of cutouts that does not go with the request; the message says why and what to do."""


class Manifest:
    """The manifest of a folder, to be added to line by line, from several threads.

    A line is on the disk before :meth:`append` returns. When it is opened, a last line that a killed process
    did not finish is dropped, and a column that was added since is filled in. `rows` holds the lines by file,
    in order; a later line on the same file replaces an earlier one.
    """

    def __init__(self, directory):
        self.path = directory / MANIFEST
        self._lock = threading.Lock()
        content = self.path.read_bytes() if self.path.exists() else b""
        self.rows = {row["file"]: row for row in read_manifest(directory).to_dict("records")}
        if content and not (content.startswith(_csv([])) and content.endswith(b"\n")):
            self._write()

    def append(self, row):
        """Add a line, its status without line breaks."""
        row = {**row, "status": " ".join(row["status"].split())}
        with self._lock, open(self.path, "ab", buffering=0) as file:
            length = file.tell()
            content = _csv([row], header=not length)
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
        moved = {name: self.rows[name] for name in names if name in self.rows}
        self.rows = {name: row for name, row in self.rows.items() if name not in moved} | moved
        self._write()

    def check(self, targets, settings):
        """Raise a ManifestError unless the folder goes with a request.

        The `targets`, positions by file with RA and DEC [deg], must be those listed, and all lines must have
        the values of `settings` in the columns `SETTINGS`, numbers to the `DIGITS` written.
        """
        directory = self.path.parent
        for name, row in self.rows.items():
            for key, value in settings.items():
                if not _agree(row[key], value):
                    raise ManifestError(
                        f"{directory}: its cutouts were made with {key} {row[key]!r}, not {value!r}; "
                        "name another folder"
                    )
            position = targets.get(name)
            if position and not _is_at(row, position):
                raise ManifestError(
                    f"{directory}: {name} was made for RA {row['RA']}, DEC {row['DEC']}, but the list now "
                    f"has RA {position.RA}, DEC {position.DEC}; name another folder"
                )

    def _write(self):
        content = _csv(self.rows.values())
        if content != self.path.read_bytes():
            with atomic_write(self.path) as file:
                file.write(content)


def read_manifest(directory):
    """Read the manifest of a folder of cutouts; an empty table if it has none.

    Parameters
    ----------
    directory : path-like

    Returns
    -------
    pandas.DataFrame
        One row per cutout; columns file, RA, DEC [deg], type, source_image, origin, filter, max_seeing
        [arcsec], max_infobits (0, the default, in a manifest from before this column was kept) and status:
        "saved", "skipped: reason" (there is no such cutout) or "failed: reason" (another run may get it).

    Raises
    ------
    ManifestError
        If the manifest lacks a column, or is damaged.
    """
    path = Path(directory) / MANIFEST
    content = path.read_bytes() if path.exists() else b""
    whole = content[: content.rfind(b"\n") + 1] or _csv([])  # a process may be killed in the middle of a line
    try:
        table = pd.read_csv(BytesIO(whole), dtype=DTYPES, keep_default_na=False)
    except ValueError as error:
        raise ManifestError(f"{path}: damaged ({error}); mend or delete the line that it names") from error
    if "max_infobits" not in table:
        table["max_infobits"] = 0
    missing = [name for name in MANIFEST_COLUMNS if name not in table]
    if missing:
        raise ManifestError(
            f"{path}: lacks {', '.join(missing)}; move the folder's files away and fetch them again"
        )
    return table[list(MANIFEST_COLUMNS)].drop_duplicates("file", keep="last", ignore_index=True)


def outcome(row):
    """Return the outcome that a line of a manifest has: "saved", "skipped" or "failed"."""
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
        One row per class, one column per outcome: saved, skipped, failed.
    """
    kind = manifest["file"].str.split("_").str[0].rename("class")
    outcomes = manifest["status"].str.split(":").str[0].rename("outcome")
    return pd.crosstab(kind, outcomes).reindex(columns=[SAVED, SKIPPED, FAILED], fill_value=0)


def _is_at(row, position):
    return max(abs(row["RA"] - position.RA), abs(row["DEC"] - position.DEC)) < POSITION_TOLERANCE


def _agree(listed, value):
    return math.isclose(listed, value, abs_tol=10**-DIGITS) if isinstance(value, float) else listed == value


def _csv(rows, header=True):
    """Return lines of the file, as bytes."""
    table = pd.DataFrame(rows, columns=list(MANIFEST_COLUMNS))
    return table.to_csv(index=False, header=header, float_format=f"%.{DIGITS}f", lineterminator="\n").encode()
