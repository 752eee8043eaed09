import os
import re
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import dask
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from filelock import FileLock
from helpers import ROOT
from sklearn.exceptions import NotFittedError

import ztf_sg
from ztf_sg import CutoutSet, StarGalaxyClassifier, classify_partition, classify_survey
from ztf_sg.cutouts import CutoutError, list_cutouts, load_files
from ztf_sg.features import FLAGS, measure_features
from ztf_sg.survey import RESULT, SurveyError, read_skipped
from ztf_sg.survey import partition as tasks

BUNDLED = ROOT / "cutouts_test"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(ztf_sg.__file__).parents[1])}
ROWS = 15  # cutouts of a partition, at least: row groups of 10 make partitions of 20 and 10

BAD_ROWS = {  # of the flawed source, and why
    0: "lacks SATURATE",
    21: "400 of 400 pixels are NaN",
    22: "expected 20 x 20 px, got 25",
    23: "lacks GAIN",
    24: "SEEING = -1.0",
    30: "lacks SATURATE",
    **dict.fromkeys(range(50, 60), "EXPTIME = 0.0"),
}


def classify(source, destination, **options):
    options = {"partition": ROWS, "scheduler": "synchronous", "progress": False} | options
    return classify_survey(source, destination, **options)


def write(cutouts, path, row_group=10):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ztf_sg.cutouts.arrow.ROW_GROUP", row_group)
        cutouts.to_parquet(path)


def results(destination):
    paths = sorted(destination.glob("part-*.parquet"))
    return pd.concat([pd.read_parquet(path) for path in paths], ignore_index=True)


def contents(destination):
    return {path.name: path.read_bytes() for path in destination.glob("*.parquet")}


def times(destination):
    return {path.name: path.stat().st_mtime_ns for path in destination.glob("*.parquet")}


def assert_no_leftovers(destination, empty=()):
    names = {path.name for path in destination.iterdir() if path.suffix != ".parquet"}
    assert names == {"_survey"}
    assert {path.name for path in (destination / "_survey").iterdir()} - {".lock", "read", "skipped"} == {
        "model.npz",
        "settings.json",
        *empty,
    }
    assert not [path for name in empty for path in (destination / "_survey" / name).iterdir()]
    assert not list(destination.rglob("*.part"))


@pytest.fixture(scope="module")
def cutouts():
    """Return 30 galaxies and 30 stars that are within the training range."""
    return load_files(list_cutouts(BUNDLED)[1::25])


@pytest.fixture(scope="module")
def expected(cutouts):
    """Return what the pretrained classifier says of the cutouts, all at once."""
    model = StarGalaxyClassifier.pretrained()
    columns = {
        "p_galaxy": model.predict_proba(cutouts)[:, 1],
        "posterior_variance": model.posterior(cutouts)[1],
        "class": model.predict(cutouts).astype(np.int8),
        "ambiguous": model.ambiguous(cutouts),
        "outside": False,
    }
    flags = measure_features(cutouts, FLAGS)
    return cutouts.table[["name", "ra", "dec"]].assign(**columns, **flags)


@pytest.fixture(scope="module")
def source(cutouts, tmp_path_factory):
    """Return two files of three row groups each; the second by its number comes first by the alphabet."""
    folder = tmp_path_factory.mktemp("source")
    write(cutouts[:30], folder / "survey_2.parquet")
    write(cutouts[30:], folder / "survey_10.parquet")
    return folder


@pytest.fixture(scope="module")
def flawed(cutouts, tmp_path_factory):
    """Return a source with bad rows in all of its partitions, and none but bad ones in the last."""
    frame = cutouts.to_table().to_pandas()
    images = frame["image"].tolist()
    images[21] = np.full(400, np.nan, dtype=np.float32)
    images[22] = np.ones(25, dtype=np.float32)
    frame["image"] = pd.Series(images)
    frame.loc[23, "gain"] = np.nan
    frame.loc[24, "seeing"] = -1.0
    frame.loc[[0, 30], "saturate"] = np.nan
    frame.loc[50:, "exptime"] = 0.0
    folder = tmp_path_factory.mktemp("flawed")
    for number, rows in ((1, frame[:30]), (2, frame[30:])):
        table = pa.Table.from_pandas(rows, preserve_index=False)
        pq.write_table(table, folder / f"survey_{number}.parquet", row_group_size=10)
    return folder


@pytest.fixture(scope="module")
def blurred(cutouts, tmp_path_factory):
    """Return a source with 25 cutouts of bad seeing, in the first and in the last partition."""
    frame = cutouts.to_table().to_pandas()
    frame.loc[:14, "seeing"], frame.loc[50:, "seeing"] = 7.0, 8.0
    folder = tmp_path_factory.mktemp("blurred")
    table = pa.Table.from_pandas(frame, preserve_index=False)
    pq.write_table(table, folder / "survey.parquet", row_group_size=10)
    return folder


@pytest.fixture(scope="module")
def undisturbed(source, tmp_path_factory):
    destination = tmp_path_factory.mktemp("results") / "undisturbed"
    classify(source, destination)
    return destination


@pytest.fixture(scope="module")
def cluster():
    """Return a cluster of two processes."""
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options, processes=True) as cluster:
        yield cluster


