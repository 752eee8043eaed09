import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from helpers import make_catalogue, rows
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ztf_sg.positions import (
    cut_blends,
    cut_fluxes,
    cut_magnitudes,
    cut_neighbours,
    cut_region,
    cut_report,
    cut_types,
    sample_classes,
    select_positions,
)

CUTS = (cut_region, cut_types, cut_fluxes, cut_magnitudes, cut_blends, cut_neighbours)


def flux(mag):
    return 10 ** (0.4 * (22.5 - mag))


class TestCuts:
    def test_region_keeps_its_edges(self):
        ra = [4.9999, 5, 7, 10, 10.0001, np.nan, 7, 7, 7, 7]
        dec = [-2, -5, -2, 0, -2, -2, -5.0001, 0.0001, -0.0001, np.nan]
        assert rows(cut_region(make_catalogue(10, RA=ra, DEC=dec))) == [1, 2, 3, 8]

    @pytest.mark.parametrize(
        ("ra", "kept"),
        [
            ((355, 5), [1, 2, 3, 4, 5]),
            ((-5, 5), [1, 2, 3, 4, 5]),
            ((355, 0), [1, 2, 3, 4]),
            ((355, 360), [1, 2, 3, 4]),
            ((0, 5), [3, 4, 5]),
            ((0, 360), [0, 1, 2, 3, 4, 5, 6, 7]),
            ((5, 0), [0, 1, 2, 3, 4, 5, 6, 7]),
            ((355, 365), [1, 2, 3, 4, 5]),
            ((-10, 10), [0, 1, 2, 3, 4, 5, 6]),
        ],
    )
    def test_region_beside_or_across_right_ascension_zero(self, ra, kept):
        table = make_catalogue(8, RA=[354.9, 355, 359.99, 0, 360, 5, 5.1, 180])
        assert rows(cut_region(table, ra=ra, dec=(-5, 0))) == kept

    def test_types_drop_all_that_is_neither_star_nor_galaxy(self):
        table = make_catalogue(8, TYPE=["PSF", "REX", "EXP", "DEV", "SER", "DUP", "", "COMP"])
        assert rows(cut_types(table)) == [0, 1, 2, 3, 4, 7]

    @pytest.mark.parametrize("band", "GRZ")
    def test_fluxes_must_be_positive_in_every_band(self, band):
        table = make_catalogue(5, **{f"FLUX_{band}": [1.0, 0.0, -2.0, np.nan, 1e-6]})
        assert rows(cut_fluxes(table)) == [0, 4]

    @pytest.mark.parametrize(("band", "limit"), [("G", 20.5), ("R", 20.0), ("Z", 19.0)])
    def test_magnitudes_must_be_below_the_limit_of_the_band(self, band, limit):
        fluxes = [flux(limit - 0.01), flux(limit + 0.01), 0.0, -1.0, np.nan, 1e9]
        assert rows(cut_magnitudes(make_catalogue(6, **{f"FLUX_{band}": fluxes}))) == [0, 5]

    def test_magnitude_limits_can_be_chosen(self):
        table = make_catalogue(3, FLUX_R=[flux(17), flux(18), flux(19)], FLUX_G=[0.0, 1.0, 1.0])
        assert rows(cut_magnitudes(table, {"r": 18.5})) == [0, 1]

    @pytest.mark.parametrize("band", "GRZ")
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_blends_are_cut_in_every_band(self, band, dtype):
        shares = np.array([0, 0.1, 0.1001, -0.01, np.nan, np.inf], dtype=dtype)
        assert rows(cut_blends(make_catalogue(6, **{f"FRACFLUX_{band}": shares}))) == [0, 1]

    @pytest.mark.parametrize("cut", [cut_fluxes, cut_magnitudes, cut_blends])
    def test_missing_values_do_not_pass(self, cut):
        table = make_catalogue(2)
        numbers = table.filter(like="FLUX").columns
        table[numbers] = table[numbers].astype("Float64")
        table.loc[1, numbers] = pd.NA
        assert rows(cut(table)) == [0]

    def test_neighbours_within_the_diagonal_of_a_cutout_are_cut(self):
        separations = np.cumsum([0, 28.2, 300, 28.4, 300, 0])  # the radius is 28.28 arcsec
        table = make_catalogue(6, RA=7 + separations / 3600, DEC=0.0)
        assert rows(cut_neighbours(table)) == [2, 3]

    def test_neighbours_across_right_ascension_zero_are_cut(self):
        table = make_catalogue(4, RA=[359.9999, 0.0001, 0.5, 180.0])
        assert rows(cut_neighbours(table)) == [2, 3]

    @pytest.mark.parametrize("n", [0, 1])
    def test_too_few_objects_to_have_neighbours(self, n):
        assert len(cut_neighbours(make_catalogue(n))) == n

    @pytest.mark.parametrize("cut", CUTS)
    def test_empty_catalogue_stays_empty(self, cut):
        assert cut(make_catalogue(3).iloc[:0]).empty

    @pytest.mark.parametrize("cut", CUTS)
    def test_catalogue_given_is_left_alone(self, cut, sky):
        before = sky.copy()
        cut(sky)
        pd.testing.assert_frame_equal(sky, before)
        assert not sky.attrs


