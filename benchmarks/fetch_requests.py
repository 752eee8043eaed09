"""Count the requests and bytes of asking object by object, with ztfquery, and of fetch_cutouts."""

import argparse
import sys
import tempfile
import warnings
from pathlib import Path

import pandas as pd
from ztfquery import metasearch
from ztfquery.io import download_single_url
from ztfquery.query import metatable_to_url

from ztf_sg.fetching import REQUEST_COST, ImageChooser, fetch_cutouts
from ztf_sg.positions import cut_types, position_table
from ztf_sg.services.irsa import Irsa
from ztf_sg.ztf import image_name

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from archives import ArchiveServer, point_clients_to  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=1000)
    parser.add_argument("--images", type=int, default=40)
    options = parser.parse_args()
    with ArchiveServer() as archive, tempfile.TemporaryDirectory() as folder:
        point_clients_to(archive.url)
        positions, patches = choose_positions(archive.sky.catalogue, options.objects, options.images)
        print(f"{len(positions)} objects on {options.images} images, in {patches} patches of sky")
        report = {"object by object": measure(archive, ask_object_by_object, positions)}
        for name, cost in (("patch by patch", REQUEST_COST), ("patch by patch, bytes alone", 0)):
            arguments = positions, Path(folder) / name, Irsa()
            report[name] = measure(archive, fetch_cutouts, *arguments, request_cost=cost, progress=False)
    table = pd.DataFrame(report).T
    print(table.to_string())
    ratio = table.loc["object by object", "requests"] / table.loc["patch by patch", "requests"]
    print(f"{ratio:.0f} times fewer requests, {table.loc['patch by patch', 'searches'] / patches:g} a patch")


def choose_positions(catalogue, n_objects, n_images):
    """Return as many stars on each of so many images, and the number of patches that they lie in."""
    catalogue = cut_types(catalogue)
    stars = position_table(catalogue[catalogue["TYPE"] == "PSF"])
    images = ImageChooser(Irsa()).choose_each(stars)
    names = pd.Series([None if image is None else image_name(image) for image in images], stars.index)
    stars = stars[names.isin(names.value_counts().index[:n_images])]
    chosen = stars.groupby(names).head(n_objects // n_images + 1).head(n_objects).reset_index(drop=True)
    chooser = ImageChooser(Irsa())
    chooser.choose_each(chosen)
    return chosen, chooser.searches


def ask_object_by_object(positions):
    """Search the most centred image of each object, and download the cutout, as ztfquery offers it."""
    condition = "filtercode='zi' and seeing<1.85 and infobits<=0"
    for position in positions.itertuples():
        radec = [position.RA, position.DEC]
        query = metasearch.MetaQuery()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            query.query(radec=radec, mcen=True, sql_query=condition, cookies={})
        url = metatable_to_url(query.metatable, datakind="sci")[0]
        download_single_url(url, cutouts=True, radec=radec, cutout_size=20, cookies="no_cookies")


def measure(archive, work, *args, **kwargs):
    """Return what the archive was sent for a piece of work, and what it answered."""
    before = len(archive.log)
    work(*args, **kwargs)
    log = archive.log[before:]
    searches = sum("/search/" in record.path for record in log)
    counts = {"searches": searches, "downloads": len(log) - searches, "requests": len(log)}
    return counts | {"megabytes": round(sum(record.sent for record in log) / 1e6, 1)}


if __name__ == "__main__":
    main()
