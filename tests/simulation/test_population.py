import numpy as np
import pandas as pd
import pytest
from helpers import arcseconds, i_magnitude
from scipy.spatial import cKDTree

from ztf_sg.positions import cut_fluxes, cut_magnitudes, magnitude
from ztf_sg.simulation.parameters import (
    BINARY_FRACTION,
    COMPACT_RADIUS,
    DEC_RANGE,
    GALAXIES,
    LARGEST_BINARY_SEPARATION,
    LARGEST_ELLIPTICITY,
    RA_RANGE,
    RADIUS,
    STARS,
)
from ztf_sg.simulation.population import TRUTH_COLUMNS, plane_coordinates, simulate_population

TYPES = {"PSF", "REX", "EXP", "DEV", "SER", "DUP"}
FLUXES = ["FLUX_G", "FLUX_R", "FLUX_I", "FLUX_Z"]
AREA = 4.0  # [deg2]


@pytest.fixture(scope="module")
def objects(mock_sky):
    """Return catalogue and truth side by side, without the duplicates, and with i magnitudes."""
    table = mock_sky.objects
    table = table[table["TYPE"] != "DUP"]
    return table.assign(i=i_magnitude(table))


@pytest.fixture(scope="module")
def stars(objects):
    return objects[objects["CLASS"] == "star"]


@pytest.fixture(scope="module")
def galaxies(objects):
    return objects[objects["CLASS"] == "galaxy"]


class TestCatalogue:
    def test_truth_goes_with_it_row_by_row(self, mock_sky):
        catalogue, truth = mock_sky.catalogue, mock_sky.truth
        assert list(truth.columns) == ["OBJID", *TRUTH_COLUMNS]
        assert truth["OBJID"].tolist() == catalogue["OBJID"].tolist()
        assert catalogue["OBJID"].is_unique
        assert not truth.isna().any(axis=None)
        assert not catalogue.isna().any(axis=None)

    def test_same_seed_makes_the_same_and_another_another(self, mock_sky):
        catalogue, truth = simulate_population(1)
        pd.testing.assert_frame_equal(catalogue, mock_sky.catalogue)
        pd.testing.assert_frame_equal(truth, mock_sky.truth)
        assert not simulate_population(2)[0]["RA"].isin(catalogue["RA"]).any()

    def test_lies_in_its_area(self, mock_sky):
        table = mock_sky.catalogue
        # groups and companions may reach a little over the edge
        assert table["RA"].between(RA_RANGE[0] - 0.01, RA_RANGE[1] + 0.01).all()
        assert table["DEC"].between(DEC_RANGE[0] - 0.01, DEC_RANGE[1] + 0.01).all()

    def test_types_are_plausible(self, mock_sky, objects):
        table = mock_sky.catalogue
        assert set(table["TYPE"]) == TYPES
        point = objects["TYPE"] == "PSF"
        assert 0.2 < point.mean() < 0.6
        assert (objects.loc[point, ["SHAPE_R", "SHAPE_E1", "SHAPE_E2", "SERSIC"]] == 0).all(axis=None)
        assert (objects.loc[~point, "SHAPE_R"] > 0).all()
        duplicates = table["TYPE"] == "DUP"
        assert 0 < duplicates.mean() < 0.01
        assert (table.loc[duplicates, FLUXES] == 0).all(axis=None)
        assert np.hypot(table["SHAPE_E1"], table["SHAPE_E2"]).max() < LARGEST_ELLIPTICITY + 0.01
        assert (table.loc[table["TYPE"] == "REX", ["SHAPE_E1", "SHAPE_E2"]] == 0).all(axis=None)
        assert (point[objects["i"] < 17]).mean() > 0.7

    def test_sersic_indices_go_with_the_types(self, objects):
        for kind, index in {"EXP": 1, "REX": 1, "DEV": 4}.items():
            assert (objects.loc[objects["TYPE"] == kind, "SERSIC"] == index).all()
        free = objects.loc[objects["TYPE"] == "SER", "SERSIC"]
        assert free.between(0.5, 6).all()
        assert free.nunique() > 10

    def test_some_bands_have_no_image_and_some_no_detection(self, objects):
        for undetected in (objects[FLUXES] == 0, objects[FLUXES] < 0):
            assert 0.002 < undetected.any(axis=1).mean() < 0.01
        assert (objects["FLUX_I"] > 0).all()

    def test_shares_of_a_negative_flux_are_negative(self, objects):
        for band in "GRZ":
            share, flux = objects[f"FRACFLUX_{band}"], objects[f"FLUX_{band}"]
            assert (share[flux < 0] <= 0).all()
            assert (share[flux < 0] < 0).any()

    def test_blends_share_their_light(self, mock_sky):
        table = mock_sky.catalogue
        shares = table[["FRACFLUX_G", "FRACFLUX_R", "FRACFLUX_Z"]]
        assert (shares[(table[FLUXES] >= 0).all(axis=1)] >= 0).all(axis=None)
        distance, _ = cKDTree(arcseconds(table)).query(arcseconds(table), k=2)
        crowded, lonely = distance[:, 1] < 1.5, distance[:, 1] > 8.1
        assert shares[crowded].max(axis=1).median() > 0.1
        assert (shares[lonely] == 0).all(axis=None)

    def test_plane_keeps_distances(self):
        here, there = plane_coordinates(5.8, -0.9), plane_coordinates(5.8 + 1 / 3600, -0.9 + 2 / 3600)
        assert np.hypot(*(there - here)) * 3600 == pytest.approx(np.sqrt(5), rel=1e-3)