class TestArguments:
    @pytest.mark.parametrize(
        "limits",
        [{}, {"g": None}, {"g": np.nan}, {"g": "20"}, {"g": True}, {"q": 20}, {5: 20}, ("g", 20), None, 20],
        ids=str,
    )
    def test_limits_that_make_no_sense_are_named(self, limits):
        with pytest.raises(
            ValueError, match="limits=.*: expected (magnitudes by band|bands among g, r, i, z)"
        ):
            cut_magnitudes(make_catalogue(2), limits)

    def test_limits_may_be_of_any_kind_of_number(self):
        table = make_catalogue(2, FLUX_W1=[100.0, 1.0])
        assert rows(cut_magnitudes(table, {"G": np.float32(20.5), "w1": 20})) == [0]

    @pytest.mark.parametrize("cut", [cut_fluxes, cut_blends])
    @pytest.mark.parametrize("bands", ["", "gq", None, 5, [1]], ids=str)
    def test_unknown_bands_are_named(self, cut, bands):
        with pytest.raises(ValueError, match="bands=.*: expected bands among g, r, i, z"):
            cut(make_catalogue(2), bands=bands)

    @pytest.mark.parametrize("share", [np.nan, "0.1", -0.1, None, True], ids=str)
    def test_shares_that_make_no_sense_are_named(self, share):
        with pytest.raises(ValueError, match="max_fracflux=.*: expected a share of at least 0"):
            cut_blends(make_catalogue(2), share)

    @pytest.mark.parametrize("number", [-1, 0, 2.5, "10", True, None, np.nan], ids=str)
    def test_numbers_of_objects_that_make_no_sense_are_named(self, number):
        for use in (sample_classes, select_positions):
            with pytest.raises(ValueError, match="n_per_class=.*: expected a whole number above 0"):
                use(make_catalogue(2, TYPE=["PSF", "REX"]), number)


def separation(ra1, dec1, ra2, dec2):
    """Return great-circle distances [deg] by the haversine formula."""
    ra1, dec1, ra2, dec2 = map(np.radians, (ra1, dec1, ra2, dec2))
    root = np.sin((dec2 - dec1) / 2) ** 2 + np.cos(dec1) * np.cos(dec2) * np.sin((ra2 - ra1) / 2) ** 2
    return np.degrees(2 * np.arcsin(np.sqrt(root)))


offsets = st.integers(-150, 150)  # [arcsec]


