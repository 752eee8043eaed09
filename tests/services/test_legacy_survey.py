import gzip
import io
import re
import socket
import warnings
from functools import partial
from urllib.parse import parse_qs

import astropy.units as u
import numpy as np
import pandas as pd
import pytest
from archives.tap import job_document
from helpers import sweep_table
from hypothesis import example, given
from hypothesis import strategies as st
from werkzeug import Response

from ztf_sg.positions import cut_region, cut_report, standard_columns
from ztf_sg.services import legacy_survey
from ztf_sg.services import tap as tap_module
from ztf_sg.services.errors import BadAnswer, NothingFound, RefusedRequest, ServiceDown, Unreachable
from ztf_sg.services.legacy_survey import COLUMNS, LegacySurvey, _Strip
from ztf_sg.services.query_cache import describe_queries
from ztf_sg.services.retries import Retries
from ztf_sg.services.sweeps import LegacySurveySweeps, read_sweep
from ztf_sg.services.tractor import Cuts

REGION = {"ra": (5, 6), "dec": (-5, -4)}
QUICK = partial(Retries, tries=3, first_wait=0.01, longest_wait=0.02, patience=1)
JOB_PATH = re.compile(r"/tap/async/j\d+$")


def survey(**options):
    return LegacySurvey(**{"retries": QUICK(), **options})


class Tap:
    """A TAP service of asynchronous jobs over the objects of one table, with the faults a test wants."""

    def __init__(self, server):
        self.sky = sweep_table()
        self.primary = 1
        self.created = []  # what is answered to new jobs before they are accepted
        self.phases = []  # what is answered about jobs that were started before they are completed
        self.results = []  # what is answered instead of results
        self.error = ""
        self.rows = 10**9  # what an answer holds at most
        self.slow = 360.0  # strips of this width and more [deg] are aborted
        self.queries = []
        self.requests = []
        self.started = set()
        self.aborted = []
        self.url = server.url_for("/tap")
        server.expect_request("/tap/async", method="POST").respond_with_handler(self.create)
        server.expect_request(JOB_PATH, method="GET").respond_with_handler(self.job)
        server.expect_request(re.compile("/tap/async/.*/phase"), method="POST").respond_with_handler(
            self.change_phase
        )
        server.expect_request(re.compile("/tap/async/.*/result")).respond_with_handler(self.result)

    def create(self, request):
        if self.created:
            return self.created.pop(0)
        self.requests.append(parse_qs(request.get_data(as_text=True)))
        self.queries.append(self.requests[-1]["QUERY"][0])
        return Response(status=303, headers={"Location": f"{self.url}/async/j{len(self.queries) - 1}"})

    def job(self, request):
        phase = "PENDING"
        if request.base_url in self.started:
            phase = self.phases.pop(0) if self.phases else "COMPLETED"
            west, east, _ = self.strip(request)
            if east - west >= self.slow:
                phase = "ABORTED"
        return (
            phase if isinstance(phase, Response) else Response(job_document(request.url, phase, self.error))
        )

    def change_phase(self, request):
        order = request.get_data(as_text=True)
        if order == "PHASE=RUN":
            self.started.add(request.url.removesuffix("/phase"))
        else:
            self.aborted.append(order)
        return Response("")

    def strip(self, request):
        query = self.queries[int(re.search(r"async/j(\d+)", request.path)[1])]
        west, sign, east = re.search(r"ra >= (\S+) AND ra (<=?) (\S+)", query).groups()
        return float(west), float(east), sign

    def result(self, request):
        if self.results:
            return self.results.pop(0)
        west, east, sign = self.strip(request)
        ra = self.sky["RA"]
        inside = (ra >= west) & ((ra <= east) if sign == "<=" else (ra < east))
        return Response(votable(self.sky[inside], self.primary, self.rows, np.asarray(inside)))


def votable(table, primary=1, rows=10**9, inside=None, encoding="binary"):
    """Write an answer; in binary, as astropy's writer of text spoils its memory with some lengths of rows."""
    answer = table.copy()
    chosen = (
        primary if np.isscalar(primary) else np.asarray(primary)[slice(None) if inside is None else inside]
    )
    answer["brick_primary"] = chosen if len(answer) else np.zeros(0, int)
    answer.rename_columns(answer.colnames, [name.lower() for name in answer.colnames])
    text = io.BytesIO()
    answer[:rows].write(text, format="votable", tabledata_format=encoding)
    overflow = b'</TABLE><INFO name="QUERY_STATUS" value="OVERFLOW"/>' if len(answer) > rows else b"</TABLE>"
    return text.getvalue().replace(b"</TABLE>", overflow)


