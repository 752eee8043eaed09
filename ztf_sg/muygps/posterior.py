r"""Posterior of local Gaussian processes from squared distances, many at a time.

MuyGPyS builds the differences of all pairs of neighbours, an array of shape (n, nn, nn, n_features), and
solves two linear systems for each prediction. Here one Cholesky factorisation gives mean and variance: with
the covariance :math:`K` of the neighbours, noise included, their covariance :math:`k` with the query and
their targets :math:`y`,

.. math::
    \begin{pmatrix} K & k & y \\ k^T & a & 0 \\ y^T & 0 & b \end{pmatrix} = L L^T

has the rows :math:`v = L_K^{-1} k` and :math:`w = L_K^{-1} y` at the bottom of L, whatever a and b are, if
only large enough; the mean is :math:`v w` and the variance :math:`1 - v v`, in units of the prior variance
(Rasmussen & Williams 2006, Gaussian Processes for Machine Learning, algorithm 2.1).
"""

import numpy as np

from ztf_sg.muygps.neighbours import crosswise_distances
from ztf_sg.parallel import slices

CHUNK_BYTES = 2**21  # memory of arrays: about what a processor keeps at hand
LARGE = 1e300


def matern(smoothness, length_scale):
    r"""Return the Matern correlation as a function of squared distances, which it overwrites.

    Of distances r in units of the length scale, with :math:`s = r \sqrt{2 \nu}`: :math:`e^{-s}` for the
    smoothness :math:`\nu = 1/2`, :math:`(1 + s) e^{-s}` for 3/2, :math:`(1 + s + s^2/3) e^{-s}` for 5/2, and
    :math:`e^{-r^2/2}` for infinity (Rasmussen & Williams 2006, section 4.2.1).

    Parameters
    ----------
    smoothness : {0.5, 1.5, 2.5, inf}
    length_scale : float
        In the units of the distances.

    Returns
    -------
    callable
        From an array to one of the same shape.
    """

    def correlation(squared):
        squared *= _factor(smoothness, length_scale)
        if np.isinf(smoothness):
            np.negative(squared, out=squared)
            return np.exp(squared, out=squared)
        distance = np.sqrt(squared)
        if smoothness == 0.5:
            factor = 1.0
        elif smoothness == 1.5:
            factor = distance + 1
        else:
            factor = squared
            factor /= 3
            factor += distance
            factor += 1
        np.negative(distance, out=distance)
        np.exp(distance, out=distance)
        distance *= factor
        return distance

    return correlation


def _factor(smoothness, length_scale):
    """Return what squared distances are multiplied with in the formulas of :func:`matern`."""
    return (0.5 if np.isinf(smoothness) else 2 * smoothness) / length_scale**2


def posterior(X, points, targets, indices, correlation, noise):
    """Return mean and variance of Gaussian processes conditioned on the neighbours of each query.

    Parameters
    ----------
    X : numpy.ndarray
        Queries, shape (m, n_features), in the units of the distances that `correlation` takes.
    points, targets : numpy.ndarray
        Training points, shape (n, n_features), in these units, and their values, shape (n,).
    indices : numpy.ndarray
        Rows of the neighbours of each query, shape (m, nn); their order does not matter.
    correlation : callable
        From squared distances, an array that it may overwrite, to an array of that shape; see
        :func:`matern`.
    noise : float
        In units of the prior variance.

    Returns
    -------
    mean, variance : numpy.ndarray
        Shape (m,) each; the variance in units of the prior variance, without the noise.
    """
    mean, variance = np.empty(len(X)), np.empty(len(X))
    nn_count = indices.shape[1]
    at_zero = float(correlation(np.zeros(1))[0])
    layout = _Layout(nn_count)

    for rows in _chunks(X, indices):
        own = np.sort(indices[rows], axis=1)
        packed = np.empty((len(own), layout.width))
        packed[:, : layout.constants] = correlation(_squared_distances(X[rows], points, own, layout))
        packed[:, layout.constants :] = (at_zero + noise, 2 * at_zero, LARGE, 0)
        matrices = np.take(packed, layout.places, axis=1)
        matrices[:, -1, :nn_count] = targets[own]
        bottom = np.linalg.cholesky(matrices)[:, nn_count:, :nn_count]
        mean[rows] = np.einsum("ij,ij->i", bottom[:, 0], bottom[:, 1])
        variance[rows] = 1 - np.einsum("ij,ij->i", bottom[:, 0], bottom[:, 0])
    return mean, np.maximum(variance, 0)


