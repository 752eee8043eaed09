import numpy as np
import pandas as pd
import pytest
from astropy.table import Table

from ztf_sg.fetching.targets import Target, targets_by_class

SOURCE = "ztf_20190105192708_008003_zr_c06_o_q4_sciimg.fits"


def make_list(n=3, **columns):
    return pd.DataFrame({"RA": 5.0 + np.arange(n), "DEC": -1.0}).assign(**columns)


def objects_of(table, **options):
    """Return the first wanted cutout of each object of unknown class."""
    return [targets[0] for targets in targets_by_class(table, **options)["object"]]


class TestClasses:
    @pytest.mark.parametrize(
        "columns", [{}, {"type": ""}, {"type": None}, {"type": ["PSF", "", "REX"]}, {"type": "QSO"}]
    )
    def test_table_that_lacks_types_is_one_of_objects_whose_type_is_not_kept(self, columns):
        assert [(t.object, t.type) for t in objects_of(make_list(**columns))] == [
            ("object_0", ""), ("object_1", ""), ("object_2", "")
        ]  # fmt: skip

    def test_types_of_rows_with_faults_do_not_matter(self):
        table = make_list(type=["PSF", "", "REX"], fault=["", "no position", "not on the sky"])
        assert list(targets_by_class(table)) == ["star"]

    def test_tables_with_and_without_types_are_refused_together(self):
        with pytest.raises(ValueError, match="with and without types: fetch each into a folder of its own"):
            targets_by_class([make_list(type="PSF"), make_list()])

    def test_mixed_types_are_refused_with_both_remedies(self):
        with pytest.raises(ValueError, match="PSF, REX; split it, or leave out the types"):
            targets_by_class(make_list(2, type=["PSF", "REX"]))

    def test_empty_table_is_refused(self):
        with pytest.raises(ValueError, match="empty; give at least one row"):
            targets_by_class(make_list(0))

    def test_table_of_nothing_but_faults_has_no_targets(self):
        assert targets_by_class(make_list(fault="no position")) == {"object": []}


class TestColumns:
    def test_rows_with_faults_are_left_out_and_may_lack_a_position(self):
        table = make_list(4, fault=["", "no number", np.nan, ""]).assign(RA=[5.0, np.nan, 7.0, 8.0])
        assert [(t.number, t.RA) for t in objects_of(table)] == [(0, 5.0), (2, 7.0), (3, 8.0)]

    def test_position_missing_without_a_fault_is_named(self):
        table = make_list(3, fault=["bad", "", ""]).assign(RA=[np.nan, 6.0, np.nan])
        with pytest.raises(ValueError, match="1 of 3 rows have no position.*row 2 from 0"):
            targets_by_class(table)

    def test_names_are_kept_as_texts(self):
        assert [t.name for t in objects_of(make_list(name=["M 31", None, 7]))] == ["M 31", "", "7"]

    def test_motion_needs_all_its_columns_in_a_row(self):
        table = make_list(3, pmra=[1.0, np.nan, 3.0], pmdec=2.0, ref_epoch=[2016.0, 2016.0, None])
        assert [t.motion for t in objects_of(table)] == [(1.0, 2.0, 2016.0), None, None]
        assert {t.motion for t in objects_of(table.drop(columns="ref_epoch"))} == {None}

    def test_numbers_are_those_of_an_integer_column_object(self):
        assert [t.number for t in objects_of(make_list(object=[7, 3, 10]))] == [7, 3, 10]
        assert [t.number for t in objects_of(make_list(object=["a", "b", "c"]))] == [0, 1, 2]

    @pytest.mark.parametrize(
        ("numbers", "fault"), [([1, 1, 2], "row 1, from 0, has 1"), ([0, 1, -2], "row 2, from 0, has -2")]
    )
    def test_numbers_that_are_none_are_named(self, numbers, fault):
        with pytest.raises(
            ValueError, match=f"column object: {fault}; expected numbers from 0 on, each once"
        ):
            targets_by_class(make_list(object=numbers))

    def test_any_kind_of_table_and_case_will_do(self):
        table = Table(
            {"ra": [5.0], "dec": [-1.0], "Name": ["x"], "pmRA": [1.0], "pmDEC": [2.0], "Ref_Epoch": [2016]}
        )
        assert objects_of(table) == [Target("object", 0, 5.0, -1.0, "", "x", (1.0, 2.0, 2016.0), "zi", 1)]


class TestNames:
    def test_every_filter_and_rank_is_a_slot(self):
        ((first, *_),) = targets_by_class(make_list(1), ("zg", "zr"), 2).values()
        assert [t.slot for t in first] == [
            f"object_0_{code}_{rank}" for code in ("zg", "zr") for rank in (1, 2)
        ]

    def test_single_images_of_classes_are_named_after_the_object_alone(self):
        (((target,), *_),) = targets_by_class(make_list(type="PSF")).values()
        assert target.slot == target.file(SOURCE) == target.file("") == "star_0.fits"

    @pytest.mark.parametrize("options", [{"filters": ("zr", "zg")}, {"filters": ("zr",), "n_images": 2}])
    def test_several_images_of_classes_are_named_after_image_and_object(self, options):
        target = targets_by_class(make_list(type="REX"), **options)["galaxy"][2][0]
        assert target.slot == "galaxy_2_zr_1"
        assert target.file(SOURCE) == "galaxy_2_zr_20190105192708.fits"
        assert target.file("") == ""

    def test_objects_of_unknown_class_always_are(self):
        (target, *_) = objects_of(make_list(), filters=("zr",))
        assert target.file(SOURCE) == "object_0_zr_20190105192708.fits"


def test_moving_target_has_another_position_on_each_image_and_a_resting_one_has_not():
    resting, moving = objects_of(
        make_list(2, pmra=[np.nan, 2000.0], pmdec=[np.nan, 0.0], ref_epoch=[np.nan, 2016.0])
    )
    assert resting.at(20240101000000) is resting
    moved = moving.at(20240101000000)
    east, north = moved.RA - moving.RA, moved.DEC - moving.DEC
    assert east * 3600 == pytest.approx(16, abs=0.01)
    assert north == pytest.approx(0, abs=1e-6)
    assert moved.slot == moving.slot
