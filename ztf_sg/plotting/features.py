"""A figure of what the photometric features measure: an object against the point-spread function (PSF)."""

import numpy as np

from ztf_sg.features import aperture_fluxes, background, centroids
from ztf_sg.features.measure import SPREAD_WIDTHS
from ztf_sg.features.psf import curve_of_growth, image_psf, moffat_radius
from ztf_sg.features.psf_fit import NODES_X, NODES_Y, WEIGHTS, fit_radius
from ztf_sg.plotting import style
from ztf_sg.plotting.cutouts import show_image
from ztf_sg.ztf import APERTURES

WIDEST_SHOWN = 4  # apertures: larger ones reach into the neighbours


def plot_measurement(cutouts, *, title=None):
    """Each cutout, the PSF of its image fitted to it, what is left, its profile, and its curve of growth.

    Parameters
    ----------
    cutouts : CutoutSet
        Two or three cutouts, one row of panels each. Images have a linear scale, from -5 % (black) to 50 %
        (white) of the fitted PSF's highest pixel. Profiles are relative to that pixel, and all have the same
        light.

    Returns
    -------
    matplotlib.figure.Figure
    """
    fwhm, beta, from_apcor = image_psf(cutouts.table)
    growth = curve_of_growth(cutouts.table, fwhm, beta, from_apcor)[:, :WIDEST_SHOWN]
    source = "APCOR" if np.all(from_apcor) else "SEEING where APCOR lacks"
    sky, _ = background(cutouts.images)
    signal = cutouts.images - np.asarray(sky)[:, None, None]
    x, y = centroids(signal)
    fluxes = aperture_fluxes(signal, x, y)
    fig, axes = style.new_panels(5 * len(cutouts), 5, (2.15, 2.3), extra_height=0.8)
    for row, panels in enumerate(np.reshape(axes, (-1, 5))):
        psf = _moffat_image(signal.shape[1:], x[row], y[row], fwhm[row], beta[row])
        radius = np.hypot(*(np.indices(psf.shape) - np.array([y[row], x[row]])[:, None, None]))
        inside = radius < fit_radius(fwhm[row])
        flux = np.sum((signal[row] * psf)[inside]) / np.sum(psf[inside] ** 2)
        peak = flux * psf.max()
        images = {
            "cutout less sky": signal[row],
            "PSF, fitted": flux * psf,
            "what is left": signal[row] - flux * psf,
        }
        for ax, (name, image) in zip(panels, images.items(), strict=False):
            show_image(ax, image / peak, -0.05, 0.5)
            ax.set_title(name, fontsize=9)
        _draw_profile(
            panels[3], radius[inside], (signal[row] / peak)[inside], fwhm[row], beta[row], psf.max()
        )
        _draw_growth(panels[4], fluxes[row], growth[row], source)
        panels[0].set_ylabel(style.NAMES[cutouts.labels[row]], fontsize=11)
    handles = [line for ax in axes[3:5] for line in ax.get_legend_handles_labels()[0]]
    style.title_above(fig, title, handles)
    return fig


def _moffat_image(shape, x, y, fwhm, beta):
    """Return a Moffat profile of all its light 1, averaged over the pixels of an image."""
    rows, columns = np.indices(shape)[..., None]
    alpha = moffat_radius(fwhm, beta)
    squared = (rows + NODES_Y - y) ** 2 + (columns + NODES_X - x) ** 2
    return _moffat(np.sqrt(squared), alpha, beta) @ WEIGHTS


def _moffat(radius, alpha, beta):
    return (beta - 1) / (np.pi * alpha**2) * (1 + (radius / alpha) ** 2) ** -beta


def _draw_profile(ax, radius, pixels, fwhm, beta, highest):
    """Draw pixels against their distance from the centre, and the PSF with its broader versions."""
    ax.plot(radius, pixels, ls="none", marker=".", ms=4, color="0.6", label="pixels")
    ax.set_prop_cycle(style.LINES)
    r = np.linspace(0, radius.max(), 100)
    for width in (1.0, *SPREAD_WIDTHS):
        profile = _moffat(r, width * moffat_radius(fwhm, beta), beta) / highest
        ax.plot(r, profile, lw=1.5, label="PSF" if width == 1 else f"PSF, {width:g} times as broad")
    ax.set_yscale("symlog", linthresh=0.02)
    ax.set(ylim=(-0.04, 3), yticks=(0, 0.02, 0.1, 1), yticklabels=("0", "0.02", "0.1", "1"))
    ax.minorticks_off()
    ax.tick_params(labelsize=8)
    style.describe(ax, "radius [px]", None, None).set_title("profile / peak of PSF", fontsize=9)


def _draw_growth(ax, fluxes, corrections, source):
    """Draw the light inside of apertures relative to the largest, and the same of a star by the header."""
    diameters = APERTURES[:WIDEST_SHOWN]
    star = 10 ** (0.4 * (corrections - corrections[-1]))
    ax.plot(diameters, star, color="black", marker="s", ms=4, label=f"a star here, from {source}")
    ax.plot(
        diameters,
        fluxes / fluxes[-1],
        color=style.GALAXY_COLOR,
        ls="--",
        marker="o",
        ms=4,
        label="the object",
    )
    ax.grid(color=style.GRID_COLOR)
    ax.tick_params(labelsize=8)
    style.describe(ax, "aperture diameter [px]", None, None).set_title("light / that in 6 px", fontsize=9)
