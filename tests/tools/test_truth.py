import runpy
import sys

import numpy as np
import pandas as pd
import pytest
import truth
from astropy.stats import sigma_clipped_stats
from helpers import centroid, get_stamp, i_magnitude, place_on
from truth import TRUTH, log_likelihood_ratio, scene, templates, truth_table, write_truth

from ztf_sg.cutouts import load_cutouts
from ztf_sg.fetching import ImageChooser, fetch_cutouts, read_manifest
from ztf_sg.simulation import MockSky
from ztf_sg.simulation.parameters import FLAT_ERROR, GAIN
from ztf_sg.ztf import READ_NOISE, image_name

COLUMNS = (
    "name object class label_error magnitude radius sersic axis_ratio bulge knots companion separation snr "
    "night image log_likelihood_ratio"
).split()
N = 4  # cutouts per class


@pytest.fixture(scope="module")
def folder(mock_sky, mock_positions, tmp_path_factory):
    """Return cutouts of a few single stars and large galaxies."""
    folder = tmp_path_factory.mktemp("cutouts")
    stars, galaxies = (mock_sky.objects.merge(table[["RA", "DEC"]]) for table in mock_positions)
    stars, galaxies = (table.assign(i=i_magnitude(table)) for table in (stars, galaxies))
    single = stars[(stars["CLASS"] == "star") & (stars["COMPANION"] == 0) & stars["i"].between(15.5, 18)]
    large = galaxies[(galaxies["RADIUS"] > 1) & galaxies["i"].between(17, 19)]
    for table in (single, large):
        fetch_cutouts(table, folder, mock_sky, n_cutouts=N, progress=False)
    return folder


@pytest.fixture(scope="module")
def table(folder, mock_sky):
    return truth_table(folder, mock_sky, n_jobs=1)


@pytest.fixture(scope="module")
def population(mock_sky):
    return templates(mock_sky)


@pytest.mark.slow
class TestTable:
    def test_has_one_row_per_cutout_in_their_order(self, table, folder):
        assert table["name"].tolist() == load_cutouts(folder).table["name"].tolist()
        assert len(table) == 2 * N

    def test_has_the_documented_columns(self, table):
        assert list(table.columns) == COLUMNS
        assert not table.isna().any(axis=None)
        for name in table.columns:
            assert name in truth_table.__doc__

    def test_is_what_the_sky_was_made_from(self, table, folder, mock_sky):
        objects = mock_sky.objects.set_index("OBJID").loc[table["object"]].reset_index()
        for column, source in {
            "class": "CLASS", "label_error": "LABEL_ERROR", "radius": "RADIUS", "sersic": "INDEX",
            "bulge": "BULGE", "knots": "KNOTS", "companion": "COMPANION", "separation": "SEPARATION",
        }.items():  # fmt: skip
            assert table[column].tolist() == objects[source].tolist()
        np.testing.assert_allclose(table["magnitude"], i_magnitude(objects), rtol=1e-6)
        listed = read_manifest(folder).set_index("file").loc[table["name"] + ".fits"]
        np.testing.assert_allclose(objects[["RA", "DEC"]], listed[["RA", "DEC"]], atol=1e-6)
        assert table["image"].tolist() == listed["source_image"].tolist()

    def test_axis_ratios_are_those_of_the_ellipticities(self, table):
        assert (table.loc[table["class"] == "star", "axis_ratio"] == 1).all()
        galaxies = table.loc[table["class"] == "galaxy", "axis_ratio"]
        assert galaxies.between(0.2, 1).all()
        assert (galaxies < 0.99).any()

    def test_classes_are_the_labels_but_for_label_errors(self, table):
        labels = table["name"].str.split("_").str[0]
        np.testing.assert_array_equal(labels != table["class"], table["label_error"])

    def test_brighter_stars_have_more_signal_over_noise(self, table):
        stars = table[table["class"] == "star"]
        assert (stars["snr"] > 20).all()
        assert np.corrcoef(stars["magnitude"], np.log(stars["snr"]))[0, 1] < -0.9

    def test_nights_are_those_of_the_cutouts(self, table, folder):
        nights = load_cutouts(folder).table["obsmjd"].astype(int)
        assert table["night"].tolist() == nights.tolist()

    def test_likelihood_favours_galaxies_for_galaxies_and_stars_for_stars(self, table):
        ratio = table["log_likelihood_ratio"]
        assert np.isfinite(ratio).all()
        star = table["class"] == "star"
        assert (ratio[~star] > 0).mean() >= 0.8
        assert (ratio[star] < 0).mean() >= 0.8


