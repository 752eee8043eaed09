"""Cutouts -> a few photometric features that mean the same on every night."""

from ztf_sg.features.photometry import (
    APCOR_SLOPE,
    FEATURES,
    MEAN_APCOR,
    aperture_fluxes,
    background,
    centroids,
    measure_features,
)

__all__ = [
    "APCOR_SLOPE",
    "FEATURES",
    "MEAN_APCOR",
    "aperture_fluxes",
    "background",
    "centroids",
    "measure_features",
]
