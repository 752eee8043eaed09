"""Cutouts -> a few photometric features that mean the same in every image."""

from ztf_sg.features.measure import FEATURES, FLAGS, measure_features
from ztf_sg.features.photometry import aperture_fluxes, background, centroids

__all__ = ["FEATURES", "FLAGS", "aperture_fluxes", "background", "centroids", "measure_features"]
