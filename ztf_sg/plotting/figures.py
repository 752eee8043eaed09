"""Figures of the four notebooks: positions, cutouts, normalizations and classifications.

Every function takes plain arrays or tables. One-panel figures accept ``ax`` and return the Axes; some put
their legend beside it, so give your own figures ``layout="constrained"``. Many-panel figures return the
Figure. Colours are those of Okabe and Ito, which stay apart under the common kinds of colour blindness
(https://jfly.uni-koeln.de/color/). Labels are 0 star, 1 galaxy, -1 unknown.
"""

from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
from astropy.stats import binom_conf_interval
from astropy.visualization import AsinhStretch, LinearStretch, LogStretch
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator, StrMethodFormatter
from scipy.special import gamma, gammaincinv
from sklearn.metrics import auc, roc_curve

from ztf_sg.positions import labels_of_types

STAR_COLOR = "#0072B2"
GALAXY_COLOR = "#D55E00"
UNKNOWN_COLOR = "#999999"
WRONG_COLOR = "#000000"
RIGHT_COLOR = "#56B4E9"
BAR_COLOR = "#56B4E9"
LINE_COLORS = ("#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
LINE_STYLES = ("-", "--", ":")

CLASSES = ((0, "star", STAR_COLOR), (1, "galaxy", GALAXY_COLOR), (-1, "unknown", UNKNOWN_COLOR))
STRETCHES = {"asinh": AsinhStretch(0.1), "linear": LinearStretch(), "log": LogStretch(1000)}


def plot_sky_map(positions, labels=None, *, title=None, ax=None):
    """Map of stars and galaxies, as seen on the sky: right ascension grows to the left.

    Parameters
    ----------
    positions : pandas.DataFrame of n rows
        Columns RA and DEC [deg, ICRS] and, unless `labels` are given, ``type``: the Tractor morphological
        type, PSF for stars and REX, EXP, DEV or SER for galaxies. Any other type counts as unknown.
    labels : array_like (n,), optional
        0 star, 1 galaxy, -1 unknown; booleans mean "is a galaxy".
    title : str, optional
        Title of the figure.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib.axes.Axes

    Notes
    -----
    The aspect is 1 / cos(DEC) at the middle of the map, so that a degree is equally long both ways. A map
    across RA = 0 is drawn in one piece.
    """
    _require_columns(positions, ["RA", "DEC"] + ["type"] * (labels is None), "positions")
    labels = _type_labels(positions["type"]) if labels is None else _class_labels(labels, len(positions))
    ra, dec = _unwrapped(positions["RA"].to_numpy(float)), positions["DEC"].to_numpy(float)
    ax = _axes(ax, (6, 5.2))
    _scatter_classes(ax, ra, dec, labels)
    middle = np.radians((dec.min() + dec.max()) / 2)
    ax.set_aspect(1 / max(np.cos(middle), 0.05))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value % 360:g}"))
    ax.xaxis.set_inverted(True)
    return _describe(ax, "RA [deg]", "DEC [deg]", title)


def plot_colour_magnitude(first_mag, second_mag, labels, *, bands=("r", "z"), title=None, ax=None):
    """Colour against magnitude of stars and galaxies.

    Parameters
    ----------
    first_mag, second_mag : array_like (n,)
        Magnitudes [mag, AB] in the two `bands`, the bluer band first. The colour is first - second, so that
        redder objects lie to the right. The vertical axis is the first magnitude, with bright (small)
        magnitudes at the top as is usual.
    labels : array_like (n,)
        0 star, 1 galaxy, -1 unknown; booleans mean "is a galaxy".
    bands : tuple of two str
        Names of the bands.
    title, ax : optional
        As in `plot_sky_map`.

    Returns
    -------
    matplotlib.axes.Axes
    """
    first, second = np.asarray(first_mag, float), np.asarray(second_mag, float)
    ax = _axes(ax, (6, 4.5))
    _scatter_classes(ax, first - second, first, _class_labels(labels, len(first)))
    ax.yaxis.set_inverted(True)
    return _describe(
        ax, f"{bands[0]} - {bands[1]} [mag, AB]", f"{bands[0]} [mag, AB], bright at the top", title
    )


def plot_magnitude_counts(mag, labels, *, limit=None, band="r", bin_width=0.5, title=None, ax=None):
    """Histogram of the magnitudes of stars and of galaxies.

    Parameters
    ----------
    mag : array_like (n,)
        Magnitudes [mag, AB]; objects without a finite one are left out.
    labels : array_like (n,)
        0 star, 1 galaxy, -1 unknown; booleans mean "is a galaxy".
    limit : float, optional
        Limiting magnitude [mag, AB], drawn as a line.
    band : str
        Name of the band, for the axis label.
    bin_width : float
        Width of a bin [mag].
    title, ax : optional
        As in `plot_sky_map`.

    Returns
    -------
    matplotlib.axes.Axes
    """
    mag = np.asarray(mag, float)
    labels = _class_labels(labels, len(mag))
    edges = _aligned_edges(mag, bin_width)
    ax = _axes(ax, (6, 3.8))
    for label, name, color in _present_classes(labels):
        chosen = mag[(labels == label) & np.isfinite(mag)]
        ax.hist(
            chosen,
            edges,
            histtype="stepfilled",
            fc=color + "30",
            ec=color,
            lw=1.6,
            label=_counted(name, chosen),
        )
    if limit is not None:
        _label_limit(ax, limit)
    ax.legend(loc="upper left")
    return _describe(ax, f"{band} [mag, AB]", f"objects per {bin_width:g} mag", title)


