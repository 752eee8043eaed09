"""Positions in, classes out, offline: every row has its answer, and no work is done twice."""

import re
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.table import Table
from distributed import LocalCluster
from helpers import StoredSky
from hypothesis import given
from hypothesis import strategies as st

from ztf_sg.classification import StarGalaxyClassifier
from ztf_sg.cutouts import load_cutouts
from ztf_sg.fetching import FetchStopped, fetch_cutouts
from ztf_sg.own_objects import classify_cutouts, classify_positions, images_by_band, places, run
from ztf_sg.own_objects.part import JUDGED
from ztf_sg.own_objects.places import divide_by_place
from ztf_sg.own_objects.results import classes_of, is_incomplete, summarize
from ztf_sg.services.errors import ServiceDown, Unreachable
from ztf_sg.services.irsa import Irsa
from ztf_sg.survey import SurveyError
from ztf_sg.survey.running import open_scheduler, run_tasks

OPTIONS = {"filters": ("zi",), "n_images": 1, "progress": False}


@pytest.fixture(scope="module")
def stored(mock_sky):
    """Return the mock sky, which draws each cutout once for all tests."""
    return StoredSky(mock_sky)


@pytest.fixture
def sky(stored):
    return stored.fresh()


@pytest.fixture(scope="module")
def bright(mock_positions):
    """Return 20 stars and 20 galaxies, with their types as truth."""
    table = pd.concat([each.head(20) for each in mock_positions], ignore_index=True)
    return table[["RA", "DEC"]].assign(truth=table["TYPE"])


def classify(positions, directory, sky, **options):
    return classify_positions(positions, directory, sky, **OPTIONS | options)


def files(directory):
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}


class TestTable:
    def test_saturated_objects_that_seem_to_be_galaxies_are_ambiguous(self):
        images = pd.DataFrame({"object": [0, 0, 1, 2], "filter": "i", "log_ratio": [5.0, 5.0, -5.0, 5.0]})
        images = images.assign(status="saved", source_image="image.fits")
        images[list(JUDGED)] = False
        images["saturated"] = [True, False, True, False]
        table = classes_of(images, np.arange(3), 0.5, 0.9)
        assert table["class"].tolist() == ["galaxy", "star", "galaxy"]
        assert table["ambiguous"].tolist() == [True, False, False]

    def test_two_hundred_positions_in_one_run(self, bright, sky, tmp_path, monkeypatch):
        monkeypatch.setattr(places, "OBJECTS", 60)
        positions = pd.concat([bright] * 5).sample(frac=1, random_state=0).reset_index(drop=True)
        table = classify(positions, tmp_path, sky)
        assert len(table) == 200
        assert table["object"].tolist() == list(range(200))
        np.testing.assert_array_equal(table[["RA", "DEC"]], positions[["RA", "DEC"]])
        assert (
            set(table["n_images"]) == {1} and set(table["filters"]) == {"i"} and set(table["reason"]) == {""}
        )
        truth = np.where(positions["truth"] == "PSF", "star", "galaxy")
        assert (table["class"] == truth).mean() > 0.9
        assert ((table["p_galaxy"] > 0.5) == (table["class"] == "galaxy")).all()
        assert table.groupby("RA")["p_galaxy"].nunique().max() == 1, "the same object has the same answer"
        assert len(list(tmp_path.glob("part-*.parquet"))) == 4
        assert not [name for name in files(tmp_path) if name.endswith(".fits")]

    def test_rows_without_a_class_stay_in_their_place_and_say_why(self, bright, sky):
        positions = bright[["RA", "DEC"]].head(6).assign(id=list("abcdef"))
        positions.loc[1, "RA"] = np.nan
        positions.loc[3, "DEC"] = 95
        positions.loc[4, ["RA", "DEC"]] = 100, 50
        table = classify(positions, None, sky)
        assert table["name"].tolist() == list("abcdef")
        assert (table["class"] != "").tolist() == [True, False, True, False, False, True]
        assert table["p_galaxy"].isna().tolist() == [False, True, False, True, True, False]
        kinds = table["reason"].str.split(":").str[0].tolist()
        assert kinds == ["", "bad row", "", "bad row", "no image", ""]
        assert not is_incomplete(table).any()
        assert "asked 6, classified 3" in summarize(table)
        assert "without a class 3: bad row 2, no image 1" in summarize(table)

    def test_list_of_nothing_but_bad_rows_has_a_row_each(self, sky, tmp_path):
        table = classify(pd.DataFrame({"RA": [np.nan, 5.0], "DEC": [0.0, 95.0]}), tmp_path, sky)
        assert (table["class"] == "").all() and len(table) == 2
        assert not sky.searches

    def test_types_of_a_list_do_not_matter(self, bright, sky):
        positions = bright.rename(columns={"truth": "TYPE"}).head(3)
        assert (classify(positions, None, sky)["class"] != "").all()

    def test_images_of_several_filters_and_nights_are_combined(self, bright, sky, tmp_path):
        options = {"filters": ("zi", "zr"), "n_images": 2, "max_seeing": 2.5}
        table = classify(bright.head(3), tmp_path, sky, **options)
        assert table["n_images"].tolist() == [4] * 3
        assert set(table["filters"]) == {"ri"}
        assert len(pd.read_parquet(tmp_path / "cutouts", columns=["name"])) == 12

    def test_table_says_what_it_was_made_with(self, bright, sky, tmp_path):
        path = tmp_path / "positions.ecsv"
        Table.from_pandas(bright[["RA", "DEC"]].head(2)).write(path)
        attrs = classify(path, None, sky, galaxy_fraction=0.2).attrs
        assert attrs["list"] == str(path)
        assert attrs["images_from"] == sky.origin
        assert attrs["model"] == "pretrained"
        assert attrs["galaxy_fraction"] == 0.2
        own = StarGalaxyClassifier.pretrained()
        own.training_fraction_ = 0.4
        assert classify(path, None, sky, model=own).attrs["model"] == "of one's own"
        assert re.match(r"\d{4}-\d\d-\d\dT", attrs["asked"])


