import io
import socket
from urllib.parse import parse_qs

import numpy as np
import pytest
from astropy.config import set_temp_cache
from astropy.io import fits
from astropy.table import Table
from werkzeug import Response

from ztf_sg.services import legacy_survey
from ztf_sg.services.errors import BadAnswer, NothingFound, Unreachable
from ztf_sg.services.legacy_survey import COLUMNS, LegacySurvey, read_sweep

REGION = {"ra": (5, 10), "dec": (-5, 0)}


def sweep_table(n=4):
    numbers = {name: np.arange(n, dtype=">f4") + 1 for name in COLUMNS if name not in ("RA", "DEC", "TYPE")}
    types = np.array(["PSF ", "REX", "DEV", "DUP"], dtype="S4")[np.arange(n) % 4]
    position = {"RA": np.linspace(5, 6, n), "DEC": np.linspace(-5, -4, n)}
    return Table({**position, "TYPE": types, **numbers, "OBJID": np.arange(n)})


@pytest.fixture
def sweep_file(tmp_path):
    path = tmp_path / "sweep-005m005-010p000.fits"
    sweep_table().write(path)
    return path


@pytest.fixture
def tap(httpserver, monkeypatch):
    """Serve one asynchronous TAP job, whose answer a test may set; remember the request."""
    monkeypatch.setattr(legacy_survey, "TAP_URL", httpserver.url_for("/tap"))
    job = {"phase": "COMPLETED", "result": Response(votable(sweep_table())), "error": "", "requests": []}

    def create(request):
        job["requests"].append(parse_qs(request.get_data(as_text=True)))
        return Response(status=303, headers={"Location": httpserver.url_for("/tap/async/j1")})

    httpserver.expect_request("/tap/async", method="POST").respond_with_handler(create)
    httpserver.expect_request("/tap/async/j1/phase").respond_with_handler(lambda _: Response(job["phase"]))
    httpserver.expect_request("/tap/async/j1/results/result").respond_with_handler(lambda _: job["result"])
    httpserver.expect_request("/tap/async/j1/error").respond_with_handler(lambda _: Response(job["error"]))
    return job


def votable(table, primary=1):
    answer = table.copy()
    answer["brick_primary"] = primary
    answer.rename_columns(answer.colnames, [name.lower() for name in answer.colnames])
    text = io.BytesIO()
    answer.write(text, format="votable")
    return text.getvalue()


def query_of(job):
    return job["requests"][-1]["QUERY"][0]


def test_sweep_has_native_numbers_and_stripped_types(sweep_file):
    table = read_sweep(sweep_file)
    assert list(table.columns) == list(COLUMNS)
    assert list(table.TYPE) == ["PSF", "REX", "DEV", "DUP"]
    assert table.FLUX_G.dtype == np.dtype("=f4")
    assert table.RA.dtype == np.dtype("=f8")
    assert table[table.FLUX_G > 2].shape == (2, len(COLUMNS))


def test_sweep_reads_only_the_columns_named(sweep_file):
    assert list(read_sweep(str(sweep_file), columns=["OBJID", "RA"]).columns) == ["OBJID", "RA"]


def test_sweep_from_url(sweep_file, httpserver, tmp_path):
    httpserver.expect_request("/sweep.fits").respond_with_data(sweep_file.read_bytes())
    with set_temp_cache(tmp_path):
        assert read_sweep(httpserver.url_for("/sweep.fits")).equals(read_sweep(sweep_file))


def test_sweep_url_with_http_error(httpserver, tmp_path):
    httpserver.expect_request("/sweep.fits").respond_with_data("gone", status=404)
    with set_temp_cache(tmp_path), pytest.raises(BadAnswer, match=r"sweep.fits: HTTP status 404"):
        read_sweep(httpserver.url_for("/sweep.fits"))


def test_sweep_url_without_server(tmp_path, closed_port):
    with set_temp_cache(tmp_path), pytest.raises(Unreachable, match="sweep.fits"):
        read_sweep(f"http://localhost:{closed_port}/sweep.fits")