class TestResults:
    def test_they_are_those_of_the_classifier_in_the_order_of_the_source(self, undisturbed, expected):
        found = results(undisturbed)
        pd.testing.assert_frame_equal(found, expected, rtol=1e-9, check_dtype=False)
        assert found["class"].tolist() == expected["class"].tolist()
        for path in undisturbed.glob("part-*.parquet"):
            assert pq.read_schema(path).equals(RESULT)
        assert RESULT.names == [
            "name",
            "ra",
            "dec",
            "p_galaxy",
            "posterior_variance",
            "class",
            "ambiguous",
            "outside",
            *FLAGS,
        ]

    def test_row_groups_are_not_divided(self, source, tmp_path, expected):
        parts = classify(source, tmp_path)
        assert parts["objects"].tolist() == [20, 10, 20, 10]
        assert parts["file"].tolist() == [f"part-0000{number}.parquet" for number in range(4)]
        assert parts["skipped"].tolist() == [0] * 4
        assert (parts[["reading", "features", "classifying", "writing"]] > 0).all(axis=None)
        assert_no_leftovers(tmp_path)
        small = tmp_path / "small"
        assert classify(source, small, partition=1)["objects"].tolist() == [10] * 6
        pd.testing.assert_frame_equal(results(small), expected, rtol=1e-9, check_dtype=False)

    def test_large_row_groups_are_streamed(self, cutouts, tmp_path, monkeypatch, expected):
        held, classified = [], tasks.classified
        monkeypatch.setattr(tasks, "BATCH", 16)
        monkeypatch.setattr(tasks, "classified", lambda *args: held.append(len(args[0])) or classified(*args))
        write(cutouts, tmp_path / "a.parquet", 60)
        parts = classify(tmp_path / "a.parquet", tmp_path / "results")
        assert parts["objects"].tolist() == [60]
        assert held == [16, 16, 16, 12]
        pd.testing.assert_frame_equal(results(tmp_path / "results"), expected, rtol=1e-9, check_dtype=False)

    def test_fits_folders_are_classified(self, cutouts, tmp_path, expected):
        folder = tmp_path / "fits"
        folder.mkdir()
        for name in cutouts.table["name"][:12]:
            shutil.copy(BUNDLED / f"{name}.fits", folder)
        for number in range(5):
            (folder / f"damaged_{number}.fits").write_bytes(b"SIMPLE")
        parts = classify(folder, tmp_path / "results", partition=5)
        assert parts["objects"].tolist() == [0, 5, 5, 2]
        assert parts["skipped"].tolist() == [5, 0, 0, 0]
        found = results(tmp_path / "results")
        pd.testing.assert_frame_equal(found, expected[:12], rtol=1e-9, check_dtype=False)
        skipped = read_skipped(tmp_path / "results")
        assert skipped["name"].tolist() == [f"damaged_{number}.fits" for number in range(5)]
        assert skipped["reason"].str.contains("is cut short").all()

    def test_another_model_and_share_of_errors_are_used(self, source, cutouts, tmp_path):
        model = StarGalaxyClassifier.pretrained()
        model.galaxy_fraction = 0.01
        classify(source, tmp_path, model=model, max_error=0.1)
        found = results(tmp_path)
        np.testing.assert_allclose(found["p_galaxy"], model.predict_proba(cutouts)[:, 1], rtol=1e-9)
        np.testing.assert_array_equal(found["ambiguous"], model.ambiguous(cutouts, max_error=0.1))

    def test_readers_of_folders_read_them(self, undisturbed):
        found = pd.read_parquet(undisturbed)
        pd.testing.assert_frame_equal(found, results(undisturbed))
        assert pyarrow.dataset.dataset(undisturbed).to_table().num_rows == 60

    def test_empty_row_groups_give_empty_parts(self, cutouts, tmp_path):
        table = cutouts[:10].to_table()
        with pq.ParquetWriter(tmp_path / "a.parquet", table.schema) as writer:
            for part in (table, table[:0], table):
                writer.write_table(part)
        sizes = [pq.ParquetFile(tmp_path / "a.parquet").metadata.row_group(n).num_rows for n in range(3)]
        assert sizes == [10, 0, 10]
        assert classify(tmp_path, tmp_path / "results", partition=10)["objects"].tolist() == [10, 10]
        write(cutouts[[]], tmp_path / "a.parquet")
        classify(tmp_path, tmp_path / "none")
        assert sum(len(pd.read_parquet(path)) for path in (tmp_path / "none").glob("*.parquet")) == 0

    def test_names_and_positions_may_be_missing(self, cutouts, tmp_path):
        frame = cutouts.to_table().to_pandas()
        frame.loc[3, "name"] = None
        frame.loc[4, ["ra", "dec"]] = np.nan
        frame.to_parquet(tmp_path / "a.parquet")
        assert classify(tmp_path, tmp_path / "results")["objects"].tolist() == [60]
        found = results(tmp_path / "results")
        assert np.flatnonzero(found["name"].isna()).tolist() == [3]
        assert np.flatnonzero(found["ra"].isna()).tolist() == [4]


class TestSchedulers:
    @pytest.mark.parametrize("scheduler", ["threads", pytest.param("processes", marks=pytest.mark.slow)])
    def test_of_this_machine_write_the_same(self, source, undisturbed, tmp_path, scheduler):
        with dask.config.set(num_workers=2):
            classify(source, tmp_path, scheduler=scheduler)
        assert contents(tmp_path) == contents(undisturbed)
        assert_no_leftovers(tmp_path)

    @pytest.mark.slow
    def test_clusters_clients_and_addresses_write_the_same(self, cluster, source, undisturbed, tmp_path):
        from distributed import Client

        classify(source, tmp_path / "cluster", scheduler=cluster)
        classify(source, tmp_path / "address", scheduler=cluster.scheduler_address)
        with Client(cluster) as client:
            classify(source, tmp_path / "client", scheduler=client)
            assert client.submit(sum, (1, 2)).result() == 3
        for name in ("cluster", "address", "client"):
            assert contents(tmp_path / name) == contents(undisturbed), name
            assert_no_leftovers(tmp_path / name)

    @pytest.mark.slow
    def test_a_worker_that_is_killed_changes_nothing(self, cluster, source, undisturbed, tmp_path):
        from distributed import Client

        with Client(cluster) as client:
            client.run(die_once, tmp_path / "killed")
            classify(source, tmp_path / "results", scheduler=client)
        assert (tmp_path / "killed").exists()
        assert contents(tmp_path / "results") == contents(undisturbed)
        assert_no_leftovers(tmp_path / "results")

    def test_progress_is_shown_where_asked_for(self, source, tmp_path, capsys):
        classify(source, tmp_path / "quiet")
        assert capsys.readouterr().err == ""
        classify(source, tmp_path / "shown", progress=True)
        assert "partitions: 100%" in capsys.readouterr().err

    @pytest.mark.parametrize("scheduler", ["nonsense", "localhost:8786", 4, None])
    def test_unknown_ones_are_refused_at_once(self, source, tmp_path, scheduler):
        with pytest.raises(ValueError, match=f"'threads', 'processes', .*'tcp://.*, got {scheduler!r}"):
            classify(source, tmp_path / "results", scheduler=scheduler)
        assert not (tmp_path / "results").exists()

    @pytest.mark.parametrize("scheduler", ["threads", "tcp://127.0.0.1:1"])
    def test_missing_dask_is_named_with_the_remedy(self, source, tmp_path, monkeypatch, scheduler):
        for name in ("dask", "distributed"):
            monkeypatch.setitem(sys.modules, name, None)  # its import fails
        with pytest.raises(ImportError, match=r"pip install 'ztf_sg\[survey\]' \(import of d"):
            classify(source, tmp_path, scheduler=scheduler)

    def test_importing_loads_none_of_them(self, tmp_path):
        code = (
            "import sys, ztf_sg, ztf_sg.survey\n"
            "print({'dask', 'distributed'} & {name.split('.')[0] for name in sys.modules})"
        )
        command = [sys.executable, "-c", code]
        run = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
        assert run.stdout.strip() == "set()", run.stderr


