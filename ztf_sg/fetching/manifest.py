"""The manifest of a folder of cutouts: one line per cutout, saying what it is and what became of it."""

import os
import threading
from io import BytesIO

import pandas as pd

from ztf_sg.files import atomic_write, local_path

MANIFEST = "manifest.csv"
SETTINGS = ("origin", "filter", "max_seeing", "max_infobits")  # the same for all cutouts of a folder
MANIFEST_COLUMNS = ("file", "RA", "DEC", "type", "source_image", "tried", *SETTINGS, "status")
SAVED, SKIPPED, FAILED = "saved", "skipped", "failed"
DTYPES = {"RA": float, "DEC": float, "max_seeing": float, "source_image": str, "tried": str, "status": str}
ADDED_COLUMNS = {"max_infobits": 0, "tried": ""}  # since the first manifests, and what they stand for there
DIGITS = 7  # of numbers, behind the point
ROUNDING = 10**-DIGITS  # by how much a number that is read may differ from the one written
POSITION_TOLERANCE = 0.1 / 3600  # by how much a listed position may differ from the manifest's [deg]


class ManifestError(ValueError):
    """A folder of cutouts that does not go with the request; the message says why and what to do."""


class Manifest:
    """The manifest of a folder, to be added to line by line, from several threads.

    `rows` holds the lines by file, in order; a later line on a file replaces an earlier one. On opening, a
    last line that a killed process did not finish is dropped, and a column that was added since is filled in.
    """

    def __init__(self, directory):
        self.directory = directory
        self.path = directory / MANIFEST
        self._lock = threading.Lock()
        content = self.path.read_bytes() if self.path.exists() else b""
        self.rows = {row["file"]: row for row in read_manifest(directory).to_dict("records")}
        is_old_or_torn = content and not (content.startswith(_csv([])) and content.endswith(b"\n"))
        if is_old_or_torn and os.access(self.path, os.W_OK):
            self._write()

    def append(self, row):
        """Add a line, its texts without line breaks; it is on the disk when this returns."""
        row = {**row, **{key: " ".join(row[key].split()) for key in ("tried", "status")}}
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
        """Raise a ManifestError if `targets`, positions by file [deg], or `settings` are not as listed."""
        for name, row in self.rows.items():
            for key, value in settings.items():
                if row[key] != value and not (isinstance(value, float) and abs(row[key] - value) < ROUNDING):
                    raise ManifestError(
                        f"{self.directory}: its cutouts were made with {key} {row[key]!r}, not {value!r}; "
                        "name another folder"
                    )
            if name not in targets:
                continue
            ra, dec = targets[name].RA, targets[name].DEC
            if not max(abs(row["RA"] - ra), abs(row["DEC"] - dec)) < POSITION_TOLERANCE:
                raise ManifestError(
                    f"{self.directory}: {name} was made for RA {row['RA']}, DEC {row['DEC']}, but the list "
                    f"now has RA {ra}, DEC {dec}; name another folder"
                )

    def check_writable(self):
        """Raise a ManifestError if this user may not write the manifest, or make one."""
        if not os.access(self.path if self.path.exists() else self.directory, os.W_OK):
            raise ManifestError(
                f"{self.path}: may not be written by this user; have its owner allow it (in a shared folder, "
                "umask 002), or name another folder"
            )

    def lasting_outcomes(self):
        """Return the outcomes of the lines that need no work, by file."""
        outcomes = {}
        for name, row in self.rows.items():
            is_there = outcome(row) == SAVED and (self.directory / name).exists()
            # where no image was found, there may be one now
            if is_there or (outcome(row) == SKIPPED and row["source_image"]):
                outcomes[name] = outcome(row)
        return outcomes

    def select(self, names):
        """Return the lines of some files as a table, in the order given."""
        return pd.DataFrame([self.rows[name] for name in names], columns=list(MANIFEST_COLUMNS))

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
        One row per cutout; columns file, RA, DEC [deg], type, source_image, tried (the images that were of no
        use before it, each with the reason), origin, filter, max_seeing [arcsec], max_infobits and status:
        "saved", "skipped: reason" (there is no such cutout) or "failed: reason" (another run may get it).

    Raises
    ------
    ManifestError
        If the manifest lacks a column, or is damaged.
    """
    path = local_path(directory) / MANIFEST
    content = path.read_bytes() if path.exists() else b""
    whole = content[: content.rfind(b"\n") + 1] or _csv([])  # a process may be killed in the middle of a line
    try:
        table = pd.read_csv(BytesIO(whole), dtype=DTYPES, keep_default_na=False)
    except ValueError as error:
        raise ManifestError(f"{path}: damaged ({error}); mend or delete the line that it names") from error
    for name, value in ADDED_COLUMNS.items():
        if name not in table:
            table[name] = value
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
    """Count the cutouts in a table from :func:`read_manifest` by class and outcome.

    Parameters
    ----------
    manifest : pandas.DataFrame

    Returns
    -------
    pandas.DataFrame
        One row per class, one column per outcome: saved, skipped, failed.
    """
    kind = manifest["file"].str.split("_").str[0].rename("class")
    outcomes = manifest["status"].str.split(":").str[0].rename("outcome")
    return pd.crosstab(kind, outcomes).reindex(columns=[SAVED, SKIPPED, FAILED], fill_value=0)


def _csv(rows, header=True):
    """Return lines of the file, as bytes."""
    table = pd.DataFrame(rows, columns=list(MANIFEST_COLUMNS))
    return table.to_csv(index=False, header=header, float_format=f"%.{DIGITS}f", lineterminator="\n").encode()
