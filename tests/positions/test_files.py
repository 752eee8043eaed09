import numpy as np
import pandas as pd
import pytest

from ztf_sg.positions import (
    read_positions,
    select_positions,
    write_positions,
)


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
        with pytest.raises(
            ValueError, match=rf"gals\.csv: the catalogue lacks {column.upper()}; .*notebook 1"
        ):
            read_positions(directory)

    @pytest.mark.parametrize(
        "row",
        [
            "7,-2,REX",
            "7,-2,DUP",
            "7,-2,",
            ",-2,PSF",
            "7,,PSF",
            "7,-91,PSF",
            "inf,2,PSF",
        ],
    )
    def test_bad_row_is_named_with_its_file(self, directory, row):
        (directory / "stars.csv").write_text(f"RA,DEC,type\n6,-1,PSF\n{row}\n")
        with pytest.raises(
            ValueError, match=r"stars\.csv: row .* (is no star|has no position on the sky).*mend or remove it"
        ):
            read_positions(directory)

    @pytest.mark.parametrize("ra", ["seven", "00:28:00", "7;2", "0x7"])
    def test_text_in_place_of_a_number_is_named_with_its_file(self, directory, ra):
        (directory / "stars.csv").write_text(f"RA,DEC,type\n6,-1,PSF\n{ra},-2,PSF\n")
        with pytest.raises(ValueError, match=r"stars\.csv: RA of row 1, from 0, is .*expected a number"):
            read_positions(directory)

    @pytest.mark.parametrize("header", ["RA,DEC,type", "ra,dec,TYPE", "Ra,Dec,Type"])
    @pytest.mark.parametrize("ra, expected", [("-1", 359.0), ("361", 1.0), ("360", 0.0)])
    def test_any_turn_of_right_ascension_and_any_case_are_read(self, directory, header, ra, expected):
        (directory / "stars.csv").write_text(f"{header}\n6,-1,PSF\n{ra},-2,PSF\n")
        assert read_positions(directory)[0]["RA"].tolist() == [6.0, expected]

    @pytest.mark.parametrize(
        "content",
        ["RA, DEC, type\n6, -1, PSF\n7, -2, PSF\n", "RA ,DEC , type \n6 , -1 ,PSF \n7,-2,b'PSF'\n"],
    )
    def test_blanks_beside_commas_are_read(self, directory, content):
        (directory / "stars.csv").write_text(content)
        stars, _ = read_positions(directory)
        assert stars.to_numpy().tolist() == [[6, -1, "PSF"], [7, -2, "PSF"]]

    @pytest.mark.parametrize(
        "content, found",
        [
            ("RA;DEC;type\n6;-1;PSF\n", "lacks RA, DEC, TYPE; it has RA;DEC;.*begins 'RA;DEC;type'"),
            ("RA DEC type\n6 -1 PSF\n", "lacks RA, .*begins 'RA DEC type'"),
            ("# my stars\nRA,DEC,type\n6,-1,PSF\n", "begins '# my stars'"),
            ("# RA,DEC,type\n6,-1,PSF\n", "lacks RA; .*begins '# RA,DEC,type'"),
            ("RA,DEC,type\n# bright\n6,-1,PSF\n", "RA of row 0, from 0, is '# bright'"),
            ("6,-1,PSF\n7,-2,PSF\n", "lacks RA, .*begins '6,-1,PSF'"),
            ("RA,DEC,type\n6,-1,star\n", "types found are STAR, expected some of PSF"),
            ("\xff\xfe", "begins"),
        ],
    )
    def test_tables_in_another_format_are_told_what_is_expected(self, directory, content, found):
        (directory / "stars.csv").write_bytes(content.encode("latin-1"))
        expected = "expected the columns RA, DEC, type, with commas between them and no comments"
        with pytest.raises(ValueError, match=rf"stars\.csv: .*{found}.*{expected}, as notebook 1"):
            read_positions(directory)

    def test_empty_file_is_named(self, directory):
        (directory / "stars.csv").write_text("")
        with pytest.raises(ValueError, match=r"stars\.csv"):
            read_positions(directory)

    def test_whole_right_ascensions_are_read_as_floats(self, directory):
        (directory / "stars.csv").write_text("RA,DEC,type\n6,-1,PSF\n")
        stars, _ = read_positions(directory)
        assert stars.dtypes[["RA", "DEC"]].tolist() == [np.float64, np.float64]
