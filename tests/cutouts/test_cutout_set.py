import copy
import pickle

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import (
    GridSearchCV,
    LeaveOneGroupOut,
    cross_val_predict,
    cross_val_score,
    learning_curve,
    train_test_split,
)

from ztf_sg.cutouts import CutoutError, CutoutSet, load_cutouts
from ztf_sg.features import measure_features

COLUMNS = ["name", "ra", "dec", "seeing", "magzp", "filter", "obsmjd", "exptime", "gain", "saturate"]
COLUMNS += ["apcor1", "apcor2", "apcor3", "apcor4", "apcor5", "apcor6", "origin"]


@pytest.fixture(scope="module")
def cutouts(simulated_cutouts):
    return load_cutouts(simulated_cutouts)


class TestCutoutSet:
    def test_images_are_float32_counts_of_20_by_20_pixels(self, cutouts):
        assert cutouts.images.dtype == np.float32
        assert cutouts.images.dtype.isnative
        assert cutouts.images.shape == (24, 20, 20)

    def test_labels_are_int8(self, cutouts):
        assert cutouts.labels.dtype == np.int8
        assert cutouts.labels.tolist() == [1] * 12 + [0] * 12

    def test_table_has_the_agreed_columns(self, cutouts):
        assert list(cutouts.table.columns) == COLUMNS
        assert list(cutouts.table.index) == list(range(24))
        numbers = cutouts.table.drop(columns=["name", "filter", "origin"])
        assert all(dtype == np.float64 for dtype in numbers.dtypes)
        assert numbers.notna().all(axis=None)

    def test_pixels_and_metadata_are_those_of_the_files(self, cutouts, simulated_cutouts):
        for image, row in zip(cutouts.images, cutouts.table.itertuples(), strict=True):
            pixels, header = fits.getdata(simulated_cutouts / f"{row.name}.fits", header=True)
            np.testing.assert_array_equal(image, pixels)
            for key in COLUMNS[3:]:
                assert getattr(row, key) == header[key.upper()]

    def test_length_is_the_number_of_cutouts(self, cutouts):
        assert len(cutouts) == 24

    def test_repr_counts_the_classes(self, cutouts):
        assert repr(cutouts) == "CutoutSet(12 stars, 12 galaxies, 0 unknown; 20 x 20 px)"

    @pytest.mark.parametrize(
        ("index", "rows"),
        [
            (slice(3, 9, 2), [3, 5, 7]),
            (slice(None, None, -1), list(range(23, -1, -1))),
            (5, [5]),
            (-1, [23]),
            (np.int64(4), [4]),
            ([2, 2, 0], [2, 2, 0]),
            (np.array([7, -1]), [7, 23]),
            (np.arange(24) % 10 == 0, [0, 10, 20]),
            (pd.Series(np.arange(24) >= 22), [22, 23]),
            (np.zeros(24, dtype=bool), []),
        ],
    )
    def test_indexing_keeps_pixels_labels_and_table_together(self, cutouts, index, rows):
        part = cutouts[index]
        assert isinstance(part, CutoutSet)
        assert len(part) == len(rows)
        np.testing.assert_array_equal(part.images, cutouts.images[rows])
        np.testing.assert_array_equal(part.labels, cutouts.labels[rows])
        pd.testing.assert_frame_equal(part.table, cutouts.table.iloc[rows].reset_index(drop=True))

    @pytest.mark.parametrize("index", [24, -25, [0, 99], np.ones(3, dtype=bool)])
    def test_index_out_of_range_raises(self, cutouts, index):
        with pytest.raises(IndexError):
            cutouts[index]

    def test_rows_that_do_not_match_are_refused(self, cutouts):
        with pytest.raises(ValueError, match="'labels': 23"):
            CutoutSet(cutouts.images, cutouts.labels[1:], cutouts.table)

    def test_single_image_is_refused(self, cutouts):
        with pytest.raises(ValueError, match=r"\(20, 20\)"):
            CutoutSet(cutouts.images[0], cutouts.labels, cutouts.table)

    def test_set_of_cutouts_is_no_array(self, cutouts):
        with pytest.raises(TypeError, match="pass its .images"):
            np.asarray(cutouts)


