import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ztf_sg.fetching.choose import (
    EDGE_MARGIN,
    ONE_BY_ONE,
    PATCH_SIZE,
    REQUEST_COST,
    WHOLE,
    ImageChooser,
    compare_requests,
    costs_less_whole,
    pixels_towards,
    plan_downloads,
    tangent_planes,
)
from ztf_sg.fetching.motion import directions
from ztf_sg.services.errors import BadAnswer, Unreachable
from ztf_sg.services.retries import Retries
from ztf_sg.ztf import CUTOUT_BYTES, IMAGE_BYTES, PIXEL_SCALE, QUADRANT, image_wcs


class Counting:
    """An image service that notes the searches and passes them on to another one."""

    def __init__(self, service):
        self.service = service
        self.searches = []

    def search_images(self, *arguments):
        self.searches.append(arguments)
        return self.service.search_images(*arguments)


class Faulty:
    """An image service that raises some errors before it passes searches on to another one."""

    def __init__(self, service, faults, retries=None):
        self.service, self.faults, self.retries = service, faults, retries

    def search_images(self, *arguments):
        if self.faults:
            raise self.faults.pop()
        return self.service.search_images(*arguments)


@pytest.fixture
def service(mock_sky):
    return Counting(mock_sky)


@pytest.fixture
def stars(mock_positions):
    return mock_positions[0].head(5)


def pixel_positions(images, ra, dec):
    return pixels_towards(tangent_planes(images), directions(ra, dec)[0])


def pixels_by_astropy(images, ra, dec):
    return np.array([image_wcs(image).all_world2pix(ra, dec, 0) for _, image in images.iterrows()])


class TileService:
    """An image service whose answer is one image that covers the patch asked for, and no more."""

    origin = "tiles"

    def __init__(self):
        self.searches = []

    def search_images(self, ra, dec, size, filtercode, max_seeing, max_infobits):
        self.searches.append((ra, dec, size))
        scale = size / (QUADRANT[0] - 2 * EDGE_MARGIN - 2)
        centre = {
            "crpix1": (QUADRANT[0] + 1) / 2,
            "crpix2": (QUADRANT[1] + 1) / 2,
            "crval1": ra,
            "crval2": dec,
        }
        return pd.DataFrame([centre | {"cd11": -scale, "cd12": 0.0, "cd21": 0.0, "cd22": -scale}])


class FixedAnswer:
    """An image service that has the same images for every patch."""

    def __init__(self, images):
        self.images = images

    def search_images(self, ra, dec, size, filtercode, max_seeing, max_infobits):
        return self.images


right_ascensions = st.floats(0, 360, exclude_max=True)
declinations = st.floats(-89.9, 89.9)