def test_missing_sweep_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no sweep file .*nowhere.fits"):
        read_sweep(tmp_path / "nowhere.fits")


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"RA,DEC\n1,2\n" * 1000])
def test_sweep_that_is_not_fits_is_named(tmp_path, content):
    path = tmp_path / "page.fits"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"page.fits is not a complete FITS table"):
        read_sweep(path)


@pytest.mark.filterwarnings("ignore:File may have been truncated")
def test_truncated_sweep_is_named(sweep_file):
    sweep_table(5000).write(sweep_file, overwrite=True)
    sweep_file.write_bytes(sweep_file.read_bytes()[:-8000])
    with pytest.raises(ValueError, match=r"sweep-005m005-010p000.fits is not a complete FITS table"):
        read_sweep(sweep_file)


def test_fits_without_table_is_named(tmp_path):
    fits.PrimaryHDU(np.zeros((3, 3))).writeto(tmp_path / "image.fits")
    with pytest.raises(ValueError, match=r"image.fits is a FITS file without a table"):
        read_sweep(tmp_path / "image.fits")


def test_missing_sweep_columns_are_named(sweep_file):
    table = sweep_table()
    table.remove_columns(["FLUX_Z", "TYPE"])
    table.write(sweep_file, overwrite=True)
    with pytest.raises(ValueError, match="lacks the columns TYPE, FLUX_Z"):
        read_sweep(sweep_file)


def test_region_gives_the_table_of_a_sweep_file(tap, sweep_file):
    table = LegacySurvey().query_region(**REGION)
    assert list(table.columns) == list(COLUMNS)
    assert list(table.TYPE) == ["PSF", "REX", "DEV", "DUP"]
    np.testing.assert_array_equal(table.FLUX_R, read_sweep(sweep_file).FLUX_R)


@pytest.mark.parametrize(
    "primary", [[1, 0, 1, 1], [True, False, True, True], ["T", "F", "T", "T"]], ids=["int", "bool", "text"]
)
def test_duplicates_in_brick_overlaps_are_left_out(tap, primary):
    tap["result"] = Response(votable(sweep_table(), primary))
    assert list(LegacySurvey().query_region(**REGION).TYPE) == ["PSF", "DEV", "DUP"]


@pytest.mark.parametrize("release", ["dr9", "dr10"])
def test_query_asks_the_table_of_the_release(tap, release):
    LegacySurvey(release).query_region(**REGION)
    assert (
        f"FROM ls_{release}.tractor WHERE ra BETWEEN 5.0 AND 10.0 AND dec BETWEEN -5.0 AND 0.0"
        in query_of(tap)
    )
    assert "flux_g >" not in query_of(tap)


def test_limits_and_fracflux_are_part_of_the_query(tap):
    LegacySurvey().query_region(**REGION, limits={"g": 20, "z": 22.5}, max_fracflux=0.1)
    assert "flux_g > 10 AND flux_z > 1 " in query_of(tap)
    for band in "grz":
        assert f"fracflux_{band} BETWEEN 0 AND 0.1" in query_of(tap)


def test_region_across_ra_zero(tap):
    LegacySurvey().query_region(ra=(355, 5), dec=(-1, 1))
    assert "(ra >= 355.0 OR ra <= 5.0) AND" in query_of(tap)


def test_numpy_bounds_are_written_as_plain_numbers(tap):
    LegacySurvey().query_region(ra=np.array([5, 10]), dec=np.float64([-5, 0]), max_fracflux=np.float64(0.1))
    assert "np." not in query_of(tap)


def test_no_row_limit_of_the_client_applies(tap):
    LegacySurvey().query_region(**REGION)
    assert "TOP" not in query_of(tap)
    assert tap["requests"][-1]["MAXREC"] == [str(legacy_survey.MAX_ROWS)]


