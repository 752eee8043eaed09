import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT

from ztf_sg import StarGalaxyClassifier, load_cutouts
from ztf_sg.model_file import FORMAT, ModelFileError, read_arrays, write_arrays


@pytest.fixture(scope="module")
def few():
    cutouts = load_cutouts(ROOT / "cutouts_test")
    return cutouts[np.r_[:60, len(cutouts) - 60 : len(cutouts)]]


@pytest.fixture(scope="module")
def trained(few):
    return StarGalaxyClassifier(nn_count=15).fit(few)


@pytest.fixture
def saved(trained, tmp_path):
    path = tmp_path / "model.npz"
    trained.save(path)
    return path


def rewritten(path, **changes):
    """Write a saved model again with other arrays, or without those that are None."""
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files} | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def redescribed(path, **changes):
    with np.load(path) as stored:
        description = json.loads(str(stored["description"]))
    return rewritten(path, description=np.array(json.dumps(description | changes)))


def test_reloaded_models_predict_identically(trained, saved, few):
    again = StarGalaxyClassifier.load(saved)
    np.testing.assert_array_equal(again.predict_proba(few), trained.predict_proba(few))
    np.testing.assert_array_equal(again.posterior(few), trained.posterior(few))
    np.testing.assert_array_equal(again.ambiguous(few), trained.ambiguous(few))
    assert again.get_params() == trained.get_params()
    assert again.training_fraction_ == trained.training_fraction_


def test_a_reloaded_model_can_be_saved_again_and_trained_anew(saved, few, tmp_path):
    again = StarGalaxyClassifier.load(str(saved))
    again.save(tmp_path / "again.npz")
    third = StarGalaxyClassifier.load(tmp_path / "again.npz")
    np.testing.assert_array_equal(third.predict_proba(few), again.predict_proba(few))
    assert again.fit(few).predict(few).shape == (len(few),)


def test_parameters_survive(few, tmp_path):
    model = StarGalaxyClassifier(np.int64(15), galaxy_fraction=np.float64(0.1), random_state=np.int64(7))
    model.fit(few).save(tmp_path / "model.npz")
    again = StarGalaxyClassifier.load(tmp_path / "model.npz")
    assert again.get_params() == {"nn_count": 15, "galaxy_fraction": 0.1, "random_state": 7}
    assert again.is_saved_in(tmp_path / "model.npz")


def test_a_random_state_that_is_no_number_is_stored_as_none(few, tmp_path):
    StarGalaxyClassifier(15, random_state=np.random.RandomState(3)).fit(few).save(tmp_path / "model.npz")
    assert StarGalaxyClassifier.load(tmp_path / "model.npz").random_state is None


def test_models_are_compared_by_what_they_have_learned(trained, saved, few, monkeypatch, tmp_path):
    monkeypatch.setattr("ztf_sg.model_file.version", lambda name: "99.9")
    trained.save(tmp_path / "newer.npz")
    newer = StarGalaxyClassifier.load(tmp_path / "newer.npz")
    assert (tmp_path / "newer.npz").read_bytes() != saved.read_bytes()
    assert newer.is_saved_in(saved)
    newer.galaxy_fraction = 0.2
    assert not newer.is_saved_in(saved)
    assert not StarGalaxyClassifier(nn_count=15).fit(few[1:]).is_saved_in(saved)
    redescribed(saved, format="ztf_sg star-galaxy classifier, version 2")
    assert not trained.is_saved_in(saved)


def test_the_range_of_the_training_set_survives(trained, saved):
    again = StarGalaxyClassifier.load(saved)
    assert again.ranges_ == trained.ranges_ and again.is_saved_in(saved)
    again.ranges_ = again.ranges_ | {"seeing": (1.0, 5.0)}
    assert not again.is_saved_in(saved)


