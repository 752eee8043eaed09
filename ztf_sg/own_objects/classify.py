"""Positions in, classes out: parts of a list are fetched and classified on Dask, and combined at the end."""

import os
import tempfile
import warnings
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd

from ztf_sg.checks import is_whole_number
from ztf_sg.classification import PRETRAINED_ANY_DEPTH
from ztf_sg.cutouts.listing import RESULTS as NOTES
from ztf_sg.cutouts.listing import printable
from ztf_sg.fetching.image_service import check_service
from ztf_sg.fetching.targets import check_filters
from ztf_sg.files import local_path, lock_folder
from ztf_sg.own_objects.part import read_part
from ztf_sg.own_objects.places import divide_by_place, objects_per_part
from ztf_sg.own_objects.provenance import provenance
from ztf_sg.own_objects.results import (
    BAD_ROW,
    FAILED,
    NOT_ASKED,
    classes_of,
    split_prior,
    unclassified,
)
from ztf_sg.own_objects.run import check_workers, run_parts
from ztf_sg.positions import object_list
from ztf_sg.survey.classify import SurveyError, trained_model
from ztf_sg.survey.running import keep_settings
from ztf_sg.ztf import FILTERCODES, MAX_SEEING, check_limits

SEARCHES = "searches"  # folder of the archive's answers to searches


def classify_positions(
    source,
    directory=None,
    service=None,
    filters=FILTERCODES,
    n_images=3,
    model=None,
    galaxy_fraction=None,
    max_error=0.01,
    max_seeing=MAX_SEEING,
    workers=1,
    progress=True,
):
    """Classify the objects at some positions as stars and galaxies, on the best ZTF images of each.

    The list is divided into parts of neighbours. Of each part the cutouts are fetched, in few requests, and
    classified, and what each image says is written to the directory. In the end the images of each object are
    combined. A run that was stopped, by whatever means, is continued by the same call; images that the
    archive did not deliver are asked for again.

    Parameters
    ----------
    source : pandas.DataFrame, astropy Table, SkyCoord, pyarrow.Table or path-like
        The list, for :func:`ztf_sg.positions.object_list`.
    directory : path-like, optional
        Folder that keeps what was done: ``part-00000.parquet`` and so on, one row per wanted image, and the
        cutouts as Parquet files in ``cutouts``. By default a temporary one, so that nothing is kept.
    service : image service, optional
        See :mod:`ztf_sg.fetching.image_service`; :class:`~ztf_sg.services.irsa.Irsa` by default. Offline it
        is :class:`ztf_sg.simulation.MockSky`.
    filters : sequence of str
        Some of "zg", "zr" and "zi".
    n_images : int
        Images of each object in each filter, of different nights.
    model : StarGalaxyClassifier, optional
        Trained; the pretrained one for sources of any depth by default.
    galaxy_fraction : float or array_like, optional
        Share of galaxies that is presumed, strictly between 0 and 1, of all objects or of each row of the
        list; by default that of the model, 0.5 for the pretrained one.
    max_error : float
        Largest share of wrong answers among the objects that are not ambiguous, see
        :meth:`StarGalaxyClassifier.confidence_threshold <ztf_sg.StarGalaxyClassifier.confidence_threshold>`.
    max_seeing : float
        Only images sharper than this [arcsec, FWHM].
    workers : int or distributed.Client or distributed.LocalCluster or str
        How many processes work at a time; 1 is this one. Or a client, a cluster or the address of a Dask
        scheduler, ``"tcp://..."``, whose workers see the same files. An archive is never asked more at a time
        than one process would: its `concurrency` is shared among the workers, and no more of them work than
        that. A simulated sky has no such limit.
    progress : bool
        Show progress bars.

    Returns
    -------
    pandas.DataFrame
        One row per row of the list, in its order:

        - object, the number of the row, from 0, as in the names of cutouts;
        - name, RA, DEC [deg, ICRS], as of `object_list`;
        - p_galaxy, the probability of being a galaxy, and class: "star", "galaxy", or "" if there is none;
        - ambiguous: better looked at by eye, as the probability is too low for `max_error`, the class hangs
          on `galaxy_fraction`, it is contradictory or outside, or it is saturated and seems to be a galaxy;
        - n_images, filters: what the class is from, such as 6 and "gri";
        - chi2, p_chi2, contradictory: whether the images disagree, see :func:`ztf_sg.own_objects.combine`;
        - outside: no image is within what the model was trained on; saturated, truncated, blended,
          psf_from_seeing: any image is so, see :func:`ztf_sg.classify_partition`;
        - n_failed: images that the archive did not deliver so far;
        - reason: why there is no class, or which images have failed; else "". It begins with its kind: "bad
          row", "no image", "no usable image", "failed" or "not asked".

        ``attrs`` tells what the classes were made of and with: package, model, list, origin, dates and so on.

    Raises
    ------
    FileNotFoundError, IsADirectoryError
        If there is no such file.
    TypeError, ValueError, NotFittedError
        If an argument makes no sense, or the directory holds the results of another list, service, model or
        setting, which the message names. Other values of galaxy_fraction and max_error take no new fetch.
    SurveyError
        If another run is at work in the directory.
    FetchStopped
        A KeyboardInterrupt: the user stopped it. What was done is in the directory, if one was named.
    ServiceDown, WrongPassword, MissingAccount
        The service does not answer any more; it refused the account; it wants one.
    ImportError
        If there are several workers, and Dask is not installed: ``pip install 'ztf_sg[survey]'``.

    Warns
    -----
    UserWarning
        If images have failed, or parts of the list could not be asked for; if max_error is too small for the
        training set of the model.

    Examples
    --------
    >>> from ztf_sg.simulation import MockSky
    >>> positions = MockSky().catalogue[:100]
    >>> classes = classify_positions(positions, "my_objects", MockSky())  # doctest: +SKIP
    """
    objects = object_list(source).drop(columns="type", errors="ignore")
    model = trained_model(model, PRETRAINED_ANY_DEPTH)
    threshold = model.confidence_threshold(max_error)
    model, fraction = split_prior(model, galaxy_fraction, len(objects))
    request = _checked_request(filters, n_images, max_seeing)
    check_workers(workers)
    is_kept = directory is not None
    with _folder(directory) as folder:
        service = _checked_service(service, folder)
        parts = _plan(objects, folder, request)
        settings = {"list": _fingerprint(objects), "origin": service.origin, "parts": len(parts), **request}
        with lock_folder(folder / NOTES, SurveyError):
            keep_settings(folder, model, settings)
            errors = run_parts(parts, objects, service, request, workers, progress)
            table, dates = _classes(parts, objects, errors, fraction, threshold)
    table.attrs = {
        "list": printable(os.fsdecode(source))
        if isinstance(source, str | bytes | os.PathLike)
        else "a table",
        "images_from": service.origin,
        "asked": " to ".join(sorted({min(dates), max(dates)})) if dates else "",
        **request,
        **provenance(model, fraction, max_error),
    }
    _warn_of_failures(table, is_kept)
    return table


