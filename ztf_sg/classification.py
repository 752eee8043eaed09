"""Stars and galaxies told apart on cutouts with MuyGPs: from photometric features, or from pixels."""

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, RobustScaler
from sklearn.utils.validation import check_is_fitted, validate_data

from ztf_sg.embedding import embed
from ztf_sg.muygps import MuyGPSClassifier

CLASSIFIER_FEATURES = ("magnitude", "log_snr", "spread_1.3", "spread_2.0", "spread_3.5")
OUTLIER = 3.0  # scaled features are clipped here, so that rare ones have neighbours


class StarGalaxyClassifier(ClassifierMixin, BaseEstimator):
    """Star-galaxy classifier of ZTF cutouts: :func:`~ztf_sg.embedding.embed`, scaling and MuyGPs.

    Parameters
    ----------
    nn_count : int
        Nearest neighbours that each prediction is conditioned on.
    random_state : int, RandomState instance or None
        Draws the batch that trains the hyperparameters.

    Attributes
    ----------
    classes_ : numpy.ndarray
        0 star, 1 galaxy.
    pipeline_ : sklearn.pipeline.Pipeline
        Scaling and :class:`~ztf_sg.muygps.MuyGPSClassifier`, fitted on the features.

    Examples
    --------
    >>> from ztf_sg import StarGalaxyClassifier, load_cutouts
    >>> cutouts = load_cutouts("cutouts_test")  # doctest: +SKIP
    >>> model = StarGalaxyClassifier().fit(cutouts, cutouts.labels)  # doctest: +SKIP
    >>> model.predict_proba(cutouts)  # doctest: +SKIP
    """

    def __init__(self, nn_count=50, random_state=0):
        self.nn_count = nn_count
        self.random_state = random_state

    def fit(self, cutouts, labels=None):
        """Train on cutouts of known class.

        Parameters
        ----------
        cutouts : CutoutSet
            n cutouts.
        labels : array-like of int, optional
            0 star, 1 galaxy; shape (n,). The set's own labels when left out.

        Returns
        -------
        StarGalaxyClassifier
            Itself.

        Raises
        ------
        TypeError
            If cutouts is not a CutoutSet.
        ValueError
            If labels hold anything but 0 and 1, or one class only, or are not n.
        """
        features = self._features(cutouts)
        labels = np.asarray(cutouts.labels if labels is None else labels)
        if labels.shape != (len(cutouts),):
            raise ValueError(f"labels: expected shape ({len(cutouts)},), one a cutout, got {labels.shape}")
        if not np.isin(labels, (0, 1)).all():
            found = ", ".join(map(str, np.unique(labels)))
            raise ValueError(
                f"labels must be 0 (star) or 1 (galaxy), got {found}; "
                "cutouts[cutouts.labels >= 0] leaves out unknown ones"
            )
        self.pipeline_ = make_pipeline(
            RobustScaler(),
            FunctionTransformer(np.clip, kw_args={"a_min": -OUTLIER, "a_max": OUTLIER}),
            MuyGPSClassifier(nn_count=self.nn_count, random_state=self.random_state),
        ).fit(features, labels)
        self.classes_ = self.pipeline_.classes_
        return self

    def predict(self, cutouts):
        """Return the more probable class of each cutout: 0 star, 1 galaxy; shape (n,)."""
        check_is_fitted(self)
        return self.pipeline_.predict(self._features(cutouts))

    def predict_proba(self, cutouts):
        """Return probabilities, shape (n, 2), columns star and galaxy; rows sum to one."""
        check_is_fitted(self)
        return self.pipeline_.predict_proba(self._features(cutouts))

    def posterior(self, cutouts):
        """Return mean and variance of the regression of the labels -1 and +1, shape (n,) each."""
        check_is_fitted(self)
        return self.pipeline_[-1].posterior(self.pipeline_[:-1].transform(self._features(cutouts)))

    def posterior_variance(self, cutouts):
        """Return the posterior variance of each cutout, shape (n,)."""
        return self.posterior(cutouts)[1]

    @staticmethod
    def _features(cutouts):
        return embed(cutouts)[list(CLASSIFIER_FEATURES)].to_numpy()


class PixelClassifier(ClassifierMixin, BaseEstimator):
    """MuyGPs on the pixels of square cutouts, raw or normalized, embedded by principal components.

    The sky has no preferred direction: each training cutout is used in its eight orientations.

    Parameters
    ----------
    n_components : int
        Principal components kept, as in arXiv:2105.01106; fewer if the training set has fewer cutouts.
    nn_count : int
        Nearest neighbours that each prediction is conditioned on.
    random_state : int, RandomState instance or None
        Draws the batch that trains the hyperparameters.

    Attributes
    ----------
    classes_ : numpy.ndarray
        The two classes.
    pipeline_ : sklearn.pipeline.Pipeline
        Principal components and :class:`~ztf_sg.muygps.MuyGPSClassifier`.
    """

    def __init__(self, n_components=20, nn_count=30, random_state=0):
        self.n_components = n_components
        self.nn_count = nn_count
        self.random_state = random_state

    def fit(self, X, y):
        """Train on flattened square cutouts X, shape (n, side**2), of two classes y, shape (n,)."""
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
        return self._fitted().predict(validate_data(self, X, dtype=np.float64, reset=False))

    def predict_proba(self, X):
        """Return the probabilities of the two classes, shape (n, 2)."""
        return self._fitted().predict_proba(validate_data(self, X, dtype=np.float64, reset=False))

    def posterior(self, X):
        """Return mean and variance of the regression of the labels -1 and +1, shape (n,) each."""
        components = self._fitted()[0].transform(validate_data(self, X, dtype=np.float64, reset=False))
        return self.pipeline_[1].posterior(components)

    def _fitted(self):
        check_is_fitted(self)
        return self.pipeline_


def orientations(X):
    """Return flattened square cutouts in their eight orientations.

    Parameters
    ----------
    X : numpy.ndarray
        Shape (n, side**2).

    Returns
    -------
    numpy.ndarray
        Shape (8 n, side**2): the n cutouts in one orientation, then in the next.

    Raises
    ------
    ValueError
        If the rows are not those of square cutouts.
    """
    side = round(X.shape[1] ** 0.5)
    if side**2 != X.shape[1]:
        raise ValueError(f"expected flattened square cutouts, got rows of {X.shape[1]} pixels")
    images = X.reshape(-1, side, side)
    turned = [np.rot90(image, turns, (1, 2)) for image in (images, images[:, :, ::-1]) for turns in range(4)]
    return np.concatenate(turned).reshape(-1, side**2)
