import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.time import Time
from hypothesis import example, given
from hypothesis import strategies as st

from ztf_sg.fetching.motion import epochs_of, night_of, position_at, towards_at
from ztf_sg.simulation.exposures import METADATA_COLUMNS

motions = st.floats(-10_000, 10_000)


@given(st.floats(0, 360), st.floats(-89.9, 89.9), motions, motions, st.floats(1990, 2030))
@example(0.0, 0.0, 1e-12, 0.0, 1990.0)
@example(0.0001, 0.0, -10_000.0, 0.0, 2024.5)
@example(10.0, 89.9, 5000.0, 9000.0, 2000.0)
def test_position_at_an_epoch_is_that_of_astropy(ra, dec, pmra, pmdec, epoch):
    start = SkyCoord(
        ra * u.deg,
        dec * u.deg,
        pm_ra_cosdec=pmra * u.mas / u.yr,
        pm_dec=pmdec * u.mas / u.yr,
        distance=10 * u.pc,
        obstime=Time(2016.0, format="jyear"),
    )
    expected = start.apply_space_motion(Time(epoch, format="jyear"))
    found = position_at(ra, dec, (pmra, pmdec, 2016.0), epoch)
    assert 0 <= found[0] < 360
    separation = SkyCoord(*found, unit="deg").separation(SkyCoord(expected.ra, expected.dec))
    assert separation < 2 * u.mas  # astropy counts the time that light takes, too


def test_many_epochs_at_once_as_one_by_one():
    motion, epochs = (2000.0, -500.0, 2015.5), np.array([1999.0, 2015.5, 2024.0])
    together = towards_at(7.0, -2.0, motion, epochs)
    for towards, epoch in zip(together, epochs, strict=True):
        np.testing.assert_allclose(towards, towards_at(7.0, -2.0, motion, epoch), rtol=0, atol=1e-15)


def test_object_without_motion_stays_where_it_is():
    assert position_at(359.5, -45.0, (0.0, 0.0, 2016.0), 2024.0) == pytest.approx((359.5, -45.0), abs=1e-12)


def test_epochs_of_images_are_those_of_their_dates(mock_sky):
    images = mock_sky.exposures[METADATA_COLUMNS].iloc[::50]
    expected = Time(images["obsjd"].to_numpy(), format="jd").jyear
    np.testing.assert_allclose(epochs_of(images["filefracday"]), expected, rtol=0, atol=1e-6 / 365)
    assert epochs_of(20240229500000) == pytest.approx(Time("2024-02-29T12:00:00").jyear, abs=1e-9)


def test_night_is_the_date():
    assert night_of(20240229500000) == 20240229