@pytest.fixture
def tap(httpserver, monkeypatch):
    monkeypatch.setattr(tap_module, "POLL_FIRST", 0.001)
    service = Tap(httpserver)
    monkeypatch.setattr(legacy_survey, "TAP_URL", service.url)
    return service


angles = st.floats(0, 360, exclude_max=True)


@given(
    west=angles,
    east=angles,
    south=st.floats(-89, 88),
    height=st.floats(0.01, 2),
    places=st.lists(angles, max_size=20),
)
@example(west=355.0, east=5.0, south=-1.0, height=2.0, places=[0.0, 359.99999999, 355.0, 5.0, 180.0])
@example(west=355.0, east=0.0, south=-1.0, height=2.0, places=[0.0, 359.99999999])
@example(west=0.0, east=1e-300, south=0.0, height=1.0, places=[0.0, 1e-300])
def test_every_right_ascension_is_in_exactly_one_strip(west, east, south, height, places):
    if west == east:
        return
    cuts = Cuts((west, east), (south, south + height))
    strips = LegacySurvey()._parts(cuts)
    edges = [edge % 360 for strip in strips for edge in (strip.west, strip.east)]
    ra = np.array([*places, west, east, *edges])
    inside = (west <= ra) & (ra <= east) if west < east else (ra >= west) | (ra <= east)
    holding = [_holds(strip, ra) for strip in strips]
    np.testing.assert_array_equal(np.sum(holding, axis=0), inside)
    np.testing.assert_array_equal(cuts.passes(pd.DataFrame({"RA": ra, "DEC": south})), inside)


def _holds(strip, ra):
    """Return which right ascensions the ADQL of a strip asks for."""
    condition = re.sub(r"ra \S+ [^ )]+", r"(\g<0>)", strip.adql)
    for adql, python in {"AND": "&", "OR": "|", " = ": " == "}.items():
        condition = condition.replace(adql, python)
    return eval(condition, {"ra": np.asarray(ra)})


@pytest.mark.parametrize(
    ("ra", "ranges"),
    [
        ((350, 0), [(350, 360)]),
        ((350, 360), [(350, 360)]),
        ((0, 360), [(0, 360)]),
        ((360, 10), [(0, 10)]),
        ((350, 10), [(350, 360), (0, 10)]),
    ],
)
def test_right_ascension_360_is_0(ra, ranges):
    cuts = Cuts(ra, (-1, 1))
    assert cuts.ra_ranges == ranges
    strips = LegacySurvey()._parts(cuts)
    assert all(strip.west < strip.east for strip in strips)
    assert not any(strip.closed for strip in strips[:-1])
    at_zero = sum(_holds(strip, [0.0])[0] for strip in strips)
    assert at_zero == 1


@given(west=angles, width=st.floats(0.01, 20), depth=st.integers(1, 3))
def test_halves_of_a_strip_hold_what_it_held(west, width, depth):
    whole = _Strip(west, west + width, True)
    parts = [whole]
    for _ in range(depth):
        parts = [half for part in parts for half in part.halves()]
    assert [parts[0].west, parts[-1].east] == [whole.west, whole.east]
    assert [part.west for part in parts[1:]] == [part.east for part in parts[:-1]]
    assert [part.closed for part in parts] == [False] * (len(parts) - 1) + [True]


def test_bounds_may_be_angles():
    angles, numbers = Cuts([5, 6] * u.deg, [-300, -240] * u.arcmin), Cuts((5, 6), (-5, -4))
    assert (angles.adql, angles.ra_ranges) == (numbers.adql, numbers.ra_ranges)
    assert LegacySurvey()._parts(angles) == LegacySurvey()._parts(numbers)


