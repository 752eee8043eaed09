import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ztf_sg.fetching.selection import Selection
from ztf_sg.fetching.targets import targets_by_class


def table(types, n):
    return pd.DataFrame({"RA": 5.0, "DEC": -1.0, "type": [types[i % len(types)] for i in range(n)]})


def select(n_stars=5, n_galaxies=0, n_cutouts=None, **outcomes):
    tables = [table(["PSF"], n_stars)] + [table(["REX", "SER"], n_galaxies)] * bool(n_galaxies)
    selection = Selection(targets_by_class(tables), n_cutouts)
    selection.outcomes |= {f"{name}.fits": outcome for name, outcome in outcomes.items()}
    return selection


def stars(*numbers):
    return [f"star_{number}.fits" for number in numbers]


def test_files_are_named_by_class_and_row():
    classes = targets_by_class([table(["REX", "EXP"], 2), table(["PSF"], 3)])
    assert {kind: [t.slot for targets in objects for t in targets] for kind, objects in classes.items()} == {
        "galaxy": ["galaxy_0.fits", "galaxy_1.fits"],
        "star": stars(0, 1, 2),
    }
    assert classes["galaxy"][1][0].type == "EXP"


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ([table(["PSF", "REX"], 2)], "all stars or all galaxies; its types are: PSF, REX"),
        ([table(["PSF"], 0)], "empty"),
        ([table(["PSF"], 1), table(["PSF"], 2)], "two tables of star positions"),
    ],
)
def test_tables_that_are_not_one_per_class_are_refused(tables, message):
    with pytest.raises(ValueError, match=message):
        targets_by_class(tables)


def test_all_are_wanted_unless_a_number_is_given():
    assert select().missing() == select(n_cutouts=99).missing() == stars(0, 1, 2, 3, 4)
    assert select(n_cutouts=2).missing() == stars(0, 1)
    assert select(n_cutouts=0).missing() == []


@pytest.mark.parametrize("n_cutouts", [-1, 2.5, "2", True, float("nan")])
def test_what_is_no_number_of_cutouts_is_refused(n_cutouts):
    with pytest.raises(ValueError, match=f"n_cutouts={n_cutouts!r}: expected a whole number, 0 or more"):
        select(n_cutouts=n_cutouts)


def test_number_is_that_of_each_class():
    selection = select(n_stars=3, n_galaxies=3, n_cutouts=2)
    assert selection.missing() == [*stars(0, 1), "galaxy_0.fits", "galaxy_1.fits"]
    assert selection.wanted == {"star": 2, "galaxy": 2}


def test_skipped_ones_are_made_up_for_by_later_rows_and_failed_ones_are_not():
    selection = select(n_cutouts=2, star_0="skipped", star_1="failed")
    assert selection.slots() == stars(0, 1, 2)
    assert selection.missing() == stars(2)


def test_failed_ones_are_missing_again_when_forgotten():
    selection = select(star_0="saved", star_1="failed", star_2="skipped")
    selection.forget_failed()
    assert selection.missing() == stars(1, 3, 4)


def test_summary_counts_what_is_wanted_only():
    selection = select(n_cutouts=3, star_0="skipped", star_1="saved", star_4="saved")
    assert selection.summary() == "1 saved, 1 skipped, 0 failed, 2 to go"


outcomes = st.dictionaries(st.sampled_from(stars(*range(8))), st.sampled_from(["saved", "skipped", "failed"]))


@given(st.integers(0, 10), outcomes)
def test_every_wanted_cutout_is_missing_or_has_an_outcome(n_cutouts, known):
    selection = select(n_stars=8, n_cutouts=n_cutouts)
    selection.outcomes |= known
    names, skipped = selection.slots(), [name for name in selection.slots() if known.get(name) == "skipped"]
    assert names == stars(*range(len(names)))
    assert len(names) - len(skipped) == n_cutouts or len(names) == 8
    assert selection.counts().total() + len(selection.missing()) == len(names)