def die_once(marker):
    """Have the first process that is about to classify with this marker killed."""
    classified = tasks.classified

    def die_or_classify(*args):
        try:
            marker.touch(exist_ok=False)
        except FileExistsError:
            return classified(*args)
        os.kill(os.getpid(), signal.SIGKILL)

    tasks.classified = die_or_classify


# Runs until a function is called for the nth time.
DIE_BEFORE = """
import importlib, os, signal, sys
from ztf_sg import classify_survey
source, destination, partition, module, name, calls = sys.argv[1:]
module, left = importlib.import_module(module), int(calls)
function = getattr(module, name)
def die_or_call(*args):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    return function(*args)
setattr(module, name, die_or_call)
classify_survey(source, destination, partition=int(partition), scheduler="synchronous", progress=False)
"""


def killed_run(source, destination, module, name, calls):
    command = [sys.executable, "-c", DIE_BEFORE, source, destination, str(ROWS), module, name, str(calls)]
    assert subprocess.run(command, env=ENVIRONMENT).returncode == -signal.SIGKILL


class TestResuming:
    def test_what_is_there_is_not_written_again(self, source, undisturbed, tmp_path):
        shutil.copytree(undisturbed, tmp_path / "results")
        before = times(tmp_path / "results")
        parts = classify(source, tmp_path / "results")
        assert times(tmp_path / "results") == before
        assert parts["objects"].tolist() == [20, 10, 20, 10]
        assert parts["reading"].isna().all()

    def test_another_version_of_the_package_continues(self, source, undisturbed, tmp_path, monkeypatch):
        shutil.copytree(undisturbed, tmp_path / "results")
        (tmp_path / "results" / "part-00001.parquet").unlink()
        monkeypatch.setattr("ztf_sg.model_file.version", lambda name: "99.9")
        assert classify(source, tmp_path / "results")["reading"].notna().sum() == 1
        assert contents(tmp_path / "results") == contents(undisturbed)

    def test_results_of_a_model_that_cannot_be_read_any_more_are_kept(
        self, source, undisturbed, tmp_path, monkeypatch
    ):
        shutil.copytree(undisturbed, tmp_path / "results")
        monkeypatch.setattr("ztf_sg.model_file.FORMAT", "ztf_sg star-galaxy classifier, version 99")
        model = StarGalaxyClassifier(nn_count=5).fit(load_files(list_cutouts(BUNDLED)[::25]))
        with pytest.raises(ValueError, match="holds results with another model; name another destination"):
            classify(source, tmp_path / "results", model=model)
        assert contents(tmp_path / "results") == contents(undisturbed)

    @pytest.mark.parametrize("removed", [[1], [0, 2]], ids=str)
    def test_what_is_missing_is_made_again(self, source, undisturbed, tmp_path, removed):
        shutil.copytree(undisturbed, tmp_path / "results")
        names = [f"part-0000{number}.parquet" for number in removed]
        for name in names:
            (tmp_path / "results" / name).unlink()
        before = times(tmp_path / "results")
        classify(source, tmp_path / "results", scheduler="threads")
        assert contents(tmp_path / "results") == contents(undisturbed)
        after = times(tmp_path / "results")
        assert {name: after[name] for name in before} == before

    @pytest.mark.slow
    def test_a_run_killed_time_and_again_gives_the_same(self, flawed, tmp_path):
        killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
        killed_run(flawed, killed, "os", "replace", 2)  # between model and settings
        assert not contents(killed)
        killed_run(
            flawed, killed, "ztf_sg.survey.partition", "classified", 2
        )  # the second partition is begun
        before = times(killed)
        assert len(before) == 1
        assert len(list((killed / "_survey" / "unfinished").iterdir())) == 1
        killed_run(flawed, killed, "os", "replace", 3)  # it lacks nothing but its name
        assert times(killed) == before
        assert len(list((killed / "_survey" / "skipped").iterdir())) == 2
        parts = classify(flawed, killed)
        assert before.items() <= times(killed).items()
        assert_no_leftovers(killed)
        calm = classify(flawed, undisturbed)
        assert contents(killed) == contents(undisturbed)
        pd.testing.assert_frame_equal(read_skipped(killed), read_skipped(undisturbed))
        pd.testing.assert_frame_equal(parts.iloc[:, :3], calm.iloc[:, :3])


