"""The share of galaxies among the objects of a catalogue, by magnitude: a prior for classifiers of images."""

import numpy as np

from ztf_sg.checks import check_unmasked
from ztf_sg.positions.catalogue import labels_of_types, magnitude, standard_columns
from ztf_sg.positions.cuts import band_columns

MAGNITUDE_EDGES = tuple(np.arange(14.0, 22.5, 0.5).tolist())  # [mag]
PSEUDO_OBJECTS = 2.0  # with the share of the whole catalogue, that each bin is given beside its own


def galaxy_fraction(catalogue, magnitudes, band, edges=MAGNITUDE_EDGES):
    r"""Return the share of galaxies in a catalogue among the objects as bright as those given.

    Parameters
    ----------
    catalogue : pandas.DataFrame or astropy.table.Table
        Columns TYPE and the flux of the band, such as FLUX_Z [nanomaggies], of all objects in the same part
        of the sky; not a sample with as many stars as galaxies.
    magnitudes : array-like (n,)
        Of the objects to be classified [mag].
    band : str
        Band of the catalogue that is nearest to the filter of the images, such as "z".
    edges : sequence of float
        Increasing edges of the bins of magnitude [mag]. The first bin holds all brighter objects too, and the
        last all fainter ones.

    Returns
    -------
    numpy.ndarray of float (n,)
        Between 0 and 1, never 0 or 1.

    Raises
    ------
    KeyError
        If the catalogue lacks a column.
    ValueError
        If it has no star and no galaxy with a flux, a magnitude is masked or not finite, or the edges do not
        increase.

    Notes
    -----
    Of k galaxies among the n objects of a bin the share is :math:`(k + 2 f) / (n + 2)`, where :math:`f` is
    that of the whole catalogue, :math:`(K + 1) / (N + 2)`. A bin with few objects has about the share of the
    whole catalogue, an empty one has exactly that.

    Examples
    --------
    >>> from ztf_sg import StarGalaxyClassifier
    >>> from ztf_sg.features import measure_features
    >>> magnitudes = measure_features(cutouts, ["magnitude"])["magnitude"]  # doctest: +SKIP
    >>> cutouts.table["fraction"] = galaxy_fraction(catalogue, magnitudes, "z")  # doctest: +SKIP
    >>> model = StarGalaxyClassifier(galaxy_fraction="fraction").fit(training_set)  # doctest: +SKIP
    >>> model.predict_proba(cutouts)  # doctest: +SKIP
    """
    edges = _checked_edges(edges)
    check_unmasked(magnitudes=magnitudes)
    magnitudes = np.asarray(magnitudes, dtype=float)
    bad = np.flatnonzero(~np.isfinite(magnitudes))
    if len(bad):
        rows = ", ".join(map(str, bad[:5])) + ", ..." * (len(bad) > 5)
        raise ValueError(f"magnitudes: {len(bad)} are not finite (rows {rows}); leave these objects out")
    (column,) = band_columns("FLUX", [band], "band")
    table = standard_columns(catalogue, ["TYPE", column])
    labels, brightness = labels_of_types(table["TYPE"]), magnitude(table[column])
    used = (labels >= 0) & np.isfinite(brightness)
    if not used.any():
        raise ValueError(f"the catalogue has no star and no galaxy with {column} > 0; give another band")
    return _shares(labels[used], _bins(brightness[used], edges), len(edges) - 1)[_bins(magnitudes, edges)]


def _shares(labels, bins, n_bins):
    """Return the share of galaxies in each bin, (n_bins,)."""
    whole = (labels.sum() + 1) / (len(labels) + 2)
    galaxies, objects = np.bincount(bins, labels, n_bins), np.bincount(bins, minlength=n_bins)
    return (galaxies + PSEUDO_OBJECTS * whole) / (objects + PSEUDO_OBJECTS)


def _bins(magnitudes, edges):
    return np.searchsorted(edges[1:-1], magnitudes, side="right")


def _checked_edges(edges):
    edges = np.asarray(edges, dtype=float)
    if edges.ndim != 1 or len(edges) < 2 or not np.all(np.diff(edges) > 0):
        raise ValueError(f"edges: expected increasing magnitudes, two or more, got {edges.tolist()}")
    return edges
