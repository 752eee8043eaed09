import gzip
from io import BytesIO
from posixpath import basename
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.stats import sigma_clipped_stats
from astropy.wcs import WCS
from helpers import (
    aperture_counts,
    arcseconds,
    centroid,
    get_stamp,
    get_stamps,
    place_on,
    windowed_centroid,
)
from scipy.spatial import cKDTree
from ztfquery import metasearch

from ztf_sg.cutouts import HEADER_KEYS, check_cutout
from ztf_sg.positions import audit_labels, significant_motion
from ztf_sg.services.errors import NothingFound
from ztf_sg.services.gaia import COLUMNS as GAIA_COLUMNS
from ztf_sg.services.gaia import DTYPES as GAIA_DTYPES
from ztf_sg.services.irsa import cutout_url
from ztf_sg.services.legacy_survey import COLUMNS as LIVE_COLUMNS
from ztf_sg.services.sweeps import read_sweep
from ztf_sg.simulation.detector import sky_level
from ztf_sg.simulation.gaia import simulate_gaia
from ztf_sg.simulation.mock_sky import BUNDLED_CATALOGUE, ORIGIN, MockSky, write_catalogue
from ztf_sg.simulation.parameters import DEC_RANGE, FLAT_ERROR, GAIN, RA_RANGE
from ztf_sg.simulation.population import TRUTH_COLUMNS, simulate_population
from ztf_sg.ztf import READ_NOISE, image_name

EMPTY_SKY = np.array([4.6, -1.8])  # a position outside the area of the catalogue, RA, DEC [deg]


def images_of_empty_sky(sky):
    """Return the images that hold `EMPTY_SKY`, 0.1 deg or more from their edges."""
    images = sky.exposures
    inside = np.abs(images["ra"] - EMPTY_SKY[0]) < 0.33
    return images[inside & (np.abs(images["dec"] - EMPTY_SKY[1]) < 0.33)]


@pytest.fixture(scope="module")
def bright_stars(mock_sky, lonely):
    """Return 40 bright, unsaturated, single stars without neighbours: row, pixels minus sky, header."""
    stars = lonely[(lonely["CLASS"] == "star") & (lonely["COMPANION"] == 0) & lonely["i"].between(14, 15.5)]
    stamps = list(get_stamps(mock_sky, stars, 40))
    assert len(stamps) == 40
    return stamps


@pytest.fixture(scope="module")
def twin():
    """Return the sky of the same seed as `mock_sky`, made anew."""
    return MockSky(seed=1)


@pytest.fixture(scope="module")
def other():
    """Return the sky of another seed."""
    return MockSky(seed=2)


def concentrations(pixels, header, start):
    """Return the flux in 2, 3 and 4 px over that in 6 px, relative to the ratio of a star by APCOR."""
    centre = windowed_centroid(pixels, start)
    magnitudes = [
        header[f"APCOR{number}"] - 2.5 * np.log10(aperture_counts(pixels, centre, diameter))
        for number, diameter in enumerate((2, 3, 4, 6), start=1)
    ]
    return 10 ** (-0.4 * (np.array(magnitudes[:3]) - magnitudes[3]))


class TestSeed:
    def test_same_seed_makes_the_same_sky(self, mock_sky, twin):
        pd.testing.assert_frame_equal(twin.catalogue, mock_sky.catalogue)
        pd.testing.assert_frame_equal(twin.truth, mock_sky.truth)
        pd.testing.assert_frame_equal(twin.exposures, mock_sky.exposures)

    def test_same_seed_makes_the_same_pixels(self, mock_sky, twin):
        image = mock_sky.search_images(5.8, -0.9, 0.1).iloc[0]
        position = image["ra"], image["dec"]
        assert twin.get_cutout(image, *position) == mock_sky.get_cutout(image, *position)

    def test_repeated_cutout_is_the_same(self, mock_sky):
        image = mock_sky.search_images(5.8, -0.9, 0.1).iloc[0]
        position = image["ra"], image["dec"]
        first = mock_sky.get_cutout(image, *position)
        mock_sky.get_cutout(image, position[0] + 0.01, position[1])
        assert mock_sky.get_cutout(image, *position) == first

    def test_noise_of_two_cutouts_is_not_the_same(self, mock_sky):
        image = images_of_empty_sky(mock_sky).iloc[0]
        one, next_to_it = (
            get_stamp(mock_sky, EMPTY_SKY[0], EMPTY_SKY[1] + shift, image=image)[0] for shift in (0, 0.01)
        )
        assert abs(np.corrcoef(one[:20, :20].ravel(), next_to_it[:20, :20].ravel())[0, 1]) < 0.3

    def test_other_seed_makes_another_sky(self, mock_sky, other):
        assert not np.isin(other.catalogue["RA"], mock_sky.catalogue["RA"]).any()
        assert not np.isin(other.exposures["background"], mock_sky.exposures["background"]).any()

    def test_image_of_another_seed_is_not_found(self, mock_sky, other):
        image = other.exposures.iloc[0]
        with pytest.raises(NothingFound, match="seed 1"):
            mock_sky.get_cutout(image, image["ra"], image["dec"])


