"""The content of the archives: the mock sky's catalogue, and whole ZTF quadrants painted from it.

A quadrant is painted when first asked for. Its WCS has the distortion terms of real ZTF images, so that the
tangent plane that the metadata give is wrong by up to a few px.
"""

import tempfile
import threading
from functools import cached_property
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS, WcsError

from ztf_sg.simulation import MockSky
from ztf_sg.simulation.parameters import DEC_RANGE, RA_RANGE
from ztf_sg.simulation.psf import aperture_corrections
from ztf_sg.ztf import APERTURES

ORIGIN = "Zwicky Transient Facility"
WIDTH, HEIGHT = 3072, 3080  # [px]
PIXEL_SCALE = 1.012  # [arcsec / px]
GAIN, READ_NOISE, NOISE_EXCESS = 6.2, 10.0, 1.07  # [e-/DN], [e-]
MOFFAT_BETA, FWHM_OVER_SEEING = 2.38, 0.878  # mean profile of ZTF's stars: a plain one is painted fast
# A cutout of 20 px starts so that the object is 8.72..9.72 px from the centre of the first pixel;
# a few of the cutouts have one more row, or column, at their beginning.
FIRST_PIXEL, EXTRA_PIXEL_SHARE = 9.72, 0.02

# Distortion of a real image; three times as strong, since the tangent point is here in the image's middle
# where distortion is least, so that whoever leaves it out is wrong by more than a pixel.
DISTORTION = 3
PV_TERMS = (0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14, 15, 16)
PV = {
    1: (-7.360592e-06, 0.9999492810, 4.112475e-05, 4.961347e-04, 3.485652e-04, 1.572214e-05, 8.322387e-05)
    + (-1.278140e-04, -2.613837e-04, -1.475059e-04, -8.722446e-04, 1.393694e-05, -9.948795e-05)
    + (-9.848563e-04, 5.258030e-04),
    2: (-2.769514e-05, 1.0000528713, 7.243473e-05, 4.985572e-04, 1.917278e-04, 1.443379e-04, -2.978391e-04)
    + (-1.152361e-04, -3.260561e-04, 1.512598e-04, -3.857353e-04, -6.224577e-04, 2.394774e-04)
    + (2.437049e-04, 3.102867e-04),
}
# Further cards of a real header; their values do not matter here.
FILLERS = (
    "DEWPRESS DETHEAT HEADTEMP INST_X INST_Y FOCUSPOS THETA_X THETA_Y INST_ROT OBJRAD OBJDECD RA_RATE "
    "DEC_RATE REQUSTID TEMPTURE WINDSPD WINDDIR DEWPOINT WETNESS HUMIDITY PRESSURE CLOUDS SUNAZ SUNALT "
    "MOONRA MOONDEC MOONALT MOONILLF MOONPHAS MOONESB PROGRMID FILTPOS HJD HOURANGD RAD DECD TELRAD TELDECD "
    "AZIMUTH ELVATION TRACKRA TRACKDEC DOME_AZ WINDSCAL OBSLON OBSLAT OBSALT PIXSCALX PIXSCALY NFRAMES "
    "HDUVERS CCD_ID AMP_ID DARKCUR CCD_ROT FGROUPNO ASTIRMS1 ASTIRMS2 ASTRRMS1 ASTRRMS2 ASTINST FLXSCALE "
    "MAGZEROP PHOTIRMS PHOTINST PHOTLINK ASTROMN ASTCHI2 NMATCHES MAGZPUNC MAGZPRMS CLRCOEFF CLRCOUNC "
    "ZPCLRCOV ZPMED ZPAVG ZPRMSALL CLRMED CLRAVG CLRRMS CIDPMASK CIDBIAS CIDHIFLT CIDLOFLT DBPID PROCVSN "
    "DBFIELD DBNID DBEXPID DBRID DBRCID DBFID DBPIPEID MODE_NUM FRAMENUM PIXSCALE WCSVERS"
).split()
CARDS = 266


