"""Which image each object is cut from, and what fetching the cutouts will cost."""

import numpy as np
import pandas as pd

from ztf_sg.services import NothingFound, retries_of
from ztf_sg.ztf import (
    CUTOUT_BYTES,
    IMAGE_BYTES,
    MAX_SEEING,
    QUADRANT,
    WCS_COLUMNS,
    check_filtercode,
    check_limits,
    image_name,
)

PATCH_SIZE = 1.0  # width of the patches of sky that share one metadata query [deg]
SEARCH_SIZE = 1.1 * PATCH_SIZE  # of the search: parallels are curved on the plane of a search [deg]
EDGE_MARGIN = 15  # least distance of an object from the edge of its image [px]
# How many images of an object are tried: mostly single files are missing, so that a third is rarely needed.
IMAGES_PER_OBJECT = 3
# What a request costs beside its answer, as the bytes that could come in meanwhile: some half a second of a
# line of 30 Mbit/s. From about 20 objects on an image it is cheaper to fetch the whole.
REQUEST_COST = 2_000_000
ONE_BY_ONE, WHOLE = "cutouts from the archive", "whole image, cut here"


class ImageChooser:
    """Finds for each position the image on which it lies best centred, with one search per patch of sky.

    Parameters
    ----------
    service : image service
    filtercode, max_seeing, max_infobits
        As of :func:`fetch_cutouts`.

    Attributes
    ----------
    searches : int
        Number of metadata queries so far. Each is repeated after a fault, as the service's `retries` say.

    Raises
    ------
    ValueError
        The filter code is not known, or a limit is no number that makes sense.
    """

    def __init__(self, service, filtercode="zi", max_seeing=MAX_SEEING, max_infobits=0):
        check_filtercode(filtercode)
        check_limits(max_seeing, max_infobits)
        self.service = service
        self.retries = retries_of(service)
        self.criteria = filtercode, max_seeing, max_infobits
        self.searches = 0
        self._patches = {}

    def choose(self, ra, dec):
        """Return the best image of :meth:`rank` for a position [deg, ICRS]; None if there is none."""
        return next(iter(self.rank(ra, dec)), None)

    def rank(self, ra, dec):
        """Return up to `IMAGES_PER_OBJECT` metadata rows for a position [deg, ICRS], the best centred first.

        They are a list of pandas.Series, of images that hold the position at a safe distance from the edges.

        Raises
        ------
        ServiceError
            The service could not be searched, though it was asked again; see `ztf_sg.services.errors`.
        """
        images = self._images_around(ra, dec)
        x, y = pixel_positions(images, ra, dec)
        middle_x, middle_y = ((side - 1) / 2 for side in QUADRANT)
        x, y = np.abs(x - middle_x), np.abs(y - middle_y)
        inside = (x <= middle_x - EDGE_MARGIN) & (y <= middle_y - EDGE_MARGIN)
        order = np.argsort(np.where(inside, np.hypot(x, y), np.inf), kind="stable")
        return [images.iloc[row] for row in order[: min(inside.sum(), IMAGES_PER_OBJECT)]]

    def choose_each(self, positions):
        """Return a list of the images of a pandas.DataFrame of positions, RA and DEC [deg, ICRS]."""
        return [self.choose(*position) for position in positions[["RA", "DEC"]].to_numpy()]

    def _images_around(self, ra, dec):
        """Return the metadata of the images around a position [deg, ICRS], searched once per patch of sky."""
        row = min(int(dec // PATCH_SIZE), int(90 // PATCH_SIZE) - 1)
        # patches narrow towards the pole: the width in RA is that at the edge that is nearer to the equator
        width = PATCH_SIZE / np.cos(np.radians(min(abs(row), abs(row + 1)) * PATCH_SIZE))
        column = int(ra // width)
        if (row, column) not in self._patches:
            centre = (column + 0.5) * width % 360, (row + 0.5) * PATCH_SIZE
            self.searches += 1
            try:
                images = self.retries.call(self.service.search_images, *centre, SEARCH_SIZE, *self.criteria)
            except NothingFound:
                images = pd.DataFrame(columns=WCS_COLUMNS, dtype=float)
            self._patches[row, column] = images
        return self._patches[row, column]


def pixel_positions(images, ra, dec):
    """Return the pixel coordinates x and y, each (n,), of a position [deg, ICRS] on each of n images.

    They count from 0, and are good to a few px, as the tangent plane of the metadata leaves out distortion;
    NaN where the position is not on the image's side of the sky. This is the gnomonic projection of
    Calabretta & Greisen 2002, A&A 395, 1077, section 5.1.3, written out because a WCS object for each image
    and object would take hours for a survey's worth of them.
    """
    crpix1, crpix2, ra0, dec0, cd11, cd12, cd21, cd22 = (images[name].to_numpy(float) for name in WCS_COLUMNS)
    east, north0, north = np.radians(ra - ra0), np.radians(dec0), np.radians(dec)
    towards = np.sin(north) * np.sin(north0) + np.cos(north) * np.cos(north0) * np.cos(east)
    towards = np.where(towards > 0, towards, np.nan)
    xi = np.degrees(np.cos(north) * np.sin(east) / towards)
    eta = np.degrees(
        (np.sin(north) * np.cos(north0) - np.cos(north) * np.sin(north0) * np.cos(east)) / towards
    )
    determinant = cd11 * cd22 - cd12 * cd21
    x = (cd22 * xi - cd12 * eta) / determinant + crpix1 - 1
    y = (cd11 * eta - cd21 * xi) / determinant + crpix2 - 1
    return x, y


def costs_less_whole(cutouts, request_cost=REQUEST_COST):
    """Tell whether it costs less to fetch a whole image than so many cutouts of it, a number or an array."""
    more_bytes = IMAGE_BYTES - cutouts * CUTOUT_BYTES
    return (cutouts > 1) & (more_bytes < np.maximum(cutouts - 1, 1) * request_cost)


def plan_downloads(images):
    """Plan for each image whether to fetch it whole or its cutouts one by one, at :data:`REQUEST_COST`.

    Parameters
    ----------
    images : list of pandas.Series or None
        The image of each object, see :meth:`ImageChooser.choose_each`; None is left out.

    Returns
    -------
    pandas.DataFrame
        One row per image: source_image, cutouts (their number), method (:data:`ONE_BY_ONE` or :data:`WHOLE`),
        requests and bytes (estimated).
    """
    names = pd.Series([image_name(image) for image in images if image is not None], dtype=str)
    plan = names.value_counts(sort=False).rename_axis("source_image").reset_index(name="cutouts")
    whole = costs_less_whole(plan["cutouts"])
    return plan.assign(
        method=np.where(whole, WHOLE, ONE_BY_ONE),
        requests=np.where(whole, 1, plan["cutouts"]),
        bytes=np.where(whole, IMAGE_BYTES, plan["cutouts"] * CUTOUT_BYTES),
    )


def compare_requests(plan, searches):
    """Compare a plan with asking for each object by itself: one search, and one cutout.

    Parameters
    ----------
    plan : pandas.DataFrame
        From :func:`plan_downloads`.
    searches : int
        Number of metadata queries, see :attr:`ImageChooser.searches`.

    Returns
    -------
    pandas.DataFrame
        Rows "object by object" and "patch by patch"; columns searches, downloads, requests (their sum) and
        megabytes (estimated, of the downloads).
    """
    n = plan["cutouts"].sum()
    table = pd.DataFrame(index=["object by object", "patch by patch"])
    table["searches"] = [n, searches]
    table["downloads"] = [n, plan["requests"].sum()]
    table["requests"] = table.sum(axis="columns")
    table["megabytes"] = [n * CUTOUT_BYTES / 1e6, plan["bytes"].sum() / 1e6]
    return table