def test_strips_are_small():
    strips = LegacySurvey()._parts(Cuts((5, 10), (-5, 0)))
    assert len(strips) == 25
    assert all((strip.east - strip.west) * 5 < 1.01 * legacy_survey.STRIP_AREA for strip in strips)
    assert len(LegacySurvey()._parts(Cuts((5, 10), (80, 85)))) < 5


def test_region_gives_the_table_of_a_sweep_file(tap, tmp_path):
    sweep_table().write(tmp_path / "sweep.fits")
    table = survey().query_region(**REGION)
    assert list(table.columns) == list(COLUMNS)
    assert list(table.TYPE) == ["PSF", "REX", "DEV", "DUP"]
    np.testing.assert_array_equal(table.FLUX_R, read_sweep(tmp_path / "sweep.fits").FLUX_R)


def test_large_region_is_put_together_from_strips(tap):
    tap.sky = sweep_table(101)
    tap.sky["RA"] = np.linspace(5, 10, 101)
    table = survey().query_region((5, 10), (-5, 0))
    assert len(tap.queries) == 25
    assert table.RA.tolist() == tap.sky["RA"].tolist()
    assert list(table.index) == list(range(101))
    assert [record["query"] for record in table.attrs["queries"]] == tap.queries
    assert sum(record["rows"] for record in table.attrs["queries"]) == 101


def test_cuts_are_counted_on_a_table_of_strips(tap):
    table = survey().query_region((5, 10), (-5, 0))
    assert cut_report(cut_region(table)).before.tolist() == [4]
    assert len(standard_columns(table).attrs["queries"]) == 25


@pytest.mark.parametrize(
    "primary", [[1, 0, 1, 1], [True, False, True, True], ["T", "F", "T", "T"]], ids=["int", "bool", "text"]
)
def test_duplicates_in_brick_overlaps_are_left_out(tap, primary):
    tap.primary = primary
    assert list(survey().query_region(**REGION).TYPE) == ["PSF", "DEV", "DUP"]


@pytest.mark.parametrize("release", ["dr9", "dr10"])
def test_query_asks_the_table_of_the_release(tap, release):
    survey(release=release).query_region(**REGION)
    assert (
        f"FROM ls_{release}.tractor WHERE ra >= 5.0 AND ra <= 6.0 AND dec BETWEEN -5.0 AND -4.0"
        in tap.queries[0]
    )
    assert "flux_g >" not in tap.queries[0]


def test_limits_and_fracflux_are_part_of_the_query(tap):
    tap.sky["FLUX_Z"] = 100
    survey().query_region(**REGION, limits={"g": 20, "z": 22.5}, max_fracflux=0.1)
    assert "flux_g > 10 AND flux_z > 1 " in tap.queries[0]
    for band in "grz":
        assert f"fracflux_{band} BETWEEN 0 AND 0.1" in tap.queries[0]


def test_queries_are_those_that_are_sent(tap):
    request = {**REGION, "limits": {"g": 20}, "max_fracflux": 0.1}
    queries = survey().queries(**request)
    assert tap.queries == []
    survey().query_region(**request)
    assert tap.queries == queries


def test_region_across_ra_zero(tap):
    tap.sky["RA"] = [354.0, 359.5, 0.0, 1.0]
    table = survey().query_region(ra=(359, 1), dec=(-1, 0))
    assert table.RA.tolist() == [359.5, 0.0, 1.0]
    assert ["ra >= 359.0 AND ra <= 360.0" in tap.queries[0], "ra >= 0.0 AND ra <= 1.0" in tap.queries[1]]


def test_region_up_to_ra_zero_ends_there(tap):
    tap.sky["RA"] = [359.0, 359.5, 0.5, 1.0]
    for ra in ((359, 0), (359, 360)):
        assert survey().query_region(ra=ra, dec=(-1, 0)).RA.tolist() == [359.0, 359.5]
    assert tap.queries[0] == tap.queries[1]
    assert len(tap.queries) == 2


def test_numpy_bounds_are_written_as_plain_numbers(tap):
    survey().query_region(ra=np.array([5, 6]), dec=np.float64([-5, -4]), max_fracflux=np.float64(0.1))
    assert "np." not in tap.queries[0]


def test_no_row_limit_of_the_client_applies(tap):
    survey().query_region(**REGION)
    assert "TOP" not in tap.queries[0]
    assert tap.requests[-1]["MAXREC"] == [str(legacy_survey.MAX_ROWS)]


