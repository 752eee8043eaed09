"""Classification of whole surveys: cutouts in Parquet files, or in a folder of FITS files, to Parquet files.

The work is divided into partitions. One task of Dask reads, classifies and writes a partition, in bounded
memory. A partition is written whole or not at all, and a written one is not done again.
"""

import json
import shutil
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from uuid import uuid4

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from joblib import parallel_config
from tqdm.auto import tqdm

from ztf_sg.classification import PRETRAINED, StarGalaxyClassifier
from ztf_sg.cutouts import (
    LABEL,
    UNKNOWN,
    CutoutError,
    CutoutSet,
    iter_row_groups,
    list_cutouts,
    list_files,
    load_files,
    row_group_sizes,
)
from ztf_sg.files import atomic_write, lock_folder
from ztf_sg.model_file import ModelFileError

PARTITION = 16384  # cutouts of a partition, or more where a row group holds more
BATCH = 4096  # cutouts that are in memory at a time, in each task
NOTES = "_survey"  # folder within the results, which readers of Parquet folders leave alone
MODEL, SETTINGS, SKIPPED, READ, UNFINISHED = "model.npz", "settings.json", "skipped", "read", "unfinished"
RESULT = pa.schema(
    {
        "name": pa.string(),
        "ra": pa.float64(),
        "dec": pa.float64(),
        "p_galaxy": pa.float64(),
        "posterior_variance": pa.float64(),
        "class": pa.int8(),
        "ambiguous": pa.bool_(),
    }
)
STAGES = ("reading", "features", "classifying", "writing")
ROW = "row within the partition"
SCHEDULERS = ("threads", "processes", "synchronous")


class SurveyError(RuntimeError):
    """Some partitions could not be classified; the message names the first. The others are written."""


def classify_partition(table, model=None, max_error=0.01):
    """Classify one partition of a survey, such as Dask's or LSDB's ``map_partitions`` hands it over.

    Parameters
    ----------
    table : pandas.DataFrame or pyarrow.Table
        Cutouts, one per row, as :meth:`CutoutSet.from_table <ztf_sg.CutoutSet.from_table>` takes them; the
        ``label`` of a DataFrame is ignored, because Dask makes one up to learn the types of the result.
    model : StarGalaxyClassifier, optional
        Trained; the pretrained one if left out.
    max_error : float
        See :meth:`StarGalaxyClassifier.ambiguous <ztf_sg.StarGalaxyClassifier.ambiguous>`.

    Returns
    -------
    pandas.DataFrame
        One row per usable cutout, in order: name, ra, dec [deg], p_galaxy, posterior_variance, class (0
        star, 1 galaxy) and ambiguous. ``attrs["skipped"]`` lists the other rows by name and reason. The index
        of a DataFrame is kept, such as LSDB's ``_healpix_29``, so that other columns can be joined.

    Raises
    ------
    CutoutError
        If the table lacks a column, or it is of the wrong type.

    Examples
    --------
    >>> catalog.map_partitions(classify_partition)  # of LSDB  # doctest: +SKIP
    >>> frame.map_partitions(classify_partition)  # of Dask  # doctest: +SKIP
    """
    index = table.index if isinstance(table, pd.DataFrame) else None
    if index is not None:
        table = table.assign(**{LABEL: UNKNOWN, ROW: np.arange(len(table))})
    cutouts = CutoutSet.from_table(table, on_error="skip")
    result = _classified(cutouts, model or _pretrained(), max_error, {}).to_pandas()
    if index is not None:
        result.index = index[cutouts.table[ROW].to_numpy()]
    result.attrs["skipped"] = cutouts.skipped.to_dict("records")
    return result


