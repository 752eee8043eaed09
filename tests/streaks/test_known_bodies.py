import json

import astropy.units as u
import numpy as np
import pandas as pd
import pytest
from astropy.coordinates import SkyCoord, get_body_barycentric_posvel
from astropy.time import Time
from sgp4.api import Satrec
from sgp4.exporter import export_omm, export_tle
from skyfield.api import EarthSatellite, load

from ztf_sg.streaks.elements import read_elements
from ztf_sg.streaks.known_bodies import ENDS, PALOMAR, explain, satellites_in_field

TIME = Time("2021-06-04T09:36:09", scale="utc")
EPOCH = TIME.utc.jd - 2433281.5  # days since 1949-12-31, as SGP4 wants them


def record(number=1, motion=1.0027, inclination=5.0, node=40.0, anomaly=0.0, drag=0.0, age=0.0):
    """Return the elements of a circular orbit: mean motion [rev/d], angles and age [d]."""
    satellite, turn = Satrec(), 2 * np.pi / 360
    angles = (0.0, inclination * turn, anomaly * turn)
    speed = motion * 2 * np.pi / 1440
    satellite.sgp4init(2, "i", number, EPOCH - age, drag, 0.0, 0.0, 1e-4, *angles, speed, node * turn)
    satellite.intldesg = "20001A"
    return satellite


def constellation():
    """Return the elements of satellites 550 km high all over the sky."""
    places = [(node, anomaly) for node in range(0, 360, 20) for anomaly in range(0, 360, 6)]
    return [record(n + 100, 15.0, 53.0, node, anomaly) for n, (node, anomaly) in enumerate(places)]


def geosynchronous(number=1, **angles):
    """Return elements of a satellite that is up at Palomar."""
    return record(number, **{"anomaly": 170.0, "node": 60.0, **angles})


def tle(satellite, name=None):
    return "\n".join([*([name] if name else []), *export_tle(satellite)]) + "\n"


def astrometric(satellite):
    """Return RA, DEC [deg] and distance [km] by skyfield, and the speed of the Earth as seen from there."""
    scale = load.timescale(builtin=True)
    body = EarthSatellite.from_satrec(Satrec.twoline2rv(*export_tle(satellite)), scale)
    ra, dec, distance = (body - PALOMAR).at(scale.from_astropy(TIME)).radec()
    return SkyCoord(ra.hours * 15, dec.degrees, unit="deg"), distance.km


@pytest.fixture
def elements(tmp_path):
    path = tmp_path / "elements.txt"
    path.write_text(tle(geosynchronous(12345), "BRIGHTSAT") + tle(geosynchronous(2, anomaly=100.0)))
    return path


def find(path, position, radius=0.5):
    return satellites_in_field(path, TIME, position.ra.deg, position.dec.deg, radius)


def test_positions_are_those_of_skyfield_but_for_the_aberration_of_the_stars(elements):
    geometric, distance = astrometric(geosynchronous(12345))
    (row,) = find(elements, geometric).itertuples()
    assert (row.name, row.number, row.kind) == ("BRIGHTSAT", 12345, "satellite")
    assert row.range == pytest.approx(distance, abs=0.5)
    shift = geometric.separation(SkyCoord(row.ra, row.dec, unit="deg")).arcsec
    velocity = get_body_barycentric_posvel("earth", TIME)[1].xyz.to_value(u.km / u.s)
    towards = geometric.cartesian.xyz.value
    across = np.linalg.norm(np.cross(velocity, towards))
    assert shift == pytest.approx(np.degrees(across / 299_792) * 3600, abs=2.5)  # light time: 0.12 s at 15"/s
    assert 5 < shift < 23


def test_a_geosynchronous_trail_has_the_length_of_the_turn_of_the_earth(elements):
    (row,) = find(elements, astrometric(geosynchronous(12345))[0]).itertuples()
    start, end = (
        SkyCoord(row.ra_start, row.dec_start, unit="deg"),
        SkyCoord(row.ra_end, row.dec_end, unit="deg"),
    )
    assert 420 < start.separation(end).arcsec < 480
    assert row.rate == pytest.approx(start.separation(end).arcsec * 2, rel=1e-3)
    assert row.position_angle == pytest.approx(start.position_angle(end).deg, abs=0.5)
    assert row.age < 1e-6 and np.isnan(row.magnitude)
    assert row.uncertainty == pytest.approx(206_265 / row.range, rel=1e-3)


def test_satellites_elsewhere_or_below_the_horizon_are_left_out(elements):
    position, _ = astrometric(geosynchronous(12345))
    assert len(find(elements, position.directional_offset_by(0 * u.deg, 3 * u.deg))) == 0
    opposite = SkyCoord(position.ra + 180 * u.deg, -position.dec)
    assert len(find(elements, opposite, 89)) == 0


def test_a_satellite_that_crosses_the_field_between_its_ends_is_found(tmp_path):
    path = tmp_path / "low.tle"
    path.write_text("".join(map(tle, constellation())))
    everywhere = satellites_in_field(path, TIME, 270.0, 30.0, 60.0)
    assert len(everywhere) > 3 and (everywhere["rate"] > 5000).all()
    fastest = everywhere.loc[everywhere["rate"].idxmax()]
    ends = [SkyCoord(fastest[f"ra{end}"], fastest[f"dec{end}"], unit="deg") for end in ("_start", "", "_end")]
    quarter = ends[0].directional_offset_by(ends[0].position_angle(ends[1]), ends[0].separation(ends[1]) / 2)
    assert ends[0].separation(quarter).deg > 0.5
    assert (
        fastest["number"]
        in satellites_in_field(path, TIME, quarter.ra.deg, quarter.dec.deg, 0.3)["number"].tolist()
    )


