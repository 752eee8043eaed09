"""The classifier of cutouts as star or galaxy: photometric features, scaling and MuyGPs."""

import warnings
from numbers import Real
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, RobustScaler
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from ztf_sg.checks import check_unmasked, is_number
from ztf_sg.features import measure_features
from ztf_sg.model_file import REMEDY, ModelFileError, read_arrays, write_arrays
from ztf_sg.muygps import STATE_SHAPES, MuyGPSClassifier
from ztf_sg.muygps.confidence import confidence, doubts, judge, least_confidence

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
    filters_ : tuple of str
        Filters of the training set, such as ZTF_i, sorted; none if they are not known.
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
            If labels hold anything but 0 and 1, masked values, or one class only, or are not n, or
            `galaxy_fraction` is not between 0 and 1.

        Warns
        -----
        UserWarning
            If there are too few cutouts for `nn_count` neighbours.
        """
        _check_fraction(self.galaxy_fraction)
        features = feature_matrix(cutouts)
        labels = _binary_labels(cutouts.labels if labels is None else labels, len(cutouts))
        self.pipeline_ = with_scaling(self._muygps()).fit(features, labels)
        self.classes_ = self.pipeline_.classes_
        self.training_fraction_, self._judged = float(labels.mean()), None
        self.filters_ = tuple(sorted(_count_filters(cutouts)))
        return self

    def predict(self, cutouts):
        """Return the more probable class of each cutout: 0 star, 1 galaxy; shape (n,).

        Warns
        -----
        UserWarning
            If cutouts are of other filters than those of the training set.
        """
        return (self.predict_proba(cutouts)[:, 1] > 0.5).astype(int)

    def predict_proba(self, cutouts):
        r"""Return the probabilities of star and galaxy, shape (n, 2).

        They presume the training set's share of galaxies :math:`f`. With another share :math:`g`,
        `galaxy_fraction`, the odds are multiplied by :math:`\frac{g}{1-g} \frac{1-f}{f}` (Saerens, Latinne &
        Decaestecker 2002, Neural Computation 14, 21).

        Warns
        -----
        UserWarning
            If cutouts are of other filters than those of the training set.
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

        Returns
        -------
        float
            Infinite, so that no object is decided, if the training set cannot show so small a share: of n
            decided objects the share is known in steps of 1/n.

        Raises
        ------
        ValueError
            If max_error is not a number of at least 0 and below 1.

        Warns
        -----
        UserWarning
            If the training set cannot show so small a share, or more of its own labels than that seem wrong:
            the prediction from the others contradicts them with a probability above 0.99. Those count as
            wrong answers, and keep more objects undecided than need be.
        """
        check_is_fitted(self)
        if not (is_number(max_error) and 0 <= max_error < 1):
            raise ValueError(f"max_error: expected a number of at least 0 and below 1, got {max_error!r}")
        if self._judged is None:
            self._judged = judge(self.pipeline_[-1])
        *predictions, contradicted = self._judged
        threshold, least = least_confidence(*predictions, max_error)
        if text := doubts(max_error, len(predictions[0]), least, contradicted):
            warnings.warn(text, stacklevel=2)
        return threshold

    def ambiguous(self, cutouts, max_error=0.01):
        """Return which cutouts a person should look at, bool, shape (n,).

        Their posterior mean is within :meth:`confidence_threshold` standard deviations of 0, as in
        arXiv:2105.01106, or their class changes with `galaxy_fraction`.

        Parameters
        ----------
        cutouts : CutoutSet
        max_error : float
            See :meth:`confidence_threshold`.

        Raises
        ------
        ValueError
            If max_error is not a number of at least 0 and below 1.

        Warns
        -----
        UserWarning
            If max_error is too small for the training set, see :meth:`confidence_threshold`, or cutouts are
            of other filters.
        """
        threshold = self.confidence_threshold(max_error)
        return self.classify_features(self.features(cutouts), threshold)["ambiguous"]

    def classify_features(self, features, threshold):
        """Return all predictions for cutouts whose :meth:`features`, shape (n, 5), are known.

        Parameters
        ----------
        features : numpy.ndarray
        threshold : float
            What :meth:`confidence_threshold` returns.

        Returns
        -------
        dict of str to numpy.ndarray
            p_galaxy, posterior_variance, class (0 star, 1 galaxy) and ambiguous, shape (n,) each.
        """
        check_is_fitted(self)
        mean, variance = self._posterior(features)
        probability = self._galaxy_probability(mean, variance)
        galaxy = probability > 0.5
        undecided = confidence(mean, variance) <= threshold
        return {
            "p_galaxy": probability,
            "posterior_variance": variance,
            "class": galaxy.astype(int),
            "ambiguous": undecided | ((mean > 0) != galaxy),
        }

    def features(self, cutouts):
        """Return the :func:`feature_matrix` of cutouts, shape (n, 5); warn of those of other filters."""
        features = feature_matrix(cutouts)
        self.warn_of_filters(self.other_filters(cutouts))
        return features

    def other_filters(self, cutouts):
        """Return how many cutouts are of each filter that the training set lacks, a dict of str to int."""
        known = getattr(self, "filters_", ())
        return {name: count for name, count in _count_filters(cutouts).items() if known and name not in known}

    def warn_of_filters(self, others, where=""):
        """Warn of cutouts of :meth:`other_filters`, if there are any; the text begins with `where`."""
        if others:
            counts = ", ".join(f"{count} in {name}" for name, count in sorted(others.items()))
            warnings.warn(
                f"{where}{sum(others.values())} cutouts are of other filters ({counts}) than those that the "
                f"classifier was trained on ({', '.join(self.filters_)}): its answers for them may be wrong; "
                "train one on labelled cutouts of their filters",
                stacklevel=3,
            )

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
        if not (description["filters"] and other_description["filters"]):  # one of them does not know
            description["filters"] = other_description["filters"]
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
            "filters": list(self.filters_),
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
        model.classes_, model._judged = np.array([0, 1]), None
        model.filters_ = tuple(description.get("filters", ()))  # older files do not tell
        if not all(isinstance(name, str) for name in model.filters_):
            raise ValueError(f"its filters {model.filters_} are not names")
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


def feature_matrix(cutouts):
    """Return the `CLASSIFIER_FEATURES` of cutouts, shape (n, 5)."""
    return measure_features(cutouts, CLASSIFIER_FEATURES).to_numpy()


def with_scaling(classifier):
    """Return a pipeline that scales features, clips their outliers, and classifies them."""
    clip = FunctionTransformer(np.clip, kw_args={"a_min": -3.0, "a_max": 3.0})  # outliers get neighbours
    return make_pipeline(RobustScaler(), clip, classifier)


def _binary_labels(labels, n):
    """Return n labels as integers; raise a ValueError unless all are 0 or 1."""
    check_unmasked(labels=labels)
    labels = np.asarray(labels)
    if labels.shape != (n,):
        raise ValueError(f"labels: expected shape ({n},), one per cutout, got {labels.shape}")
    if not all(isinstance(label, Real) and label in (0, 1) for label in labels.tolist()):
        found = ", ".join(sorted(set(map(repr, labels.tolist())))[:5])
        raise ValueError(
            f"labels must be 0 (star) or 1 (galaxy), got {found}; "
            "cutouts[cutouts.labels >= 0] leaves out unknown ones"
        )
    return labels.astype(int)


def _count_filters(cutouts):
    """Return how many cutouts are of each known filter, a dict of str to int."""
    if "filter" not in cutouts.table:
        return {}
    counts = cutouts.table["filter"].value_counts()
    return {str(name): int(count) for name, count in counts.items() if str(name) and count}


def _check_fraction(galaxy_fraction):
    if galaxy_fraction is not None and not (is_number(galaxy_fraction) and 0 < galaxy_fraction < 1):
        raise ValueError(f"galaxy_fraction: expected a number between 0 and 1, got {galaxy_fraction!r}")
