"""A simulated survey with the face of the live services: catalogue, image search and cutouts, offline.

Stars and galaxies of the catalogue are drawn with GalSim on made-up ZTF exposures. Whatever it makes
says so: the ``ORIGIN`` of every cutout is :data:`ORIGIN`.

Run ``python -m ztf_sg.services.mock_sky FILE`` to write the catalogue as a sweep-like FITS table.
"""

import sys
from functools import cached_property, lru_cache
from io import BytesIO
from pathlib import Path

import astropy.units as u
import galsim
import numpy as np
import pandas as pd
from astropy.io import fits
from astropy.table import Table
from astropy.time import Time
from scipy.spatial import cKDTree

from ztf_sg.services.errors import NothingFound
from ztf_sg.services.gaia import COLUMNS as GAIA_COLUMNS
from ztf_sg.services.gaia import add_matches, check_match
from ztf_sg.services.irsa import PIXEL_SCALE, QUADRANT, first_pixel, image_name, image_wcs
from ztf_sg.services.legacy_survey import passes
from ztf_sg.services.mock_gaia import simulate_gaia
from ztf_sg.services.sweeps import read_sweep

ORIGIN = "ztf_sg mock sky (simulated)"
BUNDLED_CATALOGUE = Path(__file__).parents[2] / "data" / "mock_sweep.fits"

# Sky area [deg], a corner of a sweep that reaches over the edge of the reference region.
RA_RANGE, DEC_RANGE = (4.8, 6.8), (-1.9, 0.1)

# Population: objects per square degree, ZTF i-band range [mag, AB] and slope of log10 counts.
STARS = {"density": 2600, "bright": 12.5, "faint": 21.0, "slope": 0.15}
GALAXIES = {"density": 4200, "bright": 15.0, "faint": 21.0, "slope": 0.45}
COMPANION_FRACTION = 0.05  # share of objects with a physical companion within 6 arcsec
GROUPED_FRACTION = 0.2  # share of galaxies that live in groups of 2 arcmin radius
DUPLICATE_FRACTION = 0.002  # share of rows of type DUP
UNOBSERVED_FRACTION = 0.01  # share of rows without an image in one band (flux 0)

# ZTF camera and images.
GAIN, READ_NOISE, EXPTIME = 6.2, 10.0, 30.0  # [e-/DN], [e-], [s]
NOISE_EXCESS = 1.07  # measured sky noise over sqrt(sky / gain + (read noise / gain)^2)
FULL_WELL = 1.25  # where saturated pixels level off, in units of SATURATE
FIELDS = {8001: (5.35, -1.35), 8002: (6.25, -0.45)}  # made-up field numbers and centres [deg]
NIGHTS = 10

# PSF: a Moffat profile convolved with the pixel, whose numbers reproduce the mean relation of the
# APCOR1..6 of real ZTF headers with SEEING: see benchmarks/aperture_corrections.py.
PSF_BETA = 2.38
PSF_FWHM_OVER_SEEING, PSF_FWHM_SCATTER = 0.878, 0.03
PSF_MAG_DIAMETER = 13.5  # a PSF magnitude counts the light inside this aperture [px]
APERTURES = (2, 3, 4, 6, 10, 14)  # diameters of APCOR1..6 [px]

# What IRSA's metadata tells of an image.
METADATA_COLUMNS = (
    "ra dec infobits field ccdid qid rcid fid filtercode pid nid expid itid imgtype imgtypecode obsdate "
    "obsjd exptime filefracday seeing airmass moonillf moonesb maglimit crpix1 crpix2 crval1 crval2 "
    "cd11 cd12 cd21 cd22 ra1 dec1 ra2 dec2 ra3 dec3 ra4 dec4 ipac_gid meta_id"
).split()

MATCH_RADIUS = 1  # a position is that of an object if it is this near [arcsec]
EXTRA_PIXEL_SHARE = 0.02  # share of cutouts with one more row, or column, at their beginning


