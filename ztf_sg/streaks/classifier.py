"""The classifier of moving objects in stamps: other, asteroid or satellite."""

import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from ztf_sg.checks import is_number
from ztf_sg.model_file import REMEDY, ModelFileError, read_arrays, write_arrays
from ztf_sg.muygps.confidence import least_confidence
from ztf_sg.streaks.features import (
    FEATURES,
    SHAPE_FEATURES,
    check_stamps,
    dimensionless,
    measure_stamps,
    raw_measures,
)
from ztf_sg.streaks.kinds import (
    ASTEROID,
    CLASS_OF,
    KINDS,
    STREAK,
    by_class,
    check_kinds,
    checked_labels,
    with_streaks,
)
from ztf_sg.streaks.motion import has_trail, motion_table
from ztf_sg.streaks.one_vs_rest import ScaledMuyGPS, state_shapes
from ztf_sg.streaks.stamps import CLASS_NAMES, Triplets
from ztf_sg.streaks.trail_posterior import with_faint_trails

PRETRAINED = Path(__file__).parents[1] / "pretrained_moving.npz"  # by python tools/train_moving_model.py
KIND = "moving-object classifier, version 2"  # of the model file
STREAK_SHARE = 0.1  # of the asteroids that are streaks, presumed
MODELS = {"all": FEATURES, "difference": SHAPE_FEATURES, "science": SHAPE_FEATURES}
"""What a model for each set of images knows."""
LOST = {
    "difference": "have a difference image alone: lost is whether the template has light there, which tells "
    "asteroids from variable stars, nuclei and supernovae",
    "science": "have a science image alone: asteroids and stars look alike there, and only trails are told",
    "none": "have neither a science nor a difference image: their probabilities are the class fractions",
}
ODD_WIDTH, ODD_SIGMA = 0.2, 3.0  # deviation of the logarithm of a point's width from that of stars, least and
# in its errors: satellites near by are out of focus, and flashes shorter than the seeing changes are sharp
POINT_WIDENING = 0.06  # of the logarithm of the width that is presumed, as asteroids move a little
HIDDEN = 0.9  # least share of pixels with data near a source


