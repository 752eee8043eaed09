"""The simulated survey, with the methods of the live services; all that it makes says so in `ORIGIN`."""

from functools import cached_property
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
from ztf_sg.positions import checked_positions
from ztf_sg.services import NothingFound
from ztf_sg.services.gaia import COLUMNS as GAIA_COLUMNS
from ztf_sg.services.gaia import add_matches, check_match
from ztf_sg.services.sweeps import read_sweep
from ztf_sg.services.tractor import Cuts
from ztf_sg.simulation.detector import expose, sky_level
from ztf_sg.simulation.drawing import add_light, light_radius, pixel_position
from ztf_sg.simulation.exposures import METADATA_COLUMNS, simulate_exposures
from ztf_sg.simulation.gaia import simulate_gaia
from ztf_sg.simulation.parameters import DEC_RANGE, EXPTIME, GAIN, RA_RANGE
from ztf_sg.simulation.population import TRUTH_COLUMNS, plane_coordinates, simulate_population
from ztf_sg.simulation.psf import aperture_corrections
from ztf_sg.ztf import (
    APERTURES,
    CUTOUT_SIZE,
    FILTERCODES,
    FITS_BLOCK,
    MAX_SEEING,
    PIXEL_SCALE,
    QUADRANT,
    READ_NOISE,
    check_filtercode,
    first_pixel,
    image_name,
    image_wcs,
)

ORIGIN = "ztf_sg mock sky (simulated)"
BUNDLED_CATALOGUE = Path(__file__).parents[2] / "data" / "mock_sweep.fits.gz"

SEARCH_RADIUS = 45  # objects farther away than this do not shine into a cutout [arcsec]
MATCH_RADIUS = 1  # a position nearer to an object than this is that of the object [arcsec]
EXTRA_PIXEL_SHARE = 0.02  # share of the cutouts that start with one more row, or column


class MockSky:
    """A simulated Legacy Survey catalogue, and simulated ZTF images and Gaia sources of its objects.

    It takes the place of :class:`ztf_sg.services.legacy_survey.LegacySurvey`,
    :class:`ztf_sg.services.irsa.Irsa` and :func:`ztf_sg.services.gaia.crossmatch_gaia`, with the same
    parameters, results and errors. Its images are in g, r and i, and none has a quality flag.

    Parameters
    ----------
    seed : int
        Seed of objects, exposures and noise. In a checkout, the objects of seed 0 are read from
        ``data/mock_sweep.fits.gz``.
    """

    origin = ORIGIN

    def __init__(self, seed=0):
        self.seed = seed
        self._headers = {}

    def __reduce__(self):
        """Let other processes simulate the sky anew, which is less than what it keeps."""
        return type(self), (self.seed,)

    def __repr__(self):
        return f"MockSky(seed={self.seed})"

    @cached_property
    def catalogue(self):
        """All objects: a DataFrame with the columns of a sweep file."""
        return self._population[0]

    @cached_property
    def truth(self):
        """The truth about the objects, row by row, see :mod:`ztf_sg.simulation.population`."""
        return self._population[1]

    @cached_property
    def _population(self):
        if self.seed or not BUNDLED_CATALOGUE.exists():
            return simulate_population(self.seed)
        truth = Table.read(BUNDLED_CATALOGUE, hdu="TRUTH")
        truth.convert_bytestring_to_unicode()
        return read_sweep(BUNDLED_CATALOGUE, columns=None), truth.to_pandas()

    def query_region(self, ra, dec, limits=None, max_fracflux=None):
        """Return the objects of a region, rows of `catalogue`; as ``LegacySurvey.query_region``."""
        table = self.catalogue
        keep = Cuts(ra, dec, limits, max_fracflux).passes(table)
        if not keep.any():
            raise NothingFound(
                f"the mock sky has nothing at RA {ra}, DEC {dec}; it is at RA {RA_RANGE}, DEC {DEC_RANGE} deg"
            )
        return table[keep].reset_index(drop=True)

    def search_images(self, ra, dec, size, filtercode="zi", max_seeing=MAX_SEEING, max_infobits=0):
        """Return the metadata of the images that overlap a patch of sky; as ``Irsa.search_images``."""
        check_filtercode(filtercode)
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

    def get_cutout(self, image, ra, dec, size=CUTOUT_SIZE):
        """Return a simulated cutout as the bytes of a FITS file; parameters as of ``Irsa.get_cutout``.

        Raises
        ------
        NothingFound
            If the position lies off the image, or the image is not one of this sky.
        """
        exposure = self.exposure(image_name(image))
        wcs = image_wcs(exposure)
        x, y = (float(v) for v in wcs.wcs_world2pix(ra, dec, 0))
        (x0, x1), (y0, y1) = (
            _pixel_range(v, size, length) for v, length in zip((x, y), QUADRANT, strict=True)
        )
        if x1 <= x0 or y1 <= y0:
            raise NothingFound(f"RA {ra:.5f}, DEC {dec:.5f} lies off image {image_name(image)}")
        shape = (y1 - y0, x1 - x0)
        light = self.draw(exposure, wcs, (x, y), (x0, y0), shape)
        sky = sky_level(exposure, (x0, y0), shape)
        noise_seed = [self.seed, int(exposure["filefracday"]), int(exposure["rcid"]), x0, y0]
        pixels = expose(light, sky, exposure, np.random.default_rng(noise_seed))
        key = image_name(exposure), shape
        if key not in self._headers:
            self._headers[key] = fits.PrimaryHDU(pixels, image_header(exposure)).header
        return _fits_bytes(pixels, self._headers[key], (x0, y0))

    def check_positions(self, positions):
        """Raise a ValueError if there is no object at one of n positions, RA and DEC [deg, ICRS].

        A cutout of empty sky would be labelled a star or a galaxy.
        """
        asked = checked_positions(positions)
        distance = self._objects[1].query(plane_coordinates(asked["RA"], asked["DEC"]))[0] * 3600
        missing = int(np.sum(distance > MATCH_RADIUS))
        if missing:
            raise ValueError(
                f"{self} has no object at {missing} of {len(asked)} positions; "
                "run notebook 1 with the same service first"
            )

    def crossmatch_gaia(self, positions, radius=1 * u.arcsec):
        """Add the nearest simulated Gaia source to each position; as ``gaia.crossmatch_gaia``."""
        positions, asked, radius = check_match(positions, radius)
        sources = self.gaia_sources
        tree = cKDTree(plane_coordinates(sources["RA"], sources["DEC"]) * 3600)
        points = plane_coordinates(asked["RA"], asked["DEC"]) * 3600
        separation, nearest = tree.query(points, distance_upper_bound=radius.value)
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
        """All images, those in i first: IRSA's metadata columns, and what the pixels are drawn from."""
        bands = (simulate_exposures(self.seed, filtercode) for filtercode in reversed(FILTERCODES))
        return pd.concat(bands, ignore_index=True)

    @cached_property
    def objects(self):
        """The objects: catalogue and truth side by side."""
        return pd.concat([self.catalogue, self.truth[list(TRUTH_COLUMNS)]], axis=1)

    @cached_property
    def _objects(self):
        """The objects that shine, row by row, and a tree of their positions on a plane [deg]."""
        table = self.objects[self.objects["FLUX_I"] > 0]
        return list(table.itertuples()), cKDTree(plane_coordinates(table["RA"], table["DEC"]))

    @cached_property
    def _exposures_by_name(self):
        return {image_name(row): row for _, row in self.exposures.iterrows()}

    def exposure(self, name):
        """Return the row of `exposures` with the file name of an image, or raise NothingFound."""
        if name not in self._exposures_by_name:
            raise NothingFound(f"image {name} is not one of the mock sky with seed {self.seed}")
        return self._exposures_by_name[name]

    def nearest_object(self, ra, dec):
        """Return the row of `objects` that shines nearest to a position [deg, ICRS], as a named tuple."""
        objects, tree = self._objects
        return objects[tree.query(plane_coordinates(ra, dec))[1]]

    def draw(self, exposure, wcs, centre, origin, shape):
        """Return the light of all objects in a stamp [DN], without sky and noise, (height, width).

        Parameters
        ----------
        exposure, wcs : pandas.Series, astropy.wcs.WCS
            Row of `exposures`, and WCS of its image.
        centre : tuple of float
            Position around which objects are looked for (x, y) [px, from 0].
        origin, shape : tuple of int
            First pixel of the stamp on the image (x, y), and shape of the stamp (height, width).
        """
        objects, tree = self._objects
        stamp = galsim.ImageD(shape[1], shape[0], xmin=origin[0], ymin=origin[1], scale=1.0)
        middle = plane_coordinates(*wcs.wcs_pix2world(*centre, 0))
        for row in (objects[i] for i in sorted(tree.query_ball_point(middle, SEARCH_RADIUS / 3600))):
            x, y = pixel_position(row, exposure, wcs)
            if max(abs(x - centre[0]), abs(y - centre[1])) < light_radius(row, exposure) + max(shape) / 2:
                add_light(stamp, row, exposure, x, y)
        return stamp.array


