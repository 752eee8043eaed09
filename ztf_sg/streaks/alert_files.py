"""What files, folders and tarballs hold of alerts: Avro, Parquet and FITS, told by their first bytes."""

import gzip
import io
import os
import re
import tarfile
import warnings
import zlib
from collections import Counter
from contextlib import suppress

from ztf_sg.cutouts.listing import printable
from ztf_sg.cutouts.schema import natural_key
from ztf_sg.files import local_path
from ztf_sg.streaks.alert_tables import iter_rows
from ztf_sg.streaks.avro import MAGIC, iter_packets
from ztf_sg.streaks.fits_stamps import FitsStamps
from ztf_sg.streaks.stamp_pixels import GZIP, MOST_BYTES

PARQUET_MAGIC, FITS_MAGIC, TAR_MAGIC, TAR_MAGIC_AT = b"PAR1", b"SIMPLE", b"ustar", 257
MOST_TABLE_BYTES = 2**30  # of a packed Parquet file, which has to be in memory
DEEPEST = 3  # how often a file may be packed: a tarball of packed stamps, packed itself
UNPACKING_ERRORS = (OSError, EOFError, zlib.error, ValueError)
ALERT_NAME = re.compile(r"\.(avro|parquet|parq|pq|fits|fit|fts|tar|tgz)(\.gz)?$", re.IGNORECASE)
NOTES = set(
    "txt md rst log csv json xml yaml yml toml ini html pdf png jpg jpeg gif svg py ipynb crc".split()
)
REMEDY = "name a file or folder of Avro packets, Parquet tables or FITS stamps"


def iter_found(path):
    """Yield what a file or folder holds of alerts as triples: where, packet, fault.

    `where` (str) names file and packet for messages; either the packet is a dict, or the fault (str) says
    what is wrong there. Folders are read with their sub-folders, in natural order, without names that begin
    with a dot or an underscore; each folder is read once, links to it or not. What is packed by gzip or tar
    is read as it comes. FITS stamps, of which several files may make an alert, come last.

    Raises
    ------
    FileNotFoundError
        If there is no such path, or nothing in it looks like alerts.

    Warns
    -----
    UserWarning
        If a folder holds what is neither alerts nor notes.
    """
    path = local_path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder; {REMEDY}")
    stamps, passed_over, n_found = FitsStamps(), Counter(), 0
    files, faults = _list_files(path)
    for fault in faults:
        n_found += 1
        yield _unreadable(fault.filename, fault)
    for file in files:
        try:
            for found in _iter_file(file, stamps):
                n_found += 1
                yield found
        except NoAlerts:
            passed_over[file.suffix.lower().lstrip(".")] += 1
    for found in stamps:
        n_found += 1
        yield found
    others = [
        f"{count} {what or 'without suffix'}" for what, count in passed_over.items() if what not in NOTES
    ]
    if not n_found:
        raise FileNotFoundError(f"{path}: holds no alerts; {REMEDY}")
    if others:
        warnings.warn(f"{path}: passed over {', '.join(others)}, which hold no alerts", stacklevel=4)


class NoAlerts(Exception):
    """A file that does not look like alerts, by its first bytes and its name."""


def _list_files(path):
    """Return a file, or those of a folder and its sub-folders in natural order, as a list of paths.

    Each folder is read once, whatever links lead to it. The errors of those that cannot be read come second.
    """
    if not path.is_dir():
        return [path], []
    found, faults, seen = [], [], {_identity(parent) for parent in path.resolve().parents}
    for folder, folders, files in os.walk(path, onerror=faults.append, followlinks=True):
        if _identity(folder) in seen:
            folders.clear()
            continue
        seen.add(_identity(folder))
        links_last = sorted(folders, key=lambda name: (os.path.islink(os.path.join(folder, name)), name))
        folders[:] = [name for name in links_last if name[0] not in "._"]
        found += [os.path.join(folder, name) for name in files if name[0] not in "._"]
    relative = sorted((os.path.relpath(file, path) for file in found), key=_order)
    return [file for file in map(path.joinpath, relative) if file.is_file() or file.is_symlink()], faults


