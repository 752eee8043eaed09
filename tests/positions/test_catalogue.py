from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import QTable, Table
from astropy.utils.masked import Masked
from helpers import make_catalogue, rows
from hypothesis import example, given
from hypothesis import strategies as st

from ztf_sg.positions import (
    cut_blends,
    cut_fluxes,
    cut_magnitudes,
    cut_neighbours,
    cut_region,
    cut_report,
    cut_types,
    labels_of_types,
    magnitude,
    position_table,
    ra_ranges,
    sample_classes,
    select_positions,
    standard_columns,
)


class TestMagnitudesAndTypes:
    def test_magnitude_of_known_fluxes(self):
        np.testing.assert_allclose(magnitude([1, 100, 10**2.5]), [22.5, 17.5, 16.25])

    def test_magnitude_without_positive_flux_is_nan_without_a_warning(self, recwarn):
        assert np.isnan(magnitude([0, -1, np.nan])).all()
        assert not recwarn

    def test_types_have_their_labels(self):
        labels = labels_of_types(["PSF", "REX", "EXP", "DEV", "SER", "DUP", "COMP", ""])
        assert labels.tolist() == [0, 1, 1, 1, 1, -1, 1, -1]
        assert labels.dtype == np.int8

    def test_missing_types_are_empty(self):
        table = make_catalogue(4, TYPE=["PSF", None, np.nan, pd.NA])
        assert standard_columns(table)["TYPE"].tolist() == ["PSF", "", "", ""]
        assert rows(cut_types(table)) == [0]

    @pytest.mark.parametrize("use", [cut_types, sample_classes, position_table, select_positions])
    @pytest.mark.parametrize("types", [["P", "R", "E", ""], [0, 1, 2, 4], [0.0, 1.0, np.nan, 1.0]], ids=str)
    def test_types_in_another_notation_are_named(self, use, types):
        found = "E, P, R" if "P" in types else "0.*, 1"
        with pytest.raises(
            ValueError, match=f"TYPE: the types found are {found}.*, expected some of PSF, REX"
        ):
            use(make_catalogue(4, TYPE=types))

    @pytest.mark.parametrize("types", [["DUP", ""], ["", ""], ["DUP", "P"]], ids=str)
    def test_known_types_without_a_star_or_a_galaxy_are_no_fault(self, types):
        assert cut_types(make_catalogue(2, TYPE=types)).empty

    def test_types_that_are_not_needed_may_be_of_any_notation(self):
        assert rows(cut_region(make_catalogue(2, TYPE=["P", "R"]))) == [0, 1]


def as_table(table):
    return Table.from_pandas(table)


def as_byte_table(table):
    result = Table.from_pandas(table)
    result["TYPE"] = np.array([text.ljust(4).encode() for text in table["TYPE"]])
    return result


def as_bytes(table):
    return table.assign(TYPE=[text.ljust(4).encode() for text in table["TYPE"]])


VARIANTS = {
    "upper_case": lambda table: table,
    "lower_case": lambda table: table.rename(columns=str.lower),
    "padded": lambda table: table.assign(TYPE=table["TYPE"].str.ljust(4)),
    "bytes": as_bytes,
    "categories": lambda table: table.assign(TYPE=table["TYPE"].astype("category")),
    "odd_index": lambda table: table.set_index(np.arange(len(table))[::-1] + 7),
    "astropy": as_table,
    "astropy_lower_case": lambda table: as_table(table.rename(columns=str.lower)),
    "astropy_bytes": as_byte_table,
}