def test_the_shadow_of_the_earth_is_opposite_to_the_sun(tmp_path):
    """On 4 June the sun is at RA 73 deg; at the antisolar point a low satellite is dark, a high one lit."""
    path = tmp_path / "some.tle"
    high = [record(9000 + n, inclination=0.1, node=0.0, anomaly=10.0 * n) for n in range(36)]
    path.write_text("".join(map(tle, [*constellation(), *high])))
    found = satellites_in_field(path, TIME, 253.0, 10.0, 60.0).set_index("number")
    assert not found["sunlit"][found["range"] < 800].any()
    assert found["sunlit"][found["range"] > 30_000].mean() > 0.5


@pytest.mark.parametrize("form", ["json", "csv", "xml"])
def test_records_of_omm_are_read_like_lines(tmp_path, elements, form):
    fields = [
        export_omm(geosynchronous(n, anomaly=a), name)
        for n, a, name in ((12345, 170.0, "BRIGHTSAT"), (2, 100.0, "B"))
    ]
    path = tmp_path / f"elements.{form}"
    if form == "json":
        path.write_text(json.dumps(fields))
    elif form == "csv":
        pd.DataFrame(fields).to_csv(path, index=False)
    else:
        items = ["".join(f"<{key}>{value}</{key}>" for key, value in each.items()) for each in fields]
        bodies = "".join(
            f"<omm><body><segment><metadata></metadata><data><meanElements>{item}</meanElements>"
            "<tleParameters></tleParameters></data></segment></body></omm>"
            for item in items
        )
        path.write_text(f"<ndm>{bodies}</ndm>")
    position = astrometric(geosynchronous(12345))[0]
    first, second = find(elements, position), find(path, position)
    assert second["name"].tolist() == ["BRIGHTSAT"]
    np.testing.assert_allclose(first[["ra", "dec", "range"]], second[["ra", "dec", "range"]], atol=1e-3)


def test_bad_elements_are_named_and_the_others_used(tmp_path):
    good, other = (export_tle(geosynchronous(n)) for n in (12345, 7))
    flipped = good[0][:20] + "9" + good[0][21:]
    lines = [
        "0 GOOD",
        *good,
        "FLIPPED",
        flipped,
        good[1],
        "LONELY",
        good[0],
        "MIXED",
        good[0],
        other[1],
        other[1],
    ]
    lines += ["SHORT", good[0][:60], good[1], *other]
    path = tmp_path / "elements.tle"
    path.write_text("\r\n".join(lines))
    names, records, skipped = read_elements(path)
    assert names == ["GOOD", "7"] and [each.satnum for each in records] == [12345, 7]
    assert [name for name, _ in skipped] == ["FLIPPED", "LONELY", "MIXED", "line 12", "SHORT"]
    reasons = " ".join(reason for _, reason in skipped)
    for text in (
        "checksum",
        "second line is missing",
        "of satellites 12345 and 00007",
        "first line is missing",
        "69",
    ):
        assert text in reasons
    assert len(satellites_in_field(path, TIME, 0.0, 0.0, 1.0).attrs["skipped"]) == 5


def test_elements_that_cannot_be_propagated_are_named(tmp_path):
    decayed = record(9, motion=16.3, drag=0.5, age=30.0)
    path = tmp_path / "elements.tle"
    path.write_text(tle(geosynchronous(1), "FINE") + tle(decayed, "DECAYED"))
    table = satellites_in_field(path, TIME, 0.0, 0.0, 1.0)
    (skipped,) = table.attrs["skipped"].itertuples()
    assert skipped.name == "DECAYED"
    assert "SGP4 cannot propagate it" in skipped.reason


@pytest.mark.parametrize(
    "content", [b"", b"no elements\n", b"{}", b"[1]", b"<a>", bytes(range(256)), b"[", b"1 2\n2 1"]
)
def test_files_without_elements_are_named(tmp_path, content):
    path = tmp_path / "elements.tle"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="elements.tle: .*give two-line elements or OMM records"):
        read_elements(path)
    with pytest.raises(FileNotFoundError, match="no such file of elements"):
        read_elements(tmp_path / "nothing")


def test_a_detection_on_a_trail_is_explained_by_its_satellite(elements):
    bodies = find(elements, astrometric(geosynchronous(12345))[0])
    row = bodies.iloc[0]
    trail = [SkyCoord(row[f"ra{end}"], row[f"dec{end}"], unit="deg") for end in ("_start", "", "_end")]
    inside = trail[0].directional_offset_by(trail[0].position_angle(trail[1]), 100 * u.arcsec)
    beside = trail[1].directional_offset_by(row["position_angle"] * u.deg + 90 * u.deg, 60 * u.arcsec)
    behind = trail[2].directional_offset_by(row["position_angle"] * u.deg, 60 * u.arcsec)
    points = [inside, beside, behind]
    detections = pd.DataFrame({"ra": [p.ra.deg for p in points], "dec": [p.dec.deg for p in points]})
    explained = explain(detections, bodies)
    assert explained["body"].fillna("").tolist() == ["BRIGHTSAT", "", ""]
    assert explained["kind"][0] == "satellite" and explained["separation"][0] < 0.1
    assert explained["magnitude_difference"].isna().all()
    assert explain(detections[:0], bodies).empty and explain(detections, bodies[:0])["body"].isna().all()
    assert set(ENDS) <= set(bodies)
