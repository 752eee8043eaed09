"""MuyGPs as a scikit-learn classifier, composed of the parts of MuyGPyS.

A Gaussian process is conditioned, for every prediction, on the nearest neighbours of the point alone
(local kriging, [1]_); class labels are regressed as -1 and +1 ([2]_).

References
----------
.. [1] Muyskens, Priest, Goumiri & Schneider 2021, arXiv:2104.14581.
.. [2] Muyskens, Goumiri, Priest et al. 2022, AJ 163, 148, arXiv:2105.01106.
"""

import warnings
from functools import cache, partial
from importlib.util import find_spec
from numbers import Real

import numpy as np
from joblib import effective_n_jobs
from MuyGPyS.gp import MuyGPS
from MuyGPyS.gp.deformation import Isotropy, l2
from MuyGPyS.gp.hyperparameter import AnalyticScale, Parameter
from MuyGPyS.gp.kernels import Matern
from MuyGPyS.gp.noise import HomoscedasticNoise
from MuyGPyS.optimize import L_BFGS_B_optimize
from MuyGPyS.optimize.loss import mse_fn
from scipy.optimize import minimize_scalar
from scipy.stats import norm
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_consistent_length, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from ztf_sg.muygps.neighbours import FEW_FEATURES, BlockIndex, neighbour_index
from ztf_sg.muygps.posterior import (
    coefficients,
    compiled_posterior,
    distance_tensors,
    fast_mean,
    matern,
    posterior,
)
from ztf_sg.parallel import slices, threaded

LENGTH_SCALE = (3.0, (0.1, 30.0))  # start and bounds, in units of the typical neighbour distance
NOISE = (1e-1, (1e-3, 10.0))  # start and bounds, in units of the prior variance
STATE_VALUES = ("nn_count_", "distance_unit_", "length_scale_", "noise_", "scale_", "slope_")
CHUNK = (64, 256)  # predictions that a thread makes together: at least, if there are so many, and at most
SHORT_FORMULA = (0.5, 1.5, 2.5, np.inf)  # values of smoothness
# Predictions from which on numba makes them. It takes a second to import, and seconds to compile for the
# first time; it may choose another one of several neighbours that are equally far, and rounds otherwise.
COMPILED_FROM = 2048


