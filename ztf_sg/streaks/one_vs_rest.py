"""MuyGPs for several classes: each is told from the rest, on scaled features, and calibrated together."""

import numpy as np
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from ztf_sg.muygps import STATE_SHAPES, MuyGPSClassifier

CLIP = 3.0  # of scaled features, so that outliers have neighbours
STEPS = 64  # in one, to which they are rounded: a model file that keeps these is small
BATCH_COUNT = 500  # stamps that train the hyperparameters of each class
PENALTY = 0.01  # of the weights that calibrate
SHARED = ("points", "groups", "center")  # arrays that the classes have in common


def state_shapes(prefix):
    """Return the shapes of the arrays that :meth:`ScaledMuyGPS.get_state` returns, by name with a prefix.

    Words stand for lengths, those of the classes for the same ones whatever the prefix.
    """
    found = {"scaler_center": ("features",), "scaler_scale": ("features",), "labels": ("objects",)}
    found |= {name: STATE_SHAPES[name] for name in SHARED}
    found["odds"] = ("objects", "classes")
    found |= {"values": ("classes", *STATE_SHAPES["values"]), "calibration": ("classes", "classes and one")}
    axes = {axis: f"{prefix}{axis}" for axis in ("features", "objects")}
    return {f"{prefix}{name}": tuple(axes.get(axis, axis) for axis in shape) for name, shape in found.items()}


class ScaledMuyGPS:
    """A :class:`~ztf_sg.MuyGPSClassifier` for each of several classes, against the rest of them.

    Multinomial logistic regression makes probabilities of the log odds of all; it is trained on predictions
    of each training point from the others, classes weighted alike, so that they hold for classes as common
    as each other.

    Parameters
    ----------
    n_classes : int
    nn_count : int
        Nearest neighbours per prediction.
    random_state : int, RandomState instance or None
        Draws the batches that train the hyperparameters.
    """

    def __init__(self, n_classes, nn_count, random_state):
        self.scaler = StandardScaler()
        self.each = [
            MuyGPSClassifier(nn_count, batch_count=BATCH_COUNT, random_state=random_state)
            for _ in range(n_classes)
        ]

    def fit(self, features, labels):
        """Train on features (n, m), which are rounded, and labels 0, 1, 2 ..., (n,)."""
        self.labels = np.asarray(labels)
        points = self._scaled(features, fit=True)
        for label, muygps in enumerate(self.each):
            muygps.fit(points, self.labels == label)
        odds = self._log_odds([muygps.leave_one_out() for muygps in self.each])
        self.odds = odds.astype(np.float16)  # kept, as predicting all training points takes seconds
        regression = LogisticRegression(C=1 / PENALTY, class_weight="balanced", max_iter=1000)
        regression.fit(self.odds.astype(float), self.labels)
        self.calibration = np.column_stack([regression.coef_, regression.intercept_])
        return self

    def predict_proba(self, features):
        """Return the probabilities of the classes, (n, n_classes)."""
        points = self._scaled(features)
        return self._calibrated(self._log_odds([muygps.posterior(points) for muygps in self.each]))

    def leave_one_out(self):
        """Return the probabilities of the classes of each training point from the others."""
        return self._calibrated(self.odds.astype(float))

    def get_state(self, prefix):
        """Return all that was learned as a dict of arrays, see `state_shapes`."""
        states = [muygps.get_state() for muygps in self.each]
        found = {"scaler_center": self.scaler.mean_, "scaler_scale": self.scaler.scale_}
        found |= {name: states[0][name] for name in SHARED}
        found["points"] = (states[0]["points"] + states[0]["center"]).astype(np.float16)
        found |= {"values": np.stack([state["values"] for state in states]), "labels": self.labels}
        found |= {"odds": self.odds, "calibration": self.calibration}
        return {f"{prefix}{name}": array for name, array in found.items()}

    def set_state(self, prefix, arrays):
        """Take over the arrays of :meth:`get_state`, and return the classifier; ValueError if unfit."""
        state = {name.removeprefix(prefix): array for name, array in arrays.items()}
        n_classes, n_weights = state["calibration"].shape
        if n_classes != len(self.each) or n_weights != n_classes + 1:
            raise ValueError(f"its calibration has shape {n_classes, n_weights} for {len(self.each)} classes")
        if not np.isin(state["labels"], np.arange(n_classes)).all():
            raise ValueError(f"its labels are not those of {n_classes} classes")
        if np.abs(state["odds"]).max() > np.finfo(np.float16).max:
            raise ValueError("its odds are too large")
        self.scaler.mean_, self.scaler.scale_ = state["scaler_center"], state["scaler_scale"]
        self.scaler.n_features_in_ = len(self.scaler.mean_)
        if self.scaler.scale_.min() <= 0:
            raise ValueError(f"its scale {self.scaler.scale_} is not positive for each feature")
        self.labels, self.calibration = state["labels"].astype(int), state["calibration"]
        self.odds = state["odds"].astype(np.float16)
        points = state["points"] - state["center"]
        for label, muygps in enumerate(self.each):
            targets = np.where(self.labels == label, 1.0, -1.0)
            classes, values = np.array([False, True]), state["values"][label]
            muygps.set_state(classes, points, targets, state["groups"], state["center"], values)
        return self

    def _scaled(self, features, fit=False):
        """Return scaled features, rounded as a model file keeps them."""
        features = np.asarray(features, dtype=float)
        scaled = self.scaler.fit_transform(features) if fit else self.scaler.transform(features)
        return np.round(np.clip(scaled, -CLIP, CLIP) * STEPS) / STEPS

    def _log_odds(self, posteriors):
        """Return the log odds of each class against the rest, (n, n_classes), from means and variances."""
        pairs = zip(self.each, posteriors, strict=True)
        return np.stack([muygps.log_odds(*posterior) for muygps, posterior in pairs], axis=1)

    def _calibrated(self, odds):
        return softmax(odds @ self.calibration[:, :-1].T + self.calibration[:, -1], axis=1)
