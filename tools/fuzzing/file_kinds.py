"""Kinds of damage to CSV files, files of positions, model files, and folders."""

import io
import json
import os
import zipfile

import numpy as np
import pyarrow.parquet as pq

from .fits_kinds import EITHER, KEPT, REFUSED, blank, cut, flip, shuffle
from .table_kinds import table_of


def csv_text(rows):
    """Return the bytes of a CSV file."""
    return "".join(",".join(row) + "\n" for row in rows).encode()


def with_field(*texts, columns=slice(None)):
    """Return a damage of CSV files: one of some texts in a field of a row that is not the first."""

    def damage(rows, rng):
        rows = [list(row) for row in rows]
        row = int(rng.integers(1, len(rows)))
        column = int(rng.choice(np.arange(len(rows[row]))[columns]))
        rows[row][column] = str(texts[rng.integers(len(texts))])
        return csv_text(rows)

    return damage


def with_row(change):
    """Return a damage of CSV files: a function of a row that is not the first."""

    def damage(rows, rng):
        rows = [list(row) for row in rows]
        row = int(rng.integers(1, len(rows)))
        rows[row] = change(rows[row])
        return csv_text(rows)

    return damage


def of_text(change):
    """Return a damage of the bytes of a CSV file."""
    return lambda rows, rng: change(csv_text(rows), rng)


WHOLE_CSV = {
    "untouched": (of_text(lambda text, rng: text), KEPT),
    "line ends of Windows": (of_text(lambda text, rng: text.replace(b"\n", b"\r\n")), KEPT),
    "no last line end": (of_text(lambda text, rng: text[:-1]), KEPT),
    "empty": (of_text(lambda text, rng: b""), REFUSED),
    "bits flipped": (of_text(lambda text, rng: flip(text, rng, count=3)), EITHER),
    "many bits flipped": (of_text(lambda text, rng: flip(text, rng, count=50)), EITHER),
    "cut short": (of_text(cut), EITHER),
    "blank block": (of_text(blank), EITHER),
    "blocks out of order": (of_text(shuffle), EITHER),
    "no text": (of_text(lambda text, rng: rng.bytes(500)), REFUSED),
    "too few fields": (with_row(lambda row: row[:-1]), REFUSED),
    "too many fields": (with_row(lambda row: [*row, "1", "2"]), REFUSED),
}
CSV_KINDS = {
    **WHOLE_CSV,
    "text in place of a pixel": (with_field("abc", "true", "1;5", "12:30", columns=slice(1, None)), REFUSED),
    "non-finite pixel": (with_field("nan", "inf", "-Infinity", "1e999", columns=slice(1, None)), REFUSED),
    "no pixel": (with_field("", columns=slice(1, None)), REFUSED),
    "unknown label": (with_field("2", "0.5", "star", "", columns=slice(0, 1)), REFUSED),
}
POSITION_KINDS = {
    **WHOLE_CSV,
    "text in place of a position": (with_field("05h30m", "east", "1,5", columns=slice(0, 2)), REFUSED),
    "no position on the sky": (with_field("-95", "nan", "inf", "1e9", "", columns=slice(1, 2)), REFUSED),
    "other class": (with_field("PSF", "DUP", "", "star", columns=slice(2, 3)), REFUSED),
    "column missing": (lambda rows, rng: csv_text([row[:2] for row in rows]), REFUSED),
}


def with_arrays(change):
    """Return a damage of model files: a function of the dict of their arrays, which it changes."""

    def damage(content, rng):
        with np.load(io.BytesIO(content)) as stored:
            arrays = dict(stored)
        change(arrays, rng)
        file = io.BytesIO()
        np.savez(file, **arrays)
        return file.getvalue()

    return damage


def of_one(change, *, only=None):
    """Return a change of one of the arrays of numbers."""

    def change_one(arrays, rng):
        numbers = [name for name, values in arrays.items() if values.dtype.kind == "f" and values.ndim]
        name = only or numbers[rng.integers(len(numbers))]
        arrays[name] = change(arrays[name])

    return with_arrays(change_one)


def of_description(change):
    """Return a damage of the description in a model file."""

    def change_description(arrays, rng):
        arrays["description"] = np.array(change(json.loads(str(arrays["description"]))))

    return with_arrays(change_description)


def first_is(value):
    """Return a change of the first number of an array."""

    def change(values):
        values = values.copy()
        values.ravel()[0] = value
        return values

    return change


