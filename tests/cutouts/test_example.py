import numpy as np
from example import choose_example
from pandas.testing import assert_frame_equal

from ztf_sg import load_example
from ztf_sg.cutouts import BUNDLED_CUTOUTS, load_cutouts
from ztf_sg.cutouts.example import EXAMPLE


def test_example_is_what_its_tool_chooses_of_the_bundle():
    """If not, the bundle was remade without ``python tools/example.py``."""
    example, chosen = load_example(), choose_example(load_cutouts(BUNDLED_CUTOUTS))
    assert np.array_equal(example.images, chosen.images)
    assert np.array_equal(example.labels, chosen.labels)
    assert_frame_equal(example.table, chosen.table)


def test_example_has_twenty_of_each_class_and_says_that_it_is_simulated():
    example = load_example()
    assert np.bincount(example.labels).tolist() == [20, 20]
    assert example.table["name"].is_unique
    assert example.table["origin"].str.contains("simulated").all()


def test_example_is_small_enough_for_the_package():
    assert EXAMPLE.stat().st_size < 150_000
