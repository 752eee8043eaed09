"""Cutouts with the headers of images whose PSF is known."""

from functools import cache

import numpy as np
import pandas as pd
from helpers import moffat_stars, near_middle

from ztf_sg import CutoutSet
from ztf_sg.features.psf import APCOR_COLUMNS, aperture_shares

BETA = 2.8  # Moffat index of the PSF


@cache
def corrections(fwhm, beta=BETA):
    """Return the APCOR1..6 of an image by name [mag]."""
    return dict(zip(APCOR_COLUMNS, 2.5 * np.log10(aperture_shares([fwhm], [beta])[0]), strict=True))


def cutout_set(images, fwhm=1.4, **changes):
    """Return a CutoutSet of images with the header of a typical ZTF image, whose PSF has some FWHM [px]."""
    values = {
        "seeing": np.hypot(fwhm, 0.95), "magzp": 25.6, "gain": 6.2, "saturate": 49000.0, "obsmjd": 58738.4,
        "filter": "ZTF_i", **corrections(fwhm),
    }  # fmt: skip
    images = np.asarray(images, dtype=np.float32)
    table = pd.DataFrame(values | changes, index=range(len(images)))
    return CutoutSet(images, np.zeros(len(images), dtype=np.int8), table)


def stars(n=40, fwhm=1.4, flux=1e4, sky=250.0, broader=1.0, random_state=0):
    """Return noiseless stars, or objects that are broader than stars."""
    x, y = near_middle(n, random_state=random_state)
    return cutout_set(sky + flux * moffat_stars(x, y, broader * fwhm, BETA), fwhm)