class MuyGPSClassifier(ClassifierMixin, BaseEstimator):
    """Binary Gaussian-process classifier on nearest neighbours.

    Length scale and noise of an isotropic Matern kernel are trained by MuyGPyS: L-BFGS-B on the mean
    squared error of leave-one-out predictions of a batch of training points.

    Parameters
    ----------
    nn_count : int
        Nearest neighbours that each prediction is conditioned on.
    smoothness : float
        Matern smoothness; 0.5, 1.5, 2.5 and ``inf`` (the RBF kernel) are fast, others slow.
    batch_count : int
        Training points whose leave-one-out predictions train the hyperparameters.
    random_state : int, RandomState instance or None
        Draws that batch.
    neighbours : {"exact", "hnsw"}
        ``"hnsw"`` finds most of the nearest neighbours, not always all, and needs the package hnswlib
        (``pip install 'ztf_sg[hnsw]'``). ``benchmarks/prediction_speed.py --hnsw`` measures
        how many, and whether it pays: for 20,000 training points it did not.
    n_jobs : int
        Threads that predict, -1 for one a processor. They change nothing but the time.

    Attributes
    ----------
    classes_ : numpy.ndarray
        The two classes; the second is regressed as +1.
    length_scale_, noise_, scale_ : float
        Trained hyperparameters: length scale in units of ``distance_unit_``, noise in units of the
        prior variance, and the prior variance (``scale``) itself.
    neighbours_ : TreeIndex, MatrixIndex or GraphIndex
        Nearest-neighbour index of the training points, see :mod:`ztf_sg.muygps.neighbours`.
    nn_count_ : int
        Neighbours in use: ``nn_count``, or fewer when there are too few training points.
    distance_unit_ : float
        Median distance of training points to their neighbours, in the units of X.
    slope_ : float
        Of the probit link from the posterior to probabilities, see :meth:`predict_proba`.

    Examples
    --------
    >>> import numpy as np
    >>> from ztf_sg import MuyGPSClassifier
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> y = np.where(X[:, 0] > 0, "galaxy", "star")
    >>> MuyGPSClassifier().fit(X, y).predict([[2, 0], [-2, 0]]).tolist()
    ['galaxy', 'star']
    """

    def __init__(
        self, nn_count=30, smoothness=1.5, batch_count=500, random_state=0, neighbours="exact", n_jobs=-1
    ):
        self.nn_count = nn_count
        self.smoothness = smoothness
        self.batch_count = batch_count
        self.random_state = random_state
        self.neighbours = neighbours
        self.n_jobs = n_jobs

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def fit(self, X, y, groups=None):
        """Index the training points and train the hyperparameters.

        Parameters
        ----------
        X : array-like
            Features, shape (n, n_features).
        y : array-like
            Two classes, shape (n,).
        groups : array-like, optional
            Which points are versions of one object, shape (n,). Leave-one-out predictions then leave
            out the whole object. All points are objects of their own by default.

        Returns
        -------
        MuyGPSClassifier
            Itself.

        Raises
        ------
        ValueError
            If y does not hold exactly two classes, X is not finite, a parameter is out of range, or
            groups are not n or only one.
        ImportError
            If `neighbours` are those of hnswlib, and it is not installed.

        Warns
        -----
        UserWarning
            If there are too few training points for ``nn_count`` neighbours.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, order="C", ensure_min_samples=2)
        check_classification_targets(y)
        if not (isinstance(self.batch_count, (int, np.integer)) and self.batch_count >= 1):
            raise ValueError(f"batch_count: expected an integer >= 1, got {self.batch_count!r}")
        if not (isinstance(self.smoothness, Real) and self.smoothness > 0):
            raise ValueError(f"smoothness: expected a number > 0, got {self.smoothness!r}")
        self.classes_, codes = np.unique(y, return_inverse=True)
        self._check_classes(y)
        groups = np.arange(len(X)) if groups is None else np.unique(groups, return_inverse=True)[1]
        check_consistent_length(X, groups)
        largest = int(np.bincount(groups).max())
        if largest == len(X):
            raise ValueError(f"groups: all {largest} points are of one object; training needs two objects")
        self.nn_count_ = self._usable_nn_count(len(X) - largest + 1)
        self._center = X.mean(axis=0)
        self._points, self._targets = X - self._center, 2.0 * codes - 1.0
        self.neighbours_, self._fast = neighbour_index(self._points, self.neighbours), None
        self._blocks = None
        self._train(groups, largest)
        return self

    def posterior(self, X):
        """Return mean and variance of the regression of the labels -1 and +1.

        Parameters
        ----------
        X : array-like
            Features, shape (n, n_features).

        Returns
        -------
        mean, variance : numpy.ndarray
            Shape (n,) each; the variance is that of the latent function, without the noise.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, order="C", reset=False) - self._center
        compiled = self._is_compiled(len(X))
        query = self._query(compiled)

        def predict(rows):
            indices = _nearest(query, X[rows], self.nn_count_)[1]
            return self._posterior(X[rows], indices, compiled)

        return self._in_chunks(predict, len(X))

    def predict_proba(self, X):
        r"""Return the probabilities of the two classes.

        With posterior mean :math:`\mu` and variance :math:`\sigma^2`, the probability of the second
        class is :math:`\Phi(\alpha\mu / \sqrt{1 + \alpha^2\sigma^2})`, where the slope :math:`\alpha`
        maximises the likelihood of leave-one-out predictions of the training set (Rasmussen & Williams
        2006, Gaussian Processes for Machine Learning, section 6.5, without its offset).

        Parameters
        ----------
        X : array-like
            Features, shape (n, n_features).

        Returns
        -------
        numpy.ndarray
            Shape (n, 2), in the order of ``classes_``; rows sum to one.
        """
        second = self.probability(*self.posterior(X))
        return np.stack([1 - second, second], axis=1)

    def probability(self, mean, variance):
        """Return the probability of the second class, from a posterior; see :meth:`predict_proba`."""
        return _probit(mean, variance, self.slope_)

    def predict(self, X):
        """Return the more probable class of each row of X, shape (n,)."""
        second = self.predict_proba(X)[:, 1] > 0.5
        return self.classes_[second.astype(int)]

    def predict_fast(self, X):
        """Return about the class that `predict` does, shape (n,), in less time.

        A prediction takes the neighbours of the nearest training point for its own: the linear systems are
        those of the training points, solved once, at the first call (Dunton et al. 2022, arXiv:2205.10879).

        Parameters
        ----------
        X : array-like
            Features, shape (n, n_features).

        Returns
        -------
        numpy.ndarray
            Shape (n,).
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, order="C", reset=False) - self._center
        points, correlation = self._points, self._correlation()
        if self._fast is None:
            itself = np.arange(len(points))[:, None]
            neighbourhoods = np.hstack([itself, self._others()[:, : self.nn_count_ - 1]])

            def solve(rows):
                system = points, self._targets, neighbourhoods[rows], correlation, self.noise_
                return (coefficients(points[rows], *system),)

            self._fast = neighbourhoods, *self._in_chunks(solve, len(points))
        query = self._query(self._is_compiled(len(X)))

        def predict(rows):
            nearest = _nearest(query, X[rows], 1)[1][:, 0]
            return (fast_mean(X[rows], points, nearest, *self._fast, correlation),)

        (mean,) = self._in_chunks(predict, len(X))
        return self.classes_[(mean > 0).astype(int)]

    def leave_one_out(self):
        """Return mean and variance of each training point from the others alone, shape (n,) each."""
        check_is_fitted(self)
        others = self._others()
        return self._in_chunks(lambda rows: self._posterior(self._points[rows], others[rows]), len(others))

    def get_state(self):
        """Return all that was learned, as numbers: a dict of arrays, for :meth:`set_state`."""
        check_is_fitted(self)
        values = [getattr(self, name) for name in STATE_VALUES]
        return {
            "points": self._points,
            "targets": self._targets,
            "center": self._center,
            "values": np.array(values, dtype=float),
        }

    def set_state(self, classes, points, targets, center, values):
        """Become the classifier that :meth:`get_state` was asked of.

        Parameters
        ----------
        classes : numpy.ndarray
            The two classes.
        points, targets, center, values : numpy.ndarray
            What `get_state` returned.

        Returns
        -------
        MuyGPSClassifier
            Itself.
        """
        self.classes_, self._points = classes, np.ascontiguousarray(points)
        self._targets, self._center = targets, center
        for name, value in zip(STATE_VALUES, values, strict=True):
            setattr(self, name, float(value))
        self.nn_count_, self.n_features_in_ = int(self.nn_count_), points.shape[1]
        self.neighbours_, self._fast = neighbour_index(self._points, self.neighbours), None
        self._blocks = None
        return self

    @property
    def muygps_(self):
        """The trained :class:`MuyGPyS.gp.MuyGPS`; its distances are in units of ``distance_unit_``."""
        check_is_fitted(self)
        scale = AnalyticScale(val=self.scale_)
        return _compose(self.smoothness, Parameter(self.length_scale_), (self.noise_,), scale)

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

    def _usable_nn_count(self, n_points):
        if not (isinstance(self.nn_count, (int, np.integer)) and self.nn_count >= 1):
            raise ValueError(f"nn_count: expected an integer >= 1, got {self.nn_count!r}")
        if self.nn_count < n_points:
            return int(self.nn_count)
        warnings.warn(
            f"nn_count={self.nn_count} needs more than {n_points} training points; using {n_points - 1}",
            stacklevel=3,
        )
        return n_points - 1

    def _train(self, groups, largest):
        """Optimize the hyperparameters on a batch, then fit the probit link to the same batch."""
        size = min(len(self._points), self.batch_count)
        batch = check_random_state(self.random_state).choice(len(self._points), size, replace=False)
        query, count = self._query(), self.nn_count_ + largest
        found = self._in_chunks(lambda rows: _nearest(query, self._points[batch[rows]], count), size)
        own = groups[found[1]] == groups[batch][:, None]
        others = np.argsort(own, axis=1, kind="stable")[:, : self.nn_count_]
        distances, indices = (np.take_along_axis(array, others, axis=1) for array in found)
        self.distance_unit_ = float(np.median(distances)) or 1.0
        squared = distance_tensors(self._points[batch], self._points, indices)
        crosswise, pairwise = (np.sqrt(array) / self.distance_unit_ for array in squared)
        targets, nn_targets = self._targets[batch], self._targets[indices]
        untrained = _compose(self.smoothness, Parameter(*LENGTH_SCALE), NOISE, AnalyticScale())
        trained = L_BFGS_B_optimize(untrained, targets, nn_targets, crosswise, pairwise, loss_fn=mse_fn)
        trained = trained.optimize_scale(pairwise, nn_targets)
        self.length_scale_ = float(trained.kernel.deformation.length_scale())
        self.noise_, self.scale_ = float(trained.noise()), float(trained.scale())
        mean, variance = self._posterior(self._points[batch], indices)
        self.slope_ = _fit_probit(mean, variance, targets)

    def _is_compiled(self, n_predictions):
        """Return whether to predict by numba."""
        return n_predictions >= COMPILED_FROM and self.smoothness in SHORT_FORMULA and _numba_works()

    def _query(self, compiled=False):
        """Return the method that finds neighbours."""
        if not compiled or self.neighbours != "exact":
            return self.neighbours_.query
        if self.n_features_in_ > FEW_FEATURES:
            return partial(self.neighbours_.query, compiled=True)
        self._blocks = self._blocks or BlockIndex(self._points)
        return self._blocks.query

    def _in_chunks(self, function, n):
        """Return the arrays that a function of a slice returns, for all of n rows, computed by threads."""
        n_threads = effective_n_jobs(self.n_jobs)
        size = min(CHUNK[1], max(CHUNK[0], -(-n // n_threads)))
        parts = threaded(function, slices(n, size), n_threads)
        return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))

    def _others(self):
        """Return rows of the neighbours of each training point, itself left out, shape (n, nn)."""
        query = self._query()

        def find(rows):
            nearest = _nearest(query, self._points[rows], self.nn_count_ + 1)[1]
            own = nearest == np.arange(len(self._points))[rows, None]
            others = np.argsort(own, axis=1, kind="stable")[:, : self.nn_count_]
            return (np.take_along_axis(nearest, others, axis=1),)

        return self._in_chunks(find, len(self._points))[0]

    def _posterior(self, X, indices, compiled=False):
        """Return posterior mean and variance of points (m, n_features) given their neighbours (m, nn)."""
        system = X, self._points, self._targets, indices
        if compiled:
            length_scale = self.length_scale_ * self.distance_unit_
            values = self.smoothness, length_scale, self.noise_
            mean, variance = compiled_posterior(*system, *values)
        else:
            mean, variance = posterior(*system, self._correlation(), self.noise_)
        return mean, self.scale_ * variance

    def _correlation(self):
        """Return the trained correlation as a function of squared distances in the units of X."""
        if self.smoothness in SHORT_FORMULA:
            return matern(self.smoothness, self.length_scale_ * self.distance_unit_)
        kernel, unit = self.muygps_.kernel, self.distance_unit_
        return lambda squared: kernel(np.sqrt(squared) / unit)


def _nearest(query, X, count):
    """Return distances and rows of the training points nearest to X, shape (m, count) each."""
    distances, rows = query(X, count)
    if not np.isfinite(distances).all():
        raise ValueError("X: holds numbers so large that their distances to training points overflow")
    return distances, rows


@cache
def _numba_works():
    """Return whether numba is there and can compile; warn if it is there and cannot."""
    if find_spec("numba") is None:
        return False
    try:
        BlockIndex(np.zeros((2, 1))).query(np.zeros((1, 1)), 1)
    except Exception as error:  # too old for numpy, too new for ztf_sg, no folder to keep its code in ...
        warnings.warn(f"predictions are not compiled, for numba does not work here: {error}", stacklevel=2)
        return False
    return True


def _compose(smoothness, length_scale, noise, scale):
    """Return a MuyGPS with an isotropic Matern kernel."""
    kernel = Matern(
        smoothness=Parameter(smoothness), deformation=Isotropy(metric=l2, length_scale=length_scale)
    )
    return MuyGPS(kernel=kernel, noise=HomoscedasticNoise(*noise), scale=scale)


def _probit(mean, variance, slope):
    return norm.cdf(slope * mean / np.sqrt(1 + slope**2 * variance))


def _fit_probit(mean, variance, targets):
    """Return the slope that maximises the likelihood of leave-one-out predictions."""

    def negative_log_likelihood(log_slope):
        slope = np.exp(log_slope)
        return -norm.logcdf(slope * mean * targets / np.sqrt(1 + slope**2 * variance)).sum()

    return float(np.exp(minimize_scalar(negative_log_likelihood, bounds=(-3, 4), method="bounded").x))
