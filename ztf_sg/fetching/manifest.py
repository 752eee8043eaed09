"""The manifest of a folder of cutouts: one line per cutout, saying what it is and what became of it."""

import os
import threading
from functools import cache
from io import BytesIO

import pandas as pd

from ztf_sg.cutouts import CLASS_NAMES, OBJECT
from ztf_sg.files import atomic_write, local_path
from ztf_sg.positions import labels_of_types

MANIFEST = "manifest.csv"
SETTINGS = ("origin", "filter", "max_seeing", "max_infobits")
MANIFEST_COLUMNS = ("file", "RA", "DEC", "type", "source_image", "tried", "trail", *SETTINGS, "status")
# of folders with several images of an object, whose files are named by their images
IMAGES_COLUMNS = ("file", "object", "name", "rank", *MANIFEST_COLUMNS[1:])
SAVED, SKIPPED, FAILED = "saved", "skipped", "failed"
TEXTS = ("file", "name", "type", "source_image", "tried", "trail", "status")
DTYPES = dict.fromkeys(TEXTS, str) | dict.fromkeys(("RA", "DEC", "max_seeing"), float)
ADDED_COLUMNS = {
    "max_infobits": 0,
    "tried": "",
    "trail": "",
}  # since the first manifests, and what they stand for there
HEADER = (",".join(MANIFEST_COLUMNS) + "\n").encode()
DIGITS = 7  # of numbers, behind the point
ROUNDING = 10**-DIGITS  # by how much a number that is read may differ from the one written
POSITION_TOLERANCE = 0.1 / 3600  # by how much a listed position may differ from the manifest's [deg]


class ManifestError(ValueError):
    """A folder of cutouts that does not go with the request; the message says why and what to do."""