class TestKindsOfCatalogue:
    @pytest.mark.parametrize("variant", VARIANTS)
    def test_selection_does_not_depend_on_the_kind(self, sky, variant):
        stars, galaxies = select_positions(VARIANTS[variant](sky))
        assert rows(stars) == [0]
        assert sorted(rows(galaxies)) == [8, 9]
        assert set(stars["TYPE"]) == {"PSF"}
        assert set(galaxies["TYPE"]) == {"REX", "SER"}

    @pytest.mark.parametrize("variant", VARIANTS)
    def test_columns_become_upper_case_and_types_stripped_text(self, sky, variant):
        table = standard_columns(VARIANTS[variant](sky), ["RA", "TYPE", "FLUX_G"])
        assert list(table.columns) == list(sky.columns)
        assert table["TYPE"].tolist() == sky["TYPE"].tolist()

    @pytest.mark.parametrize(
        ("cut", "column"),
        [
            (cut_region, "DEC"),
            (cut_types, "TYPE"),
            (cut_fluxes, "FLUX_R"),
            (cut_magnitudes, "FLUX_Z"),
            (cut_blends, "FRACFLUX_G"),
            (cut_neighbours, "RA"),
            (sample_classes, "TYPE"),
            (position_table, "RA"),
        ],
    )
    def test_missing_column_is_named(self, sky, cut, column):
        with pytest.raises(KeyError, match=rf"lacks {column}; it has .*ROW"):
            cut(sky.drop(columns=column))


def with_both_names(table):
    return table.assign(ra=-table["RA"], dec=0.0)


def big_endian(table):
    columns = {name: table[name].to_numpy() for name in table}
    return Table({n: v.astype(">f8") if v.dtype.kind == "f" else v.astype(str) for n, v in columns.items()})


def with_array_columns(table):
    result = as_table(table)
    result["APFLUX"] = np.ones((len(table), 8), ">f4")
    result["ALLMASK"] = np.zeros((len(table), 2, 3), int)
    return result


def in_radians(table):
    result = as_table(table)
    result["RA"] = np.radians(table["RA"].to_numpy()) * u.rad
    result["DEC"] = (table["DEC"].to_numpy() * 60) * u.arcmin
    return result


ODD_VARIANTS = {
    "RA and ra": with_both_names,
    "big-endian": big_endian,
    "structured": lambda table: as_table(table).as_array(),
    "big-endian DataFrame": lambda table: table.assign(FLUX_G=table["FLUX_G"].to_numpy().astype(">f4")),
    "array columns": with_array_columns,
    "arrays in cells": lambda table: table.assign(APFLUX=[np.ones(8)] * len(table)),
    "other units": in_radians,
    "Quantity columns": lambda table: QTable(as_table(table)),
    "nullable": lambda table: table.convert_dtypes(),
    "Arrow types": lambda table: table.astype({name: "double[pyarrow]" for name in ("RA", "DEC", "FLUX_R")}),
    "Arrow table": lambda table: pa.Table.from_pandas(table),
    "objects": lambda table: table.astype(object),
    "decimals": lambda table: table.assign(RA=[Decimal(repr(ra)) for ra in table["RA"].tolist()]),
    "numbers as text": lambda table: table.assign(DEC=table["DEC"].astype(str)),
    "negative RA": lambda table: table.assign(RA=table["RA"] - 360),
    "RA of the next turn": lambda table: table.assign(RA=table["RA"] + 360),
    "several indices": lambda table: table.set_index(["ROW", "TYPE"], drop=False),
    "the same index": lambda table: table.set_index(np.zeros(len(table))),
    "masked": lambda table: Table(as_table(table), masked=True),
    "record batch": lambda table: pa.RecordBatch.from_pandas(table),
    "FITS table": lambda table: fits.BinTableHDU(as_table(table)),
    "rows of a FITS table": lambda table: fits.BinTableHDU(as_table(table)).data,
    "bytes as text": lambda table: table.assign(TYPE=[str(text.encode()) for text in table["TYPE"]]),
}