def plot_cut_report(report, *, title=None, ax=None):
    """Bars of how many objects each cut leaves.

    Parameters
    ----------
    report : pandas.DataFrame, one row per cut, in the order they were made
        Columns cut (name), before, left and removed (numbers of objects).
    title, ax : optional
        As in `plot_sky_map`.

    Returns
    -------
    matplotlib.axes.Axes
        The bar at the top holds all objects, before any cut.
    """
    _require_columns(report, ["cut", "before", "left", "removed"], "report")
    names = ["all objects", *report["cut"].astype(str)]
    left = [*report["before"][:1], *report["left"]]
    texts = [f"{n:,}" for n in left[:1]]
    texts += [f"{n:,} (-{lost:,})" for n, lost in zip(report["left"], report["removed"], strict=True)]
    ax = _axes(ax, (7, 0.8 + 0.34 * len(names)))
    bars = ax.barh(range(len(names)), left, height=0.7, color=[UNKNOWN_COLOR] + [BAR_COLOR] * len(report))
    ax.bar_label(bars, texts, padding=4, fontsize=9)
    ax.set_yticks(range(len(names)), names)
    ax.yaxis.set_inverted(True)
    ax.margins(x=0.25)
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    ax.locator_params(axis="x", nbins=5)
    ax.spines[["top", "right"]].set_visible(False)
    return _describe(ax, "objects left (removed by the cut)", None, title)


def plot_finding_charts(catalogue, rows, width=40.0, *, box=20.0, titles=None):
    """Draw the catalogued objects around a few chosen ones, brighter ones larger: finding charts.

    Parameters
    ----------
    catalogue : pandas.DataFrame of n rows
        Columns RA and DEC [deg, ICRS], TYPE and FLUX_R [nanomaggies].
    rows : sequence of int
        Row numbers of the objects in the middle of the charts.
    width : float
        Width of a chart [arcsec].
    box : float
        Width of the cutout outlined in the middle [arcsec].
    titles : sequence of str, optional
        One a chart.

    Returns
    -------
    matplotlib.figure.Figure
    """
    _require_columns(catalogue, ["RA", "DEC", "TYPE", "FLUX_R"], "catalogue")
    fig, axes = plt.subplots(
        1, len(rows), figsize=(3.1 * len(rows), 3.5), layout="constrained", squeeze=False
    )
    for ax, row, title in zip(axes[0], rows, titles or [None] * len(rows), strict=True):
        centre = catalogue.iloc[row]
        east = (catalogue["RA"] - centre["RA"]) * np.cos(np.radians(centre["DEC"])) * 3600
        north = (catalogue["DEC"] - centre["DEC"]) * 3600
        near = (east.abs() < width / 2) & (north.abs() < width / 2) & (catalogue["FLUX_R"] > 0)
        size = 12 * catalogue.loc[near, "FLUX_R"].clip(0.5, 500) ** 0.5
        colors = [STAR_COLOR if kind == "PSF" else GALAXY_COLOR for kind in catalogue.loc[near, "TYPE"]]
        ax.scatter(east[near], north[near], size, colors, alpha=0.75, linewidths=0)
        ax.add_patch(plt.Rectangle((-box / 2, -box / 2), box, box, fill=False, linestyle="--"))
        ax.set(xlim=(width / 2, -width / 2), ylim=(-width / 2, width / 2), aspect="equal")
        _describe(ax, "east [arcsec]", "north [arcsec]", title)
    handles = [_dot("star", STAR_COLOR), _dot("galaxy", GALAXY_COLOR)]
    fig.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    return fig


def plot_motions(mag, significance, labels, *, threshold=5, band="r", title=None, ax=None):
    """Significance of the motions that Gaia measured, against magnitude.

    Parameters
    ----------
    mag : array_like (n,)
        Magnitude [mag, AB].
    significance : array_like (n,)
        Motion or parallax over its error; objects for which it is NaN are left out.
    labels : array_like (n,)
        0 star, 1 galaxy, -1 unknown.
    threshold : float
        Drawn as a line: above it an object moves.
    band : str
        Name of the band, for the axis label.
    title, ax : optional
        As in `plot_sky_map`.

    Returns
    -------
    matplotlib.axes.Axes
    """
    mag, significance = np.asarray(mag, float), np.asarray(significance, float)
    labels = np.where(np.isfinite(significance), _class_labels(labels, len(mag)), -2)
    ax = _axes(ax, (6.5, 4))
    for label, name, color in _present_classes(labels):
        x, y = mag[labels == label], np.clip(significance[labels == label], 0.1, None)
        size = _marker_size(len(x))  # fewer objects are larger, and on top
        ax.scatter(x, y, size, color, lw=0, zorder=2 + size / 100, label=_counted(name, x), rasterized=True)
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    ax.axhline(threshold, color="black", ls="--", lw=1.2, zorder=3)
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.text(
        0.01, threshold / 1.2, f"{threshold:g} times the error", transform=ax.get_yaxis_transform(), va="top"
    )
    return _describe(ax, f"{band} [mag, AB]", "motion or parallax over its error", title)