class TestBadRows:
    def test_they_are_listed_and_the_others_classified(self, flawed, tmp_path, cutouts, expected):
        parts = classify(flawed, tmp_path)
        assert parts["objects"].tolist() == [19, 6, 19, 0]
        assert parts["skipped"].tolist() == [1, 4, 1, 10]
        skipped = read_skipped(tmp_path)
        assert skipped["name"].tolist() == cutouts.table["name"][list(BAD_ROWS)].tolist()
        for found, reason in zip(skipped["reason"], BAD_ROWS.values(), strict=True):
            assert reason in found
        good = expected.drop(list(BAD_ROWS)).reset_index(drop=True)
        pd.testing.assert_frame_equal(results(tmp_path), good, rtol=1e-9, check_dtype=False)
        assert pq.read_schema(tmp_path / "part-00003.parquet").equals(RESULT)
        assert classify(flawed, tmp_path)["skipped"].tolist() == [1, 4, 1, 10]

    def test_they_are_listed_no_more_when_they_are_mended(self, cutouts, tmp_path):
        folder = tmp_path / "source"
        folder.mkdir()
        name = cutouts.table["name"][0]
        good = (BUNDLED / f"{name}.fits").read_bytes()
        (folder / f"{name}.fits").write_bytes(b"?" * len(good))
        assert classify(folder, tmp_path / "results")["skipped"].tolist() == [1]
        (folder / f"{name}.fits").write_bytes(good)
        (tmp_path / "results" / "part-00000.parquet").unlink()
        assert classify(folder, tmp_path / "results")["skipped"].tolist() == [0]
        assert read_skipped(tmp_path / "results").empty

    def test_none_are_listed_where_there_are_none(self, undisturbed):
        skipped = read_skipped(undisturbed)
        assert skipped.empty and list(skipped.columns) == ["name", "reason"]

    def test_a_folder_without_results_is_named(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=f"{tmp_path.name}: holds no results"):
            read_skipped(tmp_path)


