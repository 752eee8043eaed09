import warnings
from contextlib import suppress

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from ztf_sg import NORMALIZATIONS, CutoutSet, Normalizer, load_cutouts, normalize, parallel
from ztf_sg.normalization import (
    OF_LOGARITHMS,
    GlobalStatistics,
    compare_neighbours,
    describe_left_out,
    normalize_all,
    read_tables,
    write_tables,
)

LOGARITHMIC = ("log_minus_min", "log_min_over_global_max")
GLOBAL = ("global_minmax", "min_over_global_max", "log_min_over_global_max")
UNIT_RANGE = ("minmax", "global_minmax", "root_minmax", "asinh_minmax")


def by_hand(images, technique):
    """Normalize one cutout after the other with the formulas of the technique numbers."""
    min_all, max_all = np.min(images), np.max(images)
    result = []
    for x in images:
        scaled = (x - x.min()) / (x.max() - x.min())
        logs = np.log10(x) - np.min(np.log10(x))
        result.append(
            {
                "raw": x,
                "log_minus_min": logs,
                "minmax": scaled,
                "global_minmax": (x - min_all) / (max_all - min_all),
                "min_over_global_max": (x - x.min()) / max_all,
                "log_min_over_global_max": logs / np.log10(max_all),
                "root_minmax": np.sqrt(scaled),
                "asinh_minmax": np.arcsinh(scaled / 0.3) / np.arcsinh(1 / 0.3),
            }[technique]
        )
    return np.array(result)


def stacks(low=1.5, high=6.5e4, min_side=1):
    """Return a strategy of stacks with the counts of science images."""
    shapes = hnp.array_shapes(min_dims=3, max_dims=3, min_side=min_side, max_side=4)
    return shapes.flatmap(
        lambda shape: hnp.arrays(
            float, shape, elements=st.floats(low, high, allow_nan=False, allow_infinity=False)
        )
    )


def global_statistics():
    pairs = st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=2)
    pairs = pairs.filter(lambda pair: abs(pair[1] - pair[0]) < np.inf)
    return pairs.map(lambda pair: GlobalStatistics(*sorted(pair)))


@pytest.fixture
def images():
    rng = np.random.default_rng(3)
    return rng.uniform(100, 40_000, (5, 20, 20))


@pytest.fixture
def flat(images):
    return images.reshape(len(images), -1)


def test_the_first_six_techniques_have_their_numbers():
    assert list(NORMALIZATIONS)[:6] == [
        "raw",
        "log_minus_min",
        "minmax",
        "global_minmax",
        "min_over_global_max",
        "log_min_over_global_max",
    ]