def plot_footprints(images, positions=None, *, title=None, ax=None):
    """Draw outlines of images on the sky, with the positions to be cut from them.

    Parameters
    ----------
    images : pandas.DataFrame of n rows
        ZTF metadata: the corners ra1..ra4 and dec1..dec4 [deg, ICRS].
    positions : pandas.DataFrame, optional
        Columns RA, DEC [deg, ICRS] and type.
    title : str, optional
        Title of the figure.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib.axes.Axes
    """
    corners = [[f"ra{i}", f"dec{i}"] for i in (1, 2, 3, 4)]
    _require_columns(images, sum(corners, []), "images")
    ax = _axes(ax, (6, 5.2))
    for image in images.to_dict("records"):
        outline = [[image[name] for name in corner] for corner in corners]
        ax.add_patch(plt.Polygon(outline, fill=False, edgecolor="black", linewidth=0.7, alpha=0.5))
    if positions is not None:
        plot_sky_map(positions, ax=ax)
    ax.autoscale_view()
    ax.xaxis.set_inverted(True)
    return _describe(ax, "RA [deg]", "DEC [deg]", title)


def sersic_profile(radius, half_light_radius, index):
    """Surface brightness of a Sersic profile of unit total flux.

    Parameters
    ----------
    radius : array_like
        Distance from the centre [arcsec].
    half_light_radius : float
        Radius that holds half of the flux [arcsec].
    index : float
        Sersic index n: 0.5 is a Gaussian, 1 an exponential disc, 4 a de Vaucouleurs profile.

    Returns
    -------
    ndarray, as radius
        Share of the total flux per square arcsecond [arcsec^-2].

    Notes
    -----
    I(R) = b^(2n) / (2 pi n R_e^2 Gamma(2n)) exp(-b (R / R_e)^(1/n)), where b makes R_e hold half of the
    light: the regularized incomplete gamma function P(2n, b) is 1/2 (Sersic 1963, BAAA 6, 41; Graham & Driver
    2005, PASA 22, 118).
    """
    b = gammaincinv(2 * index, 0.5)
    centre = b ** (2 * index) / (2 * np.pi * index * half_light_radius**2 * gamma(2 * index))
    return centre * np.exp(-b * (np.asarray(radius, float) / half_light_radius) ** (1 / index))


def plot_type_shapes(half_light_radius=1.0, magnitude=19.0, *, title=None, ax=None):
    """Radial profiles of the Tractor types, at the same magnitude and half-light radius.

    Parameters
    ----------
    half_light_radius : float
        Radius that holds half of the flux [arcsec].
    magnitude : float
        Total magnitude [mag, AB].
    title, ax : optional
        As in `plot_sky_map`.

    Returns
    -------
    matplotlib.axes.Axes

    Notes
    -----
    A point source is as wide as the image is sharp; it is drawn as a Gaussian of FWHM 2 `half_light_radius`,
    whose half-light radius is the given one. The galaxies are drawn as they would look without atmosphere.
    See `sersic_profile` for the formula.
    """
    radius = np.linspace(0.02, 4, 300) * half_light_radius
    ax = _axes(ax, (6, 4))
    shapes = (
        (0.5, "PSF: Gaussian (n = 0.5)"),
        (1, "REX, EXP (n = 1)"),
        (2.5, "SER, here n = 2.5"),
        (4, "DEV (n = 4)"),
    )
    colors = (STAR_COLOR, GALAXY_COLOR, *LINE_COLORS[:2])
    for (index, name), color, style in zip(shapes, colors, ("-", "--", "-.", ":"), strict=True):
        brightness = magnitude - 2.5 * np.log10(sersic_profile(radius, half_light_radius, index))
        ax.plot(radius, brightness, style, color=color, lw=2, label=name)
    at_half_light = magnitude - 2.5 * np.log10(sersic_profile(half_light_radius, half_light_radius, 1))
    ax.set_ylim(at_half_light + 6, at_half_light - 6)
    ax.axvline(half_light_radius, color=UNKNOWN_COLOR, lw=1, zorder=0)
    ax.annotate(
        " half-light radius", (half_light_radius, 0.03), xycoords=("data", "axes fraction"), color="#555555"
    )
    ax.legend()
    return _describe(ax, "radius [arcsec]", "surface brightness\n[mag arcsec$^{-2}$, AB]", title)


