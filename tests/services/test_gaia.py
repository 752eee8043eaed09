import io
import socket
import time
import warnings
from email.utils import formatdate
from functools import partial

import astropy.units as u
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from astropy.io import fits
from astropy.table import Table
from astroquery.xmatch import XMatchClass
from werkzeug import Response

from ztf_sg.positions import significant_motion
from ztf_sg.services import gaia
from ztf_sg.services.errors import BadAnswer, RefusedRequest, ServiceDown, Unreachable
from ztf_sg.services.gaia import COLUMNS
from ztf_sg.services.query_cache import describe_queries
from ztf_sg.services.retries import Retries

VIZIER_NAMES = ["Source", "Plx", "e_Plx", "pmRA", "pmDE", "e_pmRA", "e_pmDE"]
ARCHIVE_NAMES = ["source_id", "parallax", "parallax_error", "pmra", "pmdec", "pmra_error", "pmdec_error"]
BIG_ID = 6917528997577384320  # more digits than a float can hold
QUICK = partial(Retries, tries=3, first_wait=0.01, longest_wait=0.02, patience=1)


def crossmatch_gaia(table, *args, **options):
    return gaia.crossmatch_gaia(table, *args, **{"retries": QUICK(), **options})


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
    table.write(text, format="votable", tabledata_format="binary")
    return text.getvalue()


def match(row, separation, source=1):
    return [row, separation, source, 2.0, 0.1, 30.0, -40.0, 0.2, 0.2]


@pytest.fixture
def xmatch(httpserver, monkeypatch):
    """Serve cross-matches with the answer a test sets; remember the requests."""
    monkeypatch.setattr(XMatchClass, "URL", httpserver.url_for("/xmatch"))
    service = {"answer": votable([]), "requests": [], "faults": []}

    def respond(request):
        if service["faults"]:
            return service["faults"].pop(0)
        with request.files["cat1"].stream as file:
            upload = pd.read_csv(file)
        service["requests"].append((request.form.to_dict(), upload))
        answer = service["answer"]
        return Response(answer(upload) if callable(answer) else answer)

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
    for table in (pd.DataFrame({"RA": [1.0]}), Table({"RA": [1.0]})):
        with pytest.raises(ValueError, match="lack the columns DEC; found .*'RA'"):
            crossmatch_gaia(table)


@pytest.mark.parametrize("radius", [200, 1 * u.deg, 0])
def test_radius_beyond_the_service_is_refused(radius):
    with pytest.raises(ValueError, match="at most 180 arcsec|expected an angle above 0"):
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


@pytest.mark.parametrize("status", [400, 403, 404])
def test_refused_request_is_not_sent_again(xmatch, httpserver, status):
    xmatch["faults"] = [Response("<html>too many columns</html>", status=status)] * 3
    reason = "banned" if status == 403 else "too many columns"
    with pytest.raises(RefusedRequest, match=f"HTTP status {status}.*{reason}"):
        crossmatch_gaia(positions())
    assert len(httpserver.log) == 1


def test_request_is_sent_again_after_faults(xmatch):
    xmatch["faults"] = [Response("busy", status=503), Response("<html>Maintenance</html>")]
    xmatch["answer"] = votable([match(0, 0.3)])
    assert crossmatch_gaia(positions()).separation.notna().sum() == 1


def test_answer_cut_short_is_asked_for_again(xmatch):
    whole = votable([match(0, 0.3)])
    broken = Response(iter([whole[:700]]), headers={"Content-Length": str(len(whole))})
    xmatch["faults"] = [broken, Response(whole[:-60])]
    xmatch["answer"] = whole
    assert crossmatch_gaia(positions()).separation.notna().sum() == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_service_that_stays_busy(xmatch, httpserver, status):
    xmatch["faults"] = [Response("busy", status=status)] * 3
    with pytest.raises(Unreachable, match=f"CDS cross-match answered HTTP status {status}"):
        crossmatch_gaia(positions())
    assert len(httpserver.log) == 3