def classify_survey(
    source, destination, model=None, max_error=0.01, scheduler="threads", partition=PARTITION, progress=True
):
    """Classify all cutouts of Parquet files, or of a folder of FITS files, and write the classes as Parquet.

    The same call continues a run that was stopped by whatever means: written partitions are kept, unless
    their files have changed since. However often the run was stopped, the results are the same byte by byte,
    given the same packages.

    Parameters
    ----------
    source : path-like
        A Parquet file, a folder of ``*.parquet`` files, see :mod:`ztf_sg.cutouts`, or a folder of FITS
        cutouts.
    destination : path-like
        Folder for the results: ``part-00000.parquet`` and so on, in the order of the source, with the columns
        of :func:`classify_partition`. :func:`read_skipped` returns the rows that could not be used.
    model : StarGalaxyClassifier, optional
        Trained; the pretrained one if left out.
    max_error : float
        See :meth:`StarGalaxyClassifier.ambiguous <ztf_sg.StarGalaxyClassifier.ambiguous>`.
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
    FileNotFoundError, CutoutError
        If there is no such source, or a Parquet file is damaged.
    ValueError
        If the destination holds results of another source, model or setting, or an argument is not one of
        those above.
    SurveyError
        If some partitions could not be read or written: the others are written, and the same call tries those
        again. Or if another run is at work in the destination.
    ImportError
        If Dask is not installed: ``pip install 'ztf_sg[survey]'``.
    """
    source, destination, model = Path(source).resolve(), Path(destination).resolve(), model or _pretrained()
    _check_scheduler(scheduler)
    if source == destination:
        raise ValueError(f"{source}: is the source; name another folder for the results")
    model.confidence_threshold(max_error)  # raises for an impossible share, before anything is written
    parts = _plan(source, partition)
    settings = {"source": str(source), "partition": int(partition), "max_error": float(max_error)}
    with lock_folder(destination / NOTES, SurveyError):
        _prepare(destination, model, settings)
        _remove_outdated(destination, parts)
        missing = [number for number in range(len(parts)) if not _result(destination, number).exists()]
        alone = len(missing) == 1 or scheduler == "synchronous"
        tasks = [(_result(destination, number), parts[number], max_error, alone) for number in missing]
        done = {row["file"]: row for row in _run(tasks, scheduler, progress)}
        shutil.rmtree(destination / NOTES / UNFINISHED, ignore_errors=True)
    failed = sorted((row for row in done.values() if "error" in row), key=lambda row: row["file"])
    if failed:
        raise SurveyError(
            f"{len(failed)} of {len(parts)} partitions could not be classified, the first, "
            f"{failed[0]['file']}: {failed[0]['error']}; the others are written: mend that, and run it again"
        )
    paths = [_result(destination, number) for number in range(len(parts))]
    rows = [done.get(path.name) or _known(path) for path in paths]
    return pd.DataFrame(rows, columns=["file", "objects", "skipped", *STAGES])


def read_skipped(destination):
    """Return the rows of all partitions that :func:`classify_survey` could not use.

    Parameters
    ----------
    destination : path-like
        Folder of its results.

    Returns
    -------
    pandas.DataFrame
        Columns name and reason.

    Raises
    ------
    FileNotFoundError
        If there are no results.
    """
    if not (Path(destination) / NOTES / SETTINGS).exists():
        raise FileNotFoundError(f"{destination}: holds no results of classify_survey; name their folder")
    paths = sorted((Path(destination) / NOTES / SKIPPED).glob("*.csv"))
    tables = [pd.read_csv(path, dtype=str, keep_default_na=False) for path in paths]
    return pd.concat([pd.DataFrame(columns=["name", "reason"]), *tables], ignore_index=True)


def _check_scheduler(scheduler):
    if isinstance(scheduler, str) and scheduler not in SCHEDULERS and "://" not in scheduler:
        raise ValueError(
            f"scheduler: expected {', '.join(map(repr, SCHEDULERS))}, a client, a cluster, or an address "
            f"such as 'tcp://localhost:8786', got {scheduler!r}"
        )


