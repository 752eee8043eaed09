"""Fetches of objects of unknown class, in several filters and of several nights."""

import re
from collections import Counter
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from ztf_sg.cutouts import CutoutSet, load_cutouts
from ztf_sg.fetching import ImageChooser, ManifestError, fetch_cutouts, read_manifest
from ztf_sg.fetching.choose import IMAGES_PER_OBJECT
from ztf_sg.positions import object_list
from ztf_sg.services.errors import NothingFound
from ztf_sg.ztf import image_name

FILTERS = ("zr", "zi")
MAX_SEEING = 2.5  # leaves at least two nights in each filter [arcsec]


class Remembering:
    """The mock sky, which draws each cutout once for all tests."""

    def __init__(self, sky):
        self.search_images, self.check_positions, self.origin = (
            sky.search_images,
            sky.check_positions,
            sky.origin,
        )
        self._get_cutout, self._cutouts = sky.get_cutout, {}

    def get_cutout(self, image, ra, dec, size):
        key = image_name(image), ra, dec, size
        if key not in self._cutouts:
            self._cutouts[key] = self._get_cutout(image, ra, dec, size)
        return self._cutouts[key]


class Recorder:
    """An image service that notes what it is asked, and asks another one; `faults` by request, from 0."""

    def __init__(self, service, faults=()):
        self.service, self.faults, self.origin = service, dict(faults), service.origin
        self.searches, self.images, self.positions = [], [], []

    def search_images(self, *arguments):
        self.searches.append(arguments)
        return self.service.search_images(*arguments)

    def get_cutout(self, image, ra, dec, size):
        self.images.append(image_name(image))
        self.positions.append((ra, dec))
        content = self.service.get_cutout(image, ra, dec, size)
        return self.faults.get(len(self.images) - 1, bytes)(content)


def missing(content):
    raise NothingFound("HTTP status 404")


def interrupt(content):
    raise KeyboardInterrupt


def not_fits(content):
    return b"<html></html>"


@pytest.fixture(scope="module")
def sky(mock_sky):
    return Remembering(mock_sky)


@pytest.fixture
def service(sky):
    return Recorder(sky)


@pytest.fixture
def objects(mock_positions):
    """Return a list of three named objects, without types."""
    stars, galaxies = mock_positions
    table = pd.concat([stars.head(2), galaxies.head(1)], ignore_index=True)[["RA", "DEC"]]
    return table.assign(name=["first, of all", "M 31", "7"])


def fetch(positions, directory, service, **options):
    options = {"filters": FILTERS, "n_images": 2, "max_seeing": MAX_SEEING, "progress": False} | options
    return fetch_cutouts(positions, directory, service, **options)


def files(directory):
    return {path.name: path.read_bytes() for path in Path(directory).glob("*.fits")}


def ranked_images(service, objects, code):
    """Return the names of the images of the first object in a filter, the best first."""
    images = ImageChooser(service, code, MAX_SEEING).rank_nights(*objects[["RA", "DEC"]].iloc[0])
    return [image_name(image) for image in images]


def night(name):
    return name[4:12]


def offset_from_middle(path, ra, dec):
    """Return how far a position is from the middle of a cutout [px]."""
    x, y = WCS(fits.getheader(path)).world_to_pixel_values(ra, dec)
    return np.hypot(x - 9.5, y - 9.5)