class TestImageChooser:
    def test_pixel_positions_agree_with_astropy(self, mock_sky, stars):
        star = stars.iloc[0]
        x, y = pixel_positions(mock_sky.exposures, star["RA"], star["DEC"])
        expected = pixels_by_astropy(mock_sky.exposures, star["RA"], star["DEC"])
        np.testing.assert_allclose(np.transpose([x, y]), expected, rtol=0, atol=1e-3)

    def test_chosen_image_is_the_best_centred_of_all(self, mock_sky, mock_positions):
        images = mock_sky.exposures
        images = images[(images["seeing"] < 1.85) & (images["filtercode"] == "zi")]
        chooser = ImageChooser(mock_sky)
        for star in mock_positions[0].iloc[20:32].itertuples():
            chosen = chooser.choose(star.RA, star.DEC)
            middle = (np.array(QUADRANT) - 1) / 2
            offsets = pixels_by_astropy(images, star.RA, star.DEC) - middle
            usable = (np.abs(offsets) <= middle - EDGE_MARGIN).all(axis=1)
            distances = np.hypot(*offsets.T)[usable]
            (offset,) = pixels_by_astropy(chosen.to_frame().T, star.RA, star.DEC) - middle
            assert (np.abs(offset) <= middle - EDGE_MARGIN).all()
            assert np.hypot(*offset) == pytest.approx(distances.min(), abs=1e-3)

    @pytest.mark.parametrize(
        ("x", "y", "held"),
        [
            (EDGE_MARGIN + 0.5, 1500, True),
            (EDGE_MARGIN - 0.5, 1500, False),
            (1500, EDGE_MARGIN - 0.5, False),
            (QUADRANT[0] - 1 - EDGE_MARGIN - 0.5, 1500, True),
            (QUADRANT[0] - 1 - EDGE_MARGIN + 0.5, 1500, False),
            (1500, QUADRANT[1] - 1 - EDGE_MARGIN + 0.5, False),
            (-5000, 1500, False),
        ],
    )
    def test_object_closer_to_the_edge_than_the_margin_is_refused(self, mock_sky, x, y, held):
        images = mock_sky.exposures.head(1)
        ra, dec = image_wcs(images.iloc[0]).all_pix2world(x, y, 0)
        chooser = ImageChooser(FixedAnswer(images))
        assert (chooser.choose(float(ra), float(dec)) is not None) is held

    def test_one_search_serves_a_patch_of_sky(self, service, mock_positions):
        chooser = ImageChooser(service)
        stars = mock_positions[0]
        patch = stars[stars["RA"].between(5.1, 5.9) & stars["DEC"].between(-0.9, -0.1)].head(10)
        for star in patch.itertuples():
            chooser.choose(star.RA, star.DEC)
        assert len(patch) == 10
        assert len(service.searches) == chooser.searches == 1

    def test_search_is_repeated_after_a_fault_if_the_service_says_so(self, service):
        faults = [Unreachable("no answer"), BadAnswer("no table")]
        chooser = ImageChooser(Faulty(service, faults, Retries(first_wait=0.001)))
        assert chooser.choose(5.8, -0.9) is not None
        assert chooser.searches == len(service.searches) == 1
        assert not faults

    def test_search_is_not_repeated_for_a_service_without_retries(self, service):
        chooser = ImageChooser(Faulty(service, [Unreachable("no answer")]))
        with pytest.raises(Unreachable):
            chooser.choose(5.8, -0.9)

    def test_one_search_serves_a_patch_without_images(self, service):
        chooser = ImageChooser(service)
        for ra in (200.3, 200.4, 200.5):
            assert chooser.choose(ra, 0.5) is None
        assert len(service.searches) == 1

    @given(st.lists(st.tuples(right_ascensions, declinations), min_size=1, max_size=4))
    @example([(339.0, 60.01), (350.0, 60.99)])
    @example([(200.0, -4.99), (199.6, -4.01)])
    @example([(0.0, 89.01), (28.0, 89.9), (359.99, -89.02)])
    def test_tangent_planes_searched_cover_the_positions(self, positions):
        images = ImageChooser(TileService()).choose_each(pd.DataFrame(positions, columns=["RA", "DEC"]))
        assert len(images) == len(positions)
        assert not any(image is None for image in images)

    @given(st.lists(st.tuples(right_ascensions, declinations), min_size=1, max_size=4))
    @example([(0.0, 85.0)])
    @example([(0.0, 89.0), (57.2, 89.0), (359.99, 89.9)])
    @example([(0.001, -88.99), (359.999, -87.01)])
    @example([(359.95, 60.9), (0.0, 0.0), (359.999, -0.001)])
    def test_box_searched_holds_the_position(self, positions):
        for ra, dec in positions:
            service = TileService()
            ImageChooser(service).choose(ra, dec)
            ((centre_ra, centre_dec, size),) = service.searches
            assert 0 <= centre_ra < 360
            assert -90 <= centre_dec <= 90
            east = (ra - centre_ra + 180) % 360 - 180
            assert abs(east) * np.cos(np.radians(dec)) <= size / 2
            assert abs(dec - centre_dec) <= size / 2

    @pytest.mark.parametrize("dec", [-0.5, 60.5, 89.5])
    def test_few_searches_go_around_the_sky(self, dec):
        chooser = ImageChooser(TileService())
        for ra in np.arange(0, 360, 0.9):
            chooser.choose(ra, dec)
        assert chooser.searches <= 360 * np.cos(np.radians(abs(dec) - PATCH_SIZE / 2)) / PATCH_SIZE + 1


