"""Print whether the same sources are classified alike in real images of two bands.

python benchmarks/real_bands.py IMAGES [--model FILE]

IMAGES is a folder of science images, or parts of them, with a table ``detections.csv``, as of
benchmarks/bands.py. The detections are matched on the sky to a list of sources. Those that lie on images of
both bands are fetched from the archive of tests/archives, which serves these images, as a list of one's own
is fetched from the true one, and classified.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import astropy.units as u
import numpy as np
import pandas as pd
from astropy.coordinates import SkyCoord
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ztf_sg import StarGalaxyClassifier, load_cutouts
from ztf_sg.fetching import fetch_cutouts
from ztf_sg.services.irsa import Irsa
from ztf_sg.ztf import CUTOUT_SIZE

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from archives import ArchiveServer, ImageParts, point_clients_to  # noqa: E402

FILTERS = ("zg", "zr")
N_IMAGES = 2  # of each source in each band, of different nights
MAX_SEEING, MAX_INFOBITS = 6, 2**27 - 1  # [arcsec]; images with quality flags are part of the work
MIN_SNR, MATCH_RADIUS = 20, 1.0  # of the detections; within which they are one source [arcsec]
STAR_Z, EXTENDED_Z = 3, 6  # how far from the star locus a star is at most, and a galaxy at least [sigma]


def main():
    """Print how often the bands agree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("--model", help="a saved StarGalaxyClassifier; the pretrained one by default")
    options = parser.parse_args()
    model = StarGalaxyClassifier.load(options.model) if options.model else StarGalaxyClassifier.pretrained()
    detections = pd.read_csv(options.images / "detections.csv").query(f"snr > {MIN_SNR}")
    with ArchiveServer(sky=ImageParts(options.images)) as archive, tempfile.TemporaryDirectory() as folder:
        point_clients_to(archive.url)
        sources = match(detections, archive.sky)
        both = sources[in_both_bands(sources, archive.sky)].reset_index(drop=True)
        table = classify(both, folder, model)
    print(f"{len(detections)} detections of {len(sources)} sources, {len(both)} on images of two bands")
    print_pairs(compare_bands(table))
    print_labels(table.join(both["z"], on="object"))


def match(detections, sky):
    """Return the sources of a table of detections: RA, DEC [deg] and z of the brightest detection of each."""
    table = pd.concat(locate(rows, sky.quadrant(file)) for file, rows in detections.groupby("file"))
    places = SkyCoord(table["RA"], table["DEC"], unit=u.deg)
    first, second, *_ = places.search_around_sky(places, MATCH_RADIUS * u.arcsec)
    near = coo_array((np.ones(len(first)), (first, second)), shape=(len(table), len(table)))
    table["source"] = connected_components(near)[1]
    brightest = table.sort_values("snr", ascending=False).drop_duplicates("source").sort_values("source")
    return brightest[["RA", "DEC", "z"]].reset_index(drop=True)


def locate(rows, quadrant):
    """Return the detections of an image with RA and DEC [deg]; their x and y count from its first pixel."""
    (left, _), (bottom, _) = quadrant.limits
    ra, dec = quadrant.wcs.all_pix2world(rows["x"] + left, rows["y"] + bottom, 0)
    return rows.assign(RA=ra, DEC=dec)


def in_both_bands(sources, sky):
    """Return which sources have a whole cutout in an image of each band, bool (n,)."""
    found = {filtercode: np.zeros(len(sources), dtype=bool) for filtercode in FILTERS}
    for quadrant in sky.quadrants.values():
        found[quadrant.row["filtercode"]] |= [
            quadrant.holds(*place, CUTOUT_SIZE) for place in zip(sources["RA"], sources["DEC"], strict=True)
        ]
    return np.logical_and(*found.values())


def classify(sources, folder, model):
    """Fetch the cutouts of sources; return object (the row of its source), filter and class of each.

    The column ambiguous is about the class.
    """
    limits = {"max_seeing": MAX_SEEING, "max_infobits": MAX_INFOBITS}
    options = {"filters": FILTERS, "n_images": N_IMAGES, "request_cost": 0, "progress": False}
    fetch_cutouts(sources[["RA", "DEC"]], folder, Irsa(), **limits, **options)
    cutouts = load_cutouts(folder)
    classes = model.classify_features(model.features(cutouts), model.confidence_threshold())
    table = cutouts.table[["object", "filter", "name"]]
    return table.assign(**{name: classes[name] for name in ("class", "p_galaxy", "ambiguous")})


def compare_bands(table):
    """Return one row for each object with cutouts in two bands: same, deferred and contradictory, bool.

    All its cutouts have the same class; one or more are ambiguous; those that are not have two classes.
    """
    objects = table.groupby("object")
    decided = table[~table["ambiguous"]].groupby("object")["class"].nunique()
    pairs = pd.DataFrame(
        {
            "same": objects["class"].nunique() == 1,
            "deferred": objects["ambiguous"].any(),
            "contradictory": decided.reindex(list(objects.groups), fill_value=0) > 1,
        }
    )
    return pairs[objects["filter"].nunique() == 2]


def print_pairs(pairs):
    """Print how many objects are alike in both bands, or not."""
    same, deferred = pairs["same"], pairs["deferred"]
    print(
        f"{len(pairs)} fetched in two bands: {(same & ~deferred).sum()} decided and alike, "
        f"{(same & deferred).sum()} alike but deferred in a band, "
        f"{(~same & deferred).sum()} different and deferred in a band, "
        f"{pairs['contradictory'].sum()} decided and contradictory (wanted: 0)"
    )


def print_labels(table):
    """Print what is said of the cutouts of sources with the shape of a star, and of extended ones.

    Of extended shape is a star with a neighbour, too, so that there a decision for a star may be right.
    """
    shapes = {"star": table["z"].abs() < STAR_Z, "galaxy": table["z"] > EXTENDED_Z}
    for wanted, (name, chosen) in enumerate(shapes.items()):
        decided = table[chosen & ~table["ambiguous"]]
        print(
            f"{chosen.sum()} cutouts of sources that have the shape of a {name} where they are brightest: "
            f"{chosen.sum() - len(decided)} deferred, {(decided['class'] != wanted).sum()} decided otherwise"
        )


if __name__ == "__main__":
    main()