class TestSeveralImages:
    def test_every_object_has_images_of_different_nights_in_every_filter(self, objects, tmp_path, service):
        manifest = fetch(objects, tmp_path, service, filters=("zg", "zr", "zi"))
        assert set(manifest["status"]) == {"saved"}
        slots = manifest[["object", "filter", "rank"]].to_numpy().tolist()
        assert slots == [
            [number, code, rank] for number in range(3) for code in ("zg", "zr", "zi") for rank in (1, 2)
        ]
        nights = manifest["source_image"].map(night)
        assert (manifest.assign(night=nights).groupby(["object", "filter"])["night"].nunique() == 2).all()

    def test_files_are_named_after_object_filter_and_image(self, objects, tmp_path, service):
        manifest = fetch(objects, tmp_path, service)
        assert sorted(manifest["file"]) == sorted(files(tmp_path))
        for row in manifest.itertuples():
            day = re.match(r"ztf_(\d{14})_", row.source_image)[1]
            assert row.file == f"object_{row.object}_{row.filter}_{day}.fits"
            header = fits.getheader(tmp_path / row.file)
            assert (header["FILENAME"], header["FILTER"]) == (row.source_image, f"ZTF_{row.filter[1]}")
            assert offset_from_middle(tmp_path / row.file, row.RA, row.DEC) < 3

    def test_manifest_keeps_names_and_rows_of_the_list(self, objects, tmp_path, service):
        returned = fetch(objects, tmp_path, service)
        manifest = read_manifest(tmp_path)
        pd.testing.assert_frame_equal(manifest, returned, rtol=0, atol=1e-7)
        first = manifest.drop_duplicates("object")
        assert first["name"].tolist() == objects["name"].tolist()
        assert first["object"].tolist() == [0, 1, 2]
        assert set(manifest["type"]) == {""}

    def test_names_that_no_table_can_hold_do_no_harm(self, objects, tmp_path, service):
        odd = objects.assign(name=["a\0b", "two\nlines", "t\xe9"])
        fetch(odd, tmp_path, service, filters="zi", n_images=1)
        assert read_manifest(tmp_path)["name"].tolist() == ["a b", "two lines", "t\xe9"]
        assert set(fetch(odd, tmp_path, service, filters="zi", n_images=1)["status"]) == {"saved"}

    def test_images_are_the_best_of_all_nights(self, objects, tmp_path, service, sky):
        manifest = fetch(objects.head(1), tmp_path, service)
        for code, rows in manifest.groupby("filter"):
            first, *others = ranked_images(sky, objects, code)
            second = next(name for name in others if night(name) != night(first))
            assert rows["source_image"].tolist() == [first, second]

    def test_one_search_serves_a_patch_and_a_filter(self, mock_positions, tmp_path, service):
        stars = mock_positions[0]
        patch = stars[stars["RA"].between(5.1, 5.9) & stars["DEC"].between(-0.9, -0.1)].head(4)[["RA", "DEC"]]
        assert len(fetch(patch, tmp_path, service)) == 4 * 4
        assert [arguments[3] for arguments in service.searches] == list(FILTERS)

    def test_fewer_nights_than_wanted_give_what_there_is(self, objects, tmp_path, service):
        manifest = fetch(objects.head(1), tmp_path, service, filters="zr", n_images=20)
        saved = manifest["status"] == "saved"
        assert 2 <= saved.sum() == len(files(tmp_path)) < 20
        assert saved.is_monotonic_decreasing
        nights = f"no more than {saved.sum()} nights have an image sharper than {MAX_SEEING:g} arcsec"
        expected = f"skipped: {nights} that holds it well inside its edges"
        assert set(manifest["status"][~saved]) == {expected}
        assert set(manifest["file"][~saved]) == {""}

    def test_object_without_image_in_a_filter_has_a_line_for_it(self, objects, tmp_path, sky):
        class WithoutRed(Recorder):
            def search_images(self, *arguments):
                if arguments[3] == "zr":
                    raise NothingFound("none")
                return super().search_images(*arguments)

        manifest = fetch(objects, tmp_path, WithoutRed(sky), n_images=1)
        red = manifest["filter"] == "zr"
        assert set(manifest["status"][red]) == {
            f"skipped: no image sharper than {MAX_SEEING:g} arcsec holds it well inside its edges"
        }
        assert set(manifest["status"][~red]) == {"saved"}
        assert len(manifest) == 6

    def test_empty_sky_is_no_obstacle_but_positions_off_all_images_are_skipped(self, tmp_path, service):
        table = pd.DataFrame({"RA": [7.5001, 200.0], "DEC": [-2.5001, 0.0]})
        manifest = fetch(table, tmp_path, service, n_images=1)
        assert manifest.groupby("object")["status"].nunique().tolist() == [1, 1]
        assert set(manifest["status"][manifest["object"] == 1]) == {
            f"skipped: no image sharper than {MAX_SEEING:g} arcsec holds it well inside its edges"
        }

    def test_so_many_objects_are_fetched_with_all_their_images(self, objects, tmp_path, service):
        lost = pd.concat([pd.DataFrame({"RA": [200.0], "DEC": [0.0]}), objects], ignore_index=True)
        manifest = fetch(lost, tmp_path, service, n_cutouts=2)
        assert Counter(manifest["object"]) == {0: 4, 1: 4, 2: 4}