def _plan(source, partition):
    """Return the partitions: a list of FITS files each, or a Parquet file and numbers of its row groups."""
    if partition < 1:
        raise ValueError(f"partition: expected at least 1 cutout, got {partition}")
    if source.is_dir() and not any(source.glob("*.parquet")):
        paths = list_cutouts(source)
        return [paths[start : start + partition] for start in range(0, len(paths), partition)]
    parts = []
    for path in list_files(source):
        groups, held = [], 0
        for number, size in enumerate(row_group_sizes(path)):
            groups, held = [*groups, number], held + size
            if held >= partition:
                parts.append((path, groups))
                groups, held = [], 0
        if groups:
            parts.append((path, groups))
    return parts


def _fingerprint(part):
    """Return a text that changes when the name, size or time of a partition's files change."""
    paths, groups = (part, None) if isinstance(part, list) else ([part[0]], part[1])
    stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in paths if path.exists()]
    return sha256(json.dumps([stats, groups]).encode()).hexdigest()


def _remove_outdated(destination, parts):
    """Remove the results of partitions whose files have changed or disappeared since they were read."""
    current = {_result(destination, number): part for number, part in enumerate(parts)}
    for path in destination.glob("part-*.parquet"):
        read = _note(path, READ, "txt")
        if path in current and read.exists() and read.read_text() == _fingerprint(current[path]):
            continue
        path.unlink()
        _note(path, SKIPPED, "csv").unlink(missing_ok=True)


def _prepare(destination, model, settings):
    """Make the folder of the results, or check that its results are from the same model and settings."""
    notes = destination / NOTES
    kept = notes / SETTINGS
    if not kept.exists():
        if any(destination.glob("part-*.parquet")):
            raise ValueError(f"{destination}: holds results of unknown origin; name another destination")
        model.save(notes / MODEL)
        with atomic_write(kept) as file:
            file.write(json.dumps(settings).encode())
    before = json.loads(kept.read_text())
    changed = [name for name in settings if before.get(name) != settings[name]]
    if not _is_model(notes / MODEL, model):
        changed.append("model")
    if changed:
        raise ValueError(
            f"{destination}: holds results with another {', '.join(changed)}; name another destination, or "
            "remove it"
        )


def _is_model(path, model):
    """Return whether a file holds the same model, whatever version of the package wrote it."""
    try:
        return StarGalaxyClassifier.load(path).is_same_as(model)
    except ModelFileError:  # of a version that cannot be compared
        return False


def _run(tasks, scheduler, progress):
    """Return what `_work` returns for each task, in any order."""
    if not tasks:
        return []
    if isinstance(scheduler, str) and scheduler in SCHEDULERS:
        with _dask_needed():
            import dask
            from tqdm.dask import TqdmCallback
        with TqdmCallback(desc="partitions", tqdm_class=tqdm) if progress else nullcontext():
            return dask.compute([dask.delayed(_work)(*task) for task in tasks], scheduler=scheduler)[0]
    with _dask_needed():
        import distributed
    with _client(scheduler, distributed) as client:
        futures = client.map(_work, *zip(*tasks, strict=True), pure=False, retries=2)
        names = {future.key: task[0].name for future, task in zip(futures, tasks, strict=True)}
        finished = distributed.as_completed(futures, with_results=True, raise_errors=False)
        bar = tqdm(finished, total=len(futures), desc="partitions", disable=not progress)
        return [
            row if future.status == "finished" else {"file": names[future.key], "error": repr(row)}
            for future, row in bar
        ]


@contextmanager
def _dask_needed():
    """Say how to install Dask, which only surveys need, if it cannot be imported."""
    try:
        yield
    except ImportError as error:
        raise ImportError(f"surveys need Dask: pip install 'ztf_sg[survey]' ({error})") from error


@contextmanager
def _client(scheduler, distributed):
    """Yield a client of a scheduler, and close it if it was not given."""
    if isinstance(scheduler, distributed.Client):
        yield scheduler
    else:
        with distributed.Client(scheduler) as client:
            yield client


