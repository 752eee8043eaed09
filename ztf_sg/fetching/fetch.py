"""Positions -> FITS cutouts, from any image service, with a manifest beside them.

An image service has ``origin`` (the ORIGIN card of its images), ``search_images(ra, dec, size, filtercode,
max_seeing, max_infobits)``, which returns ZTF metadata, and ``get_cutout(image, ra, dec, size)``, which
returns the bytes of a FITS file. Each makes one attempt; what is to be tried again is decided here. It may
have ``get_image(image)`` for whole images, ``concurrency``, the number of requests that it takes at a time,
``retries``, its :class:`~ztf_sg.services.retries.Retries`, and ``check_positions(positions)``, which raises
an error for a list of positions that it cannot serve.
"""

import logging
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from ztf_sg.checks import is_number
from ztf_sg.cutouts import CLASS_NAMES
from ztf_sg.fetching.choose import REQUEST_COST, ImageChooser, costs_less_whole
from ztf_sg.fetching.cut import check_answer, check_image, is_cutout, is_whole_image, open_image, read_answer
from ztf_sg.fetching.manifest import FAILED, SAVED, SKIPPED, Manifest, ManifestError, outcome
from ztf_sg.fetching.selection import Selection, positions_by_class
from ztf_sg.files import atomic_write, local_path, lock_folder
from ztf_sg.positions import position_table
from ztf_sg.services import (
    AuthenticationError,
    NothingFound,
    ServiceDown,
    ServiceError,
    Stopped,
    UnusableAnswer,
    WrongPassword,
)
from ztf_sg.ztf import CUTOUT_SIZE, MAX_SEEING, image_name

logger = logging.getLogger(__name__)

NEEDED_OF_SERVICES = ("origin", "search_images", "get_cutout")
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
    max_seeing=MAX_SEEING,
    max_infobits=0,
    request_cost=REQUEST_COST,
    progress=True,
):
    """Fetch a cutout of every position into a folder, as ``star_N.fits`` or ``galaxy_N.fits``.

    N is the position's row in its table. A run that was stopped, by whatever means, is continued by the
    same call: what is there is not fetched again. Each cutout ends up in the manifest as *saved*; *skipped*,
    when there is no usable one; or *failed*, when the service did not deliver it, though it was asked again
    and again: the next run tries those once more. If an image is missing or of no use, the next best ones are
    tried, :data:`~ztf_sg.fetching.choose.IMAGES_PER_OBJECT` in all; the manifest tells which.

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
        How many cutouts of each class are wanted, from the top of its table; later rows make up for those
        skipped. All positions by default.
    filtercode : {"zi", "zr", "zg"}
    max_seeing : float
        Only images sharper than this [arcsec, FWHM].
    max_infobits : int
        Largest value of the images' quality flags; 0 is none raised.
    request_cost : float
        What a request costs beside its answer [bytes]. Where many objects share an image, it is fetched
        whole and cut here, with the same pixels, if that costs less: 0 counts bytes alone, infinity requests.
    progress : bool
        Show a progress bar, unless there is nothing to fetch.

    Returns
    -------
    pandas.DataFrame
        The rows of these positions in :func:`~ztf_sg.fetching.manifest.read_manifest`.

    Raises
    ------
    ManifestError
        The folder holds cutouts of another origin, filter, limit of seeing or quality, or list of positions,
        or files that its manifest does not list; or another run is at work there.
    TypeError
        The positions are no tables, or the service is no image service.
    ValueError
        A table is not all stars or all galaxies, has a row without a position, or does not go with a mock
        sky; or an argument makes no sense.
    FetchStopped
        A KeyboardInterrupt: the user stopped it.
    ServiceDown, WrongPassword
        The service does not answer any more; it refused the account.
    Unreachable, BadAnswer, RefusedRequest, MissingAccount
        The images could not be searched for.
    """
    if isinstance(directory, pd.DataFrame):
        raise TypeError("give both tables as a list: fetch_cutouts([stars, galaxies], folder, service)")
    directory = local_path(directory)
    _check_service(service)
    if not (is_number(request_cost) and request_cost >= 0):
        raise ValueError(f"request_cost={request_cost!r}: expected a number of bytes, 0 or more")
    chooser = ImageChooser(service, filtercode, max_seeing, max_infobits)
    tables = positions if isinstance(positions, list | tuple) else [positions]
    if not tables:
        raise ValueError("positions: expected a table of stars, one of galaxies, or both, got an empty list")
    tables = [position_table(table) for table in tables]
    selection = Selection(positions_by_class(tables), n_cutouts)
    settings = {"origin": service.origin, "filter": filtercode}
    settings |= {"max_seeing": float(max_seeing), "max_infobits": int(max_infobits)}
    with lock_folder(directory, ManifestError):
        manifest = Manifest(directory)
        manifest.check(selection.targets, settings)
        _check_unlisted_files(manifest, selection, service.origin)
        if hasattr(service, "check_positions"):
            service.check_positions(pd.concat(tables))
        selection.outcomes |= manifest.lasting_outcomes()
        if missing := selection.missing():
            manifest.check_writable()
            quiet = not progress or all(name in manifest.rows for name in missing)
            wanted, name = sum(selection.wanted.values()), f"cutouts of {' and '.join(selection.wanted)}"
            with tqdm(total=wanted, desc=name, unit="file", disable=quiet) as bar:
                _Fetcher(selection, manifest, settings, chooser, request_cost, bar).run()
        # what runs that were killed may have left
        shutil.rmtree(directory / IMAGE_FOLDER, ignore_errors=True)
        for path in [*directory.glob("*.fits.part"), Path(f"{manifest.path}.part")]:
            path.unlink(missing_ok=True)
    return manifest.select(selection.names())