class TestOddCatalogues:
    @pytest.mark.parametrize("variant", ODD_VARIANTS)
    def test_selection_does_not_depend_on_the_kind(self, sky, variant):
        stars, galaxies = select_positions(ODD_VARIANTS[variant](sky))
        assert list(map(int, stars["ROW"])) == [0]
        assert sorted(map(int, galaxies["ROW"])) == [8, 9]
        expected = position_table(sky.iloc[[0]])
        np.testing.assert_allclose(position_table(stars)[["RA", "DEC"]], expected[["RA", "DEC"]], atol=1e-9)

    @pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT, np.ma.masked, "", "nan"], ids=repr)
    @pytest.mark.parametrize("column", ["RA", "FLUX_G", "FRACFLUX_Z"])
    def test_rows_with_missing_values_pass_no_cut(self, column, missing):
        table = make_catalogue(3, **{column: make_catalogue(3)[column].astype(object)})
        if missing is np.ma.masked:
            table = Table(as_table(table.astype({column: float})), masked=True)
            table[column].mask[1] = True
        else:
            table.loc[1, column] = missing
        if isinstance(missing, str) and not missing:
            with pytest.raises(ValueError, match=rf"{column} of row 1, from 0, is '', expected a number"):
                select_positions(table.assign(TYPE=["PSF", "PSF", "REX"]))
        else:
            kept = cut_blends(cut_fluxes(cut_region(table)))
            assert rows(kept) == [0, 2]

    def test_missing_flags_of_rows_elsewhere_stay(self):
        table = make_catalogue(2, MASKBITS=pd.array([None, 3], "Int64"), NOTE=["a", None])
        kept = cut_region(table)
        assert kept["MASKBITS"].isna().tolist() == [True, False]
        assert kept["NOTE"].isna().tolist() == [False, True]

    @pytest.mark.parametrize(
        "change, error, message",
        [
            (
                {"RA": ["05h30m"] * 2},
                ValueError,
                "RA of row 0, from 0, is '05h30m', expected a number.*SkyCoord",
            ),
            (
                {"FLUX_G": [1.0, "faint"]},
                ValueError,
                "FLUX_G of row 1, from 0, is 'faint', expected a number",
            ),
            ({"FLUX_G": [1.0, [2.0]]}, ValueError, "FLUX_G of row 1"),
            ({"FLUX_G": [{}, 1.0]}, ValueError, "FLUX_G of row 0"),
            (
                {"flux_g": 1.0, "Flux_G": 2.0, "FLUX_G": None},
                ValueError,
                "several columns for FLUX_G: flux_g, Flux_G",
            ),
            ({"RA": None, "RA_1": 6.0, "RA_2": 6.0}, KeyError, "lacks RA; .*rename one of RA_1, RA_2"),
        ],
    )
    def test_columns_that_cannot_be_used_are_named(self, change, error, message):
        table = make_catalogue(2)
        table = table.drop(columns=[name for name, value in change.items() if value is None])
        table = table.assign(**{name: value for name, value in change.items() if value is not None})
        with pytest.raises(error, match=message):
            select_positions(table)

    def test_units_that_are_no_angle_are_named(self):
        table = as_table(make_catalogue(2))
        table["RA"].unit = "mJy"
        with pytest.raises(ValueError, match="RA in mJy, which is no angle"):
            cut_region(table)

    def test_unit_of_degrees_may_be_spelled_out(self):
        table = fits.BinTableHDU(as_table(make_catalogue(2)))
        table.columns["RA"].unit = "degrees"
        assert rows(cut_region(table)) == [0, 1]

    @pytest.mark.parametrize(
        "catalogue", [None, 5, "stars.csv", [1, 2], {"RA": [1.0]}, np.ones((3, 2))], ids=repr
    )
    def test_what_is_no_table_is_told_so(self, catalogue):
        with pytest.raises(TypeError, match="catalogue: expected a pandas.DataFrame or an astropy Table"):
            cut_region(catalogue)

    @given(
        ra=st.lists(st.floats(-360, 720) | st.just(np.nan) | st.none(), min_size=1, max_size=8),
        kind=st.sampled_from(["object", "Float64", ">f8", "astropy", "arrow"]),
        west=st.floats(-180, 360),
        width=st.floats(0.1, 359),
    )
    @example(ra=[0.0, 360.0, -0.0, 355.0, 5.0], kind=">f8", west=-5.0, width=10.0)
    @example(ra=[-1e-15, 359.999], kind="object", west=350.0, width=10.0)
    def test_every_row_of_a_region_is_kept_whatever_holds_it(self, ra, kind, west, width):
        plain = make_catalogue(len(ra), RA=np.array([np.nan if value is None else value for value in ra]))
        table = {
            "object": lambda: plain.assign(RA=pd.Series(ra, dtype=object)),
            "Float64": lambda: plain.assign(RA=pd.array(ra, "Float64")),
            ">f8": lambda: plain.assign(RA=plain["RA"].to_numpy().astype(">f8")),
            "astropy": lambda: as_table(plain),
            "arrow": lambda: pa.Table.from_pandas(plain),
        }[kind]()
        places = plain["RA"].to_numpy() % 360 % 360
        beyond = (places - west) % 360
        inside = beyond <= width
        on_edge = np.isclose(beyond, width, atol=1e-6) | np.isclose(beyond % 360, 0, atol=1e-6)
        on_edge |= np.isclose(beyond, 360)
        kept = set(rows(cut_region(table, ra=(west, west + width), dec=(-3, 0))))
        assert {row for row in range(len(ra)) if inside[row] and not on_edge[row]} <= kept
        assert not kept & {row for row in range(len(ra)) if not inside[row] and not on_edge[row]}