def test_answer_cut_at_the_row_limit_is_an_error(tap, monkeypatch):
    monkeypatch.setattr(legacy_survey, "MAX_ROWS", 4)
    with pytest.raises(BadAnswer, match="cut the answer at 4 rows; ask for a smaller region"):
        LegacySurvey().query_region(**REGION)


def test_empty_region_is_a_lookup_error(tap):
    tap["result"] = Response(votable(sweep_table()[:0]))
    with pytest.raises(
        NothingFound, match=r"ls_dr10.tractor holds no object in RA 5..10, DEC -5..0"
    ) as caught:
        LegacySurvey().query_region(**REGION)
    assert isinstance(caught.value, LookupError)


def test_unknown_release_lists_the_known_ones():
    with pytest.raises(ValueError, match="unknown Legacy Survey release 'dr2'; known: dr10, dr9"):
        LegacySurvey("dr2")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ra": (5, 400)}, "ra=.*within 0..360 deg"),
        ({"dec": (0, -5)}, "dec=.*the lower, then the upper"),
        ({"dec": (float("nan"), 0)}, "dec="),
        ({"limits": {"i": 20}}, "unknown bands i; known: g, r, z"),
    ],
)
def test_senseless_request_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LegacySurvey().query_region(**{**REGION, **arguments})


def test_failed_job_tells_the_reason_of_the_service(tap):
    tap.update(phase="ERROR", error="column flux_q does not exist")
    with pytest.raises(BadAnswer, match="failed the query .*\ncolumn flux_q does not exist"):
        LegacySurvey().query_region(**REGION)


def test_failed_job_without_reason(tap):
    tap.update(phase="ERROR", result=Response("no result", status=404))
    with pytest.raises(BadAnswer, match="failed the query .*Error 404"):
        LegacySurvey().query_region(**REGION)


def test_refused_job(httpserver, monkeypatch):
    monkeypatch.setattr(legacy_survey, "TAP_URL", httpserver.url_for("/tap"))
    httpserver.expect_request("/tap/async").respond_with_data("busy", status=503)
    with pytest.raises(BadAnswer, match="SERVICE UNAVAILABLE"):
        LegacySurvey().query_region(**REGION)


@pytest.mark.parametrize("content", ["", "<html><body>Sign in<br></body></html>", "ra,dec\n1,2\n"])
def test_answer_that_is_no_votable(tap, content):
    tap["result"] = Response(content)
    with pytest.raises(BadAnswer, match="no VOTable"):
        LegacySurvey().query_region(**REGION)


def test_answer_without_a_column(tap):
    table = sweep_table()
    table.remove_column("SHAPE_R")
    tap["result"] = Response(votable(table))
    with pytest.raises(BadAnswer, match="without the columns SHAPE_R"):
        LegacySurvey().query_region(**REGION)


def test_service_that_is_not_there(monkeypatch, closed_port):
    monkeypatch.setattr(legacy_survey, "TAP_URL", f"http://localhost:{closed_port}/tap")
    with pytest.raises(Unreachable, match="/tap: .*try again later"):
        LegacySurvey().query_region(**REGION)


def test_silent_service_is_given_up(monkeypatch):
    monkeypatch.setattr(legacy_survey, "TIMEOUT", 0.1)
    with socket.create_server(("localhost", 0)) as silent:
        monkeypatch.setattr(legacy_survey, "TAP_URL", f"http://localhost:{silent.getsockname()[1]}/tap")
        with pytest.raises(Unreachable, match="timed out|Timeout"):
            LegacySurvey().query_region(**REGION)
    assert socket.getdefaulttimeout() is None


@pytest.fixture
def closed_port():
    with socket.create_server(("localhost", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.remote_data
def test_live_region():
    table = LegacySurvey().query_region(ra=(5, 5.05), dec=(-1, -0.95), limits={"r": 20})
    assert set(table.TYPE) <= {"PSF", "REX", "EXP", "DEV", "SER", "DUP"}
    assert table.RA.between(5, 5.05).all()
