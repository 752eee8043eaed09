"""Print how well stars and galaxies are told apart in images of any band and seeing.

python benchmarks/bands.py IMAGES [--per-image 300] [--model FILE] [--seed 0]

IMAGES is a folder of science images, or parts of them, with a table ``detections.csv``: file, x, y [px, from
0], snr, and z, by how many standard deviations a source is less concentrated than the stars of its image;
those with abs(z) < 3 are taken for stars.

Injected are the image's own bright stars, scaled to magnitudes from 16.5 to 19.5, on empty sky of the same
image; for galaxies they are convolved with Sersic profiles before. The classifier is compared with one
trained on the injections into all other images.
"""

import argparse
import warnings
from pathlib import Path

import galsim
import numpy as np
import pandas as pd
from astropy.io import fits
from astropy.stats import sigma_clipped_stats
from scipy.ndimage import maximum_filter, zoom
from scipy.signal import fftconvolve

from ztf_sg import CutoutSet, StarGalaxyClassifier
from ztf_sg.cutouts import HEADER_KEYS
from ztf_sg.features import aperture_fluxes
from ztf_sg.ztf import PIXEL_SCALE

SIDE, STAMP, FINE = 20, 30, 5  # sides of cutouts, and of stars to inject [px]; parts of a pixel per side
MAGNITUDES = (16.5, 19.5)  # of injected objects
STAR_Z, BRIGHT_SNR, FEWEST = 3, 100, 4  # what is taken for a star, for a bright one, and how many are needed
EMPTY_SIGMA, PATCHES = 5, 60  # empty sky has no pixel so far above its median; patches of it per image
RADIUS, RADIUS_SLOPE, RADIUS_SCATTER = 1.24, -0.12, 0.2  # half-light radius at 18.5 mag [arcsec, dex]
DISC_SHARE, ELLIPTICITY, LARGEST_ELLIPTICITY = 0.6, 0.3, 0.6
FAST = galsim.GSParams(folding_threshold=0.02, maxk_threshold=0.01)  # right to 1 % of the brightest part
MAX_ERROR = 0.01  # of the objects that are decided


class Image:
    """A science image, or a part of one, with the rows of its detections."""

    def __init__(self, path, detections):
        self.name, self.detections = path.name, detections
        with fits.open(path) as hdus:
            hdu = next(hdu for hdu in hdus if hdu.data is not None)
            self.pixels, header = hdu.data.astype(float), hdu.header
        self.header = {key.lower(): header.get(key) for key in HEADER_KEYS}

    def cutouts(self, images, labels):
        """Return the CutoutSet of some pixels, shape (n, 20, 20), as if they were cut from this image."""
        table = pd.DataFrame([{"name": self.name, "ra": np.nan, "dec": np.nan, **self.header}] * len(images))
        return CutoutSet(np.asarray(images, dtype=np.float32), labels, table)

    def cut(self, rows, side):
        """Return the pixels around each detection of a table that has them all on the image, as a list."""
        found = []
        for row in rows.itertuples():
            top, left = (int(np.ceil(place - side / 2)) for place in (row.y, row.x))
            pixels = self.pixels[max(top, 0) : top + side, max(left, 0) : left + side]
            if pixels.shape == (side, side) and np.isfinite(pixels).all():
                found.append(pixels)
        return found

    def stars(self):
        """Return the CutoutSet of the detected stars, or None if there are none."""
        images = self.cut(self.detections[self.detections["z"].abs() < STAR_Z], SIDE)
        return self.cutouts(images, np.zeros(len(images), dtype=int)) if images else None

    def bright_stars(self):
        """Return sky-subtracted pixels (30, 30) of the bright stars, as a list."""
        is_star = self.detections["z"].abs() < STAR_Z
        edge = np.ones((STAMP, STAMP), dtype=bool)
        edge[3:-3, 3:-3] = False
        images = self.cut(self.detections[is_star & (self.detections["snr"] > BRIGHT_SNR)], STAMP)
        return [image - sigma_clipped_stats(image[edge], sigma=3)[1] for image in images]

    def empty_sky(self, rng):
        """Return slices of rows and columns of patches of sky without a source, as a list."""
        limit = EMPTY_SIGMA * sigma_clipped_stats(self.pixels, sigma=3)[2]
        brightest = maximum_filter(self.pixels, 3)
        patches = []
        for _ in range(200 * PATCHES):
            place = tuple(slice(n, n + SIDE) for n in rng.integers(0, np.array(self.pixels.shape) - SIDE))
            pixels = self.pixels[place]
            if np.isfinite(pixels).all() and brightest[place].max() < np.median(pixels) + limit:
                patches.append(place)
            if len(patches) == PATCHES:
                break
        return patches


