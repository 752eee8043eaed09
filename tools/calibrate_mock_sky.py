"""Compare the simulation with a folder of real cutouts, and fit its parameters to real cutouts.

python tools/calibrate_mock_sky.py [REAL]

Prints distributions over the real cutouts, and in brackets the parameters of ztf_sg.simulation.parameters
that belong to them, or the same distribution of simulated exposures or the bundled cutouts.

`realism.py` fits the parameters of the PSF, and those of `MATCHED`, to a part of the cutouts. Seeing, sky and
zero point stay as they are: a few nights do not show how those of ZTF vary.
"""

import argparse
import os

import galsim
import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy.optimize import least_squares
from two_sample import image_names, shape

from ztf_sg import load_cutouts
from ztf_sg.cutouts import BUNDLED_CUTOUTS
from ztf_sg.features import aperture_fluxes, background, centroids
from ztf_sg.simulation import parameters as p
from ztf_sg.simulation.drawing import add_star
from ztf_sg.simulation.exposures import simulate_exposures
from ztf_sg.simulation.psf import PSF_COLUMNS, aperture_corrections, make_psf
from ztf_sg.ztf import APERTURES, READ_NOISE

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
RADIUS = 6.5  # the light of a star is fitted within this distance [px]
IMAGES_FOR_SLOPE = 12  # least number of images that the change of the PSF with SEEING is fitted to
# The parameters that are matched: the key, if the parameter is a dict; whether the logarithms of
# parameter and medians are compared; the change of the parameter for a difference of one between the medians.
MATCHED = {
    "NOISE_EXCESS": (None, True, 1.0),
    "STARS": ("slope", False, 0.1),
    "GALAXIES": ("slope", False, 0.5),
    "RADIUS": (None, True, -5.0),
    "RADIUS_SCATTER": (None, True, 1.0),
    "ELLIPTICITY": (None, True, 1.0),
}
STARS_PER_IMAGE = range(3, 7)  # numbers of bright stars that the PSF of an image is fitted to


