"""The real cutouts of the public release LLNL-CODE-825407, which the order of the notebooks goes back to.

Service: https://github.com/Kerianne28/ZTF_image_classification, an archive of one commit.
"""

import io
import logging
import re
import zlib
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import pooch
from tqdm.auto import tqdm

from ztf_sg.files import atomic_write, local_path

from .errors import BadAnswer, RefusedRequest
from .http import REFUSALS, HttpSession
from .retries import TRIES_ONE_BY_ONE, Retries

URL = "https://github.com/Kerianne28/ZTF_image_classification/archive/0ea223aaa8b436e61239dd9cdd20a9d21f5dec71.zip"
TIMEOUT = 120.0  # between two parts of the answer [s]: the archive is made on demand
FOLDER = "cutouts"  # of the archive
LICENCE = re.compile(r"(LICENSE|NOTICE)[\w.-]*")  # names of files beside it
LARGEST = 2**20  # of a cutout's file [bytes]; more is not unpacked
DAMAGE = (BadZipFile, zlib.error, EOFError, NotImplementedError)  # what a damaged archive raises
HASHES = Path(__file__).with_name("release.sha256")  # digests of 32 bytes: galaxy_0 ... 749, star_0 ... 749


def fetch_release(folder, retries=None):
    """Fetch the 1,500 real ZTF cutouts of the release, 750 stars and 750 galaxies, with their licence.

    Every file is checked by its SHA-256, and those at hand are not fetched again. The licence is written
    first; the cutouts are under it, Copyright (c) 2021 Lawrence Livermore National Security, LLC.

    Parameters
    ----------
    folder : path-like
        A folder of their own, which is made if need be, for :func:`ztf_sg.load_cutouts`.
    retries : Retries, optional
        How often and how patiently the service is asked again.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    ValueError
        The folder holds other FITS files.
    NotADirectoryError
        It is a file.
    RefusedRequest, BadAnswer, Unreachable, ServiceDown
        The archive is gone, is none or holds wrong files, could not be reached, or the service was out of
        order for long. Cutouts that are right stay; call it again to fetch the others.
    """
    folder, hashes = local_path(folder), release_hashes()
    _check_folder(folder, hashes)
    retries = retries or Retries(tries=TRIES_ONE_BY_ONE)

    @cache
    def archive():  # opened once, and only if a file is missing
        return retries.call(_open_archive)

    if not folder.is_dir() or not any(LICENCE.fullmatch(path.name) for path in folder.iterdir()):
        _write_licence(archive(), folder)
    files = pooch.create(path=folder, base_url=FOLDER, registry=hashes)
    faults = {}
    with _quiet_pooch():
        for name in tqdm(hashes, desc="cutouts", unit="file"):
            try:
                files.fetch(name, downloader=lambda member, path, _: _unpack(archive(), member, path))
            except (ValueError, KeyError, *DAMAGE) as error:
                faults[name] = _reason(error)
    if faults:
        listed = ", ".join(f"{name} {reason}" for name, reason in list(faults.items())[:5])
        raise BadAnswer(
            f"GitHub's archive of the release: {len(faults)} of {len(hashes)} cutouts are not as published: "
            f"{listed}{', ...' * (len(faults) > 5)}; the others are in {folder}; try again later"
        )
    return folder


def release_hashes():
    """Return the SHA-256 of each file of the release, as hexadecimal text, by the name of the file."""
    names = [f"{kind}_{number}.fits" for kind in ("galaxy", "star") for number in range(750)]
    digests = HASHES.read_bytes()
    return {name: digests[32 * row : 32 * (row + 1)].hex() for row, name in enumerate(names)}


def _check_folder(folder, hashes):
    """Raise an error if the cutouts would mix with others."""
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder}: is a file; name a folder for the cutouts of the release")
    others = sorted(path.name for path in folder.glob("*.fits") if path.name not in hashes)
    if others:
        raise ValueError(
            f"{folder}: holds {len(others)} FITS files that are not of the release, such as {others[0]}; "
            "name a folder of its own"
        )


def _open_archive():
    """Return the archive of the release, which is small enough for the memory, as a ZipFile."""
    session = HttpSession("GitHub", connections=1, read_timeout=TIMEOUT)
    try:
        return ZipFile(io.BytesIO(session.download(URL, "the archive of the release")))
    except REFUSALS as error:
        raise RefusedRequest(f"{error}; the release may have moved, search for LLNL-CODE-825407") from error
    except DAMAGE as error:
        raise BadAnswer(
            f"GitHub answered no archive of the release ({error}); is there a log-in page of your network?"
        ) from error


def _write_licence(archive, folder):
    """Write the licence files of an archive."""
    top, names = _top(archive), archive.namelist()
    licences = [name for name in names if name.startswith(top) and LICENCE.fullmatch(name[len(top) :])]
    if not licences:
        raise BadAnswer("GitHub's archive of the release holds no licence; try again later")
    for name in licences:
        try:
            content = archive.read(name)
        except DAMAGE as error:
            raise BadAnswer(f"GitHub's archive of the release: {name} is damaged; try again later") from error
        with atomic_write(folder / name[len(top) :]) as file:
            file.write(content)


def _unpack(archive, member, path):
    """Write a file of an archive to a path; pooch checks it before it gets its name."""
    with archive.open(_top(archive) + member) as file:
        Path(path).write_bytes(file.read(LARGEST))


def _top(archive):
    """Return the folder that holds everything in an archive, with its slash."""
    return archive.namelist()[0].partition("/")[0] + "/" if archive.namelist() else ""


def _reason(error):
    """Return what is wrong with a file of the archive."""
    if isinstance(error, KeyError):
        return "is missing"
    return "has other content" if isinstance(error, ValueError) else "is damaged"


@contextmanager
def _quiet_pooch():
    """Keep pooch from writing a line per file."""
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