class Sky:
    """Images and catalogue. `n_images` keeps the images nearest to the middle: many nights, one place.

    Images equally near are in the order of their nights; `seeing` [arcsec] replaces theirs.
    """

    def __init__(self, seed=1, n_images=None, seeing=None):
        mock = MockSky(seed=seed)
        self.seed = seed
        self.catalogue = mock.catalogue
        self._folder = tempfile.TemporaryDirectory(prefix="archives_")
        exposures = mock.exposures[mock.exposures["filtercode"] == "zi"]
        middle = np.hypot(
            *(exposures[key] - np.mean(limits) for key, limits in (("ra", RA_RANGE), ("dec", DEC_RANGE)))
        )
        kept = np.sort(np.argsort(np.round(middle, 1), kind="stable")[:n_images])
        self.images = exposures.iloc[kept].reset_index(drop=True)
        if seeing is not None:
            self.images["seeing"] = seeing
            self.images["seeing_px"] = self.images["seeing"] / PIXEL_SCALE
        self.images["product"] = [product_path(row) for row in self.images.to_dict("records")]
        light = self.catalogue[self.catalogue["FLUX_I"] > 0]
        self.quadrants = {
            row["product"]: Quadrant(row, light, seed, Path(self._folder.name) / f"{number}.fits")
            for number, row in enumerate(self.images.to_dict("records"))
        }

    def close(self):
        self._folder.cleanup()

    def quadrant(self, product):
        """Return a quadrant by its path, its file name or its row of metadata."""
        name = product if isinstance(product, str) else product_path(product)
        return next(q for path, q in self.quadrants.items() if path.endswith(name.rpartition("/")[2]))

    def cutout(self, product, ra, dec, size=20):
        """Return the true pixels of a cutout, without an extra first row or column."""
        quadrant = self.quadrant(product)
        return np.array(quadrant.part(quadrant.trimmed_range(ra, dec, size, size)), dtype=np.float32)


def product_path(row):
    """Return ``YYYY/MMDD/ffffff/ztf_..._sciimg.fits`` of a row of metadata."""
    date = str(int(row["filefracday"]))
    name = f"{_ccd_name(row)}_q{int(row['qid'])}_sciimg.fits"
    return f"{date[:4]}/{date[4:8]}/{date[8:]}/{name}"


def _ccd_name(row):
    return (
        f"ztf_{int(row['filefracday'])}_{int(row['field']):06d}_{row['filtercode']}_c{int(row['ccdid']):02d}"
        f"_{row['imgtypecode']}"
    )


class OffImage(LookupError):
    """The position is not on the image."""


