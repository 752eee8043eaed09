"""Files of results: CSV, ECSV, VOTable and Parquet, with what the classes were made of and with."""

import os
from io import BytesIO, StringIO

from astropy.io.votable import writeto
from astropy.io.votable.tree import Info, VOTableFile
from astropy.table import Table
from pandas.api.types import is_numeric_dtype

from ztf_sg.fetching.targets import one_line
from ztf_sg.files import atomic_write, local_path

COLUMNS = {  # unit, and description
    "object": ("", "number of the object: its row in the list, from 0"),
    "RA": ("deg", "right ascension, ICRS"),
    "DEC": ("deg", "declination, ICRS"),
    "p_galaxy": ("", "probability of being a galaxy"),
    "class": ("", "the likeliest class, or empty"),
    "ambiguous": ("", "better looked at by eye"),
    "n_images": ("", "number of images that the class is from"),
    "filters": ("", "their filters"),
    "chi2": ("", "disagreement of the images"),
    "p_chi2": ("", "probability of so large a disagreement"),
    "contradictory": ("", "whether the images contradict each other"),
    "n_failed": ("", "images that the archive did not deliver"),
    "reason": ("", "why there is no class, or which images failed"),
    "ra": ("deg", "right ascension, ICRS"),
    "dec": ("deg", "declination, ICRS"),
    "jd": ("d", "Julian date"),
    "fid": ("", "filter: 1 g, 2 r, 3 i"),
    "candid": ("", "number of the alert"),
    "p_other": ("", "probability of being a star, a galaxy or an artifact"),
    "p_asteroid": ("", "probability of being an asteroid"),
    "p_satellite": ("", "probability of being a satellite"),
    "length": ("arcsec", "of the trail of the source"),
    "length_error": ("arcsec", "its standard error"),
    "angle": ("deg", "of the trail, counter-clockwise from +x"),
    "angle_error": ("deg", "its standard error"),
    "rate": ("arcsec / min", "of motion"),
    "rate_error": ("arcsec / min", "its standard error"),
    "magnitude": ("mag", "of the source"),
    "magnitude_error": ("mag", "its standard error"),
    "free_ends": ("", "ends of the trail in the stamp"),
    "flashes": ("", "on a line through the source"),
    "period": ("arcsec", "between flashes"),
    "trail": ("", "whether a trail crosses the stamp"),
    "p_streak": ("", "the part of p_asteroid that is for streaks"),
    "linked": ("", "number of the satellite whose flash it is, or -1"),
}


def check_output(path, endings):
    """Return the path of a file to be written; raise an error if it cannot be, before any work.

    Parameters
    ----------
    path : path-like
    endings : iterable of str
        What it may end in, such as ".csv", in any case.

    Raises
    ------
    ValueError
        If it ends in none of these.
    IsADirectoryError, NotADirectoryError, PermissionError
        If it is a folder, its folder is a file, or this user may not write there.
    """
    path = local_path(path)
    if path.suffix.lower() not in endings:
        raise ValueError(f"{path}: its ending is none of {', '.join(endings)}; name another file")
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder; name a file, such as one in it")
    folder = next(folder for folder in path.absolute().parents if folder.exists())
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder}: is a file; name a folder to write {path.name} to")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise PermissionError(f"{path}: may not be written by this user; name another file")
    return path


def write_classes(table, path):
    """Write a table of results to a file, which is whole or not there, in the format that its ending tells.

    Parameters
    ----------
    table : pandas.DataFrame
        From `classify_positions`, `classify_cutouts` or `classify_alerts`. In names, characters that a line
        of a table cannot hold, such as form feeds, become spaces. Its ``attrs`` go along: as ``meta`` in
        ECSV, as INFO elements in a VOTable, as ``attrs`` for pandas in Parquet. A CSV file has no room for
        them.
    path : path-like
        Ends in ``.csv``, ``.ecsv``, ``.vot`` or ``.xml`` (VOTable), or ``.parquet``.

    Raises
    ------
    ValueError, OSError
        As of :func:`check_output`.
    """
    path = check_output(path, WRITERS)
    if not is_numeric_dtype(table["name"]):
        table = table.assign(name=table["name"].map(one_line))
    content = BytesIO()
    WRITERS[path.suffix.lower()](table, content)
    with atomic_write(path) as file:
        file.write(content.getbuffer())


def _write_csv(table, file):
    table.to_csv(file, index=False)


def _write_parquet(table, file):
    table.to_parquet(file, index=False)


def _write_ecsv(table, file):
    text = StringIO()
    _astropy_table(table).write(text, format="ascii.ecsv")
    file.write(text.getvalue().encode())


def _write_votable(table, file):
    votable = VOTableFile.from_table(_astropy_table(table))
    infos = votable.get_first_table().infos
    infos.extend(Info(name=name, value=_text(value)) for name, value in table.attrs.items())
    writeto(votable, file)


def _astropy_table(table):
    """Return an astropy Table of results, with units and descriptions."""
    texts = table.select_dtypes(exclude=["number", "bool"]).columns
    result = Table.from_pandas(table.astype(dict.fromkeys(texts, str)))
    for name, (unit, description) in COLUMNS.items():
        if name in result.colnames:
            result[name].unit, result[name].description = unit or None, description
    result.meta = dict(table.attrs)
    return result


def _text(value):
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


WRITERS = {
    ".csv": _write_csv,
    ".ecsv": _write_ecsv,
    ".vot": _write_votable,
    ".xml": _write_votable,
    ".parquet": _write_parquet,
}