class TestCatalogue:
    @pytest.mark.parametrize("hdu", [1, "TRUTH"])
    def test_bundled_file_says_that_it_is_simulated(self, hdu):
        assert fits.getheader(BUNDLED_CATALOGUE, hdu)["ORIGIN"] == ORIGIN

    def test_default_sky_shows_the_bundled_catalogue(self):
        catalogue, truth = simulate_population(0)
        pd.testing.assert_frame_equal(MockSky().catalogue, catalogue, check_dtype=False)
        pd.testing.assert_frame_equal(MockSky().truth, truth, check_dtype=False)

    def test_bundled_file_is_what_is_written(self, tmp_path):
        path = tmp_path / "sweep.fits.gz"
        write_catalogue(path)
        assert gzip.decompress(path.read_bytes()) == gzip.decompress(BUNDLED_CATALOGUE.read_bytes())

    def test_cutout_is_the_same_without_the_file(self, monkeypatch, tmp_path):
        sky, without = MockSky(), MockSky()
        image = sky.search_images(5.8, -0.9, 0.1).iloc[0]
        cutout = sky.get_cutout(image, image["ra"], image["dec"])
        monkeypatch.setattr("ztf_sg.simulation.mock_sky.BUNDLED_CATALOGUE", tmp_path / "nothing")
        without.__dict__["exposures"] = sky.exposures
        assert without.get_cutout(image, image["ra"], image["dec"]) == cutout

    def test_has_the_columns_of_the_live_catalogue(self, mock_sky):
        assert set(LIVE_COLUMNS) <= set(mock_sky.catalogue.columns)

    def test_tells_nothing_of_the_truth(self, mock_sky):
        assert not set(TRUTH_COLUMNS) & set(mock_sky.catalogue.columns)

    def test_bundled_file_is_read_like_a_sweep_file(self):
        expected = simulate_population()[0][list(LIVE_COLUMNS)]
        pd.testing.assert_frame_equal(read_sweep(BUNDLED_CATALOGUE), expected, check_dtype=False)


class TestRegion:
    def test_gives_the_objects_of_the_box(self, mock_sky):
        table = mock_sky.query_region((5.2, 5.6), (-1.0, -0.5))
        everything = mock_sky.catalogue
        box = everything["RA"].between(5.2, 5.6) & everything["DEC"].between(-1.0, -0.5)
        assert table["OBJID"].tolist() == everything["OBJID"][box].tolist()
        assert list(table.index) == list(range(len(table)))

    def test_limits_are_magnitudes(self, mock_sky):
        limits = {"g": 20.5, "r": 20.0, "z": 19.0}
        everything = mock_sky.query_region(RA_RANGE, DEC_RANGE)
        bright = np.all(
            [everything[f"FLUX_{b.upper()}"] > 10 ** (0.4 * (22.5 - m)) for b, m in limits.items()], axis=0
        )
        table = mock_sky.query_region(RA_RANGE, DEC_RANGE, limits=limits)
        assert table["OBJID"].tolist() == everything["OBJID"][bright].tolist()
        assert 0 < len(table) < len(everything)

    def test_blends_can_be_left_out(self, mock_sky):
        table = mock_sky.query_region(RA_RANGE, DEC_RANGE, max_fracflux=0.1)
        assert 0 < len(table) < len(mock_sky.catalogue)
        assert (table[["FRACFLUX_G", "FRACFLUX_R", "FRACFLUX_Z"]] <= 0.1).all(axis=None)

    def test_region_over_right_ascension_zero_as_the_live_service_has_it(self, mock_sky):
        table = mock_sky.query_region((350, 5.0), DEC_RANGE)
        assert table["RA"].between(RA_RANGE[0] - 0.01, 5.0).all()

    @pytest.mark.parametrize(
        "request_",
        [{"ra": (100, 101), "dec": (-1, 0)}, {"ra": RA_RANGE, "dec": DEC_RANGE, "limits": {"r": 5}}],
    )
    def test_nothing_found_says_where_the_sky_is(self, mock_sky, request_):
        with pytest.raises(NothingFound, match=r"it is at RA \(4\.8, 6\.8\)"):
            mock_sky.query_region(**request_)


