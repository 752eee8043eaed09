"""Sets of the stamps of alerts from the files of brokers, and files of such sets."""

from collections import Counter
from numbers import Integral, Real

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ztf_sg.cutouts.schema import check_on_error
from ztf_sg.files import atomic_write
from ztf_sg.streaks.alert_files import iter_found
from ztf_sg.streaks.packets import alert_of, image_of_column, name_of
from ztf_sg.streaks.stamp_pixels import StampError
from ztf_sg.streaks.stamps import IMAGES, SKIPPED_COLUMNS, Triplets
from ztf_sg.ztf import QUADRANT

ROWS = 500  # of a row group of Parquet files
STAMP_SHAPE = (63, 63)  # of ZTF's alerts, height and width [px]
FIRST_COLUMNS = (
    "name",
    "jd",
    "night",
    "fid",
    "ra",
    "dec",
    "magpsf",
    "sigmapsf",
    "magzpsci",
    "fwhm",
    "isdiffpos",
)
NUMBER_COLUMNS = ("jd", "night", "fid", "ra", "dec", "magpsf", "sigmapsf", "magzpsci", "fwhm", "xpos", "ypos")
LATEST = 1e8  # Julian date that still may be one [d]
REMEDY = "fetch it again, remove it, or load with on_error='skip'"


class AlertError(ValueError):
    """Alerts that cannot be read; the message names the first, its fault, the remedy and their number."""


def load_alerts(path, on_error="raise"):
    """Read the stamps of alerts from a file or a folder, told by content.

    Parameters
    ----------
    path : path-like
        An Avro file of one or many packets; a Parquet table as brokers give it, with the stamps as FITS,
        as bytes of float32 or as lists; FITS stamps, in one file or three per alert; a tarball of such files;
        or a folder of all these and its sub-folders. Files may be packed by gzip.
    on_error : {"raise", "skip"}
        Whether alerts that cannot be read raise an error, or are left out and listed in `skipped`.

    Returns
    -------
    Triplets
        Stamps in the order of the files (natural) and packets, FITS stamps last. Its table has `name`
        (objectId_candid, unless the file has names) and all single values of the packets, such as jd, fid,
        ra, dec [deg], fwhm [px], magpsf, magzpsci [mag], with isdiffpos "t" or "f", and `night`, the whole
        part of jd unless the file has it. Labels come from a column `label`; they are -1 without it.
        An alert that is there twice, by its candid, is kept once, and the copy listed in `skipped`; a candid
        that is a float tells none, as it lacks the last digits.

    Raises
    ------
    AlertError
        If an alert cannot be read and on_error is "raise".
    FileNotFoundError
        If there is no such path, or nothing in it looks like alerts.

    Warns
    -----
    UserWarning
        If a folder holds what is neither alerts nor notes.

    Notes
    -----
    Pixels that are not finite have no data: NaN; nor have those beyond 1e30, as ZTF's templates mark them. A
    stamp at the border of the image, smaller than the others, is completed by NaN on the sides where `xpos`
    and `ypos` [px] say that the image ends; without these, at the right and top. Negative differences are
    positive in ZTF's stamps, which show reference minus science.
    """
    check_on_error(on_error)
    return triplets_of(iter_found(path), on_error)


def triplets_of(found, on_error="raise", seen=None):
    """Return the Triplets of some packets; parameters and errors as of :func:`load_alerts`.

    Parameters
    ----------
    found : iterable of (str, dict or None, str or None)
        Where a packet is, for messages; the packet, as :func:`ztf_sg.streaks.packets.alert_of` takes it; or
        None and what is wrong.
    on_error : {"raise", "skip"}
    seen : dict, optional
        Where the alerts before these are, by candid, so that their copies are told; it is filled.
    """
    alerts, faults, copies = _read(found, {} if seen is None else seen)
    shape = _common_shape(alerts)
    misfits = {id(alert): fault for alert in alerts if (fault := _misfit(alert, shape))}
    faults += [
        _skipped(alert.where, misfits[id(alert)], name_of(alert.values))
        for alert in alerts
        if id(alert) in misfits
    ]
    if faults and on_error == "raise":
        others = f" ({len(faults)} alerts or files in all)" if len(faults) > 1 else ""
        raise AlertError(f"{faults[0][1]}; {REMEDY}{others}")
    alerts = [alert for alert in alerts if id(alert) not in misfits]
    return Triplets(
        **_stacks(alerts, shape),
        labels=[alert.label for alert in alerts],
        table=_table(alerts),
        skipped=pd.DataFrame([*faults, *copies], columns=SKIPPED_COLUMNS, dtype=object),
    )


