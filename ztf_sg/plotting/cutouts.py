"""Figures of notebooks 2 and 3, and galleries in others: cutouts, their normalizations, their pixels."""

from itertools import product
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
from astropy.visualization import AsinhStretch, ImageNormalize

from ztf_sg.plotting import style

BLACK, WHITE = 1, 99.5  # percentiles of the pixels of a cutout [%]
WIDEST = 9  # cutouts in a row of objects in several bands
LABELS = {name: label for label, name in style.NAMES.items()}
LOOK = {"cmap": style.GRAYS, "interpolation": "nearest"}  # of images


def plot_cutout(image, wcs, ra, dec, *, title=None):
    """Draw a cutout on the sky, with a scale of its counts; a reticle points at a position.

    The stretch is asinh, from the smallest to the largest finite pixel.

    Parameters
    ----------
    image : array_like (height, width)
        Cutout [DN]. Pixels that are not finite are drawn pale red.
    wcs : astropy.wcs.WCS
        World coordinate system of the cutout, such as ``WCS(header)``.
    ra, dec : float
        Position [deg, ICRS].
    """
    _, ax = plt.subplots(figsize=(5.2, 3.8), subplot_kw={"projection": wcs}, layout="constrained")
    image = np.ma.masked_invalid(image)
    norm = ImageNormalize(vmin=image.min(), vmax=image.max(), stretch=AsinhStretch(0.1))
    shown = ax.imshow(image, origin="lower", norm=norm, **LOOK)
    at = {"transform": ax.get_transform("world"), "ls": "", "ms": 56, "mew": 2.5}
    ax.plot(ra, dec, marker=style.RETICLE, color=style.GALAXY_COLOR, **at)
    ax.coords[0].set_ticks(number=3)
    plt.colorbar(shown, ax=ax, label="counts [DN], asinh stretch", pad=0.05)
    return style.describe(ax, "RA", "DEC", title)


def plot_profiles(radius, panels, *, title=None):
    """Draw profiles of brightness, one panel for each of a few circumstances.

    Parameters
    ----------
    radius : array_like (n,)
        Distances from the centre [arcsec].
    panels : dict of str to dict of str to array (n,)
        For the title of each panel the profiles of ``"star"``, ``"galaxy"`` or ``"unknown"``, relative to
        their peak.

    Raises
    ------
    ValueError
        If there is nothing to draw.
    """
    fig, axes = style.new_panels(len(panels), len(panels), (3.6, 2.7), extra_height=0.6)
    for ax, (name, profiles) in zip(axes, panels.items(), strict=True):
        for kind, profile in profiles.items():
            ax.plot(radius, profile, **_line(kind), lw=2)
        ax.axhline(0.5, color=style.UNKNOWN_COLOR, lw=1, zorder=0)
        ax.set(ylim=(0, 1.05))
        ax.margins(x=0.02)
        style.describe(ax, "distance from the centre [arcsec]", "brightness / peak", name).label_outer()
    style.title_above(fig, title, axes[0].get_legend_handles_labels()[0])
    return fig


def plot_cutouts(images, titles=None, labels=None, *, title=None):
    """Gallery of cutouts, each on a brightness scale of its own; asinh stretch.

    Parameters
    ----------
    images : sequence of n arrays (height, width)
        Cutouts [DN], drawn with the first row at the bottom. Pixels that are not finite are drawn pale red.
    titles, labels : sequence of n str, array_like (n,), optional
        Title of each cutout, and the class of its frame: 0 star, 1 galaxy, dashed, -1 unknown, dotted.

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
    frames = []
    if labels is not None:
        for ax, label in zip(axes, labels, strict=True):
            _frame(ax, label)
        frames = style.class_lines(labels)
    style.title_above(fig, title, frames)
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
        _frame(ax, labels[row])
        ax.set_xlabel(band if image is not None else f"no {band}", fontsize=8, labelpad=2)
        if band == bands[0]:
            ax.set_title(names[row], fontsize=8, pad=3, loc="left", parse_math=False)
    fig.supxlabel(f"asinh stretch, each from its own {BLACK:g} to {WHITE:g} percentile", fontsize=9)
    style.title_above(fig, title, style.class_lines(labels))
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
    ax.imshow(np.ma.masked_invalid(image), origin="lower", vmin=low, vmax=high, **LOOK)
    ax.set(xticks=[], yticks=[])


def _frame(ax, label):
    """Give a cutout the frame of its class."""
    ax.spines[:].set(color=style.COLORS[label], linestyle=style.DASHES[label], linewidth=2.5)


def _line(kind):
    """Return the look of the line of a class, by its name."""
    label = LABELS[kind]
    return {"color": style.COLORS[label], "ls": style.DASHES[label], "label": kind}


def _finite(values):
    """Return the finite values as a 1-D array."""
    values = np.ravel(values).astype(float)
    return values[np.isfinite(values)]


def _short(value):
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2g}"


def _pixel_histogram(ax, name, values):
    others = set(values) - set(LABELS)
    if others or not values:
        raise ValueError(
            f"pixel values of {name!r}: expected some of {', '.join(LABELS)}, got {sorted(others)}"
        )
    pixels = {kind: _finite(values[kind]) for kind in LABELS if kind in values}
    together = np.concatenate(list(pixels.values()))
    span = np.percentile(together, (0.5, 99.5)) if together.size else (0, 1)
    edges = np.histogram_bin_edges(together, bins=50, range=tuple(span))
    for kind, shown in pixels.items():
        share = np.histogram(shown, edges)[0] / max(shown.size, 1)
        ax.stairs(share, edges, **_line(kind), lw=1.4)
    ax.set_yscale("log")
    ax.set_title(name, fontsize=9)
    ax.tick_params(labelsize=8)
    ax.locator_params(axis="x", nbins=4)