def make_nights(*nights, **columns):
    """Return metadata of images that differ by their nights and the given columns only."""
    images = make_images(len(nights), angle=0.0).assign(crpix1=1536.5)
    images["filefracday"] = [
        20200101000000 + 1_000_000 * night + number for number, night in enumerate(nights)
    ]
    return images.assign(**{"seeing": 1.5, "maglimit": 20.5, "infobits": 0} | columns)


class TestNights:
    """Images of several nights, the best first."""

    def rank(self, images, ra=7.5, dec=-2.5, **options):
        ranked = ImageChooser(FixedAnswer(images)).rank_nights(ra, dec, **options)
        return [int(image["filefracday"] % 100) for image in ranked]

    @pytest.mark.parametrize(
        ("columns", "order"),
        [
            ({"seeing": [1.5, 1.3, 1.7]}, [1, 0, 2]),
            ({"maglimit": [20.0, 20.5, 21.0]}, [2, 1, 0]),
            ({"maglimit": [20.0, np.nan, 21.0]}, [2, 0, 1]),
            ({"crpix1": [800.5, 1536.5, 1300.5]}, [1, 2, 0]),
            ({"infobits": [1, 0, 4], "seeing": [1.0, 1.8, 1.1]}, [1, 0, 2]),
            # a sixth sharper is as good as four tenths of a magnitude deeper
            ({"seeing": [1.5, 1.25, 1.5], "maglimit": [20.8, 20.5, 21.0]}, [2, 1, 0]),
        ],
    )
    def test_sharp_deep_central_and_good_images_come_first(self, columns, order):
        assert self.rank(make_nights(0, 1, 2, **columns)) == order

    def test_nights_rank_by_their_best_image_and_have_no_more_than_are_tried(self):
        images = make_nights(0, 0, 1, 1, 1, 1, seeing=[1.5, 1.2, 1.7, 1.4, 1.3, 1.6])
        assert self.rank(images) == [1, 4, 3, 0, 5]
        assert self.rank(images, most=1) == [1, 0]

    def test_no_more_than_wanted_and_none_of_the_nights_left_out(self):
        images = make_nights(0, 1, 2, 3, seeing=[1.1, 1.2, 1.3, 1.4])
        assert self.rank(images, most=2) == [0, 1]
        assert self.rank(images, most=2, without={20200101, 20200103}) == [1, 3]

    def test_patch_without_images_has_no_nights(self, mock_sky):
        assert ImageChooser(mock_sky).rank_nights(200.0, 0.5) == []

    def test_moving_object_is_looked_for_where_it_is_in_each_image(self):
        """It leaves the image at the edge between the two nights, which are four years apart."""
        images = make_nights(0, 0).assign(filefracday=[20160101000000, 20200101000001])
        ra, dec = image_wcs(images.iloc[0]).all_pix2world(EDGE_MARGIN + 4, 1500, 0)
        east = np.array([images["cd11"][0], images["cd21"][0]]) / np.hypot(
            images["cd11"][0], images["cd21"][0]
        )
        motion = (*(-2000.0 * east), 2016.0)
        assert self.rank(images, float(ra), float(dec)) == [0, 1]
        assert self.rank(images, float(ra), float(dec), motion=motion) == [0]
        assert len(ImageChooser(FixedAnswer(images)).rank(float(ra), float(dec), motion)) == 1


def make_images(n=1, ra=7.5, dec=-2.5, angle=0.3):
    """Return metadata of images, turned a bit from one to the next."""
    angles = angle * np.arange(1, n + 1)
    scale = PIXEL_SCALE / 3600
    return pd.DataFrame(
        {
            "crpix1": 1536.5 + np.arange(n), "crpix2": 1540.5, "crval1": ra, "crval2": dec,
            "cd11": -scale * np.cos(angles), "cd12": scale * np.sin(angles),
            "cd21": scale * np.sin(angles), "cd22": scale * np.cos(angles),
        }
    )  # fmt: skip