def plot_cutouts(
    images, titles=None, labels=None, *, ncols=8, stretch="asinh", percentiles=(1, 99.5), title=None
):
    """Gallery of cutouts, each on its own brightness scale.

    Parameters
    ----------
    images : sequence of n arrays (height, width)
        Cutouts [DN], drawn with the first row at the bottom. Pixels that are not finite are drawn pale red.
    titles : sequence of n str, optional
        Title of each cutout.
    labels : array_like (n,), optional
        0 star, 1 galaxy, -1 unknown: colours the frames.
    ncols : int
        Cutouts in a row.
    stretch : {"asinh", "linear", "log"}
        How brightness turns into grey, between the black and the white level.
    percentiles : tuple of two float
        Black and white level: percentiles of the finite pixels of each cutout [%].
    title : str, optional
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure
        With n axes.

    Raises
    ------
    ValueError
        If there are no images, the stretch is unknown, or titles or labels are not n.
    """
    images = [_stretched(np.asarray(image, float), stretch, percentiles) for image in images]
    titles = [""] * len(images) if titles is None else titles
    if len(titles) != len(images):
        raise ValueError(f"expected {len(images)} titles, one per cutout; got {len(titles)}")
    fig, axes = _panels(len(images), ncols, (1.15, 1.15 + 0.15 * any(titles)), extra_height=0.7)
    for ax, image, name in zip(axes, images, titles, strict=True):
        _show_image(ax, image, 0, 1)
        ax.set_title(name, fontsize=8, pad=3)
    present = [] if labels is None else _frame_classes(axes, _class_labels(labels, len(images)))
    low, high = percentiles
    fig.supxlabel(f"{stretch} stretch, each from its own {low:g} to {high:g} percentile", fontsize=9)
    _head(fig, title, present)
    return fig


