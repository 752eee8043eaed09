"""Write the truth about a folder of simulated cutouts, and how well their classes can be told apart at all.

python tools/truth.py FOLDER

The table ``truth.csv`` is written beside the cutouts, which must come from ``MockSky()``. No classifier reads
it.
"""

import sys
from pathlib import Path
from types import SimpleNamespace

import galsim
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
from ztf_sg.simulation.detector import sky_level
from ztf_sg.simulation.drawing import add_light, pixel_position
from ztf_sg.simulation.parameters import FLAT_ERROR, GAIN
from ztf_sg.ztf import CUTOUT_SIZE, READ_NOISE, first_pixel, image_wcs

TRUTH = "truth.csv"
TASK_SIZE = 75  # cutouts that a process is given at a time
BINARY_TEMPLATES = 4  # binary stars that an object is compared with, those nearest to its magnitude
GALAXIES = 128  # galaxies nearest to its magnitude, which the following templates are taken from
SMALL_TEMPLATES, OTHER_TEMPLATES = 20, 12  # the smallest ones, which may pass for stars, and some of the rest


def truth_table(folder, sky, n_jobs=-1):
    """Return the truth about the cutouts of a folder.

    Parameters
    ----------
    folder : path-like
        Cutouts and the manifest of their fetch.
    sky : MockSky
        The sky that they were fetched from.
    n_jobs : int
        Number of processes; -1 is one per core.

    Returns
    -------
    pandas.DataFrame
        One row per cutout: name; object (OBJID of the catalogue); class (star or galaxy) and label_error,
        whether the label is the other one; magnitude in i [mag, AB]; radius [arcsec] (without the bulge),
        sersic and axis_ratio; bulge and knots, shares of the light; companion, the flux of a companion star
        relative to the primary, and its separation [arcsec]; snr of the best possible photometry; night [MJD,
        d] and image; log_likelihood_ratio of galaxy over star, see :func:`log_likelihood_ratio`.
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


def scene(sky, name, ra, dec, size=CUTOUT_SIZE):
    """Return what a simulated cutout was made from.

    Parameters
    ----------
    sky : MockSky
        The sky that it was fetched from.
    name : str
        File name of its image.
    ra, dec : float
        Position of its object [deg, ICRS].
    size : float
        Width of the cutout [arcsec].

    Returns
    -------
    SimpleNamespace
        target, the row of `sky.objects`; exposure, the row of `sky.exposures`; sky and neighbours, the sky
        level and the light of the other objects [DN], shape (height, width); draw, a function that returns
        the light [DN] of a row like `target` at the position of the target, same shape.
    """
    exposure, target = sky.exposure(name), sky.nearest_object(ra, dec)
    wcs = image_wcs(exposure)
    centre = tuple(float(v) for v in wcs.wcs_world2pix(ra, dec, 0))
    (x0, side), (y0, _) = (first_pixel(v, size) for v in centre)
    position = pixel_position(target, exposure, wcs)

    def draw(row):
        stamp = galsim.ImageD(side, side, xmin=x0, ymin=y0, scale=1.0)
        add_light(stamp, row, exposure, *position)
        return stamp.array

    return SimpleNamespace(
        target=target,
        exposure=exposure,
        sky=sky_level(exposure, (x0, y0), (side, side)),
        neighbours=sky.draw(exposure, wcs, centre, (x0, y0), (side, side)) - draw(target),
        draw=draw,
    )


def log_likelihood_ratio(signal, variance, draw, row, population):
    r"""Return the logarithm of the likelihood of a galaxy over that of a star.

    It is what the best possible classifier of an image works with (Slater, Ivezic & Lupton 2020, AJ 159, 65).
    Such a classifier knows the point-spread function, the noise, the position of the object and its
    neighbours, and how galaxies and stars of its magnitude are distributed, but neither its flux nor its
    shape. The likelihood of a class is its mean over templates: objects of that class with about the same
    magnitude. For a template T of unit flux, weights W and the image s, with the flux integrated out,

    .. math:: \ln L = \frac{(s^T W T)^2}{2\, T^T W T} - \frac{1}{2} \ln T^T W T + \mathrm{const}.

    Parameters
    ----------
    signal : numpy.ndarray
        Image minus sky and neighbours [DN], shape (height, width).
    variance : numpy.ndarray
        Variance of the pixels [DN^2], infinite where they are not to be used; same shape.
    draw : callable
        Returns the image of a row of a catalogue, drawn at the position of the object.
    row : named tuple
        The object, which is no template of its own.
    population : SimpleNamespace
        Templates, as :func:`templates` returns them.

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
    """Return one row of the table, for a cutout and its line of the manifest."""
    parts = scene(sky, line.source_image, line.RA, line.DEC)
    row, exposure = parts.target, parts.exposure
    light = parts.draw(row)
    noise = exposure["noise_excess"]
    expected = light + parts.neighbours + parts.sky
    variance = noise**2 * (expected / GAIN + (READ_NOISE / GAIN) ** 2) + (FLAT_ERROR * expected) ** 2
    variance[binary_dilation(image > 0.8 * exposure["saturate"])] = np.inf
    signal = image.astype(float) - parts.sky - parts.neighbours
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
        "log_likelihood_ratio": log_likelihood_ratio(signal, variance, parts.draw, row, population),
    }


def _nearest(table, row, count):
    """Return the rows nearest in magnitude to an object, without the object itself."""
    table = table[table["OBJID"] != row.OBJID]
    magnitude = 22.5 - 2.5 * np.log10(row.FLUX_I)
    first = np.searchsorted(table["magnitude"], magnitude) - count // 2
    first = int(np.clip(first, 0, max(len(table) - count, 0)))
    return table.iloc[first : first + count]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python tools/truth.py FOLDER")
    print(write_truth(sys.argv[1]))