def with_flux_unit(unit, nanomaggies_per_unit=1.0):
    """Return 3 objects of 50, 100 and 0 nanomaggies in g, in another unit."""
    table = as_table(make_catalogue(3))
    table["FLUX_G"] = np.array([50, 100, 0]) / nanomaggies_per_unit
    table["FLUX_G"].unit = u.Unit(unit, parse_strict="silent")
    return table


class TestUnitsOfFluxes:
    UNITS = {"uJy": 1 / 3.631, "nJy": 1e-3 / 3.631, "Jy": 1e6 / 3.631, "mgy": 1e9}
    UNITS |= dict.fromkeys(["nmgy", "nanomaggy", "nanomaggies", "counts of mine", ""], 1.0)

    @pytest.mark.parametrize("kind", [Table, QTable])
    @pytest.mark.parametrize("unit", UNITS)
    def test_fluxes_become_nanomaggies(self, unit, kind):
        kept = cut_magnitudes(kind(with_flux_unit(unit, self.UNITS[unit])), {"g": 22})
        np.testing.assert_allclose(kept["FLUX_G"], [50, 100], rtol=1e-12)

    @pytest.mark.parametrize("unit", UNITS | {"maggies": 1e9})
    def test_units_of_fits_tables_may_be_those_that_the_standard_lacks(self, unit):
        table = fits.BinTableHDU(with_flux_unit("", 1e9 if unit == "maggies" else self.UNITS[unit]))
        table.columns["FLUX_G"].unit = unit
        np.testing.assert_allclose(cut_fluxes(table)["FLUX_G"], [50, 100], rtol=1e-12)

    @pytest.mark.parametrize("kind", [Table, QTable])
    @pytest.mark.parametrize("unit", ["adu", "mag", "deg"])
    def test_units_that_are_no_flux_are_named(self, unit, kind):
        with pytest.raises(ValueError, match=f"FLUX_G in {unit}, which does not convert to nmgy"):
            cut_fluxes(kind(with_flux_unit(unit)))

    def test_masked_quantities_are_missing(self):
        table = QTable(with_flux_unit("uJy", 1 / 3.631))
        table["FLUX_G"] = Masked(table["FLUX_G"], mask=[True, False, False])
        assert rows(cut_fluxes(table)) == [1]

    def test_units_of_other_columns_do_not_matter(self):
        table = with_flux_unit("nmgy")
        table["RA_IVAR"], table["FLUX_IVAR_G"] = 1.0, 2.0
        table["RA_IVAR"].unit = u.Unit("1/deg^2")
        table["FLUX_IVAR_G"].unit = u.Unit("1/nanomaggy^2", parse_strict="silent")
        assert cut_fluxes(table)["FLUX_IVAR_G"].tolist() == [2, 2]

    def test_shares_in_percent_are_shares(self):
        table = as_table(make_catalogue(3, FRACFLUX_G=[5.0, 10.0, 11.0]))
        table["FRACFLUX_G"].unit = "%"
        assert rows(cut_blends(table)) == [0, 1]


