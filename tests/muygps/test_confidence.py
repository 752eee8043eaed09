import numpy as np
import pytest
from helpers import points
from hypothesis import given
from hypothesis import strategies as st

from ztf_sg import MuyGPSClassifier
from ztf_sg.muygps.confidence import confidence, doubts, judge, least_confidence


@given(
    st.lists(st.tuples(st.integers(1, 20), st.booleans()), min_size=1, max_size=60),
    st.floats(0, 1, exclude_max=True),
)
def test_the_decided_are_as_many_and_as_right_as_the_share_asks_for(predictions, max_error):
    ranks, wrong = (np.array(column) for column in zip(*predictions, strict=True))
    threshold, least = least_confidence(ranks.astype(float), wrong, max_error)
    decided = ranks > threshold if threshold else np.ones(len(ranks), dtype=bool)
    if max_error < least:
        assert threshold == np.inf
        return
    assert decided.any()
    assert wrong[decided].mean() <= max_error
    assert 1 / decided.sum() <= max_error
    for lower in np.unique(ranks[~decided]):  # the largest such set
        more = ranks >= lower
        assert max(wrong[more].sum(), 1) / more.sum() > max_error


@pytest.mark.parametrize("n", [1, 3, 49, 100, 1500])
def test_n_right_answers_show_a_share_of_one_in_n_and_none_below(n):
    ranks, wrong = np.arange(n) + 1.0, np.zeros(n, dtype=bool)
    if n > 1:
        assert least_confidence(ranks, wrong, 1 / n) == (0, 1 / n)
    assert least_confidence(ranks, wrong, 0.999 / n) == (np.inf, 1 / n)
    assert least_confidence(ranks, wrong, 0) == (np.inf, 1 / n)


def test_a_sure_mistake_leaves_no_smaller_share_than_its_own():
    wrong = np.arange(100) == 99  # the surest
    assert least_confidence(np.arange(100.0), wrong, 0.009) == (np.inf, 0.01)
    assert least_confidence(np.arange(100.0), wrong, 0.01) == (0, 0.01)


@pytest.mark.parametrize("n_wrong", [0, 1, 2])
def test_labels_that_their_neighbours_contradict_are_counted(n_wrong):
    X = points(1000)[0]
    X = X[np.abs(X[:, 0]) > 0.8]
    y = (X[:, 0] > 0).astype(int)
    y[:n_wrong] ^= 1
    ranks, wrong, contradicted = judge(MuyGPSClassifier(nn_count=20).fit(X, y))
    assert ranks.shape == wrong.shape == (len(X),)
    assert np.flatnonzero(wrong).tolist() == list(range(n_wrong))
    assert contradicted == n_wrong / len(X)


def test_confidence_is_the_probability_of_the_likelier_class():
    np.testing.assert_allclose(confidence(np.array([0.0, 0.2, 0.5, 0.9])), [1, 0.8, 0.5, 0.9])


@pytest.mark.parametrize(
    ("max_error", "expected"),
    [
        (0.01, []),
        (0.004, ["0.0041", "all objects are ambiguous"]),
        (0.001, ["0.0041", "0.30% of the training labels"]),
        (0, ["max_error=0:", "0.0041", "0.30%"]),
    ],
)
def test_doubts_name_the_shares(max_error, expected):
    text = doubts(max_error, 1500, 0.00401, 0.003)  # what it calls the smallest share can be asked for
    assert all(part in text for part in expected)
    assert bool(text) == bool(expected)
    assert "0.30%" in doubts(0.0029, 1500, 0.001, 0.003) and "ambiguous" not in doubts(
        0.0029, 9, 0.001, 0.003
    )
