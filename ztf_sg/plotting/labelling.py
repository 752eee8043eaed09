"""Labelling cutouts by eye in a notebook, such as those that a classifier finds ambiguous."""

import io
import os
from datetime import UTC, datetime

import numpy as np
import pandas as pd
from matplotlib.image import imsave

from ztf_sg.cutouts import CLASS_NAMES, UNKNOWN
from ztf_sg.files import atomic_write, local_path
from ztf_sg.plotting import style
from ztf_sg.plotting.cutouts import BLACK, WHITE, stretched

COLUMNS = ["name", "label", "time"]
KEYS = {"s": CLASS_NAMES.index("star"), "g": CLASS_NAMES.index("galaxy"), "k": UNKNOWN}
BUTTONS = {"s": "star (s)", "g": "galaxy (g)", "k": "skip (k)", "u": "undo (u)"}
ENLARGED = 16  # width of a pixel on the screen [px]


class LabelCutouts:
    """Show cutouts one by one, and write down what the user takes each for.

    As the last line of a cell it is a picture with buttons, and a box that takes the keys s (star),
    g (galaxy), k (skip) and u (undo) while the cursor is in it. Names are not shown: they may tell the class.

    Every answer is in the CSV file at once; where it could not be written, the line below the box says why.
    Called again with the same file, it goes on where it was: cutouts with a row in the file are not shown.
    The file may be edited meanwhile, or be that of several sets: it is read again before each answer.

    Parameters
    ----------
    cutouts : CutoutSet
        Their names are what rows of the file refer to.
    path : path-like
        CSV file with the columns name, label (0 star, 1 galaxy, -1 skipped) and time (UTC, ISO 8601); other
        columns and rows are kept. It is made at the first answer.

    Raises
    ------
    ImportError
        If ipywidgets is missing.
    ValueError
        If names are missing or occur twice, or the file is no such table.
    IsADirectoryError, PermissionError
        If the path is that of a folder, or of a file that may only be read.

    Attributes
    ----------
    table : pandas.DataFrame
        What the file held when it was last read or written, as text.
    current : int or None
        Row of the cutout that is shown; None if all are labelled.
    widget : ipywidgets.VBox
        What is displayed.
    """

    def __init__(self, cutouts, path):
        self.cutouts, self.path = cutouts, local_path(path).resolve()  # of a link, the file that it names
        self._names = _names_of(cutouts)
        self.table = _read_table(self.path)
        self.widget = self._make_widget()
        self._show_next()

    def _repr_mimebundle_(self, **options):
        return self.widget._repr_mimebundle_(**options)

    def press(self, key):
        """Do what a button or key does; keys without a meaning, and answers when all is done, do nothing."""
        if key == "u" or (key in KEYS and self.current is not None):
            table = _read_table(self.path)
            self._undo(table) if key == "u" else self._answer(table, str(KEYS[key]))
        self._show_next()

    def _answer(self, table, label):
        """Add a row to the table of the file."""
        time = datetime.now(UTC).isoformat(timespec="seconds")
        row = dict(zip(COLUMNS, (self._names[self.current], label, time), strict=True))
        self._save(pd.concat([table, pd.DataFrame([row])], ignore_index=True).fillna(""))

    def _undo(self, table):
        """Take back the last row of the table of the file that is of these cutouts."""
        rows = np.flatnonzero(np.isin(table["name"].tolist(), self._names))
        if len(rows):
            self._save(table.drop(index=rows[-1]).reset_index(drop=True))

    def _save(self, table):
        with atomic_write(self.path) as file:
            table.to_csv(file, index=False)
        self.table = table

    def _show_next(self):
        """Show the first cutout without a label."""
        left = np.flatnonzero(~np.isin(self._names, self.table["name"].tolist()))
        self.current = int(left[0]) if len(left) else None
        done = len(self._names) - len(left)
        self._progress.value = f"{done} of {len(self._names)} labelled"
        if self.current is not None:
            self._picture.value = _png(self.cutouts.images[self.current])
        self._picture.layout.display = "none" if self.current is None else None
        for key, button in self._buttons.items():
            button.disabled = done == 0 if key == "u" else self.current is None

    def _make_widget(self):
        """Return the picture, the buttons and the box for keys."""
        try:
            import ipywidgets
        except ImportError as error:
            raise ImportError(
                f"labelling needs ipywidgets: pip install 'ztf_sg[notebooks]' ({error})"
            ) from error
        height, width = self.cutouts.images.shape[1:]
        self._picture = ipywidgets.Image(format="png", width=ENLARGED * width, height=ENLARGED * height)
        self._progress = ipywidgets.Label()
        self._buttons = {key: ipywidgets.Button(description=text) for key, text in BUTTONS.items()}
        for key, button in self._buttons.items():
            button.on_click(lambda _, key=key: self._press(key))
        self._keys = ipywidgets.Text(placeholder="click here, then type s, g, k or u")
        self._keys.observe(self._typed, names="value")
        caption = f"{width} x {height} px, asinh stretch from its own {BLACK:g} to {WHITE:g} percentile"
        return ipywidgets.VBox(
            [
                self._picture,
                ipywidgets.Label(caption),
                ipywidgets.HBox(list(self._buttons.values())),
                self._keys,
                self._progress,
            ]
        )

    def _typed(self, change):
        """Press the keys that were added to the box, which is never emptied: that might swallow a key."""
        if change["new"].startswith(change["old"]):
            for key in change["new"][len(change["old"]) :]:
                if not self._press(key):
                    break  # what was typed after it was for the next pictures

    def _press(self, key):
        """Press a key and tell whether that worked, as Jupyter does not show the errors of widgets."""
        try:
            self.press(key)
        except (OSError, ValueError) as error:
            self._progress.value = f"nothing is written: {error}"
            return False
        return True


def _names_of(cutouts):
    """Return the names of cutouts as an array; raise a ValueError if they do not tell them apart."""
    names = cutouts.table.get("name", pd.Series([None] * len(cutouts), dtype=object))
    if names.isna().any() or not names.is_unique:
        faulty = (
            "some have none" if names.isna().any() else f"{names[names.duplicated()].iloc[0]} occurs twice"
        )
        raise ValueError(f"cutouts need names of their own to be labelled: {faulty}; set table['name']")
    names = names.astype(str).to_numpy(str)
    if broken := [name for name in names if "\r" in name]:
        raise ValueError(f"{str(broken[0])!r}: a carriage return would break a CSV table; set table['name']")
    return names


def _read_table(path):
    """Return the table of a CSV file as text; an empty one if there is no file."""
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder; name a CSV file, such as one in it")
    if not path.exists():
        return pd.DataFrame(columns=COLUMNS, dtype=str)
    if not os.access(path, os.W_OK):
        raise PermissionError(f"{path}: may only be read; name another file, or allow writing to it")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, compression=None)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: is no CSV table ({reason}); name another file") from error
    if not isinstance(table.index, pd.RangeIndex):  # pandas makes an index of the values that are too many
        raise ValueError(f"{path}: has rows of more values than columns; name the columns, or another file")
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        raise ValueError(f"{path}: lacks the columns {', '.join(missing)}; name another file")
    return table


def _png(image):
    """Return a cutout as a PNG image, its first row at the bottom; not-finite pixels are pale red."""
    pixels = np.kron(stretched(image.astype(float)), np.ones((ENLARGED, ENLARGED)))
    buffer = io.BytesIO()
    look = {"vmin": 0, "vmax": 1, "cmap": style.GRAYS, "origin": "lower"}
    imsave(buffer, np.ma.masked_invalid(pixels), format="png", **look)
    return buffer.getvalue()