class TestLikelihood:
    def test_tells_nothing_where_there_is_only_noise(self, mock_sky, population, folder):
        ratio = self.ratio(mock_sky, population, folder, lambda parts, rng: rng.normal(0, 7, (20, 20)), 7.0)
        assert abs(ratio) < 4

    def test_grows_with_the_light(self, mock_sky, population, folder):
        def galaxy(parts, rng):
            light = parts.draw(parts.target._replace(CLASS="galaxy", RADIUS=1.5, INDEX=1.0))
            return light / light.sum() * 1e4

        noisy, clean = (self.ratio(mock_sky, population, folder, galaxy, noise) for noise in (50.0, 5.0))
        assert clean > noisy > 0

    @staticmethod
    def ratio(sky, population, folder, signal, noise):
        line = read_manifest(folder).set_index("file").loc["star_0.fits"]
        parts = scene(sky, line["source_image"], line["RA"], line["DEC"])
        signal = signal(parts, np.random.default_rng(0))
        variance = np.full(signal.shape, noise**2)
        return log_likelihood_ratio(signal, variance, parts.draw, parts.target, population)


@pytest.fixture(scope="module")
def without_offsets(mock_sky):
    """Return the sky of `mock_sky` with every object exactly where the WCS has its catalogue position."""
    sky = MockSky(seed=1)
    truth = mock_sky.truth.assign(OFFSET_RA=0.0, OFFSET_DEC=0.0)
    sky.__dict__["_population"] = mock_sky.catalogue, truth
    sky.__dict__["exposures"] = mock_sky.exposures.assign(shift_x=0.0, shift_y=0.0)
    return sky


class TestScene:
    @pytest.mark.parametrize("kind", ["star", "binary", "galaxy"])
    def test_catalogue_position_is_on_the_centre_of_all_light(self, without_offsets, lonely, kind):
        one_peak = {
            "star": (lonely["CLASS"] == "star") & (lonely["COMPANION"] == 0),
            "binary": lonely["COMPANION"] > 0,
            "galaxy": (lonely["CLASS"] == "galaxy") & (lonely["KNOTS"] == 0) & (lonely["RADIUS"] < 2),
        }[kind]
        chooser = ImageChooser(without_offsets)
        for row in lonely[one_peak].head(4).itertuples():
            image = chooser.choose(row.RA, row.DEC)
            if image is None:
                continue
            pixels, header = get_stamp(without_offsets, row.RA, row.DEC, 120, image)
            light = scene(without_offsets, image_name(image), row.RA, row.DEC, 120)
            light = light.draw(light.target)
            extra = np.array(pixels.shape) - light.shape
            found = centroid(light) + extra[::-1]
            assert np.hypot(*(found - place_on(header, row))) < 0.1

    def test_parts_are_what_the_cutout_shows(self, mock_sky, lights):
        chooser = ImageChooser(mock_sky)
        for row in lights[lights["i"].between(16, 18)].head(8).itertuples():
            image = chooser.choose(row.RA, row.DEC)
            if image is None:
                continue
            pixels, _ = get_stamp(mock_sky, row.RA, row.DEC, image=image)
            parts = scene(mock_sky, image_name(image), row.RA, row.DEC)
            assert parts.target.OBJID == row.OBJID
            expected = parts.draw(parts.target) + parts.neighbours + parts.sky
            assert expected.shape == (20, 20)
            noise = parts.exposure["noise_excess"] * np.sqrt(expected / GAIN + (READ_NOISE / GAIN) ** 2)
            noise = np.hypot(noise, FLAT_ERROR * expected)
            pull = ((pixels[-20:, -20:] - expected) / noise).ravel()
            assert abs(np.median(pull)) < 0.2
            assert sigma_clipped_stats(pull, sigma=4)[2] == pytest.approx(1, abs=0.15)

    def test_light_of_another_row_is_drawn_at_the_position_of_the_target(self, mock_sky, lights):
        star = next(lights[(lights["CLASS"] == "star") & (lights["i"] < 17)].head(1).itertuples())
        image = ImageChooser(mock_sky).choose(star.RA, star.DEC)
        parts = scene(mock_sky, image_name(image), star.RA, star.DEC)
        own = parts.draw(parts.target._replace(COMPANION=0.0))
        twice = parts.draw(parts.target._replace(COMPANION=0.0, FLUX_I=2 * star.FLUX_I, RA=0.0, DEC=0.0))
        np.testing.assert_allclose(twice, 2 * own, rtol=1e-5)