class TestPriors:
    def test_another_share_of_galaxies_takes_no_new_fetch(self, bright, sky, tmp_path):
        first = classify(bright.head(4), tmp_path, sky)
        asked = len(sky.asked)
        second = classify(bright.head(4), tmp_path, sky, galaxy_fraction=0.01)
        assert len(sky.asked) == asked
        assert (second["p_galaxy"] < first["p_galaxy"]).all()

    def test_share_of_galaxies_may_differ_from_row_to_row(self, bright, sky, tmp_path):
        fractions = [0.5, 0.01, 0.5, 0.01]
        both = classify(bright.head(4), tmp_path, sky, galaxy_fraction=fractions)
        for fraction in set(fractions):
            alone = classify(bright.head(4), tmp_path, sky, galaxy_fraction=fraction)
            rows = np.equal(fractions, fraction)
            np.testing.assert_allclose(both["p_galaxy"][rows], alone["p_galaxy"][rows], rtol=1e-12)

    def test_share_of_the_model_counts_if_none_is_given(self, bright, sky, tmp_path):
        model = StarGalaxyClassifier.pretrained(any_depth=True)
        plain = classify(bright.head(4), tmp_path, sky, galaxy_fraction=0.1)
        model.galaxy_fraction = 0.1
        pd.testing.assert_frame_equal(classify(bright.head(4), tmp_path, sky, model=model), plain)

    @pytest.mark.parametrize("fraction", [0, 1.0, [0.5], [0.5, 2.0], "column", True])
    def test_share_that_is_none_is_refused(self, bright, sky, fraction):
        with pytest.raises(ValueError, match="galaxy_fraction"):
            classify(bright.head(2), None, sky, galaxy_fraction=fraction)