def write_alerts(stamps, path):
    """Write Triplets as a Parquet file that :func:`load_alerts` reads, with all columns of their table.

    Parameters
    ----------
    stamps : Triplets
        Their labels are written as a column of numbers.
    path : path-like
        A file there is replaced when all is written.

    Raises
    ------
    IsADirectoryError, NotADirectoryError
        If the path is a folder, or leads through a file.
    ValueError
        If a column of the table is called as those of stamps are, or holds what Parquet cannot.
    """
    taken = [str(name) for name in stamps.table if image_of_column(str(name))]
    if taken:
        raise ValueError(f"table: columns of stamps are called {', '.join(taken)}; rename those of the table")
    table = pa.Table.from_pandas(stamps.table.assign(label=stamps.labels), preserve_index=False)
    height, width = stamps.difference.shape[1:]
    for kind in IMAGES:
        pixels = pa.FixedSizeListArray.from_arrays(pa.array(getattr(stamps, kind).ravel()), width)
        table = table.append_column(kind, pa.FixedSizeListArray.from_arrays(pixels, height))
    with atomic_write(path) as file:
        pq.write_table(table, file, compression="zstd", row_group_size=ROWS, write_page_checksum=True)


def _read(found, seen):
    """Return the Alerts among packets, and names and reasons of those that cannot be read, and of copies."""
    alerts, faults, copies = [], [], []
    for where, packet, fault in found:
        if fault is None:
            try:
                alert = alert_of(where, packet)
            except StampError as error:
                fault = str(error)
        if fault is not None:
            faults.append(_skipped(where, fault))
            continue
        candid = _candid(alert)
        if candid in seen:
            copies.append(_skipped(where, f"is a copy of the alert in {seen[candid]}", name_of(alert.values)))
            continue
        if candid:
            seen[candid] = where
        alerts.append(alert)
    return alerts, faults, copies


def _candid(alert):
    """Return the number of a detection as text; "" without one, or if it is a float, which lacks digits."""
    candid = alert.values.get("candid")
    return str(candid) if isinstance(candid, str | Integral) else ""


def _skipped(where, fault, name=""):
    """Return name and reason of an alert that is left out."""
    return name or where, f"{where}: {name}{' ' if name else ''}{fault}"


def _common_shape(alerts):
    """Return the commonest shape of the stamps; that of ZTF's without any."""
    shapes = Counter(pixels.shape for alert in alerts for pixels in alert.images.values())
    return shapes.most_common(1)[0][0] if shapes else STAMP_SHAPE


def _misfit(alert, shape):
    """Return what is wrong with the shapes of an alert's stamps; None if they fit.

    As the detection is at the centre, the border of an image leaves at least half of a stamp.
    """
    for kind, pixels in alert.images.items():
        if not all(full / 2 <= size <= full for size, full in zip(pixels.shape, shape, strict=True)):
            sizes = [f"{height} x {width}" for height, width in (pixels.shape, shape)]
            return f"has a {kind} stamp of {sizes[0]} px, most have {sizes[1]}; load sizes one by one"
    return None


def _stacks(alerts, shape):
    """Return the images of all alerts by name, (n, height, width), NaN where there is no data."""
    stacks = {}
    for kind in IMAGES:
        stacks[kind] = np.full((len(alerts), *shape), np.nan, dtype=np.float32)
        for row, alert in enumerate(alerts):
            if kind in alert.images:
                pixels = alert.images.pop(kind)  # so that they are not held twice for long
                y, x = _corner(alert.values, pixels.shape, shape)
                stacks[kind][row, y : y + pixels.shape[0], x : x + pixels.shape[1]] = pixels
    return stacks


def _corner(values, shape, full):
    """Return row and column of the first pixel of a stamp that the border of its image may have cut."""
    positions = (values.get("ypos"), values.get("xpos"))
    is_first_half = [
        isinstance(position, Real) and position < size / 2
        for position, size in zip(positions, QUADRANT[::-1], strict=True)
    ]
    return [
        whole - size if first else 0 for first, size, whole in zip(is_first_half, shape, full, strict=True)
    ]


def _table(alerts):
    """Return the metadata of alerts as a DataFrame, the usual columns first."""
    keys = dict.fromkeys(key for alert in alerts for key in alert.values)
    table = {key: _column(key, [alert.values.get(key) for alert in alerts]) for key in keys}
    table["name"] = [name_of(alert.values) or alert.where for alert in alerts]
    table = pd.DataFrame(table, index=range(len(alerts)))
    if "night" not in table and "jd" in table:
        table["night"] = _nights(table["jd"])
    return table[
        [*(key for key in FIRST_COLUMNS if key in table), *(key for key in keys if key not in FIRST_COLUMNS)]
    ]


def _nights(jd):
    """Return the whole parts of Julian dates, missing where there is no date."""
    is_date = np.isfinite(jd) & (np.abs(jd) < LATEST)
    nights = np.floor(jd.where(is_date))
    return nights.astype("int64" if is_date.all() else "Int64")


def _column(key, values):
    """Return a column of metadata: numbers unless all values are texts; missing where it is neither."""
    present = [value for value in values if value is not None]
    if key not in NUMBER_COLUMNS and (not present or any(isinstance(value, str) for value in present)):
        return pd.Series([None if value is None else str(value) for value in values])
    if present and all(isinstance(value, bool) for value in present):
        return pd.Series(values, dtype="boolean" if len(present) < len(values) else bool)
    whole = all(isinstance(value, int | np.integer) and abs(int(value)) < 2**63 for value in present)
    if whole and present:
        return pd.Series(values, dtype="int64" if len(present) == len(values) else "Int64")
    return pd.to_numeric(pd.Series(values, dtype=object), errors="coerce").astype(float)