class TestOwnNumbers:
    def test_rows_with_faults_are_not_fetched_and_keep_their_numbers(self, objects, tmp_path, service):
        table = objects.assign(fault=["", "RA 'x' is no number", ""])
        table.loc[1, ["RA", "DEC"]] = np.nan
        manifest = fetch(table, tmp_path, service, filters="zi", n_images=1)
        assert manifest["object"].tolist() == [0, 2]
        assert [name[:9] for name in manifest["file"]] == ["object_0_", "object_2_"]

    def test_file_of_an_astronomer_is_fetched_as_object_list_reads_it(self, objects, tmp_path, service):
        lines = [
            f"{row.name};{row.RA:.6f};{row.DEC:.6f};2000;-1000" for row in objects.itertuples(index=False)
        ]
        lines.insert(1, "unknown;;;;")
        (tmp_path / "mine.csv").write_text("\n".join(["Name;RAJ2000;DEJ2000;pmRA;pmDE", *lines]))
        manifest = fetch(
            object_list(tmp_path / "mine.csv"), tmp_path / "out", service, filters="zi", n_images=1
        )
        assert manifest["object"].tolist() == [0, 2, 3]
        assert manifest["name"].tolist() == objects["name"].tolist()
        assert set(manifest["status"]) == {"saved"}
        for row in manifest.itertuples():
            assert offset_from_middle(tmp_path / "out" / row.file, row.RA, row.DEC) > 15

    def test_list_of_nothing_but_faults_fetches_nothing(self, objects, tmp_path, service):
        fetch(objects, tmp_path, service)
        asked = len(service.images)
        assert fetch(objects.assign(fault="bad"), tmp_path, service).empty
        assert len(service.images) == asked

    def test_parts_of_a_list_share_a_folder_under_their_own_numbers(self, objects, tmp_path, service):
        whole = fetch(objects, tmp_path / "whole", service)
        for part in ([0, 1], [2]):
            fetch(objects.iloc[part].assign(object=part), tmp_path / "parts", service)
        assert files(tmp_path / "parts") == files(tmp_path / "whole")
        pd.testing.assert_frame_equal(read_manifest(tmp_path / "parts"), whole, rtol=0, atol=1e-7)


class TestTypes:
    def test_types_without_more_are_fetched_as_ever(self, mock_positions, tmp_path, service):
        """Names, numbers and motions of a list change nothing in the names of files, and in the manifest."""
        stars = mock_positions[0].head(3)
        plain = fetch_cutouts(stars, tmp_path / "plain", service, progress=False)
        named = stars.assign(name="x", fault="", pmra=np.nan, pmdec=np.nan, ref_epoch=np.nan)
        fetch_cutouts(named, tmp_path / "named", service, filters=["zi"], n_images=1, progress=False)
        assert plain["file"].tolist() == ["star_0.fits", "star_1.fits", "star_2.fits"]
        assert files(tmp_path / "named") == files(tmp_path / "plain")
        contents = [(tmp_path / name / "manifest.csv").read_bytes() for name in ("plain", "named")]
        assert contents[0] == contents[1]
        assert contents[0].startswith(
            b"file,RA,DEC,type,source_image,tried,trail,origin,filter,max_seeing,max_infobits"
        )

    def test_several_images_of_both_classes_keep_their_labels(self, mock_positions, tmp_path, service):
        manifest = fetch([table.head(2) for table in mock_positions], tmp_path, service)
        assert set(manifest["status"]) == {"saved"}
        assert manifest["type"].isin(["PSF"]).sum() == 8
        cutouts = load_cutouts(tmp_path)
        assert np.bincount(cutouts.labels).tolist() == [8, 8]
        assert "object" not in cutouts.table


class TestMotion:
    def moving(self, objects):
        return objects.head(1).assign(pmra=2000.0, pmdec=-1000.0, ref_epoch=2010.8)

    def test_cutout_is_centred_where_the_star_is_on_the_image(self, objects, tmp_path, service):
        manifest = fetch(self.moving(objects), tmp_path, service)
        assert set(manifest["status"]) == {"saved"}
        for row in manifest.itertuples():
            header = fits.getheader(tmp_path / row.file)
            years = 2000 + (header["OBSMJD"] - 51544.5) / 365.25 - 2010.8
            ra = row.RA + 2.0 * years / 3600 / np.cos(np.radians(row.DEC))
            assert offset_from_middle(tmp_path / row.file, ra, row.DEC - 1.0 * years / 3600) < 1
            assert offset_from_middle(tmp_path / row.file, row.RA, row.DEC) > 15
        np.testing.assert_allclose(manifest[["RA", "DEC"]].drop_duplicates(), objects[["RA", "DEC"]].head(1))

    def test_file_of_a_moving_star_that_is_not_listed_is_adopted(self, objects, tmp_path, service):
        fetch(self.moving(objects), tmp_path, service)
        content = (tmp_path / "manifest.csv").read_bytes()
        (tmp_path / "manifest.csv").write_bytes(content.splitlines(keepends=True)[0])
        asked = len(service.images)
        fetch(self.moving(objects), tmp_path, service)
        assert len(service.images) == asked
        assert (tmp_path / "manifest.csv").read_bytes() == content

    def test_single_image_of_a_star_is_centred_too(self, mock_positions, tmp_path, service):
        star = mock_positions[0].head(1).assign(pmra=2000.0, pmdec=0.0, ref_epoch=2010.8)
        (row,) = fetch_cutouts(star, tmp_path, service, progress=False).itertuples()
        assert (row.file, row.status) == ("star_0.fits", "saved")
        assert offset_from_middle(tmp_path / row.file, row.RA, row.DEC) > 14