@pytest.mark.parametrize("technique", NORMALIZATIONS)
class TestEveryTechnique:
    def test_agrees_with_the_formula_applied_by_hand(self, images, technique):
        np.testing.assert_allclose(normalize(images, technique), by_hand(images, technique), rtol=1e-12)

    def test_agrees_with_the_formula_on_simulated_cutouts(self, simulated_cutouts, technique):
        images = load_cutouts(simulated_cutouts).images
        expected = by_hand(images.astype(float), technique)
        np.testing.assert_allclose(normalize(images, technique), expected, rtol=1e-12)

    def test_gives_floats_of_the_same_shape_and_leaves_the_input_alone(self, images, technique):
        counts = images.astype(np.uint16)
        before = counts.copy()
        result = normalize(counts, technique)
        assert result.dtype == np.float64
        assert result.shape == counts.shape
        np.testing.assert_array_equal(counts, before)
        result[:] = 0
        np.testing.assert_array_equal(counts, before)

    def test_result_does_not_share_memory_with_the_input(self, images, technique):
        assert not np.shares_memory(normalize(images, technique), images)

    def test_anything_but_a_stack_is_refused(self, images, technique):
        for pixels in (images[0], images.reshape(len(images), -1)):
            with pytest.raises(ValueError, match="expected shape"):
                normalize(pixels, technique)

    def test_constant_cutout_gives_zeros_and_a_word_where_contrast_is_lost(self, technique):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            result = normalize(np.full((2, 3, 3), 250.0), technique)
        expected = "2 of 2 cutouts are constant" if technique in UNIT_RANGE else None
        expected = "of the training set are constant" if technique == "global_minmax" else expected
        assert [expected in str(word.message) for word in said] == [True] * (technique in UNIT_RANGE)
        np.testing.assert_array_equal(result, 250.0 if technique == "raw" else 0.0)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_non_finite_pixel_is_refused_and_its_cutout_named(self, images, technique, value):
        images[3, 2, 1] = value
        with pytest.raises(ValueError, match="cutout 3 .*NaN or infinite"):
            normalize(images, technique)

    @pytest.mark.parametrize("shape", [(400,), (2, 3, 20, 20), (0, 20, 20), (3, 0, 20), ()])
    def test_wrong_dimension_is_refused(self, technique, shape):
        with pytest.raises(ValueError, match="expected shape"):
            normalize(np.ones(shape), technique)

    @given(images=stacks())
    def test_never_nan(self, technique, images):
        assert np.isfinite(normalize(images, technique)).all()

    @given(images=stacks(low=None, high=None), statistics=st.none() | global_statistics())
    def test_any_numbers_are_normalized_or_refused(self, technique, images, statistics):
        with suppress(ValueError), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            assert np.isfinite(normalize(images, technique, statistics)).all()

    def test_extreme_pixels_do_not_hide_what_is_wrong_with_the_statistics(self, technique):
        images = np.array([[[-1.1e306, 1.79e308]]])
        with suppress(ValueError), warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            normalize(images, technique, GlobalStatistics(0.0, 0.0))

    @given(images=stacks())
    def test_keeps_the_order_of_the_pixels_of_a_cutout(self, technique, images):
        for before, after in zip(images, normalize(images, technique), strict=True):
            assert (np.diff(after.ravel()[np.argsort(before.ravel())]) >= 0).all()


@pytest.mark.parametrize("technique", UNIT_RANGE)
@given(images=stacks(low=-1e6, high=1e6))
def test_range_is_zero_to_one(technique, images):
    result = normalize(images, technique)
    assert (result >= 0).all()
    assert (result <= 1).all()