class MockSky:
    """A simulated Legacy Survey catalogue and simulated ZTF images of its objects.

    Parameters
    ----------
    catalogue : path-like, optional
        Sweep-like FITS table. Left out, it is the bundled ``data/mock_sweep.fits`` where the package
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

    def __repr__(self):
        return f"MockSky(catalogue={str(self._path.name) if self._path else None!r}, seed={self.seed})"

    @cached_property
    def catalogue(self):
        """All objects: a DataFrame with the columns of a sweep file."""
        return read_sweep(self._path, columns=None) if self._path else simulate_catalogue(self.seed)

    def query_region(self, ra, dec, limits=None, max_fracflux=None):
        """Return the catalogued objects of a region, as a live catalogue service does.

        Parameters
        ----------
        ra, dec : tuple of float
            Least and greatest right ascension and declination [deg, ICRS].
        limits : dict of str to float, optional
            Faintest magnitude [AB] by band g, r, z.
        max_fracflux : float, optional
            Largest share of a neighbour's light, in each of g, r and z.

        Returns
        -------
        pandas.DataFrame
            Rows of :attr:`catalogue`.

        Raises
        ------
        NothingFound
            If no object is left.
        """
        table = self.catalogue
        keep = passes(table, limits, max_fracflux, ra, dec)
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

    def get_cutout(self, image, ra, dec, size=20, read=bytes):
        """Return a simulated cutout as the bytes of a FITS file.

        Parameters
        ----------
        image : pandas.Series
            A row of :meth:`search_images`.
        ra, dec : float
            Where to cut [deg, ICRS].
        size : float
            Width of the cutout [arcsec].
        read : callable
            Makes something of the bytes.

        Returns
        -------
        bytes
            Or what `read` makes of them.

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
        light = self._draw(exposure, wcs, (x, y), (x0, y0), (y1 - y0, x1 - x0))
        noise_seed = [self.seed, int(exposure["filefracday"]), int(exposure["rcid"]), x0, y0]
        pixels = add_noise(light, exposure, np.random.default_rng(noise_seed))
        return read(_fits_bytes(pixels, _header(exposure, (x0, y0))))

    def check_positions(self, positions):
        """Raise a ValueError unless there is an object at every position: empty sky is no labelled star.

        Parameters
        ----------
        positions : pandas.DataFrame
            Columns RA and DEC [deg, ICRS].
        """
        distance = self._objects[1].query(_plane(positions["RA"], positions["DEC"]))[0] * 3600
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
        tree = cKDTree(_plane(sources["RA"], sources["DEC"]) * 3600)
        places = _plane(positions["RA"], positions["DEC"]).reshape(-1, 2) * 3600
        separation, nearest = tree.query(places, distance_upper_bound=radius)
        rows = np.flatnonzero(np.isfinite(separation))
        matches = sources.iloc[nearest[rows]].assign(separation=separation[rows]).set_index(rows)
        matched = add_matches(positions, matches[list(GAIA_COLUMNS)])
        matched.attrs["queries"] = []
        return matched

    @cached_property
    def gaia_sources(self):
        """All simulated Gaia sources: RA, DEC [deg] and the columns of `gaia.crossmatch_gaia`."""
        return simulate_gaia(self.catalogue, self.seed)

    @cached_property
    def exposures(self):
        """All made-up images: IRSA's metadata columns and the physics behind them."""
        return simulate_exposures(self.seed)

    @cached_property
    def _objects(self):
        """Objects with light, and a tree of their places on a tangent plane [deg]."""
        table = self.catalogue[self.catalogue["FLUX_I"] > 0].reset_index(drop=True)
        return table, cKDTree(_plane(table["RA"], table["DEC"]))

    def _exposure(self, image):
        rows = self.exposures
        match = rows[
            (rows["filefracday"] == int(image["filefracday"])) & (rows["rcid"] == int(image["rcid"]))
        ]
        if match.empty:
            raise NothingFound(f"image {image_name(image)} is not one of the mock sky with seed {self.seed}")
        return match.iloc[0]

    def _draw(self, exposure, wcs, centre, origin, shape):
        """Return the noiseless light [DN] of all objects in and around a stamp, without sky."""
        table, tree = self._objects
        stamp = galsim.ImageD(shape[1], shape[0], xmin=origin[0], ymin=origin[1], scale=1.0)
        sky_position = wcs.wcs_pix2world(*centre, 0)
        nearby = tree.query_ball_point(_plane(*sky_position), 45 * PIXEL_SCALE / 3600)
        for row in table.iloc[sorted(nearby)].itertuples():
            x, y = (float(v) for v in wcs.wcs_world2pix(row.RA, row.DEC, 0))
            magnitude = 22.5 - 2.5 * np.log10(row.FLUX_I)
            reach = 12 + 7 * max(0.0, 18 - magnitude) + max(shape) / 2
            if max(abs(x - centre[0]), abs(y - centre[1])) < reach:
                profile = object_profile(row, exposure)
                profile.drawImage(stamp, center=(x, y), add_to_image=True)
        return stamp.array