class TestResuming:
    def test_stopped_run_goes_on_and_asks_for_nothing_twice(self, bright, sky, tmp_path, monkeypatch):
        monkeypatch.setattr(places, "OBJECTS", 5)
        sky.faults[13] = KeyboardInterrupt()
        with pytest.raises(FetchStopped, match="stopped with 2 of 4 parts of the list done.*run it again"):
            classify(bright[::2], tmp_path, sky)
        parts = {path: path.stat().st_mtime_ns for path in tmp_path.glob("part-*.parquet")}
        assert len(parts) == 2
        table = classify(bright[::2], tmp_path, sky)
        assert {path: path.stat().st_mtime_ns for path in parts} == parts
        assert len(sky.asked) == 21, "each once, and the one that was under way again"
        pd.testing.assert_frame_equal(table, classify(bright[::2], None, sky))

    @pytest.mark.parametrize(
        ("change", "name"),
        [
            ({"filters": ("zr",)}, "filters"),
            ({"n_images": 2}, "n_images"),
            ({"max_seeing": 2.0}, "max_seeing"),
            ({"positions": "other"}, "list"),
            ({"model": "other"}, "model"),
            ({"origin": "other"}, "origin"),
        ],
    )
    def test_results_of_something_else_are_refused_by_name(self, bright, sky, tmp_path, change, name):
        positions = bright.head(2)
        classify(positions, tmp_path, sky)
        if "positions" in change:
            positions = positions.assign(RA=positions["RA"] + 1e-7)
            change = {}
        if "model" in change:
            change = {"model": StarGalaxyClassifier.pretrained()}
            change["model"].training_fraction_ = 0.4
        sky.origin = change.pop("origin", sky.origin)
        with pytest.raises(ValueError, match=f"results with another {name}; name another"):
            classify(positions, tmp_path, sky, **change)

    def test_two_runs_at_a_time_are_refused(self, bright, sky, tmp_path):
        class Second:
            def __getattr__(self, name):
                return getattr(sky, name)

            def get_cutout(self, *arguments):
                with pytest.raises(SurveyError, match="another run is at work"):
                    classify(bright.head(1), tmp_path, sky)
                return sky.get_cutout(*arguments)

        assert (classify(bright.head(1), tmp_path, Second())["class"] != "").all()

    def test_nothing_is_left_of_a_temporary_folder(self, bright, sky, tmp_path, monkeypatch):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        classify(bright.head(1), None, sky)
        assert not list(tmp_path.iterdir())


