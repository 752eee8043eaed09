"""Classes of cutouts that are there: of each, or of each object that has several images."""

from contextlib import suppress

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ztf_sg.classification import PRETRAINED, PRETRAINED_ANY_DEPTH, StarGalaxyClassifier
from ztf_sg.cutouts import IMAGE, OBJECT, UNKNOWN
from ztf_sg.cutouts.listing import printable
from ztf_sg.cutouts.schema import object_of
from ztf_sg.fetching import read_manifest
from ztf_sg.fetching.manifest import SAVED, SKIPPED
from ztf_sg.files import local_path
from ztf_sg.own_objects.part import JUDGED, judge_images
from ztf_sg.own_objects.provenance import provenance
from ztf_sg.own_objects.results import classes_of, split_prior
from ztf_sg.priors import check_fraction
from ztf_sg.survey.classify import PARTITION, trained_model
from ztf_sg.survey.partition import plan_partitions, read_cutouts

READY = PRETRAINED, PRETRAINED_ANY_DEPTH  # for cutouts without the number of an object, and with one
PARQUET_MAGIC = b"PAR1"  # what Parquet files begin with


def classify_cutouts(source, model=None, galaxy_fraction=None, max_error=0.01):
    """Classify the objects of cutouts, each from all of its images.

    Parameters
    ----------
    source : path-like
        A Parquet file, a folder of ``*.parquet`` files, or a folder of FITS cutouts, as of
        :func:`ztf_sg.classify_survey`. Cutouts named ``object_N_...``, or with a column object of numbers
        from 0 on, are combined by N; each other cutout is an object.
    model : StarGalaxyClassifier, optional
        Trained. By default the pretrained one, for cutouts with a number that for sources of any depth.
    galaxy_fraction : float, optional
    max_error : float
        As of :func:`ztf_sg.own_objects.classify_positions`.

    Returns
    -------
    pandas.DataFrame
        One row per object, as of `classify_positions`: those of several images by their numbers, then the
        others in the order of the source. RA and DEC are those of the centre of the first cutout, NaN if it
        cannot be used.

    Raises
    ------
    FileNotFoundError
        If there is no such source.
    TypeError, ValueError, NotFittedError
        If an argument makes no sense.
    """
    source = local_path(source)
    check_fraction(galaxy_fraction)
    models = [trained_model(model, path) for path in READY]
    thresholds = [model.confidence_threshold(max_error) for model in models]
    models = [split_prior(model, galaxy_fraction, 0) for model in models]
    images = pd.concat([_image_table(*batch, models) for batch in _batches(source)], ignore_index=True)
    images["object"] = _group(images)
    firsts = images.drop_duplicates("object").set_index("object").sort_index()
    table = firsts[["number", "RA", "DEC"]].rename(columns={"number": "object"})
    table.insert(1, "name", _names(firsts, source))
    table = table.join(_classes(images, models, thresholds)).rename_axis(None)
    origins = sorted(images["origin"].dropna().unique())
    table.attrs = {"list": printable(str(source)), "images_from": ", ".join(origins)}
    table.attrs |= provenance(*models[int((firsts["number"] >= 0).any())], max_error)
    return table


def holds_cutouts(path):
    """Tell whether a path is a folder, or a Parquet file with a column image, and so no list of positions."""
    path = local_path(path)
    if not path.is_file():
        return path.is_dir()
    with open(path, "rb") as file:
        is_parquet = file.read(len(PARQUET_MAGIC)) == PARQUET_MAGIC
    with suppress(pa.ArrowException):  # whoever reads it says what is wrong with it
        return is_parquet and IMAGE in pq.read_schema(path).names
    return False


def images_by_band(source, table):
    """Return an image of each object of a table in each band.

    Parameters
    ----------
    source : path-like
        As of :func:`classify_cutouts`; of the results of `classify_positions`, its folder ``cutouts``.
    table : pandas.DataFrame
        n rows of results.

    Returns
    -------
    list of n dict of str to numpy.ndarray (height, width)
        The first image [DN] in g, r and i, as far as there is one.
    """
    keys = [_key(*row) for row in zip(table["object"], table["name"], strict=True)]
    found = {key: {} for key in keys}
    for cutouts, _ in _batches(local_path(source)):
        numbers, bands = _numbers(cutouts.table), cutouts.table["filter"].astype(str).str[-1]
        rows = zip(numbers, cutouts.table["name"], bands, cutouts.images, strict=True)
        for number, name, band, image in rows:
            if (key := _key(number, name)) in found:
                found[key].setdefault(band, image)
    return [found[key] for key in keys]


def _key(number, name):
    """Return what tells an object from others: its number, or its name if it has none."""
    return int(number) if number >= 0 else str(name)


def _numbers(table):
    """Return the numbers of the objects of cutouts, int (n,); -1 without one."""
    return table.get(OBJECT, pd.Series(UNKNOWN, table.index)).to_numpy()


def _batches(source):
    """Yield the cutouts of a source a few at a time, and a table of those that cannot be used."""
    for part in plan_partitions(source, PARTITION):
        yield from read_cutouts(*part, StarGalaxyClassifier())


def _image_table(cutouts, skipped, models):
    """Return the rows for `classes_of`, of cutouts that cannot be used, too, with name, position, origin."""
    numbered = _numbers(cutouts.table) >= 0
    there = pd.concat([_judged(cutouts[numbered == is_so], model) for is_so, (model, _) in enumerate(models)])
    numbers = skipped["name"].map(object_of).astype(int)
    status = f"{SKIPPED}: " + skipped["reason"].astype(str)
    others = pd.DataFrame({"name": skipped["name"], "number": numbers, "status": status})
    others = others.assign(**dict.fromkeys(JUDGED, False))
    rows = pd.concat([there.assign(status=SAVED), others], ignore_index=True)
    return rows.assign(source_image=rows["name"])


def _judged(cutouts, model):
    """Return what a model says of cutouts, with their position, origin and number."""
    table = cutouts.table
    judged = judge_images(cutouts, model, {}).reset_index()
    return judged.assign(RA=table["ra"], DEC=table["dec"], origin=table["origin"], number=_numbers(table))


def _classes(images, models, thresholds):
    """Return the classes of the objects of images: those without a number, and with one."""
    numbered, tables = images["number"] >= 0, []
    for is_so, (_, fraction) in enumerate(models):
        rows = images[numbered == is_so]
        if len(rows):
            tables.append(classes_of(rows, rows["object"].unique(), fraction, thresholds[is_so]))
    return pd.concat(tables)


def _group(images):
    """Return the numbers of the objects of images, from 0, in the order of the results."""
    numbers = images["number"].to_numpy()
    several = numbers >= 0
    known = np.unique(numbers[several])
    groups = np.searchsorted(known, numbers)
    groups[~several] = len(known) + np.arange(np.count_nonzero(~several))
    return groups


def _names(firsts, source):
    """Return the names of objects, given the first image of each: those of its list, if that is known."""
    names = firsts["name"].where(firsts["number"] < 0, f"{OBJECT}_" + firsts["number"].astype(str))
    manifest = read_manifest(source) if source.is_dir() else pd.DataFrame()
    if "rank" in manifest:
        listed = (f"{OBJECT}_" + manifest["object"].astype(str)).to_list()
        names = names.replace(dict(zip(listed, manifest["name"], strict=True)))
    return names
