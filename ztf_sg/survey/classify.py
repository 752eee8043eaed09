"""Classification of whole surveys: cutouts in Parquet or FITS files in, classes in Parquet files out.

A task of Dask reads, classifies and writes one partition, in bounded memory, whole or not at all.
"""

import json
import os
import shutil
import warnings
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.utils.validation import check_is_fitted

from ztf_sg.classification import PRETRAINED, StarGalaxyClassifier
from ztf_sg.cutouts import IMAGE, LABEL, UNKNOWN, CutoutSet
from ztf_sg.cutouts.listing import RESULTS as NOTES
from ztf_sg.cutouts.listing import SETTINGS
from ztf_sg.cutouts.schema import SKIPPED_COLUMNS
from ztf_sg.files import local_path, lock_folder
from ztf_sg.survey.partition import (
    OUTSIDE,
    READ,
    SKIPPED,
    STAGES,
    UNFINISHED,
    classified,
    fingerprint,
    load_model,
    note_of,
    plan_partitions,
    usable,
    work,
)
from ztf_sg.survey.running import check_scheduler, keep_settings, open_scheduler, run_tasks
from ztf_sg.training_range import describe, merge

PARTITION = 16384  # least number of cutouts in a partition
ROW = "row within the partition"


class SurveyError(RuntimeError):
    """Some partitions could not be classified, or another run is at work in the destination."""


def classify_partition(table, model=None, max_error=0.01):
    """Classify one partition of a survey, for ``map_partitions`` of Dask or LSDB.

    Parameters
    ----------
    table : pandas.DataFrame or pyarrow.Table
        Cutouts, one per row, for :meth:`CutoutSet.from_table <ztf_sg.CutoutSet.from_table>`; their labels
        are ignored.
    model : StarGalaxyClassifier, optional
        Trained; the pretrained one by default.
    max_error : float
        See :meth:`StarGalaxyClassifier.ambiguous <ztf_sg.StarGalaxyClassifier.ambiguous>`.

    Returns
    -------
    pandas.DataFrame
        One row per usable cutout, in order: name, ra, dec [deg], p_galaxy, posterior_variance, class (0
        star, 1 galaxy), ambiguous, outside (of what the model was trained on), and the flags saturated,
        truncated, blended and psf_from_seeing of :func:`~ztf_sg.features.measure_features`.
        ``attrs["skipped"]`` lists the other rows by name and reason. A DataFrame keeps its index, such as
        LSDB's ``_healpix_29``.

    Raises
    ------
    CutoutError
        If a column is missing or of the wrong type; so is that which the model's `galaxy_fraction` names.
    TypeError, NotFittedError
        If the model is no StarGalaxyClassifier, or not trained.

    Warns
    -----
    UserWarning
        If some rows cannot be used, cutouts are outside of what the model was trained on, or max_error is too
        small for its training set.

    Examples
    --------
    >>> catalog.map_partitions(classify_partition)  # doctest: +SKIP
    """
    index = table.index if isinstance(table, pd.DataFrame) else None
    if index is not None:
        table = table.assign(**{LABEL: UNKNOWN, ROW: np.arange(len(table))})
    elif isinstance(table, pa.Table | pa.RecordBatch) and LABEL in table.schema.names:
        table = table.drop_columns([LABEL])
    model = trained_model(model)
    cutouts, skipped = usable(CutoutSet.from_table(table, on_error="skip"), model)
    result, summary = classified(cutouts, model, model.confidence_threshold(max_error), {})
    result = result.to_pandas()
    if text := describe(summary, model.ranges_):
        warnings.warn(text, stacklevel=2)
    if index is not None:
        result.index = index[cutouts.table[ROW].to_numpy()]
    result.attrs["skipped"] = skipped.to_dict("records")
    if len(skipped) and not _is_invented(table):
        warnings.warn(
            f"{len(skipped)} of {len(table)} rows of a partition could not be used; the first: "
            f"{skipped['reason'].iloc[0]}",
            stacklevel=2,
        )
    return result


