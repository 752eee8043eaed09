"""Which images each object is cut from, and what fetching the cutouts will cost."""

from functools import cached_property

import numpy as np
import pandas as pd

from ztf_sg.fetching.motion import directions, epochs_of, night_of, towards_at
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
CENTRING_COST = 0.1  # what an object in the corner of an image costs, as depth [mag]
NO_IMAGES = pd.DataFrame(columns=[*WCS_COLUMNS, "filefracday", "infobits", "seeing", "maglimit"], dtype=float)
ONE_BY_ONE, WHOLE = "cutouts from the archive", "whole image, cut here"


class ImageChooser:
    """Finds the images of positions, with one search per patch of sky.

    Parameters
    ----------
    service : image service
    filtercode, max_seeing, max_infobits
        A filter of :func:`fetch_cutouts`, and its limits.

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

    def rank(self, ra, dec, motion=None):
        """Return up to `IMAGES_PER_OBJECT` metadata rows for a position, the best centred first.

        They are a list of pandas.Series, of images that hold the position at a safe distance from the edges.

        Parameters
        ----------
        ra, dec : float
            Position [deg, ICRS].
        motion : tuple of float, optional
            Proper motion in RA, with the cosine of DEC, and in DEC [mas/yr], and the epoch of the position
            [Julian year]; without it, the object rests.

        Raises
        ------
        ServiceError
            The service could not be searched, though it was asked again; see `ztf_sg.services.errors`.
        """
        patch = self._images_around(ra, dec)
        offsets = patch.offsets(ra, dec, motion)
        order = np.argsort(offsets, kind="stable")[:IMAGES_PER_OBJECT]
        return [patch.image(row) for row in order if np.isfinite(offsets[row])]

    def rank_nights(self, ra, dec, motion=None, most=None, without=()):
        """Return images of the best nights, the best image first; arguments and errors as of `rank`.

        Images with no quality flag (infobits) come first; then those that tell small galaxies from stars
        best: the depth [mag] less 5 log10 of the seeing counts, since the signal of a galaxy, the excess of
        its width over a star's, is as one over the seeing squared; and :data:`CENTRING_COST` [mag] for the
        distance from the middle. Flags are of whole images; masks of pixels are not looked at.

        Parameters
        ----------
        most : int, optional
            Number of nights, of each of which there are up to `IMAGES_PER_OBJECT` images; by default all.
        without : set of int
            Nights to leave out, YYYYMMDD in universal time.
        """
        patch = self._images_around(ra, dec)
        offsets = patch.offsets(ra, dec, motion)
        rows = np.flatnonzero(np.isfinite(offsets))
        costs = patch.costs[rows] + CENTRING_COST * offsets[rows] / np.hypot(*QUADRANT) * 2
        rows = rows[np.lexsort((costs, patch.is_flagged[rows]))]
        kept = {night: 0 for night in _firsts(patch.nights[rows].tolist(), most, without)}
        images = []
        for row, night in zip(rows, patch.nights[rows].tolist(), strict=True):
            if kept.get(night, IMAGES_PER_OBJECT) < IMAGES_PER_OBJECT:
                images.append(patch.image(row))
                kept[night] += 1
        return images

    def choose_each(self, positions):
        """Return a list of the images of a pandas.DataFrame of positions, RA and DEC [deg, ICRS]."""
        return [self.choose(*position) for position in positions[["RA", "DEC"]].to_numpy()]

    def _images_around(self, ra, dec):
        """Return the _Patch around a position [deg, ICRS], which is searched for images once."""
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
                images = NO_IMAGES
            self._patches[row, column] = _Patch(images)
        return self._patches[row, column]


def _firsts(values, most, without):
    """Return the first different values, in their order, of those that are not to be left out."""
    return [value for value in dict.fromkeys(values) if value not in without][:most]


class _Patch:
    """The n images around a patch of sky, with what their ranks depend on as arrays, computed once."""

    def __init__(self, images):
        self.images = images
        self._planes = tangent_planes(images)
        self._rows = {}

    @cached_property
    def nights(self):
        return night_of(self.images["filefracday"].to_numpy(np.int64))

    @cached_property
    def epochs(self):
        return epochs_of(self.images["filefracday"])

    @cached_property
    def is_flagged(self):
        return self.images["infobits"].to_numpy() > 0

    @cached_property
    def costs(self):
        """What seeing and depth cost [mag]; the depth is at times not known, which is as bad as none."""
        depth = self.images["maglimit"].fillna(0).to_numpy(float)
        return 5 * np.log10(self.images["seeing"].to_numpy(float)) - depth

    def image(self, row):
        """Return a row of the metadata, a pandas.Series, which all objects on this image share."""
        if row not in self._rows:
            self._rows[row] = self.images.iloc[row]
        return self._rows[row]

    def offsets(self, ra, dec, motion=None):
        """Return how far an object is from the middle of each image [px]; infinite if too near the edge."""
        towards = towards_at(ra, dec, motion, self.epochs) if motion else directions(ra, dec)[0]
        x, y = pixels_towards(self._planes, towards)
        middle_x, middle_y = ((side - 1) / 2 for side in QUADRANT)
        x, y = np.abs(x - middle_x), np.abs(y - middle_y)
        inside = (x <= middle_x - EDGE_MARGIN) & (y <= middle_y - EDGE_MARGIN)
        return np.where(inside, np.hypot(x, y), np.inf)


def tangent_planes(images):
    """Return what `pixels_towards` needs of the metadata of n images, (3, n, 3) and the reference pixels.

    The first three are the directions towards the tangent points, and those of growing x and y on the
    tangent planes [px per rad].
    """
    crpix1, crpix2, ra0, dec0, cd11, cd12, cd21, cd22 = (images[name].to_numpy(float) for name in WCS_COLUMNS)
    towards, east, north = directions(ra0, dec0)
    scale = np.degrees(1 / (cd11 * cd22 - cd12 * cd21))
    x_axis = (scale * cd22)[:, np.newaxis] * east - (scale * cd12)[:, np.newaxis] * north
    y_axis = (scale * cd11)[:, np.newaxis] * north - (scale * cd21)[:, np.newaxis] * east
    return np.stack([towards, x_axis, y_axis]), crpix1, crpix2


def pixels_towards(planes, towards):
    """Return the pixel coordinates x and y, each (n,), of a direction, (3,) or (n, 3), on n images.

    They count from 0, and are good to a few px, as the tangent plane of the metadata leaves out distortion;
    NaN where the direction is not on the image's side of the sky. This is the gnomonic projection of
    Calabretta & Greisen 2002, A&A 395, 1077, section 5.1.3, written out because a WCS object for each image
    and object would take hours for a survey's worth of them.
    """
    axes, crpix1, crpix2 = planes
    depth, x, y = (axes * towards).sum(axis=-1)
    depth = np.where(depth > 0, depth, np.nan)
    return x / depth + crpix1 - 1, y / depth + crpix2 - 1


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