def other_archive(content, rng):
    """Return an archive that holds no model."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("description.npy", "no array")
    return file.getvalue()


MODEL_KINDS = {
    "untouched": (lambda content, rng: content, KEPT),
    "empty": (lambda content, rng: b"", REFUSED),
    "cut short": (cut, REFUSED),
    "no archive": (lambda content, rng: [b"<html>", rng.bytes(999), b"\x93NUMPY"][rng.integers(3)], REFUSED),
    "another archive": (other_archive, REFUSED),
    "bits flipped": (flip, EITHER),
    "many bits flipped": (lambda content, rng: flip(content, rng, count=100), EITHER),
    "blank block": (blank, EITHER),
    "blocks out of order": (shuffle, EITHER),
    "array missing": (
        with_arrays(lambda arrays, rng: arrays.pop(sorted(arrays)[rng.integers(len(arrays))])),
        REFUSED,
    ),
    "array too many": (with_arrays(lambda arrays, rng: arrays.update(more=np.ones(3))), REFUSED),
    "non-finite number": (of_one(first_is(np.nan)), REFUSED),
    "array of text": (of_one(lambda values: values.astype(str)), EITHER),
    "array of other words": (of_one(lambda values: np.full(values.shape, "x")), REFUSED),
    "Python objects": (of_one(lambda values: values.astype(object)), REFUSED),
    "other shape": (of_one(lambda values: values[..., None]), REFUSED),
    "another format": (of_description(lambda text: json.dumps({**text, "format": "version 99"})), REFUSED),
    "description is no JSON": (of_description(lambda text: "{" + str(text)), REFUSED),
    "description of another type": (of_description(lambda text: json.dumps([text])), REFUSED),
}


def add(name, content):
    """Return a disturbance of folders: a further file."""

    def disturb(folder, records, rng):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    return disturb


def each(*disturbances):
    """Return a disturbance that is one of some."""
    return lambda folder, records, rng: disturbances[rng.integers(len(disturbances))](folder, records, rng)


def add_parquet(folder, records, rng):
    """Add a Parquet file of cutouts."""
    pq.write_table(table_of(records), folder / str(rng.choice(["a.parquet", "b.PARQ", "c.pq"])))


def link(target):
    """Return a disturbance of folders: a symbolic link."""
    return lambda folder, records, rng: (folder / "link.fits").symlink_to(target)


def link_circle(folder, records, rng):
    """Link a folder to itself."""
    (folder / "again").symlink_to(folder, target_is_directory=True)


def move_one(folder, records, rng):
    """Move a file to a folder within a folder."""
    (folder / "deeper" / "still").mkdir(parents=True)
    os.rename(folder / f"{records[0].name}.fits", folder / "deeper" / "still" / f"{records[0].name}.fits")
    records[0] = records[0]._replace(name=f"deeper/still/{records[0].name}")


FOLDER_KINDS = {  # what is done to the folder, and a word that must be said of it
    "untouched": (lambda folder, records, rng: None, ""),
    "notes": (
        each(add("README.md", b"notes"), add("log.txt", b""), add("truth.csv", b"a,b\n"), add("x.png", b"")),
        "",
    ),
    "hidden files": (
        each(
            add("._star_1.fits", b"\0\5\26\7"),
            add(".DS_Store", b""),
            add(".cache/star_1.fits", b""),
            add(".nfs01", b""),
        ),
        "",
    ),
    "files being written": (each(add("star_1.fits.part", b"SIMPLE"), add("star_2.fits.tmp", b"")), ""),
    "empty folders": (lambda folder, records, rng: (folder / "a" / "b").mkdir(parents=True), ""),
    "archives": (each(add("night.tar.gz", b"x"), add("night.zip", b"x"), add("night.tgz", b"")), "unpack"),
    "arrays": (each(add("images.npy", b"x"), add("images.h5", b"x"), add("images.pkl", b"x")), "CutoutSet"),
    "Parquet files": (add_parquet, "CutoutSet.read_parquet"),
    "unknown files": (
        each(add("star_1.dat", b"x"), add("star_1", b"x"), add("star.fits.old", b"x")),
        "passed over",
    ),
    "sub-folders": (move_one, ""),
    "link to nothing": (link("nowhere.fits"), "link.fits"),
    "link in a circle": (link_circle, ""),
    "damaged file": (
        each(add("star_99.fits", b""), add("star_99.fits.gz", b"x"), add("a b/ü.fits", b"x")),
        ".fits",
    ),
    "folder named as a file": (lambda folder, records, rng: (folder / "star_99.fits").mkdir(), ""),
}
