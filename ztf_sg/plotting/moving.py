"""Figures of notebook 5: stamps of moving objects, how fast they move, lines, flashes, and ROC curves.

Labels are 0 other, 1 asteroid, 2 satellite, -1 unknown.
"""

import matplotlib.pyplot as plt
import numpy as np
from astropy.nddata import block_reduce
from matplotlib.lines import Line2D
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from ztf_sg.plotting import style
from ztf_sg.plotting.cutouts import BLACK, WHITE, show_image, stretched
from ztf_sg.streaks.stamps import CLASS_NAMES, IMAGES, UNKNOWN

CLASS_COLORS = {0: style.PALE_BLUE, 1: "#009E73", 2: "#CC79A7", UNKNOWN: style.UNKNOWN_COLOR}
MOST_STAMPS = 9  # side by side
GREYS = 6  # levels of stamps; noise in finer ones would only make the files of notebooks large
PANEL = (0.92, 0.92)  # [inch]
SHOWN_WIDTH = 260  # of a whole image, about [px]
MARK_COLOR, BESIDE = (
    "#E69F00",
    0.015,
)  # of what is found; distance of its lines from a trail [width of the image]
MARK_BOX = {"boxstyle": "circle,pad=0.2", "facecolor": MARK_COLOR, "edgecolor": "none"}
LOWEST_RATE = 1e-3  # of false positives, at the left edge of ROC curves
SECONDS_PER_DAY, ARCSEC_PER_DEG = 86_400, 3_600


def plot_triplets(triplets, titles=None, *, title=None):
    """Stamps side by side: science images above, templates below them, differences at the bottom.

    Parameters
    ----------
    triplets : Triplets
        1 to 9 stamps; the label of each colours its frames. Every image has a brightness scale of its own.
    titles : sequence of n str, optional
        What is written above each stamp.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If there are no stamps or more than 9, or titles are not n.
    """
    n = len(triplets)
    titles = [""] * n if titles is None else titles
    if not 1 <= n <= MOST_STAMPS:
        raise ValueError(f"expected 1 to {MOST_STAMPS} stamps, got {n}; draw some of them, triplets[:9]")
    if len(titles) != n:
        raise ValueError(f"expected {n} titles, one per stamp; got {len(titles)}")
    fig, axes = style.new_panels(3 * n, n, PANEL, extra_height=0.9)
    for row, name in zip(axes.reshape(3, n), IMAGES, strict=True):
        for ax, image, label in zip(row, getattr(triplets, name), triplets.labels, strict=True):
            show_image(ax, _in_greys(image), 0, GREYS - 1)
            ax.spines[:].set(color=CLASS_COLORS[int(label)], linewidth=2)
        row[0].set_ylabel(name, fontsize=9)
    for ax, text in zip(axes[:n], titles, strict=True):
        ax.set_title(text, fontsize=8, pad=3, parse_math=False)
    fig.supxlabel(f"asinh stretch, each from its own {BLACK:g} to {WHITE:g} percentile", fontsize=9)
    dots = [_dot(label) for label in (0, 1, 2, UNKNOWN) if label in triplets.labels]
    style.title_above(fig, title, dots)
    return fig


def plot_rates(lengths, marks, *, exptime, pixel_scale, title=None):
    """Bars of the lengths of trails, from the slowest to the fastest of each kind, beside sizes to compare.

    Parameters
    ----------
    lengths : pandas.DataFrame
        Columns slowest and fastest, the length of a trail [px]; the index holds the kinds.
    marks : dict of str to float
        Sizes that are drawn as vertical lines, by name [px].
    exptime, pixel_scale : float
        [s] and ["/px]; they give the axis of rates [deg/day] above.
    """
    style.check_columns(lengths, ["slowest", "fastest"], "lengths")
    ax = style.new_axes((7.5, 1.6 + 0.34 * len(lengths)))
    rows = np.arange(len(lengths))[::-1]
    ax.hlines(rows, lengths["slowest"], lengths["fastest"], color=style.STAR_COLOR, lw=7)
    ax.set_yticks(rows, lengths.index)
    ax.set_xscale("log")
    for line, (name, size) in zip(("--", ":", "-."), marks.items(), strict=False):
        ax.axvline(size, color="black", ls=line, lw=1, zorder=0, label=f"{name}: {size:,g} px")
    scale = SECONDS_PER_DAY / exptime * pixel_scale / ARCSEC_PER_DEG
    above = ax.secondary_xaxis("top", functions=(lambda x: x * scale, lambda x: x / scale))
    above.set_xlabel("rate [deg/day]")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=3, frameon=False, fontsize=9)
    ax.margins(y=0.5 / len(lengths))
    return style.describe(ax, f"length of the trail in {exptime:g} s [px]", None, title)