@pytest.mark.parametrize("technique", ["minmax", "root_minmax", "asinh_minmax"])
@given(
    images=hnp.arrays(float, (2, 3, 4), elements=st.integers(-1000, 60_000).map(float)),
    scale=st.floats(0.01, 100),
    offset=st.floats(-1e4, 1e4),
)
def test_minmax_is_blind_to_gain_and_sky_level(technique, images, scale, offset):
    assume(all(np.ptp(image) > 0 for image in images))
    changed = normalize(scale * images + offset, technique)
    np.testing.assert_allclose(changed, normalize(images, technique), atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*are constant")
@given(images=stacks(min_side=2))
def test_minmax_reaches_both_ends_unless_constant(images):
    for image, scaled in zip(images, normalize(images, "minmax"), strict=True):
        assert scaled.min() == 0
        assert scaled.max() == (1 if np.ptp(image) > 0 else 0)


@pytest.mark.parametrize("r", [2, 3])
def test_root_minmax_takes_the_order_of_the_root(images, r):
    np.testing.assert_allclose(normalize(images, "root_minmax", r=r) ** r, normalize(images, "minmax"))


@pytest.mark.parametrize("technique", LOGARITHMIC)
@pytest.mark.parametrize("value", [0.0, -3.5])
def test_logarithm_of_a_pixel_not_above_zero_names_the_cutout(images, technique, value):
    images[2, 0, 0] = images[4, 5, 5] = value
    with pytest.raises(ValueError, match=rf"{technique}: cutout 2 \(and 1 more\) has pixels <= 0"):
        normalize(images, technique)


@pytest.mark.parametrize("technique", [name for name in NORMALIZATIONS if name not in LOGARITHMIC])
def test_negative_pixels_are_welcome_without_a_logarithm(images, technique):
    assert np.isfinite(normalize(images - 20_000, technique)).all()


@pytest.mark.parametrize("technique", ["min_over_global_max", "log_min_over_global_max"])
def test_maximum_not_above_zero_is_refused(technique):
    with pytest.raises(ValueError, match="expected > 0|pixels <= 0"):
        normalize(-np.ones((2, 3, 3)), technique)


@pytest.mark.parametrize("largest", [0.5, 1.0])
def test_the_logarithm_of_a_maximum_of_at_most_1_is_no_divisor(largest):
    images = np.linspace(0.1, largest, 8).reshape(2, 2, 2)
    message = (
        f"log_min_over_global_max: the largest pixel of the training set is {largest:g} DN, expected > 1"
    )
    with pytest.raises(ValueError, match=message):
        normalize(images, "log_min_over_global_max")
    with pytest.raises(ValueError, match=message):
        Normalizer("log_min_over_global_max").fit_transform(images.reshape(2, 4))
    assert set(NORMALIZATIONS) - set(normalize_all(images)) == {"log_min_over_global_max"}
    assert describe_left_out(images) == (
        "log_min_over_global_max leaves out 2 of 2 cutouts: "
        f"the largest of all pixels is {largest:g} DN, expected > 1"
    )


def test_what_is_left_out_is_said_of_each_technique(images):
    assert describe_left_out(images) == "all techniques apply to all cutouts"
    images[1, 2, 3] = 0
    assert describe_left_out(images).splitlines() == [
        f"{name} leaves out 1 of 5 cutouts: their logarithm is undefined, as they have pixels <= 0"
        for name in LOGARITHMIC
    ]
    lines = describe_left_out(images - 50_000).splitlines()
    assert [line.split()[0] for line in lines] == [
        "log_minus_min",
        "min_over_global_max",
        "log_min_over_global_max",
    ]


def test_unknown_name_lists_those_known(images):
    with pytest.raises(ValueError, match="'zscore'; choose one of raw, log_minus_min"):
        normalize(images, "zscore")


@pytest.mark.parametrize("technique", GLOBAL)
def test_global_techniques_use_the_statistics_given(images, technique):
    everything = normalize(images, technique)
    statistics = GlobalStatistics.of(images)
    np.testing.assert_allclose(normalize(images[:2], technique, statistics), everything[:2])
    assert not np.allclose(
        normalize(images[:2] / 2, technique), normalize(images[:2] / 2, technique, statistics)
    )


class TestNormalizer:
    def test_passes_the_checks_of_scikit_learn(self):
        check_estimator(Normalizer())

    @pytest.mark.parametrize("technique", ["raw", "global_minmax", "root_minmax", "asinh_minmax"])
    def test_passes_the_checks_of_scikit_learn_with_techniques_for_any_sign(self, technique):
        check_estimator(Normalizer(technique))

    @pytest.mark.parametrize("technique", NORMALIZATIONS)
    def test_agrees_with_normalize_on_the_training_set(self, images, flat, technique):
        result = Normalizer(technique).fit_transform(flat)
        np.testing.assert_allclose(result.reshape(images.shape), normalize(images, technique), rtol=1e-12)

    @pytest.mark.parametrize("technique", NORMALIZATIONS)
    def test_cutouts_that_are_not_square_are_handled_row_by_row(self, technique):
        rows = np.random.default_rng(0).uniform(100, 1000, (4, 6))
        expected = normalize(rows.reshape(4, 2, 3), technique).reshape(4, 6)
        np.testing.assert_allclose(Normalizer(technique).fit_transform(rows), expected, rtol=1e-12)

    def test_a_constant_training_set_is_told(self):
        normalizer = Normalizer("global_minmax").fit(np.full((3, 4), 250.0))
        with pytest.warns(UserWarning, match="global_minmax: the cutouts of the training set are constant"):
            assert (normalizer.transform(np.arange(8.0).reshape(2, 4)) == 0).all()

    @pytest.mark.parametrize("technique", GLOBAL)
    def test_keeps_the_statistics_of_the_training_set(self, images, flat, technique):
        normalizer = Normalizer(technique).fit(flat[:3])
        assert normalizer.statistics_ == GlobalStatistics(flat[:3].min(), flat[:3].max())
        expected = normalize(2 * images[3:], technique, GlobalStatistics.of(images[:3]))
        np.testing.assert_allclose(normalizer.transform(2 * flat[3:]).reshape(2, 20, 20), expected)
        assert normalizer.statistics_ == GlobalStatistics(flat[:3].min(), flat[:3].max())

    @pytest.mark.parametrize("technique", NORMALIZATIONS)
    def test_transform_of_a_cutout_does_not_depend_on_its_company(self, flat, technique):
        normalizer = Normalizer(technique).fit(flat[:3])
        alone = normalizer.transform(flat[3:4])
        company = normalizer.transform(np.vstack([flat[3:4], 100 * flat[4:]]))
        np.testing.assert_array_equal(alone[0], company[0])

    @pytest.mark.parametrize("technique", GLOBAL)
    def test_pipeline_predicts_without_learning_from_the_test_set(self, technique):
        rng = np.random.default_rng(5)
        X, y = rng.uniform(100, 1000, (40, 25)), np.arange(40) % 2
        pipeline = make_pipeline(Normalizer(technique), KNeighborsClassifier(1)).fit(X, y)
        learned = pipeline[0].statistics_
        pipeline.predict(rng.uniform(1, 1e5, (10, 25)))
        assert pipeline[0].statistics_ == learned == GlobalStatistics(X.min(), X.max())
        np.testing.assert_array_equal(pipeline.predict(X), y)

    def test_works_in_cross_validation(self):
        rng = np.random.default_rng(6)
        y = np.arange(60) % 2
        X = rng.uniform(100, 110, (60, 16))
        X[:, 0] += 1000 * y + 1000
        X[:, 1] += 1000 * (1 - y) + 1000
        scores = cross_val_score(make_pipeline(Normalizer("minmax"), KNeighborsClassifier(3)), X, y)
        np.testing.assert_array_equal(scores, 1)

    def test_clone_keeps_the_technique_and_forgets_the_statistics(self, flat):
        copy = clone(Normalizer("global_minmax").fit(flat))
        assert copy.technique == "global_minmax"
        assert not hasattr(copy, "statistics_")

    def test_unknown_name_is_refused_at_fit(self, flat):
        with pytest.raises(ValueError, match="'zscore'; choose one of"):
            Normalizer("zscore").fit(flat)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_non_finite_pixels_are_refused(self, flat, value):
        normalizer = Normalizer().fit(flat)
        flat[1, 7] = value
        with pytest.raises(ValueError):
            Normalizer().fit(flat)
        with pytest.raises(ValueError):
            normalizer.transform(flat)


@pytest.mark.parametrize("technique", NORMALIZATIONS)
@pytest.mark.parametrize("dtype", [np.float32, float, np.int32])
def test_chunks_change_no_value(images, technique, dtype, monkeypatch):
    images = images.astype(dtype)
    whole = NORMALIZATIONS[technique](images.astype(float), GlobalStatistics.of(images))
    monkeypatch.setattr(parallel, "CHUNK", 2)
    normalized = normalize(images, technique)
    assert normalized.dtype == np.float64
    np.testing.assert_array_equal(normalized, whole)


@pytest.mark.parametrize("technique", LOGARITHMIC)
def test_bad_pixels_of_a_later_chunk_are_counted_in_the_whole_set(images, technique, monkeypatch):
    monkeypatch.setattr(parallel, "CHUNK", 1)
    images[[2, 4], 3, 3] = 0
    with pytest.raises(ValueError, match=r"cutout 2 \(and 1 more\) has pixels <= 0"):
        normalize(images, technique)


def make_set(images):
    labels = [row % 2 for row in range(len(images))]
    table = pd.DataFrame({"name": [f"cutout_{row}" for row in range(len(images))]})
    return CutoutSet(images, labels, table)


class TestTables:
    @pytest.fixture
    def cutouts(self):
        images = np.random.default_rng(0).uniform(100, 200, (6, 4, 4)).astype(np.float32)
        images[2, 1, 1] = -1
        return make_set(images)

    def test_a_cutout_that_a_technique_does_not_apply_to_is_left_out_of_its_table(self, cutouts, tmp_path):
        report = write_tables(tmp_path, cutouts).set_index("technique")
        assert report["left_out"].to_dict() == dict.fromkeys(NORMALIZATIONS, 0) | dict.fromkeys(
            OF_LOGARITHMS, 1
        )
        tables = read_tables(tmp_path, cutouts)
        assert list(tables) == list(NORMALIZATIONS)
        pixels, rows = tables["log_minus_min"]
        assert rows.tolist() == [True, True, False, True, True, True] and len(pixels) == 5
        assert len(tables["minmax"][0]) == 6

    def test_a_technique_that_applies_to_no_cutout_leaves_no_table(self, cutouts, tmp_path):
        write_tables(tmp_path, cutouts)
        difference = make_set(cutouts.images - 150)
        report = write_tables(tmp_path, difference)
        assert report["file"].tolist().count("") == len(OF_LOGARITHMS)
        assert not set(OF_LOGARITHMS) & set(read_tables(tmp_path, difference))
        assert len(list(tmp_path.glob("*.csv"))) == len(NORMALIZATIONS) - len(OF_LOGARITHMS)

    def test_tables_of_other_cutouts_are_refused(self, cutouts, tmp_path):
        write_tables(tmp_path, cutouts)
        for others in (cutouts[:5], make_set(cutouts.images + 1)):
            with pytest.raises(ValueError, match="was not made from these cutouts; run notebook 3 on them"):
                read_tables(tmp_path, others)

    def test_an_empty_set_is_named(self, cutouts, tmp_path):
        with pytest.raises(ValueError, match="no cutouts: the set is empty"):
            write_tables(tmp_path / "data", cutouts[:0])
        assert not (tmp_path / "data").exists()
        with pytest.raises(ValueError, match="no cutouts: the set is empty"):
            describe_left_out(cutouts[:0].images)

    def test_a_file_is_no_directory(self, cutouts, tmp_path):
        (tmp_path / "data").touch()
        with pytest.raises(NotADirectoryError, match="data: is a file; name a folder to write raw_image"):
            write_tables(tmp_path / "data", cutouts)


class TestArguments:
    @pytest.mark.parametrize("technique", ["foo", None, ["minmax"]])
    def test_an_unknown_technique_is_named_before_anything_else(self, technique):
        for X in ([[1.0, 2.0]], "no pixels", np.zeros((2, 3, 4))):
            with pytest.raises(ValueError, match="unknown normalization .*choose one of raw"):
                Normalizer(technique).fit(X)

    @pytest.mark.parametrize(
        "technique, parameters, said",
        [
            ("minmax", {"r": 3}, "minmax: unknown parameter 'r'; it takes none"),
            ("root_minmax", {"softening": 3}, "unknown parameter 'softening'; it takes r"),
            ("root_minmax", {"r": 0}, "r=0, expected a number above 0"),
            ("root_minmax", {"r": "2"}, "r='2', expected a number"),
            ("asinh_minmax", {"softening": np.nan}, "softening=nan, expected a number"),
        ],
    )
    def test_parameters_that_make_no_sense_are_named(self, technique, parameters, said):
        with pytest.raises(ValueError, match=said):
            normalize(np.ones((1, 2, 2)), technique, **parameters)

    @pytest.mark.parametrize("statistics", [(0, 1), 0, {"minimum": 0}, GlobalStatistics])
    def test_statistics_of_another_kind_are_named(self, images, statistics):
        with pytest.raises(TypeError, match="statistics: expected GlobalStatistics"):
            normalize(images, "global_minmax", statistics)

    @pytest.mark.parametrize("extremes", [(np.nan, 1), (0, np.inf), (2, 1), ("0", 1), (None, 1), (False, 1)])
    def test_extremes_that_make_no_sense_are_named(self, extremes):
        with pytest.raises(ValueError, match=f"smallest and largest .* got {extremes[0]!r} and"):
            GlobalStatistics(*extremes)

    @pytest.mark.parametrize(
        "images, said",
        [
            ([np.ones((20, 20)), np.ones((21, 20))], "images: expected cutouts of one size"),
            (np.ones((2, 3, 3)) * 1j, "images: expected real numbers, got complex128"),
            ([[["a"]]], "images: expected real numbers"),
            ([[[None]]], "images: expected real numbers"),
        ],
    )
    def test_what_is_no_stack_of_numbers_is_named(self, images, said):
        with pytest.raises(ValueError, match=said):
            normalize(images, "minmax")

    @pytest.mark.parametrize("parameters", [{"softening": 1e-320}, {"softening": 1e-310}])
    def test_what_becomes_of_pixels_is_finite(self, images, parameters):
        with pytest.raises(
            ValueError, match=r"asinh_minmax: cutout 0 \(and 4 more\) becomes NaN or infinite"
        ):
            normalize(images, "asinh_minmax", **parameters)

    def test_extreme_pixels_are_refused_and_their_cutout_named(self, images):
        images[1, :2, 0] = 1e308, -1e308
        with pytest.raises(ValueError, match=r"minmax: cutout 1 \(and 0 more\) becomes NaN or infinite"):
            normalize(images, "minmax", GlobalStatistics(0, 1))
        with pytest.raises(ValueError, match=r"of finite difference, got -1e\+308 and 1e\+308"):
            normalize(images, "minmax")

    def test_masked_pixels_are_refused(self):
        images = np.ma.masked_less(np.arange(8.0).reshape(2, 2, 2), 2)
        with pytest.raises(ValueError, match="some pixels are masked"):
            normalize(images, "minmax")


class TestNeighbours:
    def cutouts(self, labels, night):
        images = np.ones((len(labels), 3, 3))
        images[:, 1, 1] = 10, 11, 20, 22, 21.5, 40  # the nearest of the rows 0 to 5: 1, 0, 4, 4, 3, 3
        return CutoutSet(images, labels, pd.DataFrame({"obsmjd": 58000.3 + np.array(night)}))

    def test_nearest_cutouts_are_counted_and_no_pair_is_one_with_itself(self):
        table = compare_neighbours(self.cutouts([0, 0, 1, 1, 0, 1], [1, 1, 1, 2, 2, 2]))
        assert table.loc["raw"].tolist() == [3 / 6, 5 / 6, 4 / 6]
        assert table.loc["at random"].tolist() == [12 / 30, 12 / 30, 8 / 18]

    @pytest.mark.parametrize(
        "labels, night, columns",
        [
            ([0, 0, 1, 1, 0, -1], [1, 1, 1, 2, 2, 2], ["same night"]),
            ([0, 0, 1, 1, 0, 1], [1] * 6, ["same class"]),
            ([-1] * 6, [1] * 6, []),
        ],
    )
    def test_what_cannot_be_told_is_left_out(self, labels, night, columns):
        assert list(compare_neighbours(self.cutouts(labels, night))) == columns

    def test_one_cutout_has_no_neighbour(self):
        assert len(compare_neighbours(self.cutouts([0, 0, 1, 1, 0, 1], [1, 1, 1, 2, 2, 2])[:1])) == 0