class TestCounts:
    @pytest.mark.parametrize("population, name", [(STARS, "star"), (GALAXIES, "galaxy")])
    def test_density_and_magnitudes_are_those_asked_for(self, objects, population, name):
        magnitudes = objects.loc[objects["CLASS"] == name, "i"]
        assert len(magnitudes) / AREA == pytest.approx(population["density"], rel=0.05)
        assert magnitudes.between(population["bright"] - 0.01, population["faint"] + 0.01).all()
        counts = np.histogram(magnitudes, np.arange(17, 21.1))[0]
        slope = np.polyfit(np.arange(4), np.log10(counts), 1)[0]
        assert slope == pytest.approx(population["slope"], abs=0.05)

    def test_stars_dominate_the_bright_end_and_galaxies_the_faint_one(self, objects):
        star = objects["CLASS"] == "star"
        assert star[objects["i"] < 17].mean() > 0.8
        assert star[objects["i"] > 20].mean() < 0.5

    def test_selected_sample_holds_both_classes(self, mock_positions):
        stars, galaxies = mock_positions
        assert len(stars) > 1000 < len(galaxies)


@pytest.fixture(scope="module")
def bright(objects):
    """Return the objects within the limits of ZTF, with their colours."""
    table = cut_magnitudes(cut_fluxes(objects))
    mags = {band: magnitude(table[f"FLUX_{band}"]) for band in "GRIZ"}
    return table.assign(**{f"{a}_{b}".lower(): mags[a] - mags[b] for a, b in ("GR", "RI", "IZ")})


class TestColours:
    def test_stars_lie_on_a_locus_without_a_gap(self, bright):
        stars = bright[bright["CLASS"] == "star"]
        r_i = stars["r_i"]
        locus = 1.39 * (1 - np.exp(-4.9 * r_i**3 - 2.45 * r_i**2 - 1.68 * r_i - 0.05))
        assert (stars["g_r"] - locus).abs().quantile(0.98) < 0.25
        counts = np.histogram(stars["g_r"], np.arange(0.3, 1.5, 0.1))[0]
        assert counts.min() > 0.01 * len(stars)

    def test_colours_of_galaxies_end_softly(self, bright):
        colour = bright.loc[bright["CLASS"] == "galaxy", "g_r"]
        low, middle, high = colour.quantile([0.9, 0.97, 0.997])
        assert high - middle > middle - low

    def test_red_galaxies_are_redder(self, bright):
        galaxies = bright[bright["CLASS"] == "galaxy"]
        elliptical, disc = ((galaxies["TYPE"] == kind) for kind in ("DEV", "EXP"))
        for colour in ("g_r", "r_i", "i_z"):
            assert galaxies.loc[elliptical, colour].median() > galaxies.loc[disc, colour].median() + 0.05


