import io
import socket

import astropy.units as u
import numpy as np
import pandas as pd
import pytest
from astropy.table import Table
from astroquery.xmatch import XMatchClass
from werkzeug import Response

from ztf_sg.services.errors import BadAnswer, Unreachable
from ztf_sg.services.gaia import COLUMNS, crossmatch_gaia, significant_motion

VIZIER_NAMES = ["Source", "Plx", "e_Plx", "pmRA", "pmDE", "e_pmRA", "e_pmDE"]
ARCHIVE_NAMES = ["source_id", "parallax", "parallax_error", "pmra", "pmdec", "pmra_error", "pmdec_error"]
BIG_ID = 6917528997577384320  # more digits than a float can hold


def positions(n=3):
    table = pd.DataFrame({"RA": 5.0 + np.arange(n), "DEC": -1.0, "type": "star"})
    return table.set_index(np.arange(n) * 10)


def votable(rows, names=VIZIER_NAMES):
    """Write the answer of the service; a row: position number, separation, source, six measurements."""
    dtypes = [int, float, np.int64] + [float] * 6
    table = Table(rows=rows or None, names=["position_row", "angDist", *names], dtype=dtypes, masked=True)
    for name in names[1:]:
        table[name].mask = np.isnan(table[name])
    text = io.BytesIO()
    table.write(text, format="votable")
    return text.getvalue()


def match(row, separation, source=1):
    return [row, separation, source, 2.0, 0.1, 30.0, -40.0, 0.2, 0.2]


@pytest.fixture
def xmatch(httpserver, monkeypatch):
    """Serve cross-matches with the answer a test sets; remember the requests."""
    monkeypatch.setattr(XMatchClass, "URL", httpserver.url_for("/xmatch"))
    service = {"answer": votable([]), "requests": []}

    def respond(request):
        upload = pd.read_csv(request.files["cat1"].stream)
        service["requests"].append((request.form.to_dict(), upload))
        return Response(service["answer"])

    httpserver.expect_request("/xmatch", method="POST").respond_with_handler(respond)
    return service


@pytest.mark.parametrize("names", [VIZIER_NAMES, ARCHIVE_NAMES], ids=["vizier", "archive"])
def test_each_row_gets_its_nearest_match_in_input_order(xmatch, names):
    xmatch["answer"] = votable([match(2, 0.9, 11), match(2, 0.1, BIG_ID), match(0, 0.3, 12)], names)
    matched = crossmatch_gaia(positions())
    assert list(matched.index) == [0, 10, 20]
    assert list(matched.columns) == ["RA", "DEC", "type", *COLUMNS]
    assert list(matched.gaia_source_id.fillna(-1)) == [12, -1, BIG_ID]
    np.testing.assert_allclose(matched.separation, [0.3, np.nan, 0.1])
    assert matched.iloc[0][["pmra", "pmdec", "parallax_error"]].tolist() == [30, -40, 0.1]
    assert matched.iloc[1][list(COLUMNS)].isna().all()


def test_request_holds_positions_radius_and_catalogue(xmatch):
    crossmatch_gaia(positions(), radius=0.05 * u.arcmin)
    form, upload = xmatch["requests"][0]
    assert form["cat2"] == "vizier:I/355/gaiadr3"
    assert float(form["distMaxArcsec"]) == pytest.approx(3)
    assert list(upload[form["colRA1"]]) == [5, 6, 7]
    assert list(upload[form["colDec1"]]) == [-1, -1, -1]
    assert "type" not in upload


def test_one_request_and_nothing_else(xmatch, httpserver):
    crossmatch_gaia(positions())
    assert len(httpserver.log) == 1


def test_no_match_at_all_gives_missing_values(xmatch):
    matched = crossmatch_gaia(positions())
    assert len(matched) == 3
    assert matched[list(COLUMNS)].isna().all(axis=None)
    assert matched.gaia_source_id.dtype == "Int64"


def test_no_positions_need_no_request(xmatch):
    assert list(crossmatch_gaia(positions(0)).columns) == ["RA", "DEC", "type", *COLUMNS]
    assert not xmatch["requests"]


