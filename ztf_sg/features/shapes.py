"""Shapes of objects: how they compare with the point-spread function (PSF), their size and ellipticity."""

import numpy as np

from ztf_sg.features.photometry import aperture_fluxes, gaussian_weight, offsets
from ztf_sg.features.psf import PSF_FWHM_OVER_SEEING, moffat

FIT_RADIUS = 5.0  # of the pixels around the object that profiles are compared on [px]
PSF_ERROR = 0.02  # relative error of the PSF, which keeps bright pixels from having all the weight
SPREAD_WIDTHS = (1.3, 2.0, 3.5)  # of the broader profiles that objects are compared with [PSF widths]
MOMENTS_FWHM = 6.0  # of the weight of the second moments [px]


def spread_model(signal, x, y, seeing, noise, gain):
    r"""Return how much better each of the `SPREAD_WIDTHS` matches the objects than the PSF, shape (n, 3).

    With weights W of the pixels, PSF :math:`\phi`, a broader profile G and the image p, it is
    :math:`(G^T W p) / (\phi^T W p) - (G^T W \phi) / (\phi^T W \phi)`: 0 for a star, positive for a
    galaxy. It is the spread_model of Desai et al. 2012, ApJ 757, 83, with Moffat profiles. The seeing is a
    FWHM [px], shape (n,); for the other arguments see the top of :mod:`ztf_sg.features.photometry`.
    """
    psf = moffat(signal.shape, x, y, PSF_FWHM_OVER_SEEING * seeing)
    light = psf * np.maximum(aperture_fluxes(signal, x, y, (4,))[:, 0], 1)[:, None, None]
    variance = noise[:, None, None] ** 2 + light / gain[:, None, None] + (PSF_ERROR * light) ** 2
    weight = (np.hypot(*offsets(signal.shape, x, y)) < FIT_RADIUS) / variance
    psf_in_psf = np.einsum("nij,nij,nij->n", psf, psf, weight)
    psf_in_image = np.einsum("nij,nij,nij->n", psf, signal, weight)
    psf_in_image = np.maximum(psf_in_image, 0.1 * np.sqrt(psf_in_psf))
    columns = []
    for width in SPREAD_WIDTHS:
        broad = moffat(signal.shape, x, y, width * PSF_FWHM_OVER_SEEING * seeing) * weight
        in_image, in_psf = (np.einsum("nij,nij->n", broad, pixels) for pixels in (signal, psf))
        columns.append(in_image / psf_in_image - in_psf / psf_in_psf)
    return np.stack(columns, axis=1)


def moments(signal, x, y):
    """Return radius [px] and ellipticity, shape (n,) each, from second moments Q under a Gaussian weight.

    They are the square root of Qxx + Qyy, and the modulus of (Qxx - Qyy, 2 Qxy) / (Qxx + Qyy), at most 1.
    """
    weight = gaussian_weight(signal.shape, x, y, MOMENTS_FWHM) * signal
    dx, dy = offsets(signal.shape, x, y)
    total = weight.sum(axis=(1, 2))
    safe = np.where(total > 0, total, np.inf)
    xx, yy, xy = ((weight * product).sum(axis=(1, 2)) / safe for product in (dx * dx, dy * dy, dx * dy))
    trace = np.clip(xx + yy, 0.1, 50.0)
    return np.sqrt(trace), np.minimum(np.hypot(xx - yy, 2 * xy) / trace, 1.0)
