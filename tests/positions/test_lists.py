import gzip
import re
from io import BytesIO

import astropy.units as u
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.coordinates import Angle, SkyCoord
from astropy.io import fits
from astropy.table import MaskedColumn, QTable, Table
from astropy.time import Time
from astropy.utils.masked import Masked
from hypothesis import given
from hypothesis import strategies as st

from ztf_sg.positions import object_list
from ztf_sg.positions.columns import find_columns, parse_header

GAIA_ID = 5853498713190525696  # that of Proxima Centauri; floats cannot hold it


@pytest.fixture
def list_of(tmp_path):
    """Return a function that reads text or bytes from a file as a list of objects."""

    def read(content, name="list.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return object_list(path)

    return read


def check(table, names=("a", "b"), ra=(10.5, 20.25), dec=(-5.25, 41.5)):
    assert table["name"].tolist() == list(names)
    np.testing.assert_allclose(table["RA"], ra, rtol=0, atol=1e-9)
    np.testing.assert_allclose(table["DEC"], dec, rtol=0, atol=1e-9)
    assert set(table["fault"]) == {""}
    assert table.index.tolist() == list(range(len(table)))


PLAIN = "name,RA,DEC\na,10.5,-5.25\nb,20.25,41.5\n"


class TestText:
    @pytest.mark.parametrize(
        "text",
        [
            PLAIN,
            PLAIN.replace("\n", "\r\n"),
            PLAIN.replace("\n", "\r"),
            PLAIN.rstrip(),
            PLAIN.replace(",", "\t"),
            PLAIN.replace(",", ";"),
            PLAIN.replace(",", " , "),
            PLAIN.replace(",", "   "),
            PLAIN.replace(",", "|"),
            "\n\n" + PLAIN.replace("\nb", "\n\nb"),
            "name;RA;DEC\na;10,5;-5,25\nb;20,25;41,5\n",
            "name\tRA\tDEC\na\t10,5\t-5,25\nb\t20,25\t+41,5\n",
            "name,RA,DEC\na,+10.5, -5.25\nb, 20.25 ,+41.5\n",
            "name,RA,DEC\na,10.5,−5.25\nb,20.25,41.5\n",
            "name,RA,DEC\na,1.05e1,-5.25\nb,2025e-2,41.5\n",
            'name,RA,DEC\n"a","10.5","-5.25"\n"b","20.25","41.5"\n',
            "# of last night\n#\n" + PLAIN.replace("\nb", "\n# clouds\nb"),
            "# name RA DEC\na 10.5 -5.25\nb 20.25 41.5\n",
            "#name,RA,DEC\na,10.5,-5.25\nb,20.25,41.5\n",
            "name,RA,DEC,\na,10.5,-5.25,\nb,20.25,41.5,\n",
            "RA,DEC,flux,name,note\n10.5,-5.25,1,a,\n20.25,41.5,2,b,faint\n",
            "   name    RA    DEC\n     a  10.5  -5.25\n     b 20.25   41.5\n",
        ],
    )
    def test_text_with_any_delimiter_is_read(self, list_of, text):
        check(list_of(text))

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
    def test_encodings_are_told_apart(self, list_of, encoding):
        text = "name,RA,DEC\nMüller 5,10.5,-5.25\nb,20.25,41.5\n".encode(encoding)
        check(list_of(text), names=("Müller 5", "b"))

    def test_compressed_text_is_read_whatever_its_name(self, list_of):
        check(list_of(gzip.compress(PLAIN.encode()), "list.csv.gz"))
        check(list_of(gzip.compress(PLAIN.encode()), "list.csv"))

    def test_ending_of_the_name_does_not_matter(self, list_of):
        check(list_of(PLAIN, "list.fits"))

    def test_names_keep_spaces_hashes_and_letters_of_all_languages(self, list_of):
        names = ["NGC 7009 #3", "天狼星", "α Cen, B", "007"]
        text = "name,RA,DEC\n" + "".join(f'"{name}",10,20\n' for name in names)
        assert list_of(text)["name"].tolist() == names

    def test_line_with_more_fields_than_the_header_costs_no_other(self, list_of):
        table = list_of("name,RA,DEC\na,10.5,-5.25\nM 31, core,10.68,41.27\nb,20.25,41.5\n")
        assert "more fields than the header" in table["fault"][1]
        check(table.drop(1).reset_index(drop=True))

    def test_line_with_fewer_fields_costs_no_other(self, list_of):
        table = list_of("name,RA,DEC\na,10.5,-5.25\nc,1\nb,20.25,41.5\n")
        assert table["fault"][1] == "DEC is missing; give a position, or leave the row out"
        check(table.drop(1).reset_index(drop=True))

    def test_quotation_mark_that_nothing_closes_costs_no_row(self, list_of):
        table = list_of('name,RA,DEC\na,10.5,-5.25\n"b,20.25,41.5\n')
        check(table, names=("a", '"b'))

    def test_one_row_is_a_list(self, list_of):
        check(list_of("RA DEC\n10.5 -5.25"), [0], [10.5], [-5.25])

    def test_many_rows_are_read_at_once(self, list_of):
        n = 100_000
        ra, dec = np.linspace(0, 359, n), np.linspace(-90, 90, n)
        content = pd.DataFrame({"source_id": GAIA_ID + np.arange(n), "ra": ra, "dec": dec}).to_csv(
            index=False
        )
        check(list_of(content), GAIA_ID + np.arange(n), ra, dec)


class TestColumns:
    @pytest.mark.parametrize(
        "ra, dec",
        [
            ("RA", "DEC"),
            ("Ra", "Dec"),
            ("ra_deg", "dec_deg"),
            ("RAdeg", "DEdeg"),
            ("RA (deg)", "DEC (deg)"),
            ("RA [deg]", "Dec [deg]"),
            ("R.A.", "Decl."),
            ("ra", "decl"),
            ("RAJ2000", "DEJ2000"),
            ("_RAJ2000", "_DEJ2000"),
            ("RA (J2000)", "DEC (J2000)"),
            ("RA_J2000_deg", "DEC_J2000_deg"),
            ("RA_ICRS", "DE_ICRS"),
            ("_RA.icrs", "_DE.icrs"),
            ("raMean", "decMean"),
            ("meanra", "meandec"),
            ("ALPHA_J2000", "DELTA_J2000"),
            ("ALPHAWIN_J2000", "DELTAWIN_J2000"),
            ("right_ascension", "declination"),
            ("Right Ascension", "Declination"),
            ("s_ra", "s_dec"),
            ("coord.ra", "coord.dec"),
        ],
    )
    def test_positions_are_found_by_name(self, ra, dec):
        check(
            object_list(pd.DataFrame({dec: [-5.25, 41.5], "mag": 1.0, "name": ["a", "b"], ra: [10.5, 20.25]}))
        )

    def test_first_pair_of_the_documented_order_counts(self):
        table = pd.DataFrame({"RAJ2000": [1.0], "DEJ2000": 2.0, "dec": 4.0, "ra": 3.0, "l": 5.0, "b": 6.0})
        check(object_list(table), [0], [3.0], [4.0])

    def test_half_a_pair_does_not_count(self):
        check(object_list(pd.DataFrame({"ra": [9.0], "RA_ICRS": 1.0, "DE_ICRS": 2.0})), [0], [1.0], [2.0])

    def test_column_in_degrees_counts_before_a_sexagesimal_one(self):
        table = {"RA (hms)": ["00:00:00"], "DEC (dms)": "00:00:00", "RA (deg)": 1.0, "DEC (deg)": 2.0}
        check(object_list(pd.DataFrame(table)), [0], [1.0], [2.0])

    def test_upper_case_counts_among_equals(self):
        check(object_list(pd.DataFrame({"ra": [9.0], "RA": 1.0, "DEC": 2.0})), [0], [1.0], [2.0])

    @pytest.mark.parametrize(
        "columns, message",
        [
            (["Ra", "ra", "dec"], "several columns with the same meaning: 'Ra', 'ra'; rename"),
            (["RA", "DEC", "RA"], "several columns .* 'RA', 'RA'"),
            (["a.ra", "a.dec", "b.ra", "b.dec"], "'a.ra', 'b.ra'"),
            (["RA", "flux"], "no columns of positions, only 'RA', 'flux'; name two of them RA and DEC"),
            (["RAB1950", "DEB1950"], r"equinox B1950 only; convert .*SkyCoord\(.*frame='fk4'"),
            (["elon", "elat"], "no columns of positions"),
        ],
    )
    def test_lists_without_clear_positions_are_refused(self, columns, message):
        with pytest.raises(ValueError, match=f"the list: has .*{message}"):
            object_list(pd.DataFrame([[1.0] * len(columns)], columns=columns))

    def test_galactic_positions_are_converted(self, list_of):
        sky = SkyCoord([10.5, 20.25] * u.deg, [-5.25, 41.5] * u.deg).galactic
        table = pd.DataFrame({"name": ["a", "b"], "l": sky.l.deg, "b": sky.b.deg})
        check(object_list(table))
        check(object_list(table.rename(columns={"l": "GLON", "b": "GLAT"})))
        table.loc[2] = ["c", 1.0, 91.0]
        assert "b 91.0 is beyond -90..90" in object_list(table)["fault"][2]

    def test_units_in_headers_count(self, list_of):
        check(list_of("name,ra_hours,dec_deg\na,0.7,-5.25\nb,1.35,41.5\n"))
        radians = np.radians([[10.5, -5.25], [20.25, 41.5]])
        check(object_list(pd.DataFrame(radians, columns=["ra (rad)", "dec (rad)"])), [0, 1])

    @given(st.text(max_size=12))
    def test_any_text_may_be_a_header(self, text):
        assert re.fullmatch(r"[_.]?[a-z0-9]*", parse_header(text).key)
        assert find_columns(["RA", "DEC", f"x{text}"]).numbers["RA"] == 0


class TestAngles:
    def test_rows_may_be_decimal_or_sexagesimal(self, list_of):
        ra = ["10.5", "00:42:00", "00 42 00.0", "0h42m00s", "0h42m0.0s", "10d30m00s", "0h42m", "10.5d"]
        dec = ["-5.25", "-05:15:00", "-05 15 00", "-5d15m0s", "-5°15′0″", "−05:15:00.0", "-5d15m", "-5.25°"]
        rows = "".join(f"{row[0]},{row[1]}\n" for row in zip(ra, dec, strict=True))
        check(list_of("RA,DEC\n" + rows), range(8), [10.5] * 8, [-5.25] * 8)

    @given(st.floats(0, 359.99), st.floats(-90, 90))
    def test_sexagesimal_text_of_astropy_is_read(self, ra, dec):
        ra, dec = Angle(ra, u.deg), Angle(dec, u.deg)
        table = {
            "RA": [
                ra.to_string(u.hourangle, sep=":", pad=True, precision=6),
                ra.to_string(u.hourangle, precision=6),
            ],
            "DEC": [dec.to_string(sep=" ", alwayssign=True, precision=5), dec.to_string(u.deg, precision=5)],
        }
        read = object_list(pd.DataFrame(table))
        assert set(read["fault"]) == {""}
        difference = (read["RA"] - ra.deg + 180) % 360 - 180
        np.testing.assert_allclose(difference, 0, atol=1e-7)
        np.testing.assert_allclose(read["DEC"], dec.deg, atol=1e-7)

    @pytest.mark.parametrize("ra, expected", [(360.0, 0), (-0.001, 359.999), (719.5, 359.5), ("24:00:00", 0)])
    def test_right_ascension_is_brought_to_one_turn(self, ra, expected):
        check(object_list(pd.DataFrame({"RA": [ra], "DEC": [1.0]})), [0], [expected], [1.0])

    @pytest.mark.parametrize(
        "ra, dec, fault",
        [
            (np.nan, 1, "RA is missing; give a position"),
            ("", 1, "RA is missing"),
            (1, None, "DEC is missing"),
            ("--", 1, "RA is missing"),
            ("seven", 1, "RA 'seven' is no angle; give degrees, or hours as hh:mm:ss"),
            (True, 1, "RA True is no angle"),
            ("12:60:00", 1, "RA '12:60:00' is no angle"),
            ("187:30:00", 1, "RA '187:30:00' is no angle"),
            ("1:2:3:4", 1, "RA '1:2:3:4' is no angle"),
            (1, "12h30m", "DEC '12h30m' is no angle; give degrees, or dd:mm:ss"),
            (1, 90.001, r"DEC 90.001 is beyond -90..90 deg; correct it"),
            (1, "-91:00:00", r"DEC '-91:00:00' is beyond"),
            (1000.0, 1, "RA 1000.0 is beyond -360..720 deg"),
            (np.inf, 1, "RA inf is beyond"),
            (-999, -999, "RA -999.0 is beyond"),
        ],
    )
    def test_row_without_a_position_is_a_fault_and_costs_no_other(self, ra, dec, fault):
        table = pd.DataFrame({"RA": [10.5, ra, 20.25], "DEC": [-5.25, dec, 41.5]}, dtype=object)
        read = object_list(table.infer_objects())
        assert fault in read["fault"][1]
        assert np.isnan(read.loc[1, ["RA", "DEC"]].astype(float)).all()
        check(read.drop(1).reset_index(drop=True), [0, 2])

    def test_southern_sky_is_no_fault(self):
        check(object_list(pd.DataFrame({"RA": [1.0], "DEC": [-89.0]})), [0], [1.0], [-89.0])


class TestNames:
    @pytest.mark.parametrize(
        "header", "id NAME objID Source_ID designation target main_id OBJECT Source".split()
    )
    def test_names_are_found_in_any_case(self, header):
        check(object_list(pd.DataFrame({header: ["a", "b"], "RA": [10.5, 20.25], "DEC": [-5.25, 41.5]})))

    def test_ids_of_gaia_stay_exact(self, list_of):
        text = f"source_id,ra,dec,parallax\n{GAIA_ID},1,2,\n{GAIA_ID + 1},,4,5.0\n"
        table = list_of(text)
        assert table["name"].tolist() == [GAIA_ID, GAIA_ID + 1]
        assert table["name"].dtype == np.int64

    @pytest.mark.parametrize("kind", ["csv", "Int64", "arrow", "masked"])
    def test_ids_stay_exact_where_some_are_missing(self, list_of, kind):
        columns = {"source_id": pd.array([GAIA_ID, None], "Int64"), "ra": [1.0, 2.0], "dec": [3.0, 4.0]}
        if kind == "csv":
            table = list_of(f"source_id,ra,dec\n{GAIA_ID},1,3\n,2,4\n")
        elif kind == "masked":
            ids = MaskedColumn([GAIA_ID, 1], mask=[False, True])
            table = object_list(Table(columns | {"source_id": ids}))
        else:
            frame = pd.DataFrame(columns)
            table = object_list(pa.Table.from_pandas(frame) if kind == "arrow" else frame)
        check(table, [str(GAIA_ID), "row 1"], [1, 2], [3, 4])

    def test_ids_that_were_made_floats_bring_a_warning(self):
        frame = pd.DataFrame({"source_id": [float(GAIA_ID), np.nan], "ra": 1.0, "dec": 2.0})
        with pytest.warns(UserWarning, match="last digits may be wrong; read them as whole numbers"):
            object_list(frame)
        small = frame.assign(source_id=[7.0, 8.0])
        assert object_list(small)["name"].tolist() == [7, 8]

    def test_numbers_of_rows_name_what_has_no_name(self, list_of):
        assert list_of("ra,dec\n1,2\n3,4\n")["name"].tolist() == [0, 1]
        assert list_of("name,ra,dec\n,1,2\nb,3,4\n")["name"].tolist() == ["row 0", "b"]

    def test_written_index_counts_as_names_only_if_it_is_text(self, list_of):
        frame = pd.DataFrame({"ra": [10.5, 20.25], "dec": [-5.25, 41.5]}, index=[7, 8])
        check(list_of(frame.to_csv()), [0, 1])
        check(object_list(frame), [0, 1])
        check(list_of(frame.set_axis(["a", "b"]).to_csv()))
        check(object_list(frame.set_axis(["a", "b"])))

    @pytest.mark.parametrize("header", ["source_id", "star", "Name"])
    def test_named_index_holds_names(self, header):
        frame = pd.DataFrame({"ra": [10.5, 20.25], "dec": [-5.25, 41.5]}, index=pd.Index([7, 8], name=header))
        check(object_list(frame), [7, 8])

    def test_repeated_names_and_positions_stay(self, list_of):
        table = list_of("name,RA,DEC\na,1,2\na,1,2\na,3,4\n")
        check(table, ["a"] * 3, [1, 1, 3], [2, 2, 4])

    def test_types_of_tractor_are_kept_and_no_others(self):
        frame = pd.DataFrame({"RA": [1.0, 2.0], "DEC": 3.0, "TYPE": ["PSF ", "rex"]})
        assert object_list(frame)["type"].tolist() == ["PSF", "REX"]
        assert "type" not in object_list(frame.assign(TYPE="Star"))


class TestMotions:
    GAIA = {"ra": [1.0, 2.0], "dec": [3.0, 4.0], "pmra": [5.0, np.nan], "pmdec": [-6.0, 1.0]}

    def test_motions_of_gaia_are_kept(self):
        table = object_list(pd.DataFrame(self.GAIA))
        assert list(table) == ["name", "RA", "DEC", "pmra", "pmdec", "ref_epoch", "fault"]
        np.testing.assert_array_equal(table["pmra"], [5, np.nan])
        np.testing.assert_array_equal(table["pmdec"], [-6, np.nan])
        assert table["ref_epoch"].tolist() == [2016.0, 2016.0]

    @pytest.mark.parametrize(
        "columns, epoch",
        [
            ({"ref_epoch": 2015.5}, 2015.5),
            ({"ref_epoch": "J2015.5"}, 2015.5),
            ({"Epoch": np.nan}, 2016.0),
            ({"main_id": "M 31"}, 2000.0),
        ],
    )
    def test_epoch_of_the_list_counts(self, columns, epoch):
        table = object_list(pd.DataFrame(self.GAIA | columns))
        assert table["ref_epoch"].tolist() == [epoch, epoch]
        assert set(table["fault"]) == {""}

    def test_positions_named_j2000_are_of_that_epoch(self):
        frame = pd.DataFrame({"RAJ2000": [1.0], "DEJ2000": 2.0, "pmRA": 3.0, "pmDE": 4.0})
        assert object_list(frame).loc[0, ["pmra", "pmdec", "ref_epoch"]].tolist() == [3.0, 4.0, 2000.0]

    def test_epoch_that_is_no_year_is_a_fault_of_objects_that_move(self):
        frame = pd.DataFrame(
            {"ra": [1.0, 2.0], "dec": 3.0, "pmra": [5.0, 0.0], "pmdec": 0.0, "ref_epoch": [57388.0, 0]}
        )
        table = object_list(frame)
        assert table["fault"].tolist() == ["ref_epoch 57388.0 is no year; give one such as 2016.0", ""]
        assert table["ref_epoch"][1] == 2016.0

    def test_unreadable_motion_is_a_fault(self, list_of):
        table = list_of("ra,dec,pmra,pmdec\n1,2,fast,1\n1,2,,\n")
        assert table["fault"].tolist() == ["pmra 'fast' is no number; give mas/yr, or leave it empty", ""]

    def test_units_of_motions_are_converted(self):
        pm = [0.005, 0.01] * u.arcsec / u.yr
        table = object_list(QTable({"ra": [1, 2] * u.deg, "dec": [3, 4] * u.deg, "pmRA": pm, "pmDE": pm}))
        np.testing.assert_allclose(table["pmra"], [5, 10])
        np.testing.assert_allclose(table["pmdec"], [5, 10])


SKY = SkyCoord([10.5, 20.25] * u.deg, [-5.25, 41.5] * u.deg)


class TestSources:
    @pytest.mark.parametrize("frame", ["icrs", "galactic", "fk5", "fk4", "barycentricmeanecliptic"])
    def test_skycoord_of_any_frame_is_read(self, frame):
        table = object_list(SKY.transform_to(frame))
        np.testing.assert_allclose(table[["RA", "DEC"]], [[10.5, -5.25], [20.25, 41.5]], atol=1e-7)
        assert list(table) == ["name", "RA", "DEC", "fault"]

    def test_scalar_and_grid_of_skycoord_are_rows(self):
        check(object_list(SKY[0]), [0], [10.5], [-5.25])
        check(object_list(SKY.reshape(2, 1)), [0, 1])

    def test_motion_and_time_of_skycoord_are_used(self):
        pm = {"pm_ra_cosdec": [1, 2] * u.mas / u.yr, "pm_dec": [3, 4] * u.mas / u.yr}
        moving = SkyCoord(SKY.ra, SKY.dec, **pm, obstime=Time(2010.0, format="jyear")).galactic
        table = object_list(moving)
        np.testing.assert_allclose(table[["pmra", "pmdec"]], [[1, 3], [2, 4]])
        assert table["ref_epoch"].tolist() == [2010.0, 2010.0]

    def test_frame_that_does_not_convert_is_named(self):
        with pytest.raises(
            ValueError, match="frame altaz, which do not convert to ICRS .*convert them first"
        ):
            object_list(SkyCoord([1] * u.deg, [2] * u.deg, frame="altaz"))

    def test_masked_positions_are_missing(self):
        mask = [False, True]
        tables = [
            Table({"ra": MaskedColumn([1.0, 2.0], mask=mask), "dec": [3.0, 4.0]}),
            QTable({"ra": Masked([1, 2] * u.deg, mask), "dec": [3, 4] * u.deg}),
            pd.DataFrame({"ra": pd.array([1.0, None], "Float64"), "dec": [3.0, 4.0]}),
            SkyCoord(Masked([1, 2] * u.deg, mask), [3, 4] * u.deg),
        ]
        for table in tables:
            read = object_list(table)
            assert [fault[-48:] for fault in read["fault"]] == [
                "",
                "is missing; give a position, or leave the row out"[-48:],
            ]
            assert read["RA"][0] == 1.0

    def test_column_of_skycoord_is_read_with_the_names_beside_it(self, tmp_path):
        table = QTable({"name": ["a", "b"], "coord": SKY.galactic})
        check(object_list(table))
        table.write(tmp_path / "list.ecsv")
        check(object_list(tmp_path / "list.ecsv"))

    @pytest.mark.parametrize("unit", [u.deg, u.hourangle, u.rad, u.arcmin])
    def test_units_of_columns_are_converted(self, tmp_path, unit):
        table = QTable({"name": ["a", "b"], "raMean": SKY.ra.to(unit), "decMean": SKY.dec.to(unit)})
        check(object_list(table))
        table.write(tmp_path / "list.ecsv")
        check(object_list(tmp_path / "list.ecsv"))

    def test_unit_of_text_counts(self):
        text = {"RAJ2000": Table.Column(["00:42:00", "01:21:00"], unit='"h:m:s"'), "DEJ2000": SKY.dec}
        check(object_list(Table(text)), [0, 1])
        check(object_list(Table(text | {"RAJ2000": Table.Column(["0.7", "1.35"], unit="hourangle")})), [0, 1])

    def test_unit_that_is_no_angle_is_refused(self):
        with pytest.raises(ValueError, match="RA in km, which is no angle"):
            object_list(QTable({"ra": [1.0] * u.km, "dec": [2.0] * u.deg}))

    @pytest.mark.parametrize(
        "kind", ["fits", "votable", "ascii.ecsv", "ascii.ipac", "ascii.mrt", "ascii.tab"]
    )
    @pytest.mark.parametrize("compress", [bytes, gzip.compress])
    def test_formats_of_astropy_are_told_by_their_content(self, list_of, tmp_path, kind, compress):
        table = Table({"name": ["a", "b"], "RA_ICRS": SKY.ra, "DE_ICRS": SKY.dec, "wide": np.ones((2, 3))})
        if kind.startswith("ascii"):
            table.remove_column("wide")
        table.write(tmp_path / "written", format=kind)
        check(list_of(compress((tmp_path / "written").read_bytes()), "list.txt"))

    def test_sextractor_catalogue_is_read(self, list_of):
        text = "#   1 NUMBER  Running number\n#   2 ALPHA_J2000  RA  [deg]\n#   3 DELTA_J2000  DEC  [deg]\n"
        check(list_of(text + " 1 10.5 -5.25\n 2 20.25 41.5\n", "list.cat"), [1, 2])

    def test_parquet_and_arrow_are_read(self, tmp_path):
        frame = pd.DataFrame(
            {"ra": [10.5, 20.25], "dec": [-5.25, 41.5]}, index=pd.Index(["a", "b"], name="id")
        )
        frame.to_parquet(tmp_path / "list.parquet")
        check(object_list(tmp_path / "list.parquet"))
        check(object_list(pq.read_table(tmp_path / "list.parquet")))

    def test_table_with_positions_among_several_is_taken(self, tmp_path):
        positions, other = Table({"ra": SKY.ra, "dec": SKY.dec}), Table({"flux": [1.0]})
        hdus = [fits.PrimaryHDU(), fits.table_to_hdu(other), fits.table_to_hdu(positions)]
        fits.HDUList(hdus).writeto(tmp_path / "list.fits")
        check(object_list(tmp_path / "list.fits"), [0, 1])
        fits.HDUList([*hdus, hdus[-1].copy()]).writeto(tmp_path / "two.fits")
        with pytest.raises(ValueError, match="holds 3 tables, 2 of them with positions; save the one"):
            object_list(tmp_path / "two.fits")

    @pytest.mark.parametrize(
        "coosys, epoch",
        [('system="ICRS" epoch="J2015.5"', 2015.5), ('system="eq_FK5" equinox="J2000"', 2016.0)],
    )
    def test_epoch_of_a_votable_counts(self, list_of, coosys, epoch):
        table = list_of(votable_of(coosys), "list.xml")
        assert table["ref_epoch"].tolist() == [epoch]
        check(table, [0], [10.5], [-5.25])

    @pytest.mark.parametrize("coosys", ['system="eq_FK4" equinox="B1950"', 'system="eq_FK5" equinox="J1975"'])
    def test_other_equinox_of_a_votable_is_refused(self, list_of, coosys):
        with pytest.raises(
            ValueError, match=r"list.xml: has positions of RADESYS eq_FK.*EQUINOX .*; convert"
        ):
            list_of(votable_of(coosys), "list.xml")

    def test_other_equinox_of_a_fits_header_is_refused(self, tmp_path):
        table = Table({"ra": SKY.ra, "dec": SKY.dec}, meta={"EQUINOX": 1950.0})
        table.write(tmp_path / "list.fits")
        with pytest.raises(ValueError, match="has positions of EQUINOX 1950.0; convert them"):
            object_list(tmp_path / "list.fits")


def votable_of(coosys):
    table = Table({"ra": [10.5] * u.deg, "dec": [-5.25] * u.deg, "pmra": [1.0], "pmdec": [1.0]})
    file = BytesIO()
    table.write(file, format="votable")
    text = file.getvalue().decode()
    for field in ("ra", "dec"):
        text = text.replace(f'<FIELD ID="{field}"', f'<FIELD ref="sys" ID="{field}"')
    other = '<COOSYS ID="other" system="galactic"/>'
    return text.replace("<TABLE>", f'{other}<COOSYS ID="sys" {coosys}/><TABLE>')


class TestRefusals:
    @pytest.mark.parametrize(
        "content, message",
        [
            (b"", "is empty"),
            (b"\n  \n", "is empty"),
            (b"# nothing\n", "is empty"),
            (b"name,RA,DEC\n", "has no rows; its columns are 'name', 'RA', 'DEC'$"),
            (
                b"10.5,-5.25\n20.25,41.5\n",
                "the first line seems to be an object: put a line of names before it",
            ),
            (b"10.5 -5.25\n20.25 41.5\n", "the first line seems to be an object"),
            (
                b"RA_1,DEC_1\n1,2\n",
                "has no columns of positions, only 'RA_1', 'DEC_1'; name two of them RA and DEC",
            ),
            (b"some words\nof a letter\n", "has no columns of positions"),
            (b'{"ra": [1], "dec": [2]}', "is JSON; save the table as CSV"),
            (b"<!DOCTYPE html>\n<html>ra, dec</html>", "is an HTML page"),
            (b"PK\x03\x04 and so on", "is a zip archive or an Excel workbook; save the table as CSV"),
            (bytes(range(256)) * 20, "is a binary file of an unknown kind; save the table as CSV"),
            (b"PAR1 and so on", "cannot be read as Parquet file"),
            (b"<?xml version='1.0'?><VOTABLE><RESOURCE/></VOTABLE>", "is a VOTable without a table"),
            (gzip.compress(PLAIN.encode(), mtime=0)[:30], "cannot be read"),
        ],
    )
    def test_what_is_no_list_is_refused_by_name(self, list_of, content, message):
        with pytest.raises(ValueError, match=rf"odd\.csv: .*{message}"):
            list_of(content, "odd.csv")

    def test_fits_images_are_refused(self, tmp_path):
        fits.PrimaryHDU(np.zeros((4, 4))).writeto(tmp_path / "image.fits")
        with pytest.raises(ValueError, match=r"image.fits: is a FITS file without a table"):
            object_list(tmp_path / "image.fits")

    def test_damaged_fits_table_is_refused(self, tmp_path):
        path = tmp_path / "list.fits"
        Table({"ra": np.zeros(9000), "dec": np.zeros(9000)}).write(path)
        path.write_bytes(path.read_bytes()[:20000])
        with pytest.raises(ValueError, match=r"list.fits: cannot be read as FITS file"):
            object_list(path)

    def test_folders_and_missing_files_are_named(self, tmp_path):
        with pytest.raises(IsADirectoryError, match="is a folder; name one file in it"):
            object_list(tmp_path)
        with pytest.raises(FileNotFoundError, match="none.csv: no such file"):
            object_list(tmp_path / "none.csv")

    @pytest.mark.parametrize(
        "table", [pd.DataFrame({"ra": [], "dec": []}), SKY[:0], Table({"ra": [], "dec": []})]
    )
    def test_empty_lists_are_refused(self, table):
        with pytest.raises(ValueError, match="the list: has no rows"):
            object_list(table)

    def test_columns_of_several_levels_are_refused(self):
        frame = pd.DataFrame([[1.0, 2.0]], columns=pd.MultiIndex.from_tuples([("x", "ra"), ("x", "dec")]))
        with pytest.raises(ValueError, match="columns of several levels; flatten them"):
            object_list(frame)

    @pytest.mark.parametrize("source", [None, 5, [(1.0, 2.0)], np.zeros((2, 2))])
    def test_what_is_no_table_is_a_type_error(self, source):
        with pytest.raises(TypeError, match="expected a pandas.DataFrame or an astropy Table"):
            object_list(source)