def _identity(folder):
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _unreadable(path, error):
    """Return what `iter_found` yields of a file or folder that the system does not let us read."""
    return printable(str(path)), None, f"cannot be read ({error.strerror or error})"


def _order(name):
    """Return the sorting key of a path: natural order of its parts, then its letters."""
    return [natural_key(part) for part in name.split(os.sep)], name


def _iter_file(path, stamps):
    """Yield what a file holds, see `iter_found`; FITS stamps are added to `stamps`."""
    where = printable(str(path))
    try:
        with open(path, "rb") as file:
            yield from _iter_stream(where, file, stamps)
    except OSError as error:
        yield _unreadable(path, error)


def _iter_stream(where, stream, stamps, depth=0):
    """Yield what a stream of bytes holds, by its first bytes; `depth` counts how often it was packed."""
    first, fault = _first_bytes(stream)
    is_tar = first[TAR_MAGIC_AT:].startswith(TAR_MAGIC)
    if depth > DEEPEST and (is_tar or first.startswith(GZIP)):
        yield where, None, f"is packed more than {DEEPEST} times; unpack it"
    elif first.startswith(GZIP):
        unpacked = io.BufferedReader(gzip.GzipFile(fileobj=stream, mode="rb"))
        yield from _iter_stream(where, unpacked, stamps, depth + 1)
    elif first.startswith(MAGIC):
        for number, (packet, fault) in enumerate(iter_packets(stream)):
            yield f"{where}, packet {number}", packet, fault
    elif first.startswith(PARQUET_MAGIC):
        yield from _iter_table(where, stream, depth)
    elif is_tar:
        yield from _iter_archive(where, stream, stamps, depth + 1)
    elif first.startswith(FITS_MAGIC):
        yield from _add_stamp(where, stream, stamps)
    elif fault or ALERT_NAME.search(where):
        fault = fault or ("is neither Avro, Parquet, FITS nor an archive of these" if first else "is empty")
        yield where, None, fault
    else:
        raise NoAlerts


def _first_bytes(stream):
    """Return the first bytes of a stream, which stay in it, and what is wrong with it; None if nothing is."""
    try:
        return stream.peek(TAR_MAGIC_AT + len(TAR_MAGIC)), None
    except UNPACKING_ERRORS as error:
        return b"", f"is cut short or damaged ({error})"


def _iter_table(where, stream, depth):
    """Yield the rows of a Parquet file; one that was packed has to be in memory."""
    if depth:
        content, fault = _read(stream, MOST_TABLE_BYTES)
        if fault:
            yield where, None, fault
            return
        stream = io.BytesIO(content)
    yield from iter_rows(where, stream)


def _add_stamp(where, stream, stamps):
    """Add a FITS file to the stamps; yield what is wrong if it cannot be read."""
    content, fault = _read(stream, MOST_BYTES)
    if fault:
        yield where, None, fault
    else:
        stamps.add(where, content)


def _read(stream, most):
    """Return all bytes of a stream, and what is wrong if that are too many or it breaks off."""
    try:
        content = stream.read(most + 1)
    except UNPACKING_ERRORS as error:
        return b"", f"is cut short or damaged ({error})"
    too_long = f"has more than {most / 2**20:.0f} MB; read its parts one by one"
    return content, too_long if len(content) > most else None


class _StrictMember(tarfile.TarInfo):
    """A member of a tarball whose damaged header is an error; tarfile would take it for the end."""

    @classmethod
    def fromtarfile(cls, archive):
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error}; its members end without the mark of the end") from error


def _iter_archive(where, stream, stamps, depth):
    """Yield what the files of a tarball hold, one after the other; what comes before a fault is kept."""
    try:
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=_StrictMember) as archive:
            for member in archive:
                if not member.isfile() or os.path.basename(member.name)[:1] in (".", "_"):
                    continue
                with suppress(NoAlerts):
                    name = f"{where}/{printable(member.name)}"
                    yield from _iter_stream(name, archive.extractfile(member), stamps, depth)
    except (tarfile.TarError, *UNPACKING_ERRORS) as error:
        yield (
            where,
            None,
            f"is cut short or damaged ({' '.join(str(error).split())}); what came before is kept",
        )