def plot_roc_and_recall(is_wanted, scores, *, wanted, title=None):
    """ROC and precision-recall curves of several scores, and the areas under them in the legends.

    Parameters
    ----------
    is_wanted : array_like (n,) of bool
        Whether each stamp is of the class that is looked for.
    scores : dict of str to array_like (n,)
        By name: the larger, the likelier.
    wanted : str
        Name of that class, in the plural.

    Returns
    -------
    matplotlib.figure.Figure
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(6.4, 3.6), layout="constrained")
    for ax in (left, right):
        ax.set_prop_cycle(style.LINES)
        ax.grid(color=style.GRID_COLOR)
    for name, score in scores.items():
        false_rate, found, _ = roc_curve(is_wanted, score)
        precision, recall, _ = precision_recall_curve(is_wanted, score)
        areas = roc_auc_score(is_wanted, score), average_precision_score(is_wanted, score)
        label = "{}: AUC {:.3f}, average precision {:.3f}".format(name, *areas)
        left.plot(false_rate, found, drawstyle="steps-post", label=label)
        right.plot(recall, precision, drawstyle="steps-post")
    left.set(xscale="log", xlim=(LOWEST_RATE, 1))
    style.describe(left, "share of the others (false positives)", f"share of the {wanted} found", "ROC")
    style.describe(right, f"share of the {wanted} found", "precision", "precision and recall")
    fig.legend(loc="outside lower center", ncols=1, frameon=False, fontsize=9)
    style.title_above(fig, title)
    return fig


def plot_line_search(image, snr, angles, offsets, *, title=None):
    """Show an image with its best line, beside the signal-to-noise ratios of all lines through it.

    Parameters
    ----------
    image : array_like (side, side)
        Pixels [DN].
    snr : array_like (n_angles, n_offsets)
        Of the line at each angle and offset.
    angles, offsets : array_like
        [deg] counter-clockwise from +x; distance of the line from the middle [px], positive towards the
        direction 90 deg further counter-clockwise.

    Returns
    -------
    matplotlib.figure.Figure
    """
    snr, offsets = np.asarray(snr), np.asarray(offsets)
    best = np.unravel_index(np.argmax(snr), snr.shape)
    angle, offset, middle = np.deg2rad(angles[best[0]]), offsets[best[1]], (len(image) - 1) / 2
    fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.1), layout="constrained")
    show_image(left, _in_greys(image), 0, GREYS - 1)
    limits = left.get_xlim(), left.get_ylim()
    point = middle - offset * np.sin(angle), middle + offset * np.cos(angle)
    left.axline(
        point, (point[0] + np.cos(angle), point[1] + np.sin(angle)), color=MARK_COLOR, ls=(0, (6, 10))
    )
    left.set(xlim=limits[0], ylim=limits[1])
    style.describe(left, "x (asinh stretch)", "y", "the difference image and its best line")
    half = np.diff(offsets).mean() / 2, np.diff(angles).mean() / 2
    edges = offsets[0] - half[0], offsets[-1] + half[0], angles[0] - half[1], angles[-1] + half[1]
    shown = right.imshow(snr, origin="lower", extent=edges, aspect="auto", cmap="viridis")
    right.plot(offset, angles[best[0]], "o", ms=14, mfc="none", mec=MARK_COLOR, mew=2)
    fig.colorbar(shown, ax=right, label="S/N of the line")
    used = offsets[np.any(snr, axis=0)]
    right.set_xlim(used[0] - half[0], used[-1] + half[0])
    style.describe(right, "offset from the middle [px]", "angle [deg]", "all lines: the Radon transform")
    style.title_above(fig, title)
    return fig


def plot_flashes(linked, *, title=None):
    """Map of the detections of an exposure, with the satellites whose flashes were linked.

    Parameters
    ----------
    linked : pandas.DataFrame
        From :func:`ztf_sg.link_flashes`: ra, dec [deg], satellite, -1 without one, spacing [arcsec].
    """
    style.check_columns(linked, ["ra", "dec", "satellite", "spacing"], "linked")
    ax = style.new_axes((5.6, 5.2))
    lone = linked[linked["satellite"] < 0]
    ax.plot(lone["ra"], lone["dec"], ".", color="#bbbbbb", ms=5, label=style.counted("not linked", len(lone)))
    for number, flashes in linked[linked["satellite"] >= 0].groupby("satellite"):
        name = f'satellite {number}: {len(flashes)} flashes, {flashes["spacing"].iloc[0]:.1f}" apart'
        look = {"marker": "osD^v"[number % 5], "color": style.LINE_COLORS[number % 5], "ls": "-", "lw": 0.8}
        ax.plot(flashes["ra"], flashes["dec"], ms=5, mfc="none", label=name, **look)
    ax.set_aspect(1 / max(np.cos(np.radians(linked["dec"].mean())), 0.05))
    ax.xaxis.set_inverted(True)
    ax.ticklabel_format(useOffset=False)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), frameon=False, fontsize=9)
    return style.describe(ax, "RA [deg] (east is left)", "DEC [deg]", title)


def plot_trails(image, trails, *, title=None):
    """Show an image with the trails found in it between their ends, numbered from 0.

    Parameters
    ----------
    image : array_like (height, width)
        Pixels [DN].
    trails : pandas.DataFrame
        Columns x1, y1, x2, y2: ends [px]; the table of :func:`ztf_sg.streaks.find_trails`.
    """
    height, width = np.shape(image)
    ax = style.new_axes((4.6, 4.6))
    block = max(1, round(width / SHOWN_WIDTH))
    show_image(ax, _in_greys(block_reduce(np.asarray(image, float), block, np.mean)), 0, GREYS - 1)
    edge = block * (width // block) - 0.5, block * (height // block) - 0.5
    ax.images[0].set_extent((-0.5, edge[0], -0.5, edge[1]))
    for number, trail in enumerate(trails.itertuples()):
        x, y = np.array([trail.x1, trail.x2]), np.array([trail.y1, trail.y2])
        side = np.array([y[0] - y[1], x[1] - x[0]]) / np.hypot(np.diff(x), np.diff(y)) * BESIDE * width
        for sign in (1, -1):
            ax.plot(x + sign * side[0], y + sign * side[1], color=MARK_COLOR, lw=1, ls="-")
        look = {"color": "black", "fontsize": 11, "ha": "center", "va": "center"}
        ax.text(x.mean() + 3 * side[0], y.mean() + 3 * side[1], number, bbox=MARK_BOX, **look)
    ax.set(xlim=(-0.5, edge[0]), ylim=(-0.5, edge[1]))
    ax.set(xticks=np.arange(0, width, 100), yticks=np.arange(0, height, 100))
    what = f"x [px] (asinh stretch, means of {block} x {block} px)"
    return style.describe(ax, what, "y [px]", title)


def _in_greys(image):
    """Return an image, stretched, in whole grey levels."""
    return np.round(stretched(np.asarray(image, float)) * (GREYS - 1))


def _dot(label):
    """Return the entry of a legend for a class."""
    name = CLASS_NAMES[label] if label >= 0 else "unknown"
    return Line2D([], [], color=CLASS_COLORS[label], marker="s", ls="", label=name)
