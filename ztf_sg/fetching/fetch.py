"""Positions -> FITS cutouts, from any image service, with a manifest beside them.

An image service has an ``origin`` (what its images' ORIGIN header says), ``search_images(ra, dec, size,
filtercode, max_seeing, max_infobits)``, which returns ZTF metadata, and ``get_cutout(image, ra, dec, size,
read)``, which returns what ``read`` makes of the bytes of a FITS file. A service on a network also has
``get_image(image, read)`` for whole images, ``concurrency``, the number of requests it may be sent at a time,
and ``retries``, its :class:`~ztf_sg.services.retries.Retries`. A simulated one may have
``check_positions(positions)``, which raises an error for a list of positions that it cannot serve.
"""

import logging
import shutil
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits
from tqdm.auto import tqdm

from ztf_sg.cutouts import CLASS_NAMES
from ztf_sg.fetching.choose import REQUEST_COST, ImageChooser, costs_less_whole
from ztf_sg.fetching.cut import (
    check_place,
    check_source,
    cut_image,
    has_origin,
    is_cutout_of,
    is_whole_image,
    read_answer,
    save_cutout,
    save_image,
    usable_wcs,
)
from ztf_sg.fetching.manifest import (
    FAILED,
    MANIFEST,
    MANIFEST_COLUMNS,
    SAVED,
    SKIPPED,
    Manifest,
    ManifestError,
    outcome,
)
from ztf_sg.files import lock_folder
from ztf_sg.positions import labels_of_types, position_table
from ztf_sg.services.errors import (
    AuthenticationError,
    NothingFound,
    ServiceDown,
    ServiceError,
    Stopped,
    UnusableAnswer,
    WrongPassword,
)
from ztf_sg.services.retries import Retries
from ztf_sg.ztf import CUTOUT_SIZE, image_name

logger = logging.getLogger(__name__)

IMAGE_FOLDER = ".images"  # of whole images, within the folder of cutouts, until their cutouts are made
ENDING_THE_RUN = (ServiceDown, Stopped, WrongPassword)


class FetchStopped(KeyboardInterrupt):
    """The user stopped a fetch; the message says how far it came. Notebooks show it without a traceback."""

    def _render_traceback_(self):
        return [str(self)]