class TestDamagedFiles:
    @pytest.fixture
    def damaged(self, source, tmp_path):
        """Return a copy of the source with one bit of the last row group's pixels turned over."""
        folder = tmp_path / "damaged"
        shutil.copytree(source, folder)
        path = folder / "survey_10.parquet"
        group = pq.read_metadata(path).row_group(2)
        columns = [group.column(number) for number in range(group.num_columns)]
        (pixels,) = [column for column in columns if column.path_in_schema == "image.list.element"]
        content = bytearray(path.read_bytes())
        content[pixels.data_page_offset + pixels.total_compressed_size // 2] ^= 1
        path.write_bytes(content)
        return folder

    @pytest.mark.parametrize(
        "scheduler", ["synchronous", "threads", pytest.param("cluster", marks=pytest.mark.slow)]
    )
    def test_damage_is_named_and_the_others_are_written(
        self, damaged, source, undisturbed, tmp_path, scheduler, request
    ):
        if scheduler == "cluster":
            scheduler = request.getfixturevalue("cluster")
        with pytest.warns(UserWarning, match=r"1 records could not be used.*survey_10\.parquet: is no whole"):
            summary = classify(damaged, tmp_path / "results", scheduler=scheduler)
        (name,) = read_skipped(tmp_path / "results")["name"]
        assert name == "survey_10.parquet, row group 2"
        rows = pq.read_metadata(source / "survey_10.parquet").row_group(2).num_rows
        assert summary["objects"].sum() == sum(map(len, map(pd.read_parquet, source.iterdir()))) - rows
        assert_no_leftovers(tmp_path / "results")
        before = times(tmp_path / "results")
        for part in ("part-00002.parquet", "part-00003.parquet"):  # of that file, which is read anew
            del before[part]
        shutil.copy(source / "survey_10.parquet", damaged)
        classify(damaged, tmp_path / "results", scheduler=scheduler)
        assert contents(tmp_path / "results") == contents(undisturbed)
        assert before.items() <= times(tmp_path / "results").items()

    def test_truncated_file_is_named_and_the_others_are_classified(self, source, undisturbed, tmp_path):
        damaged = tmp_path / "damaged"
        shutil.copytree(source, damaged)
        path = damaged / "survey_2.parquet"
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.warns(UserWarning, match=r"survey_2\.parquet: is no whole Parquet file"):
            classify(damaged, tmp_path / "results")
        assert read_skipped(tmp_path / "results")["name"].tolist() == ["survey_2.parquet"]
        lost = set(pd.read_parquet(source / "survey_2.parquet")["name"])
        assert set(results(tmp_path / "results")["name"]) == set(results(undisturbed)["name"]) - lost
        shutil.copy(source / "survey_2.parquet", damaged)
        classify(damaged, tmp_path / "results")
        assert contents(tmp_path / "results") == contents(undisturbed)


class TestChangedSources:
    def test_cutouts_that_were_fetched_anew_are_classified_anew(self, tmp_path):
        """All FITS cutouts have one size, and those of another fetch the same names."""
        folder, swapped = tmp_path / "cutouts", tmp_path / "swapped"
        folder.mkdir()
        names = ["star_0.fits", "galaxy_0.fits", "star_1.fits", "galaxy_1.fits"]
        for name in names:
            shutil.copy(BUNDLED / name, folder)
        first = classify(folder, tmp_path / "results", partition=2)
        before = contents(tmp_path / "results")
        shutil.copy(BUNDLED / "star_9.fits", folder / "galaxy_1.fits")
        again = classify(folder, tmp_path / "results", partition=2)
        assert first["reading"].notna().all()
        assert again["reading"].isna().tolist() != [True, True]
        after = contents(tmp_path / "results")
        assert after != before
        classify(folder, swapped, partition=2)
        assert contents(swapped) == after

    def test_mended_file_may_have_another_size(self, source, tmp_path):
        folder = tmp_path / "survey"
        shutil.copytree(source, folder)
        table = pq.read_table(folder / "survey_10.parquet")
        pq.write_table(table.drop_columns(["gain"]), folder / "survey_10.parquet")
        with pytest.warns(
            UserWarning, match="1 records could not be used.*survey_10.*lacks the columns gain"
        ):
            classify(folder, tmp_path / "results")
        assert read_skipped(tmp_path / "results")["name"].tolist() == ["survey_10.parquet"]
        before = times(tmp_path / "results")
        pq.write_table(table, folder / "survey_10.parquet", compression="none")
        classify(folder, tmp_path / "results")
        assert len(before) == 3
        assert len(before.items() & times(tmp_path / "results").items()) == 2

    def test_parts_of_files_that_are_gone_go_too(self, source, tmp_path):
        folder = tmp_path / "survey"
        shutil.copytree(source, folder)
        classify(folder, tmp_path / "results")
        sorted(folder.glob("*.parquet"))[-1].unlink()
        classify(folder, tmp_path / "results")
        classify(folder, tmp_path / "expected")
        assert contents(tmp_path / "results") == contents(tmp_path / "expected")


class TestRefusals:
    @pytest.fixture
    def destination(self, undisturbed, tmp_path):
        shutil.copytree(undisturbed, tmp_path / "results")
        return tmp_path / "results"

    def test_results_of_another_source_are_kept(self, source, flawed, destination, tmp_path):
        fewer = tmp_path / "fewer"
        fewer.mkdir()
        shutil.copy(source / "survey_2.parquet", fewer)
        before = times(destination)
        for other in (flawed, fewer, source / "survey_2.parquet"):
            with pytest.raises(ValueError, match="results: holds results with another source; name another"):
                classify(other, destination)
        assert times(destination) == before
        assert_no_leftovers(destination)

    def test_results_of_another_model_or_setting_are_kept(self, source, destination):
        model = StarGalaxyClassifier.pretrained()
        model.galaxy_fraction = 0.2
        for options, named in [
            ({"model": model}, "model"),
            ({"partition": 10}, "partition"),
            ({"max_error": 0.02}, "max_error"),
            ({"max_error": 0.02, "partition": 10, "model": model}, "partition, max_error, model"),
        ]:
            with pytest.raises(ValueError, match=f"another {named}; name another destination, or remove it"):
                classify(source, destination, **options)
        assert_no_leftovers(destination)
        assert classify(source, destination, model=StarGalaxyClassifier.pretrained())["reading"].isna().all()

    def test_parts_of_unknown_origin_are_kept(self, source, tmp_path):
        (tmp_path / "part-00000.parquet").write_bytes(b"of someone else")
        with pytest.raises(ValueError, match="holds results of unknown origin; name another destination"):
            classify(source, tmp_path)
        assert contents(tmp_path) == {"part-00000.parquet": b"of someone else"}

    def test_a_source_is_no_destination(self, source):
        before = contents(source)
        with pytest.raises(ValueError, match="is the source; name another folder"):
            classify(source, source)
        assert contents(source) == before and not (source / "_survey").exists()

    def test_another_run_at_work_is_left_alone(self, source, destination):
        (destination / "part-00000.parquet").unlink()
        with (
            FileLock(destination / "_survey" / ".lock"),
            pytest.raises(SurveyError, match="another run is at work there"),
        ):
            classify(source, destination)
        assert len(contents(destination)) == 3
        classify(source, destination)

    @pytest.mark.parametrize(
        "options",
        [
            *({"partition": number} for number in (0, 2.5, "100", None, True)),
            *({"max_error": share} for share in (1, -0.1, "0.01", np.nan, True)),
        ],
        ids=str,
    )
    def test_senseless_settings_write_nothing(self, source, tmp_path, options):
        with pytest.raises(ValueError, match=f"{next(iter(options))}: expected"):
            classify(source, tmp_path / "results", **options)
        assert not (tmp_path / "results").exists()

    @pytest.mark.parametrize("model", ["pretrained.npz", "", Path("pretrained.npz"), StarGalaxyClassifier])
    def test_what_is_no_model_is_named(self, source, cutouts, tmp_path, model):
        for classify_it in (
            lambda: classify(source, tmp_path / "results", model=model),
            lambda: classify_partition(cutouts.to_table(), model),
        ):
            with pytest.raises(TypeError, match=r"expected a trained .*StarGalaxyClassifier\.load\(path\)"):
                classify_it()
        assert not (tmp_path / "results").exists()

    def test_an_untrained_model_says_so(self, source, cutouts, tmp_path):
        said = r"model: this StarGalaxyClassifier is not trained; .* StarGalaxyClassifier\.load\(path\)"
        with pytest.raises(NotFittedError, match=said):
            classify(source, tmp_path / "results", model=StarGalaxyClassifier())
        with pytest.raises(NotFittedError, match=said):
            classify_partition(cutouts.to_table(), StarGalaxyClassifier())
        assert not (tmp_path / "results").exists()

    def test_missing_source_is_named(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="nowhere: no such file or folder"):
            classify(tmp_path / "nowhere", tmp_path / "results")
        (tmp_path / "empty").mkdir()
        with pytest.raises(FileNotFoundError, match="empty: holds no"):
            classify(tmp_path / "empty", tmp_path / "results")
        assert not (tmp_path / "results").exists()

    def test_missing_columns_are_named(self, cutouts, tmp_path):
        cutouts.to_table().drop(["gain"]).to_pandas().to_parquet(tmp_path / "a.parquet")
        with pytest.raises(SurveyError, match=r"a\.parquet: lacks the columns gain"):
            classify(tmp_path, tmp_path / "results")

    def test_damaged_files_of_one_name_are_told_apart(self, cutouts, tmp_path):
        source = tmp_path / "source"
        for number in range(4):
            (source / f"x={number}").mkdir(parents=True)
            cutouts.to_parquet(source / f"x={number}" / "part.parquet")
        for number in (1, 3):
            (source / f"x={number}" / "part.parquet").write_bytes(b"PAR1 damaged")
        with pytest.warns(UserWarning, match="2 records could not be used"):
            classify(source, tmp_path / "results")
        names = ["x=1/part.parquet", "x=3/part.parquet"]
        assert read_skipped(tmp_path / "results")["name"].tolist() == names
        assert CutoutSet.read_parquet(source, on_error="skip").skipped["name"].tolist() == names

    def test_damaged_settings_are_named(self, source, tmp_path):
        classify(source, tmp_path / "results")
        (tmp_path / "results" / "_survey" / "settings.json").write_text("[]")
        with pytest.raises(ValueError, match="settings.json: damaged, as it holds no settings"):
            classify(source, tmp_path / "results")

    def test_a_file_in_place_of_the_results_is_named(self, source, tmp_path):
        (tmp_path / "results").write_text("mine")
        with pytest.raises(SurveyError, match="results.* cannot be made or locked .*; name another folder"):
            classify(source, tmp_path / "results")


class TestOutsideOfTheTrainingRange:
    TEXT = r"results: 25 of 60 cutouts are outside of .*: seeing 7.0 to 8.0 px \(trained on 1.1 to 5.5 px\)"

    @pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
    def test_one_warning_counts_them_wherever_the_work_is_done(self, blurred, tmp_path, scheduler):
        with dask.config.set(num_workers=2), pytest.warns(UserWarning) as seen:
            classify(blurred, tmp_path / "results", scheduler=scheduler)
        (warning,) = seen
        assert re.search(self.TEXT, str(warning.message))
        found = results(tmp_path / "results")
        assert found.index[found["outside"]].tolist() == [*range(15), *range(50, 60)]
        assert found["ambiguous"][found["outside"]].all()

    @pytest.mark.slow
    def test_workers_of_a_cluster_report_them(self, blurred, tmp_path, cluster):
        with pytest.warns(UserWarning, match=self.TEXT):
            classify(blurred, tmp_path / "results", scheduler=cluster)

    def test_a_run_that_goes_on_counts_those_of_the_runs_before(self, blurred, tmp_path):
        for part in (None, "part-00000.parquet", "part-00001.parquet"):
            if part:
                (tmp_path / "results" / part).unlink()
            with pytest.warns(UserWarning, match=self.TEXT) as seen:
                classify(blurred, tmp_path / "results")
            assert len(seen) == 1

    def test_they_are_forgotten_with_their_source(self, blurred, source, tmp_path):
        folder = tmp_path / "source"
        shutil.copytree(blurred, folder)
        with pytest.warns(UserWarning, match=self.TEXT):
            classify(folder, tmp_path / "results")
        (folder / "survey.parquet").unlink()
        shutil.copy(source / "survey_2.parquet", folder)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            classify(folder, tmp_path / "results")
        assert_no_leftovers(tmp_path / "results", {"outside"})

    def test_those_of_the_training_set_are_not_warned_of(self, blurred, tmp_path):
        several = CutoutSet.read_parquet(blurred / "survey.parquet")
        model = StarGalaxyClassifier(nn_count=15).fit(several)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            classify(blurred, tmp_path / "blurred", model=model, max_error=0.1)
        assert not results(tmp_path / "blurred")["outside"].any()

    def test_a_partition_warns_of_its_own(self, blurred):
        frame = pd.read_parquet(blurred)
        with pytest.warns(UserWarning, match="^15 of 20 cutouts are outside of .* seeing 7.0 px") as seen:
            assert classify_partition(frame[:20])["outside"].sum() == 15
        assert len(seen) == 1
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            classify_partition(frame[15:50])


class TestShareOfEachObject:
    @pytest.fixture
    def model(self):
        model = StarGalaxyClassifier.pretrained()
        model.galaxy_fraction = "fraction"
        return model

    @pytest.fixture
    def shared(self, cutouts, tmp_path):
        """Return a source with a column of shares of galaxies."""
        frame = cutouts.to_table().to_pandas().assign(fraction=np.tile([0.01, 0.5, 0.9], 20))
        table = pa.Table.from_pandas(frame, preserve_index=False)
        (tmp_path / "shared").mkdir()
        pq.write_table(table, tmp_path / "shared" / "survey.parquet", row_group_size=10)
        return tmp_path / "shared"

    def test_column_of_a_parquet_file_is_used(self, shared, model, tmp_path):
        expected = model.predict_proba(CutoutSet.read_parquet(shared))[:, 1]
        classify(shared, tmp_path / "results", model=model, scheduler="threads")
        np.testing.assert_allclose(results(tmp_path / "results")["p_galaxy"], expected, rtol=1e-9)
        found = classify_partition(pd.read_parquet(shared), model)
        np.testing.assert_allclose(found["p_galaxy"], expected, rtol=1e-9)

    def test_rows_without_a_share_are_listed_and_the_others_classified(self, shared, model, tmp_path):
        frame = pd.read_parquet(shared)
        frame.loc[[4, 30], "fraction"] = np.nan, 1.0
        frame.loc[50:, "fraction"] = -1.0
        frame.loc[5, "gain"] = np.nan
        frame.to_parquet(shared / "survey.parquet", row_group_size=10)
        with pytest.warns(UserWarning, match="13 records could not be used"):
            parts = classify(shared, tmp_path / "results", model=model)
        assert parts["objects"].tolist() == [18, 19, 10]
        skipped = read_skipped(tmp_path / "results").set_index("name")["reason"]
        assert sorted(skipped.index) == sorted(frame["name"][[4, 5, 30, *range(50, 60)]])
        assert (
            skipped[frame["name"][30]] == "its fraction is 1.0, expected a share of galaxies between 0 and 1"
        )
        with pytest.warns(UserWarning, match="13 of 60 rows of a partition could not be used"):
            assert len(classify_partition(frame, model)) == 47

    def test_file_without_the_column_is_named(self, shared, source, model, tmp_path):
        with pytest.raises(
            SurveyError, match="none of its files can be used.*'fraction': .* lacks the column"
        ):
            classify(source, tmp_path / "results", model=model)
        shutil.copy(source / "survey_2.parquet", shared)
        with pytest.warns(UserWarning, match="1 records could not be used.*'fraction': .* lacks the column"):
            parts = classify(shared, tmp_path / "some", model=model, partition=100)
        assert parts["objects"].sum() == 60
        assert read_skipped(tmp_path / "some")["name"].tolist() == ["survey_2.parquet"]

    def test_folders_may_state_it(self, cutouts, model, tmp_path):
        (tmp_path / "source" / "fraction=0.01").mkdir(parents=True)
        write(cutouts, tmp_path / "source" / "fraction=0.01" / "a.parquet")
        classify(tmp_path / "source", tmp_path / "results", model=model)
        model.galaxy_fraction = 0.01
        expected = model.predict_proba(cutouts)[:, 1]
        np.testing.assert_allclose(results(tmp_path / "results")["p_galaxy"], expected, rtol=1e-9)

    def test_fits_files_have_no_such_column(self, model, tmp_path):
        with pytest.raises(ValueError, match="FITS cutouts, which lack the column 'fraction'.*to_parquet"):
            classify(BUNDLED, tmp_path / "results", model=model)
        assert not (tmp_path / "results").exists()


class TestSharesThatTheTrainingSetCannotShow:
    @pytest.mark.parametrize("max_error", [0, 1e-4, 2e-4])
    def test_one_warning_says_so_and_all_are_ambiguous(self, source, tmp_path, max_error):
        with pytest.warns(UserWarning, match="can show no share of wrong answers below 0.00") as seen:
            classify(source, tmp_path, max_error=max_error)
        assert len(seen) == 1
        assert results(tmp_path)["ambiguous"].all()

    def test_a_partition_says_so_too(self, cutouts):
        with pytest.warns(UserWarning, match="all objects are ambiguous"):
            assert classify_partition(cutouts.to_table(), max_error=1e-4)["ambiguous"].all()


class TestPartitions:
    def test_frames_and_tables_are_classified(self, cutouts, expected):
        table = cutouts.to_table()
        for form in (table, table.to_pandas(), table.to_pandas(types_mapper=pd.ArrowDtype)):
            found = classify_partition(form)
            pd.testing.assert_frame_equal(found, expected, rtol=1e-9, check_dtype=False)
            assert found.attrs["skipped"] == []
        model = StarGalaxyClassifier.pretrained()
        model.galaxy_fraction = 0.01
        found = classify_partition(table, model, max_error=0.1)
        np.testing.assert_array_equal(found["ambiguous"], model.ambiguous(cutouts, max_error=0.1))

    def test_empty_ones_have_the_same_columns(self, cutouts):
        frame = cutouts.to_table().to_pandas()
        found = classify_partition(frame[:0])
        assert len(found) == 0
        pd.testing.assert_series_equal(found.dtypes, classify_partition(frame[:2]).dtypes)

    def test_rows_keep_their_labels(self, cutouts):
        pixels = pd.Index(np.arange(60) // 2 + 2**60, name="_healpix_29")
        frame = cutouts.to_table().to_pandas().set_index(pixels)
        frame.iloc[[3, 7], frame.columns.get_loc("gain")] = np.nan
        before = frame.copy()
        found = classify_partition(frame)
        pd.testing.assert_index_equal(found.index, frame.index.delete([3, 7]))
        assert found["name"].tolist() == cutouts.table["name"].drop([3, 7]).tolist()
        pd.testing.assert_frame_equal(frame, before)
        assert [row["name"] for row in found.attrs["skipped"]] == frame["name"].iloc[[3, 7]].tolist()
        assert "lacks GAIN" in found.attrs["skipped"][0]["reason"]

    def test_missing_columns_are_named(self, cutouts):
        with pytest.raises(CutoutError, match="lacks the columns gain"):
            classify_partition(cutouts.to_table().drop(["gain"]))

    @pytest.mark.parametrize("meta", ["given", "inferred"])
    def test_dask_maps_them(self, cutouts, expected, meta):
        frame = cutouts.to_table().to_pandas(types_mapper=pd.ArrowDtype)
        frame = frame.set_index(pd.Index(np.arange(60) * 3, name="object"))
        partitions = pytest.importorskip("dask.dataframe").from_pandas(frame, npartitions=3)
        options = {"meta": classify_partition(frame[:0])} if meta == "given" else {}
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = partitions.map_partitions(classify_partition, **options)
        assert found.divisions == partitions.divisions
        found = found.compute(scheduler="synchronous")
        assert found.index.tolist() == frame.index.tolist()
        pd.testing.assert_frame_equal(found.reset_index(drop=True), expected, rtol=1e-9, check_dtype=False)

    @pytest.mark.parametrize("pixels", [np.ravel, np.asarray, list], ids=["arrays", "two axes", "lists"])
    def test_dask_maps_pixels_of_pandas_without_a_word(self, cutouts, expected, pixels):
        dask_frames = pytest.importorskip("dask.dataframe")
        frame = cutouts.table.assign(image=[pixels(image) for image in cutouts.images])
        with dask.config.set({"dataframe.convert-string": False}), warnings.catch_warnings():
            warnings.simplefilter("error")
            partitions = dask_frames.from_pandas(frame, npartitions=3)
            found = partitions.map_partitions(classify_partition).compute(scheduler="synchronous")
        pd.testing.assert_frame_equal(found.reset_index(drop=True), expected, rtol=1e-9, check_dtype=False)

    def test_pixels_that_dask_made_text_are_refused_with_the_remedy(self, cutouts):
        dask_frames = pytest.importorskip("dask.dataframe")
        frame = cutouts.table.assign(image=list(cutouts.images))
        with dask.config.set({"dataframe.convert-string": True}):
            partitions = dask_frames.from_pandas(frame, npartitions=3)
            with pytest.raises(Exception, match="set its option dataframe.convert-string to False"):
                partitions.map_partitions(classify_partition).compute(scheduler="synchronous")

    @pytest.mark.parametrize("form", ["arrays", "arrow", "nested"])
    def test_lsdb_maps_them(self, cutouts, expected, form):
        lsdb, nested_pandas = pytest.importorskip("lsdb"), pytest.importorskip("nested_pandas")
        table = cutouts.to_table()
        frame = table.to_pandas(types_mapper=pd.ArrowDtype if form == "arrow" else None)
        if form == "nested":
            lists = table["image"].combine_chunks().cast(pa.list_(pa.float32()))
            struct = pa.StructArray.from_arrays([lists], ["pixels"])
            frame["image"] = pd.Series(struct, dtype=nested_pandas.NestedDtype(struct.type))
        frame.loc[5, "gain"] = np.nan
        catalog = lsdb.from_dataframe(frame, ra_column="ra", dec_column="dec")
        with dask.config.set(scheduler="synchronous"):
            found = catalog.map_partitions(classify_partition).compute()
            whole = catalog.compute()
        assert found.index.name == "_healpix_29"
        labels = dict(zip(whole["name"], whole.index, strict=True))
        del labels[frame["name"][5]]
        assert dict(zip(found["name"], found.index, strict=True)) == labels
        found = pd.DataFrame(found.sort_values("name")).reset_index(drop=True)
        wanted = expected.drop(5).sort_values("name").reset_index(drop=True)
        pd.testing.assert_frame_equal(found, wanted, rtol=1e-9, check_dtype=False)


class TestFolders:
    """The source is one decision between Parquet and FITS; sub-folders belong to it."""

    def put(self, folder, *names):
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(BUNDLED / Path(name).name, folder / name)

    def test_fits_of_subfolders_are_named_by_their_paths(self, tmp_path):
        source, destination = tmp_path / "source", tmp_path / "results"
        self.put(source, "night2/star_0.fits", "night10/star_0.fits", "night10/star_1.fits", "galaxy_0.fits")
        (source / "night10" / "star_2.fits").write_bytes(b"")
        classify(source, destination, partition=2)
        names = ["galaxy_0", "night2/star_0", "night10/star_0", "night10/star_1"]
        assert results(destination)["name"].tolist() == names
        assert read_skipped(destination)["name"].tolist() == ["night10/star_2.fits"]

    def test_names_of_files_that_share_one_differ_across_partitions_and_batches(self, tmp_path, monkeypatch):
        monkeypatch.setattr(tasks, "BATCH", 1)
        self.put(tmp_path / "source", "star_0.fits", "star_1.fits")
        shutil.copy(BUNDLED / "star_2.fits", tmp_path / "source" / "star_0.FIT")
        for partition in (1, 3):
            destination = tmp_path / f"by_{partition}"
            classify(tmp_path / "source", destination, partition=partition)
            assert sorted(results(destination)["name"]) == ["star_0.FIT", "star_0.fits", "star_1"]

    def test_file_that_moves_to_another_folder_is_classified_anew(self, tmp_path):
        source, destination = tmp_path / "source", tmp_path / "results"
        self.put(source, "night1/star_0.fits")
        classify(source, destination)
        (source / "night1").rename(source / "night2")
        classify(source, destination)
        assert results(destination)["name"].tolist() == ["night2/star_0"]

    def test_of_a_mix_parquet_is_read_and_fits_are_counted(self, source, undisturbed, tmp_path):
        shutil.copytree(source, tmp_path / "mix")
        self.put(tmp_path / "mix", "night1/star_0.fits", "star_1.fits")
        with pytest.warns(
            UserWarning, match=r"mix: passed over 2 \.fits \(.* as a survey from a folder of their"
        ):
            classify(tmp_path / "mix", tmp_path / "results")
        assert contents(tmp_path / "results") == contents(undisturbed)

    def test_results_within_the_source_are_not_read_as_source(self, source, undisturbed, tmp_path):
        shutil.copytree(source, tmp_path / "mix")
        destination = tmp_path / "mix" / "classified"
        classify(tmp_path / "mix", destination)
        first = times(destination)
        with pytest.warns(UserWarning, match=r"4 part-\*.parquet \(results of classify_survey"):
            classify(tmp_path / "mix", destination)
        assert contents(destination) == contents(undisturbed)
        assert times(destination) == first
        self.put(tmp_path / "fits", "star_0.fits")
        for _ in range(2):
            classify(tmp_path / "fits", tmp_path / "fits" / "classified")
            assert results(tmp_path / "fits" / "classified")["name"].tolist() == ["star_0"]

    def test_results_as_a_source_are_refused_as_such(self, undisturbed, tmp_path):
        with pytest.raises(
            FileNotFoundError, match=r"4 part-\*.parquet \(results of classify_survey, which hold no im"
        ):
            classify(undisturbed, tmp_path / "again")
        assert not (tmp_path / "again").exists()

    def test_hive_folders_are_classified(self, cutouts, undisturbed, tmp_path):
        table = cutouts.to_table().drop_columns(["filter"])
        for night, rows in ((9, slice(0, 30)), (10, slice(30, 60))):
            folder = tmp_path / "source" / f"night={night}" / "filter=ZTF_i"
            folder.mkdir(parents=True)
            pq.write_table(table.slice(rows.start, 30), folder / "part-0.parquet", row_group_size=10)
        classify(tmp_path / "source", tmp_path / "results")
        assert contents(tmp_path / "results") == contents(undisturbed)

    @pytest.mark.parametrize("address", ["s3://bucket/survey", "gs://x/y", Path("hdfs://host/survey")])
    def test_addresses_are_refused_as_such(self, address, source, tmp_path):
        with pytest.raises(ValueError, match="is an address, but only local files are read and written"):
            classify(address, tmp_path / "results")
        with pytest.raises(ValueError, match="is an address"):
            classify(source, address)
        with pytest.raises(ValueError, match="is an address"):
            read_skipped(address)

    def test_source_that_is_a_link_in_a_circle_is_named(self, tmp_path):
        (tmp_path / "loop").symlink_to("loop")
        with pytest.raises(FileNotFoundError, match="loop: no such file or folder"):
            classify(tmp_path / "loop", tmp_path / "results")

    def test_home_is_expanded(self, undisturbed, source, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / "source").symlink_to(source)
        classify("~/source", "~/results")
        assert contents(tmp_path / "results") == contents(undisturbed)
        assert read_skipped("~/results").empty
