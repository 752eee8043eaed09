"""A simulated survey with the face of the live services: catalogue, image search and cutouts, offline.

Stars and galaxies are drawn with GalSim on made-up ZTF exposures, see :mod:`ztf_sg.simulation`. Whatever it
makes says so: the ``ORIGIN`` of every cutout is :data:`ORIGIN`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from gzip import GzipFile
from pathlib import Path

import astropy.units as u
import galsim
import numpy as np
import pandas as pd
from astropy.io import fits
from astropy.table import Table
from scipy.spatial import cKDTree

from ztf_sg.files import atomic_write
from ztf_sg.services import NothingFound
from ztf_sg.services.gaia import COLUMNS as GAIA_COLUMNS
from ztf_sg.services.gaia import add_matches, check_match
from ztf_sg.services.sweeps import read_sweep
from ztf_sg.services.tractor import Cuts
from ztf_sg.simulation.detector import expose, sky_level
from ztf_sg.simulation.drawing import add_light, place, reach
from ztf_sg.simulation.exposures import METADATA_COLUMNS, simulate_exposures
from ztf_sg.simulation.gaia import simulate_gaia
from ztf_sg.simulation.parameters import DEC_RANGE, EXPTIME, GAIN, RA_RANGE
from ztf_sg.simulation.population import TRUTH_COLUMNS, plane, simulate_population
from ztf_sg.simulation.psf import aperture_corrections
from ztf_sg.ztf import (
    APERTURES,
    FITS_BLOCK,
    PIXEL_SCALE,
    QUADRANT,
    READ_NOISE,
    first_pixel,
    image_name,
    image_wcs,
)

ORIGIN = "ztf_sg mock sky (simulated)"
BUNDLED_CATALOGUE = Path(__file__).parents[2] / "data" / "mock_sweep.fits.gz"

SEARCH_RADIUS = 45  # the light of objects is in a cutout at the most from so far [arcsec]
MATCH_RADIUS = 1  # a position is that of an object if it is this near [arcsec]
EXTRA_PIXEL_SHARE = 0.02  # share of cutouts with one more row, or column, at their beginning


@dataclass(frozen=True)
class Scene:
    """What a simulated cutout was made from: the object it is of, and all else.

    Attributes
    ----------
    target : named tuple
        Row of :attr:`MockSky.objects`.
    exposure : pandas.Series
        Row of :attr:`MockSky.exposures`.
    sky, neighbours : numpy.ndarray
        Level of the sky, and light of the other objects [DN], shape (height, width).
    draw : callable
        Returns the light [DN] of such a row as if it were in the place of the target, same shape.
    """

    target: tuple
    exposure: pd.Series
    sky: np.ndarray
    neighbours: np.ndarray
    draw: Callable


class MockSky:
    """A simulated Legacy Survey catalogue and simulated ZTF images of its objects.

    Parameters
    ----------
    catalogue : path-like, optional
        Sweep-like FITS table with the table TRUTH, as `write_catalogue` writes it. Left out, it is the
        bundled ``data/mock_sweep.fits.gz`` where the package
        runs from a checkout, else the same table simulated anew.
    seed : int
        Seed of the exposures and the noise, and of the catalogue where it is simulated; any seed
        but 0 simulates its own catalogue.
    """

    origin = ORIGIN

    def __init__(self, catalogue=None, seed=0):
        self.seed = seed
        bundled = BUNDLED_CATALOGUE if seed == 0 and BUNDLED_CATALOGUE.exists() else None
        self._path = Path(catalogue) if catalogue else bundled
        self._headers = {}

    def __repr__(self):
        return f"MockSky(catalogue={str(self._path.name) if self._path else None!r}, seed={self.seed})"

    @cached_property
    def catalogue(self):
        """All objects: a DataFrame with the columns of a sweep file."""
        return self._population[0]

    @cached_property
    def truth(self):
        """What is true of the objects, row by row, see :mod:`ztf_sg.simulation.population`."""
        return self._population[1]

    @cached_property
    def _population(self):
        if not self._path:
            return simulate_population(self.seed)
        try:
            with fits.open(self._path) as hdus:
                truth = Table(hdus["TRUTH"].data)
        except KeyError:
            raise ValueError(
                f"{self._path.name} has no table TRUTH to draw its objects from; "
                "make such a file with ztf_sg.simulation.write_catalogue(path)"
            ) from None
        truth.convert_bytestring_to_unicode()
        return read_sweep(self._path, columns=None), truth.to_pandas()

    def query_region(self, ra, dec, limits=None, max_fracflux=None):
        """Return the catalogued objects of a rectangle on the sky, as `LegacySurvey.query_region` does.

        Parameters
        ----------
        ra, dec, limits, max_fracflux
            The region and the limits, see `ztf_sg.services.tractor.Cuts`.

        Returns
        -------
        pandas.DataFrame
            Rows of :attr:`catalogue`.

        Raises
        ------
        ValueError
            The bounds or limits make no sense.
        NothingFound
            There is no such object.
        """
        table = self.catalogue
        keep = Cuts(ra, dec, limits, max_fracflux).passes(table)
        if not keep.any():
            raise NothingFound(
                f"the mock sky has nothing at RA {ra}, DEC {dec}; it is at RA {RA_RANGE}, DEC {DEC_RANGE} deg"
            )
        return table[keep].reset_index(drop=True)

    def search_images(self, ra, dec, size, filtercode="zi", max_seeing=1.85, max_infobits=0):
        """Return the metadata of the images that overlap a patch of sky.

        Parameters
        ----------
        ra, dec : float
            Centre of the patch [deg, ICRS].
        size : float
            Full width of the patch [deg].
        filtercode : str
            ZTF filter; the mock sky has only "zi".
        max_seeing : float
            Images must be sharper than this [arcsec, FWHM].
        max_infobits : int
            Largest value of the quality flags; all images have 0.

        Returns
        -------
        pandas.DataFrame
            One row an image, with the columns of IRSA's ZTF metadata.

        Raises
        ------
        NothingFound
            If there is no such image.
        """
        images = self.exposures
        reach_x, reach_y = (size / 2 + side * PIXEL_SCALE / 7200 for side in QUADRANT)
        keep = (
            (np.abs(images["ra"] - ra) * np.cos(np.radians(dec)) < reach_x)
            & (np.abs(images["dec"] - dec) < reach_y)
            & (images["filtercode"] == filtercode)
            & (images["seeing"] < max_seeing)
            & (images["infobits"] <= max_infobits)
        )
        if not keep.any():
            raise NothingFound(
                f"the mock sky has no {filtercode} image with seeing < {max_seeing} arcsec "
                f"within {size} deg of RA {ra:.5f}, DEC {dec:.5f}"
            )
        return images.loc[keep, METADATA_COLUMNS].reset_index(drop=True)

    def get_cutout(self, image, ra, dec, size=20):
        """Return a simulated cutout as the bytes of a FITS file.

        Parameters
        ----------
        image : pandas.Series
            A row of :meth:`search_images`.
        ra, dec : float
            Where to cut [deg, ICRS].
        size : float
            Width of the cutout [arcsec].

        Returns
        -------
        bytes

        Raises
        ------
        NothingFound
            If the position lies off the image, or the image is not one of this sky.
        """
        exposure = self._exposure(image)
        wcs = image_wcs(exposure)
        x, y = (float(v) for v in wcs.wcs_world2pix(ra, dec, 0))
        (x0, x1), (y0, y1) = (
            _pixel_range(v, size, length) for v, length in zip((x, y), QUADRANT, strict=True)
        )
        if x1 <= x0 or y1 <= y0:
            raise NothingFound(f"RA {ra:.5f}, DEC {dec:.5f} lies off image {image_name(image)}")
        shape = (y1 - y0, x1 - x0)
        light = self._draw(exposure, wcs, (x, y), (x0, y0), shape)
        sky = sky_level(exposure, (x0, y0), shape)
        noise_seed = [self.seed, int(exposure["filefracday"]), int(exposure["rcid"]), x0, y0]
        pixels = expose(light, sky, exposure, np.random.default_rng(noise_seed))
        key = image_name(exposure), shape
        if key not in self._headers:
            self._headers[key] = fits.PrimaryHDU(pixels, _image_header(exposure)).header
        return _fits_bytes(pixels, self._headers[key], (x0, y0))

    def scene(self, name, ra, dec, size=20):
        """Return what a cutout was made from.

        Parameters
        ----------
        name : str
            File name of the image.
        ra, dec : float
            Of an object of the catalogue [deg, ICRS].
        size : float
            Width of the cutout [arcsec].

        Returns
        -------
        Scene
        """
        exposure = self._exposures_by_name[name]
        objects, tree = self._objects
        target = objects[tree.query(plane(ra, dec))[1]]
        wcs = image_wcs(exposure)
        centre = tuple(float(v) for v in wcs.wcs_world2pix(ra, dec, 0))
        (x0, side), (y0, _) = (first_pixel(v, size) for v in centre)
        shape = (side, side)
        stamp = partial(galsim.ImageD, side, side, xmin=x0, ymin=y0, scale=1.0)
        middle = place(target, exposure, wcs)

        def draw(row):
            image = stamp()
            add_light(image, row, exposure, *middle)
            return image.array

        neighbours = self._draw(exposure, wcs, centre, (x0, y0), shape) - draw(target)
        return Scene(target, exposure, sky_level(exposure, (x0, y0), shape), neighbours, draw)

    def check_positions(self, positions):
        """Raise a ValueError unless there is an object at every position: empty sky is no labelled star.

        Parameters
        ----------
        positions : pandas.DataFrame
            Columns RA and DEC [deg, ICRS].
        """
        distance = self._objects[1].query(plane(positions["RA"], positions["DEC"]))[0] * 3600
        missing = int(np.sum(distance > MATCH_RADIUS))
        if missing:
            raise ValueError(
                f"{self} has no object at {missing} of {len(positions)} positions; "
                "run notebook 1 with the same service first"
            )

    def crossmatch_gaia(self, positions, radius=1 * u.arcsec):
        """Add the nearest simulated Gaia source to each position, as `gaia.crossmatch_gaia` does.

        Parameters
        ----------
        positions : pandas.DataFrame
            n rows with RA and DEC [deg, ICRS]; other columns are kept.
        radius : astropy.units.Quantity or float
            Largest separation, at most 180 arcsec; a plain number is in arcsec.

        Returns
        -------
        pandas.DataFrame
            The n rows in the same order, with the columns of `gaia.crossmatch_gaia`, missing where no source
            is within `radius`.
        """
        radius = check_match(positions, radius).value
        sources = self.gaia_sources
        tree = cKDTree(plane(sources["RA"], sources["DEC"]) * 3600)
        places = plane(positions["RA"], positions["DEC"]).reshape(-1, 2) * 3600
        separation, nearest = tree.query(places, distance_upper_bound=radius)
        rows = np.flatnonzero(np.isfinite(separation))
        matches = sources.iloc[nearest[rows]].assign(separation=separation[rows]).set_index(rows)
        matched = add_matches(positions, matches[list(GAIA_COLUMNS)])
        matched.attrs["queries"] = []
        return matched

    @cached_property
    def gaia_sources(self):
        """All simulated Gaia sources: RA, DEC [deg] and the columns of `gaia.crossmatch_gaia`."""
        return simulate_gaia(self.objects, self.seed)

    @cached_property
    def exposures(self):
        """All made-up images: IRSA's metadata columns and the physics behind them."""
        return simulate_exposures(self.seed)

    @cached_property
    def objects(self):
        """Catalogue and truth side by side."""
        return pd.concat([self.catalogue, self.truth[list(TRUTH_COLUMNS)]], axis=1)

    @cached_property
    def _objects(self):
        """Objects with light, row by row, and a tree of their places on a tangent plane [deg]."""
        table = self.objects[self.objects["FLUX_I"] > 0]
        return list(table.itertuples()), cKDTree(plane(table["RA"], table["DEC"]))

    @cached_property
    def _exposures_by_name(self):
        return {image_name(row): row for _, row in self.exposures.iterrows()}

    def _exposure(self, image):
        name = image_name(image)
        if name not in self._exposures_by_name:
            raise NothingFound(f"image {name} is not one of the mock sky with seed {self.seed}")
        return self._exposures_by_name[name]

    def _draw(self, exposure, wcs, centre, origin, shape):
        """Return the noiseless light [DN] of all objects in and around a stamp, without sky."""
        objects, tree = self._objects
        stamp = galsim.ImageD(shape[1], shape[0], xmin=origin[0], ymin=origin[1], scale=1.0)
        nearby = tree.query_ball_point(plane(*wcs.wcs_pix2world(*centre, 0)), SEARCH_RADIUS / 3600)
        for row in (objects[number] for number in sorted(nearby)):
            x, y = place(row, exposure, wcs)
            if max(abs(x - centre[0]), abs(y - centre[1])) < reach(row, exposure) + max(shape) / 2:
                add_light(stamp, row, exposure, x, y)
        return stamp.array


