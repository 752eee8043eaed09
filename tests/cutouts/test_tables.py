import resource

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ztf_sg.cutouts import load_cutouts, read_image_csv, write_image_csv


def float32_stacks():
    shapes = hnp.array_shapes(min_dims=3, max_dims=3, max_side=5)
    finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
    return shapes.flatmap(lambda shape: hnp.arrays(np.float32, shape, elements=finite))


class TestImageCsv:
    @given(images=float32_stacks(), data=st.data())
    def test_round_trip_keeps_float32_values_and_labels(self, tmp_path_factory, images, data):
        labels = data.draw(st.lists(st.sampled_from([-1, 0, 1]), min_size=len(images), max_size=len(images)))
        path = tmp_path_factory.getbasetemp() / "round_trip.csv"
        write_image_csv(path, images, labels)
        pixels, read_labels = read_image_csv(path)
        assert pixels.dtype == np.float64
        assert read_labels.dtype == np.int8
        np.testing.assert_array_equal(pixels.astype(np.float32), images.reshape(len(images), -1))
        np.testing.assert_array_equal(read_labels, labels)

    def test_rows_are_label_then_pixels_row_by_row(self, tmp_path):
        path = tmp_path / "images.csv"
        write_image_csv(path, [[[1.5, 2], [3, 4]], [[5, 6], [7, 8]]], [1, -1])
        table = np.loadtxt(path, delimiter=",")
        np.testing.assert_array_equal(table, [[1, 1.5, 2, 3, 4], [-1, 5, 6, 7, 8]])

    def test_cutouts_round_trip(self, tmp_path, simulated_cutouts):
        cutouts = load_cutouts(simulated_cutouts)
        path = tmp_path / "raw_image_data.csv"
        write_image_csv(path, cutouts.images, cutouts.labels)
        pixels, labels = read_image_csv(path)
        np.testing.assert_array_equal(pixels.astype(np.float32).reshape(cutouts.images.shape), cutouts.images)
        np.testing.assert_array_equal(labels, cutouts.labels)

    @pytest.mark.parametrize(
        ("content", "row"),
        [
            ("0,1,2\n1,nan,4\n", "row 2"),
            ("0,1,2\n1,3,\n", "row 2"),
            ("0,1,2\n1,inf,4\n1,inf,5\n", "row 2"),
            ("7,1,2\n1,3,4\n", "row 1"),
            ("0,1,2\n0,1,2\n0.5,3,4\n", "row 3"),
            (",1,2\n", "row 1"),
            ("0,1,2\n1,abc,4\n", "row 2"),
            ("0,1,2\n0,1,2\n1,true,4\n", "row 3"),
            ("0,true,2\n1,false,4\n", "row 1"),
            ("label,p0,p1\n0,1,2\n", "row 1"),
            ("0,1,2\n1,2019-09-17,4\n", "row 2"),
            ("0,2019-09-17,2\n", "row 1"),
            ("0,1,2\n1,1e400,4\n", "row 2"),
            ("0,1,2\n1,2_5,4\n", "row 2"),
            ("0_1,1,2\n", "row 1"),
            ("0,1,٢\n", "row 1"),
        ],
        ids=repr,
    )
    def test_bad_value_is_named_by_file_and_row(self, tmp_path, content, row):
        path = tmp_path / "images.csv"
        path.write_text(content)
        with pytest.raises(ValueError, match=rf"images\.csv: {row} "):
            read_image_csv(path)

    @pytest.mark.parametrize(
        "content",
        ["0,1,2\n1,3\n", "0,1,2\n1,3,4,5\n", "0,12:30:00,2\n", "", "\0\1\2", "\x1f\n\n"],
        ids=["short_row", "long_row", "time", "empty_file", "bytes", "control characters"],
    )
    def test_file_that_is_no_table_of_numbers_is_named(self, tmp_path, content):
        path = tmp_path / "images.csv"
        path.write_text(content)
        with pytest.raises(ValueError, match=r"images\.csv"):
            read_image_csv(path)

    def test_missing_file_is_named(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"images\.csv: no such file; run notebook 3"):
            read_image_csv(tmp_path / "images.csv")

    def test_write_with_too_few_labels_keeps_the_old_file(self, tmp_path):
        path = tmp_path / "images.csv"
        write_image_csv(path, np.ones((1, 2, 2)), [0])
        before = path.read_bytes()
        with pytest.raises(ValueError):
            write_image_csv(path, np.ones((3, 2, 2)), [0, 1])
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]

    def test_write_that_fails_half_way_leaves_no_half_file(self, tmp_path):
        path = tmp_path / "images.csv"
        write_image_csv(path, np.ones((1, 2, 2)), [0])
        before = path.read_bytes()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
        try:
            with pytest.raises(OSError):
                write_image_csv(path, np.random.default_rng(0).normal(size=(2000, 20, 20)), np.zeros(2000))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]
