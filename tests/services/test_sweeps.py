import gzip
import os
import re
import socket
from functools import partial

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import Table
from helpers import sweep_table
from werkzeug import Response

from ztf_sg.services import http, sweeps
from ztf_sg.services.errors import BadAnswer, NothingFound, RefusedRequest, ServiceDown, Unreachable
from ztf_sg.services.legacy_survey import COLUMNS
from ztf_sg.services.query_cache import describe_queries
from ztf_sg.services.retries import Retries
from ztf_sg.services.sweeps import LegacySurveySweeps, read_sweep
from ztf_sg.services.tractor import Cuts

QUICK = partial(Retries, tries=3, first_wait=0.01, longest_wait=0.02, patience=1)


@pytest.fixture
def sweep_file(tmp_path):
    path = tmp_path / "sweep-005m005-010p000.fits"
    sweep_table().write(path)
    return path


@pytest.fixture
def closed_port():
    with socket.create_server(("localhost", 0)) as server:
        return server.getsockname()[1]


def test_sweep_has_native_numbers_and_stripped_types(sweep_file):
    table = read_sweep(sweep_file)
    assert list(table.columns) == list(COLUMNS)
    assert list(table.TYPE) == ["PSF", "REX", "DEV", "DUP"]
    assert table.FLUX_G.dtype == np.dtype("=f4")
    assert table.RA.dtype == np.dtype("=f8")
    assert table[table.FLUX_G > 2].shape == (2, len(COLUMNS))


def test_sweep_reads_only_the_columns_named(sweep_file):
    assert list(read_sweep(str(sweep_file), columns=["OBJID", "RA"]).columns) == ["OBJID", "RA"]


def test_sweep_from_url(sweep_file, httpserver):
    httpserver.expect_request("/sweep.fits").respond_with_data(sweep_file.read_bytes())
    assert read_sweep(httpserver.url_for("/sweep.fits")).equals(read_sweep(sweep_file))


@pytest.mark.parametrize("status", [403, 404, 410])
def test_sweep_url_that_is_refused_is_asked_for_once(httpserver, status):
    httpserver.expect_request("/sweep.fits").respond_with_data("gone", status=status)
    with pytest.raises(
        RefusedRequest,
        match=rf"localhost:\d+ answered HTTP status {status} for /sweep.fits: .*; check the URL",
    ):
        read_sweep(httpserver.url_for("/sweep.fits"), retries=QUICK())
    assert len(httpserver.log) == 1


def test_sweep_url_is_asked_again_after_a_fault(httpserver, sweep_file):
    answers = [Response("busy", status=503), Response("slow down", status=429)]
    whole = sweep_file.read_bytes()
    httpserver.expect_request("/sweep.fits").respond_with_handler(
        lambda _: answers.pop(0) if answers else Response(whole)
    )
    assert read_sweep(httpserver.url_for("/sweep.fits"), retries=QUICK()).equals(read_sweep(sweep_file))


def test_wait_that_the_server_of_a_sweep_asks_for_is_respected(httpserver):
    httpserver.expect_request("/sweep.fits").respond_with_data(status=503, headers={"Retry-After": "7200"})
    with pytest.raises(ServiceDown, match="HTTP status 503 for /sweep.fits"):
        read_sweep(httpserver.url_for("/sweep.fits"), retries=QUICK())
    assert len(httpserver.log) == 1


def test_sweep_url_that_answers_a_web_page(httpserver):
    httpserver.expect_request("/sweep.fits").respond_with_data("<html>Sign in", content_type="text/html")
    with pytest.raises(BadAnswer, match="/sweep.fits is a web page"):
        read_sweep(httpserver.url_for("/sweep.fits"), retries=QUICK())


def test_sweep_url_without_server(closed_port):
    with pytest.raises(Unreachable, match="sweep.fits"):
        read_sweep(f"http://localhost:{closed_port}/sweep.fits", retries=QUICK())


def test_silent_sweep_server_is_given_up(monkeypatch):
    monkeypatch.setattr(http, "READ_TIMEOUT", 0.05)
    with socket.create_server(("localhost", 0)) as silent, pytest.raises(Unreachable, match="timed out"):
        read_sweep(f"http://localhost:{silent.getsockname()[1]}/sweep.fits", retries=QUICK())