def fetch_cutouts(
    positions,
    directory,
    service,
    n_cutouts=None,
    filtercode="zi",
    max_seeing=1.85,
    max_infobits=0,
    request_cost=REQUEST_COST,
    progress=True,
):
    """Fetch a cutout of every position into a folder, as ``star_N.fits`` or ``galaxy_N.fits``.

    N is the position's row in its table. A run that was stopped, by whatever means, is continued by the
    same call: what is there is not fetched again. Each cutout ends up in the manifest as *saved*; *skipped*,
    when there is no usable one; or *failed*, when the service did not deliver it, though it was asked again
    and again: the next run tries those once more.

    Parameters
    ----------
    positions : pandas.DataFrame or list of pandas.DataFrame
        Columns RA, DEC [deg, ICRS] and type (a Tractor type). A table of stars, one of galaxies, or a list
        of both, which are then fetched together: an image that they share is fetched once.
    directory : path-like
        Folder for the files and their ``manifest.csv``.
    service : image service
        See the module's description.
    n_cutouts : int, optional
        How many cutouts of each class are wanted, from the top of its table; those skipped are made up for
        by later rows. 0 is none; left out, it is all positions.
    filtercode : str
        ZTF filter: "zg", "zr" or "zi".
    max_seeing : float
        Only images sharper than this [arcsec, FWHM].
    max_infobits : int
        Largest value of the images' quality flags; 0 is none raised.
    request_cost : float
        What a request costs beside its answer [bytes]. Where many objects share an image, it is fetched
        whole and cut here if that costs less: 0 counts bytes alone, infinity requests alone. The pixels are
        the same either way.
    progress : bool
        Show a progress bar, unless there is nothing to fetch.

    Returns
    -------
    pandas.DataFrame
        The manifest rows of these positions, see :func:`~ztf_sg.fetching.manifest.read_manifest`.

    Raises
    ------
    ManifestError
        If the folder holds cutouts of another origin, filter, seeing limit or list of positions, or
        files that its manifest does not list; or if another run is at work there.
    ValueError
        If a table holds not only stars or only galaxies, or not the positions of a simulated sky; or if
        `n_cutouts` is negative.
    FetchStopped
        A KeyboardInterrupt: the user stopped it.
    ServiceDown, WrongPassword
        The service does not answer any more; it refused the account.
    Unreachable, BadAnswer, RefusedRequest, MissingAccount
        The images could not be searched for.
    """
    if isinstance(directory, pd.DataFrame):
        raise TypeError("give both tables as a list: fetch_cutouts([stars, galaxies], folder, service)")
    directory = Path(directory)
    tables = positions if isinstance(positions, list | tuple) else [positions]
    tables = [position_table(table) for table in tables]
    classes = _targets_by_class(tables)
    request = {"origin": service.origin, "filter": filtercode, "max_seeing": float(max_seeing)}
    with lock_folder(directory, ManifestError):
        manifest = Manifest(directory)
        for targets in classes.values():
            manifest.check(targets, request)
        _check_files(directory, manifest, classes, request["origin"])
        if hasattr(service, "check_positions"):
            service.check_positions(pd.concat(tables))
        chooser = ImageChooser(service, filtercode, max_seeing, max_infobits)
        fetch = _Fetch(manifest, classes, n_cutouts, request, chooser, request_cost)
        if missing := fetch.missing():
            quiet = not progress or all(name in manifest.rows for name in missing)
            total, description = sum(fetch.wanted.values()), f"cutouts of {' and '.join(classes)}"
            with tqdm(total=total, desc=description, unit="file", disable=quiet) as bar:
                fetch.run(bar)
        _remove_leftovers(directory)
    rows = [fetch.done[name] for name in fetch.selection()]
    return pd.DataFrame(rows, columns=list(MANIFEST_COLUMNS))


