import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import Table
from helpers import make_catalogue, rows

from ztf_sg.positions import (
    GAIA_COLUMNS,
    audit_labels,
    audit_report,
    cut_doubtful,
    cut_report,
    cut_types,
    motion_significance,
    read_positions,
    sample_classes,
    significant_motion,
    write_audit,
    write_positions,
)

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


MATCH_KINDS = {
    "lower case": lambda table: table.rename(columns=str.lower),
    "upper case": lambda table: table.rename(columns=str.upper),
    "astropy": Table.from_pandas,
    "FITS": lambda table: fits.BinTableHDU(Table.from_pandas(table)),
    "numbers as text": lambda table: table.assign(pmra=table["pmra"].astype(str), parallax_error="0.1"),
    "objects": lambda table: table.assign(pmra=table["pmra"].astype(object), pmdec=list(table["pmdec"])),
    "nullable": lambda table: table.convert_dtypes(),
    "the same index": lambda table: table.set_index(np.zeros(len(table))),
}


class TestKindsOfMatch:
    @pytest.fixture
    def matched(self):
        motions = ["near", "fast", "unsure", "behind", "unmeasured", None]
        return make_match(motions, TYPE=["PSF", "REX"] * 3)

    @pytest.mark.parametrize("kind", MATCH_KINDS)
    def test_audit_does_not_depend_on_the_kind(self, matched, kind):
        table = MATCH_KINDS[kind](matched)
        np.testing.assert_allclose(motion_significance(table)[:4], [20, 50, 5 / 1.1, -90])
        assert significant_motion(table).tolist() == significant_motion(matched).tolist()
        audited, expected = audit_labels(table), audit_labels(matched)
        assert isinstance(audited, pd.DataFrame)
        assert audited["audit"].tolist() == expected["audit"].tolist()
        pd.testing.assert_frame_equal(audit_report(audited), audit_report(expected))

    @pytest.mark.parametrize("kind", ["lower case", "upper case", "astropy", "FITS", "the same index"])
    def test_audited_table_may_be_of_any_kind(self, matched, kind, tmp_path):
        audited = audit_labels(matched)
        table = MATCH_KINDS[kind](audited)
        pd.testing.assert_frame_equal(audit_report(table), audit_report(audited))
        assert rows(cut_doubtful(table)) == rows(cut_doubtful(audited))
        written = [
            write_audit(one, one, tmp_path / name).read_bytes()
            for one, name in ((table, "one"), (audited, "two"))
        ]
        assert written[0] == written[1]

    @pytest.mark.parametrize("value", ["fast", [1.0], ""], ids=repr)
    def test_motions_that_are_no_numbers_are_named(self, matched, value):
        matched["pmra"] = matched["pmra"].astype(object)
        matched.at[2, "pmra"] = value
        for use in (motion_significance, audit_labels):
            with pytest.raises(ValueError, match="PMRA of row 2, from 0, is .*, expected a number"):
                use(matched)

    def test_units_of_motions_are_obeyed(self, matched):
        table = Table.from_pandas(matched)
        table["pmra_error"] = 1000 * matched["pmra_error"].to_numpy()
        table["pmra_error"].unit = u.uas / u.yr
        np.testing.assert_allclose(motion_significance(table), motion_significance(matched))

    def test_second_match_and_audit_count(self, matched):
        once = cut_types(audit_labels(matched))
        again = once.assign(**make_match(["fast"] * 6)[list(GAIA_COLUMNS)])
        assert significant_motion(again).all()
        audited = audit_labels(again)
        assert rows(cut_doubtful(audited)) == [0, 2, 4]
        assert audit_report(audited)["objects"].tolist() == [3, 3]

    def test_types_in_another_notation_are_no_galaxies(self, matched):
        with pytest.raises(ValueError, match="TYPE: the types found are P, R, expected"):
            audit_labels(matched.assign(TYPE=["P", "R"] * 3))


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

    @pytest.mark.parametrize("order", ["sorted", "odd index", "the same index", "filtered"])
    def test_file_pairs_by_row_whatever_the_index(self, matched, tmp_path, order):
        ids = 9 * 10**18 + np.arange(8)
        audited = audit_labels(
            matched.assign(gaia_source_id=pd.array(ids, "Int64"), RA=6 + np.arange(8) / 10)
        )
        table = {
            "sorted": lambda: audited.sort_values("RA", ascending=False),
            "odd index": lambda: audited.set_index(np.roll(np.arange(8), 3)),
            "the same index": lambda: audited.set_index(np.zeros(8)),
            "filtered": lambda: audited[audited["RA"] > 6.25],
        }[order]()
        written = pd.read_csv(write_audit(table[:2], table[2:], tmp_path), dtype={"gaia_source_id": "Int64"})
        assert len(written) == len(table)
        rows_of_ids = (written["gaia_source_id"] - 9 * 10**18).to_numpy(int)
        np.testing.assert_allclose(written["RA"], 6 + rows_of_ids / 10, atol=1e-6)
        assert written["audit"].tolist() == [self.verdicts[row] for row in rows_of_ids]
        assert written["type"].tolist() == matched["TYPE"].iloc[rows_of_ids].tolist()

    def test_position_files_do_not_depend_on_the_audit(self, matched, tmp_path):
        write_positions(*sample_classes(matched), tmp_path / "one")
        write_positions(*sample_classes(audit_labels(matched)), tmp_path / "two")
        for name in ("stars.csv", "gals.csv"):
            assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