def test_empty_region_is_a_lookup_error(tap):
    tap.sky = tap.sky[:0]
    with pytest.raises(
        NothingFound, match=r"LegacySurvey\('dr10'\) holds no object in RA 5..6, DEC -5..-4"
    ) as caught:
        survey().query_region(**REGION)
    assert isinstance(caught.value, LookupError)


def test_unknown_release_lists_the_known_ones():
    with pytest.raises(ValueError, match="unknown Legacy Survey release 'dr2'; known: dr10, dr9"):
        LegacySurvey("dr2")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ra": (5, 400)}, "ra=.*at most 360 apart"),
        ({"ra": (float("nan"), 5)}, "ra=.*two different bounds"),
        ({"ra": (360, 0)}, "ra=.*two different bounds"),
        ({"dec": (0, -5)}, "dec=.*the lower, then the upper"),
        ({"dec": (float("nan"), 0)}, "dec="),
        ({"limits": {"i": 20}}, "unknown bands i; known: g, r, z"),
    ],
)
def test_senseless_request_is_refused(arguments, message, mock_sky):
    for service in (LegacySurvey(), LegacySurveySweeps([]), mock_sky):
        with pytest.raises(ValueError, match=message):
            service.query_region(**{**REGION, **arguments})


class TestCachedStrips:
    region = {"ra": (5, 10), "dec": (-5, 0)}

    def test_second_query_asks_nothing(self, tap, tmp_path):
        first = survey(cache=tmp_path).query_region(**self.region)
        second = survey(cache=tmp_path).query_region(**self.region)
        assert len(tap.queries) == 25
        pd.testing.assert_frame_equal(first, second)
        assert not any(record["cached"] for record in first.attrs["queries"])
        assert all(record["cached"] for record in second.attrs["queries"])
        day = second.attrs["queries"][0]["date"][:10]
        assert describe_queries(first) == f"25 queries of {tap.url}, 4 rows: 25 sent now"
        assert describe_queries(second) == f"25 queries of {tap.url}, 4 rows: 25 from the cache of {day}"

    def test_interrupted_query_goes_on_with_the_strip_that_is_missing(self, tap, tmp_path):
        tap.phases = ["COMPLETED"] * 10 + ["QUEUED", "ERROR"]
        tap.error = "no such column"
        with pytest.raises(RefusedRequest):
            survey(cache=tmp_path).query_region(**self.region)
        assert len(tap.queries) == 11
        table = survey(cache=tmp_path).query_region(**self.region)
        assert len(table) == 4
        assert len(tap.queries) == 11 + 15
        assert "15 sent now, 10 from the cache of" in describe_queries(table)

    def test_other_limits_are_another_question(self, tap, tmp_path):
        tap.sky["FLUX_R"] = 100
        survey(cache=tmp_path).query_region(**REGION)
        survey(cache=tmp_path).query_region(**REGION, limits={"r": 20})
        assert len(tap.queries) == 2

    def test_strip_that_was_too_large_is_not_asked_for_again(self, tap, tmp_path):
        tap.rows = 2
        first = survey(cache=tmp_path).query_region(**REGION)
        asked = len(tap.queries)
        second = survey(cache=tmp_path).query_region(**REGION)
        assert len(tap.queries) == asked
        pd.testing.assert_frame_equal(first, second)
        assert "2 queries" in describe_queries(second)

    def test_progress_shows_only_if_more_than_one_strip_is_asked_for(self, tap, tmp_path, capfd):
        survey(cache=tmp_path).query_region(**REGION)
        assert "strip" not in capfd.readouterr().err
        survey(cache=tmp_path).query_region(**self.region)
        assert "25/25" in capfd.readouterr().err
        survey(cache=tmp_path).query_region(**self.region)
        assert "strip" not in capfd.readouterr().err


