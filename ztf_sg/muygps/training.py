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

    Points (n, n_features) with targets (n,) of -1 and +1; rows of the batch (m,); distances to, and rows of,
    its neighbours (m, nn); unit of the distances in the kernel.
    """
    pairwise = np.stack([cdist(points[rows], points[rows]) for rows in indices]) / unit
    untrained = compose(smoothness, LENGTH_SCALE, NOISE)
    nn_targets = targets[indices]
    trained = L_BFGS_B_optimize(
        untrained, targets[batch], nn_targets, distances / unit, pairwise, loss_fn=mse_fn
    )
    return trained.optimize_scale(pairwise, nn_targets)


def compose(smoothness, length_scale, noise, scale=1.0):
    """Return a MuyGPS; length scale and noise are (value, bounds) or (value,)."""
    deformation = Isotropy(metric=l2, length_scale=Parameter(*length_scale))
    kernel = Matern(smoothness=Parameter(smoothness), deformation=deformation)
    return MuyGPS(kernel=kernel, noise=HomoscedasticNoise(*noise), scale=AnalyticScale(val=scale))
