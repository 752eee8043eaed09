"""The accuracy of the pretrained classifier survives what happens to images."""

import galsim
import numpy as np
import pytest
from helpers import ROOT

from ztf_sg import CutoutSet, StarGalaxyClassifier, load_cutouts
from ztf_sg.features import background
from ztf_sg.simulation.detector import bleed
from ztf_sg.ztf import READ_NOISE


@pytest.fixture(scope="module")
def cutouts():
    """Return every third bundled cutout."""
    return load_cutouts(ROOT / "cutouts_test")[::3]


@pytest.fixture(scope="module")
def model():
    bundle = load_cutouts(ROOT / "cutouts_test")
    rest = np.arange(len(bundle)) % 3 > 0
    return StarGalaxyClassifier().fit(bundle[rest])


@pytest.fixture(scope="module")
def accuracy(model, cutouts):
    found = accuracy_of(model, cutouts)
    assert found > 0.97
    return found


def accuracy_of(model, cutouts):
    return np.mean(model.predict(cutouts) == cutouts.labels)


def changed(cutouts, images, **columns):
    return CutoutSet(np.asarray(images, np.float32), cutouts.labels, cutouts.table.assign(**columns))


def test_a_brighter_sky_without_its_noise_costs_nothing(model, cutouts, accuracy):
    assert accuracy_of(model, changed(cutouts, cutouts.images + 200)) > accuracy - 0.01


def test_more_light_with_its_noise_costs_nothing(model, cutouts, accuracy):
    rng = np.random.default_rng(0)
    sky, _ = background(cutouts.images.astype(float))
    signal = cutouts.images - sky[:, None, None]
    extra = np.sqrt(
        np.maximum(signal, 0) * 2 / 6.2
    )  # twice the signal has twice the variance, not four times
    noise = rng.normal(0, 1, signal.shape) * extra * 0.1
    assert accuracy_of(model, changed(cutouts, 2 * signal + sky[:, None, None] + noise)) > accuracy - 0.02


def test_a_seeing_worse_by_a_fifth_costs_little(model, cutouts, accuracy):
    """Blur by what widens a point source of the image's seeing by 20 %, and let the headers say so."""
    seeing = cutouts.table["seeing"].to_numpy()
    blurred = []
    for image, fwhm in zip(cutouts.images.astype(float), seeing, strict=True):
        sky = np.median(image)
        light = galsim.InterpolatedImage(galsim.Image(image - sky, scale=1.0), x_interpolant="lanczos3")
        kernel = galsim.Gaussian(fwhm=fwhm * np.sqrt(1.2**2 - 1))
        wide = galsim.Convolve(light, kernel).drawImage(nx=20, ny=20, scale=1.0, method="no_pixel")
        blurred.append(wide.array + sky)
    rng = np.random.default_rng(0)
    sky = np.median(cutouts.images, axis=(1, 2))
    noise = np.sqrt(sky / 6.2 + (READ_NOISE / 6.2) ** 2)[:, None, None]
    lost = rng.normal(0, 1, cutouts.images.shape) * noise * 0.8  # that the blur has smoothed away
    columns = {f"apcor{number}": np.nan for number in range(1, 7)}
    worse = changed(cutouts, np.array(blurred) + lost, seeing=1.2 * seeing, **columns)
    assert accuracy_of(model, worse) > accuracy - 0.07


def test_a_neighbour_at_six_pixels_costs_little(model, cutouts, accuracy):
    star = galsim.Moffat(beta=2.5, fwhm=1.3).withFlux(1500)
    neighbour = star.drawImage(nx=20, ny=20, scale=1.0, offset=(6, 0)).array
    assert accuracy_of(model, changed(cutouts, cutouts.images + neighbour)) > accuracy - 0.03


def test_a_trail_beside_the_object_costs_little(model, cutouts, accuracy):
    rows, columns = np.indices((20, 20))
    trail = 300 * np.exp(-((columns - rows / 4 - 13) ** 2) / 1.5)
    assert accuracy_of(model, changed(cutouts, cutouts.images + trail)) > accuracy - 0.06


def test_one_hot_pixel_costs_little(model, cutouts, accuracy):
    images = cutouts.images.copy()
    images[:, 3, 15] += 20_000
    assert accuracy_of(model, changed(cutouts, images)) > accuracy - 0.01


def test_saturated_cores_are_still_stars(model, cutouts):
    stars = cutouts[(cutouts.labels == 0) & (cutouts.images.max(axis=(1, 2)) > 3000)]
    sky = np.median(stars.images, axis=(1, 2))[:, None, None]
    brighter = [bleed(image, 50_000.0) for image in ((stars.images - sky) * 20 + sky).astype(float)]
    bleeding = changed(stars, brighter)
    called_galaxies = model.predict(bleeding) == 1
    assert called_galaxies.mean() < 0.1
    assert model.ambiguous(bleeding)[called_galaxies].all()
