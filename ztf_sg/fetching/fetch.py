"""Positions -> FITS cutouts, from any image service, with a manifest beside them.

`ztf_sg.fetching.image_service` says what an image service is.
"""

import logging
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from itertools import groupby
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from ztf_sg.checks import is_number
from ztf_sg.cutouts import OBJECT
from ztf_sg.fetching.choose import IMAGES_PER_OBJECT, REQUEST_COST, ImageChooser, costs_less_whole
from ztf_sg.fetching.cut import (
    check_answer,
    check_image,
    is_cutout,
    is_whole_image,
    open_image,
    read_answer,
    trail_of,
)
from ztf_sg.fetching.image_service import check_service
from ztf_sg.fetching.manifest import (
    FAILED,
    IMAGES_COLUMNS,
    MANIFEST_COLUMNS,
    SAVED,
    SKIPPED,
    Manifest,
    ManifestError,
    outcome,
)
from ztf_sg.fetching.motion import night_of
from ztf_sg.fetching.resuming import saved_nights, unlisted_files
from ztf_sg.fetching.selection import Selection
from ztf_sg.fetching.targets import check_filters, targets_by_class
from ztf_sg.files import atomic_write, local_path, lock_folder
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
    filters=("zi",),
    n_images=1,
    max_seeing=MAX_SEEING,
    max_infobits=0,
    request_cost=REQUEST_COST,
    find_trails=None,
    progress=True,
):
    """Fetch cutouts of every position into a folder.

    Objects whose class is known, by a Tractor type, become ``star_N.fits`` or ``galaxy_N.fits``, where N is
    the position's row in its table. Several images of an object, in several filters or of several nights, are
    named after the images, too: ``star_N_zr_YYYYMMDDffffff.fits``. Objects of unknown class always are:
    ``object_N_zr_YYYYMMDDffffff.fits``.

    A run that was stopped, by whatever means, is continued by the same call: what is there is not fetched
    again. The same list with more filters or images adds to the folder. Each wanted cutout ends up in the
    manifest as *saved*; *skipped*, when there is no usable one; or *failed*, when the service did not deliver
    it, though it was asked again and again: the next run tries those once more. If an image is missing or of
    no use, the next best ones are tried, :data:`~ztf_sg.fetching.choose.IMAGES_PER_OBJECT` in all; the
    manifest tells which.

    Parameters
    ----------
    positions : pandas.DataFrame or list of pandas.DataFrame
        Columns RA, DEC [deg, ICRS] and, where the class is known, type. A table of stars, one of galaxies, or
        a list of both, which are then fetched together: an image that they share is fetched once. A table
        that lacks types in some rows is one of objects of unknown class. It may have the columns name;
        pmra (with the cosine of DEC), pmdec [mas/yr] and ref_epoch [Julian year], by which an object is moved
        to the epoch of each image; fault, a text in rows that are not to be fetched; and object, integers
        that are the numbers N of a part of a list. :func:`ztf_sg.positions.object_list` makes such tables.
    directory : path-like
        Folder for the files and their ``manifest.csv``.
    service : image service
        See the module's description.
    n_cutouts : int, optional
        How many objects of each class are wanted, from the top of its table; later rows make up for those
        skipped. All positions by default.
    filters : sequence of str
        Some of "zg", "zr" and "zi".
    n_images : int
        Images of each object in each filter, of different nights: the best by
        :meth:`~ztf_sg.fetching.ImageChooser.rank_nights`, or what there is. One image in all of an object of
        known class is the one on which it is best centred.
    max_seeing : float
        Only images sharper than this [arcsec, FWHM].
    max_infobits : int
        Largest value of the images' quality flags; 0 is none raised. They are of whole images: a cutout comes
        without the archive's mask of bad pixels.
    request_cost : float
        What a request costs beside its answer [bytes]. Where many objects share an image, it is fetched
        whole and cut here, with the same pixels, if that costs less: 0 counts bytes alone, infinity requests.
    find_trails : callable, optional
        :func:`ztf_sg.find_trails`, to flag cutouts that the trail of a satellite or an asteroid crosses: they
        have a card TRAIL, true or false, and "yes" or "no" in the manifest's column trail. Only whole images
        can be searched, so that cutouts fetched one by one have neither. By default none is flagged.
    progress : bool
        Show a progress bar, unless there is nothing to fetch.

    Returns
    -------
    pandas.DataFrame
        The rows of these positions in :func:`~ztf_sg.fetching.manifest.read_manifest`.

    Raises
    ------
    ManifestError
        The folder holds cutouts of another origin, limit of seeing or quality, list of positions, or way to
        name files (with one image of each object, also of another filter), or files that its manifest does
        not list; or another run is at work there.
    TypeError
        The positions are no tables, or the service is no image service.
    KeyError
        A table lacks RA or DEC.
    ValueError
        A table holds stars and galaxies, has a row without a position, or does not go with a mock sky; or an
        argument makes no sense.
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
    check_service(service)
    if not (is_number(request_cost) and request_cost >= 0):
        raise ValueError(f"request_cost={request_cost!r}: expected a number of bytes, 0 or more")
    filters = check_filters(filters)
    choosers = {code: ImageChooser(service, code, max_seeing, max_infobits) for code in filters}
    selection = Selection(targets_by_class(positions, filters, n_images), n_cutouts)
    settings = {"origin": service.origin, "max_seeing": float(max_seeing), "max_infobits": int(max_infobits)}
    with lock_folder(directory, ManifestError):
        manifest = Manifest(directory, IMAGES_COLUMNS if selection.named_by_image else MANIFEST_COLUMNS)
        only_filter = {} if selection.named_by_image else {"filter": filters[0]}
        manifest.check(selection.objects, settings | only_filter)
        unlisted = unlisted_files(manifest, selection, service.origin)
        _check_positions(selection, service)
        selection.outcomes |= manifest.lasting_outcomes()
        if missing := selection.missing():
            manifest.check_writable()
            quiet = not progress or all(slot in manifest.rows for slot in missing)
            name = f"cutouts of {' and '.join(selection.wanted)}"
            with tqdm(total=selection.n_wanted, desc=name, unit="file", disable=quiet) as bar:
                options = request_cost, find_trails
                _Fetcher(selection, manifest, settings, choosers, unlisted, *options, bar).run()
        # what runs that were killed may have left
        shutil.rmtree(directory / IMAGE_FOLDER, ignore_errors=True)
        for path in [*directory.glob("*.fits.part"), Path(f"{manifest.path}.part")]:
            path.unlink(missing_ok=True)
    return manifest.select(selection.slots())


class _Fetcher:
    """Fetches what is missing of a selection, in several threads, and enters it into the manifest."""

    def __init__(self, selection, manifest, settings, choosers, unlisted, request_cost, find_trails, bar):
        self.selection = selection
        self.manifest = manifest
        self.settings = settings
        self.choosers = choosers
        self.service, self.retries = next((it.service, it.retries) for it in choosers.values())
        self.unlisted = unlisted
        self.request_cost = request_cost
        self.find_trails = find_trails
        self._trails = {}  # whether a trail crosses each cutout, as far as that is known
        self.bar = bar
        self.counts = selection.counts()
        self.images = {}  # the metadata row of the image chosen for each slot
        self._others = {}  # the images that are left, for all slots of an object and filter
        self._tried = {}  # the errors of the images that were of no use to each slot, by image
        self._nights = saved_nights(selection, manifest)  # of the images in use, by object and filter
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
            for slot in self.selection.forget_failed():
                del self.images[slot]
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
        while slots := self._choose_images():
            with ThreadPoolExecutor(getattr(self.service, "concurrency", 1)) as pool:
                try:
                    tasks = [pool.submit(*task) for task in self._tasks(slots)]
                    for task in as_completed(tasks):
                        task.result()
                except BaseException:
                    self.retries.stop()
                    pool.shutdown(cancel_futures=True)
                    raise

    def _choose_images(self):
        """Choose the image of each missing cutout, past those that have none; return what is missing then."""
        while slots := [slot for slot in self.selection.missing() if slot not in self.images]:
            without = []
            for _, group in groupby(slots, self._group):
                without += self._share_images(list(group))
            self._enter(*without)
        self.counts = self.selection.counts()
        self._show()
        return self.selection.missing()

    def _group(self, slot):
        """Return what cutouts of different nights share: object and filter."""
        target = self.selection.targets[slot]
        return target.object, target.filter

    def _share_images(self, slots):
        """Give cutouts of an object in a filter an image each; return those left over for `_enter`."""
        group, without = self._group(slots[0]), []
        self._nights.setdefault(group, set())
        self._others[group] = self._rank_images(slots)
        for slot in slots:
            self._tried[slot] = {}
            if not self._take_image(slot):
                nights = len(self._nights[group])
                limit = f"image sharper than {self.settings['max_seeing']:g} arcsec"
                found = f"no more than {nights} nights have an {limit} that" if nights else f"no {limit}"
                without.append((slot, "", f"{SKIPPED}: {found} holds it well inside its edges"))
        return without

    def _take_image(self, slot):
        """Give a cutout the best image that is left of the nights that are free; tell if there is one."""
        group, own = self._group(slot), self._night_of(slot)
        others, nights = self._others[group], self._nights[group]
        for number, image in enumerate(others):
            if night_of(image["filefracday"]) not in nights - {own}:
                self.images[slot] = others.pop(number)
                nights.discard(own)
                nights.add(self._night_of(slot))
                return True
        return False

    def _night_of(self, slot):
        """Return the night of the image of a cutout, None without an image."""
        return night_of(int(self.images[slot]["filefracday"])) if slot in self.images else None

    def _rank_images(self, slots):
        """Return the best images for cutouts of an object in a filter, as many as may be tried."""
        target = self.selection.targets[slots[0]]
        position, chooser = (target.RA, target.DEC, target.motion), self.choosers[target.filter]
        if not target.rank:
            return chooser.rank(*position)
        nights = self._nights[self._group(slots[0])]
        images = chooser.rank_nights(*position, IMAGES_PER_OBJECT * len(slots), nights)
        if self.unlisted:  # what a run that was killed has saved without listing it is wanted first
            images.sort(key=lambda image: target.file(image_name(image)) not in self.unlisted)
        return images

    def _tasks(self, slots):
        """Return functions and arguments that fetch some cutouts: one per cutout, or one per whole image."""
        groups = {}
        for slot in slots:
            groups.setdefault(image_name(self.images[slot]), []).append(slot)
        whole = [source for source in groups if self._is_fetched_whole(source, len(groups[source]))]
        if whole and not self.bar.disable:
            cut = sum(len(groups[source]) for source in whole)
            self.bar.write(
                f"{len(groups)} images: {len(whole)} fetched whole, for {cut} cutouts; "
                f"{len(slots) - cut} cutouts fetched one by one"
            )
        tasks = [(self._fetch_by_image, groups.pop(source)) for source in whole]
        return tasks + [(self._fetch, slot) for group in groups.values() for slot in group]

    def _is_fetched_whole(self, source, cutouts):
        """Tell whether to fetch a whole image; one that is there from a stopped run costs nothing."""
        if not hasattr(self.service, "get_image") or source in self._refused:
            return False
        return (self.image_folder / source).exists() or costs_less_whole(cutouts, self.request_cost)

    def _fetch_by_image(self, slots):
        """Fetch a whole image, cut it and remove it; if that does not work, fetch the cutouts one by one."""
        image = self.images[slots[0]]
        path = self.image_folder / image_name(image)
        try:
            if not is_whole_image(path, image):
                self.retries.call(self._download_image, image, path)
            with open_image(path, self.find_trails) as cut:
                for slot in slots:
                    self._fetch(slot, cut)
        except ENDING_THE_RUN:
            raise
        except NothingFound as error:
            self._refused[path.name] = error
            for slot in slots:
                self._move_on(slot, path.name, error)
        except (ServiceError, OSError):
            for slot in slots:
                if slot not in self.selection.outcomes:
                    self._fetch(slot)
        path.unlink(missing_ok=True)

    def _fetch(self, slot, cut=None):
        """Save a cutout, made by `cut` from a whole image if that works, and enter what became of it."""
        image, target = self.images[slot], self.selection.targets[slot]
        source, expected = (
            image_name(image),
            (self.settings["origin"], target.at(image["filefracday"]), image),
        )
        path = self.manifest.directory / target.file(source)
        try:
            if source in self._refused:
                raise self._refused[source]
            # a run that was killed may have saved it without listing it
            if not is_cutout(path, *expected):
                cutout = self._get_cutout(cut, path.name, *expected)
                with atomic_write(path) as file:
                    cutout.writeto(file, output_verify="ignore")  # it was verified when it was read
            if self.find_trails:
                self._trails[slot] = trail_of(path)
            self._enter((slot, source, SAVED))
        except ENDING_THE_RUN:
            raise
        except (NothingFound, UnusableAnswer, AuthenticationError) as error:
            if isinstance(error, AuthenticationError):
                self._refused[source] = error
            self._move_on(slot, source, error)
        except ServiceError as error:
            if self._takes_any:
                self._move_on(slot, source, error)
            else:
                self._enter((slot, source, f"{FAILED}: {error}"))

    def _move_on(self, slot, source, error):
        """Choose the next best image of a cutout; if there is none left, enter what came of it.

        It failed if any of the images may be there later, and is skipped if all are of no use.
        """
        with self._lock:
            if len(self._tried[slot]) + 1 < IMAGES_PER_OBJECT and self._take_image(slot):
                self._tried[slot][source] = error
                return
        errors = [*self._tried[slot].values(), error]
        is_useless = all(isinstance(error, UnusableAnswer) for error in errors)
        self._enter((slot, source, f"{SKIPPED if is_useless else FAILED}: {error}"))

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

    def _enter(self, *entries):
        """Enter what became of cutouts: for each, its slot, the image it is from, and its status."""
        rows = {slot: self._row(slot, source, status) for slot, source, status in entries}
        if new := [row for slot, row in rows.items() if not self._is_listed(slot, row)]:
            self.manifest.append(*new)
        with self._lock:
            for slot, row in rows.items():
                logger.info("%s: %s", row["file"] or slot, row["status"])
                self.selection.outcomes[slot] = outcome(row)
                self.counts[outcome(row)] += 1
                if outcome(row) != SAVED:
                    self._nights[self._group(slot)].discard(self._night_of(slot))
            self._show()

    def _is_listed(self, slot, row):
        listed = self.manifest.rows.get(slot, {})
        return all(listed.get(key) == row[key] for key in ("status", "source_image", "tried"))

    def _row(self, slot, source, status):
        """Return a line of the manifest."""
        target = self.selection.targets[slot]
        row = {"file": target.file(source), "RA": target.RA, "DEC": target.DEC, "type": target.type}
        if target.rank:
            row |= {"object": target.number, "name": target.name, "rank": target.rank}
        tried = "; ".join(f"{image}: {error}" for image, error in self._tried[slot].items())
        row |= {"source_image": source, "tried": tried, "status": status, "filter": target.filter}
        return row | {"trail": self._trails.get(slot, "")} | self.settings

    def _show(self):
        others = {kind: self.counts[kind] for kind in (SKIPPED, FAILED)}
        self.bar.set_postfix(others | {"faults": self.retries.faults.total()}, refresh=False)
        self.bar.update(self.counts[SAVED] - self.bar.n)


def _check_positions(selection, service):
    """Let the service check the positions; of an object of unknown class, empty sky is an answer, too."""
    labelled = [target for target in selection.objects.values() if target.kind != OBJECT]
    if labelled and hasattr(service, "check_positions"):
        service.check_positions(pd.DataFrame(labelled)[["RA", "DEC"]])