@pytest.mark.parametrize(
    "wait", ["7200", formatdate(time.time() + 7200, usegmt=True)], ids=["seconds", "date"]
)
def test_wait_that_the_service_asks_for_is_respected(xmatch, httpserver, wait):
    xmatch["faults"] = [Response("busy", status=503, headers={"Retry-After": wait})]
    with pytest.raises(ServiceDown):
        crossmatch_gaia(positions())
    assert len(httpserver.log) == 1


def answer_all(upload):
    """Match each position with a source whose number tells the position."""
    sources = (upload["position_ra"] * 1000).round().astype(int)
    return votable([match(row, 0.1, source) for row, source in enumerate(sources)])


@pytest.mark.parametrize(("n", "chunk_size"), [(1, 1), (12, 1), (12, 5), (12, 6), (11, 12)])
def test_chunks_cover_all_positions_once(xmatch, monkeypatch, n, chunk_size):
    monkeypatch.setattr(gaia, "CHUNK_SIZE", chunk_size)
    xmatch["answer"] = answer_all
    matched = crossmatch_gaia(positions(n))
    uploads = [upload for _, upload in xmatch["requests"]]
    assert np.concatenate([upload["position_ra"] for upload in uploads]).tolist() == positions(n).RA.tolist()
    assert max(map(len, uploads)) <= chunk_size
    assert matched.gaia_source_id.tolist() == (positions(n).RA * 1000).tolist()
    assert list(matched.index) == list(positions(n).index)


KINDS = {
    "lower case": lambda table: table.rename(columns=str.lower),
    "astropy": Table.from_pandas,
    "astropy in arcmin": lambda table: Table(
        {"ra": table["RA"].to_numpy() * 60 * u.arcmin, "dec": table["DEC"].to_numpy() * u.deg}
    ),
    "FITS": lambda table: fits.BinTableHDU(Table.from_pandas(table)),
    "Arrow": lambda table: pa.RecordBatch.from_pandas(table, preserve_index=False),
    "structured": lambda table: Table.from_pandas(table).as_array(),
    "text": lambda table: table.assign(RA=table["RA"].astype(str)),
    "turned": lambda table: table.assign(RA=table["RA"] - 360),
    "odd index": lambda table: table.set_index(np.zeros(len(table))),
    "several indices": lambda table: table.set_index(["RA", "DEC"], drop=False),
    "matched before": lambda table: table.assign(PMRA=99.0, Separation=99.0),
}