class BreakingServer:
    """Serve a file, but break each connection after so many bytes."""

    def __init__(self, server, content, ranges, length=None):
        self.content, self.ranges, self.asked, self.tag = content, ranges, [], '"one"'
        self.length = length or len(content) // 3
        self.url = server.url_for("/sweep.fits")
        server.expect_request("/sweep.fits").respond_with_handler(self.respond)

    def respond(self, request):
        wanted = re.match(r"bytes=(\d+)-", request.headers.get("Range", ""))
        first = int(wanted[1]) if wanted and self.ranges else 0
        self.asked.append(int(wanted[1]) if wanted else 0)
        rest = self.content[first:]
        headers = {"Content-Length": str(len(rest)), "ETag": self.tag}
        if wanted and self.ranges:
            headers["Content-Range"] = f"bytes {first}-{len(self.content) - 1}/{len(self.content)}"
        # a server without ranges gets a little further each time
        length = self.length if self.ranges else self.length * len(self.asked)
        return Response(iter([rest[:length]]), 206 if first else 200, headers)


@pytest.fixture
def large_sweep(tmp_path):
    path = tmp_path / "large.fits"
    sweep_table(20_000).write(path)
    return path


@pytest.mark.parametrize("ranges", [True, False], ids=["with ranges", "without"])
def test_broken_connection_is_taken_up_where_it_broke(httpserver, large_sweep, ranges, monkeypatch):
    monkeypatch.setattr(sweeps, "PART", 10_000)
    server = BreakingServer(httpserver, large_sweep.read_bytes(), ranges)
    assert read_sweep(server.url, retries=QUICK()).equals(read_sweep(large_sweep))
    assert 2 < len(server.asked) < 6
    assert server.asked == sorted(server.asked)
    assert server.asked[1] > 0


def test_file_that_changes_under_way_is_not_mixed_with_the_old_one(httpserver, large_sweep, monkeypatch):
    monkeypatch.setattr(sweeps, "PART", 10_000)
    server = BreakingServer(httpserver, large_sweep.read_bytes(), ranges=True)
    respond = server.respond

    def changed(request):
        answer = respond(request)
        server.tag = '"two"'
        return answer

    httpserver.clear()
    httpserver.expect_request("/sweep.fits").respond_with_handler(changed)
    with pytest.raises(RefusedRequest, match="has changed"):
        read_sweep(server.url, retries=QUICK())


@pytest.mark.parametrize("chunk_rows", [1, 7, 50, 51, 1000])
def test_chunks_hold_every_row_once(tmp_path, monkeypatch, chunk_rows):
    sweep_table(50).write(tmp_path / "sweep.fits")
    whole = read_sweep(tmp_path / "sweep.fits", ["OBJID", "TYPE"])
    monkeypatch.setattr(sweeps, "CHUNK_ROWS", chunk_rows)
    assert read_sweep(tmp_path / "sweep.fits", ["OBJID", "TYPE"]).equals(whole)
    assert whole.OBJID.tolist() == list(range(50))


def test_sweep_is_read_as_astropy_reads_it(tmp_path, mock_sky):
    Table.from_pandas(mock_sky.catalogue).write(tmp_path / "sweep.fits")
    ours = read_sweep(tmp_path / "sweep.fits", columns=None)
    theirs = Table.read(tmp_path / "sweep.fits")
    theirs.convert_bytestring_to_unicode()
    assert list(ours.columns) == theirs.colnames
    for name in theirs.colnames:
        np.testing.assert_array_equal(ours[name], theirs[name])


def test_compressed_sweep(sweep_file, tmp_path):
    path = tmp_path / "sweep.fits.gz"
    path.write_bytes(gzip.compress(sweep_file.read_bytes()))
    assert read_sweep(path).equals(read_sweep(sweep_file))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="sweep.fits.gz is not a complete FITS table"):
        read_sweep(path)


def test_truth_values_and_empty_tables(tmp_path):
    Table({"MASKED": [True, False], "N": [1, 2]}).write(tmp_path / "two.fits")
    assert read_sweep(tmp_path / "two.fits", None).MASKED.tolist() == [True, False]
    sweep_table()[:0].write(tmp_path / "none.fits")
    assert list(read_sweep(tmp_path / "none.fits").columns) == list(COLUMNS)