class TestRegions:
    @pytest.mark.parametrize(
        "ra, ranges",
        [
            ((5, 10), [(5, 10)]),
            ((-5, 5), [(355, 360), (0, 5)]),
            ((355, 5), [(355, 360), (0, 5)]),
            ((355, 365), [(355, 360), (0, 5)]),
            ((-10, -5), [(350, 355)]),
            ((-180, 180), [(0, 360)]),
            ((0, 360), [(0, 360)]),
        ],
    )
    def test_ranges_of_right_ascension(self, ra, ranges):
        assert ra_ranges(ra) == ranges

    @pytest.mark.parametrize(
        "ra",
        [
            *[(5, 5), (0, 361), (np.nan, 5), (5, np.inf), (360, 0), (-800, -790)],
            *[("5", "10"), 5, (5,), (5, 7, 10), None, "510", (5, None), (5 * u.s, 10 * u.s), 5 * u.deg],
        ],
        ids=str,
    )
    def test_ranges_that_make_no_sense_are_named(self, ra):
        with pytest.raises(ValueError, match="ra=.*expected two different bounds"):
            cut_region(make_catalogue(2), ra=ra)

    @pytest.mark.parametrize(
        "dec",
        [
            *[(0, -5), (-91, 0), (0, 91), (np.nan, 0), (3, 3)],
            *[("-5", "0"), 5, (-5,), (-5, -2, 0), None, "50", (-5, None), (-5 * u.m, 0 * u.m), 5 * u.deg],
        ],
        ids=str,
    )
    def test_declinations_that_make_no_sense_are_named(self, dec):
        with pytest.raises(ValueError, match="dec=.*the lower, then the upper bound"):
            cut_region(make_catalogue(2), dec=dec)

    @pytest.mark.parametrize(
        "ra, dec",
        [
            ((5.55 * u.deg, 6.15 * u.deg), (-5, 0)),
            ([5.55, 6.15] * u.deg, [-300, 0] * u.arcmin),
            ((5.55 / 15 * u.hourangle, 6.15), (-5 * u.deg, 0)),
            (np.array([5.55, 6.15]), np.array([-5, 0])),
        ],
        ids=str,
    )
    def test_bounds_may_be_angles(self, ra, dec):
        kept = cut_region(make_catalogue(3), ra=ra, dec=dec)
        assert rows(kept) == [0, 1]
        assert cut_report(kept)["cut"].tolist() == ["RA 5.55..6.15, DEC -5..0 deg"]

    @pytest.mark.parametrize("radius", [0, -1, np.nan, "wide", 5 * u.s, [1, 2] * u.arcsec, None], ids=str)
    def test_radii_that_are_no_angle_are_named(self, radius):
        with pytest.raises(ValueError, match="radius="):
            cut_neighbours(make_catalogue(2), radius)

    def test_plain_numbers_are_arcseconds(self):
        table = make_catalogue(2, RA=[6.0, 6.0 + 30 / 3600])
        assert rows(cut_neighbours(table, 20)) == rows(cut_neighbours(table, 20 * u.arcsec)) == [0, 1]
        assert rows(cut_neighbours(table, 40)) == rows(cut_neighbours(table, (40 / 3600) * u.deg)) == []


class TestPositions:
    @pytest.mark.parametrize("ra, dec", [(np.nan, 0), (5, 91), (5, -90.1), (np.inf, 0), (5, np.nan)])
    def test_rows_without_a_place_are_named(self, ra, dec):
        table = make_catalogue(3)
        table.loc[2, ["RA", "DEC"]] = ra, dec
        with pytest.raises(ValueError, match="1 of 3 rows have no position in the sky, the first, row 2"):
            position_table(table)

    @given(ra=st.floats(-1e4, 1e4), dec=st.floats(-90, 90))
    def test_right_ascensions_are_of_one_turn(self, ra, dec):
        found = position_table(make_catalogue(1, RA=ra, DEC=dec))
        assert 0 <= found["RA"][0] < 360
        assert found["DEC"][0] == dec
        assert abs((found["RA"][0] - ra + 180) % 360 - 180) < 1e-9
