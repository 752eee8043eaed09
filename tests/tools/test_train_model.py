import pytest
import train_model
from train_model import train

from ztf_sg import StarGalaxyClassifier

pytestmark = pytest.mark.filterwarnings("ignore:nn_count=50 needs")


def test_same_seed_writes_the_same_bytes(tmp_path, capsys):
    for name in ("one.npz", "other.npz"):
        train(tmp_path / name, images=4, per_image=6, n_jobs=1)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "other.npz").read_bytes()
    assert "wrote other.npz, 0.0" in capsys.readouterr().out
    assert StarGalaxyClassifier.load(tmp_path / "one.npz").training_fraction_ == 0.5


def test_large_model_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(train_model, "LARGEST_SIZE", 1e-4)
    with pytest.raises(SystemExit, match="larger than 0.0001 MB"):
        train(tmp_path / "model.npz", images=4, per_image=6, n_jobs=1)
