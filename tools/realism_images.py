"""Simulated stars of the images that real stars of g and r were found in, for `realism.py`.

A simulated star has the conditions of its image: the PSF that follows from SEEING and APCOR, sky, zero point,
gain, and brightnesses of the distribution of its stars. Ellipticity and coma are drawn from a population.
"""

import sys
from pathlib import Path

import galsim
import numpy as np
import pandas as pd
from scipy.optimize import least_squares
from two_sample import compare, describe, telling_features

from ztf_sg.features import aperture_fluxes, background, centroids
from ztf_sg.simulation import parameters as p
from ztf_sg.simulation.detector import expose
from ztf_sg.simulation.drawing import add_star
from ztf_sg.simulation.psf import aperture_shares, core_and_halo

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from bands import SIDE, Image  # noqa: E402

PER_STAR = 2  # simulated stars for each real one
# Distortion and coma [px] of the PSF of images in g and r, mean and scatter: set by hand, all images in view
E1, E2, COMA_X, COMA_Y = (0.0, 0.11), (0.05, 0.08), (0.10, 0.20), (0.23, 0.10)
FLUX_SCATTER = 0.1  # [dex], so that no simulated star has the flux of a real one


def compare_images(folder, splits, random_state=0):
    """Print how simulated stars compare with those of images; return AUCs, one row per split, by band."""
    folder, rng = Path(folder), np.random.default_rng(random_state)
    detections = pd.read_csv(folder / "detections.csv").groupby("file")
    images = [Image(folder / name, rows) for name, rows in detections]
    tables = []
    for image in images:
        stars = image.stars()
        if stars:
            both = describe(simulate_stars(image, stars, rng)), describe(stars)
            tables.append([table.assign(image=image.name) for table in both])
    print("\nstar, g and r: what tells simulated from real")
    print(telling_features(*(pd.concat(part) for part in zip(*tables, strict=True))))
    return {"star, g r": pd.DataFrame([compare_halves(tables, rng) for _ in range(splits)])}


def compare_halves(tables, rng):
    """Return the AUCs of `compare` for halves of the images, drawn at random."""
    order = rng.permutation(len(tables))
    half_a, half_b = np.array_split(order, 2)
    simulated, real = (pd.concat([tables[row][part] for row in half_b]) for part in (0, 1))
    return compare(simulated, pd.concat([tables[row][1] for row in half_a]), real)


def simulate_stars(image, stars, rng):
    """Return a CutoutSet of simulated stars of an image, with the brightnesses of its stars."""
    pixels = stars.images.astype(float)
    sky = background(pixels)[0]
    signal = pixels - sky[:, None, None]
    fluxes = np.maximum(aperture_fluxes(signal, *centroids(signal), (6,))[:, 0], 1)
    exposure = {"noise_excess": p.NOISE_EXCESS, "full_well": image.header["saturate"]}
    width = 1 + rng.uniform(-0.5, 0.5, 2) @ rng.normal(0, p.PSF_SLOPE, 2)  # a part of the quadrant is seen
    psf, drawn = psf_of_header(image.header, rng).dilate(width), []
    for _ in range(PER_STAR * len(stars)):
        counts = rng.choice(fluxes) * 10 ** rng.normal(0, FLUX_SCATTER) / aperture_shares(psf)[3]
        stamp = galsim.ImageD(SIDE, SIDE, xmin=0, ymin=0)
        add_star(stamp, psf * counts, *rng.uniform(9, 10, 2))
        drawn.append(expose(stamp.array, rng.choice(sky) * np.ones(stamp.array.shape), exposure, rng))
    return image.cutouts(drawn, np.zeros(len(drawn), dtype=int))


def psf_of_header(header, rng):
    """Return a PSF with the APCOR of a header; its ellipticity and coma are drawn."""
    drawn = [rng.normal(*mean_and_scatter) for mean_and_scatter in (E1, E2, COMA_X, COMA_Y)]
    wanted = np.array([header[f"apcor{number}"] for number in range(1, 7)])

    def misfit(values):
        found = 2.5 * np.log10(aperture_shares(core_and_halo(*values, *drawn)))
        return (found - found[3] - wanted + wanted[3])[:5]

    start, bounds = [0.85 * header["seeing"], 0.2], ([0.5, 0], [8, 0.6])
    fit = least_squares(misfit, start, bounds=bounds, diff_step=0.01, max_nfev=12)
    return core_and_halo(*fit.x, *drawn)
