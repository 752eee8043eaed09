"""The real cutouts of the public release LLNL-CODE-825407, which the order of the notebooks goes back to.

Service: https://github.com/Kerianne28/ZTF_image_classification, an archive of one commit.
"""

import io
import logging
import os
import re
import zlib
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import BadZipFile, ZipFile

import pooch
from tqdm.auto import tqdm

from ztf_sg.cutouts import list_cutouts
from ztf_sg.files import atomic_write, local_path

from .errors import BadAnswer, RefusedRequest
from .http import REFUSALS, HttpSession
from .retries import TRIES_ONE_BY_ONE, Retries

URL = "https://github.com/Kerianne28/ZTF_image_classification/archive/0ea223aaa8b436e61239dd9cdd20a9d21f5dec71.zip"
TIMEOUT = 120.0  # between two parts of the answer [s]: the archive is made on demand
FOLDER = "cutouts"  # of the archive
LICENCE = re.compile(r"(LICENSE|NOTICE)[\w.-]*")  # names of files beside it
LARGEST = 2**20  # of a cutout's file [bytes]; more is not unpacked
UNFINISHED = ".unfinished_"  # start of the name of a folder that load_cutouts leaves out
# What zipfile raises for a damaged archive: RuntimeError if it takes a file for encrypted.
DAMAGE = (BadZipFile, zlib.error, EOFError, ValueError, RuntimeError)
HASHES = Path(__file__).with_name("release.sha256")  # digests of 32 bytes: galaxy_0 ... 749, star_0 ... 749


def fetch_release(folder, retries=None):
    """Fetch the 1,500 real ZTF cutouts of the release, 750 stars and 750 galaxies, with their licence.

    Every file is checked by its SHA-256. Those at hand are not fetched again, and no file is replaced. The
    licence is written first; the cutouts are under it, Copyright (c) 2021 Lawrence Livermore National
    Security, LLC.

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
        The folder or one within it holds other FITS files, damaged ones or those of other origin.
    NotADirectoryError, PermissionError
        It is a file, or files lack and this user may not write there.
    RefusedRequest, BadAnswer, Unreachable, ServiceDown
        The archive is gone, is none or holds wrong files, could not be reached, or the service was out of
        order for long. Cutouts that are right stay; call it again to fetch the others.
    """
    folder, hashes = local_path(folder), release_hashes()
    _check_folder(folder, hashes)
    lacking = {name: digest for name, digest in hashes.items() if not (folder / name).exists()}
    if lacking or not any(LICENCE.fullmatch(path.name) for path in folder.iterdir()):
        if folder.exists() and not os.access(folder, os.W_OK):
            raise PermissionError(f"{folder}: you may not write there; name another folder")
        archive = (retries or Retries(tries=TRIES_ONE_BY_ONE)).call(_open_archive)
        licences = _read_licences(archive)
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=UNFINISHED, dir=folder) as unfinished:
            for name, content in licences.items():
                if not (folder / name).exists():
                    with atomic_write(folder / name, Path(unfinished, name)) as file:
                        file.write(content)
            _unpack(archive, lacking, folder, unfinished)
    return folder


def release_hashes():
    """Return the SHA-256 of each file of the release, as hexadecimal text, by the name of the file."""
    names = [f"{kind}_{number}.fits" for kind in ("galaxy", "star") for number in range(750)]
    digests = HASHES.read_bytes()
    return {name: digests[32 * row : 32 * (row + 1)].hex() for row, name in enumerate(names)}


def _check_folder(folder, hashes):
    """Raise an error if the cutouts would mix with others, or replace some."""
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder}: is a file; name a folder for the cutouts of the release")
    others = [path for path in _list_fits(folder) if not _is_released(path.relative_to(folder), path, hashes)]
    if others:
        raise ValueError(
            f"{folder}: holds {len(others)} FITS files that are not as in the release, such as "
            f"{others[0].relative_to(folder)}; name a folder of its own, or delete them if they are damaged"
        )


def _list_fits(folder):
    """Return the FITS files of a folder, which need not exist, and its sub-folders."""
    try:
        return list_cutouts(folder)
    except FileNotFoundError:
        return []


def _is_released(name, path, hashes):
    """Tell whether a file is one of the release."""
    return str(name) in hashes and pooch.file_hash(str(path)) == hashes[str(name)]


def _open_archive():
    """Return the archive of the release, which is small enough for the memory, as a ZipFile."""
    session = HttpSession("GitHub", connections=1, read_timeout=TIMEOUT)
    try:
        content = session.download(URL, "the archive of the release")
    except REFUSALS as error:
        raise RefusedRequest(f"{error}; the release may have moved, search for LLNL-CODE-825407") from error
    try:
        return ZipFile(io.BytesIO(content))
    except DAMAGE as error:
        raise BadAnswer(
            f"GitHub answered no archive of the release ({error}); is there a log-in page of your network?"
        ) from error


def _read_licences(archive):
    """Return the content of the licence files of an archive, by name."""
    top, names = _top(archive), archive.namelist()
    licences = [name[len(top) :] for name in names if name.startswith(top)]
    licences = [name for name in licences if LICENCE.fullmatch(name)]
    if not licences:
        raise BadAnswer("GitHub's archive of the release holds no licence; try again later")
    try:
        return {name: _read(archive, name) for name in licences}
    except BadZipFile as error:
        raise BadAnswer(f"GitHub's archive of the release: its licence {error}; try again later") from error


def _unpack(archive, hashes, folder, unfinished):
    """Write those cutouts of an archive to a folder that are right, and raise BadAnswer about the others."""
    files, faults = pooch.create(path=unfinished, base_url=FOLDER, registry=hashes), {}

    def read(member, path, _):
        os.unlink(path)  # pooch's file could be read by its owner alone, whatever the umask
        Path(path).write_bytes(_read(archive, member))

    with _quiet_pooch():
        for name in tqdm(hashes, desc="cutouts", unit="file"):
            try:
                os.replace(files.fetch(name, downloader=read), folder / name)
            except (ValueError, KeyError, BadZipFile) as error:
                faults[name] = _reason(error)
    if faults:
        listed = ", ".join(f"{name} {reason}" for name, reason in list(faults.items())[:5])
        raise BadAnswer(
            f"GitHub's archive of the release: {len(faults)} of {len(hashes)} cutouts are not as published: "
            f"{listed}{', ...' * (len(faults) > 5)}; the others are in {folder}; try again later"
        )


def _read(archive, name):
    """Return the content of a file of an archive, no more than `LARGEST`; raise BadZipFile if damaged."""
    try:
        with archive.open(_top(archive) + name) as file:
            return file.read(LARGEST)
    except DAMAGE as error:
        raise BadZipFile("is damaged") from error


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
