"""Stamps in FITS files: those of one alert are brought together by the names of files or of extensions.

ZTF names its stamps candid1_pid2_targ_sci, candid1_ref and candid1_pid2_targ_scimref (or refmsci), brokers
1_cutoutScience, 1_cutoutTemplate and 1_cutoutDifference. Files that are called science, template and
difference alone are those of an alert that has the name of their folder. A lone image of another name is a
difference image.
"""

import re
from pathlib import Path

from astropy.io.fits import VerifyError
from astropy.io.fits.card import Undefined

from ztf_sg.streaks.stamp_pixels import StampError, fits_images
from ztf_sg.streaks.stamps import IMAGES

SUFFIXES = re.compile(r"(\.(fits|fit|fts|gz|fz))+$", re.IGNORECASE)
IMAGE_NAME = re.compile(
    r"(?:_pid-?\d+)?(?:_targ)?[._-]?(?:cutout)?_?"
    r"(?:(?P<science>science|sci)|(?P<template>template|ref)|(?P<difference>difference|diff|scimref|refmsci))$",
    re.IGNORECASE,
)
COLUMN_OF_KEY = {
    "SEEING": "fwhm",
    "FWHM": "fwhm",
    "MAGZP": "magzpsci",
    "MAGZPSCI": "magzpsci",
    "OBSJD": "jd",
    "JD": "jd",
    "FILTERID": "fid",
    "FID": "fid",
    "RA": "ra",
    "DEC": "dec",
    "MAGPSF": "magpsf",
    "SIGMAPSF": "sigmapsf",
}


class FitsStamps:
    """Images of FITS files, gathered by alert: an iterator of (where, packet, fault), see `iter_found`."""

    def __init__(self):
        self._alerts = {}

    def add(self, where, content):
        """Add the images in the bytes of a FITS file; if it is damaged, its alert is."""
        folder, slash, name = where.rpartition("/")
        stem = SUFFIXES.sub("", name)
        match = IMAGE_NAME.search(stem)
        alert = stem[: match.start()] if match else stem
        entry = self._alerts.setdefault(f"{folder}{slash}{alert}", {"where": where, "images": {}})
        alert = alert or Path(folder).resolve().name or stem
        try:
            images = fits_images(content)
            found = _named(images, match.lastgroup if match else None)
            if double := found.keys() & entry["images"].keys():
                raise StampError(f"is a second {min(double)} image of {alert}; keep one of them")
        except StampError as error:
            entry.setdefault("fault", (where, str(error)))
            return
        entry["images"] |= found
        entry["name"] = alert
        entry.setdefault("values", {}).update(_values(images[0][2]))

    def __iter__(self):
        for entry in self._alerts.values():
            if "fault" in entry:
                where, fault = entry["fault"]
                yield where, None, fault
            else:
                yield entry["where"], entry["values"] | {"name": entry["name"]} | entry["images"], None


def _named(images, kind):
    """Return pixels by kind of image; `kind` is what the name of a file with one image says."""
    if len(images) == 1 and (kind or not _kind(images[0][0])):
        return {kind or "difference": images[0][1]}
    found = {_kind(name): pixels for name, pixels, _ in images if _kind(name)}
    if len(found) < len(images):
        names = ", ".join(repr(name) for name, *_ in images)
        raise StampError(
            f"holds {len(images)} images with the EXTNAMEs {names}; name them {', '.join(IMAGES)}, once each"
        )
    return found


def _kind(name):
    """Return which image of an alert a name means; None if it means none."""
    match = IMAGE_NAME.fullmatch(name)
    return match.lastgroup if match else None


def _values(header):
    """Return what a header tells of the detection, by column."""
    values = {}
    for key, column in COLUMN_OF_KEY.items():
        try:
            value = header.get(key)
        except (ValueError, VerifyError):  # it is not written as the standard wants
            continue
        if value is not None and not isinstance(value, Undefined):
            values.setdefault(column, value)
    return values
