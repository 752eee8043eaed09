"""MuyGPs: a Gaussian process conditioned on nearest neighbours, as a scikit-learn classifier."""

from ztf_sg.muygps.classifier import STATE_SHAPES, MuyGPSClassifier

__all__ = ["MuyGPSClassifier", "STATE_SHAPES"]