class Manifest:
    """The manifest of a folder, to be added to line by line, from several threads.

    `rows` holds the lines by slot, in order; a later line on a slot replaces an earlier one. On opening, a
    last line that a killed process did not finish is dropped, and a column that was added since is filled in.

    Parameters
    ----------
    directory : pathlib.Path
    columns : tuple of str
        `MANIFEST_COLUMNS`, or `IMAGES_COLUMNS` where files are named by their images.

    Raises
    ------
    ManifestError
        The folder's files are named in the other way; as of `read_manifest`.
    """

    def __init__(self, directory, columns=MANIFEST_COLUMNS):
        self.directory = directory
        self.path = directory / MANIFEST
        self.columns = columns
        self._lock = threading.Lock()
        content = self.path.read_bytes() if self.path.exists() else b""
        table = read_manifest(directory)
        if len(table) and tuple(table.columns) != columns:
            raise ManifestError(
                f"{directory}: its files are {'not ' * (columns == IMAGES_COLUMNS)}named by their images, as "
                "several images of an object and objects of unknown class are; name another folder"
            )
        self.rows = {slot_of(row): row for row in table.to_dict("records")}
        is_old_or_torn = content and not (content.startswith(self._csv([])) and content.endswith(b"\n"))
        if is_old_or_torn and os.access(self.path, os.W_OK):
            self._write()

    def append(self, *rows):
        """Add lines, their texts without line breaks; they are on the disk when this returns."""
        rows = [row | {key: " ".join(row[key].split()) for key in TEXTS if key in row} for row in rows]
        with self._lock, open(self.path, "ab", buffering=0) as file:
            length = file.tell()
            content = self._csv(rows, header=not length)
            try:
                while content:  # a disk that is nearly full takes the beginning, and only then refuses
                    content = content[file.write(content) :]
                os.fsync(file.fileno())
            except BaseException:
                file.truncate(length)
                raise
            self.rows |= {slot_of(row): row for row in rows}

    def sort(self, slots):
        """Bring the lines of some slots to the end of the manifest, in the order given."""
        moved = {slot: self.rows[slot] for slot in slots if slot in self.rows}
        self.rows = {slot: row for slot, row in self.rows.items() if slot not in moved} | moved
        self._write()

    def check(self, objects, settings):
        """Raise a ManifestError if `objects`, positions by name [deg], or `settings` are not as listed."""
        for row in self.rows.values():
            for key, value in settings.items():
                if row[key] != value and not (isinstance(value, float) and abs(row[key] - value) < ROUNDING):
                    raise ManifestError(
                        f"{self.directory}: its cutouts were made with {key} {row[key]!r}, not {value!r}; "
                        "name another folder"
                    )
            name = object_of(row)
            if name not in objects:
                continue
            ra, dec = objects[name].RA, objects[name].DEC
            if not max(abs(row["RA"] - ra), abs(row["DEC"] - dec)) < POSITION_TOLERANCE:
                raise ManifestError(
                    f"{self.directory}: {row['file'] or name} was made for RA {row['RA']}, DEC {row['DEC']}, "
                    f"but the list now has RA {ra}, DEC {dec}; name another folder"
                )

    def check_writable(self):
        """Raise a ManifestError if this user may not write the manifest, or make one."""
        if not os.access(self.path if self.path.exists() else self.directory, os.W_OK):
            raise ManifestError(
                f"{self.path}: may not be written by this user; have its owner allow it (in a shared folder, "
                "umask 002), or name another folder"
            )

    def lasting_outcomes(self):
        """Return the outcomes of the lines that need no work, by slot."""
        outcomes = {}
        for slot, row in self.rows.items():
            is_there = outcome(row) == SAVED and (self.directory / row["file"]).exists()
            # where no image was found, there may be one now
            if is_there or (outcome(row) == SKIPPED and row["source_image"]):
                outcomes[slot] = outcome(row)
        return outcomes

    def select(self, slots):
        """Return the lines of some slots as a table, in the order given."""
        return pd.DataFrame([self.rows[slot] for slot in slots], columns=list(self.columns))

    def _csv(self, rows, header=True):
        """Return lines of the file, as bytes."""
        text = pd.DataFrame(rows, columns=list(self.columns)).to_csv(
            index=False, header=header, float_format=f"%.{DIGITS}f", lineterminator="\n"
        )
        return text.encode()

    def _write(self):
        content = self._csv(self.rows.values())
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
        use before it, each with the reason), trail ("yes" or "no" where trails were looked for), origin,
        filter, max_seeing [arcsec], max_infobits and status: "saved", "skipped: reason" (there is no such
        cutout) or "failed: reason" (another run may get it).
        Where files are named by their images, there are also object (the row in the list), its name there,
        and the rank of the image among those of the object in the filter, from 1; file is empty if there is
        no image, and type if the class is not known.

    Raises
    ------
    ManifestError
        If the manifest lacks a column, or is damaged.
    """
    path = local_path(directory) / MANIFEST
    content = path.read_bytes() if path.exists() else b""
    whole = content[: content.rfind(b"\n") + 1]  # a process may be killed in the middle of a line
    try:
        table = pd.read_csv(BytesIO(whole or HEADER), dtype=DTYPES, keep_default_na=False)
    except ValueError as error:
        raise ManifestError(f"{path}: damaged ({error}); mend or delete the line that it names") from error
    for name, value in ADDED_COLUMNS.items():
        if name not in table:
            table[name] = value
    columns = IMAGES_COLUMNS if "rank" in table else MANIFEST_COLUMNS
    missing = [name for name in columns if name not in table]
    if missing:
        raise ManifestError(
            f"{path}: lacks {', '.join(missing)}; move the folder's files away and fetch them again"
        )
    table = table[list(columns)]
    slots = pd.Series([slot_of(row) for row in table.to_dict("records")], dtype=object)
    return table[~slots.duplicated(keep="last")].reset_index(drop=True)


def object_of(row):
    """Return the name of the object of a line of a manifest, such as star_3."""
    if "rank" in row:
        return f"{_class_of(row)}_{row['object']}"
    return row["file"].removesuffix(".fits")


def slot_of(row):
    """Return the slot of a line of a manifest, as :class:`~ztf_sg.fetching.targets.Target` has it."""
    return f"{object_of(row)}_{row['filter']}_{row['rank']}" if "rank" in row else row["file"]


def _class_of(row):
    """Return star, galaxy or object; a line without image has no file that tells it."""
    return row["file"].split("_")[0] or _class_of_type(row["type"])


@cache
def _class_of_type(kind):
    label = labels_of_types([kind])[0]
    return OBJECT if label < 0 else CLASS_NAMES[label]


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
    classes = pd.Series(list(map(_class_of, manifest.to_dict("records"))), dtype=object, name="class")
    outcomes = manifest["status"].str.split(":").str[0].rename("outcome").reset_index(drop=True)
    return pd.crosstab(classes, outcomes).reindex(columns=[SAVED, SKIPPED, FAILED], fill_value=0)