def plot_normalization_gallery(images_by_name, row_labels=None, *, title=None):
    """Show the same few cutouts (rows) under several normalizations (columns).

    Parameters
    ----------
    images_by_name : dict of str to array (k, height, width)
        For each normalization the same k cutouts.
    row_labels : sequence of k str, optional
        Names of the cutouts.
    title : str, optional
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure
        With k rows and one column per normalization. All cutouts of a column share one linear scale, from the
        smallest to the largest finite pixel; the range is written below the column.
    """
    counts = {name: len(images) for name, images in images_by_name.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(f"expected the same cutouts under each normalization; got these numbers: {counts}")
    k = max(counts.values(), default=0)
    row_labels = [""] * k if row_labels is None else row_labels
    fig, axes = _panels(k * len(images_by_name), len(images_by_name), (1.3, 1.25), extra_height=1.1)
    columns = np.reshape(axes, (k, -1)).T
    for column, (name, images) in zip(columns, images_by_name.items(), strict=True):
        low, high = _finite_range(images)
        for ax, image in zip(column, images, strict=True):
            _show_image(ax, image, low, high)
        column[0].set_title(_wrapped(name), fontsize=9)
        column[-1].set_xlabel(f"{_short(low)} to {_short(high)}", fontsize=8)
    for ax, label in zip(columns[0], row_labels, strict=True):
        ax.set_ylabel(label, fontsize=9)
    fig.supxlabel("linear stretch; black to white as written below each column", fontsize=9)
    _head(fig, title)
    return fig


def plot_pixel_histograms(values_by_name, *, ncols=3, bins=50, title=None):
    """Histograms of the pixel values of stars and of galaxies, one panel per normalization.

    Parameters
    ----------
    values_by_name : dict of str to dict
        For each normalization ``{"star": pixels, "galaxy": pixels}``, arrays of any shape. Values that are
        not finite are left out.
    ncols : int
        Panels in a row.
    bins : int
        Bins in a panel.
    title : str, optional
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure
        The bins of each panel span the central 99 % of its pixels.
    """
    fig, axes = _panels(len(values_by_name), ncols, (2.7, 1.9), extra_height=0.6)
    for ax, (name, values) in zip(axes, values_by_name.items(), strict=True):
        _pixel_histogram(ax, name, values, bins)
    fig.supxlabel("pixel value after normalization (central 99 % of the pixels)", fontsize=10)
    fig.supylabel("fraction of the pixels per bin", fontsize=10)
    _head(fig, title, axes[0].get_legend_handles_labels()[0])
    return fig


def plot_accuracies(table, *, title=None, ax=None):
    """Accuracies with error bars, the best at the top.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns data (name), accuracy (mean) and accuracy_std (standard deviation; NaN for a single run).
    title, ax : optional
        As in `plot_sky_map`.

    Returns
    -------
    matplotlib.axes.Axes
    """
    _require_columns(table, ["data", "accuracy", "accuracy_std"], "table")
    table = table.sort_values("accuracy")
    ax = _axes(ax, (7, 1.0 + 0.3 * len(table)))
    spread = table["accuracy_std"].fillna(0)
    ax.errorbar(table["accuracy"], range(len(table)), xerr=spread, fmt="o", color=STAR_COLOR, capsize=3)
    ax.set_yticks(range(len(table)), table["data"].astype(str))
    for row, (mean, std) in enumerate(zip(table["accuracy"], table["accuracy_std"], strict=True)):
        text = f"{mean:.3f}" if np.isnan(std) else f"{mean:.3f} ± {std:.3f}"
        ax.text(1.02, row, text, transform=ax.get_yaxis_transform(), va="center", fontsize=9)
    ax.grid(axis="both", color="#dddddd")
    ax.set_axisbelow(True)
    ax.margins(y=0.5 / max(len(table), 1))
    return _describe(ax, "accuracy (fraction of objects classified correctly)", None, title)


def plot_confusion(matrix, *, class_names=("star", "galaxy"), title=None, ax=None):
    """Confusion matrix: counts, and the percentage of each true class.

    Parameters
    ----------
    matrix : array_like (2, 2)
        Numbers of objects; rows are true classes, columns predicted ones, as scikit-learn has it.
    class_names : tuple of two str
        Names of the classes.
    title, ax : optional
        As in `plot_sky_map`.

    Returns
    -------
    matplotlib.axes.Axes
    """
    matrix = np.asarray(matrix)
    if matrix.shape != (2, 2):
        raise ValueError(f"expected a confusion matrix of shape (2, 2); got {matrix.shape}")
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    ax = _axes(ax, (4, 3.6))
    ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(matrix):
        text = f"{count:,}\n{share[row, column]:.1%}"
        color = "white" if share[row, column] > 0.5 else "black"
        ax.text(column, row, text, ha="center", va="center", color=color, fontsize=12)
    ax.set_xticks((0, 1), class_names)
    ax.set_yticks((0, 1), class_names, rotation=90, va="center")
    ax.tick_params(length=0)
    return _describe(ax, "predicted class", "true class", title)


def plot_roc(labels, probability_galaxy_by_name, *, log_x=False, title=None, ax=None):
    """Receiver operating characteristic: galaxies found against stars mistaken for galaxies.

    Parameters
    ----------
    labels : array_like (n,)
        0 star, 1 galaxy; objects of unknown class (-1) are left out.
    probability_galaxy_by_name : dict of str to array_like (n,)
        For each classifier the probability (or any growing score) of being a galaxy.
    log_x : bool
        Logarithmic horizontal axis, from one mistaken star up:
        shows the corner where good classifiers differ.
    title, ax : optional
        As in `plot_sky_map`.

    Returns
    -------
    matplotlib.axes.Axes
        The legend gives the area under each curve (AUC).
    """
    labels = _class_labels(labels, len(labels))
    known = labels >= 0
    if set(labels[known]) != {0, 1}:
        raise ValueError("a ROC curve needs both stars (0) and galaxies (1) among the labels")
    floor = 1 / np.sum(labels == 0)
    ax = _axes(ax, (5.5, 4.2))
    for (name, score), line in zip(probability_galaxy_by_name.items(), _line_looks(), strict=False):
        mistaken, found, _ = roc_curve(labels[known], np.asarray(score)[known])
        ax.plot(
            np.maximum(mistaken, floor) if log_x else mistaken,
            found,
            label=f"{name} (AUC {auc(mistaken, found):.4f})",
            drawstyle="steps-post",
            **line,
        )
    if log_x:
        _plain_log_axis(ax, floor)
    ax.legend(loc="lower right", fontsize=9)
    return _describe(ax, "fraction of stars called galaxies", "fraction of galaxies found", title)


def plot_learning_curve(table, *, title=None, ax=None):
    """Accuracy against the number of training cutouts.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns n_train, accuracy (mean) and accuracy_std; one line for each value of
        the optional column data.
    title, ax : optional
        As in `plot_sky_map`.

    Returns
    -------
    matplotlib.axes.Axes
        With a logarithmic horizontal axis.
    """
    _require_columns(table, ["n_train", "accuracy", "accuracy_std"], "table")
    ax = _axes(ax, (6, 4))
    groups = table.groupby("data", sort=False) if "data" in table.columns else [(None, table)]
    for (name, group), line in zip(groups, _line_looks(), strict=False):
        group = group.sort_values("n_train")
        ax.errorbar(
            "n_train",
            "accuracy",
            group["accuracy_std"].fillna(0),
            data=group,
            marker="o",
            capsize=3,
            label=name,
            **line,
        )
    ax.set_xscale("log")
    sizes = _spaced_ticks(np.unique(table["n_train"]))
    ax.set_xticks(sizes, [f"{size:,.0f}" for size in sizes])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.grid(color="#dddddd")
    if "data" in table.columns:
        ax.legend(loc="lower right", fontsize=9)
    return _describe(ax, "training cutouts (logarithmic)", "accuracy (fraction correct)", title)


def plot_accuracy_by_magnitude(tables, limit=None, *, title=None, ax=None):
    """Accuracy against magnitude, one line a classifier, with 68 % intervals.

    Parameters
    ----------
    tables : dict of str to pandas.DataFrame
        By name, each with the columns magnitude, accuracy, low and high.
    limit : pandas.DataFrame, optional
        The same for the best possible classifier.
    title, ax : optional
        As in `plot_sky_map`.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = _axes(ax, (6.5, 4))
    for (name, table), line in zip(tables.items(), _line_looks(), strict=False):
        _require_columns(table, ["magnitude", "accuracy", "low", "high"], name)
        interval = np.maximum((table["accuracy"] - table["low"], table["high"] - table["accuracy"]), 0)
        ax.errorbar(
            table["magnitude"], table["accuracy"], interval, marker="o", capsize=3, label=name, **line
        )
    if limit is not None:
        ax.plot("magnitude", "accuracy", "k:", data=limit, lw=2, label="limit of the data")
        ax.fill_between("magnitude", "low", "high", data=limit, color="0.85", zorder=0)
    ax.grid(color="#dddddd")
    ax.legend(loc="lower left", fontsize=9)
    return _describe(ax, "magnitude [mag]", "accuracy (fraction correct)", title)


def plot_calibration(labels, probability, *, n_bins=10, title=None, ax=None):
    """Reliability diagram: of the objects given a probability of 80 %, 80 % should be galaxies.

    Parameters
    ----------
    labels : array_like (n,)
        0 star, 1 galaxy; objects of unknown class (-1) are left out.
    probability : array_like (n,)
        Predicted probability of being a galaxy, 0 to 1.
    n_bins : int
        Equal bins of probability; empty ones are not drawn.
    title, ax : optional
        As in `plot_sky_map`.

    Returns
    -------
    matplotlib.axes.Axes
        Each point carries the number of objects in its bin.

    Notes
    -----
    Error bars are 68 % Wilson intervals of a binomial fraction (Wilson 1927, JASA 22, 209), which keep their
    width where all objects of a bin are of one class.
    """
    labels = _class_labels(labels, len(labels))
    known = labels >= 0
    count, predicted, galaxies = _binned(labels[known], np.asarray(probability, float)[known], n_bins)
    observed = galaxies / count
    low, high = binom_conf_interval(galaxies, count, interval="wilson")
    errors = np.clip([observed - low, high - observed], 0, None)
    ax = _axes(ax, (5, 4.6))
    ax.plot((0, 1), (0, 1), "--", color=UNKNOWN_COLOR, label="perfect calibration")
    ax.errorbar(predicted, observed, errors, fmt="o", color=STAR_COLOR, capsize=3, label="objects in a bin")
    for x, y, n in zip(predicted, observed, count, strict=True):
        _annotate_beside_diagonal(ax, x, y, f"{n:,}")
    ax.set(xlim=(-0.12, 1.12), ylim=(-0.08, 1.08))
    ax.legend(loc="upper left")
    return _describe(ax, "predicted probability of being a galaxy", "fraction that are galaxies", title)


def plot_muygps_sketch(
    X, y, point, neighbours, *, feature_names=("first feature", "second feature"), title=None, ax=None
):
    """How MuyGPs predicts: one test point, its nearest training points, and all others ignored.

    Parameters
    ----------
    X : array_like (n, 2)
        Two features of the training points, in units in which distances make sense: the axes are drawn equal.
    y : array_like (n,)
        0 star (circles), 1 galaxy (squares).
    point : array_like (2,)
        The test point.
    neighbours : array_like (nn_count,) of int
        Rows of `X` that are the nearest neighbours of the test point.
    feature_names : tuple of two str
        Axis labels, with units.
    title, ax : optional
        As in `plot_sky_map`.

    Returns
    -------
    matplotlib.axes.Axes
    """
    X, y, point = np.asarray(X, float), _class_labels(y, len(X)), np.asarray(point, float)
    near = np.zeros(len(X), bool)
    near[np.asarray(neighbours)] = True
    ax = _axes(ax, (6, 4.8))
    for x in X[near]:
        ax.plot(*np.transpose([point, x]), color="#555555", lw=0.7, zorder=1)
    for (label, name, color), marker in zip(CLASSES[:2], "os", strict=True):
        far, close = X[~near & (y == label)].T, X[near & (y == label)].T
        ax.scatter(
            *far, s=14, marker=marker, color="#cccccc", label=f"{name}, not used", zorder=0, rasterized=True
        )
        ax.scatter(
            *close, s=36, marker=marker, color=color, edgecolor="white", lw=0.6, label=f"{name}, neighbour"
        )
    ax.scatter(*point, s=170, marker="*", color="black", edgecolor="white", label="test point", zorder=3)
    ax.set_aspect("equal", adjustable="datalim")
    ax.legend(fontsize=9, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return _describe(ax, *feature_names, title)


def plot_posterior_1d(
    x_grid, mean, variance, x_train, y_train, neighbours=None, *, xlabel="feature", title=None, ax=None
):
    """Posterior of a Gaussian process in one feature: its mean and its uncertainty.

    Parameters
    ----------
    x_grid, mean, variance : array_like (m,)
        Test points, and the posterior mean and variance there.
    x_train, y_train : array_like (n,)
        Training points and their targets: -1 star, +1 galaxy.
    neighbours : array_like of int, optional
        Training points to be ringed.
    xlabel : str
        Name and unit of the feature.
    title, ax : optional
        As in `plot_sky_map`.

    Returns
    -------
    matplotlib.axes.Axes
        The band is the mean plus and minus two standard deviations.
    """
    mean, sigma = np.asarray(mean, float), np.sqrt(np.clip(variance, 0, None))
    x_train, y_train = np.asarray(x_train, float), np.asarray(y_train, float)
    ax = _axes(ax, (6.5, 4))
    ax.fill_between(
        x_grid,
        mean - 2 * sigma,
        mean + 2 * sigma,
        color=LINE_COLORS[0],
        alpha=0.2,
        lw=0,
        label="mean ± 2 sigma",
    )
    ax.plot(x_grid, mean, color=LINE_COLORS[0], lw=2, label="posterior mean")
    for target, (_, name, color) in zip((-1, 1), CLASSES[:2], strict=True):
        chosen = y_train == target
        ax.scatter(x_train[chosen], y_train[chosen], s=22, color=color, label=f"training {name}", zorder=3)
    if neighbours is not None:
        rows = np.asarray(neighbours)
        ax.scatter(x_train[rows], y_train[rows], s=90, fc="none", ec="black", label="neighbour", zorder=4)
    ax.axhline(0, color=UNKNOWN_COLOR, lw=1, ls="--", zorder=0)
    ax.set_yticks((-1, 0, 1), ("star -1", "0", "galaxy +1"))
    ax.legend(fontsize=9, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return _describe(ax, xlabel, "class as a number", title)


def plot_uncertainty(mean, std, correct, *, title=None, ax=None):
    """Posterior mean against posterior standard deviation, right and wrong predictions apart.

    Parameters
    ----------
    mean, std : array_like (n,)
        Posterior mean (-1 star, +1 galaxy) and posterior standard deviation of each test object.
    correct : array_like (n,) of bool
        Whether the predicted class is the true one.
    title, ax : optional
        As in `plot_sky_map`.

    Returns
    -------
    matplotlib.axes.Axes
    """
    mean, std, correct = np.asarray(mean), np.asarray(std), np.asarray(correct, bool)
    ax = _axes(ax, (6, 4))
    looks = ((correct, "right", RIGHT_COLOR, "o"), (~correct, "wrong", WRONG_COLOR, "x"))
    for chosen, name, color, marker in looks:
        size = _marker_size(len(mean)) * (1 if name == "right" else 3)
        label = _counted(name, mean[chosen])
        ax.scatter(mean[chosen], std[chosen], size, color, marker=marker, lw=1, label=label, rasterized=True)
    ax.axvline(0, color=UNKNOWN_COLOR, lw=1, ls="--", zorder=0)
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return _describe(ax, "posterior mean (star -1, galaxy +1)", "posterior standard deviation", title)


def _axes(ax, figsize):
    return plt.subplots(figsize=figsize, layout="constrained")[1] if ax is None else ax


def _describe(ax, xlabel, ylabel, title):
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    if title is not None:
        ax.set_title(title, fontsize=11)
    return ax


def _require_columns(table, columns, name):
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise ValueError(f"{name} lacks the columns {missing}; it has {list(table.columns)}")
    if table.empty:
        raise ValueError(f"{name} has no rows to draw")


def _class_labels(labels, n):
    labels = np.asarray(labels)
    if labels.shape != (n,):
        raise ValueError(f"expected {n} labels, one per object; got an array of shape {labels.shape}")
    if not np.isin(labels, (-1, 0, 1)).all():
        raise ValueError(f"labels are 0 (star), 1 (galaxy) or -1 (unknown); got {np.unique(labels)[:5]}")
    return labels.astype(int)


def _type_labels(types):
    return labels_of_types(types.astype(str).str.strip().str.upper()).astype(int)


def _unwrapped(ra):
    """RA in one piece [deg]: a field across RA = 0 gets negative values to the west of it."""
    return (ra + 180) % 360 - 180 if np.ptp(ra) > 180 else ra


def _present_classes(labels):
    return [(label, name, color) for label, name, color in CLASSES if np.any(labels == label)]


def _counted(name, chosen):
    return f"{name} ({len(chosen):,})"


def _marker_size(n):
    return np.clip(12_000 / max(n, 1), 1, 20)


def _scatter_classes(ax, x, y, labels):
    """Draw the points in random order, so that no class covers the other."""
    order = np.random.default_rng(0).permutation(len(x))
    colors = np.array([STAR_COLOR, GALAXY_COLOR, UNKNOWN_COLOR])[labels[order]]
    ax.scatter(
        x[order], y[order], s=_marker_size(len(x)), c=colors, lw=0, antialiased=len(x) < 1000, rasterized=True
    )
    handles = [
        _dot(_counted(name, x[labels == label]), color) for label, name, color in _present_classes(labels)
    ]
    ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)


def _dot(name, color):
    return Line2D([], [], color=color, marker="o", ls="", label=name)


def _aligned_edges(mag, bin_width):
    """Edges at whole multiples of the bin width, so that a limit at such a value falls on an edge."""
    finite = _finite(mag)
    if not len(finite):
        raise ValueError("no finite magnitude to draw")
    first, last = np.floor(finite.min() / bin_width), np.floor(finite.max() / bin_width) + 1
    return np.arange(first, last + 1) * bin_width


def _label_limit(ax, limit):
    """Draw a line at the limit, with its label left of it in free space above the histogram."""
    ax.axvline(limit, color="black", ls="--", lw=1.2)
    ax.set_ylim(0, 1.12 * ax.get_ylim()[1])
    ax.text(limit, 0.97, f"limit {limit:g} mag ", transform=ax.get_xaxis_transform(), ha="right", va="top")


def _panels(n, ncols, panel_size, extra_height):
    """Figure with n axes in rows of at most ncols; panel_size and extra_height [inch]."""
    if n == 0:
        raise ValueError("nothing to draw: expected at least one image or normalization")
    ncols = min(n, ncols)
    nrows = -(-n // ncols)
    size = (max(ncols * panel_size[0], 4), nrows * panel_size[1] + extra_height)
    fig, axes = plt.subplots(nrows, ncols, figsize=size, squeeze=False, layout="constrained")
    for spare in axes.flat[n:]:
        spare.remove()
    return fig, axes.flat[:n]


def _finite(values):
    """Finite values, as a 1-D array."""
    values = np.ravel(values).astype(float)
    return values[np.isfinite(values)]


def _finite_range(values):
    """Smallest and largest finite value; (0, 1) if there is none."""
    finite = _finite(values)
    return (finite.min(), finite.max()) if finite.size else (0.0, 1.0)


def _stretched(image, stretch, percentiles):
    """Image (height, width) between its percentiles, stretched to 0..1; not-finite pixels become NaN."""
    if stretch not in STRETCHES:
        raise ValueError(f"unknown stretch {stretch!r}; choose one of {sorted(STRETCHES)}")
    if image.ndim != 2:
        raise ValueError(f"expected cutouts of shape (height, width); got one of shape {image.shape}")
    image = np.where(np.isfinite(image), image, np.nan)
    if np.isnan(image).all():
        return image
    low, high = np.nanpercentile(image, percentiles)
    scaled = np.clip((image - low) / ((high - low) or 1.0), 0, 1)
    return STRETCHES[stretch](scaled, clip=False)


def _show_image(ax, image, low, high):
    cmap = plt.get_cmap("gray").with_extremes(bad="#f4c7b5")
    ax.imshow(
        np.ma.masked_invalid(image), cmap=cmap, origin="lower", vmin=low, vmax=high, interpolation="nearest"
    )
    ax.set(xticks=[], yticks=[])


def _frame_classes(axes, labels):
    """Colour the frames by class; returns the entries of the legend."""
    looks = {label: color for label, _, color in CLASSES}
    for ax, label in zip(axes, labels, strict=True):
        ax.spines[:].set(color=looks[label], linewidth=2.5)
    return [_dot(name, color) for _, name, color in _present_classes(labels)]


def _head(fig, title, handles=()):
    """Title of the figure, above a legend if there are handles: one box, so that the two never overlap."""
    if handles:
        look = {"frameon": False, "fontsize": 9, "title_fontsize": 11, "borderaxespad": 0.2}
        fig.legend(handles=handles, title=title, loc="outside upper center", ncols=3, **look)
    else:
        fig.suptitle(title, fontsize=11)


def _wrapped(name, width=13):
    """Name broken at underscores into lines of at most `width` characters, where it can be."""
    lines = [""]
    for word in name.replace("_", "_\0").split("\0"):
        if lines[-1] and len(lines[-1] + word) > width:
            lines.append("")
        lines[-1] += word
    return "\n".join(lines)


def _short(value):
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2g}"


def _pixel_histogram(ax, name, values, bins):
    missing = {"star", "galaxy"} - set(values)
    if missing:
        raise ValueError(f"pixel values of {name!r} lack the classes {sorted(missing)}")
    pixels = {kind: _finite(values[kind]) for kind in ("star", "galaxy")}
    together = np.concatenate([*pixels.values()])
    span = np.percentile(together, (0.5, 99.5)) if together.size else (0, 1)
    edges = np.histogram_bin_edges(together, bins, range=tuple(span))
    for (_, kind, color), style in zip(CLASSES[:2], ("-", "--"), strict=True):
        fraction = np.histogram(pixels[kind], edges)[0] / max(pixels[kind].size, 1)
        ax.stairs(fraction, edges, color=color, ls=style, lw=1.4, label=kind)
    ax.set_yscale("log")
    ax.set_title(name, fontsize=9)
    ax.tick_params(labelsize=8)
    ax.locator_params(axis="x", nbins=4)


def _annotate_beside_diagonal(ax, x, y, text):
    """Write beside the point, on the side away from the diagonal y = x."""
    above = y > x
    ax.annotate(
        text,
        (x, y),
        (-6, 3) if above else (6, -3),
        textcoords="offset points",
        ha="right" if above else "left",
        va="bottom" if above else "top",
        fontsize=8,
    )


def _line_looks():
    """Yield the looks of one line after another, never in the colours of stars and galaxies."""
    return cycle({"color": color, "ls": style, "lw": 1.8} for style in LINE_STYLES for color in LINE_COLORS)


def _plain_log_axis(ax, floor):
    ax.set_xscale("log")
    ax.set_xlim(floor, 1)
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.xaxis.set_minor_formatter(StrMethodFormatter(""))


def _spaced_ticks(values, least=0.09):
    """Those of the rising positive values that stay `least` of a logarithmic axis apart; the last is kept."""
    gap = least * np.log(values[-1] / values[0])
    kept = [values[-1]]
    for value in values[-2::-1]:
        if np.log(kept[-1] / value) >= gap:
            kept.append(value)
    return kept[::-1]


def _binned(labels, probability, n_bins):
    """Objects, mean probability and galaxies in each bin of probability that is not empty."""
    if not np.all((probability >= 0) & (probability <= 1)):
        raise ValueError("probabilities lie between 0 and 1; some do not")
    bins = np.clip((probability * n_bins).astype(int), 0, n_bins - 1)
    count = np.bincount(bins, minlength=n_bins)
    filled = count > 0
    total = np.bincount(bins, probability, n_bins)[filled]
    galaxies = np.bincount(bins[labels == 1], minlength=n_bins)[filled]
    return count[filled], total / count[filled], galaxies
