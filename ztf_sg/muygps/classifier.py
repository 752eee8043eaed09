"""MuyGPs as a scikit-learn classifier: MuyGPyS trains it, and our own compiled code predicts."""

import warnings
from numbers import Real

import numpy as np
from joblib import effective_n_jobs
from scipy.optimize import minimize_scalar
from scipy.special import log_ndtr, ndtr
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_consistent_length, check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from ztf_sg.checks import check_unmasked, is_whole_number
from ztf_sg.muygps import compiled
from ztf_sg.muygps.neighbours import neighbour_index
from ztf_sg.parallel import one_blas_thread, slices, threaded

STATE_VALUES = ("nn_count_", "distance_unit_", "length_scale_", "noise_", "scale_", "slope_")
STATE_SHAPES = {
    "points": ("objects", "features"),
    "targets": ("objects",),
    "groups": ("objects",),
    "center": ("features",),
    "values": (len(STATE_VALUES),),
}
"""Shapes of the arrays that :meth:`MuyGPSClassifier.get_state` returns."""
JUDGES = 5000  # training points that the probit link is fitted to, or as many as train the hyperparameters
CHUNK = (64, 256)  # least and largest number of predictions that a thread makes together


class MuyGPSClassifier(ClassifierMixin, BaseEstimator):
    """Binary Gaussian-process classifier on nearest neighbours.

    Each prediction conditions a Gaussian process on the nearest neighbours of the point alone (local
    kriging, arXiv:2104.14581), whose labels are -1 and +1 (arXiv:2105.01106). MuyGPyS trains length scale
    and noise of the isotropic Matern kernel: L-BFGS-B minimises the mean squared error of leave-one-out
    predictions of a batch of training points.

    Parameters
    ----------
    nn_count : int
        Nearest neighbours per prediction.
    smoothness : {0.5, 1.5, 2.5, inf}
        Matern smoothness; ``inf`` is the RBF kernel.
    batch_count : int
        Training points in the batch.
    random_state : int, RandomState instance or None
        Draws the batch.
    n_jobs : int or None
        Threads that predict, -1 for one per processor, None for one; the numbers do not depend on them.

    Attributes
    ----------
    classes_ : numpy.ndarray
        The two classes; the label of the second is +1.
    length_scale_, noise_, scale_ : float
        Length scale in units of ``distance_unit_``, noise in units of the prior variance, and the prior
        variance.
    neighbours_ : BlockIndex or MatrixIndex
        Index of the training points; ``query(X, count)`` returns distances and rows.
    nn_count_ : int
        ``nn_count``, or fewer when there are too few training points.
    distance_unit_ : float
        Median distance of training points to their neighbours, in the units of X.
    slope_ : float
        Slope of the probit link, see :meth:`predict_proba`.

    Examples
    --------
    >>> import numpy as np
    >>> from ztf_sg import MuyGPSClassifier
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> y = np.where(X[:, 0] > 0, "galaxy", "star")
    >>> MuyGPSClassifier().fit(X, y).predict([[2, 0], [-2, 0]]).tolist()
    ['galaxy', 'star']
    """

    def __init__(self, nn_count=30, smoothness=1.5, batch_count=500, random_state=0, n_jobs=-1):
        self.nn_count = nn_count
        self.smoothness = smoothness
        self.batch_count = batch_count
        self.random_state = random_state
        self.n_jobs = n_jobs

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def fit(self, X, y, groups=None):
        """Index the training points, train the hyperparameters, and return the classifier.

        Parameters
        ----------
        X : array-like
            Features, shape (n, n_features).
        y : array-like
            Two classes, shape (n,).
        groups : array-like, optional
            Object that each point shows, shape (n,): leave-one-out predictions leave out all points of
            the object. By default each point is an object of its own.

        Raises
        ------
        ValueError
            If y does not hold exactly two classes, X is not finite, values are masked, a parameter is out of
            range, or groups are not n or only one.

        Warns
        -----
        UserWarning
            If there are too few training points for ``nn_count`` neighbours.
        """
        check_unmasked(X=X, y=y, groups=groups)
        X, y = validate_data(self, X, y, dtype=np.float64, order="C", ensure_min_samples=2)
        check_classification_targets(y)
        self._check_parameters()
        self.classes_, codes = np.unique(y, return_inverse=True)
        self._check_classes(y)
        groups = np.arange(len(X)) if groups is None else column_or_1d(groups)
        check_consistent_length(X, groups)
        self._groups = np.unique(groups, return_inverse=True)[1]
        largest = int(np.bincount(self._groups).max())
        if largest == len(X):
            raise ValueError(f"groups: all {largest} points are of one object; training needs two objects")
        others = len(X) - largest
        if self.nn_count > others:
            few = f"nn_count={self.nn_count} needs more than {others + 1} training points"
            warnings.warn(f"{few}; using {others}", stacklevel=2)
        self.nn_count_ = min(int(self.nn_count), others)
        self._center = X.mean(axis=0)
        self._points, self._targets = X - self._center, 2.0 * codes - 1.0
        self.neighbours_ = neighbour_index(self._points)
        self._train()
        return self

    def posterior(self, X):
        """Return mean and variance, without the noise, of the regression of the labels, shape (n,) each.

        Raises
        ------
        ValueError
            If X has another number of features, or numbers that are masked, not finite or too large, or a
            parameter is out of range.
        numpy.linalg.LinAlgError
            If the noise is too small for neighbours that are so close to each other.
        """
        check_is_fitted(self)
        check_unmasked(X=X)
        X = validate_data(self, X, dtype=np.float64, order="C", reset=False) - self._center

        def predict(rows):
            return self._posterior(X[rows], self._nearest(X[rows], self.nn_count_)[1])

        return self._in_chunks(predict, len(X))

    def predict_proba(self, X):
        r"""Return the probabilities of ``classes_`` for each row of X, shape (n, 2).

        With posterior mean :math:`\mu` and variance :math:`\sigma^2`, the probability of the second
        class is :math:`\Phi(\alpha\mu / \sqrt{1 + \alpha^2\sigma^2})`. The slope :math:`\alpha` maximises
        the likelihood of leave-one-out predictions of the batch (Rasmussen & Williams 2006, Gaussian
        Processes for Machine Learning, section 6.5, without its offset).
        """
        second = self.probability(*self.posterior(X))
        return np.stack([1 - second, second], axis=1)

    def probability(self, mean, variance):
        """Return the probability of the second class from a posterior; see :meth:`predict_proba`."""
        return ndtr(self._probit(mean, variance))

    def log_odds(self, mean, variance):
        """Return the natural logarithm of the odds of the second class, finite however sure it is."""
        probit = self._probit(mean, variance)
        return log_ndtr(probit) - log_ndtr(-probit)

    def predict(self, X):
        """Return the more probable class of each row of X, shape (n,)."""
        second = self.predict_proba(X)[:, 1] > 0.5
        return self.classes_[second.astype(int)]

    def leave_one_out(self):
        """Return the :meth:`posterior` of each training point from the other objects alone."""
        check_is_fitted(self)
        return self._left_out(np.arange(len(self._points)))

    def get_state(self):
        """Return all that was learned as a dict of arrays; `STATE_SHAPES` gives their shapes."""
        check_is_fitted(self)
        arrays = self._points, self._targets, self._groups, self._center
        values = np.array([getattr(self, name) for name in STATE_VALUES], dtype=float)
        return dict(zip(STATE_SHAPES, (*arrays, values), strict=True))

    def set_state(self, classes, points, targets, groups, center, values):
        """Take over the two classes and the arrays of :meth:`get_state`, and return the classifier.

        Raises
        ------
        ValueError
            If a parameter is out of range, or the numbers are not those of a trained classifier.
        """
        self._check_parameters()
        if not np.isin(targets, (-1, 1)).all():
            raise ValueError("its labels are not -1 and 1")
        if values.min() <= 0:
            raise ValueError("a hyperparameter is not positive")
        self.classes_, self._targets, self._center = classes, targets, center
        self._points, self.n_features_in_ = np.ascontiguousarray(points), points.shape[1]
        self._groups = np.unique(groups, return_inverse=True)[1]
        for name, value in zip(STATE_VALUES, values, strict=True):
            setattr(self, name, float(value))
        others = len(points) - np.bincount(self._groups).max()
        if not self.nn_count_ == int(self.nn_count_) <= others:
            raise ValueError(f"it has {self.nn_count_} neighbours of {len(points)} points")
        self.nn_count_ = int(self.nn_count_)
        self.neighbours_ = neighbour_index(self._points)
        return self

    @property
    def muygps_(self):
        """The trained :class:`MuyGPyS.gp.MuyGPS`, for distances in units of ``distance_unit_``."""
        from ztf_sg.muygps import training

        check_is_fitted(self)
        return training.compose(self.smoothness, (self.length_scale_,), (self.noise_,), self.scale_)

    def _probit(self, mean, variance):
        return self.slope_ * mean / np.sqrt(1 + self.slope_**2 * variance)

    def _check_parameters(self):
        for name in ("nn_count", "batch_count"):
            value = getattr(self, name)
            if not (is_whole_number(value) and value >= 1):
                raise ValueError(f"{name}: expected an integer >= 1, got {value!r}")
        if self.n_jobs is not None and not (is_whole_number(self.n_jobs) and self.n_jobs):
            raise ValueError(f"n_jobs: expected an integer other than 0, or None, got {self.n_jobs!r}")
        if not (isinstance(self.smoothness, Real) and self.smoothness in compiled.FORMULA):
            known = ", ".join(map(str, compiled.FORMULA))
            raise ValueError(f"smoothness: expected one of {known}, got {self.smoothness!r}")

    def _check_classes(self, y):
        if len(self.classes_) > 2:
            raise ValueError(
                "Only binary classification is supported. The type of the target is multiclass: "
                f"found {len(self.classes_)} classes"
            )
        if len(self.classes_) < 2:
            raise ValueError(
                f"training needs two classes, but all {len(y)} labels are {self.classes_.tolist()[0]!r}; "
                "add objects of the other class"
            )

    def _train(self):
        """Optimize the hyperparameters on a batch, then fit the probit link to it and further points."""
        from ztf_sg.muygps import training

        n = len(self._points)
        order = check_random_state(self.random_state).permutation(n)
        batch, judges = order[: self.batch_count], order[: max(self.batch_count, JUDGES)]
        nearest = self._in_chunks(lambda rows: self._nearest_others(batch[rows]), len(batch))
        self.distance_unit_ = float(np.median(nearest[0])) or 1.0
        system = self._points, self._targets, batch, *nearest, self.distance_unit_
        with one_blas_thread:
            muygps = training.train(self.smoothness, *system)
        self.length_scale_ = float(muygps.kernel.deformation.length_scale())
        self.noise_, self.scale_ = float(muygps.noise()), float(muygps.scale())
        self.slope_ = _fit_probit(*self._left_out(judges), self._targets[judges])

    def _in_chunks(self, function, n):
        """Return the arrays (n, ...) of function(slice) for slices of n rows, shared among threads."""
        self._check_parameters()  # they may have been set after training
        n_threads = effective_n_jobs(self.n_jobs)
        size = min(CHUNK[1], max(CHUNK[0], -(-n // n_threads)))
        parts = threaded(function, slices(n, size), n_threads)
        return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))

    def _nearest(self, X, count):
        """Return distances and rows of the training points nearest to X, (m, count) each."""
        distances, indices = self.neighbours_.query(X, count)
        if not np.isfinite(distances).all():
            raise ValueError("X: holds numbers so large that their distances to training points overflow")
        return distances, indices

    def _left_out(self, rows):
        """Return the posterior of some training points, each from the other objects."""

        def predict(some):
            return self._posterior(self._points[rows[some]], self._nearest_others(rows[some])[1])

        return self._in_chunks(predict, len(rows))

    def _nearest_others(self, rows):
        """Return distances and rows of the neighbours of training points in other objects, (m, nn) each."""
        found = self._nearest(self._points[rows], self.nn_count_ + np.bincount(self._groups).max())
        own = self._groups[found[1]] == self._groups[rows][:, None]
        others = np.argsort(own, axis=1, kind="stable")[:, : self.nn_count_]
        return tuple(np.take_along_axis(array, others, axis=1) for array in found)

    def _posterior(self, X, indices):
        """Return mean and variance, (m,) each, of points (m, n_features) with the neighbours (m, nn)."""
        mean, variance = np.empty(len(X)), np.empty(len(X))
        formula, length_scale = compiled.FORMULA[self.smoothness], self.length_scale_ * self.distance_unit_
        factor = (0.5 if np.isinf(self.smoothness) else 2 * self.smoothness) / length_scale**2
        system = X, self._points, self._targets, np.sort(indices, axis=1)
        compiled.posterior(*system, formula, factor, self.noise_, mean, variance)
        if not np.isfinite(mean).all():
            raise np.linalg.LinAlgError("the noise is too small for neighbours so close to each other")
        return mean, self.scale_ * variance


def _fit_probit(mean, variance, targets):
    """Return the slope that maximises the likelihood of leave-one-out predictions."""

    def negative_log_likelihood(log_slope):
        slope = np.exp(log_slope)
        return -log_ndtr(slope * mean * targets / np.sqrt(1 + slope**2 * variance)).sum()

    return float(np.exp(minimize_scalar(negative_log_likelihood, bounds=(-3, 4), method="bounded").x))