class TestTooLargeStrips:
    def test_answer_cut_by_the_service_is_asked_for_in_halves(self, tap):
        tap.sky = sweep_table(41)
        tap.rows = 6
        table = survey().query_region(**REGION)
        assert table.RA.tolist() == tap.sky["RA"].tolist()
        assert len(tap.queries) == 15  # 1 + 2 + 4 + 8
        assert len(table.attrs["queries"]) == 8

    def test_answer_at_our_own_row_limit_is_asked_for_in_halves(self, tap, monkeypatch):
        monkeypatch.setattr(legacy_survey, "MAX_ROWS", 4)
        assert len(survey().query_region(**REGION)) == 4
        assert len(tap.queries) == 3

    def test_aborted_job_is_asked_for_in_halves(self, tap):
        tap.slow = 0.5
        assert len(survey().query_region(**REGION)) == 4
        assert len(tap.queries) == 7

    def test_job_that_failed_for_its_time_limit_is_asked_for_in_halves(self, tap):
        tap.phases, tap.error = ["ERROR"], "canceling statement due to statement timeout"
        assert len(survey().query_region(**REGION)) == 4
        assert len(tap.queries) == 3

    def test_job_that_takes_too_long_is_aborted_and_asked_for_in_halves(self, tap, monkeypatch):
        monkeypatch.setattr(tap_module, "LONGEST_JOB", -1)
        tap.phases = ["EXECUTING"]
        assert len(survey().query_region(**REGION)) == 4
        assert tap.aborted == ["PHASE=ABORT"]

    def test_narrowest_strip_that_is_too_large_is_an_error(self, tap):
        tap.slow = 0
        with pytest.raises(
            RefusedRequest, match=r"cannot manage even RA 5.00000..5.00\d+ deg.*smaller range"
        ):
            survey().query_region(**REGION)
        assert len(tap.queries) < 15


