"""Classifiers of cutouts as star or galaxy with MuyGPs, from photometric features or from pixels."""

from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, RobustScaler
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from ztf_sg.features import measure_features
from ztf_sg.model_file import REMEDY, ModelFileError, read_arrays, write_arrays
from ztf_sg.muygps import STATE_SHAPES, MuyGPSClassifier

CLASSIFIER_FEATURES = ("magnitude", "log_snr", "spread_model_1.3", "spread_model_2.0", "spread_model_3.5")
PRETRAINED = Path(__file__).with_name("pretrained.npz")  # written by python tools/train_model.py
BATCH_COUNT = 250  # cutouts that train the hyperparameters
MODEL_SHAPES = {"scaler_center": ("features",), "scaler_scale": ("features",), **STATE_SHAPES}


class StarGalaxyClassifier(ClassifierMixin, BaseEstimator):
    """Star-galaxy classifier of cutouts: :func:`~ztf_sg.features.measure_features`, scaling and MuyGPs.

    Parameters
    ----------
    nn_count : int
        Nearest neighbours per prediction.
    galaxy_fraction : float, optional
        Share of galaxies among the objects to be classified, if it is not that of the training set.
    random_state : int, RandomState instance or None
        Draws the batch that trains the hyperparameters.

    Attributes
    ----------
    classes_ : numpy.ndarray
        0 star, 1 galaxy.
    training_fraction_ : float
        Share of galaxies in the training set.
    pipeline_ : sklearn.pipeline.Pipeline
        Scaling and :class:`~ztf_sg.MuyGPSClassifier`, fitted on the features.

    Examples
    --------
    >>> from ztf_sg import StarGalaxyClassifier, load_cutouts
    >>> cutouts = load_cutouts("cutouts_test")  # doctest: +SKIP
    >>> StarGalaxyClassifier.pretrained().predict_proba(cutouts)  # doctest: +SKIP
    """

    def __init__(self, nn_count=50, galaxy_fraction=None, random_state=0):
        self.nn_count = nn_count
        self.galaxy_fraction = galaxy_fraction
        self.random_state = random_state

    def fit(self, cutouts, labels=None):
        """Train on n cutouts of known class, and return the classifier.

        Parameters
        ----------
        cutouts : CutoutSet
        labels : array-like of int, optional
            0 star, 1 galaxy; shape (n,). The labels of the set by default.

        Raises
        ------
        TypeError
            If cutouts is not a CutoutSet.
        ValueError
            If labels hold anything but 0 and 1, or one class only, or are not n, or `galaxy_fraction` is not
            between 0 and 1.
        """
        _check_fraction(self.galaxy_fraction)
        features = self.features(cutouts)
        labels = np.asarray(cutouts.labels if labels is None else labels)
        if labels.shape != (len(cutouts),):
            raise ValueError(f"labels: expected shape ({len(cutouts)},), one per cutout, got {labels.shape}")
        if not np.isin(labels, (0, 1)).all():
            found = ", ".join(map(str, np.unique(labels)))
            raise ValueError(
                f"labels must be 0 (star) or 1 (galaxy), got {found}; "
                "cutouts[cutouts.labels >= 0] leaves out unknown ones"
            )
        labels = labels.astype(int)
        self.pipeline_ = with_scaling(self._muygps()).fit(features, labels)
        self.classes_ = self.pipeline_.classes_
        self.training_fraction_, self._thresholds = float(labels.mean()), {}
        return self

    def predict(self, cutouts):
        """Return the more probable class of each cutout: 0 star, 1 galaxy; shape (n,)."""
        return (self.predict_proba(cutouts)[:, 1] > 0.5).astype(int)

    def predict_proba(self, cutouts):
        r"""Return the probabilities of star and galaxy, shape (n, 2).

        They presume the training set's share of galaxies :math:`f`. With another share :math:`g`,
        `galaxy_fraction`, the odds are multiplied by :math:`\frac{g}{1-g} \frac{1-f}{f}` (Saerens, Latinne &
        Decaestecker 2002, Neural Computation 14, 21).
        """
        galaxy = self._galaxy_probability(*self.posterior(cutouts))
        return np.stack([1 - galaxy, galaxy], axis=1)

    def posterior(self, cutouts):
        """Return mean and variance of the regression of the labels -1 and +1, shape (n,) each."""
        check_is_fitted(self)
        return self._posterior(self.features(cutouts))

    def confidence_threshold(self, max_error=0.01):
        """Return how many standard deviations from 0 the posterior mean of a decided object must be.

        Parameters
        ----------
        max_error : float
            Largest share of wrong answers among the decided objects, if each object of the training set is
            predicted from the others.

        Raises
        ------
        ValueError
            If max_error is not between 0 and 1.
        """
        check_is_fitted(self)
        if not 0 <= max_error < 1:
            raise ValueError(f"max_error: expected a share from 0 to 1, got {max_error!r}")
        if max_error not in self._thresholds:
            muygps = self.pipeline_[-1]
            mean, variance = muygps.leave_one_out()
            wrong = mean * muygps.get_state()["targets"] <= 0
            self._thresholds[max_error] = _threshold(_confidence(mean, variance), wrong, max_error)
        return self._thresholds[max_error]

    def ambiguous(self, cutouts, max_error=0.01):
        """Return which cutouts a person should look at, bool, shape (n,).

        Their posterior mean is within :meth:`confidence_threshold` standard deviations of 0, as in
        arXiv:2105.01106, or their class changes with `galaxy_fraction`. A `max_error` below the share of
        wrong labels in the training set makes many objects ambiguous.

        Parameters
        ----------
        cutouts : CutoutSet
        max_error : float
            See :meth:`confidence_threshold`.
        """
        return self.classify_features(self.features(cutouts), max_error)["ambiguous"]

    def classify_features(self, features, max_error=0.01):
        """Return all predictions for cutouts whose :meth:`features`, shape (n, 5), are known.

        Parameters
        ----------
        features : numpy.ndarray
        max_error : float
            See :meth:`confidence_threshold`.

        Returns
        -------
        dict of str to numpy.ndarray
            p_galaxy, posterior_variance, class (0 star, 1 galaxy) and ambiguous, shape (n,) each.
        """
        check_is_fitted(self)
        mean, variance = self._posterior(features)
        probability = self._galaxy_probability(mean, variance)
        galaxy = probability > 0.5
        undecided = _confidence(mean, variance) <= self.confidence_threshold(max_error)
        return {
            "p_galaxy": probability,
            "posterior_variance": variance,
            "class": galaxy.astype(int),
            "ambiguous": undecided | ((mean > 0) != galaxy),
        }

    @staticmethod
    def features(cutouts):
        """Return the `CLASSIFIER_FEATURES` of cutouts, shape (n, 5)."""
        return measure_features(cutouts, CLASSIFIER_FEATURES).to_numpy()

    def save(self, path):
        """Write the trained classifier to a file, ``.npz`` by custom, of plain arrays and JSON.

        A `random_state` that is a RandomState instance is stored as None.
        """
        write_arrays(path, *self._get_state())

    @classmethod
    def load(cls, path):
        """Return the trained classifier that :meth:`save` wrote to a path; nothing in the file is executed.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ModelFileError
            If the file holds no usable model, or that of another version.
        """
        arrays, description = read_arrays(path, MODEL_SHAPES)
        try:
            return cls._from_state(arrays, description)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ModelFileError(f"{path}: no model that can be used ({error}); {REMEDY}") from error

    @classmethod
    def pretrained(cls):
        """Return a classifier for ZTF i-band cutouts, trained on the bundled simulated ones."""
        return cls.load(PRETRAINED)

    def is_saved_in(self, path):
        """Return whether a file holds this trained classifier, whatever version of the package wrote it."""
        arrays, description = self._get_state()
        try:
            others, other_description = self.load(path)._get_state()
        except ModelFileError:  # of a version that cannot be compared
            return False
        same = all(np.array_equal(array, others[name]) for name, array in arrays.items())
        return same and description == other_description

    def _get_state(self):
        """Return the arrays of a trained classifier, and a description that JSON can hold."""
        check_is_fitted(self)
        scaler, _, muygps = self.pipeline_.named_steps.values()
        arrays = {"scaler_center": scaler.center_, "scaler_scale": scaler.scale_, **muygps.get_state()}
        is_number = isinstance(self.random_state, (int, np.integer))
        return arrays, {
            "features": list(CLASSIFIER_FEATURES),
            "nn_count": int(self.nn_count),
            "galaxy_fraction": None if self.galaxy_fraction is None else float(self.galaxy_fraction),
            "random_state": int(self.random_state) if is_number else None,
            "training_fraction": self.training_fraction_,
            "smoothness": muygps.smoothness,
        }

    @classmethod
    def _from_state(cls, arrays, description):
        """Return the classifier that `_get_state` describes, or raise an error if there can be none."""
        if description["features"] != list(CLASSIFIER_FEATURES):
            raise ValueError(f"it was trained on the features {description['features']}")
        model = cls(*(description[name] for name in ("nn_count", "galaxy_fraction", "random_state")))
        check_random_state(model.random_state)
        _check_fraction(model.galaxy_fraction)
        model.pipeline_ = with_scaling(model._muygps())
        scaler, _, muygps = model.pipeline_.named_steps.values()
        muygps.smoothness = float(description["smoothness"])
        scaler.center_, scaler.scale_ = arrays.pop("scaler_center"), arrays.pop("scaler_scale")
        scaler.n_features_in_ = len(CLASSIFIER_FEATURES)
        if scaler.scale_.shape != (scaler.n_features_in_,) or scaler.scale_.min() <= 0:
            raise ValueError(f"its scale {scaler.scale_} is not positive for each feature")
        model.training_fraction_ = float(description["training_fraction"])
        if not 0 < model.training_fraction_ < 1:
            raise ValueError(f"its training set has a share of {model.training_fraction_} galaxies")
        model.classes_, model._thresholds = np.array([0, 1]), {}
        muygps.set_state(model.classes_, **arrays)
        return model

    def _muygps(self):
        return MuyGPSClassifier(self.nn_count, batch_count=BATCH_COUNT, random_state=self.random_state)

    def _posterior(self, features):
        return self.pipeline_[-1].posterior(self.pipeline_[:-1].transform(features))

    def _galaxy_probability(self, mean, variance):
        probability = self.pipeline_[-1].probability(mean, variance)
        if self.galaxy_fraction is None:
            return probability
        _check_fraction(self.galaxy_fraction)
        wanted, trained = self.galaxy_fraction, self.training_fraction_
        star, galaxy = (1 - probability) * (1 - wanted) / (1 - trained), probability * wanted / trained
        return galaxy / (star + galaxy)


