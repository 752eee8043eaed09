"""What several modules of tests share: folders, interpreters, tables, training points and stamps."""

import json
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from MuyGPyS.neighbors import NN_Wrapper
from photutils.aperture import CircularAperture
from sklearn.utils import check_random_state

from ztf_sg.features.photometry import APERTURES
from ztf_sg.features.psf import moffat_radius
from ztf_sg.fetching import ImageChooser
from ztf_sg.services.errors import NothingFound
from ztf_sg.services.legacy_survey import COLUMNS
from ztf_sg.simulation.detector import sky_level
from ztf_sg.ztf import image_name

ROOT = Path(__file__).parents[1]


def run_python(code, folder):
    """Run code in a new interpreter in a folder; return what it prints."""
    process = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return process.stdout


def modules_after(names, folder):
    """Import modules in turn in one new interpreter; return what is loaded after each, by name."""
    code = f"""
import importlib, json, sys
loaded = {{}}
for name in {list(names)!r}:
    importlib.import_module(name)
    loaded[name] = list(sys.modules)
print(json.dumps(loaded))
"""
    return {name: set(modules) for name, modules in json.loads(run_python(code, folder)).items()}


def sweep_table(n=4):
    numbers = {name: np.arange(n, dtype=">f4") + 1 for name in COLUMNS if name not in ("RA", "DEC", "TYPE")}
    types = np.array(["PSF ", "REX", "DEV", "DUP"], dtype="S4")[np.arange(n) % 4]
    position = {"RA": np.linspace(5, 6, n), "DEC": np.linspace(-5, -4, n)}
    return Table({**position, "TYPE": types, **numbers, "OBJID": np.arange(n)})


def make_catalogue(n=6, **columns):
    """Return a catalogue of isolated, bright, clean objects in the reference region."""
    table = pd.DataFrame({"RA": 6 + 0.1 * np.arange(n), "DEC": -2.0, "TYPE": "PSF"}, index=range(n))
    for band in "GRZ":
        table[f"FLUX_{band}"] = 100.0
        table[f"FRACFLUX_{band}"] = 0.01
    return table.assign(ROW=np.arange(n), **columns)


def rows(table):
    """Return the rows of :func:`make_catalogue` that a table has."""
    return table["ROW"].tolist()


def halves(X, noise=0.3, random_state=0):
    """Label points by the sign of a noisy first feature, seen from its median."""
    first = X[:, 0] + noise * check_random_state(random_state).normal(size=len(X))
    return (first > np.median(first)).astype(int)


def points(n=150, n_features=2, random_state=0):
    X = np.random.default_rng(random_state).normal(size=(n, n_features))
    return X, halves(X)


def stock_posterior(classifier, X, y, queries):
    """Return what MuyGPyS itself predicts with the trained hyperparameters."""
    train, test = X / classifier.distance_unit_, queries / classifier.distance_unit_
    neighbours = NN_Wrapper(train, classifier.nn_count_, nn_method="exact", algorithm="kd_tree")
    indices, _ = neighbours.get_nns(test)
    muygps = classifier.muygps_
    targets = np.where(y == classifier.classes_[1], 1.0, -1.0)
    crosswise, pairwise, nn_targets = muygps.make_predict_tensors(
        np.arange(len(test)), indices, test, train, targets
    )
    crosswise, pairwise = muygps.kernel(crosswise), muygps.kernel(pairwise)
    mean = muygps.posterior_mean(pairwise, crosswise, nn_targets)
    return mean, muygps.posterior_variance(pairwise, crosswise)


def get_stamp(sky, ra, dec, size=20, image=None):
    """Return pixels and header of the cutout of a position on its best centred image."""
    image = ImageChooser(sky).choose(ra, dec) if image is None else image
    return fits.getdata(BytesIO(sky.get_cutout(image, ra, dec, size)), header=True)


def get_stamps(sky, table, n):
    """Yield row, pixels less sky, and header of n objects; those between the images are passed over."""
    names, chooser = sky.exposures.apply(image_name, axis=1), ImageChooser(sky)
    for row in table.itertuples():
        image = chooser.choose(row.RA, row.DEC)
        if image is None:
            continue
        pixels, header = get_stamp(sky, row.RA, row.DEC, image=image)
        exposure = sky.exposures[names == header["FILENAME"]].iloc[0]
        origin = [round(exposure[f"crpix{axis}"] - header[f"CRPIX{axis}"]) for axis in (1, 2)]
        yield row, pixels.astype(float) - sky_level(exposure, origin, pixels.shape), header
        n -= 1
        if not n:
            return


def place_on(header, row):
    """Return where the catalogue position of a row is, x and y [px, from 0]."""
    return np.array(WCS(header).all_world2pix(row.RA, row.DEC, 0), dtype=float)


def aperture_counts(pixels, place, diameter):
    return CircularAperture(place, diameter / 2).do_photometry(pixels)[0][0]


def centroid(light):
    """Return the flux-weighted centroid, x and y [px, from 0]."""
    y, x = np.indices(light.shape)
    return np.array([(light * axis).sum() for axis in (x, y)]) / light.sum()


def windowed_centroid(light, start, fwhm=3.0):
    """Return the centroid under a Gaussian window that moves along, x and y [px, from 0]."""
    y, x = np.indices(light.shape)
    place = np.array(start, dtype=float)
    for _ in range(10):
        weight = light * np.exp(-4 * np.log(2) * ((x - place[0]) ** 2 + (y - place[1]) ** 2) / fwhm**2)
        step = [(weight * (axis - v)).sum() for axis, v in zip((x, y), place, strict=True)]
        place += 2 * np.array(step) / weight.sum()
    return place