class TestSearch:
    def test_metadata_has_columns_of_irsa(self, mock_sky):
        images = mock_sky.search_images(5.8, -0.9, 0.5)
        assert set(images.columns) <= set(metasearch.QUERIABLE_FIELD["sci"])
        assert images.notna().all(axis=None)

    def test_images_have_names_and_urls(self, mock_sky):
        for _, image in mock_sky.search_images(5.8, -0.9, 0.5).iterrows():
            night = image["obsdate"][:10].replace("-", "")
            expected = (
                f"ztf_{image['filefracday']}_{image['field']:06d}_zi_c{image['ccdid']:02d}_o_q{image['qid']}"
            )
            assert image_name(image) == f"{expected}_sciimg.fits"
            assert image_name(image).startswith(f"ztf_{night}")
            url = urlsplit(cutout_url(image, 5.8, -0.9))
            assert basename(url.path) == image_name(image)
            assert parse_qs(url.query)["center"] == ["5.8,-0.9"]

    def test_images_have_names_of_their_own(self, mock_sky):
        assert mock_sky.exposures.apply(image_name, axis=1).is_unique

    def test_images_overlap_the_patch(self, mock_sky):
        images = mock_sky.search_images(5.8, -0.9, 0.2)
        assert 0 < len(images) < len(mock_sky.exposures)
        for image in images.itertuples():
            assert min(image.ra1, image.ra2, image.ra3, image.ra4) < 5.9
            assert max(image.ra1, image.ra2, image.ra3, image.ra4) > 5.7
            assert min(image.dec1, image.dec2, image.dec3, image.dec4) < -0.8
            assert max(image.dec1, image.dec2, image.dec3, image.dec4) > -1.0

    def test_corners_agree_with_the_wcs(self, mock_sky):
        image = mock_sky.exposures.iloc[0]
        pixels, header = get_stamp(mock_sky, image["ra"], image["dec"], image=image)
        whole = WCS(header)
        whole.wcs.crpix = image["crpix1"], image["crpix2"]
        sides = [[2 * image["crpix1"] - 0.5, 0.5], [2 * image["crpix2"] - 0.5, 0.5]]
        corners = {tuple(np.round(whole.all_pix2world(x, y, 1), 2)) for x in sides[0] for y in sides[1]}
        assert corners == {tuple(np.round([image[f"ra{i}"], image[f"dec{i}"]], 2)) for i in range(1, 5)}

    def test_images_are_sharper_than_asked(self, mock_sky):
        everything = mock_sky.search_images(5.8, -0.9, 0.5, max_seeing=9)
        sharp = mock_sky.search_images(5.8, -0.9, 0.5, max_seeing=1.7)
        assert 0 < len(sharp) < len(everything)
        assert sharp["meta_id"].tolist() == everything["meta_id"][everything["seeing"] < 1.7].tolist()

    @pytest.mark.parametrize(
        "request_",
        [
            {"ra": 100.0, "dec": -0.9, "size": 1},
            {"ra": 5.8, "dec": -30.0, "size": 1},
            {"ra": 5.8, "dec": -0.9, "size": 1, "filtercode": "zg", "max_seeing": 0.5},
            {"ra": 5.8, "dec": -0.9, "size": 1, "max_seeing": 0.5},
        ],
        ids=["other_ra", "other_dec", "other_filter", "too_sharp"],
    )
    def test_nothing_found_is_an_error(self, mock_sky, request_):
        with pytest.raises(NothingFound, match="no z[gi] image with seeing < "):
            mock_sky.search_images(**request_)

    @pytest.mark.parametrize("filtercode", ["zg", "zr"])
    def test_images_of_another_filter(self, mock_sky, filtercode):
        images = mock_sky.search_images(5.8, -0.9, 0.3, filtercode=filtercode)
        assert set(images["filtercode"]) == {filtercode}
        image = images.iloc[0]
        _, header = get_stamp(mock_sky, image["ra"], image["dec"], image=image)
        assert header["FILTER"] == f"ZTF_{filtercode[1]}"
        assert f"_{filtercode}_" in header["FILENAME"]

    def test_position_off_the_image_is_not_found(self, mock_sky):
        image = mock_sky.exposures.iloc[0]
        with pytest.raises(NothingFound, match="lies off image ztf_"):
            mock_sky.get_cutout(image, image["ra"] + 1, image["dec"])

    def test_metadata_row_from_a_csv_file_will_do(self, mock_sky):
        images = mock_sky.search_images(5.8, -0.9, 0.1)
        again = pd.read_csv(BytesIO(images.to_csv(index=False).encode()))
        position = images["ra"][0], images["dec"][0]
        assert mock_sky.get_cutout(again.iloc[0], *position) == mock_sky.get_cutout(images.iloc[0], *position)


