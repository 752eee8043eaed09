"""Print how well the point-spread functions (PSFs) of images match their own bright stars.

python benchmarks/psf_residuals.py FOLDER [FOLDER ...]

A folder has labelled cutouts, or science images and ``detections.csv`` as of ``benchmarks/bands.py``. Spread
models and concentrations of stars are 0 if the PSF is right: each row has their median and their scatter
(1.48 times the median distance from it) over the stars of one image.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.stats import mad_std
from bands import Image

from ztf_sg import load_cutouts
from ztf_sg.features import measure_features
from ztf_sg.features.measure import CONCENTRATIONS, SPREAD_MODELS

SHOWN = SPREAD_MODELS + CONCENTRATIONS
MIN_SNR, FEWEST = 50, 3  # of the stars; of stars per image


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    stars = [bright_stars(cutouts) for folder in parser.parse_args().folders for cutouts in sets_of(folder)]
    table = residuals(pd.concat(stars, ignore_index=True))
    print(table.to_string(index=False, float_format="%.3f"))
    print("\nmedian over the images of a band, of the modulus of medians and of the scatter")
    table = table.drop(columns=["seeing", "stars"]).set_index("band").abs()
    print(table.groupby("band").median().to_string(float_format="%.4f"))


def sets_of(folder):
    """Return a folder's cutouts as a list of one CutoutSet, or one of detected stars for each image."""
    if not (folder / "detections.csv").exists():
        return [load_cutouts(folder)]
    detections = pd.read_csv(folder / "detections.csv").groupby("file")
    sets = [Image(folder / name, rows).stars() for name, rows in detections]
    return [cutouts for cutouts in sets if cutouts]


def bright_stars(cutouts):
    """Return features, filter, seeing [px] and time of the bright stars of a set that have no flag."""
    table = measure_features(cutouts, ["log_snr", *SHOWN, "saturated", "blended"])
    table = table.assign(**cutouts.table[["filter", "seeing", "obsmjd"]])
    bright = (table["log_snr"] > np.log10(MIN_SNR)) & ~table["saturated"] & ~table["blended"]
    return table[bright & (cutouts.labels == 0)]


def residuals(stars):
    """Return a table of the images with enough stars: band, seeing, stars, median and scatter by feature."""
    rows = []
    for (_, band, seeing), image in stars.groupby(["obsmjd", "filter", "seeing"]):
        if len(image) >= FEWEST:
            values = image[list(SHOWN)]
            found = np.stack([values.median(), mad_std(values, axis=0)], axis=1).ravel()
            rows.append([band.removeprefix("ZTF_"), seeing, len(image), *found])
    names = [f"{name.removeprefix('spread_model_')} {what}" for name in SHOWN for what in ("med", "sd")]
    return pd.DataFrame(rows, columns=["band", "seeing", "stars", *names]).sort_values(["band", "seeing"])


if __name__ == "__main__":
    main()
