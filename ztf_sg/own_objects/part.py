"""The task that fetches and classifies the images of one part of a list, and the file that it writes."""

import json
import shutil
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from time import perf_counter

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from joblib import parallel_config

from ztf_sg.cutouts import load_files
from ztf_sg.cutouts.listing import RESULTS as NOTES
from ztf_sg.features import FLAGS
from ztf_sg.fetching import fetch_cutouts
from ztf_sg.fetching.manifest import FAILED, SAVED, SKIPPED
from ztf_sg.files import atomic_write
from ztf_sg.services import AuthenticationError, ServiceDown, ServiceError, Stopped
from ztf_sg.survey.partition import load_model
from ztf_sg.survey.running import MODEL

FETCHED, CUTOUT_FOLDER = "fetched", "cutouts"  # folders of FITS files on the way, and of Parquet files
STOPPED = "stopped"  # a file in the notes that has the tasks of a run do nothing any more
ENDING_THE_RUN = (ServiceDown, Stopped, AuthenticationError)
STAGES = ("fetching", "reading", "features", "classifying", "writing")
JUDGED = ("outside", *FLAGS)
NOTE = b"ztf_sg"  # key of the metadata of a file


def classify_part(path, objects, service, request, progress, alone):
    """Fetch the cutouts of some objects, and write a line about each wanted image; finish what is begun.

    Parameters
    ----------
    path : pathlib.Path
        Parquet file with a row per wanted image: object, filter, rank, source_image, status, as of
        :func:`~ztf_sg.fetching.read_manifest`; obsmjd [d], log_ratio, NaN without an image, and `JUDGED`.
    objects : pandas.DataFrame
        For :func:`ztf_sg.fetch_cutouts`, with a column object.
    service : image service
    request : dict
        Further arguments of `fetch_cutouts`.
    progress : bool
        Show a progress bar of the cutouts.
    alone : bool
        Whether the task may use all processors.

    Returns
    -------
    dict
        file, and if something went wrong error, a text, or ended, an exception that ends the whole run.
    """
    notes = path.parent / NOTES
    row = {"file": path.name}
    if (notes / STOPPED).exists():
        return row
    try:
        with nullcontext() if alone else parallel_config("sequential"):
            _classify_part(path, objects, service, request, progress)
    except ENDING_THE_RUN as error:
        (notes / STOPPED).touch()
        row["ended"] = error
    except (ServiceError, OSError, ValueError) as error:  # one part must not stop the others
        row["error"] = str(error)
    return row


def _classify_part(path, objects, service, request, progress):
    seconds = dict.fromkeys(STAGES, 0.0)
    folder = fetched_folder(path)
    with _timed(seconds, "fetching"):
        manifest = fetch_cutouts(objects, folder, service, **request, progress=progress)
    with _timed(seconds, "reading"):
        files = manifest.loc[manifest["status"] == SAVED, "file"]
        names = files.str.removesuffix(".fits").tolist()
        cutouts = load_files([folder / file for file in files], "skip", names)
    model_path = path.parent / NOTES / MODEL
    judged = judge_images(cutouts, load_model(model_path, model_path.stat().st_mtime_ns), seconds)
    images = _image_table(manifest, judged, cutouts.skipped)
    with _timed(seconds, "writing"):
        cutouts.to_parquet(path.parent / CUTOUT_FOLDER / path.name)
    note = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "seconds": seconds}
    table = pa.Table.from_pandas(images, preserve_index=False)
    with atomic_write(path) as file:
        pq.write_table(table.replace_schema_metadata({NOTE: json.dumps(note)}), file, compression="zstd")
    if not has_failed(images["status"]).any():
        shutil.rmtree(folder)


def judge_images(cutouts, model, seconds):
    """Return what a model says of n cutouts before any prior: a DataFrame of n rows, indexed by name.

    Columns filter (g, r or i), obsmjd [d], log_ratio and `JUDGED`. The time [s] is added to `seconds`.
    """
    columns = {"filter": cutouts.table["filter"].astype(str).str[-1], "obsmjd": cutouts.table["obsmjd"]}
    table = pd.DataFrame(columns).set_index(pd.Index(cutouts.table["name"], name="name"))
    if not len(cutouts):
        return table.assign(log_ratio=np.nan, **dict.fromkeys(JUDGED, False))
    with _timed(seconds, "features"):
        features = model.features(cutouts)
    with _timed(seconds, "classifying"):
        found = model.classify_features(features, threshold=1.0)
    return table.assign(**{name: found[name] for name in ("log_ratio", *JUDGED)})


def fetched_folder(path):
    """Return the folder of the FITS cutouts of a part that is not finished, known by its file."""
    return path.parent / FETCHED / path.stem


def is_finished(path):
    """Tell whether the file of a part is there, and no image has failed, so that there is nothing to do."""
    return path.exists() and not has_failed(pd.read_parquet(path, columns=["status"])["status"]).any()


def has_failed(status):
    """Tell of each status whether the archive has not delivered that image so far, bool (n,)."""
    return status.str.startswith(FAILED)


def read_part(path):
    """Return the table of a part, and the note on it: date, and seconds by stage."""
    table = pq.read_table(path)
    return table.to_pandas(), json.loads(table.schema.metadata[NOTE])


def _image_table(manifest, judged, skipped):
    """Return a row per wanted image, with what is judged of those that are there."""
    names = manifest["file"].str.removesuffix(".fits")
    reasons = dict(zip(skipped["name"], skipped["reason"], strict=True))
    useless = {name: f"{SKIPPED}: {reason}" for name, reason in reasons.items()}
    status = [useless.get(*pair) for pair in zip(manifest["file"], manifest["status"], strict=True)]
    found = judged.drop(columns="filter").reindex(names).set_index(manifest.index)
    found[list(JUDGED)] = found[list(JUDGED)].eq(True)
    return manifest[["object", "rank", "source_image"]].assign(
        filter=manifest["filter"].str[-1],
        status=status,
        **found.astype({"obsmjd": float, "log_ratio": float}),
    )


@contextmanager
def _timed(seconds, stage):
    started = perf_counter()
    yield
    seconds[stage] = seconds.get(stage, 0.0) + perf_counter() - started
