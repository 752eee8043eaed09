import tracemalloc

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ztf_sg import CutoutSet, iter_parquet, load_cutouts
from ztf_sg.cutouts import HEADER_KEYS, CutoutError, check_cutout, iter_row_groups, row_group_sizes
from ztf_sg.cutouts.columns import OPTIONAL_COLUMNS
from ztf_sg.cutouts.schema import COLUMNS

SHAPE = (4, 4)


def make_cutouts(n=5, shape=SHAPE, random_state=0):
    rng = np.random.default_rng(random_state)
    numbers = {name: rng.uniform(1, 2, n) for name in COLUMNS[1:] if name not in ("filter", "origin")}
    texts = {"filter": ["ZTF_i"] * n, "origin": ["Zwicky Transient Facility"] * n}
    table = pd.DataFrame({"name": [f"star_{row}" for row in range(n)]} | numbers | texts)
    images = rng.normal(250, 7, (n, *shape)).astype(np.float32)
    return CutoutSet(images, rng.integers(-1, 2, n).astype(np.int8), table[list(COLUMNS)])


def assert_same(found, expected):
    assert found.images.dtype == np.float32
    assert found.images.tobytes() == expected.images.tobytes()
    assert found.images.shape == expected.images.shape
    assert found.labels.dtype == np.int8
    np.testing.assert_array_equal(found.labels, expected.labels)
    pd.testing.assert_frame_equal(found.table, expected.table, check_exact=True)
    assert found.skipped.empty and list(found.skipped.columns) == ["name", "reason"]


def changed(cutouts, **columns):
    """Return the cutouts as a DataFrame with other columns; None takes a column away."""
    frame = cutouts.to_table().to_pandas()
    for name, values in columns.items():
        frame = frame.drop(columns=name) if values is None else frame.assign(**{name: values})
    return frame


def frames(cutouts):
    """Return the cutouts in the forms that a DataFrame's column of images may have."""
    flat = cutouts.images.reshape(len(cutouts), -1)
    arrow = cutouts.to_table()
    lists = arrow["image"].combine_chunks().cast(pa.list_(pa.float32()))
    struct = pa.StructArray.from_arrays([lists], ["pixels"])
    pixels = pa.StructArray.from_arrays([lists.flatten()], ["pixels"])
    structs = pa.ListArray.from_arrays(lists.offsets, pixels)
    return {
        "arrays": changed(cutouts, image=pd.Series(list(flat))),
        "arrays with two axes": changed(cutouts, image=pd.Series(list(cutouts.images))),
        "lists": changed(cutouts, image=pd.Series(flat.tolist())),
        "lists of lists": changed(cutouts, image=pd.Series(cutouts.images.tolist())),
        "double": changed(cutouts, image=pd.Series(list(flat.astype(float)))),
        "arrow": arrow.to_pandas(types_mapper=pd.ArrowDtype),
        "arrow lists": changed(cutouts, image=pd.array(lists, dtype=pd.ArrowDtype(lists.type))),
        "nested": changed(cutouts, image=pd.array(struct, dtype=pd.ArrowDtype(struct.type))),
        "nested, row by row": changed(cutouts, image=pd.array(structs, dtype=pd.ArrowDtype(structs.type))),
        "other index": changed(cutouts).set_index(np.arange(len(cutouts)) * 7 + 3),
    }


@st.composite
def any_cutouts(draw):
    shape = draw(hnp.array_shapes(min_dims=3, max_dims=3, max_side=5))
    finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
    cutouts = make_cutouts(shape[0], shape[1:], draw(st.integers(0, 99)))
    images = draw(hnp.arrays(np.float32, shape, elements=finite))
    texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
    column = st.lists(texts, min_size=len(images), max_size=len(images))
    gaps = draw(hnp.arrays(bool, (len(images), 8)))
    table = cutouts.table.assign(name=draw(column), filter=draw(column), origin=draw(column))
    for name, gap in zip(["ra", "dec", *OPTIONAL_COLUMNS[1:]], gaps.T, strict=True):
        table.loc[gap, name] = np.nan
    return CutoutSet(images, cutouts.labels, table)


