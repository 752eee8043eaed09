"""Positions -> FITS cutouts: which image each is cut from, the fetch itself, and its manifest."""

from ztf_sg.fetching.choose import REQUEST_COST, ImageChooser, compare_requests, plan_downloads
from ztf_sg.fetching.cut import CENTRING_TOLERANCE, trim_cutout
from ztf_sg.fetching.fetch import IMAGE_FOLDER, FetchStopped, fetch_cutouts
from ztf_sg.fetching.manifest import ManifestError, count_outcomes, read_manifest

__all__ = [
    "CENTRING_TOLERANCE",
    "FetchStopped",
    "IMAGE_FOLDER",
    "ImageChooser",
    "ManifestError",
    "REQUEST_COST",
    "compare_requests",
    "count_outcomes",
    "fetch_cutouts",
    "plan_downloads",
    "read_manifest",
    "trim_cutout",
]