class MovingObjectClassifier(ClassifierMixin, BaseEstimator):
    """Classifier of stamps: :func:`~ztf_sg.streaks.measure_stamps`, scaling and MuyGPs, class against rest.

    Parameters
    ----------
    nn_count : int
        Nearest neighbours per prediction.
    class_fractions : sequence of float, optional
        Shares of other, asteroid and satellite among the stamps to be classified, above 0; they are made to
        sum to one. Alike by default, which presumes nothing of how common they are.
    random_state : int, RandomState instance or None
        Draws the batches that train the hyperparameters.

    Attributes
    ----------
    classes_ : numpy.ndarray
        0 other, 1 asteroid, 2 satellite.
    models_ : dict
        The trained model of each set of images: "all" (two of the three give the third), "difference" and
        "science" (one image alone).

    Notes
    -----
    A single flash of a tumbling satellite looks like an asteroid. No stamp tells them apart: it is called an
    asteroid, as long as no line and no further flash is seen, and the remedy is to link the detections of one
    exposure. An asteroid in front of a star of the reference looks as if the star varied: it is called other.

    Examples
    --------
    >>> from ztf_sg import MovingObjectClassifier, load_alerts
    >>> MovingObjectClassifier.pretrained().predict_proba(load_alerts("alerts.parquet"))  # doctest: +SKIP
    """

    def __init__(self, nn_count=50, class_fractions=None, random_state=0):
        self.nn_count = nn_count
        self.class_fractions = class_fractions
        self.random_state = random_state

    def fit(self, triplets, labels=None, is_streak=None):
        """Train on n stamps of known class, and return the classifier.

        Stamps with all images train the models of fewer images, too.

        Parameters
        ----------
        triplets : Triplets
        labels : array-like of int, optional
            0 other, 1 asteroid, 2 satellite; shape (n,). The labels of the set by default.
        is_streak : array-like of bool, optional
            Which of the asteroids are streaks, shape (n,); of other stamps it says nothing. Streaks are
            learned apart from points then, and :meth:`describe` tells how probable one is.

        Raises
        ------
        TypeError
            If triplets is no Triplets.
        ValueError
            If labels hold anything but 0, 1 and 2, masked values, or lack a class, or are not n, no or all
            asteroids are streaks, stamps are too small, no stamp of a class has the images that a model is
            trained on, or a parameter is out of range.
        """
        _fractions(self.class_fractions)
        check_stamps(triplets)
        labels = checked_labels(triplets.labels if labels is None else labels, len(triplets))
        kinds = labels if is_streak is None else with_streaks(labels, is_streak)
        models = {}
        for images, names in MODELS.items():
            features = measure_stamps(triplets if images == "all" else _alone(triplets, images))
            usable = (features["images"] == images).to_numpy()
            check_kinds(kinds[usable], kinds.max() + 1, images)
            model = ScaledMuyGPS(kinds.max() + 1, self.nn_count, self.random_state)
            models[images] = model.fit(features.loc[usable, list(names)], kinds[usable])
        self.models_ = models
        self.classes_ = np.arange(len(CLASS_NAMES))
        return self

    def predict(self, triplets):
        """Return the most probable class of each stamp: 0 other, 1 asteroid, 2 satellite, shape (n,).

        Errors and warnings as `predict_proba`.
        """
        return self.predict_proba(triplets).argmax(axis=1)

    def predict_proba(self, triplets):
        """Return the probabilities of other, asteroid and satellite, shape (n, 3).

        They hold for the `class_fractions`: what is learned is how much likelier a stamp is for one class
        than for another.

        Parameters
        ----------
        triplets : Triplets
            Any of the three images may be missing.

        Raises
        ------
        TypeError
            If triplets is no Triplets.
        ValueError
            If there are no stamps, they are smaller than 31 px, or `class_fractions` are no three numbers
            above 0.

        Warns
        -----
        UserWarning
            If images are missing; the message says what is lost.
        """
        return self._probabilities(self._checked_features(raw_measures(triplets)))

    def ambiguous(self, triplets, max_error=0.01):
        """Return which stamps a person should look at, bool, shape (n,).

        The probability of their likeliest class is at most :meth:`confidence_threshold`; they seem to be
        asteroids that are points, but are sharper or broader than stars, as lone flashes of satellites may
        be; there is light on a line through or beside an asteroid; or pixels near the source are missing. A
        lone flash as sharp as a star is not among them: only other flashes of its exposure betray it.

        Parameters
        ----------
        triplets : Triplets
        max_error : float
            See :meth:`confidence_threshold`.

        Raises
        ------
        ValueError
            If max_error is not a number of at least 0 and below 1, or as :meth:`predict_proba`.
        """
        threshold = self.confidence_threshold(max_error)
        raw = raw_measures(triplets)
        return _is_ambiguous(raw, self._probabilities(self._checked_features(raw)), threshold)

    def confidence_threshold(self, max_error=0.01):
        """Return the probability of its likeliest class that a decided stamp must exceed.

        Parameters
        ----------
        max_error : float
            Largest share of wrong answers among the decided stamps, if each stamp of the training set is
            predicted from the others.

        Returns
        -------
        float
            Infinite, so that no stamp is decided, if the training set cannot show so small a share.

        Raises
        ------
        ValueError
            If max_error is not a number of at least 0 and below 1.
        """
        check_is_fitted(self)
        model = self.models_["all"]
        probabilities = by_class(self._weighted(model.leave_one_out()))
        wrong = probabilities.argmax(axis=1) != np.array(CLASS_OF)[model.labels]
        return least_confidence(probabilities.max(axis=1), wrong, max_error)[0]

    def measure(self, triplets, exptime=30.0):
        """Measure the motion of n sources, whatever their class.

        Parameters
        ----------
        triplets : Triplets
            ``table["magzpsci"]`` [mag] gives magnitudes, where it is there.
        exptime : float
            Exposure time [s].

        Returns
        -------
        pandas.DataFrame
            n rows: `length` between the ends ["] and `angle` [deg, counter-clockwise from +x, 0 to 180] of
            the trail of the central source, `rate` ["/min] and `magnitude` [mag], each with its standard
            error (`length_error` ...); `free_ends`, how many ends of the trail are in the stamp; `flashes`,
            their number on a line through the source, and `period`, their distance ["], NaN for a single
            one; and whether a `trail` crosses the stamp, through or beside the source.

        Raises
        ------
        ValueError
            If exptime is not a number above 0, or as :meth:`predict_proba`.

        Notes
        -----
        Lengths and angles, and so rates, of trails below a signal-to-noise ratio of 16 are means over all
        trails that the pixels allow (``ztf_sg.streaks.trail_posterior``), as the best fit has outliers there;
        those of brighter trails, of trails that leave the stamp, and beside much brighter sources are of the
        best fit. A length is never below zero, nor that of a point near it: compare it with its error, which
        allows for stars that are not round, as those of difference images are.
        """
        _check_exptime(exptime)
        raw = with_faint_trails(triplets, raw_measures(triplets))
        return motion_table(raw, triplets.table, exptime)

    def describe(self, triplets, max_error=0.01, exptime=30.0):
        """Return what :meth:`predict_proba`, :meth:`ambiguous` and :meth:`measure` say, measured once.

        Parameters, errors and warnings as theirs.

        Returns
        -------
        pandas.DataFrame
            n rows: p_other, p_asteroid and p_satellite; class, one of their names; ambiguous; the columns of
            :meth:`measure`; and p_streak, the part of p_asteroid that is for streaks, which finds fast
            asteroids. It presumes that one in ten asteroids is a streak, and is NaN if the classifier was not
            told which are.
        """
        threshold = self.confidence_threshold(max_error)
        _check_exptime(exptime)
        raw = raw_measures(triplets)
        kinds = self._kinds(self._checked_features(raw))
        probabilities = by_class(kinds)
        table = pd.DataFrame(probabilities, columns=[f"p_{name}" for name in CLASS_NAMES])
        table["class"] = np.array(CLASS_NAMES)[probabilities.argmax(axis=1)]
        table["ambiguous"] = _is_ambiguous(raw, probabilities, threshold)
        table = table.join(motion_table(with_faint_trails(triplets, raw), triplets.table, exptime))
        return table.assign(p_streak=kinds[:, STREAK] if kinds.shape[1] > STREAK else np.nan)

    def trail(self, triplets):
        """Return whether a trail crosses each stamp, through its source or beside it, bool, shape (n,).

        It is told apart from the class, which is that of the central source: a star beside a trail is other.
        """
        return has_trail(raw_measures(triplets)).to_numpy()

    def save(self, path):
        """Write the trained classifier to a file, ``.npz`` by custom, of plain arrays and JSON.

        A `random_state` that is a RandomState instance is stored as None.

        Raises
        ------
        ValueError
            If `class_fractions` are no three numbers above 0.
        """
        check_is_fitted(self)
        _fractions(self.class_fractions)
        arrays = {}
        for images, model in self.models_.items():
            arrays |= model.get_state(f"{images}_")
        is_seed, fractions = isinstance(self.random_state, (int, np.integer)), self.class_fractions
        description = {
            "features": list(FEATURES),
            "nn_count": int(self.nn_count),
            "class_fractions": None if fractions is None else [float(share) for share in fractions],
            "random_state": int(self.random_state) if is_seed else None,
        }
        write_arrays(path, arrays, description, KIND)

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
        shapes = {}
        for images in MODELS:
            shapes |= state_shapes(f"{images}_")
        arrays, description = read_arrays(path, shapes, KIND)
        try:
            return cls._from_state(arrays, description)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ModelFileError(f"{path}: no model that can be used ({error}); {REMEDY}") from error

    @classmethod
    def pretrained(cls):
        """Return a classifier for ZTF stamps of any band and seeing, trained on simulated ones alone."""
        return cls.load(PRETRAINED)

    @classmethod
    def _from_state(cls, arrays, description):
        """Return the classifier that :meth:`save` stored, or raise an error if there can be none."""
        if description["features"] != list(FEATURES):
            raise ValueError("it was trained on other features than this version measures: train it again")
        found = cls(*(description[name] for name in ("nn_count", "class_fractions", "random_state")))
        check_random_state(found.random_state)
        _fractions(found.class_fractions)
        found.models_, n_kinds = {}, len(arrays["all_calibration"])
        if n_kinds not in (len(CLASS_NAMES), len(KINDS)):
            raise ValueError(f"it tells {n_kinds} kinds of stamps")
        for images in MODELS:
            state = {name: array for name, array in arrays.items() if name.startswith(f"{images}_")}
            model = ScaledMuyGPS(n_kinds, found.nn_count, found.random_state)
            found.models_[images] = model.set_state(f"{images}_", state)
        found.classes_ = np.arange(len(CLASS_NAMES))
        return found

    def _checked_features(self, raw):
        """Return the features that follow from raw measures, and warn of images that are missing."""
        check_is_fitted(self)
        features = dimensionless(raw)
        counts = features["images"].value_counts()
        lost = [f"{counts[images]} {text}" for images, text in LOST.items() if images in counts]
        if lost:
            warnings.warn(f"of {len(features)} stamps, {'; '.join(lost)}", stacklevel=3)
        return features

    def _probabilities(self, features):
        """Return the probabilities of the classes, (n, 3)."""
        return by_class(self._kinds(features))

    def _kinds(self, features):
        """Return the probabilities of the kinds that are told, (n, 3) or, with streaks, (n, 4)."""
        n_kinds = len(self.models_["all"].each)
        found = np.full((len(features), n_kinds), 1 / n_kinds)
        for images, names in MODELS.items():
            rows = (features["images"] == images).to_numpy()
            if rows.any():
                found[rows] = self.models_[images].predict_proba(features.loc[rows, list(names)])
        return self._weighted(found)

    def _weighted(self, kinds):
        """Return probabilities for the class fractions that are wanted, from those for equal ones."""
        weights = _fractions(self.class_fractions)
        if kinds.shape[1] > STREAK:
            asteroids = weights[ASTEROID]
            weights = np.append(weights, STREAK_SHARE * asteroids)
            weights[ASTEROID] -= STREAK_SHARE * asteroids
        weighted = kinds * weights
        return weighted / weighted.sum(axis=1, keepdims=True)