def test_scaled_columns_are_refused_only_if_needed(tmp_path):
    table = sweep_table()
    table["COUNTS"] = np.arange(len(table), dtype="uint16")
    table.write(tmp_path / "sweep.fits")
    assert len(read_sweep(tmp_path / "sweep.fits")) == len(table)
    with pytest.raises(ValueError, match="sweep.fits: column COUNTS is scaled"):
        read_sweep(tmp_path / "sweep.fits", ["COUNTS"])


def test_columns_scaled_by_one_are_read(tmp_path):
    flux = fits.Column("FLUX_G", "E", array=np.array([1.0, 2.0]), bscale=1.0, bzero=0.0)
    hdu = fits.BinTableHDU.from_columns([flux])
    hdu.header["TSCAL1"], hdu.header["TZERO1"] = 1.0, 0.0
    hdu.writeto(tmp_path / "scaled.fits")
    assert read_sweep(tmp_path / "scaled.fits", ["FLUX_G"]).FLUX_G.tolist() == [1, 2]


def test_columns_of_variable_length_are_refused_only_if_needed(tmp_path):
    ragged = fits.Column("LISTS", "PE()", array=np.array([[1.0], [2.0, 3.0]], dtype=object))
    plain = fits.Column("RA", "D", array=[1.0, 2.0])
    fits.BinTableHDU.from_columns([ragged, plain]).writeto(tmp_path / "ragged.fits")
    assert read_sweep(tmp_path / "ragged.fits", ["RA"]).RA.tolist() == [1, 2]
    with pytest.raises(ValueError, match="ragged.fits: column LISTS .* of variable length"):
        read_sweep(tmp_path / "ragged.fits", None)


def test_table_after_an_image_is_found(tmp_path):
    hdus = [fits.PrimaryHDU(np.zeros((50, 50))), fits.ImageHDU(np.ones(3)), fits.table_to_hdu(sweep_table())]
    fits.HDUList(hdus).writeto(tmp_path / "sweep.fits")
    assert len(read_sweep(tmp_path / "sweep.fits")) == 4


CUTS = Cuts((5.2, 5.9), (-4.9, -4.2), {"g": 21.5, "r": 21.0}, max_fracflux=8)


def expected_rows(table):
    flux = {band: 10 ** (0.4 * (22.5 - limit)) for band, limit in CUTS.limits.items()}
    keep = (flux["g"] < table.FLUX_G) & (flux["r"] < table.FLUX_R) & (table.FRACFLUX_Z <= 8)
    return table[keep & table.RA.between(5.2, 5.9) & table.DEC.between(-4.9, -4.2)]


def test_cuts_are_made_while_a_sweep_is_read(tmp_path):
    sweep_table(12).write(tmp_path / "sweep.fits")
    expected = expected_rows(read_sweep(tmp_path / "sweep.fits"))
    assert 0 < len(expected) < 8
    assert read_sweep(tmp_path / "sweep.fits", cuts=CUTS).equals(expected.reset_index(drop=True))
    assert list(read_sweep(tmp_path / "sweep.fits", ["OBJID"], cuts=CUTS).columns) == ["OBJID"]


def test_sweep_across_ra_zero(tmp_path):
    table = sweep_table()
    table["RA"] = [355.0, 359.9, 0.1, 90]
    table.write(tmp_path / "sweep.fits")
    assert read_sweep(tmp_path / "sweep.fits", cuts=Cuts((359, 1), (-90, 90))).RA.tolist() == [359.9, 0.1]