def object_profile(row, exposure):
    """Return the GalSim profile [DN, px] of a catalogued object as an exposure's PSF shows it.

    Parameters
    ----------
    row : named tuple
        Object with FLUX_I [nanomaggies], TYPE, SHAPE_R [arcsec], SHAPE_E1, SHAPE_E2 and SERSIC.
    exposure : pandas.Series
        Row of :attr:`MockSky.exposures`.

    Notes
    -----
    Tractor's ellipticity components have position angles from north over east. On the detector, x
    grows to the west and y to the south, so that g1 = -e1 and g2 = e2.
    """
    psf_counts = 10 ** (0.4 * (exposure["magzp"] - 22.5)) * row.FLUX_I
    counts = psf_counts / encircled_energy(exposure["psf_fwhm"])[-1]
    psf = galsim.Moffat(beta=PSF_BETA, fwhm=exposure["psf_fwhm"])
    if row.TYPE == "PSF":
        return psf.withFlux(counts)
    galaxy = galsim.Sersic(n=row.SERSIC, half_light_radius=max(row.SHAPE_R / PIXEL_SCALE, 0.05), flux=counts)
    return galsim.Convolve(galaxy.shear(g1=-row.SHAPE_E1, g2=row.SHAPE_E2), psf)


def add_noise(light, exposure, rng):
    """Return an image as the detector records it: sky, photon and read noise, saturation.

    Parameters
    ----------
    light : numpy.ndarray
        Noiseless counts of the objects [DN], shape (height, width).
    exposure : pandas.Series
        With background [DN] and saturate [DN].
    rng : numpy.random.Generator

    Returns
    -------
    numpy.ndarray
        Counts [DN], float32, same shape.
    """
    expected = np.maximum(light, 0) + exposure["background"]
    full_well = FULL_WELL * exposure["saturate"]
    expected = _bleed(expected, full_well)
    variance = expected / GAIN + (READ_NOISE / GAIN) ** 2
    counts = rng.poisson(expected * GAIN) / GAIN + rng.normal(0, READ_NOISE / GAIN, light.shape)
    counts += rng.normal(0, np.sqrt((NOISE_EXCESS**2 - 1) * variance))
    return np.minimum(counts, full_well).astype(np.float32)