def trained_model(model, pretrained=PRETRAINED):
    """Return a model that is trained, that of a path for None; raise an error for anything else."""
    if model is None:
        return load_model(pretrained, None)
    remedy = "load one with StarGalaxyClassifier.load(path), or give none for the pretrained one"
    if not isinstance(model, StarGalaxyClassifier):
        raise TypeError(f"model: expected a trained StarGalaxyClassifier, got {model!r}; {remedy}")
    check_is_fitted(model, msg=f"model: this %(name)s is not trained; call its fit, {remedy}")
    return model


def _is_invented(table):
    """Tell whether Dask made up the rows to learn the types of the result: all alike, without an image."""
    if not isinstance(table, pd.DataFrame):
        return False
    return table["ra"].equals(table["dec"].rename("ra")) and not table[IMAGE].map(np.iterable).any()


def classify_survey(
    source, destination, model=None, max_error=0.01, scheduler="threads", partition=PARTITION, progress=True
):
    """Classify all cutouts of a survey, and write the classes as Parquet files.

    After a stop of any kind, the same call continues the run: it keeps the written partitions whose source
    files are unchanged. The same packages write the same bytes, however often the run was stopped.

    Parameters
    ----------
    source : path-like
        A Parquet file, a folder of ``*.parquet`` files, or a folder of FITS cutouts, with their sub-folders.
        Of a folder of both, the Parquet files are read.
    destination : path-like
        Folder for the results: ``part-00000.parquet`` and so on, in the order of the source, with the columns
        of :func:`classify_partition`. :func:`read_skipped` returns the rows that could not be used.
    model, max_error
        As of :func:`classify_partition`.
    scheduler : str or distributed.Client or distributed.LocalCluster
        Dask's "threads", "processes" or "synchronous", on this machine; or a client, a cluster or the
        address of a Dask scheduler, ``"tcp://..."``, whose workers see the same files.
    partition : int
        Least number of cutouts in a partition; row groups are not divided.
    progress : bool
        Show a progress bar.

    Returns
    -------
    pandas.DataFrame
        One row per partition: file, objects, skipped, and the seconds spent on reading, features, classifying
        and writing, NaN if an earlier run wrote it.

    Raises
    ------
    FileNotFoundError
        If there is no such source.
    ValueError
        If the destination holds results of another source, model or setting, an argument is not one of those
        above, or the model's `galaxy_fraction` names a column and the source is a folder of FITS cutouts.
    TypeError, NotFittedError
        As of :func:`classify_partition`.
    SurveyError
        If some partitions could not be read or written, which the same call tries again, or another run is at
        work in the destination.
    ImportError
        If Dask is not installed: ``pip install 'ztf_sg[survey]'``.

    Warns
    -----
    UserWarning
        If some records, Parquet files or row groups of them could not be used, see :func:`read_skipped`; if
        cutouts are outside of what the model was trained on, once for the whole survey; if max_error is too
        small for its training set.
    """
    source, destination, model = (
        Path(os.path.realpath(local_path(source))),  # resolve() raises at links in a circle
        Path(os.path.realpath(local_path(destination))),
        trained_model(model),
    )
    check_scheduler(scheduler)
    if source == destination:
        raise ValueError(f"{source}: is the source; name another folder for the results")
    threshold = model.confidence_threshold(max_error)  # raises before anything is written
    plan = plan_partitions(source, partition)
    _check_columns_of_files(source, plan, model)
    parts = {destination / f"part-{number:05d}.parquet": part for number, part in enumerate(plan)}
    settings = {"source": str(source), "partition": int(partition), "max_error": float(max_error)}
    with lock_folder(destination / NOTES, SurveyError):
        keep_settings(destination, model, settings)
        _remove_outdated(destination, parts)
        missing = [path for path in parts if not path.exists()]
        alone = len(missing) == 1 or scheduler == "synchronous"
        tasks = [(path, *parts[path], threshold, alone) for path in missing]
        with open_scheduler(scheduler) if tasks else nullcontext() as opened:
            done = {row["file"]: row for row in run_tasks(work, tasks, opened, progress)}
        shutil.rmtree(destination / NOTES / UNFINISHED, ignore_errors=True)
    failed = sorted((row for row in done.values() if "error" in row), key=lambda row: row["file"])
    if failed:
        raise SurveyError(
            f"{len(failed)} of {len(parts)} partitions could not be classified, the first, "
            f"{failed[0]['file']}: {failed[0]['error']}; the others are written: mend that, and run it again"
        )
    rows = [done.get(path.name) or _known(path) for path in parts]
    skipped = read_skipped(destination)
    files = {name for _, names, groups in parts.values() if groups is not None for name in names}
    if files and files == set(skipped["name"]):
        raise SurveyError(
            f"{source}: none of its files can be used; mend them, and run it again; the first: "
            f"{skipped['reason'].iloc[0]}"
        )
    _warn_of_skipped(destination, skipped)
    table = pd.DataFrame(rows, columns=["file", "objects", "skipped", *STAGES])
    notes = sorted((destination / NOTES / OUTSIDE).glob("*.json"))  # of runs before this one, too
    summary = merge([json.loads(path.read_text()) for path in notes])
    if text := describe(summary | {"objects": table["objects"].sum()}, model.ranges_):
        warnings.warn(f"{destination}: {text}", stacklevel=2)
    return table