class TestContinuing:
    def test_repeated_fetch_asks_for_nothing(self, objects, tmp_path, service, sky):
        first = fetch(objects, tmp_path, service)
        again = Recorder(sky)
        pd.testing.assert_frame_equal(fetch(objects, tmp_path, again), first, rtol=0, atol=1e-7)
        assert again.images == again.searches == []

    @pytest.mark.parametrize("more", [{"filters": FILTERS, "n_images": 1}, {"filters": "zr", "n_images": 3}])
    def test_more_filters_or_images_add_to_the_folder(self, objects, tmp_path, service, sky, more):
        fetch(objects, tmp_path, service, filters="zr", n_images=1)
        before = files(tmp_path)
        again = Recorder(sky)
        manifest = fetch(objects, tmp_path, again, **more)
        saved = manifest[manifest["status"] == "saved"]
        assert len(again.images) == len(saved) - 3
        assert before.items() <= files(tmp_path).items()
        assert sorted(saved["file"]) == sorted(files(tmp_path))
        nights = saved.assign(night=saved["source_image"].map(night))
        assert not nights.duplicated(["object", "filter", "night"]).any()

    def test_fewer_images_are_served_from_the_folder(self, objects, tmp_path, service):
        fetch(objects, tmp_path, service)
        asked = len(service.images)
        assert len(fetch(objects, tmp_path, service, filters="zr", n_images=1)) == 3
        assert len(service.images) == asked

    def test_deleted_file_alone_is_fetched_again(self, objects, tmp_path, service, sky):
        name = fetch(objects, tmp_path, service)["file"][1]
        before = files(tmp_path)
        (tmp_path / name).unlink()
        again = Recorder(sky)
        fetch(objects, tmp_path, again)
        assert len(again.images) == 1
        assert files(tmp_path) == before

    def test_stopped_fetch_is_continued(self, objects, tmp_path, sky):
        with pytest.raises(KeyboardInterrupt, match="saved, 0 skipped, 0 failed"):
            fetch(objects, tmp_path, Recorder(sky, {7: interrupt}))
        there = len(files(tmp_path))
        rest = Recorder(sky)
        fetch(objects, tmp_path, rest)
        assert 0 < there == 12 - len(rest.images)
        assert files(tmp_path) == files_of(fetch, objects, tmp_path / "undisturbed", sky)

    def test_other_lists_and_limits_are_refused(self, objects, tmp_path, service):
        fetch(objects, tmp_path, service)
        with pytest.raises(ManifestError, match=r"object_0_zr_\d{14}\.fits was made for RA"):
            fetch(objects[::-1], tmp_path, service)
        with pytest.raises(ManifestError, match="made with max_seeing 2.5, not 2.0"):
            fetch(objects, tmp_path, service, max_seeing=2.0)
        with pytest.raises(ManifestError, match="its files are named by their images"):
            fetch(objects.assign(type="PSF"), tmp_path, service, filters="zi", n_images=1)

    @pytest.mark.parametrize("name", ["object_9_zr_20190105192708.fits", "object_0.fits", "mine.fits"])
    def test_file_of_something_else_is_refused(self, objects, tmp_path, service, name):
        source = tmp_path / fetch(objects, tmp_path, service)["file"][0]
        (tmp_path / name).write_bytes(source.read_bytes())
        with pytest.raises(ManifestError, match=f"does not list, such as {name}"):
            fetch(objects, tmp_path, service)


def files_of(fetch, objects, directory, service):
    fetch(objects, directory, service)
    return files(directory)


