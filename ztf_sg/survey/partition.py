"""Partitions of a survey: which there are, and the task that reads, classifies and writes one of them."""

import json
from contextlib import nullcontext
from functools import lru_cache
from hashlib import sha256
from time import perf_counter
from uuid import uuid4

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from joblib import parallel_config

from ztf_sg.checks import is_whole_number
from ztf_sg.classification import StarGalaxyClassifier
from ztf_sg.cutouts import (
    CutoutError,
    cutout_names,
    iter_row_groups,
    list_source,
    load_files,
    row_group_sizes,
)
from ztf_sg.cutouts.columns import names_of
from ztf_sg.cutouts.listing import RESULTS as NOTES
from ztf_sg.cutouts.listing import file_of, relative_name
from ztf_sg.cutouts.schema import SKIPPED_COLUMNS
from ztf_sg.features import FLAGS
from ztf_sg.files import atomic_write
from ztf_sg.priors import fraction_faults
from ztf_sg.survey.running import MODEL
from ztf_sg.training_range import merge

BATCH = 4096  # cutouts that each task holds in memory at a time
SKIPPED, READ, OUTSIDE, UNFINISHED = "skipped", "read", "outside", "unfinished"
RESULT = pa.schema(
    {"name": pa.string()}
    | dict.fromkeys(("ra", "dec", "p_galaxy", "posterior_variance"), pa.float64())
    | {"class": pa.int8()}
    | dict.fromkeys(("ambiguous", "outside", *FLAGS), pa.bool_())
)
STAGES = ("reading", "features", "classifying", "writing")


def plan_partitions(source, partition):
    """Return the partitions: paths and names of FITS cutouts, or of one Parquet file with its row groups.

    A damaged Parquet file is a partition without row groups.
    """
    if not (is_whole_number(partition) and partition >= 1):
        raise ValueError(f"partition: expected a whole number of cutouts, 1 or more, got {partition!r}")
    paths, is_parquet = list_source(source)
    if not is_parquet:
        names, starts = cutout_names(paths, source), range(0, len(paths), partition)
        return [(paths[n : n + partition], names[n : n + partition], None) for n in starts]
    parts = []
    for path in paths:
        names = [path.name if path == source else relative_name(path, source)]
        groups, held = [], 0
        try:
            sizes = row_group_sizes(path)
        except CutoutError:
            parts.append(([path], names, []))
            continue
        for number, size in enumerate(sizes):
            groups, held = [*groups, number], held + size
            if held >= partition:
                parts.append(([path], names, groups))
                groups, held = [], 0
        if groups:
            parts.append(([path], names, groups))
    return parts


def fingerprint(paths, names, groups):
    """Return a text that changes when the name, size or time of a partition's files change."""
    files = [(path, file_of(path, name)) for path, name in zip(paths, names, strict=True) if path.exists()]
    stats = [(file, path.stat().st_size, path.stat().st_mtime_ns) for path, file in files]
    return sha256(json.dumps([stats, groups]).encode()).hexdigest()


def work(path, paths, names, groups, threshold, alone):
    """Classify one partition and write it to a path; return its row of the table, or its error.

    A task that is not alone uses one thread: the tasks share the processors.
    """
    notes = path.parent / NOTES
    seconds = dict.fromkeys(STAGES, 0.0)
    skipped, objects, outside = [pd.DataFrame(columns=SKIPPED_COLUMNS)], 0, []
    unfinished = notes / UNFINISHED / f"{path.name}.{uuid4().hex}"
    try:
        with (
            nullcontext() if alone else parallel_config("sequential"),
            atomic_write(path, unfinished) as file,
            pq.ParquetWriter(file, RESULT, compression="zstd") as writer,
        ):
            model = load_model(notes / MODEL, (notes / MODEL).stat().st_mtime_ns)
            read = fingerprint(paths, names, groups)
            started = perf_counter()
            for cutouts, faults in read_cutouts(paths, names, groups, model):
                seconds["reading"] += perf_counter() - started
                result, summary = classified(cutouts, model, threshold, seconds)
                started = perf_counter()
                writer.write_table(result)
                skipped.append(faults)
                outside.append(summary)
                objects += len(result)
                seconds["writing"] += perf_counter() - started
                started = perf_counter()
            listed = pd.concat(skipped)
            _write_note(note_of(path, SKIPPED, "csv"), listed.to_csv(index=False) if len(listed) else "")
            summary = merge(outside)
            _write_note(note_of(path, OUTSIDE, "json"), json.dumps(summary) if summary["outside"] else "")
            _write_note(note_of(path, READ, "txt"), read)
    except Exception as error:  # one partition must not stop the others
        kind = "" if isinstance(error, CutoutError | OSError) else f"{type(error).__name__}: "
        return {"file": path.name, "error": f"{kind}{error}"}
    return {"file": path.name, "objects": objects, "skipped": sum(map(len, skipped)), **seconds}


