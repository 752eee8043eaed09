"""The classifier of cutouts as star or galaxy: photometric features, scaling and MuyGPs."""

import json
import warnings
from hashlib import sha256
from numbers import Real
from pathlib import Path

import numpy as np
from scipy.special import logit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, RobustScaler
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from ztf_sg.checks import check_unmasked, is_number
from ztf_sg.features import FLAGS, measure_features
from ztf_sg.model_file import REMEDY, ModelFileError, read_arrays, write_arrays
from ztf_sg.muygps import STATE_SHAPES, MuyGPSClassifier
from ztf_sg.muygps.confidence import confidence, doubts, judge, least_confidence
from ztf_sg.priors import check_fraction, fraction_column, with_fraction
from ztf_sg.training_range import (
    check_ranges,
    conditions_of,
    describe,
    outside_by_condition,
    ranges_of,
    summarize,
)

CLASSIFIER_FEATURES = ("log_snr", "spread_model_1.3", "spread_model_2.0", "spread_model_4.0")
PRETRAINED = Path(__file__).with_name("pretrained.npz")  # written by python tools/train_model.py,
PRETRAINED_ANY_DEPTH = Path(__file__).with_name("pretrained_any_depth.npz")  # as this one
BATCH_COUNT = 500  # cutouts that train the hyperparameters
MODEL_SHAPES = {"scaler_center": ("features",), "scaler_scale": ("features",), **STATE_SHAPES}


