import numpy as np
import pandas as pd
import pytest

from ztf_sg import Triplets

IMAGES = np.arange(3 * 31 * 32, dtype=float).reshape(3, 31, 32)


def test_images_left_out_have_no_data():
    stamps = Triplets(difference=IMAGES)
    assert stamps.science.shape == stamps.template.shape == stamps.difference.shape == (3, 31, 32)
    assert np.isnan(stamps.science).all()
    assert np.isnan(stamps.template).all()
    assert stamps.difference.dtype == np.float32


def test_labels_are_unknown_and_the_table_has_a_row_each_unless_given():
    stamps = Triplets(difference=IMAGES)
    assert stamps.labels.tolist() == [-1, -1, -1]
    assert len(stamps.table) == len(stamps) == 3
    assert stamps.shape == (3,)


@pytest.mark.parametrize("index", [[2, 0], np.array([True, False, True]), slice(0, 2), 1, -1])
def test_an_index_picks_rows_of_images_labels_and_table(index):
    stamps = Triplets(IMAGES, IMAGES + 1, IMAGES + 2, [0, 1, 2], pd.DataFrame({"name": list("abc")}))[index]
    rows = np.atleast_1d(np.arange(3)[index])
    for offset, images in enumerate((stamps.science, stamps.template, stamps.difference)):
        np.testing.assert_array_equal(images, IMAGES[rows] + offset)
    assert stamps.labels.tolist() == rows.tolist()
    assert stamps.table["name"].tolist() == [list("abc")[row] for row in rows]
    assert stamps.table.index.tolist() == list(range(len(rows)))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({}, "at least one of the images"),
        ({"difference": IMAGES, "science": IMAGES[:2]}, "one shape"),
        ({"difference": IMAGES[0]}, "difference: expected shape"),
        ({"science": IMAGES[:, :2]}, "science: expected shape"),
        ({"difference": np.where(IMAGES == 31 * 32, np.inf, IMAGES)}, "infinite pixels, the first in row 1"),
        ({"difference": IMAGES.astype(str)}, "difference: images: expected real numbers"),
        ({"difference": IMAGES, "labels": [0, 1]}, "labels: expected shape"),
        ({"difference": IMAGES, "labels": [0, 1, 3]}, "got \\{3\\}"),
        ({"difference": IMAGES, "table": pd.DataFrame({"name": ["a"]})}, "table: expected 3 rows"),
    ],
)
def test_what_is_no_set_of_stamps_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Triplets(**arguments)


def test_masked_pixels_have_no_data():
    stamps = Triplets(difference=np.ma.masked_less(IMAGES, 5))
    assert np.isnan(stamps.difference).sum() == 5


def test_triplets_are_no_array():
    with pytest.raises(TypeError, match="no array"):
        np.asarray(Triplets(difference=IMAGES))


def test_the_text_counts_the_classes():
    assert repr(Triplets(IMAGES, labels=[0, 2, 2])) == (
        "Triplets(1 other, 0 asteroid, 2 satellite, 0 unknown; 31 x 32 px)"
    )