def i_magnitude(table):
    return 22.5 - 2.5 * np.log10(table["FLUX_I"])


def arcseconds(table):
    """Return places [arcsec] on a plane that is good enough to tell neighbours."""
    return np.stack([table["RA"] * np.cos(np.radians(table["DEC"])), table["DEC"]], axis=1) * 3600


SHAPE = (20, 20)  # of the cutouts that are made up
MIDDLE = 9.5  # of such a cutout [px]


def near_middle(n, radius=1.0, random_state=0):
    """Return sub-pixel positions around the middle of a cutout, x and y."""
    return MIDDLE + np.random.default_rng(random_state).uniform(-radius, radius, size=(2, n))


def moffat(dx, dy, fwhm, beta, order=8):
    """Return a Moffat profile of unit flux, averaged over pixels by Gauss's quadrature of order**2 points.

    dx and dy are the offsets of the middles of the pixels from the centre [px].
    """
    alpha = moffat_radius(fwhm, beta)
    nodes, weights = np.polynomial.legendre.leggauss(order)
    points = [(x / 2, weight / 2) for x, weight in zip(nodes, weights, strict=True)]
    total = sum(
        in_x * in_y * np.power(1 + ((dx + x) ** 2 + (dy + y) ** 2) / alpha**2, -beta)
        for x, in_x in points
        for y, in_y in points
    )
    return (beta - 1) / (np.pi * alpha**2) * total


def moffat_stars(x, y, fwhm, beta=2.8, shape=SHAPE):
    """Return the light of n stars of unit flux at x, y [px], shape (n, height, width)."""
    x, y, fwhm, beta = (np.reshape(value, (-1, 1, 1)) for value in (x, y, fwhm, beta))
    return moffat(np.arange(shape[1]) - x, np.arange(shape[0])[:, None] - y, fwhm, beta)


def exact_fluxes(images, x, y, diameters=APERTURES):
    """Return aperture fluxes by photutils, with the exact overlap of circle and pixels."""
    apertures = [[CircularAperture(place, d / 2) for d in diameters] for place in zip(x, y, strict=True)]
    return np.array(
        [
            [aperture.do_photometry(image, method="exact")[0][0] for aperture in row]
            for image, row in zip(images, apertures, strict=True)
        ]
    )


def legend_texts(ax):
    """Return the entries of the legend of Axes."""
    return [text.get_text() for text in ax.get_legend().get_texts()]


def tick_texts(axis):
    """Return the labels of the ticks of an axis, as they are drawn."""
    axis.get_figure().canvas.draw()
    return [label.get_text() for label in axis.get_ticklabels()]


HEADER = {
    "ORIGIN": "Zwicky Transient Facility", "FILTER": "ZTF_i", "OBSMJD": 58738.4, "EXPTIME": 30.0,
    "GAIN": 6.2, "SATURATE": 49100.0, "SEEING": 1.7, "MAGZP": 25.6,
    **{f"APCOR{i}": -0.1 * (7 - i) for i in range(1, 7)},
    "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 7.0, "CRVAL2": -2.0,
    "CRPIX1": 10.5, "CRPIX2": 10.5, "CD1_1": -2.8e-4, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": -2.8e-4,
}  # fmt: skip
"""Header of a cutout at RA 7, DEC -2 [deg]."""


def make_header(**changes):
    """Return the header of a cutout; None takes a keyword away."""
    header = HEADER | changes
    return fits.Header({key: value for key, value in header.items() if value is not None})


def make_pixels(shape=SHAPE):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape) + 200


def write_cutout(path, pixels=None, **changes):
    """Write a FITS cutout in a folder, which is made if need be; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.PrimaryHDU(make_pixels() if pixels is None else pixels, make_header(**changes)).writeto(path)
    return path


class StoredSky:
    """A simulated sky that draws each cutout once, and notes what it is asked.

    `faults` and `search_faults` are raised at the request or search of that number, from 0; `missing`, a
    function of image and RA, says which images are not there.
    """

    def __init__(self, sky, cutouts=None, searches=None):
        self.sky, self.origin = sky, sky.origin
        self._cutouts, self._searches = ({} if kept is None else kept for kept in (cutouts, searches))
        self.asked, self.searches, self.faults, self.search_faults, self.missing = [], [], {}, {}, None

    def fresh(self):
        """Return a sky with the same cutouts, that has not been asked anything."""
        return StoredSky(self.sky, self._cutouts, self._searches)

    def search_images(self, *arguments):
        self.searches.append(arguments)
        if fault := self.search_faults.get(len(self.searches) - 1):
            raise fault
        if arguments not in self._searches:
            try:
                self._searches[arguments] = self.sky.search_images(*arguments)
            except NothingFound as error:
                self._searches[arguments] = error
        if isinstance(self._searches[arguments], NothingFound):
            raise self._searches[arguments]
        return self._searches[arguments]

    def get_cutout(self, image, ra, dec, size):
        self.asked.append((image_name(image), ra))
        if fault := self.faults.get(len(self.asked) - 1):
            raise fault
        if self.missing and self.missing(image, ra):
            raise NothingFound("HTTP status 404")
        key = image_name(image), ra, dec, size
        if key not in self._cutouts:
            self._cutouts[key] = self.sky.get_cutout(image, ra, dec, size)
        return self._cutouts[key]