class Quadrant:
    """One image: header and WCS at once, pixels in a FITS file when first needed."""

    limits = ((0, WIDTH), (0, HEIGHT))  # the first pixel that is there and the one past the last, in x and y

    def __init__(self, row, sources, seed, path):
        self.row, self._sources, self._seed, self._path = row, sources, seed, path
        self._making = threading.Lock()
        self._wcs_lock = threading.Lock()  # wcslib keeps its state in the object

    @cached_property
    def header(self):
        """The header as written, 80 bytes a card, padded to whole FITS blocks."""
        return _header(self.row).tostring().encode()

    @cached_property
    def wcs(self):
        return WCS(fits.Header.fromstring(self.header))

    @cached_property
    def _slots(self):
        cards = [self.header[i : i + 8].decode().strip() for i in range(0, len(self.header), 80)]
        return {name: cards.index(name) * 80 for name in ("NAXIS1", "NAXIS2", "CRPIX1", "CRPIX2")}

    @cached_property
    def pixels(self):
        """The pixels, memory-mapped: float32, big-endian as in the file, shape (HEIGHT, WIDTH)."""
        self.file_bytes()
        return np.memmap(self._path, ">f4", "r", len(self.header), (HEIGHT, WIDTH))

    def file_bytes(self):
        """Return the whole FITS file as a memory-mapped buffer."""
        with self._making:
            if not self._path.exists():
                _write_image(self._path, self.header, self._paint())
        return memoryview(np.memmap(self._path, np.uint8, "r"))

    def to_pixel(self, ra, dec):
        """Return 0-based pixel coordinates by the full WCS."""
        with self._wcs_lock:
            return self.wcs.wcs_world2pix(ra, dec, 0)

    def cutout_range(self, ra, dec, width, height):
        """Return the pixel ranges, in x and y, of a cutout of so many arcsec; see `FIRST_PIXEL`."""
        if not _near(self.row, ra, dec):
            raise OffImage
        try:
            position = [float(v) for v in self.to_pixel(ra, dec)]
        except WcsError as error:
            raise OffImage from error
        sides = zip(position, (width, height), self.limits, strict=True)
        ranges = [_pixel_range(*side) for side in sides]
        if any(past <= first for first, past in ranges):
            raise OffImage
        return ranges

    def holds(self, ra, dec, size):
        """Tell whether a cutout of so many arcsec lies within the image."""
        try:
            ranges = self.trimmed_range(ra, dec, size, size)
        except OffImage:
            return False
        return all(past - first == round(size / PIXEL_SCALE) for first, past in ranges)

    def trimmed_range(self, ra, dec, width, height):
        """Return the same without an extra first column or row."""
        ranges = self.cutout_range(ra, dec, width, height)
        sides = [int(round(side / PIXEL_SCALE)) for side in (width, height)]
        return [(max(first, past - side), past) for (first, past), side in zip(ranges, sides, strict=True)]

    def part(self, ranges):
        """Return the pixels of a slice of the image, float32, big-endian."""
        (x0, x1), (y0, y1) = ranges
        return self.pixels[y0:y1, x0:x1]

    def cutout_bytes(self, ranges):
        """Return the FITS file of a slice of the image: its header, with NAXISn and CRPIXn adapted."""
        (x0, x1), (y0, y1) = ranges
        header = bytearray(self.header)
        cards = {
            "NAXIS1": x1 - x0,
            "NAXIS2": y1 - y0,
            "CRPIX1": self.row["crpix1"] - x0,
            "CRPIX2": self.row["crpix2"] - y0,
        }
        for name, value in cards.items():
            start = self._slots[name]
            header[start : start + 80] = f"{name:8}= {value:>20}".ljust(80).encode()
        data = self.part(ranges).tobytes()
        return bytes(header) + data + bytes(-len(data) % 2880)

    def _paint(self):
        rng = np.random.default_rng([self._seed, int(self.row["filefracday"]), int(self.row["rcid"])])
        nearby = _near(self.row, self._sources["RA"].to_numpy(), self._sources["DEC"].to_numpy())
        sources = self._sources[nearby]
        x, y = self.to_pixel(sources["RA"].to_numpy(), sources["DEC"].to_numpy())
        image = np.full((HEIGHT, WIDTH), self.row["background"], dtype=np.float32)
        for source, *position in zip(sources.to_dict("records"), x, y, strict=True):
            _add_source(image, source, position, self.row)
        noise = rng.standard_normal(image.shape, dtype=np.float32)
        noise *= NOISE_EXCESS * np.sqrt(image / np.float32(GAIN) + np.float32((READ_NOISE / GAIN) ** 2))
        image += noise
        return np.maximum(image, 1, out=image)


def _near(row, ra, dec):
    """Tell whether positions lie within a degree: the distortion is a polynomial, and wild far away."""
    east = (np.asarray(ra) - row["ra"] + 180) % 360 - 180
    return np.hypot(east * np.cos(np.radians(row["dec"])), np.asarray(dec) - row["dec"]) < 1


def _pixel_range(position, size, limits):
    width = int(round(size / PIXEL_SCALE))
    edge = position - FIRST_PIXEL - (width - 20) / 2
    first = int(np.ceil(edge))
    past = first + width
    if first - edge > 1 - EXTRA_PIXEL_SHARE:
        first -= 1
    return max(first, limits[0]), min(past, limits[1])


def _add_source(image, source, position, row):
    """Add the light of a source: a Moffat profile, for a galaxy a wider and elliptical one."""
    counts = 10 ** (0.4 * (row["magzp"] - 22.5)) * source["FLUX_I"]
    magnitude = 22.5 - 2.5 * np.log10(source["FLUX_I"])
    psf_fwhm = FWHM_OVER_SEEING * row["seeing_px"]
    fwhm = np.hypot(psf_fwhm, 1.4 * source["SHAPE_R"] / PIXEL_SCALE)
    reach = int(8 + 5 * max(0, 19 - magnitude) + 2 * (fwhm - psf_fwhm))
    x0, y0 = (int(round(v)) - reach for v in position)
    cols = slice(max(x0, 0), max(x0 + 2 * reach + 1, 0))
    rows = slice(max(y0, 0), max(y0 + 2 * reach + 1, 0))
    stamp = image[rows, cols]
    if stamp.size == 0:
        return
    dx = np.arange(cols.start, cols.start + stamp.shape[1], dtype=np.float32) - np.float32(position[0])
    dy = np.arange(rows.start, rows.start + stamp.shape[0], dtype=np.float32)[:, None] - np.float32(
        position[1]
    )
    # shear of a round profile at constant area; the components as in ztf_sg.simulation.drawing
    g1, g2 = -source["SHAPE_E1"], source["SHAPE_E2"]
    norm = 1 / (1 - g1**2 - g2**2)
    radius2 = norm * (((1 - g1) ** 2 + g2**2) * dx**2 + ((1 + g1) ** 2 + g2**2) * dy**2 - 4 * g2 * dx * dy)
    alpha2 = (fwhm / 2) ** 2 / (2 ** (1 / MOFFAT_BETA) - 1)
    stamp += counts * (MOFFAT_BETA - 1) / (np.pi * alpha2) * (1 + radius2 / alpha2) ** -MOFFAT_BETA