class TestNextBestImage:
    @pytest.fixture
    def ranked(self, objects, sky):
        """Return the best images of two nights, and the next best if the first is of no use."""
        first, *others = ranked_images(sky, objects, "zi")
        second = next(name for name in others if night(name) != night(first))
        others.remove(second)
        return first, second, next(name for name in others if night(name) != night(second))

    @pytest.mark.parametrize("fault", [missing, not_fits])
    def test_names_the_file(self, objects, tmp_path, sky, ranked, fault):
        first, second, third = ranked
        service = Recorder(sky, {0: fault})
        manifest = fetch(objects.head(1), tmp_path, service, filters="zi")
        assert manifest["status"].tolist() == ["saved", "saved"]
        assert manifest["source_image"].tolist() == [third, second]
        assert manifest["tried"].str.startswith(f"{first}: ").tolist() == [True, False]
        assert manifest["file"].tolist() == [f"object_0_zi_{name[4:18]}.fits" for name in (third, second)]
        assert sorted(files(tmp_path)) == sorted(manifest["file"])
        again = Recorder(sky)
        fetch(objects.head(1), tmp_path, again, filters="zi")
        assert again.images == []

    def test_images_of_no_use_end_in_one_line_a_slot(self, objects, tmp_path, sky):
        service = Recorder(sky, dict.fromkeys(range(99), not_fits))
        manifest = fetch(objects.head(1), tmp_path, service, filters="zi")
        assert manifest["status"].str.startswith("skipped: ").all()
        assert len(set(service.images)) == len(service.images) == 2 * IMAGES_PER_OBJECT
        assert not files(tmp_path)
        again = Recorder(sky)
        fetch(objects.head(1), tmp_path, again, filters="zi")
        assert again.images == []

    def test_missing_images_are_asked_for_in_the_next_run(self, objects, tmp_path, sky, ranked):
        service = Recorder(sky, dict.fromkeys(range(99), missing))
        manifest = fetch(objects.head(1), tmp_path, service, filters="zi")
        assert manifest["status"].str.startswith("failed: ").all()
        again = Recorder(sky)
        manifest = fetch(objects.head(1), tmp_path, again, filters="zi")
        assert manifest["source_image"].tolist() == again.images == list(ranked[:2])
        assert read_manifest(tmp_path)["status"].tolist() == ["saved", "saved"]

    def test_file_that_was_saved_but_not_listed_is_kept_though_a_better_image_is_back(
        self, objects, tmp_path, sky, ranked
    ):
        fetch(objects.head(1), tmp_path, Recorder(sky, {0: missing}), filters="zi")
        before = files(tmp_path)
        assert not any(night(ranked[0]) + ranked[0][12:18] in name for name in before)
        (tmp_path / "manifest.csv").unlink()  # as if killed before the first line
        again = Recorder(sky)
        fetch(objects.head(1), tmp_path, again, filters="zi")
        assert again.images == []
        assert files(tmp_path) == before


class TestLoading:
    def test_cutouts_have_the_number_of_their_object_and_no_label(self, objects, tmp_path, service, recwarn):
        manifest = fetch(objects, tmp_path / "cutouts", service)
        cutouts = load_cutouts(tmp_path / "cutouts")
        assert not recwarn.list
        assert set(cutouts.labels) == {-1}
        assert cutouts.table["object"].dtype.kind == "i"
        listed = manifest.set_index("file").loc[cutouts.table["name"] + ".fits"]
        assert cutouts.table["object"].tolist() == listed["object"].tolist()
        assert ("ZTF_" + listed["filter"].str[1]).tolist() == cutouts.table["filter"].tolist()

    def test_numbers_survive_tables_and_parquet(self, objects, tmp_path, service):
        fetch(objects, tmp_path / "cutouts", service, n_images=1)
        cutouts = load_cutouts(tmp_path / "cutouts")
        cutouts.to_parquet(tmp_path / "cutouts.parquet")
        parts = [
            CutoutSet.from_table(cutouts.to_table()),
            CutoutSet.read_parquet(tmp_path / "cutouts.parquet"),
        ]
        for copy in parts:
            assert copy.table["object"].dtype == cutouts.table["object"].dtype
            assert copy.table["object"].tolist() == cutouts.table["object"].tolist()


def test_header_of_the_answer_is_checked_for_every_filter(objects, tmp_path, sky):
    """An answer from an image of another filter is not saved under this one's name."""

    def in_green(content):
        with fits.open(BytesIO(content)) as hdus:
            hdus[0].header["FILENAME"] = hdus[0].header["FILENAME"].replace("_zi_", "_zg_")
            file = BytesIO()
            hdus.writeto(file)
        return file.getvalue()

    manifest = fetch(objects.head(1), tmp_path, Recorder(sky, {0: in_green}), filters="zi", n_images=1)
    assert "the header is that of" in manifest["tried"][0]
    assert manifest["status"][0] == "saved"
