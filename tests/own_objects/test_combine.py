"""Classes of objects from all of their images."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.special import expit, logit

from ztf_sg.own_objects import combine
from ztf_sg.own_objects.combine import CONTRADICTORY, LARGEST_LOG_RATIO

ratios = st.floats(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO)
several_ratios = st.lists(ratios, min_size=1, max_size=8)
fractions = st.floats(0.01, 0.99)


def images_of(log_ratios, objects=0, filters="ZTF_r", outside=False):
    return pd.DataFrame(
        {
            "log_ratio": np.array(log_ratios, dtype=float),
            "object": objects,
            "filter": filters,
            "outside": outside,
        }
    )


def combined(log_ratios, outside=False, **options):
    """Return the row of one object."""
    return combine(images_of(log_ratios, outside=outside), **options).iloc[0]


class TestProbability:
    @given(ratios, fractions)
    @example(1e-300, 0.5)
    def test_one_image_gives_its_own_probability(self, ratio, fraction):
        row = combined([ratio], galaxy_fraction=fraction)
        assert row["p_galaxy"] == pytest.approx(expit(ratio + logit(fraction)))
        assert row["class"] == (row["p_galaxy"] > 0.5)
        assert row["n_images"] == 1

    @given(several_ratios, st.randoms(use_true_random=False))
    def test_order_does_not_matter(self, log_ratios, random):
        images = images_of([*log_ratios, 1.0], [3] * len(log_ratios) + [1])
        rows = list(range(len(images)))
        random.shuffle(rows)
        pd.testing.assert_frame_equal(combine(images), combine(images.iloc[rows]))

    @given(several_ratios)
    def test_classes_are_alike(self, log_ratios):
        galaxy, star = combined(log_ratios), combined([-ratio for ratio in log_ratios])
        assert galaxy["p_galaxy"] == pytest.approx(1 - star["p_galaxy"])
        assert galaxy["chi2"] == pytest.approx(star["chi2"])

    @given(ratios, st.integers(1, 9))
    def test_one_more_equal_image_never_lowers_the_probability_of_its_class(self, ratio, n):
        fewer, more = (abs(logit(combined([ratio] * k)["p_galaxy"])) for k in (n, n + 1))
        assert more >= fewer - 1e-9

    @given(ratios.filter(lambda ratio: abs(ratio) > 0.1))
    def test_two_equal_images_are_worth_more_than_one_and_less_than_two_independent_ones(self, ratio):
        once, twice = (logit(combined([ratio] * n)["p_galaxy"]) for n in (1, 2))
        assert 1 < twice / once < 2

    @given(several_ratios, fractions)
    def test_prior_counts_once(self, log_ratios, fraction):
        with_prior, without = combined(log_ratios, galaxy_fraction=fraction), combined(log_ratios)
        difference = logit(with_prior["p_galaxy"]) - logit(without["p_galaxy"])
        assert difference == pytest.approx(logit(fraction), abs=1e-6)

    def test_prior_of_each_object_is_found_by_its_number(self):
        images = images_of([1, 1, 1], [7, 5, 7])
        shares = pd.Series({5: 0.9, 6: 0.5, 7: 0.1})
        found = combine(images, shares)
        assert found.index.tolist() == [5, 7]
        assert found["p_galaxy"][5] == combined([1], galaxy_fraction=0.9)["p_galaxy"]
        assert found["p_galaxy"][7] == combined([1, 1], galaxy_fraction=0.1)["p_galaxy"]

    @pytest.mark.parametrize("sure", [30.0, np.inf])
    def test_one_image_cannot_overrule_all_others(self, sure):
        assert combined([sure, -4, -4, -4])["class"] == 0
        assert combined([sure])["p_galaxy"] == pytest.approx(expit(LARGEST_LOG_RATIO))


class TestImages:
    def test_bands_are_named_from_blue_to_red_and_images_counted(self):
        images = images_of([1, 2, 3, 4, 5], [0, 0, 0, 1, 1], ["ZTF_i", "zg", "g", "ZTF_i", "ZTF_r"])
        found = combine(images)
        assert found["filters"].tolist() == ["gi", "ri"]
        assert found["n_images"].tolist() == [3, 2]

    @given(several_ratios, several_ratios)
    def test_outside_images_do_not_count_where_others_are_inside(self, inside, outside):
        is_outside = [False] * len(inside) + [True] * len(outside)
        pd.testing.assert_series_equal(combined([*inside, *outside], is_outside), combined(inside))

    @given(several_ratios)
    def test_outside_images_alone_are_combined_and_ambiguous(self, log_ratios):
        found, usual = (combined(log_ratios, outside=outside, threshold=0.0) for outside in (True, False))
        assert found["ambiguous"]
        pd.testing.assert_series_equal(found.drop("ambiguous"), usual.drop("ambiguous"))


class TestAmbiguous:
    def test_object_that_is_not_surer_than_the_threshold_is_ambiguous(self):
        assert combined([2], threshold=expit(2) + 1e-9)["ambiguous"]
        assert not combined([2], threshold=expit(2) - 1e-9)["ambiguous"]
        assert combined([5, 5, 5], threshold=np.inf)["ambiguous"]

    def test_object_whose_class_changes_with_the_prior_is_ambiguous(self):
        row = combined([2], galaxy_fraction=0.05)
        assert (row["class"], row["ambiguous"]) == (0, True)

    @given(several_ratios)
    def test_contradictory_objects_are_ambiguous_and_improbable(self, log_ratios):
        row = combined(log_ratios, threshold=0.0)
        assert row["contradictory"] == (row["p_chi2"] < CONTRADICTORY)
        assert row["ambiguous"] >= row["contradictory"]


class TestDisagreement:
    def test_deviance_is_that_of_the_probabilities_of_the_combined_class(self):
        assert combined([3, -1])["chi2"] == pytest.approx(-2 * np.log(expit(3) * expit(-1)))

    @given(ratios)
    def test_one_image_cannot_contradict_itself(self, ratio):
        assert combined([ratio])["p_chi2"] == pytest.approx(1)

    def test_images_that_are_sure_of_both_classes_are_contradictory(self):
        assert combined([4.5, 4.5, 4.5, -4.5, -4.5])["contradictory"]
        assert not combined([4.5, 4.5, 4.5, -0.5, -0.5])["contradictory"]

    @pytest.mark.parametrize("n", [2, 4, 6])
    def test_probability_is_a_bound_if_the_images_are_calibrated_and_independent(self, n):
        rng = np.random.default_rng(0)
        sure = rng.uniform(0, LARGEST_LOG_RATIO, (20_000, n))
        agrees = rng.random(sure.shape) < expit(sure)
        images = images_of(np.where(agrees, sure, -sure).ravel(), np.repeat(np.arange(len(sure)), n))
        probability = combine(images)["p_chi2"]
        for level in (0.3, 0.1, 0.01):
            assert np.mean(probability < level) <= level

    def test_one_odd_image_changes_nothing_for_other_objects(self):
        images = images_of([4, 4, 4, -4, 3, 3], [0, 0, 0, 0, 1, 1])
        pd.testing.assert_series_equal(combine(images).loc[1], combined([3, 3]), check_names=False)


class TestErrors:
    def test_images_that_are_no_table(self):
        with pytest.raises(TypeError, match="expected a pandas.DataFrame, got list"):
            combine([1.0])

    def test_no_rows(self):
        with pytest.raises(ValueError, match="there are no rows"):
            combine(images_of([]))

    @pytest.mark.parametrize("column", ["object", "filter", "log_ratio", "outside"])
    def test_missing_column(self, column):
        with pytest.raises(ValueError, match=f"lacks the column {column}"):
            combine(images_of([1]).drop(columns=column))

    def test_missing_values_are_named_by_row_and_object(self):
        with pytest.raises(
            ValueError, match=r"log_ratio is missing in 2 of 3 rows \(rows 1, 2, of objects 8, 9\)"
        ):
            combine(images_of([1, np.nan, np.nan], [7, 8, 9]))
        with pytest.raises(ValueError, match="filter is missing in 1 of 1 rows"):
            combine(images_of([1], filters=[None]))

    @pytest.mark.parametrize(
        ("column", "values"), [("object", [0.5]), ("log_ratio", ["1"]), ("outside", ["no"]), ("outside", [0])]
    )
    def test_columns_of_another_type(self, column, values):
        with pytest.raises(ValueError, match=f"the column {column} is of type"):
            combine(images_of([1]).assign(**{column: values}))

    @pytest.mark.parametrize("fraction", [0, 1, -0.2, np.nan, "0.5", None])
    def test_fraction_that_is_none(self, fraction):
        with pytest.raises(ValueError, match="expected a number between 0 and 1"):
            combine(images_of([1]), fraction)

    def test_fractions_of_objects_that_are_missing_or_none(self):
        images = images_of([1, 1, 1], [1, 2, 3])
        with pytest.raises(
            ValueError, match=r"2 of 3 objects have no value between 0 and 1 \(objects 2, 3\)"
        ):
            combine(images, pd.Series({1: 0.5, 2: 1.0}))
        with pytest.raises(ValueError, match="several values for objects 1; give one"):
            combine(images, pd.Series(0.5, index=[1, 1, 2, 3]))

    @pytest.mark.parametrize("threshold", [np.nan, None, -1])
    def test_threshold_that_is_none(self, threshold):
        with pytest.raises(ValueError, match="expected what confidence_threshold"):
            combine(images_of([1]), threshold=threshold)