def _write_image(path, header, image):
    """Write under another name first: a file that exists is whole."""
    unfinished = path.with_suffix(".part")
    with open(unfinished, "wb") as file:
        file.write(header)
        file.write(image.astype(">f4").data)
        file.write(bytes(-(len(header) + image.nbytes) % 2880))
    unfinished.rename(path)


def _header(row):
    """Return the header of an image, of as many cards as real ones have."""
    header = fits.Header()
    header["SIMPLE"], header["BITPIX"], header["NAXIS"] = True, -32, 2
    header["NAXIS1"], header["NAXIS2"] = WIDTH, HEIGHT
    header["BUNIT"] = "Data Value"
    header["ORIGIN"] = (ORIGIN, "Data origin")
    header["OBSERVER"], header["INSTRUME"] = "ZTF Robotic Observing Software", "ZTF/MOSAIC"
    header["IMGTYPE"] = "object"
    header["EXPOSURE"] = header["EXPTIME"] = row["exptime"]
    header["FILENAME"] = header["ORIGNAME"] = f"{_ccd_name(row)}.fits"
    header["FIELDID"], header["FILTERID"], header["FILTER"] = row["field"], row["fid"], "ZTF_i"
    header["OBSJD"], header["OBSMJD"] = row["obsjd"], row["mjd"]
    header["AIRMASS"], header["GAIN"], header["READNOI"] = row["airmass"], GAIN, READ_NOISE
    header["SATURATE"], header["MAGZP"] = round(row["saturate"], 3), round(row["magzp"], 6)
    header["SEEING"] = (round(row["seeing_px"], 3), "seeing FWHM [pixels]")
    header["MAGLIM"], header["STATUS"] = row["maglimit"], 1
    for name in ("CCDID", "QID", "RCID", "EXPID", "INFOBITS"):
        header[name] = row[name.lower()]
    _add_aperture_corrections(header, row)
    _add_wcs(header, row)
    for name in [f"CCDTMP{n:02d}" for n in range(1, 17)] + [f"BIT{n:02d}" for n in range(22)] + FILLERS:
        header[name] = 1.0
    for _ in range(CARDS - len(header.cards)):
        header.add_comment("made up for tests")
    return header


def _add_aperture_corrections(header, row):
    corrections = zip(APERTURES, aperture_corrections(row), strict=True)
    for number, (diameter, correction) in enumerate(corrections, start=1):
        comment = f"PSF_mag - AP_mag for AP.diam={diameter:4.1f} pix."
        header[f"APCOR{number}"] = (round(correction, 8), comment)
        header[f"APCORUN{number}"] = 0.001


def _add_wcs(header, row):
    header["WCSAXES"], header["WCSNAME"], header["RADESYS"] = 2, "ZTF", "ICRS"
    header["EQUINOX"] = 2000.0
    header["CTYPE1"], header["CTYPE2"] = "RA---TPV", "DEC--TPV"
    for name in ("CRPIX1", "CRPIX2", "CRVAL1", "CRVAL2"):
        header[name] = float(row[name.lower()])
    header["CUNIT1"] = header["CUNIT2"] = "deg"
    for axes in ("1_1", "1_2", "2_1", "2_2"):
        header[f"CD{axes}"] = float(row[f"cd{axes.replace('_', '')}"])
    for axis, values in PV.items():
        for term, value in zip(PV_TERMS, values, strict=True):
            identity = 1.0 if term == 1 else 0.0
            header[f"PV{axis}_{term}"] = round(identity + DISTORTION * (value - identity), 12)
