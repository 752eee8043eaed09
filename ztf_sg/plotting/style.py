"""What the figures share: colours, labels of classes, axes, legends.

Colours are those of Okabe and Ito, which stay apart under the common kinds of colour blindness
(https://jfly.uni-koeln.de/color/).
"""

import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib import colormaps
from matplotlib.lines import Line2D
from matplotlib.path import Path

from ztf_sg.cutouts import CLASS_NAMES, UNKNOWN

STAR_COLOR = "#0072B2"
GALAXY_COLOR = "#D55E00"
UNKNOWN_COLOR = "#999999"
PALE_BLUE = "#56B4E9"
GRID_COLOR = "#dddddd"
GRAYS = colormaps["gray"].with_extremes(bad="#f4c7b5")  # pale red where there is no data
LINE_COLORS = ("#009E73", "#CC79A7", "#000000", "#E69F00", PALE_BLUE)  # never those of stars and galaxies
LINES = cycler(color=LINE_COLORS, linestyle=("-", "--", ":", "-.", (0, (5, 1))))
COLORS = {0: STAR_COLOR, 1: GALAXY_COLOR, UNKNOWN: UNKNOWN_COLOR}
DASHES = {0: "-", 1: "--", UNKNOWN: ":"}  # the colours of stars and galaxies are the same grey in print
NAMES = {0: CLASS_NAMES[0], 1: CLASS_NAMES[1], UNKNOWN: "unknown"}
# A marker that points at an object from the right and from above, and leaves the object free.
RETICLE = Path([(0.5, 0), (1, 0), (0, 0.5), (0, 1)], [Path.MOVETO, Path.LINETO] * 2)


def new_axes(figsize):
    """Return the Axes of a new figure of a size [inch], in which lines differ in colour and in style."""
    _, ax = plt.subplots(figsize=figsize, layout="constrained")
    ax.set_prop_cycle(LINES)
    return ax


def new_panels(n, ncols, panel_size, extra_height):
    """Return a figure and n Axes in rows of at most ncols; panel_size and extra_height [inch]."""
    if n == 0:
        raise ValueError("nothing to draw: expected at least one image or normalization")
    ncols = min(n, ncols)
    nrows = -(-n // ncols)
    size = (max(ncols * panel_size[0], 4), nrows * panel_size[1] + extra_height)
    fig, axes = plt.subplots(nrows, ncols, figsize=size, squeeze=False, layout="constrained")
    for spare in axes.flat[n:]:
        spare.remove()
    return fig, axes.flat[:n]


def describe(ax, xlabel, ylabel, title):
    """Label the axes, write the title if there is one, and return the Axes."""
    ax.set(xlabel=xlabel, ylabel=ylabel)
    if title is not None:
        ax.set_title(title, fontsize=11)
    return ax


def legend_beside(ax, **options):
    """Put the legend to the right of the Axes, where it hides nothing."""
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, **options)


def title_above(fig, title, handles=()):
    """Write the title of a figure, if any, above a legend if there are handles: the two never overlap."""
    if handles:
        look = {"frameon": False, "fontsize": 9, "title_fontsize": 11, "borderaxespad": 0.2}
        fig.legend(handles=handles, title=title, loc="outside upper center", ncols=3, **look)
    elif title is not None:
        fig.suptitle(title, fontsize=11)


def counted(name, n):
    """Return the entry of a legend that stands for n objects."""
    return f"{name} ({n:,})"


def class_counts(labels):
    """Return the number of objects of each class that occurs, by label: stars, galaxies, unknown."""
    return {label: n for label in NAMES if (n := np.count_nonzero(labels == label))}


def class_dots(counts, with_counts=True):
    """Return dots for a legend, from :func:`class_counts`."""
    names = {label: counted(NAMES[label], n) if with_counts else NAMES[label] for label, n in counts.items()}
    return [Line2D([], [], color=COLORS[i], marker="o", ls="", label=name) for i, name in names.items()]


def class_lines(labels):
    """Return lines for a legend of the classes that occur, in colours and dashes."""
    shown = class_counts(labels)
    return [Line2D([], [], color=COLORS[i], ls=DASHES[i], lw=2, label=NAMES[i]) for i in shown]


def marker_size(n):
    """Return the size of n markers [pt^2]: the more there are, the smaller."""
    return np.clip(12_000 / max(n, 1), 1, 20)


def check_columns(table, columns, name):
    """Raise a ValueError if a table lacks columns or rows."""
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise ValueError(f"{name} lacks the columns {missing}; it has {list(table.columns)}")
    if table.empty:
        raise ValueError(f"{name} has no rows to draw")


def check_labels(labels, n):
    """Return n labels as integers; raise a ValueError if they are not n, or not 0, 1 or -1."""
    labels = np.asarray(labels)
    if labels.shape != (n,):
        raise ValueError(f"expected {n} labels, one per object; got an array of shape {labels.shape}")
    if not np.isin(labels, list(NAMES)).all():
        raise ValueError(f"labels are 0 (star), 1 (galaxy) or -1 (unknown); got {np.unique(labels)[:5]}")
    return labels.astype(int)
