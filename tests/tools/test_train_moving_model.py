import pytest
from train_moving_model import is_hopeless

from ztf_sg.simulation.stamps import simulate_stamps


@pytest.mark.parametrize(
    ("kind", "least", "most"),
    [
        ("flash", 0.9, 1),
        ("trail", 0, 0.2),
        ("asteroid", 0.02, 0.3),
        ("streak", 0.02, 0.2),
        ("variable", 0, 0),
    ],
)
def test_what_no_stamp_tells_does_not_train(kind, least, most):
    assert least <= is_hopeless(simulate_stamps(120, 3, [kind], n_jobs=1)).mean() <= most