def _is_ambiguous(raw, probabilities, threshold):
    """Return which stamps a person should look at, see :meth:`MovingObjectClassifier.ambiguous`."""
    asteroid = probabilities.argmax(axis=1) == ASTEROID
    odd = np.abs(np.log(raw["point_width"] / raw["presumed_width"]) - POINT_WIDENING) > np.maximum(
        ODD_WIDTH, ODD_SIGMA * raw["width_error"] / raw["width"]
    )
    point = raw["length"] < raw["width"]
    suspect = (asteroid & ((point & odd) | has_trail(raw))) | (raw["covered_near"] < HIDDEN)
    return (probabilities.max(axis=1) <= threshold) | suspect.to_numpy()


def _check_exptime(exptime):
    """Raise a ValueError unless an exposure time is a number above 0."""
    if not (is_number(exptime) and 0 < exptime < np.inf):
        raise ValueError(f"exptime: expected a number above 0 [s], got {exptime!r}")


def _alone(triplets, name):
    """Return Triplets with one of the images alone."""
    return Triplets(**{name: getattr(triplets, name)}, labels=triplets.labels, table=triplets.table)


def _fractions(fractions):
    """Return class fractions that sum to one, alike by default; raise a ValueError if they are none."""
    n = len(CLASS_NAMES)
    if fractions is None:
        return np.full(n, 1 / n)
    values = list(fractions) if np.iterable(fractions) and not isinstance(fractions, str) else []
    if len(values) != n or not all(is_number(value) and 0 < value <= sys.float_info.max for value in values):
        raise ValueError(
            f"class_fractions: expected {n} numbers above 0, of {', '.join(CLASS_NAMES)}, got {fractions!r}"
        )
    shares = np.array(values, dtype=float) / float(max(values))  # so that their sum is finite
    return shares / shares.sum()
