"""The point-spread function (PSF) of an image: its curve of growth, and a profile of the same width.

A point source obeys m_ap(d) = m_psf - APCOR(d) for the apertures of its image, an extended one does not.
"""

import numpy as np

APCOR_COLUMNS = [f"apcor{number}" for number in range(1, 5)]
# Mean relation of real APCOR1..4 with SEEING, [mag] at 1.6 px and [mag / px]: for images without APCOR.
# tools/calibrate_mock_sky.py prints it for any folder of cutouts.
MEAN_APCOR = np.array([-0.833, -0.385, -0.201, -0.074])
APCOR_SLOPE = np.array([-0.531, -0.303, -0.170, -0.073])
PSF_BETA, PSF_FWHM_OVER_SEEING = 2.38, 0.878  # Moffat profile that reproduces APCOR at the header's SEEING


def curve_of_growth(table):
    """Return the aperture corrections APCOR1..4 of each cutout's image [mag], shape (n, 4).

    The table is that of a CutoutSet; missing corrections follow from the mean relation with SEEING.
    """
    given = table[APCOR_COLUMNS].to_numpy(dtype=float)
    mean = MEAN_APCOR + APCOR_SLOPE * (table["seeing"].to_numpy(dtype=float)[:, None] - 1.6)
    return np.where(np.isfinite(given), given, mean)


def moffat(shape, x, y, fwhm, oversampling=3):
    """Return pixel-averaged Moffat profiles of unit sum, of a shape (n, height, width).

    Centres x, y and widths fwhm [px] have shape (n,); pixels are averaged over oversampling**2 points.
    """
    alpha = fwhm / 2 / np.sqrt(2 ** (1 / PSF_BETA) - 1)
    steps = (np.arange(oversampling) + 0.5) / oversampling - 0.5
    squared_y = ((np.arange(shape[1]) + steps[:, None] - y[:, None, None]) / alpha[:, None, None]) ** 2
    squared_x = ((np.arange(shape[2]) + steps[:, None] - x[:, None, None]) / alpha[:, None, None]) ** 2
    profile = np.zeros(shape)
    for i in range(oversampling):
        for j in range(oversampling):
            power = np.log(1 + squared_y[:, i, :, None] + squared_x[:, j, None, :])
            power *= -PSF_BETA
            profile += np.exp(power, out=power)
    return profile / profile.sum(axis=(1, 2), keepdims=True)