@lru_cache(maxsize=4096)
def encircled_energy(fwhm):
    """Return the share of a star's light inside the APCOR apertures and the PSF-magnitude aperture.

    Parameters
    ----------
    fwhm : float
        Width of the Moffat profile before the pixel [px].

    Returns
    -------
    tuple of float
        Shares at the diameters of :data:`APERTURES`, then at :data:`PSF_MAG_DIAMETER`.
    """
    scale, side = 0.1, 201
    profile = galsim.Convolve(galsim.Moffat(beta=PSF_BETA, fwhm=fwhm), galsim.Pixel(1.0))
    image = profile.drawImage(nx=side, ny=side, scale=scale, method="no_pixel").array
    y, x = (np.indices(image.shape) - side // 2) * scale
    radius = np.hypot(x, y)
    return tuple(float(image[radius < d / 2].sum()) for d in (*APERTURES, PSF_MAG_DIAMETER))


def simulate_exposures(seed=0):
    """Return made-up ZTF exposures, one row an image quadrant.

    Parameters
    ----------
    seed : int

    Returns
    -------
    pandas.DataFrame
        :data:`METADATA_COLUMNS` of IRSA, and background [DN], magzp [mag], saturate [DN],
        seeing_px and psf_fwhm [px].
    """
    rng = np.random.default_rng([seed, 2])
    rows = []
    for night in range(NIGHTS):
        conditions = {
            "seeing_px": np.clip(rng.normal(1.66, 0.13), 1.40, 1.95),
            "background": 300 * np.exp(rng.normal(0, 0.4)),
            "magzp": rng.normal(25.57, 0.08),
            "airmass": rng.uniform(1.23, 1.45),
            "moonillf": round(rng.uniform(-1, 1), 4),
        }
        for number, (field, centre) in enumerate(FIELDS.items()):
            mjd = 58380.0 + 41 * night + rng.uniform(0.15, 0.45) + 0.002 * number
            pointing = np.array(centre) + rng.normal(0, 0.004, 2)
            exposure = {"expid": 1000 * night + number, "field": field, "mjd": mjd, **conditions}
            rows += [_quadrant(exposure, pointing, rcid, rng) for rcid in range(64)]
    table = pd.DataFrame(rows)
    near = table["ra"].between(RA_RANGE[0] - 0.5, RA_RANGE[1] + 0.5) & table["dec"].between(
        DEC_RANGE[0] - 0.5, DEC_RANGE[1] + 0.5
    )
    return table[near].reset_index(drop=True)


def simulate_catalogue(seed=0):
    """Return a simulated catalogue with the columns of a Legacy Survey sweep file.

    Parameters
    ----------
    seed : int

    Returns
    -------
    pandas.DataFrame
        OBJID, TYPE, RA and DEC [deg], FLUX_G, R, I, Z [nanomaggies], FRACFLUX_G, R, Z,
        SHAPE_R [arcsec], SHAPE_E1, SHAPE_E2 and SERSIC.
    """
    rng = np.random.default_rng([seed, 1])
    table = pd.concat([_simulate_stars(rng), _simulate_galaxies(rng)], ignore_index=True)
    table = table.iloc[rng.permutation(len(table))].reset_index(drop=True)
    for band in "GRZ":
        table[f"FRACFLUX_{band}"] = _fracflux(table, f"FLUX_{band}")
    table = _spoil(table, rng)
    table.insert(0, "OBJID", np.arange(len(table), dtype=np.int32))
    singles = table.select_dtypes("float64").columns.difference(["RA", "DEC"])
    return table.astype(dict.fromkeys(singles, np.float32))


def write_catalogue(path, seed=0):
    """Write the simulated catalogue as a FITS table that says it is simulated."""
    table = Table.from_pandas(simulate_catalogue(seed))
    table.meta.update(ORIGIN=ORIGIN, SEED=seed)
    table.write(path, format="fits", overwrite=True)


def _quadrant(exposure, pointing, rcid, rng):
    """Return the metadata and physics of one of the 64 readout quadrants of an exposure."""
    ccdid, qid = rcid // 4 + 1, rcid % 4 + 1
    column, row = (ccdid - 1) % 4, (ccdid - 1) // 4
    east = (1.5 - column) * 1.92 + (0.434 if qid in (2, 3) else -0.434)
    north = (row - 1.5) * 1.88 + (0.434 if qid in (1, 2) else -0.434)
    dec = pointing[1] + north
    ra = pointing[0] + east / np.cos(np.radians(dec))
    seeing = exposure["seeing_px"] * rng.normal(1, 0.02)
    background = exposure["background"] * rng.normal(1, 0.03)
    psf_fwhm = PSF_FWHM_OVER_SEEING * seeing * rng.normal(1, PSF_FWHM_SCATTER)
    magzp = exposure["magzp"] + rng.normal(0, 0.03)
    angle = np.radians(rng.normal(0, 0.05))
    scale = PIXEL_SCALE / 3600
    time = Time(exposure["mjd"], format="mjd")
    fraction = int(round(exposure["mjd"] % 1 * 1e6))
    return {
        **_corners(ra, dec),
        "ra": ra, "dec": dec, "infobits": 0, "field": exposure["field"], "ccdid": ccdid, "qid": qid,
        "rcid": rcid, "fid": 3, "filtercode": "zi", "pid": exposure["expid"] * 100 + rcid,
        "nid": int(exposure["mjd"]) - 57754, "expid": exposure["expid"], "itid": 1, "imgtype": "object",
        "imgtypecode": "o", "obsdate": time.iso + "+00", "obsjd": time.jd, "exptime": EXPTIME,
        "filefracday": int(time.strftime("%Y%m%d")) * 10**6 + fraction,
        "seeing": round(seeing * PIXEL_SCALE, 4), "airmass": round(exposure["airmass"], 3),
        "moonillf": exposure["moonillf"], "moonesb": 0.0,
        "maglimit": round(_limiting_magnitude(psf_fwhm, background, magzp), 4),
        "crpix1": (QUADRANT[0] + 1) / 2, "crpix2": (QUADRANT[1] + 1) / 2, "crval1": ra, "crval2": dec,
        "cd11": -scale * np.cos(angle), "cd12": -scale * np.sin(angle),
        "cd21": scale * np.sin(angle), "cd22": -scale * np.cos(angle),
        "ipac_gid": 2, "meta_id": exposure["expid"] * 64 + rcid,
        "mjd": exposure["mjd"], "background": background, "magzp": magzp, "seeing_px": seeing,
        "psf_fwhm": psf_fwhm, "saturate": rng.normal(49100, 800),
    }  # fmt: skip


def _corners(ra, dec):
    half_x, half_y = (side * PIXEL_SCALE / 7200 for side in QUADRANT)
    half_x /= np.cos(np.radians(dec))
    signs = ((1, 1), (-1, 1), (-1, -1), (1, -1))
    return {
        key: value
        for i, (sx, sy) in enumerate(signs, start=1)
        for key, value in ((f"ra{i}", ra + sx * half_x), (f"dec{i}", dec + sy * half_y))
    }


def _limiting_magnitude(psf_fwhm, background, magzp):
    """Return the 5-sigma PSF limit, with 4 pi sigma^2 noise-equivalent pixels of a Gaussian core."""
    pixels = 4 * np.pi * ((psf_fwhm / 2.355) ** 2 + 1 / 12) * 1.6
    noise = NOISE_EXCESS * np.sqrt(pixels * (background / GAIN + (READ_NOISE / GAIN) ** 2))
    return magzp - 2.5 * np.log10(5 * noise)


def _pixel_range(position, size, length):
    """Return first and past-the-end pixel of a cutout on one axis; some have one more at their beginning."""
    first, width = first_pixel(position, size)
    past = first + width
    if first_pixel(position - EXTRA_PIXEL_SHARE, size)[0] < first:
        first -= 1
    return max(first, 0), min(past, length)


def _bleed(counts, full_well):
    """Spill charge above the full well along its column, outwards from the brightest pixel."""
    counts = counts.copy()
    for column in np.flatnonzero((counts > full_well).any(axis=0)):
        line = counts[:, column]
        peak = np.argmax(line)
        spill = np.maximum(line - full_well, 0).sum()
        np.minimum(line, full_well, out=line)
        for pixel in sorted(range(len(line)), key=lambda row, peak=peak: abs(row - peak)):
            taken = min(full_well - line[pixel], spill)
            line[pixel] += taken
            spill -= taken
    return counts


def _header(exposure, origin):
    """Return the header of a cutout that starts at pixel ``origin`` of its image."""
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
    *shares, psf_share = encircled_energy(exposure["psf_fwhm"])
    for number, (diameter, share) in enumerate(zip(APERTURES, shares, strict=True), start=1):
        correction = round(2.5 * np.log10(share / psf_share), 6)
        header[f"APCOR{number}"] = (correction, f"PSF_mag - AP_mag for AP.diam={diameter} px [mag]")
    wcs = image_wcs(exposure)
    wcs.wcs.crpix = wcs.wcs.crpix - np.array(origin)
    for key in ("CTYPE1", "CTYPE2", "CRPIX1", "CRPIX2", "CRVAL1", "CRVAL2"):
        name, axis = key[:-1].lower(), int(key[-1]) - 1
        header[key] = getattr(wcs.wcs, name)[axis]
    for i in (1, 2):
        for j in (1, 2):
            header[f"CD{i}_{j}"] = wcs.wcs.cd[i - 1, j - 1]
    header["RADESYS"] = "ICRS"
    return header


def _fits_bytes(pixels, header):
    file = BytesIO()
    fits.PrimaryHDU(pixels, header).writeto(file)
    return file.getvalue()


def _plane(ra, dec):
    """Return coordinates [deg] on a plane good to 0.1 % over the mock sky, shape (..., 2)."""
    ra, dec = np.asarray(ra, dtype=float), np.asarray(dec, dtype=float)
    return np.stack([ra * np.cos(np.radians(np.mean(DEC_RANGE))), dec], axis=-1)


def _magnitudes(rng, population):
    """Draw i magnitudes whose counts grow as 10**(slope * magnitude)."""
    area = np.ptp(RA_RANGE) * np.ptp(np.degrees(np.sin(np.radians(DEC_RANGE))))
    count = rng.poisson(population["density"] * area)
    low, high = (10 ** (population["slope"] * population[end]) for end in ("bright", "faint"))
    return np.log10(rng.uniform(low, high, count)) / population["slope"]


def _positions(rng, count):
    return rng.uniform(*RA_RANGE, count), rng.uniform(*DEC_RANGE, count)


def _with_companions(rng, ra, dec):
    """Move a share of the objects to within 1 to 6 arcsec of another one."""
    moved = np.flatnonzero(rng.random(len(ra)) < COMPANION_FRACTION)
    host = rng.integers(0, len(ra), len(moved))
    distance, angle = rng.uniform(1, 6, len(moved)) / 3600, rng.uniform(0, 2 * np.pi, len(moved))
    ra[moved] = ra[host] + distance * np.cos(angle)
    dec[moved] = dec[host] + distance * np.sin(angle)
    return ra, dec


def _fluxes(i, g_r, r_i, i_z):
    magnitudes = {"G": i + r_i + g_r, "R": i + r_i, "I": i, "Z": i - i_z}
    return {f"FLUX_{band}": 10 ** (0.4 * (22.5 - m)) for band, m in magnitudes.items()}


def _simulate_stars(rng):
    """Stars along the stellar locus: turn-off stars and M dwarfs, redder when fainter."""
    i = _magnitudes(rng, STARS)
    n = len(i)
    dwarf = rng.random(n) < np.clip(0.15 + 0.08 * (i - 14), 0.05, 0.75)
    g_r = np.where(dwarf, rng.normal(1.42, 0.08, n), np.clip(rng.normal(0.55, 0.2, n), 0.1, 1.3))
    r_i = np.where(dwarf, 0.5 + rng.gamma(2.5, 0.28, n), 0.02 + 0.35 * g_r + rng.normal(0, 0.03, n))
    i_z = 0.52 * r_i + rng.normal(0, 0.03, n)
    ra, dec = _with_companions(rng, *_positions(rng, n))
    shape = dict.fromkeys(("SHAPE_R", "SHAPE_E1", "SHAPE_E2", "SERSIC"), 0.0)
    return pd.DataFrame({"TYPE": "PSF", "RA": ra, "DEC": dec, **_fluxes(i, g_r, r_i, i_z), **shape})


def _simulate_galaxies(rng):
    """Galaxies of the red sequence and the blue cloud, smaller when fainter, a share of them in groups."""
    i = _magnitudes(rng, GALAXIES)
    n = len(i)
    red = rng.random(n) < 0.45
    g_r = np.where(red, rng.normal(1.15, 0.18, n), rng.normal(0.62, 0.16, n))
    r_i = np.where(red, rng.normal(0.45, 0.05, n), rng.normal(0.30, 0.07, n))
    i_z = np.where(red, rng.normal(0.32, 0.04, n), rng.normal(0.2, 0.06, n))
    radius = 10 ** rng.normal(0.07 - 0.12 * (i - 18.5), 0.22)
    ellipticity = np.minimum(rng.rayleigh(0.17, n), 0.6)
    angle = rng.uniform(0, 2 * np.pi, n)
    kind, sersic = _profiles(rng, i, radius, red)
    ellipticity[kind == "REX"] = 0
    ra, dec = _in_groups(rng, *_positions(rng, n))
    ra, dec = _with_companions(rng, ra, dec)
    return pd.DataFrame(
        {
            "TYPE": kind,
            "RA": ra,
            "DEC": dec,
            **_fluxes(i, g_r, r_i, i_z),
            "SHAPE_R": radius,
            "SHAPE_E1": ellipticity * np.cos(angle),
            "SHAPE_E2": ellipticity * np.sin(angle),
            "SERSIC": sersic,
        }
    )


def _profiles(rng, i, radius, red):
    """Return morphological types and Sersic indices: round ones when faint, free ones when bright."""
    n = len(i)
    kind = np.where(red, "DEV", "EXP")
    kind[(i < 18.5) & (rng.random(n) < 0.5)] = "SER"
    kind[(radius < 0.8) | ((i > 19) & (rng.random(n) < 0.5))] = "REX"
    free = np.clip(np.round(np.where(red, rng.normal(3.4, 0.9, n), rng.normal(1.4, 0.5, n)) * 4) / 4, 0.5, 6)
    fixed = pd.Series(kind).map({"EXP": 1.0, "REX": 1.0, "DEV": 4.0}).to_numpy()
    return kind, np.where(kind == "SER", free, fixed)


def _in_groups(rng, ra, dec):
    """Move a share of the galaxies into groups with a Gaussian radius of 2 arcmin."""
    members = np.flatnonzero(rng.random(len(ra)) < GROUPED_FRACTION)
    centres = np.stack(_positions(rng, max(len(members) // 25, 1)), axis=1)
    places = centres[rng.integers(0, len(centres), len(members))] + rng.normal(0, 2 / 60, (len(members), 2))
    inside = (np.abs(places - [np.mean(RA_RANGE), np.mean(DEC_RANGE)]) < np.ptp(RA_RANGE) / 2).all(axis=1)
    ra[members[inside]], dec[members[inside]] = places[inside].T
    return ra, dec


def _fracflux(table, flux):
    """Return the share of each object's flux that belongs to neighbours, weighted by a 1.2 arcsec PSF."""
    places = _plane(table["RA"], table["DEC"]) * 3600
    pairs = cKDTree(places).query_pairs(8.0, output_type="ndarray")
    first, second = np.concatenate([pairs, pairs[:, ::-1]]).T
    values, radius = table[flux].to_numpy(), table["SHAPE_R"].to_numpy()
    spread = 2 * (1.2 / 2.355) ** 2 + (0.6 * radius[first]) ** 2 + (0.6 * radius[second]) ** 2
    overlap = np.exp(-np.sum((places[first] - places[second]) ** 2, axis=1) / (2 * spread))
    return np.bincount(first, overlap * values[second], len(table)) / values


def _spoil(table, rng):
    """Add what a real catalogue has: DUP rows without flux, and bands without an image."""
    fluxes = [f"FLUX_{band}" for band in "GRIZ"]
    table.loc[rng.random(len(table)) < DUPLICATE_FRACTION, "TYPE"] = "DUP"
    table.loc[table["TYPE"] == "DUP", fluxes] = 0.0
    for band in "GRZ":
        table.loc[rng.random(len(table)) < UNOBSERVED_FRACTION / 3, f"FLUX_{band}"] = 0.0
    return table


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m ztf_sg.services.mock_sky FILE")
    write_catalogue(sys.argv[1])
