"""Figures of notebook 3, and galleries in others: cutouts, their normalizations, their pixels."""

from itertools import product
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
from astropy.visualization import AsinhStretch

from ztf_sg.plotting import style

BLACK, WHITE = 1, 99.5  # percentiles of the pixels of a cutout [%]
WIDEST = 9  # cutouts in a row of objects in several bands
KINDS = {"star": (0, "-"), "galaxy": (1, "--"), "unknown": (-1, ":")}  # labels and lines of histograms


def plot_cutouts(images, titles=None, labels=None, *, title=None):
    """Gallery of cutouts, each on a brightness scale of its own; asinh stretch.

    Parameters
    ----------
    images : sequence of n arrays (height, width)
        Cutouts [DN], drawn with the first row at the bottom. Pixels that are not finite are drawn pale red.
    titles, labels : sequence of n str, array_like (n,), optional
        Title of each cutout, and the class that colours its frame: 0 star, 1 galaxy, -1 unknown.

    Raises
    ------
    ValueError
        If there are no images, an image is not two-dimensional, or titles or labels are not n.
    """
    images = [stretched(np.asarray(image, float)) for image in images]
    titles = [""] * len(images) if titles is None else titles
    if len(titles) != len(images):
        raise ValueError(f"expected {len(images)} titles, one per cutout; got {len(titles)}")
    labels = None if labels is None else style.check_labels(labels, len(images))
    fig, axes = style.new_panels(len(images), 8, (1.15, 1.15 + 0.15 * any(titles)), extra_height=0.7)
    for ax, image, name in zip(axes, images, titles, strict=True):
        show_image(ax, image, 0, 1)
        ax.set_title(name, fontsize=8, pad=3)
    fig.supxlabel(f"asinh stretch, each from its own {BLACK:g} to {WHITE:g} percentile", fontsize=9)
    dots = []
    if labels is not None:
        for ax, label in zip(axes, labels, strict=True):
            ax.spines[:].set(color=style.COLORS[label], linewidth=2.5)
        dots = style.class_dots(style.class_counts(labels), with_counts=False)
    style.title_above(fig, title, dots)
    return fig


def plot_objects(images, names, *, labels=None, bands="gri", title=None):
    """Gallery of objects, each in several bands side by side, every cutout on a scale of its own.

    Parameters
    ----------
    images : sequence of n dict of str to array (height, width)
        The cutout [DN] of each object by its band; those without one stay empty.
    names : sequence of n str
        What is written above each object.
    labels : array_like (n,), optional
        The class that colours the frames: 0 star, 1 galaxy, -1 unknown.
    bands : str
        One letter per band, in the order in which they are drawn.

    Raises
    ------
    ValueError
        If there are no objects, or names or labels are not n.
    """
    if len(names) != len(images):
        raise ValueError(f"expected {len(images)} names, one per object; got {len(names)}")
    labels = style.check_labels([-1] * len(images) if labels is None else labels, len(images))
    columns = len(bands) * max(1, WIDEST // len(bands))
    fig, axes = style.new_panels(len(images) * len(bands), columns, (1.15, 1.35), extra_height=0.7)
    for ax, (row, band) in zip(axes, product(range(len(images)), bands), strict=True):
        image = images[row].get(band)
        if image is not None:
            show_image(ax, stretched(np.asarray(image, float)), 0, 1)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set(color=style.COLORS[labels[row]], linewidth=2)
        ax.set_xlabel(band if image is not None else f"no {band}", fontsize=8, labelpad=2)
        if band == bands[0]:
            ax.set_title(names[row], fontsize=8, pad=3, loc="left", parse_math=False)
    fig.supxlabel(f"asinh stretch, each from its own {BLACK:g} to {WHITE:g} percentile", fontsize=9)
    style.title_above(fig, title, style.class_dots(style.class_counts(labels), with_counts=False))
    return fig


def plot_normalization_gallery(images_by_name, row_labels, *, title=None):
    """Show the same few cutouts (rows) under several normalizations (columns).

    A column has one linear scale, written below it: from its smallest to its largest finite pixel.

    Parameters
    ----------
    images_by_name : dict of str to array (k, height, width)
        For each normalization the same k cutouts.
    row_labels : sequence of k str
        Their names.

    Raises
    ------
    ValueError
        If the normalizations do not have k cutouts each.
    """
    counts = {name: len(images) for name, images in images_by_name.items()}
    if set(counts.values()) != {len(row_labels)}:
        raise ValueError(
            f"expected {len(row_labels)} cutouts, one per row label, under each normalization; "
            f"got these numbers: {counts}"
        )
    fig, axes = style.new_panels(len(row_labels) * len(counts), len(counts), (1.3, 1.25), extra_height=1.1)
    columns = np.reshape(axes, (len(row_labels), -1)).T
    for column, (name, images) in zip(columns, images_by_name.items(), strict=True):
        finite = _finite(images)
        low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 1.0)
        for ax, image in zip(column, images, strict=True):
            show_image(ax, image, low, high)
        broken = fill(name.replace("_", "_ "), 17).replace("_ ", "_")  # a line may end after an underscore
        column[0].set_title(broken, fontsize=9)
        column[-1].set_xlabel(f"{_short(low)} to {_short(high)}", fontsize=8)
    for ax, label in zip(columns[0], row_labels, strict=True):
        ax.set_ylabel(label, fontsize=9)
    fig.supxlabel("linear stretch; black to white as written below each column", fontsize=9)
    style.title_above(fig, title)
    return fig