class TestSweeps:
    @pytest.fixture
    def files(self, tmp_path):
        table = sweep_table(12)
        table["RA"] = np.linspace(5, 16, 12)
        paths = [tmp_path / name for name in ("sweep-000m005-010p000.fits", "sweep-010m005-020p000.fits")]
        for path, inside in zip(paths, (table["RA"] < 10, table["RA"] >= 10), strict=True):
            table[inside].write(path)
        return paths

    def test_objects_of_a_region_come_from_all_files(self, files):
        table = LegacySurveySweeps(files).query_region((7, 13), (-5, 0))
        assert table.RA.tolist() == [7, 8, 9, 10, 11, 12, 13]
        assert list(table.columns) == list(COLUMNS)
        assert [record["rows"] for record in table.attrs["queries"]] == [3, 4]

    def test_files_beside_the_region_are_not_opened(self, files):
        files[1].unlink()
        assert len(LegacySurveySweeps(files).query_region((6, 9), (-5, 0))) == 4
        with pytest.raises(FileNotFoundError, match="sweep-010m005"):
            LegacySurveySweeps(files).query_region((6, 11), (-5, 0))

    def test_region_up_to_ra_zero_needs_no_file_beyond(self, files, tmp_path):
        table = sweep_table(3)
        table["RA"] = [351, 355, 359]
        table.write(tmp_path / "sweep-350m005-360p000.fits")
        service = LegacySurveySweeps([tmp_path / "sweep-350m005-360p000.fits", *files])
        for ra in ((350, 0), (350, 360)):
            found = service.query_region(ra, (-5, 0))
            assert found.RA.tolist() == [351, 355, 359]
            assert len(found.attrs["queries"]) == 1

    @pytest.mark.parametrize(
        ("name", "ra", "dec", "overlaps"),
        [
            ("sweep-000m005-010p000.fits", (5, 6), (-2, -1), True),
            ("sweep-000m005-010p000.fits", (10, 11), (-2, -1), True),
            ("sweep-000m005-010p000.fits", (11, 12), (-2, -1), False),
            ("sweep-000m005-010p000.fits", (5, 6), (1, 2), False),
            ("sweep-000p000-010p005.fits", (355, 2), (1, 2), True),
            ("http://server/sweep-350p000-360p005.fits", (355, 2), (1, 2), True),
            ("sweep-340p000-350p005.fits", (355, 2), (1, 2), False),
            ("sweep-350p000-360p005.fits", (355, 0), (1, 2), True),
            ("sweep-000p000-010p005.fits", (355, 0), (1, 2), False),
            ("sweep-000p000-010p005.fits", (360, 2), (1, 2), True),
            ("selection.fits", (355, 2), (1, 2), True),
        ],
    )
    def test_names_of_files_tell_where_they_are(self, name, ra, dec, overlaps):
        assert sweeps._may_overlap(name, Cuts(ra, dec)) == overlaps

    def test_second_query_reads_no_file(self, files, tmp_path):
        first = LegacySurveySweeps(files, tmp_path / "cache").query_region((7, 13), (-5, 0))
        status = files[0].stat()
        files[0].write_bytes(b" " * status.st_size)
        os.utime(files[0], ns=(status.st_atime_ns, status.st_mtime_ns))
        second = LegacySurveySweeps(files, tmp_path / "cache").query_region((7, 13), (-5, 0))
        pd.testing.assert_frame_equal(first, second)
        assert describe_queries(first) == "2 queries of 2 files, 7 rows: 2 sent now"
        assert "2 from the cache of 20" in describe_queries(second)
        with pytest.raises(ValueError, match="not a complete FITS table"):
            LegacySurveySweeps(files, tmp_path / "cache").query_region((7, 13.5), (-5, 0))

    def test_changed_file_and_region_that_differs_little_are_read_anew(self, files, tmp_path):
        service = LegacySurveySweeps(files, tmp_path / "cache")
        service.query_region((7, 13), (-5, 0))
        os.utime(files[0], (1, 1))
        assert "1 sent now, 1 from the cache" in describe_queries(service.query_region((7, 13), (-5, 0)))
        assert "2 sent now" in describe_queries(service.query_region((7.0000001, 13), (-5, 0)))

    def test_nothing_in_the_region(self, files):
        with pytest.raises(NothingFound, match=r"<LegacySurveySweeps: 2 files> holds no object in RA 50..60"):
            LegacySurveySweeps(files).query_region((50, 60), (-5, 0))

    def test_limits_and_blends_are_cut(self, files):
        table = LegacySurveySweeps(files).query_region((5, 16), (-5, 0), {"z": 20}, max_fracflux=11)
        assert table.FLUX_Z.tolist() == [11]


def test_missing_sweep_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no sweep file .*nowhere.fits"):
        read_sweep(tmp_path / "nowhere.fits")


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"RA,DEC\n1,2\n" * 1000])
def test_sweep_that_is_not_fits_is_named(tmp_path, content):
    path = tmp_path / "page.fits"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"page.fits is not a complete FITS table"):
        read_sweep(path)


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
