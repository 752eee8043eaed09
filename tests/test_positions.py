import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.table import Table
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ztf_sg.positions import (
    GAIA_COLUMNS,
    audit_labels,
    audit_report,
    cut_blends,
    cut_doubtful,
    cut_fluxes,
    cut_magnitudes,
    cut_neighbours,
    cut_region,
    cut_report,
    cut_types,
    labels_of_types,
    magnitude,
    motion_significance,
    position_table,
    read_positions,
    sample_classes,
    select_positions,
    significant_motion,
    standard_columns,
    write_audit,
    write_positions,
)

CUTS = (cut_region, cut_types, cut_fluxes, cut_magnitudes, cut_blends, cut_neighbours)


def make_catalogue(n=6, **columns):
    """Return a catalogue of isolated, bright, clean objects in the reference region."""
    table = pd.DataFrame({"RA": 6 + 0.1 * np.arange(n), "DEC": -2.0, "TYPE": "PSF"}, index=range(n))
    for band in "GRZ":
        table[f"FLUX_{band}"] = 100.0
        table[f"FRACFLUX_{band}"] = 0.01
    return table.assign(ROW=np.arange(n), **columns)


def flux(mag):
    return 10 ** (0.4 * (22.5 - mag))


def rows(table):
    return table["ROW"].tolist()


@pytest.fixture
def sky():
    """Return a catalogue with a known fate for each row."""
    table = make_catalogue(10)
    table.loc[1, "RA"] = 11.0  # out of the region
    table.loc[2, "TYPE"] = "DUP"
    table.loc[3, "FLUX_R"] = -1.0
    table.loc[4, "FLUX_Z"] = flux(19.5)  # too faint
    table.loc[5, "FRACFLUX_G"] = 0.5
    table.loc[7, "RA"] = table.loc[6, "RA"] + 10 / 3600  # 6 and 7 crowd each other
    table.loc[8, "TYPE"] = "REX"
    table.loc[9, "TYPE"] = "SER"
    return table


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


class TestFiles:
    @pytest.fixture
    def directory(self, sky, tmp_path):
        write_positions(*select_positions(sky), tmp_path / "data")
        return tmp_path / "data"

    def test_round_trip(self, mock_positions, tmp_path):
        paths = write_positions(*mock_positions, tmp_path)
        assert [path.name for path in paths] == ["stars.csv", "gals.csv"]
        assert sorted(tmp_path.iterdir()) == sorted(paths)
        for read, written in zip(read_positions(tmp_path), mock_positions, strict=True):
            assert list(read.columns) == ["RA", "DEC", "type"]
            assert read["type"].tolist() == written["TYPE"].tolist()
            np.testing.assert_allclose(read[["RA", "DEC"]], written[["RA", "DEC"]], rtol=0, atol=6e-8)

    def test_positions_read_can_be_written_again(self, directory, tmp_path):
        write_positions(*read_positions(directory), tmp_path / "copy")
        for name in ("stars.csv", "gals.csv"):
            assert (tmp_path / "copy" / name).read_bytes() == (directory / name).read_bytes()

    @pytest.mark.parametrize("name", ["stars.csv", "gals.csv"])
    def test_missing_file_is_named(self, directory, name):
        (directory / name).unlink()
        with pytest.raises(FileNotFoundError, match=rf"{name}: no such file"):
            read_positions(directory)

    @pytest.mark.parametrize("column", ["RA", "DEC", "type"])
    def test_missing_column_is_named(self, directory, column):
        table = pd.read_csv(directory / "gals.csv").drop(columns=column)
        table.to_csv(directory / "gals.csv", index=False)
        with pytest.raises(ValueError, match=rf"gals\.csv: lacks the column {column}"):
            read_positions(directory)

    @pytest.mark.parametrize(
        "row",
        [
            "7,-2,REX",
            "7,-2,DUP",
            "7,-2,",
            "seven,-2,PSF",
            "00:28:00,-2,PSF",
            ",-2,PSF",
            "7,,PSF",
            "7,-91,PSF",
            "-1,2,PSF",
            "361,2,PSF",
            "inf,2,PSF",
        ],
    )
    def test_bad_row_is_named_with_its_file(self, directory, row):
        (directory / "stars.csv").write_text(f"RA,DEC,type\n6,-1,PSF\n{row}\n")
        with pytest.raises(ValueError, match=r"stars\.csv: row .* is no star with a position"):
            read_positions(directory)

    def test_empty_file_is_named(self, directory):
        (directory / "stars.csv").write_text("")
        with pytest.raises(ValueError, match=r"stars\.csv"):
            read_positions(directory)

    def test_whole_right_ascensions_are_read_as_floats(self, directory):
        (directory / "stars.csv").write_text("RA,DEC,type\n6,-1,PSF\n")
        stars, _ = read_positions(directory)
        assert stars.dtypes[["RA", "DEC"]].tolist() == [np.float64, np.float64]