class TestTruth:
    def test_classes_are_star_and_galaxy(self, mock_sky):
        assert set(mock_sky.truth["CLASS"]) == {"star", "galaxy"}

    def test_stars_have_no_shape_and_galaxies_no_companion(self, stars, galaxies):
        assert (stars[["RADIUS", "E1", "E2", "INDEX", "BULGE", "KNOTS"]] == 0).all(axis=None)
        assert (galaxies[["COMPANION", "SEPARATION"]] == 0).all(axis=None)

    def test_galaxies_are_smaller_when_fainter(self, galaxies):
        assert (galaxies["RADIUS"] > 0).all()
        at = [
            galaxies.loc[galaxies["i"].between(i - 0.5, i + 0.5), "RADIUS"].median()
            for i in (16.5, 18.5, 20.5)
        ]
        assert at[0] > at[1] > at[2]
        assert at[1] == pytest.approx(RADIUS, rel=0.15)

    def test_galaxies_are_of_every_orientation(self, galaxies):
        for name in ("E1", "E2"):
            assert abs(galaxies[name].mean()) < 0.01
        ellipticity = np.hypot(galaxies["E1"], galaxies["E2"])
        assert 0.1 < ellipticity.median() < 0.4
        assert ellipticity.max() <= LARGEST_ELLIPTICITY + 1e-6

    def test_parts_leave_light_for_the_disc(self, galaxies):
        parts = galaxies["BULGE"] + galaxies["KNOTS"]
        assert parts.between(0, 0.9).all()
        assert (parts[galaxies["INDEX"] >= 2] == 0).all()
        assert (galaxies["KNOTS"] > 0).mean() > 0.1

    def test_binaries_have_their_share_and_fainter_companions_that_are_near(self, stars):
        binaries = stars[stars["COMPANION"] > 0]
        assert 0.7 * BINARY_FRACTION < len(binaries) / len(stars) <= 1.1 * BINARY_FRACTION
        assert (binaries["COMPANION"] <= 1).all()
        assert (binaries["SEPARATION"] > 0).all()
        assert (binaries["SEPARATION"] < LARGEST_BINARY_SEPARATION).all()
        assert (stars.loc[stars["COMPANION"] == 0, "SEPARATION"] == 0).all()

    def test_objects_are_a_little_off_their_catalogue_positions(self, stars, galaxies):
        for name in ("OFFSET_RA", "OFFSET_DEC"):
            assert abs(stars[name].mean()) < 0.005
            assert 0.02 < stars[name].std() < 0.1
            assert stars[name].std() < galaxies[name].std() < 0.3


class TestLabelErrors:
    def test_are_flagged_and_nothing_else_is(self, objects):
        labelled = np.where(objects["TYPE"] == "PSF", "star", "galaxy")
        np.testing.assert_array_equal(labelled != objects["CLASS"], objects["LABEL_ERROR"])

    def test_go_both_ways(self, stars, galaxies):
        assert 0 < stars["LABEL_ERROR"].mean() < 0.02
        assert 0 < galaxies["LABEL_ERROR"].mean() < 0.05

    def test_stars_are_taken_for_small_galaxies_and_compact_galaxies_for_stars(self, stars, galaxies):
        wrong = stars[stars["LABEL_ERROR"]]
        assert (wrong["TYPE"] == "REX").all()
        assert wrong["SHAPE_R"].between(0.1, 0.6).all()
        assert (galaxies.loc[galaxies["LABEL_ERROR"], "RADIUS"] < COMPACT_RADIUS).all()

    def test_are_few_in_a_selected_sample(self, mock_sky, mock_positions):
        chosen = pd.concat(mock_positions)[["RA", "DEC"]]
        chosen = mock_sky.objects.merge(chosen, on=["RA", "DEC"])
        assert len(chosen) == sum(map(len, mock_positions))
        assert 0.001 < chosen["LABEL_ERROR"].mean() < 0.015
        for name, positions in zip(("star", "galaxy"), mock_positions, strict=True):
            labelled = mock_sky.objects.merge(positions[["RA", "DEC"]], on=["RA", "DEC"])
            assert (labelled["CLASS"] == name).mean() > 0.98
