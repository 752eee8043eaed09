"""MuyGPs for several classes: each is told from the rest, on scaled features."""

import numpy as np
from sklearn.preprocessing import RobustScaler

from ztf_sg.muygps import STATE_SHAPES, MuyGPSClassifier

CLIP = 3.0  # of scaled features, so that outliers have neighbours
BATCH_COUNT = 500  # stamps that train the hyperparameters of each class
LEAST = 1e-6  # probability of a class before the probabilities are made to sum to one
SHARED = ("points", "groups", "center")  # arrays that the classes have in common


def state_shapes(prefix, n_classes):
    """Return the shapes of the arrays that :meth:`ScaledMuyGPS.get_state` returns, by name with a prefix."""
    found = {"scaler_center": ("features",), "scaler_scale": ("features",), "labels": ("objects",)}
    found |= {name: STATE_SHAPES[name] for name in SHARED}
    found["values"] = (n_classes, *STATE_SHAPES["values"])
    axes = {axis: f"{prefix}{axis}" for axis in ("features", "objects")}
    return {f"{prefix}{name}": tuple(axes.get(axis, axis) for axis in shape) for name, shape in found.items()}


class ScaledMuyGPS:
    """A :class:`~ztf_sg.MuyGPSClassifier` for each of several classes, against the rest of them.

    Parameters
    ----------
    n_classes : int
    nn_count : int
        Nearest neighbours per prediction.
    random_state : int, RandomState instance or None
        Draws the batches that train the hyperparameters.
    """

    def __init__(self, n_classes, nn_count, random_state):
        self.scaler = RobustScaler()
        self.each = [
            MuyGPSClassifier(nn_count, batch_count=BATCH_COUNT, random_state=random_state)
            for _ in range(n_classes)
        ]

    def fit(self, features, labels):
        """Train on features (n, m), which are kept with three digits, and labels 0, 1, 2 ..., (n,)."""
        self.labels = np.asarray(labels)
        points = self._scaled(features, fit=True)
        for label, muygps in enumerate(self.each):
            muygps.fit(points, self.labels == label)
        return self

    def predict_proba(self, features):
        """Return the probabilities of the classes, (n, n_classes)."""
        points = self._scaled(features)
        return _normalized([muygps.predict_proba(points)[:, 1] for muygps in self.each])

    def leave_one_out(self):
        """Return the probabilities of the classes of each training point from the others."""
        return _normalized([muygps.probability(*muygps.leave_one_out()) for muygps in self.each])

    def get_state(self, prefix):
        """Return all that was learned as a dict of arrays, see `state_shapes`."""
        states = [muygps.get_state() for muygps in self.each]
        found = {"scaler_center": self.scaler.center_, "scaler_scale": self.scaler.scale_}
        found |= {name: states[0][name] for name in SHARED}
        found["points"] = (states[0]["points"] + states[0]["center"]).astype(np.float16)
        found |= {"values": np.stack([state["values"] for state in states]), "labels": self.labels}
        return {f"{prefix}{name}": array for name, array in found.items()}

    def set_state(self, prefix, arrays):
        """Take over the arrays of :meth:`get_state`, and return the classifier; ValueError if unfit."""
        state = {name.removeprefix(prefix): array for name, array in arrays.items()}
        self.scaler.center_, self.scaler.scale_ = state["scaler_center"], state["scaler_scale"]
        self.scaler.n_features_in_ = len(self.scaler.center_)
        if self.scaler.scale_.min() <= 0:
            raise ValueError(f"its scale {self.scaler.scale_} is not positive for each feature")
        self.labels = state["labels"].astype(int)
        points = state["points"] - state["center"]
        for label, muygps in enumerate(self.each):
            targets = np.where(self.labels == label, 1.0, -1.0)
            classes, values = np.array([False, True]), state["values"][label]
            muygps.set_state(classes, points, targets, state["groups"], state["center"], values)
        return self

    def _scaled(self, features, fit=False):
        """Return scaled features as float64, with the digits that a model file keeps."""
        features = np.asarray(features, dtype=float)
        scaled = self.scaler.fit_transform(features) if fit else self.scaler.transform(features)
        return np.clip(scaled, -CLIP, CLIP).astype(np.float16).astype(float)


def _normalized(probabilities):
    found = np.maximum(np.stack(probabilities, axis=1), LEAST)
    return found / found.sum(axis=1, keepdims=True)