def test_the_column_of_the_share_of_galaxies_survives(trained, saved):
    model = StarGalaxyClassifier.load(saved)
    model.galaxy_fraction = "fraction"
    assert not model.is_saved_in(saved)
    model.save(saved)
    assert StarGalaxyClassifier.load(saved).galaxy_fraction == "fraction" and model.is_saved_in(saved)


def test_an_untrained_model_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match="not fitted"):
        StarGalaxyClassifier().save(tmp_path / "model.npz")
    assert not list(tmp_path.iterdir())


def test_a_model_is_not_saved_as_a_folder(trained, tmp_path):
    with pytest.raises(IsADirectoryError, match=f"{tmp_path.name}: is a folder; name a file"):
        trained.save(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_model_that_cannot_be_written_leaves_the_old_one(trained, saved, monkeypatch):
    before = saved.read_bytes()
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        trained.save(saved)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.npz: no such model file; save one"):
        StarGalaxyClassifier.load(tmp_path / "nowhere.npz")


def test_a_folder_is_named(saved, tmp_path):
    for folder in (tmp_path, str(saved.parent)):
        with pytest.raises(ModelFileError, match="is a folder; name a file that the method save"):
            StarGalaxyClassifier.load(folder)


@pytest.mark.parametrize("content", [{"a": 1, "b": 2}, {}, {"points": np.zeros((3, 5))}])
def test_arrays_of_something_else_are_named(tmp_path, content):
    np.savez(tmp_path / "arrays.npz", **content)
    fault = f"holds {', '.join(content) or 'nothing'} and no description.*name a file that the method save"
    with pytest.raises(ModelFileError, match=f"arrays.npz: {fault}"):
        StarGalaxyClassifier.load(tmp_path / "arrays.npz")


@pytest.mark.parametrize("description", ["{}", "3", "[]", "text", ""])
def test_a_description_of_something_else_is_named(saved, description):
    with pytest.raises(ModelFileError, match="model.npz: .*; (train the model|save the model)"):
        StarGalaxyClassifier.load(rewritten(saved, description=np.array(description)))


@pytest.mark.parametrize("content", [b"", b"no model", b"PK\x03\x04 nothing more", pickle.dumps({"a": 1})])
def test_a_file_of_another_kind_is_named(tmp_path, content):
    path = tmp_path / "model.npz"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="model.npz: no model that can be read.*fetch the file anew"):
        StarGalaxyClassifier.load(path)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95, 0.999])
def test_a_truncated_file_is_named(saved, share):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ModelFileError, match="model.npz"):
        StarGalaxyClassifier.load(saved)


@pytest.mark.parametrize("place", np.linspace(0, 0.999, 25))
def test_a_flipped_byte_is_never_loaded_as_another_model(trained, saved, few, place):
    content = bytearray(saved.read_bytes())
    content[int(place * len(content))] ^= 0xFF
    saved.write_bytes(content)
    try:
        again = StarGalaxyClassifier.load(saved)
    except ModelFileError:
        return
    np.testing.assert_array_equal(again.predict_proba(few), trained.predict_proba(few))


class Hostile:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("name", ["points", "values", "description", "extra"])
def test_python_objects_in_a_model_file_are_refused_and_not_run(saved, tmp_path, name):
    trap = tmp_path / "run"
    rewritten(saved, **{name: np.array([Hostile(trap)], dtype=object)})
    with pytest.raises(ModelFileError, match="model.npz"):
        StarGalaxyClassifier.load(saved)
    assert not trap.exists()