def compiled_posterior(X, points, targets, indices, smoothness, length_scale, noise):
    """Return what :func:`posterior` does with a :func:`matern` correlation, compiled by numba.

    Parameters
    ----------
    X, points, targets, indices, noise
        See :func:`posterior`.
    smoothness, length_scale
        See :func:`matern`.

    Returns
    -------
    mean, variance : numpy.ndarray
        Shape (m,) each; they differ from those of :func:`posterior` by rounding errors.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the noise is too little for neighbours so close to each other.
    """
    from ztf_sg.muygps import compiled

    mean, variance = np.empty(len(X)), np.empty(len(X))
    formula, factor = compiled.FORMULA[smoothness], _factor(smoothness, length_scale)
    own = np.sort(indices, axis=1)
    compiled.posterior(X, points, targets, own, formula, factor, noise, mean, variance)
    if not np.isfinite(mean).all():
        raise np.linalg.LinAlgError("the noise is too small for neighbours so close to each other")
    return mean, variance


def coefficients(X, points, targets, neighbourhoods, correlation, noise):
    """Return the coefficients of the fast posterior mean, :func:`fast_mean`, for training points X.

    They are :math:`K^{-1} y`, with the covariance K of a neighbourhood and its targets y (Dunton et al.
    2022, arXiv:2205.10879, equation 8).

    Parameters
    ----------
    X : numpy.ndarray
        Some or all of the points, shape (m, n_features).
    points, targets, correlation, noise
        See :func:`posterior`.
    neighbourhoods : numpy.ndarray
        Rows of each of X and of its nearest others, shape (m, nn).

    Returns
    -------
    numpy.ndarray
        Shape (m, nn).
    """
    found = np.empty(neighbourhoods.shape)
    for rows in _chunks(X, neighbourhoods):
        own = neighbourhoods[rows]
        pairwise = correlation(distance_tensors(X[rows], points, own)[1])
        np.einsum("ijj->ij", pairwise)[:] += noise
        found[rows] = np.linalg.solve(pairwise, targets[own][:, :, None])[:, :, 0]
    return found


def fast_mean(X, points, nearest, neighbourhoods, coefficients, correlation):
    """Return the posterior mean from the neighbourhood of the nearest training point.

    Parameters
    ----------
    X, points, correlation
        See :func:`posterior`.
    nearest : numpy.ndarray
        Row of the nearest training point of each query, shape (m,).
    neighbourhoods, coefficients : numpy.ndarray
        See :func:`coefficients`.

    Returns
    -------
    numpy.ndarray
        Shape (m,).
    """
    crosswise = correlation(crosswise_distances(X, points, neighbourhoods[nearest]))
    return np.einsum("ij,ij->i", crosswise, coefficients[nearest])


def distance_tensors(X, points, indices):
    """Return squared distances to and among neighbours, as MuyGPyS arranges them.

    Parameters
    ----------
    X, points, indices
        See :func:`posterior`.

    Returns
    -------
    crosswise, pairwise : numpy.ndarray
        Shapes (m, nn) and (m, nn, nn).
    """
    nn_count = indices.shape[1]
    layout = _Layout(nn_count)
    packed = np.zeros((len(X), layout.width))
    packed[:, : layout.constants] = _squared_distances(X, points, indices, layout)
    pairwise = np.take(packed, layout.places[:nn_count, :nn_count], axis=1)
    return packed[:, layout.constants - nn_count : layout.constants], pairwise


def _chunks(X, indices):
    """Return slices of the queries whose arrays fit `CHUNK_BYTES`."""
    nn_count = indices.shape[1]
    return slices(len(X), CHUNK_BYTES // (8 * (nn_count * X.shape[1] + 4 * (nn_count + 2) ** 2)))


class _Layout:
    """Where the distances among neighbours and query stand in a row of numbers, each pair once.

    A row holds the pairs of neighbours, then the neighbours with the query, then four constants.
    """

    def __init__(self, nn_count):
        first, second = np.tril_indices(nn_count, -1)
        self.pairs = first * nn_count + second  # in a square matrix
        self.constants = len(first) + nn_count
        self.width = self.constants + 4
        places = np.full((nn_count + 2, nn_count + 2), self.width - 1)
        places[first, second] = places[second, first] = np.arange(len(first))
        places[nn_count, :nn_count] = len(first) + np.arange(nn_count)
        diagonal = np.full(nn_count + 2, self.constants)
        diagonal[nn_count:] += 1, 2
        np.fill_diagonal(places, diagonal)
        self.places = places


def _squared_distances(X, points, indices, layout):
    """Return squared distances of all pairs of neighbours, and of neighbours and query, one row each.

    Distances of neighbours follow from their products. The query is the origin, so that rounding errors
    are those of numbers as large as the distances to the query.
    """
    rows, nn_count = indices.shape
    offsets = np.take(points, indices, axis=0)
    offsets -= X[:, None]
    products = offsets @ offsets.swapaxes(1, 2)
    norms = products.reshape(rows, -1)[:, :: nn_count + 1].copy()
    products *= -2
    products += norms[:, :, None]
    products += norms[:, None]
    packed = np.empty((rows, layout.constants))
    np.take(products.reshape(rows, -1), layout.pairs, axis=1, out=packed[:, :-nn_count], mode="clip")
    np.maximum(packed, 0, out=packed)
    packed[:, -nn_count:] = norms
    return packed