def _checked_request(filters, n_images, max_seeing):
    """Return the arguments of `fetch_cutouts` that say which images are wanted, as JSON holds them."""
    check_limits(max_seeing, 0)
    if not (is_whole_number(n_images) and n_images >= 1):
        raise ValueError(f"n_images={n_images!r}: expected a whole number, 1 or more")
    codes = sorted(check_filters(filters), key=FILTERCODES.index)
    return {"filters": codes, "n_images": int(n_images), "max_seeing": float(max_seeing)}


def _checked_service(service, folder):
    """Return a service of images, by default IRSA with its answers to searches kept in the folder."""
    if service is None:
        from ztf_sg.services.irsa import Irsa  # takes long

        return Irsa(cache=folder / SEARCHES)
    check_service(service)
    return service


@contextmanager
def _folder(directory):
    """Give the folder to work in: that of a name, or a temporary one."""
    if directory is not None:
        yield Path(os.path.realpath(local_path(directory)))
        return
    with tempfile.TemporaryDirectory(prefix="ztf_sg_") as folder:
        yield Path(os.path.realpath(folder))


def _plan(objects, folder, request):
    """Return the rows of each part of a list, those without a fault, by the path of its file."""
    rows = np.flatnonzero(objects["fault"] == "")
    most = objects_per_part(len(request["filters"]) * request["n_images"])
    places = objects.iloc[rows][["RA", "DEC"]].to_numpy(float).T
    parts = divide_by_place(*places, most)
    return {folder / f"part-{number:05d}.parquet": rows[part] for number, part in enumerate(parts)}


def _fingerprint(objects):
    """Return a text that changes with any value of a list."""
    return sha256(objects.to_csv().encode()).hexdigest()


def _classes(parts, objects, errors, galaxy_fraction, threshold):
    """Return the table of results, and the dates on which the parts were fetched."""
    bad = objects["fault"] != ""
    tables = [unclassified(objects.index[bad], f"{BAD_ROW}: " + objects["fault"][bad])]
    dates = []
    for path, rows in parts.items():
        if not path.exists():
            tables.append(unclassified(rows, f"{NOT_ASKED}: {errors[path.name]}"))
            continue
        images, note = read_part(path)
        dates.append(note["date"])
        of_part = galaxy_fraction if np.isscalar(galaxy_fraction) else galaxy_fraction[rows]
        tables.append(classes_of(images, rows, of_part, threshold))
    table = objects[["name", "RA", "DEC"]].join(pd.concat(tables))
    table.insert(0, "object", objects.index)
    return table, dates


def _warn_of_failures(table, is_kept):
    again = "run it again" if is_kept else "name a directory, and call it again, so that it goes on"
    kinds = table["reason"].str.split(":").str[0]
    for kind, what in ((FAILED, "lack images that did not arrive"), (NOT_ASKED, "could not be asked for")):
        reasons = table.loc[kinds == kind, "reason"]
        if len(reasons):
            message = f"{len(reasons)} of {len(table)} objects {what}; {again}; the first: {reasons.iloc[0]}"
            warnings.warn(message, stacklevel=3)
