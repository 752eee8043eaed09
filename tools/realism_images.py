"""Simulated stars of the images that real stars of g and r were found in, for `realism.py`.

A simulated star has the conditions of its image: the PSF that follows from SEEING and APCOR, sky, zero point,
gain, and brightnesses of the distribution of its stars. Ellipticity and coma are not in the header: they are
drawn from the population of other images.
"""

import sys
from pathlib import Path

import galsim
import numpy as np
import pandas as pd
from scipy.optimize import least_squares
from two_sample import DRAWS, auc, describe, telling_features

from ztf_sg.features import aperture_fluxes, background, centroids
from ztf_sg.simulation import parameters as p
from ztf_sg.simulation.detector import expose
from ztf_sg.simulation.drawing import add_star
from ztf_sg.simulation.psf import aperture_shares, core_and_halo

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from bands import SIDE, Image  # noqa: E402

PER_STAR = 2  # simulated stars for each real one
SHAPES = ("e1", "e2", "coma_x", "coma_y")  # two components of the distortion, and of the coma
TRIAL_SCATTER = 0.1  # of each, of the simulated stars that tell how a measured shape follows from a drawn one
FLUX_SCATTER = 0.1  # [dex], so that no simulated star has the flux of a real one


def compare_images(folder, splits, random_state=0):
    """Print how simulated stars compare with those of images; return AUCs, one row per split, by band."""
    folder, rng = Path(folder), np.random.default_rng(random_state)
    detections = pd.read_csv(folder / "detections.csv").groupby("file")
    images = [Image(folder / name, rows) for name, rows in detections]
    images = [image for image in images if image.stars()]
    real = [describe(image.stars()).assign(image=image.name) for image in images]
    trial = (np.zeros(len(SHAPES)), np.full(len(SHAPES), TRIAL_SCATTER))
    slopes = responses(*zip(*(simulate_stars(image, trial, rng) for image in images), strict=True))
    rows, simulated = [], []
    for _ in range(splits):
        halves = np.array_split(rng.permutation(len(images)), 2)
        populations = [shapes_of([real[row] for row in half], slopes) for half in halves]
        as_a, as_b = (
            pd.concat([simulate_stars(images[row], population, rng)[0] for row in halves[1]])
            for population in populations
        )
        rows.append(compare(as_a, as_b, pd.concat([real[row] for row in halves[1]])))
        simulated.append(as_a)
    print("\nstar, g and r: what tells simulated from real")
    print(telling_features(pd.concat(simulated), pd.concat(real)))
    return {"star, g r": pd.DataFrame(rows)}


def compare(as_a, as_b, real):
    """Return AUCs of stars simulated with the shapes of A from the real ones, and from those with B's."""
    found = [
        [
            auc(*(table.sample(len(real), random_state=draw) for table in (as_a, other)), draw)
            for draw in range(DRAWS)
        ]
        for other in (real, as_b)
    ]
    simulated, floor = np.mean(found, axis=1)
    return {"simulated": simulated, "floor": floor, "excess": simulated - floor}


def responses(tables, drawn):
    """Return by how much each measured shape of an image's stars changes with the drawn one, (4,)."""
    measured = np.array([table[list(SHAPES)].median() for table in tables])
    pairs = zip(np.array(drawn).T, measured.T, strict=True)
    return np.array([np.polyfit(one, other, 1)[0] for one, other in pairs])


def shapes_of(tables, slopes):
    """Return mean and scatter over images of the shapes whose stars measure as in their tables, (4,) each."""
    measured = np.array([table[list(SHAPES)].median() for table in tables]) / slopes
    return measured.mean(axis=0), measured.std(axis=0)


def simulate_stars(image, population, rng):
    """Return the features of simulated stars of an image, a table, and the shape of their PSF, (4,).

    They have the brightnesses of its stars; `population` is mean and scatter of the shapes.
    """
    stars, shape = image.stars(), rng.normal(*population)
    pixels = stars.images.astype(float)
    sky = background(pixels)[0]
    signal = pixels - sky[:, None, None]
    fluxes = np.maximum(aperture_fluxes(signal, *centroids(signal), (6,))[:, 0], 1)
    exposure = {"noise_excess": p.NOISE_EXCESS, "full_well": image.header["saturate"]}
    width = 1 + rng.uniform(-0.5, 0.5, 2) @ rng.normal(0, p.PSF_SLOPE, 2)  # a part of the quadrant is seen
    psf, drawn = psf_of_header(image.header, shape).dilate(width), []
    for _ in range(PER_STAR * len(stars)):
        counts = rng.choice(fluxes) * 10 ** rng.normal(0, FLUX_SCATTER) / aperture_shares(psf)[3]
        stamp = galsim.ImageD(SIDE, SIDE, xmin=0, ymin=0)
        add_star(stamp, psf * counts, *rng.uniform(9, 10, 2))
        drawn.append(expose(stamp.array, rng.choice(sky) * np.ones(stamp.array.shape), exposure, rng))
    cutouts = image.cutouts(drawn, np.zeros(len(drawn), dtype=int))
    return describe(cutouts).assign(image=image.name), shape


def psf_of_header(header, shape):
    """Return a PSF with the APCOR of a header, and a shape: distortion and coma [px]."""
    wanted = np.array([header[f"apcor{number}"] for number in range(1, 7)])

    def misfit(values):
        found = 2.5 * np.log10(aperture_shares(core_and_halo(*values, *shape)))
        return (found - found[3] - wanted + wanted[3])[:5]

    start, bounds = [0.85 * header["seeing"], 0.2], ([0.5, 0], [8, 0.6])
    fit = least_squares(misfit, start, bounds=bounds, diff_step=0.01, max_nfev=12)
    return core_and_halo(*fit.x, *shape)