def inject(image, count, rng):
    """Return a CutoutSet of injected stars and galaxies in turn, or None if the image has too few stars."""
    stars, patches = image.bright_stars(), image.empty_sky(rng)
    if len(stars) < FEWEST or not patches:
        return None
    images, labels = [], np.arange(count) % 2
    gain, inner = image.header["gain"], slice((STAMP - SIDE) // 2, (STAMP + SIDE) // 2)
    for label in labels:
        magnitude = rng.uniform(*MAGNITUDES)
        star = stars[rng.integers(len(stars))]
        light = convolved(star, magnitude, rng) if label else star
        counts = 10 ** (0.4 * (image.header["magzp"] - magnitude)) / total_light(star)
        expected = np.maximum(light[inner, inner], 0) * counts
        images.append(image.pixels[patches[rng.integers(len(patches))]] + rng.poisson(expected * gain) / gain)
    return image.cutouts(images, labels)


def total_light(star):
    """Return the light of a star within 7 px of the middle of its pixels."""
    middle = np.array([(STAMP - 1) / 2])
    return float(aperture_fluxes(star[None], middle, middle, (14,))[0, 0])


def convolved(star, magnitude, rng):
    """Return the pixels of a star convolved with a galaxy of a magnitude."""
    fine = zoom(star, FINE, order=3, grid_mode=True, mode="nearest")
    radius = RADIUS * 10 ** (RADIUS_SLOPE * (magnitude - 18.5) + rng.normal(0, RADIUS_SCATTER)) / PIXEL_SCALE
    galaxy = galsim.Sersic(1 if rng.random() < DISC_SHARE else 4, half_light_radius=radius, gsparams=FAST)
    ellipticity = min(abs(rng.normal(0, ELLIPTICITY)), LARGEST_ELLIPTICITY)
    galaxy = galaxy.shear(e=ellipticity, beta=rng.uniform(0, np.pi) * galsim.radians)
    side = SIDE * FINE + 1
    # averaged over each part of a pixel, as the cusp of a de Vaucouleurs profile has no end
    kernel = galaxy.drawImage(nx=side, ny=side, scale=1 / FINE, method="auto").array
    # a pixel of the star holds the light of its area already, so that points do, and no sums
    return fftconvolve(fine, kernel, mode="same")[FINE // 2 :: FINE, FINE // 2 :: FINE]


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images")
    parser.add_argument("--per-image", type=int, default=300, help="injected objects")
    parser.add_argument("--model", help="a saved StarGalaxyClassifier; the pretrained one by default")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model = StarGalaxyClassifier.load(options.model) if options.model else StarGalaxyClassifier.pretrained()
    folder = Path(options.images)
    images = [
        Image(folder / name, rows) for name, rows in pd.read_csv(folder / "detections.csv").groupby("file")
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of filters that the model does not know
        print_stars(images, model)
        print_injections(images, model, options.per_image, options.seed)


def print_stars(images, model):
    """Print what the model says of the detected stars of each image, and of all."""
    rows = []
    for image in images:
        stars = image.stars()
        if stars:
            wrong, deferred = (model.predict(stars) == 1).sum(), model.ambiguous(stars, MAX_ERROR).sum()
            rows.append([image.header["filter"], image.header["seeing"], len(stars), wrong, deferred])
    table = pd.DataFrame(rows, columns=["filter", "seeing", "stars", "called galaxies", "deferred"])
    print(table.sort_values("seeing").to_string(index=False))
    stars, wrong, deferred = table.iloc[:, 2:].sum()
    print(
        f"all {stars} stars: {wrong} called galaxies ({wrong / stars:.2%}), "
        f"{deferred} deferred ({deferred / stars:.1%})\n"
    )


def print_injections(images, model, count, seed):
    """Print how often the model is right on injected objects, and one trained on those in other images."""
    injected = [inject(image, count, np.random.default_rng([seed, n])) for n, image in enumerate(images)]
    pairs = [(image, cutouts) for image, cutouts in zip(images, injected, strict=True) if cutouts]
    rows = []
    for image, cutouts in pairs:
        others = [other for _, other in pairs if other is not cutouts]
        rival = StarGalaxyClassifier().fit(joined(others))
        right = [np.mean(classifier.predict(cutouts) == cutouts.labels) for classifier in (model, rival)]
        rows.append([image.header["filter"], image.header["seeing"], len(cutouts), *right])
    table = pd.DataFrame(rows, columns=["filter", "seeing", "injected", "model", "trained on the others"])
    print(table.sort_values("seeing").to_string(index=False, float_format="%.3f"))
    ours, rivals = table[["model", "trained on the others"]].mean()
    print(
        f"all {table['injected'].sum()} injected into {len(table)} images: right {ours:.4f}, "
        f"trained on the others {rivals:.4f}, behind by {rivals - ours:.4f}"
    )


def joined(sets):
    """Return one CutoutSet of several."""
    table = pd.concat([cutouts.table for cutouts in sets], ignore_index=True)
    images, labels = (np.concatenate([getattr(s, name) for s in sets]) for name in ("images", "labels"))
    return CutoutSet(images, labels, table)


if __name__ == "__main__":
    main()