class _Fetch:
    """A run of `fetch_cutouts`: what is wanted, what is done, and the threads in between."""

    def __init__(self, manifest, classes, n_cutouts, request, chooser, request_cost):
        self.manifest = manifest
        self.directory = manifest.path.parent
        self.classes = classes
        self.targets = {name: position for targets in classes.values() for name, position in targets.items()}
        self.wanted = {kind: _at_most(n_cutouts, len(targets)) for kind, targets in classes.items()}
        self.request = request
        self.chooser = chooser
        self.service = chooser.service
        self.retries = getattr(self.service, "retries", None) or Retries()
        self.request_cost = request_cost
        self.done = {name: row for name, row in manifest.rows.items() if self._is_done(row)}
        self.images = {}  # the metadata row of the image chosen for each name
        self._refused = {}  # the error of each image that the account may not see
        self._lock = threading.Lock()

    def selection(self):
        """Return the names of the wanted cutouts, from the top of the list, with those skipped among them."""
        names = []
        for kind, targets in self.classes.items():
            left = self.wanted[kind]
            for name in targets:
                if not left:
                    break
                names.append(name)
                left -= name not in self.done or outcome(self.done[name]) != SKIPPED
        return names

    def missing(self):
        """Return the names of the wanted cutouts that nothing is known of."""
        return [name for name in self.selection() if name not in self.done]

    def summary(self):
        """Say in a line how far the run has come."""
        counts = self._count()
        counts = [f"{counts[kind]} {kind}" for kind in (SAVED, SKIPPED, FAILED)]
        return ", ".join([*counts, f"{len(self.missing())} to go"])

    def run(self, bar):
        """Fetch what is missing; what failed is tried a second time when the rest is done."""
        self.bar = bar
        self.retries.start()
        self._recount()
        try:
            self._fetch_missing()
            for name in [name for name in self.selection() if outcome(self.done[name]) == FAILED]:
                del self.done[name]
            self._fetch_missing()
        except KeyboardInterrupt:
            raise FetchStopped(f"stopped: {self.summary()}; run it again to go on") from None
        except ENDING_THE_RUN as error:
            raise type(error)(f"{error}. So far {self.summary()}; nothing is lost") from None
        finally:
            self.retries.start()
        self.manifest.sort(self.targets)

    def _is_done(self, row):
        """Tell whether a line of the manifest needs no work; where no image was found, there may be one."""
        if outcome(row) == SAVED:
            return (self.directory / row["file"]).exists()
        return outcome(row) == SKIPPED and bool(row["source_image"])

    def _fetch_missing(self):
        while names := self._missing_with_image():
            with ThreadPoolExecutor(getattr(self.service, "concurrency", 1)) as pool:
                try:
                    tasks = [pool.submit(*task) for task in self._tasks(names)]
                    for task in as_completed(tasks):
                        task.result()
                except BaseException:
                    self.retries.stop()
                    pool.shutdown(cancel_futures=True)
                    raise

    def _missing_with_image(self):
        """Choose the image of each missing cutout, going down the list past those that have none."""
        while names := [name for name in self.missing() if name not in self.images]:
            positions = pd.DataFrame([self.targets[name] for name in names])
            for name, image in zip(names, self.chooser.choose_each(positions), strict=True):
                if image is None:
                    self._enter(name, "", f"{SKIPPED}: no image holds it well inside its edges")
                else:
                    self.images[name] = image
        self._recount()
        return self.missing()

    def _tasks(self, names):
        """Return functions and arguments that fetch some cutouts: one a cutout, or one a whole image."""
        groups = {}
        for name in names:
            groups.setdefault(image_name(self.images[name]), []).append(name)
        whole = [source for source in groups if self._is_whole(source, len(groups[source]))]
        if whole:
            cut = sum(len(groups[source]) for source in whole)
            self.bar.write(
                f"{len(groups)} images: {len(whole)} fetched whole, for {cut} cutouts; "
                f"{len(names) - cut} cutouts fetched one by one"
            )
        tasks = [(self._fetch_image, groups.pop(source)) for source in whole]
        return tasks + [(self._fetch_one, name) for group in groups.values() for name in group]

    def _is_whole(self, source, cutouts):
        """Tell whether to fetch a whole image; one that is there from a stopped run costs nothing."""
        if not hasattr(self.service, "get_image") or source in self._refused:
            return False
        return self._image_path(source).exists() or costs_less_whole(cutouts, self.request_cost)

    def _fetch_one(self, name):
        self._save(name, lambda: self._ask(name))

    def _fetch_image(self, names):
        """Fetch a whole image, and cut it; if that does not work, fetch the cutouts one by one."""
        image = self.images[names[0]]
        path = self._image_path(image_name(image))
        try:
            if not is_whole_image(path, image):
                self.service.get_image(image, read=lambda content: save_image(content, path, image))
        except ENDING_THE_RUN:
            raise
        except NothingFound as error:
            for name in names:
                self._enter(name, path.name, f"{SKIPPED}: {error}")
        except ServiceError:
            for name in names:
                self._fetch_one(name)
        else:
            self._cut_image(path, names)

    def _cut_image(self, path, names):
        """Cut a whole image that is on the disk, and remove it."""
        try:
            with fits.open(path) as hdus:
                wcs = usable_wcs(hdus[0].header)
                for name in names:
                    self._save(name, lambda name=name: self._cut(hdus[0], wcs, name))
        except (OSError, UnusableAnswer):
            for name in [name for name in names if name not in self.done]:
                self._fetch_one(name)
        path.unlink()

    def _cut(self, hdu, wcs, name):
        position = self.targets[name]
        try:
            return self._check(cut_image(hdu, position.RA, position.DEC, wcs=wcs), name)
        except UnusableAnswer:
            return self._ask(name)

    def _ask(self, name):
        def read(content):
            return self._check(read_answer(content, name), name)

        position = self.targets[name]
        return self.service.get_cutout(self.images[name], position.RA, position.DEC, CUTOUT_SIZE, read)

    def _check(self, hdu, name):
        check_source(hdu.header, self.images[name])
        return check_place(hdu, self.targets[name], self.request["origin"])

    def _save(self, name, get):
        """Save what `get` returns as a target's cutout, and enter into the manifest what became of it."""
        path, source = self.directory / name, image_name(self.images[name])
        try:
            if source in self._refused:
                raise self._refused[source]
            if not self._was_saved(path):
                save_cutout(get(), path)
            status = SAVED
        except ENDING_THE_RUN:
            raise
        except (NothingFound, UnusableAnswer) as error:
            status = f"{SKIPPED}: {error}"
        except ServiceError as error:
            status = f"{FAILED}: {error}"
            if isinstance(error, AuthenticationError):
                self._refused[source] = error
        self._enter(name, source, status)

    def _was_saved(self, path):
        """Tell whether a run that was killed has saved a cutout from this image without listing it."""
        try:
            self._check(read_answer(path.read_bytes(), path.name), path.name)
        except (FileNotFoundError, UnusableAnswer):
            return False
        return True

    def _image_path(self, source):
        return self.directory / IMAGE_FOLDER / source

    def _enter(self, name, source, status):
        position = self.targets[name]
        row = {"file": name, "RA": position.RA, "DEC": position.DEC, "type": position.type}
        row |= {"source_image": source, "status": status, **self.request}
        known = self.manifest.rows.get(name, {})
        if any(known.get(key) != row[key] for key in ("status", "source_image")):
            self.manifest.append(row)
        logger.info("%s: %s", name, row["status"])
        with self._lock:
            self.done[name] = row
            self.counts[outcome(row)] += 1
            self._show()

    def _recount(self):
        """Count the outcomes anew: the selection grows where targets turn out to have no image."""
        with self._lock:
            self.counts = self._count()
            self._show()

    def _count(self):
        return Counter(outcome(self.done[name]) for name in self.selection() if name in self.done)

    def _show(self):
        others = {SKIPPED: self.counts[SKIPPED], FAILED: self.counts[FAILED]}
        self.bar.set_postfix(others | {"faults": self.retries.faults.total()}, refresh=False)
        self.bar.update(self.counts[SAVED] - self.bar.n)


