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
    arguments = parser.parse_args()
    with ArchiveServer() as archive, tempfile.TemporaryDirectory() as folder:
        point_clients_to(archive.url)
        positions, patches = choose_positions(archive, arguments)
        print(f"{len(positions)} objects on {arguments.images} images, in {patches} patches of sky")
        report = {"object by object": measure(archive, lambda: ask_object_by_object(positions))}
        for name, cost in (("patch by patch", REQUEST_COST), ("patch by patch, bytes alone", 0)):
            fetch = lambda name=name, cost=cost: fetch_cutouts(  # noqa: E731
                positions, Path(folder) / name, Irsa(), request_cost=cost, progress=False
            )
            report[name] = measure(archive, fetch)
        table = pd.DataFrame(report).T
        print(table.to_string())
        ratio = table.loc["object by object", "requests"] / table.loc["patch by patch", "requests"]
        print(
            f"{ratio:.0f} times fewer requests, {table.loc['patch by patch', 'searches'] / patches:g} a patch"
        )


def choose_positions(archive, arguments):
    """Return as many stars on each of so many images, and the number of patches that they lie in."""
    catalogue = cut_types(archive.sky.catalogue)
    stars = position_table(catalogue[catalogue["TYPE"] == "PSF"])
    images = ImageChooser(Irsa()).choose_each(stars)
    stars = stars.assign(image=[image_name(image) if image is not None else None for image in images])
    per_image = arguments.objects // arguments.images + 1
    stars = stars.groupby("image").head(per_image)
    full = stars["image"].value_counts().index[: arguments.images]
    chosen = stars[stars["image"].isin(full)].head(arguments.objects).reset_index(drop=True)
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


def measure(archive, work):
    """Return what the archive was sent for a piece of work, and what it answered."""
    before = len(archive.log)
    work()
    log = archive.log[before:]
    searches = sum("/search/" in record.path for record in log)
    return {
        "searches": searches,
        "downloads": len(log) - searches,
        "requests": len(log),
        "megabytes": round(sum(record.sent for record in log) / 1e6, 1),
    }


if __name__ == "__main__":
    main()