def test_a_pickle_in_place_of_an_array_is_refused_and_not_run(saved, tmp_path):
    trap = tmp_path / "run"
    with zipfile.ZipFile(saved, "a") as archive:
        archive.writestr("more.npy", pickle.dumps(Hostile(trap)))
    with pytest.raises(ModelFileError, match="model.npz"):
        StarGalaxyClassifier.load(saved)
    assert not trap.exists()


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("ztf_sg.model_file.LARGEST_FILE", 2**20)
    path = tmp_path / "model.npz"
    np.savez_compressed(path, points=np.zeros(2**18))
    assert path.stat().st_size < 2**14
    with pytest.raises(ModelFileError, match="unpacks to"):
        StarGalaxyClassifier.load(path)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"points": None}, "points"),
        ({"description": None}, "description"),
        ({"points": np.zeros((3, 2))}, "shape"),
        ({"scaler_scale": np.ones(3)}, "shape"),
        ({"targets": np.zeros(7)}, "shape"),
        ({"targets": np.zeros(120)}, "labels are not -1 and 1"),
        ({"scaler_scale": np.zeros(4)}, "not positive"),
        ({"values": np.array([15, 1, 1, np.nan, 1, 1])}, "not finite"),
        ({"values": np.array([15, 1, 1, -1, 1, 1])}, "hyperparameter is not positive"),
        ({"values": np.array([15.5, 1, 1, 1, 1, 1])}, "15.5 neighbours"),
        ({"groups": np.repeat([0.0, 1.0], [110, 10])}, "15.0 neighbours of 120 points"),
        ({"values": np.array([400, 1, 1, 1, 1, 1])}, "400.0 neighbours of 120 points"),
        ({"points": np.array([["a"] * 5] * 120)}, "no model that can be read"),
    ],
)
def test_numbers_that_make_no_model_are_named(saved, changes, fault):
    with pytest.raises(ModelFileError, match=f"model.npz.*{fault}"):
        StarGalaxyClassifier.load(rewritten(saved, **changes))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        (
            {"format": "ztf_sg star-galaxy classifier, version 2"},
            "classifier, version 2', expected .* version 3'; train the model and save it again",
        ),
        ({"features": ["magnitude"]}, "trained on the features"),
        ({"nn_count": "many"}, "many"),
        ({"training_fraction": 2}, "share of 2"),
        ({"smoothness": None}, "NoneType"),
        ({"smoothness": 0.8}, "smoothness: expected one of"),
        ({"nn_count": -3}, "nn_count: expected an integer"),
        ({"nn_count": True}, "nn_count: expected an integer"),
        ({"ranges": {"S/N": [5, 100]}}, "no model that can be used .'seeing'"),
        ({"ranges": {"S/N": [5, 100], "seeing": [2, 1]}}, "range of seeing, 2 to 1, is none"),
        ({"ranges": {"S/N": [0, 100], "seeing": [1, 2]}}, "range of S/N, 0 to 100, is none"),
        ({"ranges": None}, "no model that can be used"),
        ({"nn_count": float("inf")}, "nn_count: expected an integer"),
        ({"random_state": "x"}, "'x' cannot be used"),
        ({"galaxy_fraction": 5}, "between 0 and 1"),
        ({"galaxy_fraction": ["x"]}, "between 0 and 1 or the name of a column"),
    ],
)
def test_descriptions_of_other_models_are_named(saved, changes, fault):
    with pytest.raises(ModelFileError, match=f"model.npz.*{fault}"):
        StarGalaxyClassifier.load(redescribed(saved, **changes))


def test_arrays_come_back_as_they_were(tmp_path):
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.arange(3.0)}
    write_arrays(tmp_path / "file.npz", arrays, {"colour": "blue"})
    found, description = read_arrays(tmp_path / "file.npz", {"a": (2, "n"), "b": ("n",)})
    assert description["colour"] == "blue"
    assert description["format"] == FORMAT
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
    with pytest.raises(ModelFileError, match="b has shape"):
        read_arrays(tmp_path / "file.npz", {"a": ("n", 3), "b": ("n",)})


def test_model_files_are_zip_files_without_pickles(saved):
    with zipfile.ZipFile(saved) as archive:
        for name in archive.namelist():
            np.lib.format.read_array(io.BytesIO(archive.read(name)), allow_pickle=False)