class StarGalaxyClassifier(ClassifierMixin, BaseEstimator):
    """Star-galaxy classifier of cutouts: :func:`~ztf_sg.features.measure_features`, scaling and MuyGPs.

    Parameters
    ----------
    nn_count : int
        Nearest neighbours per prediction.
    galaxy_fraction : float or str, optional
        Share of galaxies among the objects to be classified, or the name of a column of ``cutouts.table``
        that holds it for each object, so that it may follow magnitude or Galactic latitude; numbers strictly
        between 0 and 1. By default that of the training set: 0.5 for the pretrained classifier, which
        presumes nothing of how common stars and galaxies are.
    random_state : int, RandomState instance or None
        Draws the batch that trains the hyperparameters.

    Attributes
    ----------
    classes_ : numpy.ndarray
        0 star, 1 galaxy.
    training_fraction_ : float
        Share of galaxies in the training set.
    ranges_ : dict of str to tuple of float
        Smallest and largest "S/N" and "seeing" [px] of the training set. Objects that exceed them by more
        than 10 % are outside of what the classifier knows.
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
            `galaxy_fraction` is a number that is not between 0 and 1. Its column is not needed to train.

        Warns
        -----
        UserWarning
            If there are too few cutouts for `nn_count` neighbours.
        """
        check_fraction(self.galaxy_fraction)
        features = _measure(cutouts)
        labels = _binary_labels(cutouts.labels if labels is None else labels, len(cutouts))
        self.pipeline_ = with_scaling(self._muygps()).fit(_matrix(features), labels)
        self.classes_ = self.pipeline_.classes_
        self.training_fraction_, self._judged = float(labels.mean()), None
        self.ranges_ = ranges_of(conditions_of(features))
        return self

    def predict(self, cutouts):
        """Return the more probable class of each cutout: 0 star, 1 galaxy; errors as `predict_proba`.

        Returns
        -------
        numpy.ndarray of int (n,)
        """
        return (self._probability_of(self._checked_features(cutouts)) > 0.5).astype(int)

    def predict_proba(self, cutouts):
        r"""Return the probabilities of star and galaxy, shape (n, 2).

        What is learned is how much likelier the image is for a galaxy than for a star. The training set's
        share of galaxies :math:`f` makes of it the odds of a galaxy. With another share :math:`g`,
        `galaxy_fraction`, they are multiplied by :math:`\frac{g}{1-g} \frac{1-f}{f}` (Saerens, Latinne &
        Decaestecker 2002, Neural Computation 14, 21).

        Raises
        ------
        ValueError
            If the column that `galaxy_fraction` names is missing, or a value of it is missing or not strictly
            between 0 and 1; the message names the rows.

        Warns
        -----
        UserWarning
            If cutouts are outside of what the classifier was trained on, see `ranges_`.
        """
        galaxy = self._probability_of(self._checked_features(cutouts))
        return np.stack([1 - galaxy, galaxy], axis=1)

    def posterior(self, cutouts):
        """Return mean and variance of the regression of the labels -1 and +1, shape (n,) each."""
        return self._posterior(self._checked_features(cutouts))

    def confidence_threshold(self, max_error=0.01):
        """Return the probability of its likelier class that a decided object must exceed, before any prior.

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
        if self._judged is None:
            self._judged = judge(self.pipeline_[-1])
        *predictions, contradicted = self._judged
        threshold, least = least_confidence(*predictions, max_error)
        if text := doubts(max_error, len(predictions[0]), least, contradicted):
            warnings.warn(text, stacklevel=2)
        return threshold

    def ambiguous(self, cutouts, max_error=0.01):
        """Return which cutouts a person should look at, bool, shape (n,).

        The probability of their likelier class is at most :meth:`confidence_threshold` (a large posterior
        variance keeps it near 1/2, arXiv:2105.01106), their class changes with `galaxy_fraction`, they are
        outside of what the classifier was trained on, see `ranges_`, or they are saturated and seem to be
        galaxies, as a star does whose light has bled along its column.

        Parameters
        ----------
        cutouts : CutoutSet
        max_error : float
            See :meth:`confidence_threshold`.

        Raises
        ------
        ValueError
            If max_error is not a number of at least 0 and below 1, or as :meth:`predict_proba`.

        Warns
        -----
        UserWarning
            If max_error is too small for the training set, see :meth:`confidence_threshold`, or cutouts are
            outside of what the classifier was trained on.
        """
        threshold = self.confidence_threshold(max_error)
        return self.classify_features(self._checked_features(cutouts), threshold)["ambiguous"]

    def classify_features(self, features, threshold):
        """Return all predictions for cutouts whose :meth:`features` are known, without a warning.

        Parameters
        ----------
        features : pandas.DataFrame
            n rows.
        threshold : float
            What :meth:`confidence_threshold` returns.

        Returns
        -------
        dict of str to numpy.ndarray
            p_galaxy; log_ratio, the natural logarithm of how much likelier the image is for a galaxy than for
            a star, before any prior; posterior_variance, class (0 star, 1 galaxy), ambiguous, outside, and
            the flags of :func:`~ztf_sg.features.measure_features`, shape (n,) each.
        """
        check_is_fitted(self)
        mean, variance = self._posterior(features)
        probability = self._galaxy_probability(mean, variance, features)
        galaxy = probability > 0.5
        undecided = confidence(self.pipeline_[-1].probability(mean, variance)) <= threshold
        outside = outside_by_condition(conditions_of(features), self.ranges_).any(axis=1).to_numpy()
        saturated = features["saturated"].to_numpy()
        return {
            "p_galaxy": probability,
            "log_ratio": self.pipeline_[-1].log_odds(mean, variance) - logit(self.training_fraction_),
            "posterior_variance": variance,
            "class": galaxy.astype(int),
            "ambiguous": undecided | ((mean > 0) != galaxy) | outside | (saturated & galaxy),
            "outside": outside,
            **{name: features[name].to_numpy() for name in FLAGS},
        }

    def features(self, cutouts):
        """Return what :meth:`classify_features` needs to know of n cutouts; errors as `predict_proba`.

        Returns
        -------
        pandas.DataFrame
            n rows: the `CLASSIFIER_FEATURES`, flags, seeing [px], and galaxy_fraction if that is a column of
            ``cutouts.table``.
        """
        if not isinstance(self.galaxy_fraction, str):
            return _measure(cutouts)
        features = _measure(cutouts)
        return features.assign(galaxy_fraction=fraction_column(cutouts.table, self.galaxy_fraction))

    def summarize_outside(self, features):
        """Return how many of the objects of some :meth:`features` are outside, as `summarize`."""
        return summarize(conditions_of(features), self.ranges_)

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
    def pretrained(cls, any_depth=False):
        """Return a classifier for ZTF cutouts of any band and seeing, trained on simulated ones.

        Parameters
        ----------
        any_depth : bool
            Whether the sources may be fainter in an image than those of a list that is limited by brightness.
            By default the training set is limited, as lists are: by an S/N of 8 in an aperture of 4 px. Since
            a fit of the PSF takes less of a galaxy's light, the faintest by that S/N are galaxies, mostly.
            In several images of one object that would be presumed several times: :func:`combine
            <ztf_sg.own_objects.combine>` takes a classifier that was trained on as many stars as galaxies at
            each S/N.
        """
        return cls.load(PRETRAINED_ANY_DEPTH if any_depth else PRETRAINED)

    def is_saved_in(self, path):
        """Return whether a file holds this trained classifier, whatever version of the package wrote it."""
        arrays, description = self._get_state()
        try:
            others, other_description = self.load(path)._get_state()
        except ModelFileError:  # of a version that cannot be compared
            return False
        same = all(np.array_equal(array, others[name]) for name, array in arrays.items())
        return same and description == other_description

    def fingerprint(self):
        """Return 16 hexadecimal digits that tell this trained classifier from others, by their SHA-256."""
        arrays, description = self._get_state()
        digest = sha256(json.dumps(description, sort_keys=True).encode())
        for name in sorted(arrays):
            digest.update(np.ascontiguousarray(arrays[name], dtype=float).tobytes())
        return digest.hexdigest()[:16]

    def _get_state(self):
        """Return the arrays of a trained classifier, and a description that JSON can hold."""
        check_is_fitted(self)
        scaler, _, muygps = self.pipeline_.named_steps.values()
        arrays = {"scaler_center": scaler.center_, "scaler_scale": scaler.scale_, **muygps.get_state()}
        is_seed, fraction = isinstance(self.random_state, (int, np.integer)), self.galaxy_fraction
        return arrays, {
            "features": list(CLASSIFIER_FEATURES),
            "nn_count": int(self.nn_count),
            "galaxy_fraction": float(fraction) if is_number(fraction) else fraction,
            "random_state": int(self.random_state) if is_seed else None,
            "training_fraction": self.training_fraction_,
            "smoothness": muygps.smoothness,
            "ranges": {name: list(bounds) for name, bounds in self.ranges_.items()},
        }

    @classmethod
    def _from_state(cls, arrays, description):
        """Return the classifier that `_get_state` describes, or raise an error if there can be none."""
        if description["features"] != list(CLASSIFIER_FEATURES):
            raise ValueError(f"it was trained on the features {description['features']}")
        model = cls(*(description[name] for name in ("nn_count", "galaxy_fraction", "random_state")))
        check_random_state(model.random_state)
        check_fraction(model.galaxy_fraction)
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
        model.ranges_ = check_ranges(description["ranges"])
        muygps.set_state(model.classes_, **arrays)
        return model

    def _muygps(self):
        return MuyGPSClassifier(self.nn_count, batch_count=BATCH_COUNT, random_state=self.random_state)

    def _checked_features(self, cutouts):
        """Return the features of cutouts, and warn of those that are outside of `ranges_`."""
        check_is_fitted(self)
        features = self.features(cutouts)
        if text := describe(self.summarize_outside(features), self.ranges_):
            warnings.warn(text, stacklevel=3)
        return features

    def _posterior(self, features):
        return self.pipeline_[-1].posterior(self.pipeline_[:-1].transform(_matrix(features)))

    def _probability_of(self, features):
        return self._galaxy_probability(*self._posterior(features), features)

    def _galaxy_probability(self, mean, variance, features):
        """Return the probability of being a galaxy, (n,), for the share of galaxies that is wanted."""
        probability = self.pipeline_[-1].probability(mean, variance)
        wanted = self.galaxy_fraction
        if wanted is None:
            return probability
        check_fraction(wanted)
        wanted = features["galaxy_fraction"].to_numpy() if isinstance(wanted, str) else wanted
        return with_fraction(probability, self.training_fraction_, wanted)


def _measure(cutouts):
    """Return the `CLASSIFIER_FEATURES`, flags and the seeing [px] of n cutouts, a DataFrame of n rows."""
    features = measure_features(cutouts, (*CLASSIFIER_FEATURES, *FLAGS))
    return features.assign(seeing=cutouts.table["seeing"].to_numpy(float))


def _matrix(features):
    return features[list(CLASSIFIER_FEATURES)].to_numpy()


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