def write_catalogue(path, seed=0):
    """Write the simulated catalogue as a FITS table that says so, and the truth as a second one.

    Parameters
    ----------
    path : path-like
        Compressed if it ends in ``.gz``.
    seed : int
    """
    catalogue, truth = (Table.from_pandas(table) for table in simulate_population(seed))
    for table in (catalogue, truth):
        table.meta.update(ORIGIN=ORIGIN, SEED=seed)
    hdus = fits.HDUList(
        [fits.PrimaryHDU(), fits.BinTableHDU(catalogue), fits.BinTableHDU(truth, name="TRUTH")]
    )
    with atomic_write(path) as file:
        if Path(path).suffix == ".gz":
            with GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed:
                hdus.writeto(packed)
        else:
            hdus.writeto(file)


def _pixel_range(position, size, length):
    """Return first and past-the-end pixel of a cutout on one axis; some have one more at their beginning."""
    first, width = first_pixel(position, size)
    past = first + width
    if first_pixel(position - EXTRA_PIXEL_SHARE, size)[0] < first:
        first -= 1
    return max(first, 0), min(past, length)


def _image_header(exposure):
    """Return the header of an image."""
    header = fits.Header()
    header["ORIGIN"] = (ORIGIN, "not an observation")
    header["FILENAME"] = (image_name(exposure), "source image")
    header["FILTER"] = ("ZTF_i", "filter")
    header["OBSMJD"] = (round(exposure["mjd"], 7), "start of exposure [d]")
    header["EXPTIME"] = (EXPTIME, "exposure time [s]")
    header["AIRMASS"] = (exposure["airmass"], "airmass")
    header["GAIN"] = (GAIN, "gain [e-/DN]")
    header["READNOI"] = (READ_NOISE, "read noise [e-]")
    header["SATURATE"] = (round(exposure["saturate"], 3), "saturation level [DN]")
    header["SEEING"] = (round(exposure["seeing_px"], 3), "seeing FWHM [px]")
    header["MAGZP"] = (round(exposure["magzp"], 6), "zero point for PSF photometry [mag]")
    header["MAGLIM"] = (exposure["maglimit"], "5-sigma limit [mag]")
    corrections = zip(APERTURES, aperture_corrections(exposure), strict=True)
    for number, (diameter, correction) in enumerate(corrections, start=1):
        header[f"APCOR{number}"] = (round(correction, 6), f"PSF_mag - AP_mag for AP.diam={diameter} px [mag]")
    wcs = image_wcs(exposure)
    for key in ("CTYPE1", "CTYPE2", "CRPIX1", "CRPIX2", "CRVAL1", "CRVAL2"):
        name, axis = key[:-1].lower(), int(key[-1]) - 1
        header[key] = getattr(wcs.wcs, name)[axis]
    for i in (1, 2):
        for j in (1, 2):
            header[f"CD{i}_{j}"] = wcs.wcs.cd[i - 1, j - 1]
    header["RADESYS"] = "ICRS"
    return header


def _fits_bytes(pixels, header, origin):
    """Return the FITS file of a cutout that starts at pixel ``origin`` of its image."""
    header = header.copy()
    for axis, first in enumerate(origin, start=1):
        header[f"CRPIX{axis}"] -= first
    content = pixels.astype(">f4").tobytes()
    return header.tostring().encode("ascii") + content + bytes(-len(content) % FITS_BLOCK)