@given(
    objects=st.lists(st.tuples(offsets, offsets), min_size=1, max_size=30),
    centre=st.sampled_from([(7.0, -2.0), (0.0, 0.0), (359.99, -60.0), (100.0, 89.5)]),
    radius=st.floats(5, 60),
)
@example(objects=[(0, 0), (0, 0), (100, 100)], centre=(7.0, -2.0), radius=20 * 2**0.5)
def test_isolation_agrees_with_all_pairs(objects, centre, radius):
    ra, dec = np.array(objects, dtype=float).T / 3600
    ra = (centre[0] + ra / np.cos(np.radians(centre[1]))) % 360
    dec = centre[1] + dec
    distances = separation(ra[:, None], dec[:, None], ra, dec) * 3600
    np.fill_diagonal(distances, np.inf)
    assume(np.abs(distances - radius).min() > 1e-3)
    expected = np.flatnonzero((distances > radius).all(axis=1)).tolist()
    assert rows(cut_neighbours(make_catalogue(len(ra), RA=ra, DEC=dec), radius * u.arcsec)) == expected


class TestReport:
    def test_counts_what_every_cut_left(self, sky):
        for cut in CUTS:
            sky = cut(sky)
        report = cut_report(sky)
        assert list(report.columns) == ["cut", "before", "left", "removed"]
        assert report["before"].tolist() == [10, 9, 8, 7, 6, 5]
        assert report["left"].tolist() == [9, 8, 7, 6, 5, 3]
        assert report["removed"].tolist() == [1, 1, 1, 1, 1, 2]
        assert report["cut"].is_unique

    def test_is_kept_by_the_selected_classes(self, sky):
        for table in select_positions(sky):
            assert cut_report(table)["left"].tolist() == [9, 8, 7, 6, 5, 3]

    def test_is_empty_before_any_cut(self, sky):
        assert cut_report(sky).empty
        assert list(cut_report(sky).columns) == ["cut", "before", "left", "removed"]

    def test_branches_of_a_selection_have_reports_of_their_own(self, sky):
        region = cut_region(sky)
        cut_types(region)
        cut_fluxes(region)
        assert len(cut_report(region)) == 1


class TestSampling:
    @pytest.fixture
    def mixed(self):
        return make_catalogue(90, TYPE=np.resize(["PSF", "REX", "DUP"], 90))

    def test_sample_is_the_same_for_the_same_seed(self, mixed):
        for first, second in zip(sample_classes(mixed, 10), sample_classes(mixed, 10), strict=True):
            pd.testing.assert_frame_equal(first, second)

    def test_sample_differs_with_the_seed(self, mixed):
        assert rows(sample_classes(mixed, 10)[0]) != rows(sample_classes(mixed, 10, random_state=1)[0])

    @given(n=st.integers(1, 40))
    def test_sample_is_bounded_and_of_one_class_each(self, n):
        mixed = make_catalogue(90, TYPE=np.resize(["PSF", "REX", "DUP"], 90))
        stars, galaxies = sample_classes(mixed, n)
        assert len(stars) == len(galaxies) == min(n, 30)
        assert set(stars["TYPE"]) == {"PSF"}
        assert set(galaxies["TYPE"]) == {"REX"}
        assert len({*rows(stars), *rows(galaxies)}) == 2 * min(n, 30)

    def test_smaller_sample_is_the_beginning_of_a_larger_one(self, mixed):
        assert rows(sample_classes(mixed, 20)[0])[:5] == rows(sample_classes(mixed, 5)[0])

    @pytest.mark.parametrize(("types", "missing"), [(["REX", "DUP"], "star"), (["PSF", "DUP"], "galaxy")])
    def test_class_without_objects_is_named(self, types, missing):
        with pytest.raises(ValueError, match=f"no {missing} is left"):
            select_positions(make_catalogue(2, TYPE=types))

    def test_nothing_left_at_all_is_an_error(self):
        with pytest.raises(ValueError, match="no star is left"):
            select_positions(make_catalogue(3, RA=100.0))