def read_cutouts(paths, names, groups, model):
    """Yield what :func:`usable` returns of a partition, a few cutouts at a time; files are skipped, too."""
    if groups is None:
        for first in range(0, len(paths), BATCH):
            rows = slice(first, first + BATCH)
            yield usable(load_files(paths[rows], "skip", names[rows]), model)
        return
    (path,), (name,) = paths, names
    try:
        for cutouts in iter_row_groups(path, groups, rows=BATCH, on_error="skip", labels=False):
            listed = cutouts.skipped["name"]
            of_file = listed.str.startswith(path.name) & (name != path.name)
            cutouts.skipped["name"] = listed.where(~of_file.astype(bool), name + listed.str[len(path.name) :])
            yield usable(cutouts, model)
    except CutoutError as error:  # of a column
        nothing = load_files([])
        nothing.skipped.loc[0] = name, str(error)
        yield nothing, nothing.skipped


def usable(cutouts, model):
    """Return the cutouts whose share of galaxies is known, if the model wants it, and a table of the others.

    The table lists what else was skipped, too. A CutoutError is raised if the column is missing.
    """
    if not isinstance(model.galaxy_fraction, str):
        return cutouts, cutouts.skipped
    faults = fraction_faults(cutouts.table, model.galaxy_fraction) if len(cutouts) else {}
    names = names_of(cutouts.table)
    listed = pd.DataFrame([(names[row], fault) for row, fault in faults.items()], columns=SKIPPED_COLUMNS)
    good = np.setdiff1d(np.arange(len(cutouts)), list(faults))
    return cutouts[good], pd.concat([cutouts.skipped, listed.astype(object)], ignore_index=True)


def classified(cutouts, model, threshold, seconds):
    """Return the classes of cutouts, an Arrow table, and how many are outside; add the time to `seconds`."""
    started = perf_counter()
    columns = {name: cutouts.table[name] for name in ("name", "ra", "dec")}
    summary = merge([])
    if len(cutouts):
        features = model.features(cutouts)
        measured = perf_counter()
        columns |= model.classify_features(features, threshold)
        summary = model.summarize_outside(features)
        seconds["features"] = seconds.get("features", 0.0) + measured - started
        seconds["classifying"] = seconds.get("classifying", 0.0) + perf_counter() - measured
    else:
        columns |= {name: [] for name in RESULT.names[3:]}
    arrays = [pa.array(columns[name], RESULT.field(name).type) for name in RESULT.names]
    return pa.table(arrays, RESULT), summary


def _write_note(path, text):
    """Write a note on a partition, or remove it if the text is empty."""
    path.unlink(missing_ok=True)  # of an earlier run, before the source was mended
    if text:
        with atomic_write(path, path.parents[1] / UNFINISHED / f"{path.name}.{uuid4().hex}") as file:
            file.write(text.encode())


def note_of(path, kind, suffix):
    """Return the path of a note on a partition, which is known by the path of its results."""
    return path.parent / NOTES / kind / f"{path.stem}.{suffix}"


@lru_cache(maxsize=4)
def load_model(path, changed):
    """Return the model of a file, read again if it has changed since."""
    return StarGalaxyClassifier.load(path)