class TestRoundTrip:
    @given(any_cutouts())
    def test_parquet_keeps_every_bit(self, tmp_path_factory, cutouts):
        path = tmp_path_factory.getbasetemp() / "round_trip.parquet"
        cutouts.to_parquet(path)
        assert_same(CutoutSet.read_parquet(path), cutouts)
        assert_same(CutoutSet.from_table(cutouts.to_table()), cutouts)

    def test_simulated_cutouts_round_trip(self, simulated_cutouts, tmp_path):
        cutouts = load_cutouts(simulated_cutouts)
        cutouts.to_parquet(tmp_path / "cutouts.parquet")
        assert_same(CutoutSet.read_parquet(tmp_path / "cutouts.parquet"), cutouts)

    def test_real_cutouts_round_trip(self, real_cutouts, tmp_path):
        cutouts = load_cutouts(real_cutouts)
        cutouts.to_parquet(tmp_path / "cutouts.parquet")
        assert_same(CutoutSet.read_parquet(tmp_path / "cutouts.parquet"), cutouts)

    @pytest.mark.parametrize("origin", [[None] * 5, ["IPAC", None, "ZTF", None, None]], ids=str)
    def test_an_origin_may_be_missing(self, tmp_path, origin):
        cutouts = make_cutouts()
        cutouts = CutoutSet(cutouts.images, cutouts.labels, cutouts.table.assign(origin=origin))
        cutouts.to_parquet(tmp_path / "a.parquet")
        assert_same(CutoutSet.read_parquet(tmp_path / "a.parquet"), cutouts)

    def test_an_empty_set_keeps_its_shape(self, tmp_path):
        cutouts = make_cutouts(shape=(3, 5))[[]]
        cutouts.to_parquet(tmp_path / "a.parquet")
        assert_same(CutoutSet.read_parquet(tmp_path / "a.parquet"), cutouts)
        assert len(CutoutSet.from_table(cutouts.to_table().to_pandas())) == 0

    def test_other_columns_are_kept(self, tmp_path):
        cutouts = make_cutouts()
        more = {"object": np.arange(5) + 2**60, "night": pd.date_range("2019-09-12", periods=5), "good": True}
        cutouts = CutoutSet(cutouts.images, cutouts.labels, cutouts.table.assign(**more))
        cutouts.to_parquet(tmp_path / "a.parquet")
        assert_same(CutoutSet.read_parquet(tmp_path / "a.parquet"), cutouts)
        assert_same(CutoutSet.from_table(changed(cutouts)), cutouts)

    def test_a_table_with_a_column_of_images_is_refused(self):
        cutouts = make_cutouts()
        cutouts = CutoutSet(cutouts.images, cutouts.labels, cutouts.table.assign(image=0))
        with pytest.raises(ValueError, match="'image' already"):
            cutouts.to_table()