@pytest.mark.parametrize("kind", KINDS)
def test_matches_do_not_depend_on_the_kind_of_table_nor_on_the_service(xmatch, mock_sky, kind):
    plain = mock_sky.catalogue.loc[mock_sky.catalogue["TYPE"] == "PSF", ["RA", "DEC", "TYPE"]][:20]
    xmatch["answer"] = answer_all
    for service in (crossmatch_gaia, mock_sky.crossmatch_gaia):
        expected = service(plain)
        assert expected["gaia_source_id"].notna().sum() > 5
        matched = service(KINDS[kind](plain))
        assert list(matched.columns[-len(COLUMNS) :]) == list(COLUMNS)
        assert matched["gaia_source_id"].tolist() == expected["gaia_source_id"].tolist()
        for name in ("pmra", "separation"):
            np.testing.assert_allclose(matched[name], expected[name], atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_offline_match_returns_what_the_live_match_does(xmatch, mock_sky, kind):
    table = KINDS[kind](mock_sky.catalogue[["RA", "DEC", "TYPE"]][:20])
    live, offline = crossmatch_gaia(table), mock_sky.crossmatch_gaia(table)
    own = [name for name in live if name not in COLUMNS]
    pd.testing.assert_frame_equal(live[own], offline[own])
    assert live.dtypes.to_dict() == offline.dtypes.to_dict()
    assert list(live.columns) == list(offline.columns)


@pytest.fixture
def two_at_once(monkeypatch):
    monkeypatch.setattr(gaia, "CHUNK_SIZE", 2)


@pytest.mark.usefixtures("two_at_once")
def test_second_match_asks_nothing(xmatch, tmp_path):
    xmatch["answer"] = answer_all
    first = crossmatch_gaia(positions(5), cache=tmp_path)
    second = crossmatch_gaia(positions(5), cache=tmp_path)
    assert len(xmatch["requests"]) == 3
    pd.testing.assert_frame_equal(first, second)
    assert describe_queries(first).endswith("5 rows: 3 sent now")
    assert "5 rows: 3 from the cache of 20" in describe_queries(second)


def test_no_match_is_an_answer_worth_keeping(xmatch, tmp_path):
    crossmatch_gaia(positions(), cache=tmp_path)
    matched = crossmatch_gaia(positions(), cache=tmp_path)
    assert len(xmatch["requests"]) == 1
    assert matched[list(COLUMNS)].isna().all(axis=None)
    assert matched.gaia_source_id.dtype == "Int64"


@pytest.mark.usefixtures("two_at_once")
def test_interrupted_match_goes_on_with_the_chunk_that_is_missing(xmatch, tmp_path):
    def banned(upload):
        if len(xmatch["requests"]) > 1:
            xmatch["faults"].append(Response("banned", status=403))
        return answer_all(upload)

    xmatch["answer"] = banned
    with pytest.raises(RefusedRequest):
        crossmatch_gaia(positions(6), cache=tmp_path)
    matched = crossmatch_gaia(positions(6), cache=tmp_path)
    assert len(xmatch["requests"]) == 3
    assert matched.gaia_source_id.notna().all()


def test_other_positions_or_radius_are_another_question(xmatch, tmp_path):
    moved = positions().assign(RA=positions().RA + 1e-9)
    for table, radius in ((positions(), 1), (moved, 1), (positions(), 2)):
        crossmatch_gaia(table, radius, cache=tmp_path)
    assert len(xmatch["requests"]) == 3


def test_cuts_of_the_positions_are_kept(xmatch):
    table = positions()
    table.attrs["cuts"] = [{"cut": "one", "before": 4, "left": 3}]
    assert crossmatch_gaia(table).attrs["cuts"] == table.attrs["cuts"]
    assert "queries" not in table.attrs


@pytest.mark.usefixtures("two_at_once")
def test_progress_shows_only_if_more_than_one_chunk_is_asked_for(xmatch, tmp_path, capfd):
    for n in (2, 4):
        crossmatch_gaia(positions(n), cache=tmp_path)
    assert capfd.readouterr().err == ""
    crossmatch_gaia(positions(4))
    assert "2/2" in capfd.readouterr().err


def test_nothing_is_printed_or_warned(xmatch, capfd):
    xmatch["faults"] = [Response("busy", status=503), Response("<html>Maintenance</html>")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "The 'initial' parameter", DeprecationWarning)
        crossmatch_gaia(positions())
    assert capfd.readouterr() == ("", "")


def test_service_that_is_not_there(monkeypatch):
    with socket.create_server(("localhost", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setattr(XMatchClass, "URL", f"http://localhost:{port}/xmatch")
    with pytest.raises(Unreachable, match="try again later"):
        crossmatch_gaia(positions())


def test_silent_service_is_given_up(monkeypatch):
    monkeypatch.setattr(gaia, "TIMEOUT", 0.1)
    with socket.create_server(("localhost", 0)) as silent:
        monkeypatch.setattr(XMatchClass, "URL", f"http://localhost:{silent.getsockname()[1]}/xmatch")
        with pytest.raises(Unreachable, match="timed out"):
            crossmatch_gaia(positions())


@pytest.mark.remote_data
def test_live_match_of_barnards_star():
    barnard = pd.DataFrame({"RA": [269.4485], "DEC": [4.7399]})  # at epoch 2016
    matched = crossmatch_gaia(barnard, radius=20 * u.arcsec)
    assert matched.gaia_source_id.notna().all()
    assert significant_motion(matched).all()