class TestPixelPositions:
    @given(right_ascensions, st.floats(-89, 89), st.floats(-0.7, 0.7), st.floats(-0.7, 0.7))
    @example(0.0, 0.0, -0.3, 0.2)
    @example(359.99, 60.0, 0.5, -0.2)
    @example(10.0, 89.0, 0.5, 0.7)
    def test_many_images_at_once_as_astropy_one_by_one(self, ra0, dec0, east, north):
        images = make_images(4, ra0, dec0)
        ra, dec = (ra0 + east / np.cos(np.radians(dec0))) % 360, dec0 + north
        pixels = np.transpose(pixel_positions(images, ra, dec))
        np.testing.assert_allclose(pixels, pixels_by_astropy(images, ra, dec), rtol=0, atol=1e-6)

    def test_far_side_of_the_sky_is_nowhere(self):
        images = make_images(2, 7.5, -2.5)
        for ra, dec in ((187.5, 2.5), (97.6, 0.0), (187.5, 80.0)):
            assert np.isnan(pixel_positions(images, ra, dec)).all()

    def test_object_on_the_far_side_is_on_no_image(self):
        assert ImageChooser(FixedAnswer(make_images(2))).choose(187.5, 2.5) is None

    def test_image_across_ra_0_is_chosen_from_both_sides(self):
        images = make_images(1, ra=0.0, dec=-2.5)
        for ra in (359.9, 0.1):
            assert ImageChooser(FixedAnswer(images)).choose(ra, -2.5)["crval1"] == 0.0

    def test_no_images_give_no_positions(self):
        x, y = pixel_positions(make_images(1).head(0), 7.5, -2.5)
        assert x.shape == y.shape == (0,)


class TestPlanning:
    def images_of(self, mock_sky, *counts):
        rows = [mock_sky.exposures.iloc[number] for number in range(len(counts))]
        return [row for row, count in zip(rows, counts, strict=True) for _ in range(count)]

    @pytest.mark.parametrize(
        ("cutouts", "cost", "whole"),
        [
            (1, np.inf, False),
            (2, np.inf, True),
            (1000, 0, False),
            (2000, 0, True),
            (15, REQUEST_COST, False),
            (25, REQUEST_COST, True),
        ],
    )
    def test_cheaper_method_is_chosen(self, cutouts, cost, whole):
        assert bool(costs_less_whole(cutouts, cost)) is whole

    @given(st.lists(st.integers(1, 3000), min_size=1, max_size=5), st.floats(0, 1e9))
    def test_many_at_once_as_one_by_one(self, cutouts, cost):
        expected = [bool(costs_less_whole(number, cost)) for number in cutouts]
        assert costs_less_whole(np.array(cutouts), cost).tolist() == expected

    @given(st.integers(1, 5000), st.floats(0, 1e8))
    def test_more_cutouts_never_make_one_by_one_cheaper(self, cutouts, cost):
        assert costs_less_whole(cutouts + 1, cost) >= costs_less_whole(cutouts, cost)

    def test_plan_counts_cutouts_requests_and_bytes(self, mock_sky):
        plan = plan_downloads([*self.images_of(mock_sky, 3, 30), None])
        assert plan["cutouts"].tolist() == [3, 30]
        assert plan["method"].tolist() == [ONE_BY_ONE, WHOLE]
        assert plan["requests"].tolist() == [3, 1]
        assert plan["bytes"].tolist() == [3 * CUTOUT_BYTES, IMAGE_BYTES]
        assert plan["source_image"].is_unique

    def test_plan_of_nothing_is_empty(self):
        assert plan_downloads([None]).empty

    def test_comparison_with_object_by_object(self, mock_sky):
        table = compare_requests(plan_downloads(self.images_of(mock_sky, 3, 30)), searches=2)
        assert table["requests"].tolist() == [66, 2 + 3 + 1]
        assert table["megabytes"].tolist() == pytest.approx(
            [33 * CUTOUT_BYTES / 1e6, (3 * CUTOUT_BYTES + IMAGE_BYTES) / 1e6]
        )
