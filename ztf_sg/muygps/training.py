"""Training of the hyperparameters by MuyGPyS, which takes a second to import and only training needs."""

import numpy as np
from MuyGPyS.gp import MuyGPS
from MuyGPyS.gp.deformation import Isotropy, l2
from MuyGPyS.gp.hyperparameter import AnalyticScale, Parameter
from MuyGPyS.gp.kernels import Matern
from MuyGPyS.gp.noise import HomoscedasticNoise
from MuyGPyS.optimize import L_BFGS_B_optimize
from MuyGPyS.optimize.loss import mse_fn
from scipy.spatial.distance import cdist

LENGTH_SCALE = (3.0, (0.1, 30.0))  # start and bounds, in units of the typical neighbour distance
NOISE = (1e-1, (1e-3, 10.0))  # start and bounds, in units of the prior variance


def train(smoothness, points, targets, batch, distances, indices, unit):
    """Return the MuyGPS that predicts a batch of training points best, each from its neighbours.

    Parameters
    ----------
    smoothness : float
        Of the Matern kernel.
    points, targets : numpy.ndarray
        All training points, shape (n, n_features), and their values -1 and +1, shape (n,).
    batch : numpy.ndarray
        Rows of the batch, shape (m,).
    distances, indices : numpy.ndarray
        Of the neighbours of each point of the batch: distances to it and rows, shape (m, nn) each.
    unit : float
        Of the distances in the kernel, in units of the points.

    Returns
    -------
    MuyGPyS.gp.MuyGPS
        Length scale and noise by L-BFGS-B on the mean squared error, and the scale that fits them.
    """
    pairwise = np.stack([cdist(points[rows], points[rows]) for rows in indices]) / unit
    untrained = compose(smoothness, LENGTH_SCALE, NOISE)
    nn_targets = targets[indices]
    trained = L_BFGS_B_optimize(
        untrained, targets[batch], nn_targets, distances / unit, pairwise, loss_fn=mse_fn
    )
    return trained.optimize_scale(pairwise, nn_targets)


def compose(smoothness, length_scale, noise, scale=1.0):
    """Return a MuyGPS with an isotropic Matern kernel; length scale and noise with their bounds, if any."""
    deformation = Isotropy(metric=l2, length_scale=Parameter(*length_scale))
    kernel = Matern(smoothness=Parameter(smoothness), deformation=deformation)
    return MuyGPS(kernel=kernel, noise=HomoscedasticNoise(*noise), scale=AnalyticScale(val=scale))