def with_scaling(classifier):
    """Return a pipeline that scales features, clips their outliers, and classifies them."""
    clip = FunctionTransformer(np.clip, kw_args={"a_min": -3.0, "a_max": 3.0})  # outliers get neighbours
    return make_pipeline(RobustScaler(), clip, classifier)


def _confidence(mean, variance):
    """Return how many standard deviations from 0 the posterior means are, (n,)."""
    return np.abs(mean) / np.sqrt(np.maximum(variance, 1e-12))


def _threshold(confidence, wrong, max_error):
    """Return the least confidence above which at most a share `max_error` of the predictions is wrong."""
    order = np.argsort(-confidence)
    ranked, wrong = confidence[order], wrong[order]
    last = np.append(ranked[1:] * (1 + 1e-12) < ranked[:-1], True)  # of those that are equally confident
    allowed = np.flatnonzero(last & (np.cumsum(wrong) <= max_error * np.arange(1, len(wrong) + 1)))
    decided = allowed[-1] + 1 if len(allowed) else 0
    return 0.0 if decided == len(ranked) else float(ranked[decided]) * (1 + 1e-12)


def _check_fraction(galaxy_fraction):
    if galaxy_fraction is not None and not 0 < galaxy_fraction < 1:
        raise ValueError(f"galaxy_fraction: expected a number between 0 and 1, got {galaxy_fraction!r}")


class PixelClassifier(ClassifierMixin, BaseEstimator):
    """MuyGPs on the principal components of the pixels of cutouts, raw or normalized.

    The sky has no preferred direction: each training cutout is used in all its :func:`orientations`.

    Parameters
    ----------
    n_components : int
        Principal components, as in arXiv:2105.01106; fewer if the training set has fewer cutouts.
    nn_count, random_state
        As of :class:`StarGalaxyClassifier`.

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
            If y does not hold exactly two classes.
        """
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