class TestFailures:
    def test_images_that_did_not_come_are_said_and_asked_for_again(self, bright, sky, tmp_path):
        options = {"filters": ("zi", "zr")}
        sky.missing = lambda image, ra: ra == bright["RA"][1] or image["filtercode"] == "zr"
        with pytest.warns(UserWarning, match="4 of 4 objects lack images that did not arrive; run it again"):
            table = classify(bright.head(4), tmp_path, sky, **options)
        assert table["n_failed"].tolist() == [1, 2, 1, 1]
        assert table["n_images"].tolist() == [1, 0, 1, 1]
        assert (table["class"] != "").tolist() == [True, False, True, True]
        assert table["reason"].str.match(r"failed: [12] of 2 images; .*HTTP status 404").all()
        assert "classified without images that the archive did not deliver so far: 3" in summarize(table)
        sky.missing = None
        asked = len(sky.asked)
        table = classify(bright.head(4), tmp_path, sky, **options)
        assert len(sky.asked) == asked + 5
        assert set(table["n_images"]) == {2} and not is_incomplete(table).any()
        assert not [name for name in files(tmp_path) if name.endswith(".fits")]

    def test_file_that_was_damaged_on_the_way_is_no_usable_image(self, bright, sky, tmp_path):
        sky.faults[3] = KeyboardInterrupt()
        with pytest.raises(FetchStopped):
            classify(bright.head(4), tmp_path, sky)
        (path, *_) = sorted(tmp_path.rglob("object_*.fits"))
        path.write_bytes(b"")
        table = classify(bright.head(4), tmp_path, sky)
        assert (table["class"] == "").sum() == 1
        assert table["reason"].str.match("no usable image: .*object_.*fits: is empty").sum() == 1

    def test_search_that_fails_costs_no_other_part(self, bright, sky, tmp_path, monkeypatch):
        monkeypatch.setattr(places, "OBJECTS", 5)
        sky.search_faults[1] = Unreachable("no answer")
        with pytest.warns(UserWarning, match="5 of 20 objects could not be asked for"):
            table = classify(bright[::2], tmp_path, sky)
        without = table["class"] == ""
        assert without.sum() == 5 and is_incomplete(table).sum() == 5
        assert set(table["reason"][without]) == {"not asked: no answer"}
        assert (classify(bright[::2], tmp_path, sky)["class"] != "").all()

    def test_service_that_is_down_ends_the_run(self, bright, sky, tmp_path, monkeypatch):
        monkeypatch.setattr(places, "OBJECTS", 5)
        sky.faults[7] = ServiceDown("no answer for 900 s")
        with pytest.raises(ServiceDown, match="no answer for 900 s.*nothing is lost"):
            classify(bright[::2], tmp_path, sky)
        assert 8 <= len(sky.asked) <= 10, "the other parts did not ask"
        assert (classify(bright[::2], tmp_path, sky)["class"] != "").all()

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"filters": ("i",)}, "filters"),
            ({"n_images": 0}, "n_images"),
            ({"max_seeing": -1}, "max_seeing"),
            ({"workers": 0}, "workers"),
            ({"workers": "threads"}, "workers"),
            ({"max_error": 2}, "max_error"),
        ],
    )
    def test_argument_without_sense_is_named_before_any_work(self, bright, sky, tmp_path, options, match):
        with pytest.raises(ValueError, match=match):
            classify(bright.head(1), tmp_path / "new", sky, **options)
        assert not sky.searches and not files(tmp_path)

    def test_service_that_is_none_is_a_type_error(self, bright, tmp_path):
        with pytest.raises(TypeError, match="image service"):
            classify(bright.head(1), tmp_path, "irsa")


class TestWorkers:
    def test_workers_of_a_cluster_find_what_this_process_finds(self, bright, sky, tmp_path, monkeypatch):
        monkeypatch.setattr(places, "OBJECTS", 5)
        alone = classify(bright[::2], None, sky)
        options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
        with LocalCluster(processes=False, **options) as cluster:
            pd.testing.assert_frame_equal(classify(bright[::2], tmp_path, sky, workers=cluster), alone)
        assert len(list(tmp_path.glob("part-*.parquet"))) == 4

    def test_cluster_has_no_more_tasks_at_work_than_it_may(self):
        def work(path):
            started = time.monotonic()
            time.sleep(0.05)
            return {"file": path.name, "span": (started, time.monotonic())}

        tasks = [(Path(str(number)),) for number in range(4)]
        options = {"n_workers": 1, "threads_per_worker": 4, "dashboard_address": None}
        with LocalCluster(processes=False, **options) as cluster, open_scheduler(cluster) as client:
            rows = run_tasks(work, tasks, client, progress=False, at_a_time=1)
        ends = np.array(sorted(row["span"] for row in rows))
        assert len(rows) == 4 and (ends[1:, 0] >= ends[:-1, 1]).all()

    def test_requests_at_a_time_are_shared_among_workers(self):
        irsa = Irsa(concurrency=4)
        assert run.share_of(irsa, 1) is irsa
        assert [run.share_of(irsa, number).concurrency for number in (2, 3, 4)] == [2, 1, 1]
        assert irsa.concurrency == 4

    @pytest.mark.parametrize(("workers", "expected"), [(1, 1), (3, 3), (8, 4)])
    def test_no_more_workers_than_requests_at_a_time(self, workers, expected, mock_sky):
        assert run._number_of_workers(workers, None, Irsa(concurrency=4)) == expected
        assert run._number_of_workers(workers, None, mock_sky) == workers