class TestCutoutFiles:
    def test_headers_say_that_they_are_simulated(self, bright_stars):
        for _, _, header in bright_stars:
            assert header["ORIGIN"] == ORIGIN
            assert "simulated" in header["ORIGIN"]

    def test_headers_carry_the_keywords_of_ztf(self, bright_stars):
        for _, pixels, header in bright_stars:
            assert set(HEADER_KEYS) <= set(header)
            check_cutout("a simulated cutout", pixels, header)
            assert header["GAIN"] == GAIN
            assert header["FILTER"] == "ZTF_i"
            assert 1.3 < header["SEEING"] < 2.1
            assert 25 < header["MAGZP"] < 26

    def test_curve_of_growth_rises_to_the_psf_magnitude(self, bright_stars):
        for _, _, header in bright_stars:
            corrections = [header[f"APCOR{i}"] for i in range(1, 7)]
            assert (np.diff(corrections) > 0).all()
            assert corrections[0] < -0.5
            assert abs(corrections[5]) < 0.03

    def test_seeing_of_the_header_is_that_of_the_metadata_in_pixels(self, mock_sky):
        image = mock_sky.exposures.iloc[0]
        _, header = get_stamp(mock_sky, image["ra"], image["dec"], image=image)
        assert header["SEEING"] * 1.012 == pytest.approx(image["seeing"], abs=1e-3)

    def test_most_are_of_20_pixels_and_a_few_have_one_more(self, mock_sky):
        image = images_of_empty_sky(mock_sky).iloc[0]
        shapes = []
        for shift in np.random.default_rng(1).uniform(-0.05, 0.05, (150, 2)):
            shapes += get_stamp(mock_sky, *(EMPTY_SKY + shift), image=image)[0].shape
        assert set(shapes) <= {20, 21}
        assert 0.94 < np.mean(np.array(shapes) == 20) < 1

    def test_cutout_at_the_edge_of_the_image_is_smaller(self, mock_sky):
        image = mock_sky.exposures.iloc[0]
        wcs = WCS(get_stamp(mock_sky, image["ra"], image["dec"], image=image)[1])
        wcs.wcs.crpix = image["crpix1"], image["crpix2"]
        ra, dec = (float(v) for v in wcs.all_pix2world(4, 1500, 0))
        height, width = get_stamp(mock_sky, ra, dec, image=image)[0].shape
        assert width < 20 <= height