class TestByHand:
    """Sets made from arrays, and from what can become one."""

    def test_lists_become_float32_images_and_int8_labels(self, cutouts):
        images = cutouts.images[:3].astype(float).tolist()
        made = CutoutSet(images, [0, 1, -1], cutouts.table[:3])
        assert (made.images.dtype, made.labels.dtype) == (np.float32, np.int8)
        np.testing.assert_array_equal(made.images, cutouts.images[:3])
        assert made.labels.tolist() == [0, 1, -1]
        assert repr(made).startswith("CutoutSet(1 stars, 1 galaxies, 1 unknown")
        assert made[made.labels == 1].table["name"].tolist() == [cutouts.table["name"][1]]

    @pytest.mark.parametrize("kind", [np.array, pd.Series, tuple])
    def test_labels_may_be_any_array(self, cutouts, kind):
        made = CutoutSet(cutouts.images[:2], kind([1.0, False]), cutouts.table[:2])
        assert made.labels.dtype == np.int8
        assert made.labels.tolist() == [1, 0]

    @pytest.mark.parametrize(
        "label, named",
        [(2, "2"), (0.5, "0.5"), ("star", "'star'"), ("1", "'1'"), (None, "None"), (np.nan, "nan")],
    )
    def test_other_labels_are_refused_by_name(self, cutouts, label, named):
        with pytest.raises(CutoutError, match=rf"labels: expected 0 \(star\), 1 .* got {named}$"):
            CutoutSet(cutouts.images[:2], np.array([0, label], dtype=object), cutouts.table[:2])

    def test_float32_images_are_not_copied(self, cutouts):
        assert CutoutSet(cutouts.images, cutouts.labels, cutouts.table).images is cutouts.images

    def test_labels_with_two_axes_are_refused(self, cutouts):
        with pytest.raises(ValueError, match=r"labels: expected shape \(n,\), got \(24, 1\)"):
            CutoutSet(cutouts.images, cutouts.labels[:, None], cutouts.table)


class TestIdentity:
    def test_a_set_is_equal_to_itself_alone(self, cutouts):
        same = cutouts[:]
        assert cutouts == cutouts
        assert cutouts != same
        assert {cutouts: "a", same: "b"}[cutouts] == "a"

    @pytest.mark.parametrize(
        "duplicate", [copy.copy, copy.deepcopy, lambda cutouts: pickle.loads(pickle.dumps(cutouts))]
    )
    def test_copies_hold_the_same(self, cutouts, duplicate):
        found = duplicate(cutouts)
        assert found is not cutouts
        np.testing.assert_array_equal(found.images, cutouts.images)
        np.testing.assert_array_equal(found.labels, cutouts.labels)
        pd.testing.assert_frame_equal(found.table, cutouts.table)
        assert found.skipped.empty and found.shape == (24,)


class PeakClassifier(ClassifierMixin, BaseEstimator):
    """A classifier of CutoutSets that has all that scikit-learn asks for: galaxies have faint peaks."""

    def __init__(self, quantile=0.5):
        self.quantile = quantile

    def fit(self, cutouts, labels):
        self.classes_ = np.array([0, 1])
        self.threshold_ = np.quantile(cutouts.images.max(axis=(1, 2)), self.quantile)
        return self

    def predict(self, cutouts):
        return (cutouts.images.max(axis=(1, 2)) < self.threshold_).astype(int)

    def predict_proba(self, cutouts):
        galaxy = self.predict(cutouts).astype(float)
        return np.stack([1 - galaxy, galaxy], axis=1)