def test_input_is_left_as_it_is(xmatch):
    before = positions()
    crossmatch_gaia(before)
    assert before.equals(positions())


def test_source_without_motion_keeps_its_name(xmatch):
    xmatch["answer"] = votable([[1, 0.2, BIG_ID] + [np.nan] * 6])
    matched = crossmatch_gaia(positions())
    assert matched.gaia_source_id.iloc[1] == BIG_ID
    assert np.isnan(matched.pmra.iloc[1])


def test_missing_position_columns_are_named():
    with pytest.raises(ValueError, match="lack the columns DEC; found .*'RA'"):
        crossmatch_gaia(pd.DataFrame({"RA": [1.0]}))


@pytest.mark.parametrize("radius", [200, 1 * u.deg, 0])
def test_radius_beyond_the_service_is_refused(radius):
    with pytest.raises(ValueError, match="at most 180 arcsec"):
        crossmatch_gaia(positions(), radius=radius)


@pytest.mark.parametrize(
    "content", [b"", b"<html><body>Maintenance<br></body></html>", b"angDist,Source\n1,2\n"]
)
def test_answer_that_is_no_votable(xmatch, content):
    xmatch["answer"] = content
    with pytest.raises(BadAnswer, match="no VOTable"):
        crossmatch_gaia(positions())


def test_answer_without_a_column(xmatch):
    xmatch["answer"] = votable(
        [match(0, 0.1)], ["Source", "Plx", "e_Plx", "pmRA", "speed", "e_pmRA", "e_pmDE"]
    )
    with pytest.raises(BadAnswer, match="without pmdec; found .*'speed'"):
        crossmatch_gaia(positions())


@pytest.mark.parametrize("status", [400, 403, 500])
@pytest.mark.filterwarnings("ignore::astropy.io.votable.exceptions.VOWarning")
def test_error_status(httpserver, monkeypatch, status):
    monkeypatch.setattr(XMatchClass, "URL", httpserver.url_for("/xmatch"))
    httpserver.expect_request("/xmatch").respond_with_data("<html>no</html>", status=status)
    with pytest.raises(BadAnswer, match="CDS cross-match"):
        crossmatch_gaia(positions())


def test_service_that_is_not_there(monkeypatch):
    with socket.create_server(("localhost", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setattr(XMatchClass, "URL", f"http://localhost:{port}/xmatch")
    with pytest.raises(Unreachable, match="try again later"):
        crossmatch_gaia(positions())


def test_silent_service_is_given_up(monkeypatch):
    monkeypatch.setattr(XMatchClass, "TIMEOUT", 0.1)
    with socket.create_server(("localhost", 0)) as silent:
        monkeypatch.setattr(XMatchClass, "URL", f"http://localhost:{silent.getsockname()[1]}/xmatch")
        with pytest.raises(Unreachable, match="timed out"):
            crossmatch_gaia(positions())


def test_significant_motion_by_parallax_or_proper_motion():
    nan = np.nan
    matched = pd.DataFrame(
        [
            [2.0, 0.1, 0.0, 0.0, 0.2, 0.2],
            [0.1, 0.1, 30.0, -40.0, 1.0, 1.0],
            [0.1, 0.1, 3.0, -4.0, 1.1, 1.1],
            [-9.0, 0.1, 0.0, 0.0, 1.0, 1.0],
            [nan] * 6,
            [nan, nan, 30.0, 0.0, 1.0, 1.0],
        ],
        columns=["parallax", "parallax_error", "pmra", "pmdec", "pmra_error", "pmdec_error"],
    )
    assert significant_motion(matched).tolist() == [True, True, False, False, False, True]
    assert significant_motion(matched, threshold=4)[2]


@pytest.mark.remote_data
def test_live_match_of_barnards_star():
    barnard = pd.DataFrame({"RA": [269.4485], "DEC": [4.7399]})  # at epoch 2016
    matched = crossmatch_gaia(barnard, radius=20 * u.arcsec)
    assert matched.gaia_source_id.notna().all()
    assert significant_motion(matched).all()