class TestPhotometry:
    def test_catalogue_position_is_on_the_centroid_of_the_star(self, bright_stars):
        distances = []
        for row, pixels, header in bright_stars:
            star = place_on(header, row)
            y, x = np.indices(pixels.shape)
            near = np.hypot(x - star[0], y - star[1]) < 5
            distances.append(np.hypot(*(centroid(np.where(near, pixels, 0)) - star)))
        assert np.median(distances) < 0.2
        assert max(distances) < 0.45

    def test_star_is_close_to_the_middle_of_the_cutout(self, bright_stars):
        for row, pixels, header in bright_stars:
            middle = (np.array(pixels.shape[::-1]) - 1) / 2
            assert np.abs(place_on(header, row) - middle).max() < 1.5

    def test_aperture_magnitude_and_apcor_give_the_catalogue_magnitude(self, bright_stars):
        differences = []
        for row, pixels, header in bright_stars:
            counts = aperture_counts(pixels, windowed_centroid(pixels, place_on(header, row)), 10)
            magnitude = header["MAGZP"] - 2.5 * np.log10(counts) + header["APCOR5"]
            differences.append(magnitude - row.i)
        assert np.median(differences) == pytest.approx(0, abs=0.005)
        off = np.abs(differences) > 0.03  # a satellite or cosmic ray may cross one
        assert off.mean() < 0.05

    def test_concentration_of_stars_is_that_of_apcor(self, bright_stars):
        ratios = [
            concentrations(pixels, header, place_on(header, row)) for row, pixels, header in bright_stars
        ]
        np.testing.assert_allclose(np.median(ratios, axis=0), 1, atol=0.02)
        assert (np.std(ratios, axis=0) < 0.06).all()

    def test_galaxies_are_less_concentrated_than_stars(self, mock_sky, lonely):
        galaxies = lonely[(lonely["CLASS"] == "galaxy") & lonely["i"].between(16, 18)]
        ratios = [
            concentrations(pixels, header, place_on(header, row))
            for row, pixels, header in get_stamps(mock_sky, galaxies, 8)
        ]
        median = np.median(ratios, axis=0)
        assert (median > 0.3).all()
        assert (median < 0.96).all()

    def test_sky_level_and_noise_are_those_of_the_exposure(self, mock_sky):
        for _, image in images_of_empty_sky(mock_sky).head(4).iterrows():
            pixels, header = get_stamp(mock_sky, *EMPTY_SKY, size=100, image=image)
            origin = [round(image[f"crpix{axis}"] - header[f"CRPIX{axis}"]) for axis in (1, 2)]
            sky = sky_level(image, origin, pixels.shape).mean()
            variance = sky / header["GAIN"] + (header["READNOI"] / header["GAIN"]) ** 2
            noise = np.sqrt(image["noise_excess"] ** 2 * variance + (FLAT_ERROR * sky) ** 2)
            mean, _, deviation = sigma_clipped_stats(pixels, sigma=4)
            assert pixels.size > 9000
            assert sky == pytest.approx(image["background"], rel=0.03)
            assert mean == pytest.approx(sky, abs=5 * noise / pixels.size**0.5)
            assert deviation == pytest.approx(noise, rel=0.03)

    def test_neighbours_are_in_the_stamp(self, mock_sky, lights):
        points = arcseconds(lights)
        pairs = cKDTree(points).query_pairs(8, output_type="ndarray")
        apart = np.hypot(*(points[pairs[:, 0]] - points[pairs[:, 1]]).T) > 5
        shining = (lights["i"].to_numpy()[pairs] < 18).all(axis=1)
        stars = (lights["CLASS"].to_numpy()[pairs] == "star").all(axis=1)
        first, second = pairs[apart & shining & stars].T
        neighbours = lights.iloc[second].set_index(lights["OBJID"].iloc[first])
        stamps = list(get_stamps(mock_sky, lights.iloc[first], 5))
        assert len(stamps) == 5
        for main, pixels, header in stamps:
            noise = np.sqrt(300 / GAIN + (READ_NOISE / GAIN) ** 2)
            for row in (main, neighbours.loc[main.OBJID]):
                x, y = np.round(place_on(header, row)).astype(int)
                assert pixels[y, x] > 10 * noise


class TestPositions:
    def test_objects_are_there(self, mock_sky, mock_positions):
        for table in mock_positions:
            mock_sky.check_positions(table)

    def test_empty_sky_is_refused(self, mock_sky, mock_positions):
        table = mock_positions[0].head(3).copy()
        table.loc[table.index[0], ["RA", "DEC"]] = EMPTY_SKY
        with pytest.raises(ValueError, match="no object at 1 of 3 positions; run notebook 1"):
            mock_sky.check_positions(table)


@pytest.fixture(scope="module")
def matched(mock_sky, lights):
    """Return the objects of `lights` with their simulated Gaia sources."""
    return mock_sky.crossmatch_gaia(lights)


