import numpy as np
import pytest
import train_model
from train_model import train

from ztf_sg import StarGalaxyClassifier
from ztf_sg.features import measure_features

pytestmark = pytest.mark.filterwarnings("ignore:nn_count=50 needs")


NAMES = ("pretrained.npz", "pretrained_any_depth.npz")


def test_same_seed_writes_the_same_bytes(tmp_path, capsys):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        train(tmp_path / name, images=4, per_image=6, n_jobs=1)
    printed = capsys.readouterr().out
    for name in NAMES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()
        assert f"wrote {name}, 0.0" in printed
        assert StarGalaxyClassifier.load(tmp_path / "one" / name).training_fraction_ == 0.5


def test_sources_of_any_depth_are_fainter_and_as_many_of_each_class(tmp_path):
    limited, any_depth = train_model.limited(8, 10, 1), train_model.any_depth(8, 10, 1)
    assert limited.table["snr"].min() >= 8
    assert 3.5 <= any_depth.table["snr"].min() < 8
    assert np.mean(any_depth.labels) == 0.5
    assert measure_features(any_depth, ("log_snr",))["log_snr"].min() >= np.log10(5.5)


def test_large_models_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(train_model, "LARGEST_SIZE", 1e-4)
    with pytest.raises(SystemExit, match="larger than 0.0001 MB"):
        train(tmp_path, images=4, per_image=6, n_jobs=1)