def read_skipped(destination):
    """Return name and reason of the rows that :func:`classify_survey` could not use, as a DataFrame.

    Parameters
    ----------
    destination : path-like
        Folder of its results.

    Raises
    ------
    FileNotFoundError
        If there are no results.
    """
    destination = local_path(destination)
    if not (destination / NOTES / SETTINGS).exists():
        raise FileNotFoundError(f"{destination}: holds no results of classify_survey; name their folder")
    paths = sorted((destination / NOTES / SKIPPED).glob("*.csv"))
    tables = [pd.read_csv(path, dtype=str, keep_default_na=False) for path in paths]
    return pd.concat([pd.DataFrame(columns=SKIPPED_COLUMNS), *tables], ignore_index=True)


def _check_columns_of_files(source, plan, model):
    """Raise a ValueError if the model wants a column of its own, which FITS files cannot have."""
    column = model.galaxy_fraction
    if isinstance(column, str) and any(groups is None for _, _, groups in plan):
        raise ValueError(
            f"{source}: holds FITS cutouts, which lack the column {column!r} that galaxy_fraction names; "
            "load them with load_cutouts, add it to their table, and write them with CutoutSet.to_parquet"
        )


def _warn_of_skipped(destination, skipped):
    if len(skipped):
        warnings.warn(
            f"{destination}: {len(skipped)} records could not be used, and are listed by "
            f"ztf_sg.survey.read_skipped; the first: {skipped['reason'].iloc[0]}",
            stacklevel=3,
        )


def _remove_outdated(destination, parts):
    """Remove the results of partitions whose files have changed or disappeared since they were read."""
    for path in destination.glob("part-*.parquet"):
        read = note_of(path, READ, "txt")
        if path in parts and read.exists() and read.read_text() == fingerprint(*parts[path]):
            continue
        path.unlink()
        for note in (note_of(path, SKIPPED, "csv"), note_of(path, OUTSIDE, "json")):
            note.unlink(missing_ok=True)


def _known(path):
    """Return the row of the table for a partition that an earlier run wrote."""
    listed = note_of(path, SKIPPED, "csv")
    skipped = len(pd.read_csv(listed)) if listed.exists() else 0
    return {"file": path.name, "objects": pq.read_metadata(path).num_rows, "skipped": skipped}
