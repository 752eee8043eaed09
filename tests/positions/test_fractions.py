import numpy as np
import pandas as pd
import pytest
from astropy.table import Table
from helpers import make_catalogue
from hypothesis import given
from hypothesis import strategies as st

from ztf_sg import StarGalaxyClassifier
from ztf_sg.cutouts import BUNDLED_CUTOUTS, list_cutouts, load_files
from ztf_sg.features import measure_features
from ztf_sg.positions import galaxy_fraction


def catalogue(magnitudes, types):
    """Return a catalogue of objects of some magnitudes in z [mag]."""
    return make_catalogue(len(types), TYPE=types, FLUX_Z=10 ** (0.4 * (22.5 - np.array(magnitudes))))


class TestGalaxyFraction:
    def test_it_is_that_of_the_bin_moved_towards_that_of_all(self):
        table = catalogue(
            [15.1] * 8 + [18.2] * 4 + [17.0], ["PSF"] * 8 + ["REX", "SER", "EXP", "PSF"] + ["DUP"]
        )
        whole = (3 + 1) / (12 + 2)
        found = galaxy_fraction(table, [15.3, 17.2, 18.0, 18.4], "z")
        np.testing.assert_allclose(found, [2 * whole / 10, whole, (3 + 2 * whole) / 6, (3 + 2 * whole) / 6])

    def test_many_objects_of_a_bin_give_the_share_among_them(self):
        table = catalogue(np.repeat([16.2, 19.2], 1000), np.tile(["PSF"] * 9 + ["REX"], 200))
        table.loc[1000:, "TYPE"] = np.where(np.arange(1000) % 4, "REX", "PSF")
        np.testing.assert_allclose(galaxy_fraction(table, [16.0, 19.4], "z"), [0.1, 0.75], atol=2e-3)

    def test_first_and_last_bin_hold_what_is_beyond_them(self):
        table = catalogue([8.0, 9.0, 25.0, 26.0], ["PSF", "PSF", "REX", "REX"])
        bright, faint = galaxy_fraction(table, [-5.0, 40.0], "z", edges=[15, 16, 17])
        assert (bright, faint) == (0.25, 0.75)
        assert galaxy_fraction(table, [15.5, 16.5], "z", edges=[15, 16, 17]).tolist() == [0.25, 0.75]

    def test_objects_without_a_flux_do_not_count(self):
        table = catalogue([18.0] * 4, ["PSF", "REX", "REX", "REX"])
        table.loc[2:, "FLUX_Z"] = -1.0, np.nan
        assert galaxy_fraction(table, [18.0], "z").tolist() == [0.5]
        assert galaxy_fraction(Table.from_pandas(table), [18.0], "z").tolist() == [0.5]

    @given(st.lists(st.sampled_from(["PSF", "REX"]), min_size=1, max_size=9), st.floats(-10, 40))
    def test_it_is_never_0_or_1(self, types, magnitude):
        (found,) = galaxy_fraction(catalogue(np.linspace(13, 23, len(types)), types), [magnitude], "z")
        assert 0 < found < 1

    @pytest.mark.parametrize("edges", [[15], [16, 15], [15, 15], [[15, 16]], [15, np.nan]])
    def test_edges_that_do_not_increase_are_refused(self, edges):
        with pytest.raises(ValueError, match="edges: expected increasing magnitudes"):
            galaxy_fraction(catalogue([18.0], ["PSF"]), [18.0], "z", edges)

    def test_what_is_missing_is_named(self):
        table = catalogue([18.0], ["PSF"])
        with pytest.raises(ValueError, match=r"magnitudes: 2 are not finite \(rows 1, 2\)"):
            galaxy_fraction(table, [18.0, np.nan, np.inf], "z")
        with pytest.raises(ValueError, match=r"band=\['y'\]: expected bands among g, r, i, z"):
            galaxy_fraction(table, [18.0], "y")
        with pytest.raises(KeyError, match="lacks FLUX_I"):
            galaxy_fraction(table, [18.0], "i")
        with pytest.raises(ValueError, match="no star and no galaxy with FLUX_Z > 0; give another band"):
            galaxy_fraction(table.assign(FLUX_Z=-1.0), [18.0], "z")

    def test_classifiers_take_it_as_a_column(self):
        cutouts = load_files(list_cutouts(BUNDLED_CUTOUTS)[::25])
        magnitudes = measure_features(cutouts, ["magnitude"])["magnitude"]
        table = catalogue(np.linspace(14, 20, 100), ["PSF"] * 100)
        cutouts.table["fraction"] = galaxy_fraction(table, magnitudes, "z")
        model = StarGalaxyClassifier.pretrained()
        plain = model.predict_proba(cutouts)[:, 1]
        model.galaxy_fraction = "fraction"
        assert pd.Series(model.predict_proba(cutouts)[:, 1]).lt(plain).all()  # where all are stars
