"""A classifier of the pixels of cutouts: principal components and MuyGPs."""

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.utils.validation import check_is_fitted, validate_data

from ztf_sg.checks import check_unmasked
from ztf_sg.muygps import MuyGPSClassifier


class PixelClassifier(ClassifierMixin, BaseEstimator):
    """MuyGPs on the principal components of the pixels of cutouts, raw or normalized.

    The sky has no preferred direction: each training cutout is used in all its :func:`orientations`.

    Parameters
    ----------
    n_components : int
        Principal components, as in arXiv:2105.01106; fewer if the training set has fewer cutouts.
    nn_count, random_state
        As of :class:`~ztf_sg.StarGalaxyClassifier`.

    Attributes
    ----------
    classes_ : numpy.ndarray
        The two classes.
    pipeline_ : sklearn.pipeline.Pipeline
        Principal components and :class:`~ztf_sg.MuyGPSClassifier`.
    """

    def __init__(self, n_components=20, nn_count=30, random_state=0):
        self.n_components = n_components
        self.nn_count = nn_count
        self.random_state = random_state

    def fit(self, X, y):
        """Train on flattened cutouts X (n, height * width) of two classes y (n,), and return the classifier.

        Raises
        ------
        ValueError
            If values are masked, or y does not hold exactly two classes.
        """
        check_unmasked(X=X, y=y)
        X, y = validate_data(self, X, y, dtype=np.float64)
        oriented = orientations(X)
        copies = len(oriented) // len(X)
        self.pipeline_ = make_pipeline(
            PCA(min(self.n_components, *X.shape), random_state=self.random_state),
            MuyGPSClassifier(nn_count=self.nn_count, batch_count=300, random_state=self.random_state),
        ).fit(oriented, np.tile(y, copies), muygpsclassifier__groups=np.tile(np.arange(len(X)), copies))
        self.classes_ = self.pipeline_.classes_
        return self

    def predict(self, X):
        """Return the more probable class of each row of X, shape (n,)."""
        second = self.predict_proba(X)[:, 1] > 0.5
        return self.classes_[second.astype(int)]

    def predict_proba(self, X):
        """Return the probabilities of the two classes, shape (n, 2)."""
        check_is_fitted(self)
        check_unmasked(X=X)
        return self.pipeline_.predict_proba(validate_data(self, X, dtype=np.float64, reset=False))


def orientations(X):
    """Return flattened cutouts, shape (n, height * width), in the orientations that keep their shape.

    Squares have eight. Of rows that cannot be those of squares, the shape is not known, and only half a turn
    keeps it whatever it is.

    Returns
    -------
    numpy.ndarray
        Shape (8 n, side**2) or (2 n, height * width): the n cutouts in one orientation, then in the next.
    """
    side = round(X.shape[1] ** 0.5)
    if side**2 != X.shape[1]:
        return np.concatenate([X, X[:, ::-1]])
    images = X.reshape(-1, side, side)
    turned = [np.rot90(image, turns, (1, 2)) for image in (images, images[:, :, ::-1]) for turns in range(4)]
    return np.concatenate(turned).reshape(-1, side**2)
