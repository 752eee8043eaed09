"""What is true of a folder of simulated cutouts, and how well the classes can be told apart at all.

Run ``python tools/truth.py FOLDER`` to write ``truth.csv`` beside the cutouts of the mock sky.
No classifier reads it.
"""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy.ndimage import binary_dilation
from scipy.special import logsumexp

from ztf_sg.cutouts import load_cutouts
from ztf_sg.fetching import read_manifest
from ztf_sg.files import atomic_write
from ztf_sg.positions import select_positions
from ztf_sg.simulation import MockSky
from ztf_sg.simulation.parameters import FLAT_ERROR, GAIN
from ztf_sg.ztf import READ_NOISE

TRUTH = "truth.csv"
TASK_SIZE = 75  # cutouts that a process is given at a time
BINARY_TEMPLATES = 4  # that stand for the binary stars of about an object's magnitude
GALAXIES = 128  # that are the galaxies of about an object's magnitude; of these, templates are
SMALL_TEMPLATES, OTHER_TEMPLATES = 20, 12  # the smallest, which may pass for stars, and some of the others


def truth_table(folder, sky, n_jobs=-1):
    """Return the truth of the cutouts of a folder.

    Parameters
    ----------
    folder : path-like
        With cutouts and the manifest of their fetch.
    sky : MockSky
        That they were fetched from.
    n_jobs : int
        Processes; -1 is one a core.

    Returns
    -------
    pandas.DataFrame
        One row a cutout: name; object (OBJID of the catalogue); class (star or galaxy) and label_error,
        whether the label is of the other one; magnitude in i [mag, AB]; radius [arcsec] (without the bulge),
        sersic and axis_ratio; bulge and knots, shares of the light; companion, the flux of a companion star
        over the primary's, and its separation [arcsec]; snr, of the best possible photometry; night [MJD, d]
        and image; log_likelihood_ratio of galaxy over star, see :func:`log_likelihood_ratio`.
    """
    cutouts = load_cutouts(folder)
    listed = read_manifest(folder).set_index("file").loc[cutouts.table["name"] + ".fits"]
    population = templates(sky)
    found = Parallel(n_jobs=n_jobs)(
        delayed(_truths)(sky, population, cutouts.images[part], listed.iloc[part])
        for part in np.array_split(np.arange(len(cutouts)), max(len(cutouts) // TASK_SIZE, 1))
    )
    table = pd.DataFrame([row for rows in found for row in rows])
    table.insert(0, "name", cutouts.table["name"])
    return table


def templates(sky):
    """Return the galaxies and binary stars of a selected sample, by magnitude, and the share of binaries."""
    chosen = pd.concat(select_positions(sky.catalogue))
    objects = sky.objects.merge(chosen[["RA", "DEC"]], on=["RA", "DEC"])
    objects = objects.assign(magnitude=22.5 - 2.5 * np.log10(objects["FLUX_I"])).sort_values("magnitude")
    galaxies, stars = (objects[objects["CLASS"] == name] for name in ("galaxy", "star"))
    binaries = stars[stars["COMPANION"] > 0]
    return SimpleNamespace(galaxies=galaxies, binaries=binaries, binary_share=len(binaries) / len(stars))


def log_likelihood_ratio(signal, variance, draw, row, population):
    r"""Return the logarithm of the likelihood of a galaxy over that of a star.

    It is what the best possible classifier of an image works with (Slater, Ivezic & Lupton 2020, AJ 159, 65):
    one that knows the point-spread function, the noise, the place of the object and its neighbours, and how
    galaxies and stars of its magnitude are distributed, but neither its flux nor its shape. The likelihood of
    a class is the mean over objects of that class with about the same magnitude, of which small galaxies are
    all used and others by samples. With the template T of unit
    flux, weights W and the image s, the flux integrated out,

    .. math:: \ln L = \frac{(s^T W T)^2}{2\, T^T W T} - \frac{1}{2} \ln T^T W T + \mathrm{const}.

    Parameters
    ----------
    signal : numpy.ndarray
        Image less sky and neighbours [DN], shape (height, width).
    variance : numpy.ndarray
        Of the pixels [DN^2], infinite where they are not to be used; same shape.
    draw : callable
        Returns the image of a row of a catalogue, placed where the object is.
    row : named tuple
        The object, which is no template of its own.
    population : SimpleNamespace
        As of :func:`templates`.

    Returns
    -------
    float
    """

    def log_likelihood(template):
        light = draw(template)
        light = light / light.sum()
        norm = np.sum(light**2 / variance)
        return np.sum(signal * light / variance) ** 2 / (2 * norm) - np.log(norm) / 2

    near = _nearest(population.galaxies, row, GALAXIES).sort_values("RADIUS")
    small, others = near.iloc[:SMALL_TEMPLATES], near.iloc[SMALL_TEMPLATES:]
    some = others.iloc[:: max(len(others) // OTHER_TEMPLATES, 1)]
    weights = np.repeat([1, len(others) / max(len(some), 1)], [len(small), len(some)]) / len(near)
    galaxies = [log_likelihood(t) for t in pd.concat([small, some]).itertuples()]
    binaries = [log_likelihood(t) for t in _nearest(population.binaries, row, BINARY_TEMPLATES).itertuples()]
    single = log_likelihood(row._replace(CLASS="star", COMPANION=0.0))
    share = population.binary_share
    star_weights = [1 - share, *[share / len(binaries)] * len(binaries)]
    return logsumexp(galaxies, b=weights) - logsumexp([single, *binaries], b=star_weights)


def write_truth(folder, sky=None):
    """Write :func:`truth_table` as ``truth.csv`` beside the cutouts; return its path."""
    path = Path(folder) / TRUTH
    table = truth_table(folder, sky or MockSky())
    with atomic_write(path) as unfinished:
        table.to_csv(unfinished, index=False, float_format="%.5g")
    return path


def _truths(sky, population, images, listed):
    return [_truth(sky, population, *pair) for pair in zip(images, listed.itertuples(), strict=True)]


def _truth(sky, population, image, line):
    scene = sky.scene(line.source_image, line.RA, line.DEC)
    row, exposure = scene.target, scene.exposure
    light = scene.draw(row)
    noise = exposure["noise_excess"]
    expected = light + scene.neighbours + scene.sky
    variance = noise**2 * (expected / GAIN + (READ_NOISE / GAIN) ** 2) + (FLAT_ERROR * expected) ** 2
    variance[binary_dilation(image > 0.8 * exposure["saturate"])] = np.inf
    signal = image.astype(float) - scene.sky - scene.neighbours
    return {
        "object": row.OBJID,
        "class": row.CLASS,
        "label_error": row.LABEL_ERROR,
        "magnitude": 22.5 - 2.5 * np.log10(row.FLUX_I),
        "radius": row.RADIUS,
        "sersic": row.INDEX,
        "axis_ratio": (1 - np.hypot(row.E1, row.E2)) / (1 + np.hypot(row.E1, row.E2)),
        "bulge": row.BULGE,
        "knots": row.KNOTS,
        "companion": row.COMPANION,
        "separation": row.SEPARATION,
        "snr": np.sqrt(np.sum(light**2 / variance)),
        "night": int(exposure["mjd"]),
        "image": line.source_image,
        "log_likelihood_ratio": log_likelihood_ratio(signal, variance, scene.draw, row, population),
    }


def _nearest(table, row, count):
    """Return the rows that are nearest in magnitude, but for the object itself."""
    table = table[table["OBJID"] != row.OBJID]
    magnitude = 22.5 - 2.5 * np.log10(row.FLUX_I)
    first = np.searchsorted(table["magnitude"], magnitude) - count // 2
    first = int(np.clip(first, 0, max(len(table) - count, 0)))
    return table.iloc[first : first + count]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python tools/truth.py FOLDER")
    print(write_truth(sys.argv[1]))