def _remove_leftovers(directory):
    """Remove what runs that were killed may have left in a folder that is complete now."""
    shutil.rmtree(directory / IMAGE_FOLDER, ignore_errors=True)
    for path in [*directory.glob("*.fits.part"), directory / f"{MANIFEST}.part"]:
        path.unlink(missing_ok=True)


def _at_most(n_cutouts, available):
    if n_cutouts is not None and n_cutouts < 0:
        raise ValueError(f"n_cutouts={n_cutouts}: expected 0 or more, or None for all")
    return available if n_cutouts is None else min(n_cutouts, available)


def _targets_by_class(tables):
    """Return the positions of each class by the names of their files."""
    classes = {}
    for table in tables:
        labels = np.unique(labels_of_types(table["type"]))
        if len(labels) != 1 or labels[0] < 0:
            types = ", ".join(sorted(set(table["type"])))
            raise ValueError(
                "a table of positions must be all stars or all galaxies; its types are: "
                f"{types or 'none, it is empty'}"
            )
        kind = CLASS_NAMES[labels[0]]
        if kind in classes:
            raise ValueError(f"two tables of {kind} positions: put them into one")
        classes[kind] = {
            f"{kind}_{row}.fits": place for row, place in enumerate(table.itertuples(index=False))
        }
    return classes


def _check_files(directory, manifest, classes, origin):
    """Make sure that every file is listed, or else one that a stopped run saved and did not list yet."""
    for path in directory.glob("*.fits"):
        if path.name in manifest.rows:
            continue
        kind = path.name.split("_")[0]
        if kind in classes:
            position = classes[kind].get(path.name)
            ours = position is not None and is_cutout_of(path, position, origin)
        else:  # for a run of that class to judge
            ours = kind in CLASS_NAMES and has_origin(path, origin)
        if not ours:
            raise ManifestError(
                f"{directory}: holds FITS files that its manifest does not list, such as {path.name}; "
                "name another folder"
            )