class TestFiles:
    @pytest.fixture
    def path(self, tmp_path, monkeypatch):
        """Return a file with row groups of 4, 4 and 2 cutouts."""
        monkeypatch.setattr("ztf_sg.cutouts.arrow.ROW_GROUP", 4)
        make_cutouts(10).to_parquet(tmp_path / "a.parquet")
        return tmp_path / "a.parquet"

    @pytest.fixture
    def folder(self, tmp_path, monkeypatch):
        """Return a folder with two files; the second by its number comes first by the alphabet."""
        monkeypatch.setattr("ztf_sg.cutouts.arrow.ROW_GROUP", 4)
        folder = tmp_path / "parts"
        make_cutouts(10)[:6].to_parquet(folder / "part_2.parquet")
        make_cutouts(10)[6:].to_parquet(folder / "part_10.parquet")
        (folder / "_metadata").write_bytes(b"")
        return folder

    def test_row_groups_can_be_had_one_by_one(self, path):
        assert row_group_sizes(path) == [4, 4, 2]
        assert_same(CutoutSet.read_parquet(path, row_groups=[1]), make_cutouts(10)[4:8])
        assert_same(CutoutSet.read_parquet(path, row_groups=[2, 0]), make_cutouts(10)[[8, 9, 0, 1, 2, 3]])
        assert len(CutoutSet.read_parquet(path, row_groups=iter([2, 0]))) == 6
        assert len(CutoutSet.read_parquet(path, row_groups=[])) == 0

    @pytest.mark.parametrize("number", [3, -1])
    def test_a_row_group_that_is_not_there_is_named(self, path, number):
        with pytest.raises(IndexError, match=rf"a\.parquet: row group {number} asked for, there are 3"):
            CutoutSet.read_parquet(path, row_groups=[number])

    def test_a_folder_reads_as_one_in_natural_order(self, folder):
        assert row_group_sizes(folder) == [4, 2, 4]
        assert_same(CutoutSet.read_parquet(folder), make_cutouts(10))
        assert_same(CutoutSet.read_parquet(folder, row_groups=[2]), make_cutouts(10)[6:])

    @pytest.mark.parametrize("rows", [1, 3, 100])
    def test_iterating_gives_everything_once(self, folder, rows):
        parts = list(iter_parquet(folder, rows=rows))
        assert all(0 < len(part) <= rows for part in parts)
        images = np.concatenate([part.images for part in parts])
        np.testing.assert_array_equal(images, make_cutouts(10).images)

    def test_iterating_holds_little_in_memory(self, tmp_path):
        cutouts = make_cutouts(2000, (20, 20))
        cutouts[np.arange(20_000) % 2000].to_parquet(tmp_path / "a.parquet")
        tracemalloc.start()
        before = pa.total_allocated_bytes()
        try:
            held = [
                pa.total_allocated_bytes() - before for _ in iter_parquet(tmp_path / "a.parquet", rows=500)
            ]
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(held) == 40
        assert peak < 1600 * 500 * 6
        assert max(held) < 1600 * 4096 * 3

    def test_missing_file_is_named(self, tmp_path):
        for read in (CutoutSet.read_parquet, row_group_sizes, lambda path: next(iter_parquet(path))):
            with pytest.raises(FileNotFoundError, match="nowhere: no such file or folder; write one with"):
                read(tmp_path / "nowhere")

    def test_folder_without_parquet_is_named(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=rf"{tmp_path.name}: holds no \*.parquet files"):
            CutoutSet.read_parquet(tmp_path)

    @pytest.mark.parametrize("content", [b"", b"PAR1", b"<html>" * 100, b"PAR1" + b"\0" * 100 + b"PAR1"])
    def test_file_that_is_not_parquet_is_named(self, tmp_path, content):
        path = tmp_path / "a.parquet"
        path.write_bytes(content)
        for read in (CutoutSet.read_parquet, row_group_sizes, lambda path: next(iter_parquet(path))):
            with pytest.raises(CutoutError, match=r"a\.parquet: is no whole Parquet file .*; write it again"):
                read(path)

    @given(st.data())
    def test_truncated_file_is_named(self, tmp_path_factory, data):
        path = tmp_path_factory.getbasetemp() / "truncated.parquet"
        make_cutouts().to_parquet(path)
        content = path.read_bytes()
        path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
        with pytest.raises(CutoutError, match=r"truncated\.parquet: is no whole Parquet file"):
            CutoutSet.read_parquet(path)

    @given(st.data())
    def test_damaged_pixels_are_found_out(self, tmp_path_factory, data):
        path = tmp_path_factory.getbasetemp() / "damaged.parquet"
        make_cutouts(50, (20, 20)).to_parquet(path)
        content = bytearray(path.read_bytes())
        column = pq.read_metadata(path).row_group(0).column(len(COLUMNS) + 1)
        assert column.path_in_schema == "image.list.element"
        end = column.data_page_offset + column.total_compressed_size
        content[data.draw(st.integers(end - 20_000, end - 1))] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(content)
        with pytest.raises(CutoutError, match=r"damaged\.parquet"):
            CutoutSet.read_parquet(path)

    def test_write_that_fails_keeps_the_old_file(self, path, monkeypatch):
        before = path.read_bytes()
        monkeypatch.setattr("ztf_sg.cutouts.arrow.pq.write_table", lambda *args, **options: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            make_cutouts(3).to_parquet(path)
        assert path.read_bytes() == before
        assert list(path.parent.iterdir()) == [path]

    def test_files_of_different_shapes_are_refused(self, folder):
        make_cutouts(3, (5, 5)).to_parquet(folder / "part_11.parquet")
        with pytest.raises(CutoutError, match=r"part_11.parquet: 3 of 3 rows .* expected 4 x 4 px, got 25"):
            CutoutSet.read_parquet(folder)
        assert len(CutoutSet.read_parquet(folder, on_error="skip").skipped) == 3

    def test_bad_rows_are_counted_in_the_file(self, tmp_path, monkeypatch):
        monkeypatch.setattr("ztf_sg.cutouts.arrow.ROW_GROUP", 4)
        cutouts = make_cutouts(10)
        cutouts.images[[6, 7], 0, 0] = np.nan
        cutouts.to_parquet(tmp_path / "a.parquet")
        for read in (CutoutSet.read_parquet, lambda path: list(iter_parquet(path, rows=3))):
            with pytest.raises(
                CutoutError, match="a.parquet: 2 of .* rows cannot be used, counted from 0: 6, 7; .*star_6"
            ):
                read(tmp_path / "a.parquet")
        for found in (
            CutoutSet.read_parquet(tmp_path / "a.parquet", on_error="skip").skipped,
            pd.concat(part.skipped for part in iter_parquet(tmp_path / "a.parquet", on_error="skip")),
        ):
            assert found["name"].tolist() == ["star_6", "star_7"]

    @pytest.mark.parametrize("rows", [1, 3, 100])
    @pytest.mark.parametrize("row_groups", [[0, 2], [2, 0], [2]], ids=str)
    def test_bad_rows_are_counted_in_the_file_whatever_row_groups_are_read(
        self, tmp_path, monkeypatch, row_groups, rows
    ):
        monkeypatch.setattr("ztf_sg.cutouts.arrow.ROW_GROUP", 4)
        cutouts = make_cutouts(12)
        cutouts.images[9, 0, 0] = np.nan
        cutouts.to_parquet(tmp_path / "a.parquet")
        with pytest.raises(CutoutError, match="rows cannot be used, counted from 0: 9; the first: star_9"):
            list(iter_row_groups(tmp_path / "a.parquet", row_groups, rows))

    def test_parquet_written_by_pandas_reads(self, tmp_path):
        cutouts = make_cutouts()
        frame = changed(cutouts, origin=None, apcor3=None, label=None).set_index("ra")
        frame.to_parquet(tmp_path / "a.parquet")
        found = CutoutSet.read_parquet(tmp_path / "a.parquet")
        np.testing.assert_array_equal(found.images, cutouts.images)
        np.testing.assert_array_equal(found.table["ra"], cutouts.table["ra"])
        assert found.labels.tolist() == [0] * 5
        assert found.table["apcor3"].isna().all() and found.table["origin"].isna().all()


class TestTables:
    @pytest.mark.parametrize("form", frames(make_cutouts()))
    def test_any_form_of_images_gives_the_same(self, form):
        assert_same(CutoutSet.from_table(frames(make_cutouts())[form]), make_cutouts())

    def test_batches_give_the_same(self):
        (batch,) = make_cutouts().to_table().to_batches()
        assert_same(CutoutSet.from_table(batch), make_cutouts())
        assert_same(CutoutSet.from_table(batch[2:4]), make_cutouts()[2:4])

    def test_metadata_of_the_whole_table_may_state_the_shape(self):
        cutouts = make_cutouts(shape=(2, 6))
        table = cutouts.to_table().cast(pa.schema([f.remove_metadata() for f in cutouts.to_table().schema]))
        with pytest.raises(CutoutError, match="no square cutout; .* the column the metadata"):
            CutoutSet.from_table(table)
        table = table.replace_schema_metadata({"height": "2", "width": "6"})
        assert_same(CutoutSet.from_table(table), cutouts)

    def test_images_with_two_axes_may_be_oblong(self):
        cutouts = make_cutouts(shape=(2, 6))
        assert_same(CutoutSet.from_table(changed(cutouts, image=pd.Series(list(cutouts.images)))), cutouts)

    @pytest.mark.parametrize("missing", [["image"], ["gain", "seeing"], ["name"]], ids=str)
    def test_missing_columns_are_named(self, missing):
        with pytest.raises(CutoutError, match=f"table: lacks the columns {', '.join(sorted(missing)[::-1])}"):
            CutoutSet.from_table(changed(make_cutouts(), **dict.fromkeys(missing)))

    @pytest.mark.parametrize("name, values", [("seeing", "sharp"), ("label", "star"), ("magzp", [[1]] * 5)])
    def test_rows_are_named_if_no_value_of_a_column_is_of_use(self, name, values):
        table = changed(make_cutouts(), **{name: values})
        with pytest.raises(CutoutError, match=f"5 of 5 rows .*star_0: its {name} is .*, expected a number"):
            CutoutSet.from_table(table)
        skipped = CutoutSet.from_table(table, on_error="skip").skipped
        assert skipped["name"].tolist() == make_cutouts().table["name"].tolist()

    @pytest.mark.parametrize(
        "name, values, said",
        [
            ("seeing", [True, False, True, True, True], "expected a number a row, got bool"),
            ("obsmjd", pd.date_range("2020", periods=5), "expected a number a row, got timestamp"),
            ("label", [False] * 5, "expected a number a row, got bool"),
            ("filter", [1, 2, 3, 4, 5], "expected text a row, got int64"),
            ("name", pd.date_range("2020", periods=5), "expected text a row, got timestamp"),
        ],
    )
    def test_columns_of_another_type_are_named(self, name, values, said):
        table = make_cutouts().to_table()
        number = table.schema.get_field_index(name)
        table = table.set_column(number, name, pa.array(values))
        with pytest.raises(CutoutError, match=f"table: column {name}: {said}"):
            CutoutSet.from_table(table, on_error="skip")

    def test_the_mask_of_pixels_is_kept_from_dask_and_pyarrow(self):
        cutouts = make_cutouts()
        images = [np.ma.masked_array(image, np.zeros_like(image, bool)) for image in cutouts.images]
        images[1][0, 0] = np.ma.masked
        for cells in (images, [image.ravel() for image in images]):
            loaded = CutoutSet.from_table(changed(cutouts, image=pd.Series(cells)), on_error="skip")
            assert loaded.skipped["name"].tolist() == [cutouts.table["name"][1]]
            assert "1 of 16 pixels are NaN" in loaded.skipped["reason"][0]
            np.testing.assert_array_equal(loaded.images, cutouts.images[[0, 2, 3, 4]])
        with pytest.raises(CutoutError, match="1 of 5 cutouts .* 1 of 16 pixels are NaN"):
            CutoutSet(np.ma.stack(images), cutouts.labels, cutouts.table)

    @pytest.mark.parametrize(
        "cell",
        [
            set(range(16)),
            frozenset(range(16)),
            dict.fromkeys(range(16), 1.0),
            np.ones((2, 4, 4)),
            [True] * 16,
            5,
            "pixels",
        ],
        ids=repr,
    )
    def test_what_is_no_list_of_pixels_costs_its_row_alone(self, cell):
        cutouts = make_cutouts()
        images = [*cutouts.images.reshape(5, -1)[:4], cell]
        loaded = CutoutSet.from_table(changed(cutouts, image=pd.Series(images)), on_error="skip")
        np.testing.assert_array_equal(loaded.images, cutouts.images[:4])
        assert loaded.skipped["name"].tolist() == [cutouts.table["name"][4]]

    def test_images_with_three_axes_set_no_shape(self):
        cutouts = make_cutouts()
        images = [np.ones((3, 4, 4))] * 3 + list(cutouts.images[3:])
        loaded = CutoutSet.from_table(changed(cutouts, image=pd.Series(images)), on_error="skip")
        np.testing.assert_array_equal(loaded.images, cutouts.images[3:])
        assert loaded.skipped["reason"].str.contains("expected 4 x 4 px, got 3 x 4 x 4").all()

    @pytest.mark.parametrize(
        "convert",
        [
            lambda images: list(images[:, None]),
            lambda images: list(images.reshape(5, 1, 1, 4, 4)),
            lambda images: pa.FixedShapeTensorArray.from_numpy_ndarray(images[:, None]),
            lambda images: pa.FixedShapeTensorArray.from_numpy_ndarray(images.reshape(5, 16)),
            lambda images: pa.FixedShapeTensorArray.from_numpy_ndarray(images),
            lambda images: pa.array(images.reshape(5, 16).tolist(), pa.list_view(pa.float32())),
        ],
        ids=["channel", "channels", "tensor with channel", "flat tensor", "tensor", "list view"],
    )
    def test_pixels_as_pipelines_of_images_have_them(self, convert):
        cutouts = make_cutouts()
        images = convert(cutouts.images)
        if isinstance(images, list):
            table = changed(cutouts, image=pd.Series(images))
        else:
            table = cutouts.to_table().drop_columns("image").append_column("image", images)
        assert_same(CutoutSet.from_table(table), cutouts)

    def test_columns_that_pandas_cannot_hold_are_left_out_with_a_word(self):
        table = make_cutouts().to_table().append_column("t", pa.array([5] * 5, pa.time64("ns")))
        with pytest.warns(UserWarning, match="column t: pandas cannot hold it .* it is left out"):
            assert_same(CutoutSet.from_table(table), make_cutouts())

    def test_shape_of_most_counts_whatever_file_comes_first(self, tmp_path):
        cutouts = make_cutouts()
        odd = pd.DataFrame(make_cutouts(n=2).table).assign(image=[np.ones(9), np.ones(9)])
        pq.write_table(pa.Table.from_pandas(odd), tmp_path / "a.parquet")
        cutouts.to_parquet(tmp_path / "b.parquet")
        loaded = CutoutSet.read_parquet(tmp_path, on_error="skip")
        np.testing.assert_array_equal(loaded.images, cutouts.images)
        assert loaded.skipped["reason"].str.contains("expected 4 x 4 px, got 9").all()

    @pytest.mark.parametrize("label", ["QSO", True, 7, None], ids=repr)
    def test_labels_that_are_not_wanted_may_be_anything(self, tmp_path, label):
        table = make_cutouts().to_table().drop_columns("label")
        table = table.append_column("label", pa.array([label] * 5))
        pq.write_table(table, tmp_path / "a.parquet")
        (loaded,) = iter_row_groups(tmp_path, labels=False)
        assert loaded.labels.tolist() == [-1] * 5
        np.testing.assert_array_equal(loaded.images, make_cutouts().images)

    @pytest.mark.parametrize("stated", [("four", "4"), ("0", "16"), ("-4", "-4"), ("4.0", "4")], ids=str)
    def test_damaged_metadata_of_the_shape_are_named(self, stated):
        table = make_cutouts().to_table()
        metadata = dict(zip(("height", "width"), stated, strict=True))
        field = table.schema.field("image").with_metadata(metadata)
        table = table.set_column(table.schema.get_field_index("image"), field, table["image"])
        with pytest.raises(CutoutError, match="table: the metadata state height .*; correct or remove them"):
            CutoutSet.from_table(table)

    @pytest.mark.parametrize("metadata", [b"{", b"\xff\xfe", b"[]", b'{"columns": 1}'], ids=repr)
    def test_damaged_metadata_of_pandas_do_not_matter(self, metadata):
        table = make_cutouts().to_table().replace_schema_metadata({b"pandas": metadata})
        assert_same(CutoutSet.from_table(table), make_cutouts())

    def test_labels_may_be_missing_and_must_be_labels(self):
        labels = pd.array([0, 1, None, -1, 0], dtype="Int8")
        assert CutoutSet.from_table(changed(make_cutouts(), label=labels)).labels.tolist() == [
            0,
            1,
            -1,
            -1,
            0,
        ]
        with pytest.raises(CutoutError, match="2; the first: star_2: its label is 2, expected 0 .star.,"):
            CutoutSet.from_table(changed(make_cutouts(), label=[0, 1, 2, 0, 0]))

    def test_names_may_be_numbers(self):
        found = CutoutSet.from_table(changed(make_cutouts(), name=np.arange(5) + 10**17, label=None))
        assert found.table["name"].iloc[1] == "100000000000000001"
        assert found.labels.tolist() == [-1] * 5

    FAULTS = {
        "4 of 16 pixels are NaN or infinite": {"image": [np.tile([1, np.inf, 2, 3], 4)]},
        "1 of 16 pixels are NaN or infinite": {"image": [[None, *range(15)]]},
        "expected 4 x 4 px, got 25": {"image": [np.ones(25)]},
        "its image is no list of pixels": {"image": [None]},
        "header lacks GAIN": {"gain": [None]},
        "header lacks SEEING, FILTER": {"seeing": [np.nan], "filter": [None]},
        "SEEING = 0.0, expected 0.1 to 100 px": {"seeing": [0.0]},
    }

    @pytest.mark.parametrize("reason", FAULTS)
    def test_rows_that_cannot_be_used_are_named_or_skipped(self, reason):
        frame = changed(make_cutouts())
        for name, (value,) in self.FAULTS[reason].items():
            values = frame[name].tolist()
            values[2] = value
            frame[name] = pd.Series(values)
        with pytest.raises(
            CutoutError, match=f"1 of 5 rows cannot be used, counted from 0: 2; the first: star_2.*{reason}"
        ):
            CutoutSet.from_table(frame)
        found = CutoutSet.from_table(frame, on_error="skip")
        assert found.table["name"].tolist() == ["star_0", "star_1", "star_3", "star_4"]
        np.testing.assert_array_equal(found.images, make_cutouts().images[[0, 1, 3, 4]])
        assert found.skipped["name"].tolist() == ["star_2"]
        assert reason in found.skipped["reason"].iloc[0]

    def test_two_axes_the_other_way_round_are_not_mistaken(self):
        cutouts = make_cutouts(shape=(2, 6))
        images = list(cutouts.images)
        images[1] = images[1].T
        found = CutoutSet.from_table(changed(cutouts, image=pd.Series(images)), on_error="skip")
        assert found.skipped["reason"].iloc[0].startswith("star_1: expected 2 x 6 px, got 6 x 2")

    @given(st.data())
    def test_rows_are_judged_as_files_are(self, data):
        values = st.sampled_from([1.0, 0.0, -1.0, 1e-155, 1e13, np.inf, np.nan])
        frame = changed(make_cutouts())
        for name in ("seeing", "magzp", "exptime", "gain", "saturate", "apcor1"):
            frame[name] = data.draw(st.lists(values, min_size=5, max_size=5))
        frame["filter"] = data.draw(st.lists(st.sampled_from(["ZTF_i", None]), min_size=5, max_size=5))
        found = CutoutSet.from_table(frame, on_error="skip")
        reasons = dict(zip(found.skipped["name"], found.skipped["reason"], strict=True))
        for row, image in zip(frame.to_dict("records"), make_cutouts().images, strict=True):
            header = {key: row[key.lower()] for key in HEADER_KEYS if not pd.isna(row[key.lower()])}
            try:
                check_cutout(row["name"], image, header)
            except CutoutError as error:
                assert reasons.pop(row["name"]) == str(error)
        assert not reasons

    def test_partitions_may_be_empty(self):
        found = CutoutSet.from_table(pd.DataFrame(columns=[*COLUMNS, "image"]))
        assert found.images.shape == (0, 20, 20)
        assert list(found.table.columns) == list(COLUMNS)

    def test_a_first_row_group_without_images_does_not_set_the_shape(self, tmp_path):
        table = make_cutouts().to_table()
        images = [None, None, *make_cutouts().images[2:].reshape(3, -1)]
        table = table.drop(["image"]).append_column("image", pa.array(images, pa.list_(pa.float32())))
        pq.write_table(table, tmp_path / "a.parquet", row_group_size=2)
        found = CutoutSet.read_parquet(tmp_path / "a.parquet", on_error="skip")
        np.testing.assert_array_equal(found.images, make_cutouts().images[2:])
        assert found.skipped["name"].tolist() == ["star_0", "star_1"]

    def test_all_rows_may_be_skipped(self):
        found = CutoutSet.from_table(changed(make_cutouts(), gain=np.nan), on_error="skip")
        assert len(found) == 0 and len(found.skipped) == 5
        assert found.images.shape == (0, *SHAPE)

    def test_another_on_error_is_refused(self):
        with pytest.raises(ValueError, match="'ignore'"):
            CutoutSet.from_table(changed(make_cutouts()), on_error="ignore")

    def test_the_table_is_left_alone_and_shares_no_memory(self):
        table = make_cutouts().to_table()
        found = CutoutSet.from_table(table)
        found.images[:] = 0
        assert_same(CutoutSet.from_table(table), make_cutouts())


class TestOddValues:
    """A value that is no number, or not finite, costs its row; a column of another type is named."""

    BAD = {
        "magzp": [np.inf, 1e300, "n/a", "25,6", "2_5", "٢٥", [1.0], True, b"x"],
        "gain": [-np.inf, -6.2, 1e-300, 1e300, "6.2 e-/DN", b"6_2", {"gain": 6.2}],
        "seeing": [np.inf, 1e-155, pd.NA, None, 10**400],
        "saturate": [np.nan, np.inf],
        "apcor3": [np.inf, "none"],
        "ra": [np.inf, "12:30:00"],
        "dec": [91.0, -np.inf],
        "filter": [None, 5],
        "label": [7, "star", 0.5],
    }
    CASES = [(name, value) for name, values in BAD.items() for value in values]

    @pytest.mark.parametrize("name, value", CASES, ids=str)
    def test_costs_only_its_row(self, name, value):
        frame = changed(make_cutouts())
        frame[name] = frame[name].astype(object)
        frame.at[2, name] = value
        with pytest.raises(
            CutoutError, match="1 of 5 rows cannot be used, counted from 0: 2; the first: star_2"
        ):
            CutoutSet.from_table(frame)
        found = CutoutSet.from_table(frame, on_error="skip")
        np.testing.assert_array_equal(found.images, make_cutouts().images[[0, 1, 3, 4]])
        assert found.skipped["name"].tolist() == ["star_2"]

    @pytest.mark.parametrize(
        "name, value", [("apcor1", np.nan), ("ra", np.nan), ("origin", None), ("name", None)]
    )
    def test_what_need_not_be_known_may_lack(self, name, value):
        frame = changed(make_cutouts())
        frame[name] = frame[name].astype(object)
        frame.at[2, name] = value
        found = CutoutSet.from_table(frame)
        assert len(found) == 5 and pd.isna(found.table[name].iloc[2])

    def test_a_row_without_a_name_is_called_by_its_number(self):
        frame = changed(make_cutouts(), gain=[6.2, 6.2, -1.0, 6.2, 6.2], name=[None] * 5)
        assert CutoutSet.from_table(frame, on_error="skip").skipped["name"].tolist() == ["row 2"]

    def test_right_ascensions_are_brought_to_a_circle(self):
        found = CutoutSet.from_table(changed(make_cutouts(), ra=[-5.0, 360.0, 359.0, 725.0, 0.0]))
        assert found.table["ra"].tolist() == [355.0, 0.0, 359.0, 5.0, 0.0]

    @given(
        st.lists(
            st.one_of(
                st.floats(),
                st.none(),
                st.text(max_size=3),
                st.booleans(),
                st.integers(),
                st.binary(max_size=2),
            ),
            min_size=4,
            max_size=4,
        ),
        st.sampled_from(["magzp", "gain", "apcor2", "ra", "label", "filter"]),
    )
    def test_any_values_beside_a_good_row_leave_it_as_it_is(self, values, name):
        frame = changed(make_cutouts(), **{name: None})
        good = {"filter": "ZTF_i", "label": 1}.get(name, 1.5)
        frame[name] = pd.Series([good, *values], dtype=object)
        found = CutoutSet.from_table(frame, on_error="skip")
        assert len(found) + len(found.skipped) == 5
        np.testing.assert_array_equal(found.images[0], make_cutouts().images[0])
        assert found.table["name"].iloc[0] == "star_0"
        assert np.isfinite(found.table[["magzp", "gain"]]).all(axis=None)


class TestOddPixels:
    def test_text_that_dask_made_of_arrays_is_named(self):
        dataframe = pytest.importorskip("dask.dataframe")
        frame = dataframe.from_pandas(changed(make_cutouts()), npartitions=1).compute()
        with pytest.raises(
            CutoutError, match="image: expected lists of pixels, got .*string.*dataframe.convert-string"
        ):
            CutoutSet.from_table(frame, on_error="skip")

    KINDS = {
        "bytes": (lambda image: image.tobytes(), "got binary; .*numpy.frombuffer"),
        "fixed bytes": (lambda image: image.tobytes(), "got fixed_size_binary"),
        "text": (str, "got .*string"),
        "numbers": (lambda image: float(image.sum()), "got double"),
        "gzip FITS of an alert": (
            lambda image: b"\x1f\x8b" + image.tobytes(),
            "these are FITS files, as in alerts",
        ),
        "dictionaries": (lambda image: {"data": image.ravel(), "shape": 4}, "got struct"),
        "lists of text": (
            lambda image: [str(pixel) for pixel in image.ravel()],
            "lists of numbers, got lists of",
        ),
        "lists of truth values": (
            lambda image: (image > 250).ravel().tolist(),
            "lists of numbers, got lists of bool",
        ),
    }

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("container", [pd.DataFrame, pa.Table])
    def test_columns_of_another_type_are_named(self, kind, container):
        convert, said = self.KINDS[kind]
        cutouts = make_cutouts()
        images = [convert(image) for image in cutouts.images]
        table = cutouts.to_table().drop_columns("image")
        if kind == "fixed bytes":
            table = table.append_column("image", pa.array(images, pa.binary(len(images[0]))))
        else:
            table = table.append_column("image", pa.array(images))
        table = table.to_pandas(types_mapper=pd.ArrowDtype) if container is pd.DataFrame else table
        with pytest.raises(CutoutError, match=f"table: column image: .*{said}"):
            CutoutSet.from_table(table, on_error="skip")

    @pytest.mark.parametrize(
        "value", [b"1234567890123456", "abc", 3.0, None, {}, [b"1"] * 16, [True] * 16, np.nan]
    )
    def test_one_odd_image_costs_its_row(self, value):
        frame = changed(make_cutouts())
        frame["image"] = pd.Series([value, *make_cutouts().images[1:]], dtype=object)
        found = CutoutSet.from_table(frame, on_error="skip")
        np.testing.assert_array_equal(found.images, make_cutouts().images[1:])
        assert found.skipped["reason"].str.contains("star_0: its image is no list of pixels").all()

    def test_pixels_beyond_float32_cost_their_row(self):
        images = list(make_cutouts().images.reshape(5, -1).astype(float))
        images[1] = np.full(16, 1e300)
        found = CutoutSet.from_table(changed(make_cutouts(), image=pd.Series(images)), on_error="skip")
        assert found.skipped["name"].tolist() == ["star_1"]

    def test_tensors_and_decimals_are_read(self):
        cutouts = make_cutouts(shape=(2, 3))
        tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(cutouts.images)
        table = cutouts.to_table().drop_columns("image").append_column("image", tensors)
        assert_same(CutoutSet.from_table(table), cutouts)
        decimals = pa.array([[1, 2, 3, 4]] * 5, pa.list_(pa.decimal128(10, 2)))
        table = cutouts.to_table().drop_columns("image").append_column("image", decimals)
        assert CutoutSet.from_table(table).images[0].tolist() == [[1.0, 2.0], [3.0, 4.0]]

    def test_most_usable_shapes_count(self):
        images = [np.ones(7), np.ones(7), np.ones(7), np.ones(16), np.ones(16)]
        found = CutoutSet.from_table(changed(make_cutouts(), image=pd.Series(images)), on_error="skip")
        assert len(found) == 2


class TestTablesAsTheyCome:
    @pytest.mark.parametrize("table", [{"name": []}, [{}], None, pd.Series([1]), np.zeros(3)], ids=str)
    def test_what_is_no_table_is_refused(self, table):
        with pytest.raises(TypeError, match="expected a pandas.DataFrame or a pyarrow.Table, got"):
            CutoutSet.from_table(table)

    def test_columns_in_capitals_are_hinted_at(self):
        frame = changed(make_cutouts()).rename(columns={"ra": "RA", "seeing": "SEEING"})
        with pytest.raises(
            CutoutError, match="lacks the columns ra, seeing; .*rename RA, SEEING to lower case"
        ):
            CutoutSet.from_table(frame)

    def test_repeated_columns_are_named(self):
        frame = changed(make_cutouts())
        with pytest.raises(CutoutError, match="several columns gain"):
            CutoutSet.from_table(pd.concat([frame, frame[["gain"]]], axis=1))

    def test_types_that_mean_the_same_are_read(self):
        frame = changed(make_cutouts(), filter=pd.Categorical(["ZTF_i"] * 5))
        foreign = ">f8" if pd.__version__ >= "3" else "f8"  # older versions refuse to choose columns then
        frame = frame.assign(
            gain=frame["gain"].to_numpy().astype(foreign), magzp=frame["magzp"].astype("Float64")
        )
        frame.index = pd.Index([7, 7, 7, 7, 7], name="gain")
        assert_same(CutoutSet.from_table(frame), make_cutouts())


class TestDamagedFiles:
    @pytest.fixture
    def folder(self, tmp_path):
        """Return a folder of three files of three row groups each, with names that tell them apart."""
        for number in range(3):
            cutouts = make_cutouts(6, random_state=number)
            table = cutouts.table.assign(name=[f"star_{number}_{row}" for row in range(6)])
            cutouts = CutoutSet(cutouts.images, cutouts.labels, table)
            how = {"row_group_size": 2, "write_page_checksum": True, "use_dictionary": False}
            pq.write_table(cutouts.to_table(), tmp_path / f"{number}.parquet", **how)
        return tmp_path

    def damage(self, path, group=1):
        found = pq.read_metadata(path).row_group(group)
        columns = [found.column(number) for number in range(found.num_columns)]
        (pixels,) = [column for column in columns if column.path_in_schema == "image.list.element"]
        content = bytearray(path.read_bytes())
        content[pixels.data_page_offset + pixels.total_compressed_size // 2] ^= 1
        path.write_bytes(content)

    @pytest.mark.parametrize("rows", [1, 2, 3, 100])
    def test_a_damaged_row_group_costs_only_its_rows(self, folder, rows):
        self.damage(folder / "1.parquet")
        with pytest.raises(CutoutError, match="1.parquet: is no whole Parquet file"):
            list(iter_parquet(folder, rows))
        parts = list(iter_parquet(folder, rows, on_error="skip"))
        names = [name for part in parts for name in part.table["name"]]
        lost = {"star_1_2", "star_1_3"}
        assert names == [
            f"star_{n}_{row}" for n in range(3) for row in range(6) if f"star_{n}_{row}" not in lost
        ]
        skipped = pd.concat([part.skipped for part in parts])
        assert skipped["name"].tolist() == ["1.parquet, row group 1"]
        assert skipped["reason"].str.startswith("2 rows are lost: ").all()
        found = CutoutSet.read_parquet(folder, on_error="skip")
        assert found.table["name"].tolist() == names

    @pytest.mark.parametrize("content", [b"", b"PAR1", b"\0" * 5000, b"<html></html>"])
    def test_a_damaged_file_costs_only_itself(self, folder, content):
        (folder / "0.parquet").write_bytes(content)
        found = CutoutSet.read_parquet(folder, on_error="skip")
        assert len(found) == 12
        assert found.skipped["name"].tolist() == ["0.parquet"]
