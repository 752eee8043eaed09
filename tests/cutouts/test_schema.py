import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ztf_sg.cutouts.schema import (
    BOUNDS,
    COLUMNS,
    CutoutError,
    check_cutout,
    check_labels,
    label_of,
    natural_key,
    object_of,
)

HEADER = {
    "SEEING": 1.7, "MAGZP": 25.6, "FILTER": "ZTF_i", "OBSMJD": 58738.4, "EXPTIME": 30, "GAIN": 6.2,
    "SATURATE": 49100.0, "ORIGIN": "Zwicky Transient Facility",
}  # fmt: skip
PIXELS = np.full((20, 20), 250.0)


@given(st.lists(st.integers(0, 10**6), unique=True))
def test_natural_order_is_that_of_the_numbers(numbers):
    names = [f"star_{number}.fits" for number in numbers]
    assert sorted(names, key=natural_key) == [f"star_{number}.fits" for number in sorted(numbers)]


@pytest.mark.parametrize(
    "name, label",
    [
        ("star_1", 0),
        ("folder/galaxy_2.fits", 1),
        ("star_galaxy_3", 0),
        ("starfish_4", -1),
        ("star", 0),
        ("", -1),
    ],
)
def test_labels_are_stated_by_prefixes(name, label):
    assert label_of(name) == label


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("object_3_zr_20180917123456", 3),
        ("part1/object_12", 12),
        ("object_3zr", -1),
        ("object_", -1),
        ("my_object_3_zr", -1),
        ("star_3_zr_20180917123456", -1),
    ],
)
def test_numbers_of_objects_are_stated_after_the_prefix(name, number):
    assert object_of(name) == number


def test_labels_are_int8_and_others_are_refused():
    assert check_labels([1, 0, -1]).dtype == np.int8
    assert check_labels([]).shape == (0,)
    with pytest.raises(CutoutError, match=r"a table: label: expected 0 \(star\), .*, got 2, 3$"):
        check_labels([0, 3, 2, 3], "a table: label")


def test_columns_are_those_of_the_contract():
    assert COLUMNS[:4] == ("name", "ra", "dec", "seeing")
    assert COLUMNS[-7:] == ("apcor1", "apcor2", "apcor3", "apcor4", "apcor5", "apcor6", "origin")


def test_a_usable_cutout_passes_with_or_without_aperture_corrections():
    check_cutout("star_1", PIXELS, HEADER)
    for end in (0, 1):
        check_cutout("star_1", PIXELS, HEADER | {key: bounds[end] for key, bounds in BOUNDS.items()})
    check_cutout("star_1", PIXELS, HEADER | {"APCOR1": -0.7, "APCOR2": None, "APCOR3": np.nan})


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.int16, np.uint16, np.int64, np.longdouble])
def test_numbers_of_any_width_are_numbers(kind):
    values = {key: kind(3) if key not in ("FILTER", "ORIGIN") else np.str_(HEADER[key]) for key in HEADER}
    check_cutout("star_1", PIXELS.astype(kind), values)


@pytest.mark.parametrize(
    "pixels, changes, reason",
    [
        (PIXELS[None], {}, r"expected an image with two axes, got shape \(1, 20, 20\)"),
        (np.where(PIXELS, np.nan, 0), {}, "400 of 400 pixels are NaN or infinite"),
        (PIXELS, {"GAIN": None, "FILTER": None}, "its header lacks FILTER, GAIN"),
        (PIXELS, {"APCOR2": "none"}, "its header has APCOR2 = 'none', expected a number"),
        (PIXELS, {"SEEING": 0.0}, r"its header has SEEING = 0.0, expected 0.1 to 100 px$"),
        (PIXELS, {"SEEING": 1e-155}, "its header has SEEING = 1e-155, expected 0.1 to 100 px"),
        (
            PIXELS,
            {"GAIN": np.float32(1e30)},
            "its header has GAIN = 1.*e\\+30, expected 1e-06 to 1e\\+06 e-/DN",
        ),
        (PIXELS, {"MAGZP": 1e300}, r"its header has MAGZP = 1e\+300, expected -100 to 100 mag"),
        (PIXELS, {"APCOR3": -101}, "its header has APCOR3 = -101, expected -100 to 100 mag"),
        (PIXELS, {"SATURATE": -1.0}, r"its header has SATURATE = -1.0, expected 0 to 1e\+12 DN"),
        (PIXELS, {"OBSMJD": 1e8}, r"its header has OBSMJD = 1.*, expected 0 to 1e\+07 d"),
        (PIXELS, {"GAIN": np.nan}, "its header has GAIN = nan, expected a finite number"),
        (PIXELS, {"APCOR1": -np.inf}, "its header has APCOR1 = -inf, expected a finite number"),
        (PIXELS, {"MAGZP": np.float32("inf")}, "its header has MAGZP = inf, expected a finite number"),
        (PIXELS, {"OBSMJD": 10**400}, "its header has OBSMJD = 1000*, expected a finite number"),
        (PIXELS, {"SEEING": True}, "its header has SEEING = True, expected a number"),
        (PIXELS, {"SEEING": np.True_}, r"its header has SEEING = (np\.)?True_?, expected a number"),
        (PIXELS, {"SEEING": 1 + 2j}, r"its header has SEEING = \(1\+2j\), expected a number"),
        (PIXELS, {"SEEING": pd.NA}, "its header has SEEING = <NA>, expected a number"),
        (PIXELS, {"EXPTIME": np.int16(-3)}, "its header has EXPTIME = -3, expected 0.001 to 1e\\+06 s"),
        (PIXELS, {"CRVAL1": "7,0"}, "its header has CRVAL1 = '7,0', expected a number"),
        (PIXELS, {"FILTER": 5.0}, "its header has FILTER = 5.0, expected text"),
        (PIXELS * 1e300, {}, "400 of 400 pixels are NaN or infinite"),
        (PIXELS * 1j, {}, "its pixels are of type complex128, expected numbers"),
        (PIXELS > 0, {}, "its pixels are of type bool, expected numbers"),
        (PIXELS[:0], {}, r"expected an image with two axes, got shape \(0, 20\)"),
        (
            PIXELS * np.nan,
            {"GAIN": -1, "SEEING": "x"},
            ".* are NaN or infinite, and .*SEEING = 'x'.*, and .*GAIN = -1, expected 1e-06 to",
        ),
    ],
)
def test_what_makes_a_cutout_useless_is_named(pixels, changes, reason):
    with pytest.raises(CutoutError, match=f"star_1: {reason}"):
        check_cutout("star_1", pixels, HEADER | changes)


def test_names_with_digits_that_are_no_numbers_have_an_order():
    assert sorted(["star_10", "star_2", "star_1²3"], key=natural_key)[:1] == ["star_1²3"]