class TestCutouts:
    def test_cutouts_that_are_kept_give_the_same_classes(self, bright, sky, tmp_path):
        options = {"filters": ("zi", "zr"), "max_seeing": 2.5}
        table = classify(bright.head(5), tmp_path, sky, **options)
        again = classify_cutouts(tmp_path / "cutouts")
        assert again["name"].tolist() == [f"object_{number}" for number in range(5)]
        columns = ["p_galaxy", "class", "ambiguous", "n_images", "filters", "reason"]
        pd.testing.assert_frame_equal(again[columns], table[columns])

    def test_folder_of_fetched_cutouts_has_the_names_of_its_list(self, bright, sky, tmp_path):
        positions = bright.head(3).assign(name=["M 31", "b", "c"])[["RA", "DEC", "name"]]
        fetch_cutouts(positions, tmp_path, sky, filters=("zi", "zr"), progress=False)
        assert classify_cutouts(tmp_path)["name"].tolist() == ["M 31", "b", "c"]

    def test_cutouts_without_a_number_are_objects_each(self, simulated_cutouts):
        table = classify_cutouts(simulated_cutouts)
        cutouts = load_cutouts(simulated_cutouts)
        assert table["name"].tolist() == cutouts.table["name"].tolist()
        assert (table["object"] == -1).all()
        probability = StarGalaxyClassifier.pretrained().predict_proba(cutouts)[:, 1]
        assert ((table["p_galaxy"] > 0.5) == (probability > 0.5)).all()

    def test_cutout_that_cannot_be_used_has_a_row_with_the_reason(self, simulated_cutouts, tmp_path):
        for path in sorted(simulated_cutouts.glob("star_*.fits"))[:3]:
            (tmp_path / path.name).write_bytes(path.read_bytes())
        (tmp_path / "star_99.fits").write_bytes(b"")
        table = classify_cutouts(tmp_path)
        assert len(table) == 4
        assert table.set_index("name").loc["star_99.fits", "reason"].startswith("no usable image: ")

    def test_images_are_found_by_object_and_band(self, bright, sky, tmp_path):
        options = {"filters": ("zi", "zr"), "max_seeing": 2.5}
        table = classify(bright.head(3), tmp_path, sky, **options).iloc[[2, 0]]
        images = images_by_band(tmp_path / "cutouts", table)
        assert [sorted(each) for each in images] == [["i", "r"]] * 2
        assert not np.array_equal(images[0]["i"], images[1]["i"])


class TestPlaces:
    @given(
        st.lists(st.tuples(st.floats(0, 360), st.floats(-90, 90)), max_size=60),
        st.integers(1, 20),
    )
    def test_every_row_is_in_one_part_that_is_not_too_large(self, positions, most):
        ra, dec = np.array(positions).reshape(-1, 2).T
        parts = divide_by_place(ra, dec, most)
        assert sorted(np.concatenate([[], *parts])) == list(range(len(positions)))
        assert all(0 < len(part) <= most for part in parts)

    def test_neighbours_across_the_seam_and_the_pole_stay_together(self):
        ra = np.array([359.9, 90.0, 0.1, 270.0, 180.0, 0.0])
        dec = np.array([0.0, 89.9, 0.1, 89.8, 89.9, 0.2])
        parts = [part.tolist() for part in divide_by_place(ra, dec, 3)]
        assert sorted(parts) == [[0, 2, 5], [1, 3, 4]]

    def test_many_rows_at_one_place_are_divided(self):
        assert [len(part) for part in divide_by_place(np.ones(8), np.ones(8), 2)] == [2] * 4

    def test_part_holds_a_limited_number_of_cutouts(self):
        assert places.objects_per_part(1) == places.OBJECTS
        assert places.objects_per_part(100) * 100 <= places.CUTOUTS
        assert places.objects_per_part(10**6) == 1