class TestFaults:
    def test_busy_service_is_asked_again(self, tap):
        tap.created = [Response("busy", status=503), Response("slow down", status=429)]
        service = survey()
        assert len(service.query_region(**REGION)) == 4
        assert service.retries.faults == {"Unreachable": 2}

    def test_service_that_stays_busy(self, tap):
        tap.created = [Response("busy", status=503)] * 3
        with pytest.raises(Unreachable, match="HTTP status 503 for the data: it is busy .*; try again later"):
            survey().query_region(**REGION)

    def test_wait_that_the_service_asks_for_is_respected(self, tap):
        tap.created = [Response("busy", status=503, headers={"Retry-After": "7200"})]
        with pytest.raises(ServiceDown, match="503"):
            survey().query_region(**REGION)

    @pytest.mark.parametrize("status", [400, 403, 404])
    def test_refused_query_is_not_asked_again(self, tap, httpserver, status):
        tap.created = [Response("<html><li>Unknown column</li></html>", status=status)]
        with pytest.raises(RefusedRequest, match=rf"SELECT ra.*HTTP status {status} .*Unknown column"):
            survey().query_region(**REGION)
        assert len(httpserver.log) == 1

    def test_failed_job_tells_the_reason_of_the_service(self, tap):
        tap.phases, tap.error = ["ERROR"], "column flux_q does not exist"
        with pytest.raises(RefusedRequest, match="failed the query 'SELECT .*: column flux_q does not exist"):
            survey().query_region(**REGION)
        assert len(tap.queries) == 1

    def test_failed_job_without_reason(self, tap):
        tap.phases = ["ERROR"]
        with pytest.raises(RefusedRequest, match="failed the query .*: <No useful error from server>"):
            survey().query_region(**REGION)

    def test_broken_line_does_not_cost_the_job(self, tap):
        tap.phases = ["EXECUTING", Response("", status=502), "QUEUED", Response("", status=503)]
        assert len(survey().query_region(**REGION)) == 4
        assert len(tap.queries) == 1

    def test_results_cut_short_are_fetched_again(self, tap):
        tap.results = [Response(iter([votable(sweep_table())[:700]]), headers={"Content-Length": "9999"})]
        assert len(survey().query_region(**REGION)) == 4
        assert len(tap.queries) == 1

    def test_job_that_the_service_lost_is_sent_again(self, tap):
        tap.phases = ["QUEUED", Response("no such job", status=404)]
        assert len(survey().query_region(**REGION)) == 4
        assert len(tap.queries) == 2

    def test_job_that_stays_in_the_queue_is_sent_again(self, tap, monkeypatch):
        monkeypatch.setattr(tap_module, "LONGEST_JOB", -1)
        tap.phases = ["QUEUED"]
        assert len(survey().query_region(**REGION)) == 4
        assert len(tap.queries) == 2
        assert tap.aborted == ["PHASE=ABORT"]

    def test_phase_that_is_none_is_asked_again(self, tap):
        tap.phases = [Response("<html>Sign in</html>"), Response("<html>Sign in<br></html>")]
        assert len(survey().query_region(**REGION)) == 4

    def test_login_page_instead_of_a_job_is_asked_again(self, tap):
        tap.created = [Response("<html>Sign in</html>"), Response(status=303)]
        assert len(survey().query_region(**REGION)) == 4

    @pytest.mark.parametrize("content", ["", "<html><body>Sign in<br></body></html>", "ra,dec\n1,2\n"])
    def test_answer_that_is_no_votable(self, tap, content):
        tap.results = [Response(content)] * 3
        with pytest.raises(BadAnswer, match="no VOTable"):
            survey().query_region(**REGION)
        assert len(survey().query_region(**REGION)) == 4

    def test_truncated_votable_is_asked_again(self, tap):
        tap.results = [Response(votable(sweep_table())[:-90])]
        assert len(survey().query_region(**REGION)) == 4

    def test_compressed_and_redirected_results_are_read(self, tap, httpserver):
        elsewhere = httpserver.url_for("/elsewhere")
        tap.results = [Response(status=303, headers={"Location": elsewhere})]
        packed = gzip.compress(votable(sweep_table()))
        httpserver.expect_request("/elsewhere").respond_with_data(
            packed, headers={"Content-Encoding": "gzip"}
        )
        assert len(survey().query_region(**REGION)) == 4

    def test_answer_in_text_is_read_like_one_in_binary(self, tap):
        in_binary = survey().query_region(**REGION)
        tap.results = [Response(votable(sweep_table(), encoding="tabledata"))]
        assert survey().query_region(**REGION).equals(in_binary)

    def test_answer_without_a_column(self, tap):
        tap.sky.remove_column("SHAPE_R")
        with pytest.raises(BadAnswer, match="without the columns SHAPE_R"):
            survey().query_region(**REGION)

    def test_nothing_is_printed_or_warned(self, tap, capfd):
        tap.created, tap.phases = [Response("busy", status=503)], ["QUEUED", Response("", status=500)]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", "The 'initial' parameter", DeprecationWarning)
            survey().query_region(**REGION)
        assert capfd.readouterr() == ("", "")

    def test_service_that_is_not_there(self, monkeypatch, closed_port):
        monkeypatch.setattr(legacy_survey, "TAP_URL", f"http://localhost:{closed_port}/tap")
        with pytest.raises(Unreachable, match="/tap did not deliver .*try again later"):
            survey().query_region(**REGION)

    def test_silent_service_is_given_up(self, monkeypatch):
        monkeypatch.setattr(tap_module, "TIMEOUT", 0.05)
        with socket.create_server(("localhost", 0)) as silent:
            monkeypatch.setattr(legacy_survey, "TAP_URL", f"http://localhost:{silent.getsockname()[1]}/tap")
            with pytest.raises(Unreachable, match="timed out|Timeout"):
                survey().query_region(**REGION)
        assert socket.getdefaulttimeout() is None


def test_region_is_whole_in_spite_of_faults(archive, monkeypatch):
    monkeypatch.setattr(tap_module, "POLL_FIRST", 0.001)
    region = {"ra": (5, 5.5), "dec": (-1.5, -0.5), "limits": {"r": 20}}
    whole = survey().query_region(**region)
    archive.faults.kinds = ("reset", "reset_midway", "truncated", "http503", "html200")
    archive.faults.rate = 0.3
    patient = survey(retries=QUICK(tries=30, patience=60))
    for _ in range(5):
        pd.testing.assert_frame_equal(patient.query_region(**region), whole)
    assert {"Unreachable", "BadAnswer"} <= set(patient.retries.faults)


@pytest.fixture
def closed_port():
    with socket.create_server(("localhost", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.remote_data
def test_live_region():
    table = LegacySurvey().query_region(ra=(5, 5.05), dec=(-1, -0.95), limits={"r": 20})
    assert set(table.TYPE) <= {"PSF", "REX", "EXP", "DEV", "SER", "DUP"}
    assert table.RA.between(5, 5.05).all()