class TestGaia:
    def test_rows_and_columns_are_those_of_the_live_service(self, matched, lights):
        pd.testing.assert_frame_equal(matched[lights.columns], lights)
        assert list(matched.columns[len(lights.columns) :]) == list(GAIA_COLUMNS)
        assert matched[list(GAIA_COLUMNS)].dtypes.to_dict() == {
            k: pd.api.types.pandas_dtype(v) for k, v in GAIA_DTYPES.items()
        }

    def test_same_sky_has_the_same_sources_and_another_others(self, mock_sky):
        pd.testing.assert_frame_equal(mock_sky.gaia_sources, simulate_gaia(mock_sky.objects, seed=1))
        other = simulate_gaia(mock_sky.objects, seed=2)["pmra"].dropna()
        assert not other.isin(mock_sky.gaia_sources["pmra"]).any()

    def test_sources_leave_the_rest_of_the_sky_as_it_is(self, mock_sky, twin):
        assert len(twin.gaia_sources)
        pd.testing.assert_frame_equal(twin.catalogue, mock_sky.catalogue)
        pd.testing.assert_frame_equal(twin.exposures, mock_sky.exposures)

    def test_sources_say_by_their_numbers_that_they_are_simulated(self, mock_sky):
        numbers = mock_sky.gaia_sources["gaia_source_id"]
        assert numbers.is_unique
        assert numbers.min() >= 9 * 10**18 > 6917528997577384320  # the last number of DR3 begins so

    def test_every_bright_point_source_and_few_galaxies_have_a_source(self, matched):
        seen = matched["gaia_source_id"].notna()
        assert seen[(matched["CLASS"] == "star") & (matched["i"] < 19)].all()
        galaxies = matched[(matched["CLASS"] == "galaxy") & (matched["i"] < 19)]
        assert 0.01 < galaxies["gaia_source_id"].notna().mean() < 0.1

    def test_most_stars_move_and_few_galaxies_do(self, matched):
        bright = matched[matched["i"] < 19]
        moves = significant_motion(bright)
        stars = (bright["CLASS"] == "star").to_numpy()
        assert 0.93 < moves[stars].mean() < 0.99
        assert moves[~stars].mean() < 0.008
        assert set(audit_labels(bright)["audit"]) == {"confirmed", "doubtful", "unchallenged"}

    def test_stars_with_the_label_of_a_galaxy_move_and_galaxies_with_that_of_a_star_do_not(self, matched):
        wrong = matched[matched["LABEL_ERROR"] & (matched["i"] < 20)]
        moves = significant_motion(wrong)
        stars = (wrong["CLASS"] == "star").to_numpy()
        assert stars.sum() > 10 < (~stars).sum()
        assert moves[stars].mean() > 0.7
        assert moves[~stars].mean() < 0.1
        assert (audit_labels(wrong[stars & moves])["audit"] == "doubtful").all()

    def test_motions_and_errors_are_plausible(self, matched):
        stars = matched[(matched["CLASS"] == "star") & matched["pmra"].notna()]
        motion = np.hypot(stars["pmra"], stars["pmdec"])
        assert 3 < motion.median() < 30
        assert motion.max() < 2000
        bright, faint = stars[stars["i"] < 14], stars[stars["i"].between(19, 19.5)]
        assert bright["pmra_error"].median() == pytest.approx(0.02, rel=0.3)
        assert 0.2 < faint["parallax_error"].median() < 0.7
        assert 0.005 < matched.loc[matched["gaia_source_id"].notna(), "pmra"].isna().mean() < 0.05

    def test_radius_limits_the_separation(self, mock_sky, lights):
        shifted = lights.assign(DEC=lights["DEC"] + 2 / 3600)
        near = mock_sky.crossmatch_gaia(shifted, radius=0.5)["separation"]
        wide = mock_sky.crossmatch_gaia(shifted, radius=3)["separation"]
        assert near.notna().sum() < 0.1 * wide.notna().sum()
        assert wide.max() <= 3

    def test_wrong_requests_are_refused_as_the_live_service_does(self, mock_sky, lights):
        with pytest.raises(ValueError, match="lack the columns DEC"):
            mock_sky.crossmatch_gaia(lights.drop(columns="DEC"))
        with pytest.raises(ValueError, match="at most 180 arcsec"):
            mock_sky.crossmatch_gaia(lights, radius=200)

    def test_no_positions_have_no_match(self, mock_sky, lights):
        assert mock_sky.crossmatch_gaia(lights[:0]).empty