def write_catalogue(path):
    """Write the catalogue of seed 0, and its truth as a second table, to a compressed FITS file.

    Parameters
    ----------
    path : path-like
        Its name should end in ``.fits.gz``.
    """
    catalogue, truth = (Table.from_pandas(table) for table in simulate_population())
    for table in (catalogue, truth):
        table.meta.update(ORIGIN=ORIGIN, SEED=0)
    hdus = [fits.PrimaryHDU(), fits.BinTableHDU(catalogue), fits.BinTableHDU(truth, name="TRUTH")]
    with atomic_write(path) as file, GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed:
        fits.HDUList(hdus).writeto(packed)


def _pixel_range(position, size, length):
    """Return the first pixel of a cutout on one axis, perhaps an extra one, and the pixel after its last."""
    first, width = first_pixel(position, size)
    extra = first_pixel(position - EXTRA_PIXEL_SHARE, size)[0] < first
    return max(first - extra, 0), min(first + width, length)


def image_header(exposure):
    """Return the header of an image."""
    header = fits.Header()
    header["ORIGIN"] = (ORIGIN, "not an observation")
    header["FILENAME"] = (image_name(exposure), "source image")
    header["FILTER"] = (f"ZTF_{exposure['filtercode'][1]}", "filter")
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
    wcs = image_wcs(exposure).wcs
    for name in ("ctype", "crpix", "crval"):
        for axis, value in enumerate(getattr(wcs, name), start=1):
            header[f"{name}{axis}"] = value
    for (i, j), value in np.ndenumerate(wcs.cd):
        header[f"CD{i + 1}_{j + 1}"] = value
    header["RADESYS"] = "ICRS"
    return header


def _fits_bytes(pixels, header, origin):
    """Return the FITS file of a cutout whose first pixel on its image is `origin`."""
    header = header.copy()
    for axis, first in enumerate(origin, start=1):
        header[f"CRPIX{axis}"] -= first
    content = pixels.astype(">f4").tobytes()
    return header.tostring().encode("ascii") + content + bytes(-len(content) % FITS_BLOCK)