class _Fetcher:
    """Fetches what is missing of a selection, in several threads, and enters it into the manifest."""

    def __init__(self, selection, manifest, settings, chooser, request_cost, bar):
        self.selection = selection
        self.manifest = manifest
        self.settings = settings
        self.chooser = chooser
        self.service = chooser.service
        self.retries = chooser.retries
        self.request_cost = request_cost
        self.bar = bar
        self.counts = selection.counts()
        self.images = {}  # the metadata row of the image chosen for each name
        self._others = {}  # the next best images of each name
        self._tried = {}  # the errors of the images that were of no use to each name, by image
        self._takes_any = False  # whether to give up an image that does not come now
        self.image_folder = manifest.directory / IMAGE_FOLDER
        self._refused = {}  # the error of each image that the account may not see, or that is missing
        self._lock = threading.Lock()

    def run(self):
        """Fetch what is missing; what failed is tried again, from all images, when the rest is done."""
        self.retries.start()
        try:
            self._fetch_missing()
            self._takes_any = True
            for name in self.selection.forget_failed():
                del self.images[name]
            self._fetch_missing()
        except KeyboardInterrupt:
            raise FetchStopped(f"stopped: {self.selection.summary()}; run it again to go on") from None
        except ENDING_THE_RUN as error:
            message = f"{error}. So far {self.selection.summary()}; nothing is lost"
            raise type(error)(message) from None
        finally:
            self.retries.start()
        self.manifest.sort(self.selection.targets)

    def _fetch_missing(self):
        while names := self._choose_images():
            with ThreadPoolExecutor(getattr(self.service, "concurrency", 1)) as pool:
                try:
                    tasks = [pool.submit(*task) for task in self._tasks(names)]
                    for task in as_completed(tasks):
                        task.result()
                except BaseException:
                    self.retries.stop()
                    pool.shutdown(cancel_futures=True)
                    raise

    def _choose_images(self):
        """Choose the image of each missing cutout, past those that have none; return what is missing then."""
        while names := [name for name in self.selection.missing() if name not in self.images]:
            positions = pd.DataFrame([self.selection.targets[name] for name in names], index=names)
            for name, *position in positions[["RA", "DEC"]].itertuples(index=True):
                images = self.chooser.rank(*position)
                self._tried[name] = {}
                if images:
                    self.images[name], *self._others[name] = images
                else:
                    self._enter(name, "", f"{SKIPPED}: no image holds it well inside its edges")
        self.counts = self.selection.counts()
        self._show()
        return self.selection.missing()

    def _tasks(self, names):
        """Return functions and arguments that fetch some cutouts: one per cutout, or one per whole image."""
        groups = {}
        for name in names:
            groups.setdefault(image_name(self.images[name]), []).append(name)
        whole = [source for source in groups if self._is_fetched_whole(source, len(groups[source]))]
        if whole:
            cut = sum(len(groups[source]) for source in whole)
            self.bar.write(
                f"{len(groups)} images: {len(whole)} fetched whole, for {cut} cutouts; "
                f"{len(names) - cut} cutouts fetched one by one"
            )
        tasks = [(self._fetch_by_image, groups.pop(source)) for source in whole]
        return tasks + [(self._fetch, name) for group in groups.values() for name in group]

    def _is_fetched_whole(self, source, cutouts):
        """Tell whether to fetch a whole image; one that is there from a stopped run costs nothing."""
        if not hasattr(self.service, "get_image") or source in self._refused:
            return False
        return (self.image_folder / source).exists() or costs_less_whole(cutouts, self.request_cost)

    def _fetch_by_image(self, names):
        """Fetch a whole image, cut it and remove it; if that does not work, fetch the cutouts one by one."""
        image = self.images[names[0]]
        path = self.image_folder / image_name(image)
        try:
            if not is_whole_image(path, image):
                self.retries.call(self._download_image, image, path)
            with open_image(path) as cut:
                for name in names:
                    self._fetch(name, cut)
        except ENDING_THE_RUN:
            raise
        except NothingFound as error:
            self._refused[path.name] = error
            for name in names:
                self._move_on(name, path.name, error)
        except (ServiceError, OSError):
            for name in names:
                if name not in self.selection.outcomes:
                    self._fetch(name)
        path.unlink(missing_ok=True)

    def _fetch(self, name, cut=None):
        """Save a cutout, made by `cut` from a whole image if that works, and enter what became of it."""
        path, image = self.manifest.directory / name, self.images[name]
        source, expected = image_name(image), (self.settings["origin"], self.selection.targets[name], image)
        try:
            if source in self._refused:
                raise self._refused[source]
            # a run that was killed may have saved it without listing it
            if not is_cutout(path, *expected):
                cutout = self._get_cutout(cut, name, *expected)
                with atomic_write(path) as file:
                    cutout.writeto(file, output_verify="ignore")  # it was verified when it was read
            self._enter(name, source, SAVED)
        except ENDING_THE_RUN:
            raise
        except (NothingFound, UnusableAnswer, AuthenticationError) as error:
            if isinstance(error, AuthenticationError):
                self._refused[source] = error
            self._move_on(name, source, error)
        except ServiceError as error:
            if self._takes_any:
                self._move_on(name, source, error)
            else:
                self._enter(name, source, f"{FAILED}: {error}")

    def _move_on(self, name, source, error):
        """Choose the next best image of a cutout; if there is none left, enter what came of it.

        It failed if any of the images may be there later, and is skipped if all are of no use.
        """
        if self._others[name]:
            self._tried[name][source] = error
            self.images[name] = self._others[name].pop(0)
            return
        errors = [*self._tried[name].values(), error]
        is_useless = all(isinstance(error, UnusableAnswer) for error in errors)
        self._enter(name, source, f"{SKIPPED if is_useless else FAILED}: {error}")

    def _get_cutout(self, cut, name, origin, position, image):
        """Return a good cutout, cut from a whole image if there is one and that works, else downloaded."""
        if cut is not None:
            with suppress(UnusableAnswer):
                return check_answer(cut(position.RA, position.DEC), origin, position, image)
        return self.retries.call(self._download_cutout, name, origin, position, image)

    def _download_cutout(self, name, origin, position, image):
        content = self.service.get_cutout(image, position.RA, position.DEC, CUTOUT_SIZE)
        return check_answer(read_answer(content, name), origin, position, image)

    def _download_image(self, image, path):
        content = self.service.get_image(image)
        check_image(content, image)
        with atomic_write(path) as file:
            file.write(content)
        logger.info("%s: kept", path.name)

    def _enter(self, name, source, status):
        position = self.selection.targets[name]
        row = {"file": name, "RA": position.RA, "DEC": position.DEC, "type": position.type}
        tried = "; ".join(f"{image}: {error}" for image, error in self._tried[name].items())
        row |= {"source_image": source, "tried": tried, "status": status, **self.settings}
        known = self.manifest.rows.get(name, {})
        if any(known.get(key) != row[key] for key in ("status", "source_image", "tried")):
            self.manifest.append(row)
        logger.info("%s: %s", name, status)
        with self._lock:
            self.selection.outcomes[name] = outcome(row)
            self.counts[outcome(row)] += 1
            self._show()

    def _show(self):
        others = {kind: self.counts[kind] for kind in (SKIPPED, FAILED)}
        self.bar.set_postfix(others | {"faults": self.retries.faults.total()}, refresh=False)
        self.bar.update(self.counts[SAVED] - self.bar.n)


def _check_service(service):
    """Raise a TypeError unless something has what image services need."""
    lacking = [name for name in NEEDED_OF_SERVICES if not hasattr(service, name)]
    if lacking or isinstance(service, type):
        fault = f"which lacks {', '.join(lacking)}" if lacking else "a class"
        raise TypeError(
            f"service: expected an image service, such as Irsa() or MockSky(), got {service!r}, {fault}"
        )


def _check_unlisted_files(manifest, selection, origin):
    """Make sure that every file is listed, or else one that a stopped run saved and did not list yet."""
    for path in manifest.directory.glob("*.fits"):
        if path.name in manifest.rows:
            continue
        kind, position = path.name.split("_")[0], selection.targets.get(path.name)
        # a file of a class that is not fetched now is for a run of that class to judge
        known = position is not None or (kind in CLASS_NAMES and kind not in selection.wanted)
        if not (known and is_cutout(path, origin, position)):
            raise ManifestError(
                f"{manifest.directory}: holds FITS files that its manifest does not list, such as "
                f"{path.name}; name another folder"
            )
