"""Figures of notebooks 1 and 2: positions, magnitudes, shapes, motions, and images on the sky."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.ticker import FuncFormatter, StrMethodFormatter
from scipy.special import gamma, gammaincinv

from ztf_sg.plotting import style
from ztf_sg.positions import MOTION_THRESHOLD, labels_of_types
from ztf_sg.ztf import CUTOUT_SIZE

BIN_WIDTH = 0.5  # of the histograms [mag]
CHART_WIDTH, NEIGHBOUR_CHART_WIDTH = 40.0, 31.0  # of finding charts, and that of neighbours [arcsec]
DENSITY_BIN = 0.1  # of maps of density [deg]
COLOUR_BIN = 0.04  # of colour-colour diagrams [mag]
# from few objects to many, of each class
DENSITY_COLORS = {0: ["#c6dff0", style.STAR_COLOR, "#00202f"], 1: ["#fad9bf", style.GALAXY_COLOR, "#401c00"]}
HALF_LIGHT_RADIUS, TYPE_MAGNITUDE = 1.0, 19.0  # of the profiles of the Tractor types [arcsec], [mag, AB]


def plot_sky_map(positions, labels, *, title=None):
    """Map of stars and galaxies, as seen on the sky: right ascension grows to the left.

    A degree is equally long both ways in the middle of the map. A map across RA 0 is drawn in one piece.

    Parameters
    ----------
    positions : pandas.DataFrame of n rows
        Columns RA and DEC [deg, ICRS].
    labels : array_like (n,)
        0 star, 1 galaxy, -1 unknown.
    """
    style.check_columns(positions, ["RA", "DEC"], "positions")
    return _map(_without_jump(positions["RA"].to_numpy(float)), positions["DEC"], labels, title)


def plot_sky_density(positions, labels, *, region=None, title=None):
    """Map how many stars and how many galaxies there are per square degree, east to the left.

    Parameters
    ----------
    positions : pandas.DataFrame of n rows
        Columns RA and DEC [deg, ICRS].
    labels : array_like (n,)
        0 star, 1 galaxy, -1 unknown, which is not drawn.
    region : tuple of (tuple of float, tuple of float), optional
        Ranges of RA and of DEC [deg], drawn as a dashed box.
    """
    style.check_columns(positions, ["RA", "DEC"], "positions")
    labels = style.check_labels(labels, len(positions))
    ra, dec = _without_jump(positions["RA"].to_numpy(float)), positions["DEC"].to_numpy(float)
    shrink = _shrinking(dec)
    edges = [_even_edges(ra, DENSITY_BIN / shrink), _even_edges(dec, DENSITY_BIN)]
    area = shrink * np.diff(edges[0][:2]) * np.diff(edges[1][:2])  # of a bin [deg^2]
    fig, axes = style.new_panels(2, 2, (4.4, 3.3), extra_height=0.3)
    for label, ax in enumerate(axes):
        chosen = labels == label
        counts = np.histogram2d(ra[chosen], dec[chosen], edges)[0].T / area
        mesh = ax.pcolormesh(*edges, counts, cmap=_density_map(label), vmin=0, rasterized=True)
        fig.colorbar(mesh, ax=ax, label="objects per deg$^2$", shrink=0.8)
        _describe_map(ax, shrink, style.counted(style.NAMES[label], chosen.sum()))
        if region is not None:
            (west, east), (south, north) = region
            box = plt.Rectangle((west, south), east - west, north - south, fill=False, ls="--", lw=1.2)
            ax.add_patch(box)
    style.title_above(fig, title)
    return fig


def plot_footprints(images, positions, *, title=None):
    """Outlines of images on the sky, and the positions to be cut from them.

    Parameters
    ----------
    images, positions : pandas.DataFrame
        ZTF metadata, with the corners ra1..ra4 and dec1..dec4; columns RA, DEC and type [deg, ICRS].
    """
    ra_names, dec_names = ([f"{axis}{corner}" for corner in (1, 2, 3, 4)] for axis in ("ra", "dec"))
    style.check_columns(images, ra_names + dec_names, "images")
    ra = _without_jump(np.concatenate([positions["RA"], *images[ra_names].to_numpy(float)]))
    corners = np.stack([ra[len(positions) :].reshape(-1, 4), images[dec_names].to_numpy(float)], axis=2)
    labels = labels_of_types(positions["type"])
    ax = _map(ra[: len(positions)], positions["DEC"], labels, title)
    for outline in corners:
        ax.add_patch(plt.Polygon(outline, fill=False, edgecolor="black", linewidth=0.7, alpha=0.5))
    ax.autoscale_view()
    return ax


def plot_finding_charts(catalogue, rows, *, titles=None):
    """Charts of the catalogued objects around a few chosen ones; brighter objects are larger.

    Objects without light in r are not drawn.

    Parameters
    ----------
    catalogue : pandas.DataFrame
        Columns RA and DEC [deg, ICRS], TYPE and FLUX_R [nanomaggies].
    rows, titles : sequence of int, sequence of str
        Row number of the object in the middle of each chart, and its title.
    """
    style.check_columns(catalogue, ["RA", "DEC", "TYPE", "FLUX_R"], "catalogue")
    fig, axes = style.new_panels(len(rows), len(rows), (3.1, 3.1), extra_height=0.4)
    half, labels = CHART_WIDTH / 2, labels_of_types(catalogue["TYPE"])
    drawn = np.zeros(len(catalogue), bool)
    for ax, row, title in zip(axes, rows, titles or [None] * len(rows), strict=True):
        centre = catalogue.iloc[row]
        east = _ra_difference(catalogue["RA"], centre["RA"]) * np.cos(np.radians(centre["DEC"])) * 3600
        north = (catalogue["DEC"] - centre["DEC"]) * 3600
        near = (east.abs() < half) & (north.abs() < half) & (catalogue["FLUX_R"] > 0)
        drawn |= near
        size = 12 * catalogue.loc[near, "FLUX_R"].clip(0.5, 500) ** 0.5
        colors = [style.COLORS[label] for label in labels[near]]
        ax.scatter(east[near], north[near], size, colors, alpha=0.75, linewidths=0)
        corner = (-CUTOUT_SIZE / 2, -CUTOUT_SIZE / 2)
        ax.add_patch(plt.Rectangle(corner, CUTOUT_SIZE, CUTOUT_SIZE, fill=False, linestyle="--"))
        ax.set(xlim=(half, -half), ylim=(-half, half), aspect="equal")
        style.describe(ax, "east [arcsec]", "north [arcsec]", title)
    dots = style.class_dots(style.class_counts(labels[drawn]), with_counts=False)
    fig.legend(handles=dots, loc="outside lower center", ncols=3, frameon=False)
    return fig


def plot_colour_colour(g_r, r_z, labels, *, title=None):
    """Two colours against each other, of stars and of galaxies: redder to the right and to the top.

    Each panel shows how many objects of its class have such colours, in front of where the other class lies.

    Parameters
    ----------
    g_r, r_z, labels : array_like (n,)
        Colours g - r and r - z [mag, AB], all finite; 0 star, 1 galaxy, -1 unknown, which is not drawn.
    """
    g_r, r_z = np.asarray(g_r, float), np.asarray(r_z, float)
    labels = style.check_labels(labels, len(g_r))
    edges = [_edges(g_r, COLOUR_BIN), _edges(r_z, COLOUR_BIN)]
    counts = [np.histogram2d(g_r[labels == label], r_z[labels == label], edges)[0].T for label in (0, 1)]
    norm = LogNorm(1, max(np.max(counts), 10))
    fig, axes = style.new_panels(2, 2, (4.4, 3.9), extra_height=0.3)
    for label, ax in enumerate(axes):
        other = np.where(counts[1 - label] > 0, 1.0, np.nan)
        ax.pcolormesh(*edges, other, cmap="Greys", vmin=0.3, vmax=4, rasterized=True)
        shown = np.where(counts[label] > 0, counts[label], np.nan)
        mesh = ax.pcolormesh(*edges, shown, cmap=_density_map(label), norm=norm, rasterized=True)
        fig.colorbar(mesh, ax=ax, label=f"objects per bin of {COLOUR_BIN:g} mag", shrink=0.8)
        name = style.counted(style.NAMES[label], np.sum(labels == label))
        style.describe(ax, "g - r [mag, AB]", "r - z [mag, AB]", f"{name}; grey: the other class")
    style.title_above(fig, title)
    return fig


def plot_neighbours(east, north, *, title=None):
    """Chart of the neighbours of all objects, each drawn around the same centre, and what a cutout holds.

    Those farther away than the corners of a cutout are beyond its frame.

    Parameters
    ----------
    east, north : array_like (n,)
        Offsets of the neighbours from their objects [arcsec].
    """
    ax = style.new_axes((4.8, 4.6))
    ax.scatter(east, north, 8, color=style.UNKNOWN_COLOR, lw=0)
    side, rings = CUTOUT_SIZE, ((0.5, ":"), (0.5 * np.sqrt(2), "-"))
    box = {"fill": False, "ls": "--", "lw": 1.6, "label": f"cutout, {side:g} arcsec wide"}
    ax.add_patch(plt.Rectangle((-side / 2, -side / 2), side, side, **box))
    for (share, dashes), name in zip(rings, ("half the side", "half the diagonal"), strict=True):
        radius, color = share * side, style.LINE_COLORS[0]
        look = {"fill": False, "ls": dashes, "ec": color, "lw": 1.6, "label": f"{name}, {radius:.1f} arcsec"}
        ax.add_patch(plt.Circle((0, 0), radius, **look))
    half = NEIGHBOUR_CHART_WIDTH / 2
    ax.set(xlim=(half, -half), ylim=(-half, half), aspect="equal")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), fontsize=9, frameon=False)
    return style.describe(ax, "east [arcsec]", "north [arcsec]", title)


def plot_magnitude_counts(mag, labels, *, limit, band="r", title=None):
    """Histogram of the magnitudes of stars and of galaxies.

    Parameters
    ----------
    mag, labels : array_like (n,)
        Magnitudes [mag, AB], of which only finite ones are drawn; 0 star, 1 galaxy, -1 unknown.
    limit : float
        Limiting magnitude [mag, AB], drawn as a line.
    band : str
        Name of the band, for the axis label.

    Raises
    ------
    ValueError
        If no magnitude is finite.
    """
    mag, labels = np.asarray(mag, float), style.check_labels(labels, len(mag))
    mag, labels = mag[np.isfinite(mag)], labels[np.isfinite(mag)]
    if not len(mag):
        raise ValueError("no finite magnitude to draw")
    edges = _edges(mag, BIN_WIDTH)  # so that the limit falls on an edge
    ax = style.new_axes((6, 3.8))
    for label, n in style.class_counts(labels).items():
        name, color = style.counted(style.NAMES[label], n), style.COLORS[label]
        look = {
            "ls": style.DASHES[label],
            "histtype": "stepfilled",
            "fc": color + "30",
            "ec": color,
            "lw": 1.6,
            "label": name,
        }
        ax.hist(mag[labels == label], edges, **look)
    ax.axvline(limit, color="black", ls="--", lw=1.2)
    ax.set_ylim(0, 1.12 * ax.get_ylim()[1])  # free space for the text above the histogram
    ax.text(limit, 0.97, f"limit {limit:g} mag ", transform=ax.get_xaxis_transform(), ha="right", va="top")
    ax.legend(loc="upper left")
    return style.describe(ax, f"{band} [mag, AB]", f"objects per {BIN_WIDTH:g} mag", title)


def plot_cut_report(report, *, title=None):
    """Bars of how many objects each cut leaves; the bar at the top holds all objects.

    Parameters
    ----------
    report : pandas.DataFrame, one row per cut, in the order of the cuts
        Columns cut (name), before, left and removed (numbers of objects).
    """
    style.check_columns(report, ["cut", "before", "left", "removed"], "report")
    names = ["all objects", *report["cut"].astype(str)]
    left = [report["before"].iloc[0], *report["left"]]
    texts = [f"{left[0]:,}", *(f"{row.left:,} (-{row.removed:,})" for row in report.itertuples())]
    colors = [style.UNKNOWN_COLOR] + [style.PALE_BLUE] * len(report)
    ax = style.new_axes((7, 0.8 + 0.34 * len(names)))
    ax.bar_label(ax.barh(names, left, height=0.7, color=colors), texts, padding=4, fontsize=9)
    ax.yaxis.set_inverted(True)
    ax.margins(x=0.25)
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    ax.locator_params(axis="x", nbins=5)
    ax.spines[["top", "right"]].set_visible(False)
    return style.describe(ax, "objects left (removed by the cut)", None, title)


def plot_motions(r_mag, significance, labels, *, title=None):
    """Significance of the motions that Gaia measured, against magnitude.

    Parameters
    ----------
    r_mag, significance, labels : array_like (n,)
        Magnitude [mag, AB]; motion or parallax over its error, NaN for objects to be left out; 0 star,
        1 galaxy, -1 unknown.
    """
    r_mag, significance = np.asarray(r_mag, float), np.asarray(significance, float)
    measured = np.isfinite(significance)
    labels = style.check_labels(labels, len(r_mag))[measured]
    x, y = r_mag[measured], np.clip(significance[measured], 0.1, None)  # a negative parallax has no logarithm
    ax = style.new_axes((6.5, 4))
    for label, n in style.class_counts(labels).items():
        chosen, size = labels == label, style.marker_size(n)
        # the rarer class is larger, and on top
        look = {"s": size, "zorder": 2 + size / 100, "lw": 0, "rasterized": True}
        name = style.counted(style.NAMES[label], n)
        ax.scatter(x[chosen], y[chosen], color=style.COLORS[label], label=name, **look)
    style.legend_beside(ax)
    ax.axhline(MOTION_THRESHOLD, color="black", ls="--", lw=1.2, zorder=3)
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    text = f"{MOTION_THRESHOLD:g} times the error"
    ax.text(0.01, MOTION_THRESHOLD / 1.2, text, transform=ax.get_yaxis_transform(), va="top")
    return style.describe(ax, "r [mag, AB]", "motion or parallax over its error", title)


def sersic_profile(radius, half_light_radius, index):
    """Return the share of all light per area [arcsec^-2], (n,), at distances R from the centre [arcsec].

    I(R) = b^(2n) / (2 pi n R_e^2 Gamma(2n)) exp(-b (R / R_e)^(1/n)) (Sersic 1963, BAAA 6, 41) for the index
    n. P(2n, b) = 1/2, by the regularized incomplete gamma function, so that half of the light is inside R_e
    (Graham & Driver 2005, PASA 22, 118).
    """
    b = gammaincinv(2 * index, 0.5)
    centre = b ** (2 * index) / (2 * np.pi * index * half_light_radius**2 * gamma(2 * index))
    return centre * np.exp(-b * (np.asarray(radius, float) / half_light_radius) ** (1 / index))


def plot_type_shapes(*, title=None):
    """Radial profiles of the Tractor types, of equal magnitude and half-light radius; see `sersic_profile`.

    A point source is as wide as the image is sharp; it is drawn as a Gaussian with the half-light radius of
    the others. The galaxies are drawn as they would look without atmosphere.
    """
    radius = np.linspace(0.02, 4, 300) * HALF_LIGHT_RADIUS
    shapes = (
        (0.5, "PSF: Gaussian (n = 0.5)", "-", style.STAR_COLOR),
        (1, "REX, EXP (n = 1)", "--", style.GALAXY_COLOR),
        (2.5, "SER, here n = 2.5", "-.", style.LINE_COLORS[0]),
        (4, "DEV (n = 4)", ":", style.LINE_COLORS[1]),
    )
    ax = style.new_axes((6, 4))
    for index, name, dashes, color in shapes:
        share = sersic_profile(radius, HALF_LIGHT_RADIUS, index)
        ax.plot(radius, TYPE_MAGNITUDE - 2.5 * np.log10(share), ls=dashes, color=color, lw=2, label=name)
    ax.set_ylim(TYPE_MAGNITUDE + 9, TYPE_MAGNITUDE - 3)
    ax.axvline(HALF_LIGHT_RADIUS, color=style.UNKNOWN_COLOR, lw=1, zorder=0)
    look = {"transform": ax.get_xaxis_transform(), "color": "#555555"}
    ax.text(HALF_LIGHT_RADIUS, 0.03, " half-light radius", **look)
    ax.legend()
    return style.describe(ax, "radius [arcsec]", "surface brightness\n[mag arcsec$^{-2}$, AB]", title)


def _without_jump(ra):
    """Return RA [deg] in one piece, which begins east of its largest gap; west of RA 0 it is negative."""
    edges = np.sort(ra % 360)
    gaps = np.diff(edges, append=edges[0] + 360)
    if gaps[-1] == gaps.max():  # the gap is that around RA 0
        return ra % 360
    return (ra - edges[gaps.argmax() + 1]) % 360 + edges[gaps.argmax() + 1] - 360


def _ra_difference(ra, other):
    """Return how far RA is east of another [deg], -180 to 180: the short way round."""
    return (ra - other + 180) % 360 - 180


def _map(ra, dec, labels, title):
    """Draw positions [deg], RA in one piece, on new axes."""
    ax, dec = style.new_axes((6, 5.2)), np.asarray(dec, float)
    _scatter_classes(ax, ra, dec, style.check_labels(labels, len(ra)))
    return _describe_map(ax, _shrinking(dec), title)


def _shrinking(dec):
    """Return how much shorter a degree of right ascension is than one of declination, amid a map."""
    return max(np.cos(np.radians((dec.min() + dec.max()) / 2)), 0.05)


def _describe_map(ax, shrink, title):
    """Let a degree be equally long both ways, and right ascension [deg] grow to the left."""
    ax.set_aspect(1 / shrink)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value % 360:g}"))
    ax.xaxis.set_inverted(True)
    return style.describe(ax, "RA [deg]", "DEC [deg]", title)


def _edges(values, width):
    """Return edges of bins that hold all values, whole multiples of a width."""
    first, last = np.floor(values.min() / width), np.floor(values.max() / width) + 1
    return np.arange(first, last + 1) * width


def _even_edges(values, width):
    """Return edges of bins of about a width, from the least value to the greatest."""
    return np.linspace(values.min(), values.max(), max(round(np.ptp(values) / width), 1) + 1)


def _density_map(label):
    """Return the colours of a density of one class, from few to many objects."""
    return LinearSegmentedColormap.from_list(style.NAMES[label], DENSITY_COLORS[label])


def _scatter_classes(ax, x, y, labels):
    """Draw the points in random order, so that no class covers the other."""
    order = np.random.default_rng(0).permutation(len(x))
    look = {"c": [style.COLORS[label] for label in labels[order]], "s": style.marker_size(len(x)), "lw": 0}
    ax.scatter(x[order], y[order], antialiased=len(x) < 1000, rasterized=True, **look)
    style.legend_beside(ax, handles=style.class_dots(style.class_counts(labels)))
