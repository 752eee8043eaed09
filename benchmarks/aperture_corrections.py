"""Print how APCOR1..6 depend on SEEING in a folder of cutouts, beside the simulator's PSF.

python benchmarks/aperture_corrections.py [FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np

from ztf_sg import load_cutouts
from ztf_sg.services.mock_sky import APERTURES, PSF_FWHM_OVER_SEEING, encircled_energy

BUNDLED = Path(__file__).parents[1] / "cutouts_test"
REFERENCE = 1.6  # seeing at which the relation is given [px]


def main():
    """Fit a line to each correction, over all cutouts of the folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", default=BUNDLED, help="folder of cutouts")
    cutouts = load_cutouts(parser.parse_args().folder)
    *shares, psf_share = encircled_energy(PSF_FWHM_OVER_SEEING * REFERENCE)
    print(
        f"{cutouts}\nAPCOR at seeing {REFERENCE} px, its slope with seeing, and that of the simulator's PSF:"
    )
    for number, (diameter, share) in enumerate(zip(APERTURES, shares, strict=True), start=1):
        correction = cutouts.table[f"apcor{number}"]
        slope, value = np.polyfit(cutouts.table["seeing"] - REFERENCE, correction, 1)
        model = 2.5 * np.log10(share / psf_share)
        print(f"{diameter:3d} px  {value:+.3f} mag  {slope:+.3f} mag/px  PSF {model:+.3f} mag")


if __name__ == "__main__":
    main()