NAN = np.nan
MOTIONS = {  # parallax, parallax_error, pmra, pmdec, pmra_error, pmdec_error
    "near": [2.0, 0.1, 0.0, 0.0, 0.2, 0.2],
    "fast": [0.1, 0.1, 30.0, -40.0, 1.0, 1.0],
    "unsure": [0.1, 0.1, 3.0, -4.0, 1.1, 1.1],
    "behind": [-9.0, 0.1, 0.0, 0.0, 1.0, 1.0],
    "unmeasured": [NAN] * 6,
    "fast without parallax": [NAN, NAN, 30.0, 0.0, 1.0, 1.0],
}


def make_match(motions, **columns):
    """Return a catalogue matched with sources of these motions; None is no source."""
    table = make_catalogue(len(motions), **columns)
    table["gaia_source_id"] = pd.array([pd.NA if name is None else 9 * 10**18 for name in motions], "Int64")
    values = [MOTIONS[name or "unmeasured"] for name in motions]
    table[list(GAIA_COLUMNS[1:7])] = np.array(values)
    return table.assign(separation=[NAN if name is None else 0.1 for name in motions])


class TestMotions:
    def test_significant_by_parallax_or_proper_motion(self):
        matched = make_match(MOTIONS)
        assert significant_motion(matched).tolist() == [True, True, False, False, False, True]

    def test_significance_is_the_larger_ratio_to_the_error(self):
        expected = [20, 50, 5 / 1.1, -90, NAN, 30]
        np.testing.assert_allclose(motion_significance(make_match(MOTIONS)), expected)

    def test_columns_may_have_gone_through_a_cut(self):
        matched = make_match(MOTIONS)
        assert significant_motion(cut_types(matched)).tolist() == significant_motion(matched).tolist()

    def test_table_that_was_not_matched_is_told_so(self):
        with pytest.raises(KeyError, match="lacks parallax, .*match it with Gaia"):
            significant_motion(make_catalogue(2))


class TestAudit:
    @pytest.fixture
    def matched(self):
        motions = ["fast", "unsure", "unmeasured", None, "near", "unsure", "unmeasured", None]
        return make_match(motions, TYPE=["PSF"] * 4 + ["REX", "EXP", "DEV", "SER"])

    verdicts = ["confirmed", *["doubtful"] * 4, *["unchallenged"] * 3]

    def test_verdicts(self, matched):
        assert audit_labels(matched)["audit"].tolist() == self.verdicts

    def test_columns_and_rows_are_kept(self, matched):
        matched = matched.rename(columns={"TYPE": "type"}).set_index(np.arange(8) + 7)
        pd.testing.assert_frame_equal(audit_labels(matched).drop(columns="audit"), matched)

    def test_report_counts_by_class_verdict_and_reason(self, matched):
        report = audit_report(audit_labels(pd.concat([matched, matched[:1]])))
        assert list(report.columns) == ["class", "audit", "reason", "objects"]
        assert report["objects"].sum() == 9
        counts = report.set_index(["class", "audit", "reason"])["objects"].to_dict()
        measured = "Gaia source without a measured motion"
        assert counts == {
            ("star", "confirmed", "significant motion"): 2,
            ("star", "doubtful", "no significant motion"): 1,
            ("star", "doubtful", measured): 1,
            ("star", "doubtful", "no Gaia source"): 1,
            ("galaxy", "doubtful", "significant motion"): 1,
            ("galaxy", "unchallenged", "no significant motion"): 1,
            ("galaxy", "unchallenged", measured): 1,
            ("galaxy", "unchallenged", "no Gaia source"): 1,
        }

    def test_doubtful_objects_can_be_cut_like_others(self, matched):
        left = cut_doubtful(audit_labels(cut_types(matched)))
        assert rows(left) == [0, 5, 6, 7]
        assert cut_report(left)["removed"].tolist() == [0, 4]

    def test_cut_without_an_audit_is_told_so(self, matched):
        with pytest.raises(KeyError, match="lacks AUDIT"):
            cut_doubtful(matched)
        with pytest.raises(KeyError, match="lacks audit"):
            audit_report(matched)

    def test_file_has_verdicts_beside_the_positions(self, matched, tmp_path):
        classes = sample_classes(audit_labels(matched))
        path = write_audit(*classes, tmp_path / "data")
        write_positions(*classes, tmp_path / "data")
        assert path.name == "label_audit.csv"
        written = pd.read_csv(path, dtype={"gaia_source_id": "Int64"})
        assert list(written.columns) == ["RA", "DEC", "type", *GAIA_COLUMNS, "audit"]
        stars, galaxies = read_positions(tmp_path / "data")
        assert written["RA"].tolist() == [*stars["RA"], *galaxies["RA"]]
        assert sorted(written["audit"]) == sorted(self.verdicts)
        assert written["gaia_source_id"].dropna().eq(9 * 10**18).all()
        assert not list((tmp_path / "data").glob("*.part"))

    def test_position_files_do_not_depend_on_the_audit(self, matched, tmp_path):
        write_positions(*sample_classes(matched), tmp_path / "one")
        write_positions(*sample_classes(audit_labels(matched)), tmp_path / "two")
        for name in ("stars.csv", "gals.csv"):
            assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