class TestTemplates:
    def test_are_selected_objects_by_magnitude(self, population, mock_positions):
        chosen = pd.concat(mock_positions)["OBJID"]
        for objects, name in ((population.galaxies, "galaxy"), (population.binaries, "star")):
            assert (objects["CLASS"] == name).all()
            assert objects["magnitude"].is_monotonic_increasing
            assert objects["OBJID"].isin(chosen).all()
        assert (population.binaries["COMPANION"] > 0).all()
        assert 0.02 < population.binary_share < 0.2

    def test_nearest_ones_leave_the_object_out(self, population):
        row = next(population.galaxies.iloc[[300]].itertuples())
        nearest = list(truth._nearest(population.galaxies, row, 20).itertuples())
        assert len(nearest) == 20
        assert row.OBJID not in [other.OBJID for other in nearest]
        assert max(abs(other.magnitude - row.magnitude) for other in nearest) < 0.2

    @pytest.mark.parametrize("flux", [1e-3, 1e9])
    def test_there_are_as_many_for_the_faintest_and_the_brightest(self, population, flux):
        row = next(population.galaxies.iloc[[0]].itertuples())._replace(FLUX_I=flux)
        assert len(truth._nearest(population.galaxies, row, 20)) == 20


class TestWriting:
    @pytest.fixture
    def table(self, monkeypatch):
        """Return a table that is written in place of the truth, which takes long to compute."""
        table = pd.DataFrame(
            {"name": ["star_0", "galaxy_0"], "magnitude": [17.25, 18.5], "radius": [0.0, 1.2]}
        )
        monkeypatch.setattr(truth, "truth_table", lambda folder, sky: table)
        return table

    def test_file_is_the_table(self, table, tmp_path, mock_sky):
        path = write_truth(tmp_path, mock_sky)
        assert path == tmp_path / TRUTH == tmp_path / "truth.csv"
        pd.testing.assert_frame_equal(pd.read_csv(path), table, check_dtype=False, rtol=1e-4)
        assert [file.name for file in tmp_path.iterdir()] == ["truth.csv"]

    def test_failure_leaves_the_file_that_was_there(self, table, tmp_path, mock_sky, monkeypatch):
        (tmp_path / TRUTH).write_text("as it was")

        def fail(self, file, **options):
            file.write(b"half of")
            raise OSError("disk full")

        monkeypatch.setattr(pd.DataFrame, "to_csv", fail)
        with pytest.raises(OSError, match="disk full"):
            write_truth(tmp_path, mock_sky)
        assert (tmp_path / TRUTH).read_text() == "as it was"

    def test_truth_is_not_a_cutout_to_whoever_loads_the_folder(self, folder, table, tmp_path):
        for path in folder.iterdir():
            (tmp_path / path.name).write_bytes(path.read_bytes())
        table.to_csv(tmp_path / TRUTH)
        assert load_cutouts(tmp_path).table.equals(load_cutouts(folder).table)

    @pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
    def test_command_without_a_folder_says_how_to_use_it(self, monkeypatch):
        monkeypatch.setattr(sys, "argv", ["truth"])
        with pytest.raises(SystemExit, match=r"usage: python tools/truth\.py FOLDER"):
            runpy.run_module("truth", run_name="__main__")