def main():
    """Print the comparison, or fit and simulate."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("real", nargs="?", default=os.environ.get("ZTF_SG_REAL_CUTOUTS"))
    options = parser.parse_args()
    if not options.real:
        parser.error("name a folder of real cutouts, or set ZTF_SG_REAL_CUTOUTS")
    real = load_cutouts(options.real)
    print(f"{real}; quantiles are at {', '.join(f'{q:.0%}' for q in QUANTILES)}")
    print_psf(fit_images(real))
    print_aperture_corrections(real)
    print_exposures(real)
    print_cutouts(real, load_cutouts(BUNDLED_CUTOUTS))


def bright_stars(cutouts):
    """Return the rows of bright, unsaturated, undisturbed stars."""
    values = measured(cutouts)
    good = (values["snr"] > 100) & (np.abs(values["concentration [dex]"]) < 0.05)
    return np.flatnonzero((cutouts.labels == 0) & (cutouts.images.max(axis=(1, 2)) < 30000) & good)


def fit_images(cutouts):
    """Fit one PSF to the bright stars of each image; return a table, one row per image, and their names."""
    rows = bright_stars(cutouts)
    sets = {
        name: cutouts[members.to_numpy()[: STARS_PER_IMAGE.stop - 1]]
        for name, members in pd.Series(rows).groupby(image_names(cutouts)[rows])
        if len(members) >= STARS_PER_IMAGE.start
    }
    return pd.DataFrame(
        Parallel(n_jobs=2)(delayed(fit_psf)(stars) for stars in sets.values()), index=list(sets)
    )


def fit_psf(stars):
    """Fit one PSF, with the position and flux of each star, to the pixels around the stars."""
    images = stars.images.astype(float)
    sky, noise = background(images)
    signal = images - sky[:, None, None]
    x, y = centroids(signal)
    rows, columns = np.indices(signal.shape[1:])
    near = np.hypot(columns - x[:, None, None], rows - y[:, None, None]) < RADIUS
    flux = (signal * near).sum(axis=(1, 2))
    gain = stars.table["gain"].to_numpy()

    def residuals(values):
        psf, stars_fitted = values[: len(PSF_COLUMNS)], values[len(PSF_COLUMNS) :].reshape(-1, 3)
        profile = make_psf.__wrapped__(*psf)
        parts = []
        for number, (dx, dy, brightness) in enumerate(stars_fitted):
            model = galsim.ImageD(*signal.shape[:0:-1], xmin=0, ymin=0)
            add_star(model, profile * (brightness * flux[number]), x[number] + dx, y[number] + dy)
            model = model.array
            error = np.sqrt(noise[number] ** 2 + np.maximum(model, 0) / gain[number] + (0.01 * model) ** 2)
            parts.append(((signal[number] - model) / error)[near[number]])
        return np.concatenate(parts)

    seeing = stars.table["seeing"].iloc[0]
    start = [0.79 * seeing, p.PSF_STEEP, 0, 0, p.COMA_X[0], p.COMA_Y[0], *[0, 0, 1.02] * len(stars)]
    bounds = np.full((2, len(start)), [[-np.inf], [np.inf]])
    bounds[:, PSF_COLUMNS.index("psf_steep")] = 0, 1  # it is a share
    fit = least_squares(residuals, start, bounds=bounds, max_nfev=20, diff_step=1e-4, x_scale="jac")
    chi2 = 2 * fit.cost / (len(fit.fun) - len(start))
    return dict(zip(PSF_COLUMNS, fit.x, strict=False)) | {"seeing": seeing, "chi2": chi2, "stars": len(stars)}


def psf_parameters(images):
    """Return the parameters of the simulated PSF by name, from the fits to some images."""
    wider = images["seeing"] - p.REFERENCE_SEEING
    slope, width = p.PSF_FWHM_SLOPE, np.median(images["psf_fwhm"] - p.PSF_FWHM_SLOPE * wider)
    if len(images) >= IMAGES_FOR_SLOPE:
        slope, width = np.polyfit(wider, images["psf_fwhm"], 1)
    left = images["psf_fwhm"] - width - slope * wider
    names = {"psf_e1": "PSF_E1", "psf_e2": "PSF_E2", "coma_x": "COMA_X", "coma_y": "COMA_Y"}
    return {
        "PSF_FWHM": width,
        "PSF_FWHM_SLOPE": slope,
        "PSF_FWHM_SCATTER": scatter(left),
        "PSF_STEEP": (images["psf_steep"] - p.PSF_STEEP_SLOPE * wider).median(),
        "PSF_STEEP_SCATTER": scatter(images["psf_steep"]),
        **{name: (images[column].median(), scatter(images[column])) for column, name in names.items()},
        "PSF_E_CORRELATION": images[["psf_e1", "psf_e2"]].corr().iloc[0, 1],
    }


def print_psf(images):
    """Print the parameters fitted to the images, and in brackets those in use."""
    print(f"\nPSF of {len(images)} images with {STARS_PER_IMAGE.start} or more bright stars: median, scatter")
    for name, value in psf_parameters(images).items():
        print(f"  {name:18s} {rounded(value)}  ({rounded(getattr(p, name))})")
    print(f"  chi2 a degree of freedom, with 1 % model error: median {images['chi2'].median():.2f}")


def fitted_parameters(images, wanted, found):
    """Return the parameters of the simulation by name: PSF from fits to images, the others matched.

    `wanted` are the `matched_medians` of real cutouts, `found` those of the bundled ones, which belong to the
    parameters as they are.
    """
    fitted = psf_parameters(images)
    for name, (key, relative, rate) in MATCHED.items():
        old, difference = getattr(p, name), wanted[name] - found[name]
        value = old if key is None else old[key]
        new = value * np.exp(rate * difference) if relative else value + rate * difference
        fitted[name] = new if key is None else old | {key: new}
    return fitted


def matched_medians(cutouts):
    """Return the medians that the parameters of `MATCHED` are judged by, logarithms where it says so."""
    stars, galaxies = (
        {name: values[cutouts.labels == label] for name, values in measured(cutouts).items()}
        for label in (0, 1)
    )
    concentration = galaxies["concentration [dex]"]
    return {
        "NOISE_EXCESS": np.median(np.log(galaxies["noise over theory"])),
        "STARS": np.median(stars["magnitude [mag]"]),
        "GALAXIES": np.median(galaxies["magnitude [mag]"]),
        "RADIUS": np.median(concentration),
        "RADIUS_SCATTER": np.log(scatter(concentration)),
        "ELLIPTICITY": np.median(np.log(galaxies["ellipticity"])),
    }


def print_aperture_corrections(real):
    """Print how APCOR depends on SEEING, in the headers and with the simulated PSF."""
    exposures = simulate_exposures(0)
    exposures = exposures[exposures["seeing"] < 1.85].head(150)
    simulated = np.array([aperture_corrections(row) for _, row in exposures.iterrows()])
    print("\nAPCOR [mag] at a SEEING of 1.6 px, and its slope [mag / px]: headers, (simulated exposures)")
    for number, diameter in enumerate(APERTURES):
        slope, value = np.polyfit(real.table["seeing"] - 1.6, real.table[f"apcor{number + 1}"], 1)
        same = np.polyfit(exposures["seeing_px"] - 1.6, simulated[:, number], 1)
        print(f"  {diameter:3d} px  {value:+.3f} {slope:+.3f}  ({same[1]:+.3f} {same[0]:+.3f})")


def print_exposures(real):
    """Print the distributions of the values in the headers, one per image."""
    exposures = simulate_exposures(0)
    exposures = exposures[exposures["seeing"] < 1.85]
    images = real.table.drop_duplicates(["obsmjd", "apcor1"])
    sky = pd.Series(background(real.images.astype(float))[0])[images.index]
    print(f"\n{len(images)} images, ({len(exposures)} simulated ones that are sharp enough)")
    for name, header, simulated in (
        ("SEEING [px]", images["seeing"], exposures["seeing_px"]),
        ("sky [DN]", sky, exposures["background"]),
        ("MAGZP [mag]", images["magzp"], exposures["magzp"]),
    ):
        print(f"  {name:12s} {quantiles(header)}\n{'':14s}({quantiles(simulated)})")
    saturate = images["saturate"]
    print(
        f"  SATURATE [DN]  median {saturate.median():.0f}, scatter {scatter(saturate):.0f} "
        f"({p.SATURATE:.0f}, {p.SATURATE_SCATTER:.0f})"
    )
    peak = real.images.max(axis=(1, 2)) / real.table["saturate"]
    saturated = peak[peak > 1]
    low, high = (saturated.min(), saturated.max()) if len(saturated) else (np.nan, np.nan)
    print(f"  peaks of {len(saturated)} saturated stars {low:.2f} to {high:.2f} SATURATE {p.FULL_WELL}")


def print_cutouts(real, simulated):
    """Print the distributions of noise, position, magnitude and shape, of real and bundled cutouts."""
    print("\ncutouts, (bundled ones)")
    bundled = measured(simulated)
    for name, values in measured(real).items():
        for label, kind in enumerate(("stars", "galaxies")):
            other = bundled[name][simulated.labels == label]
            print(f"  {name:19s}, {kind:9s} {quantiles(values[real.labels == label])}")
            print(f"{'':30s}({quantiles(other)})")


def measured(cutouts):
    """Return the measurements of cutouts by name."""
    images, table = cutouts.images.astype(float), cutouts.table
    sky, noise = background(images)
    gain = table["gain"].to_numpy()
    signal = images - sky[:, None, None]
    x, y = centroids(signal)
    fluxes = np.maximum(aperture_fluxes(signal, x, y, (3, 6)), 3 * noise[:, None])
    magnitudes = table[["magzp"]].to_numpy() - 2.5 * np.log10(fluxes) + table[["apcor2", "apcor4"]].to_numpy()
    e1, e2 = shape(signal, x, y)[:, :2].T
    return {
        "noise over theory": noise / np.sqrt(np.maximum(sky, 0) / gain + (READ_NOISE / gain) ** 2),
        "x less middle [px]": x - 9.5,
        "y less middle [px]": y - 9.5,
        "magnitude [mag]": magnitudes[:, 1],
        "concentration [dex]": 0.4 * (magnitudes[:, 1] - magnitudes[:, 0]),
        "ellipticity": np.hypot(e1, e2),
        "snr": fluxes[:, 1] / np.sqrt(np.maximum(fluxes[:, 1], 0) / gain + 9 * np.pi * noise**2),
    }


def rounded(value):
    """Return a number, or several, as text."""
    return " ".join(f"{number:+.3f}" for number in np.atleast_1d(value))


def scatter(values):
    """Return half the width of the range of the middle 68 %."""
    low, high = np.quantile(values, [0.16, 0.84])
    return (high - low) / 2


def quantiles(values):
    """Return the quantiles as text."""
    return " ".join(f"{value:8.3f}" for value in np.quantile(values, QUANTILES))


if __name__ == "__main__":
    main()