def plot_pixel_histograms(values_by_name, *, title=None):
    """Histograms of the pixel values of stars and of galaxies, one panel per normalization.

    The bins of each panel span the central 99 % of its pixels. Values that are not finite are left out.

    Parameters
    ----------
    values_by_name : dict of str to dict
        For each normalization ``{"star": pixels, "galaxy": pixels, "unknown": pixels}``, or some of these;
        arrays of any shape.

    Raises
    ------
    ValueError
        If there is nothing to draw, or a class is not known.
    """
    fig, axes = style.new_panels(len(values_by_name), 4, (2.7, 1.9), extra_height=0.6)
    for ax, (name, values) in zip(axes, values_by_name.items(), strict=True):
        _pixel_histogram(ax, name, values)
    fig.supxlabel("pixel value after normalization (central 99 % of the pixels)", fontsize=10)
    fig.supylabel("fraction of the pixels per bin", fontsize=10)
    style.title_above(fig, title, axes[0].get_legend_handles_labels()[0])
    return fig


def stretched(image):
    """Return an image between its black and white levels, stretched to 0..1; not-finite pixels become NaN."""
    if image.ndim != 2:
        raise ValueError(f"expected cutouts of shape (height, width); got one of shape {image.shape}")
    image = np.where(np.isfinite(image), image, np.nan)
    if np.isnan(image).all():
        return image
    low, high = np.nanpercentile(image, (BLACK, WHITE))
    scaled = np.clip((image - low) / ((high - low) or 1.0), 0, 1)
    return AsinhStretch(0.1)(scaled, clip=False)


def show_image(ax, image, low, high):
    """Draw an image with its first row at the bottom, black at low and white at high, pale red where NaN."""
    look = {"cmap": plt.get_cmap("gray").with_extremes(bad="#f4c7b5"), "interpolation": "nearest"}
    ax.imshow(np.ma.masked_invalid(image), origin="lower", vmin=low, vmax=high, **look)
    ax.set(xticks=[], yticks=[])


def _finite(values):
    """Return the finite values as a 1-D array."""
    values = np.ravel(values).astype(float)
    return values[np.isfinite(values)]


def _short(value):
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2g}"


def _pixel_histogram(ax, name, values):
    others = set(values) - set(KINDS)
    if others or not values:
        raise ValueError(
            f"pixel values of {name!r}: expected some of {', '.join(KINDS)}, got {sorted(others)}"
        )
    pixels = {kind: _finite(values[kind]) for kind in KINDS if kind in values}
    together = np.concatenate(list(pixels.values()))
    span = np.percentile(together, (0.5, 99.5)) if together.size else (0, 1)
    edges = np.histogram_bin_edges(together, bins=50, range=tuple(span))
    for kind, shown in pixels.items():
        label, dashes = KINDS[kind]
        share = np.histogram(shown, edges)[0] / max(shown.size, 1)
        ax.stairs(share, edges, color=style.COLORS[label], ls=dashes, lw=1.4, label=kind)
    ax.set_yscale("log")
    ax.set_title(name, fontsize=9)
    ax.tick_params(labelsize=8)
    ax.locator_params(axis="x", nbins=4)
