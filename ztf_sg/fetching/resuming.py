"""What earlier runs left in a folder of cutouts: the nights of its images, and files that are not listed."""

import re

from ztf_sg.cutouts import CLASS_NAMES, OBJECT
from ztf_sg.fetching.cut import is_cutout
from ztf_sg.fetching.manifest import SAVED, ManifestError, object_of, outcome
from ztf_sg.fetching.motion import night_of

FILE_NAME = re.compile(rf"(({'|'.join(CLASS_NAMES)}|{OBJECT})_\d+)(?:_(z[gri])_(\d{{14}}))?\.fits")


def saved_nights(selection, manifest):
    """Return the nights of the images that are there, sets of YYYYMMDD, by object and filter."""
    nights = {}
    for slot, row in manifest.rows.items():
        if selection.outcomes.get(slot) == SAVED:
            night = night_of(int(row["source_image"].split("_")[1]))
            nights.setdefault((object_of(row), row["filter"]), set()).add(night)
    return nights


def unlisted_files(manifest, selection, origin):
    """Return the names of files that a stopped run saved and did not list yet.

    Raises a ManifestError if there is any other file that is not listed.
    """
    listed = {row["file"]: outcome(row) for row in manifest.rows.values()}
    unlisted = {path.name for path in manifest.directory.glob("*.fits") if listed.get(path.name) != SAVED}
    for name in sorted(unlisted - listed.keys()):
        if not _is_of_stopped_run(manifest.directory / name, selection, origin):
            raise ManifestError(
                f"{manifest.directory}: holds FITS files that its manifest does not list, such as "
                f"{name}; name another folder"
            )
    return unlisted


def _is_of_stopped_run(path, selection, origin):
    """Tell whether a file may be of a run like this one: by its name, and a cutout of the object it names."""
    match = FILE_NAME.fullmatch(path.name)
    if not match or bool(match[4]) != selection.named_by_image:
        return False
    target = selection.objects.get(match[1])
    if target is None:
        # a file of a class that is not fetched now is for a run of that class to judge
        return match[2] not in selection.wanted and is_cutout(path, origin)
    return is_cutout(path, origin, target.at(int(match[4])) if match[4] else target)