class TestScikitLearn:
    def test_shape_is_that_of_n_samples(self, cutouts):
        assert cutouts.shape == (24,)
        assert cutouts[[]].shape == (0,)

    def test_train_test_split_keeps_rows_together(self, cutouts):
        train, test, train_names, test_names = train_test_split(
            cutouts, cutouts.table["name"], test_size=6, stratify=cutouts.labels, random_state=0
        )
        assert isinstance(train, CutoutSet) and isinstance(test, CutoutSet)
        assert (len(train), len(test)) == (18, 6)
        assert train.table["name"].tolist() == train_names.tolist()
        assert test.table["name"].tolist() == test_names.tolist()
        assert np.bincount(test.labels).tolist() == [3, 3]

    def test_cross_validation_leaves_whole_groups_out(self, cutouts):
        groups = np.arange(24) % 3
        found = cross_val_predict(
            PeakClassifier(),
            cutouts,
            cutouts.labels,
            groups=groups,
            cv=LeaveOneGroupOut(),
            method="predict_proba",
        )
        for group in range(3):
            model = PeakClassifier().fit(cutouts[groups != group], cutouts.labels[groups != group])
            np.testing.assert_array_equal(
                found[groups == group], model.predict_proba(cutouts[groups == group])
            )

    def test_scores_curves_and_searches_take_a_set(self, cutouts):
        scores = cross_val_score(PeakClassifier(), cutouts, cutouts.labels, cv=3)
        assert scores.shape == (3,) and np.isfinite(scores).all()
        sizes, _, test_scores = learning_curve(
            PeakClassifier(), cutouts, cutouts.labels, cv=3, train_sizes=[8, 16], shuffle=True, random_state=0
        )
        assert sizes.tolist() == [8, 16] and np.isfinite(test_scores).all()
        search = GridSearchCV(PeakClassifier(), {"quantile": [0.0, 0.5]}, cv=3).fit(cutouts, cutouts.labels)
        assert search.best_params_ == {"quantile": 0.5}
        assert search.predict(cutouts).shape == (24,)


class TestMadeByHand:
    """A set made of arrays and a table is judged as one that is read from files."""

    @pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
    def test_pixels_that_are_not_finite_are_named(self, cutouts, value):
        images = cutouts.images.astype(float)
        images[3, 2, 1] = value
        name = cutouts.table["name"].iloc[3]
        with pytest.raises(
            CutoutError, match=f"1 of 24 cutouts cannot be used, .*; the first: {name}: 1 of 400"
        ):
            CutoutSet(images, cutouts.labels, cutouts.table)

    @pytest.mark.parametrize(
        "column, value",
        [("magzp", np.inf), ("gain", np.nan), ("seeing", 0.0), ("apcor2", -np.inf), ("dec", 100.0)],
    )
    def test_values_that_cannot_be_used_are_named(self, cutouts, column, value):
        table = cutouts.table.copy()
        table.loc[5, column] = value
        with pytest.raises(CutoutError, match=f"first: {table['name'].iloc[5]}: "):
            CutoutSet(cutouts.images, cutouts.labels, table)

    def test_columns_that_may_lack_are_filled_in(self, cutouts):
        table = cutouts.table.drop(columns=["apcor1", "origin"])
        found = CutoutSet(cutouts.images, cutouts.labels, table)
        assert found.table["apcor1"].isna().all() and found.table["origin"].isna().all()

    def test_a_column_that_is_needed_is_named_by_what_needs_it(self, cutouts):
        found = CutoutSet(cutouts.images, cutouts.labels, cutouts.table.drop(columns=["gain", "seeing"]))
        with pytest.raises(ValueError, match="lacks the columns gain, seeing"):
            measure_features(found)

    def test_the_table_of_the_user_stays_as_it_is(self, cutouts):
        table = cutouts.table.drop(columns="apcor1")
        before = table.copy()
        CutoutSet(cutouts.images, cutouts.labels, table)
        pd.testing.assert_frame_equal(table, before)

    @pytest.mark.parametrize("table", [None, {"name": ["a"]}, [1]])
    def test_a_table_that_is_none_is_refused(self, cutouts, table):
        with pytest.raises(TypeError, match="table: expected a pandas.DataFrame, got"):
            CutoutSet(cutouts.images[:1], cutouts.labels[:1], table)

    @pytest.mark.parametrize(
        "images",
        [[np.zeros((20, 20)), np.zeros((19, 20))], [["a"]], np.zeros((2, 4, 4), complex), np.zeros((2, 400))],
    )
    def test_images_that_are_no_stack_of_numbers_are_refused(self, cutouts, images):
        with pytest.raises(ValueError, match="images: expected"):
            CutoutSet(images, cutouts.labels[:2], cutouts.table[:2])

    def test_an_index_with_two_axes_is_refused(self, cutouts):
        for index in (None, np.zeros((2, 2), int)):
            with pytest.raises(IndexError, match="one axis"):
                cutouts[index]