def _work(path, part, max_error, alone):
    """Classify one partition and write it to a path; return its row of the table, or its error.

    A task that is not alone uses one thread: the tasks share the processors.
    """
    notes = path.parent / NOTES
    seconds = dict.fromkeys(STAGES, 0.0)
    skipped, objects = [pd.DataFrame(columns=["name", "reason"])], 0
    unfinished = notes / UNFINISHED / f"{path.name}.{uuid4().hex}"
    try:
        with (
            nullcontext() if alone else parallel_config("sequential"),
            atomic_write(path, unfinished) as file,
            pq.ParquetWriter(file, RESULT, compression="zstd") as writer,
        ):
            model = _load(notes / MODEL, (notes / MODEL).stat().st_mtime_ns)
            fingerprint = _fingerprint(part)
            started = perf_counter()
            for cutouts in _cutouts(part):
                seconds["reading"] += perf_counter() - started
                result = _classified(cutouts, model, max_error, seconds)
                started = perf_counter()
                writer.write_table(result)
                skipped.append(cutouts.skipped)
                objects += len(result)
                seconds["writing"] += perf_counter() - started
                started = perf_counter()
            listed = pd.concat(skipped)
            _write_note(_note(path, SKIPPED, "csv"), listed.to_csv(index=False) if len(listed) else "")
            _write_note(_note(path, READ, "txt"), fingerprint)
    except Exception as error:  # one partition must not stop the others
        kind = "" if isinstance(error, CutoutError | OSError) else f"{type(error).__name__}: "
        return {"file": path.name, "error": f"{kind}{error}"}
    return {"file": path.name, "objects": objects, "skipped": sum(map(len, skipped)), **seconds}


def _cutouts(part):
    """Yield the cutouts of a partition, a few at a time."""
    if isinstance(part, tuple):
        yield from iter_row_groups(*part, rows=BATCH, on_error="skip")
        return
    for start in range(0, len(part), BATCH):
        yield load_files(part[start : start + BATCH], on_error="skip")


def _classified(cutouts, model, max_error, seconds):
    """Return the classes of cutouts as an Arrow table, and add the time to `seconds`."""
    started = perf_counter()
    columns = {name: cutouts.table[name] for name in ("name", "ra", "dec")}
    if len(cutouts):
        features = model.features(cutouts)
        measured = perf_counter()
        columns |= model.classify_features(features, max_error)
        seconds["features"] = seconds.get("features", 0.0) + measured - started
        seconds["classifying"] = seconds.get("classifying", 0.0) + perf_counter() - measured
    else:
        columns |= {name: [] for name in RESULT.names[3:]}
    return pa.table([pa.array(columns[name], RESULT.field(name).type) for name in RESULT.names], RESULT)


def _write_note(path, text):
    """Write a file of notes on a partition, or none if there is nothing to note."""
    path.unlink(missing_ok=True)  # of an earlier run, before the source was mended
    if text:
        with atomic_write(path, path.parents[1] / UNFINISHED / f"{path.name}.{uuid4().hex}") as file:
            file.write(text.encode())


def _known(path):
    """Return the row of the table for a partition that an earlier run wrote."""
    listed = _note(path, SKIPPED, "csv")
    skipped = len(pd.read_csv(listed)) if listed.exists() else 0
    return {"file": path.name, "objects": pq.read_metadata(path).num_rows, "skipped": skipped}


def _result(destination, number):
    return destination / f"part-{number:05d}.parquet"


def _note(path, kind, suffix):
    return path.parent / NOTES / kind / f"{path.stem}.{suffix}"


@lru_cache(maxsize=4)
def _load(path, changed):
    """Return the model of a file that was last changed then."""
    return StarGalaxyClassifier.load(path)


def _pretrained():
    return _load(PRETRAINED, None)
