"""Cutouts -> a few photometric features that mean the same on every night."""

from ztf_sg.features.measure import FEATURES, measure_features
from ztf_sg.features.photometry import aperture_fluxes, background, centroids
from ztf_sg.features.psf import APCOR_SLOPE, MEAN_APCOR

__all__ = [
    "APCOR_SLOPE",
    "FEATURES",
    "MEAN_APCOR",
    "aperture_fluxes",
    "background",
    "centroids",
    "measure_features",
]
