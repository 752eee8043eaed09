"""The loopback archives are what unmodified ztfquery, pyvo and astroquery expect, and fail as they say."""

import contextlib
import io
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
import requests
import ztfquery.io
from archives import KINDS, ArchiveServer, ImageParts, point_clients_to, server
from archives.sky import HEIGHT, WIDTH
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from astroquery.exceptions import InvalidQueryError
from astroquery.xmatch import XMatch, XMatchClass
from pyvo.dal import DALQueryError, TAPService
from requests.adapters import HTTPAdapter
from urllib3.util import Retry
from ztfquery import metasearch
from ztfquery.query import ZTFQuery, metatable_to_url

from ztf_sg.services import legacy_survey

OWNER, GUEST = ("owner", "p&ss w#rd"), ("guest", "guest1")
HTTP_FAULTS = {"http429": 429, "http500": 500, "http503": 503, "html200": 200}


@pytest.fixture(scope="module")
def archive():
    accounts = {OWNER[0]: (OWNER[1], True), GUEST[0]: (GUEST[1], False)}
    with ArchiveServer(
        n_images=3,
        accounts=accounts,
        proprietary=lambda row: row.name == 2,
        stall=0.3,
        tap_polls=0,
    ) as server:
        yield server


@pytest.fixture(autouse=True)
def clients(archive, monkeypatch):
    point_clients_to(archive.url, monkeypatch.setattr)
    yield
    left = list(archive.faults._injected)
    archive.faults._injected.clear()
    assert not left


@pytest.fixture
def product(archive):
    return archive.sky.images["product"].iloc[0]


@pytest.fixture
def centre(archive):
    """Return a place well inside the first image whose cutout has 20 px."""
    row = archive.sky.images.iloc[0]
    quadrant = archive.sky.quadrants[row["product"]]
    for step in range(20):
        place = row["ra"] + step / 3600, row["dec"] + 0.001
        if quadrant.cutout_range(*place, 20, 20) == quadrant.trimmed_range(*place, 20, 20):
            return place
    raise AssertionError("no cutout of 20 px")


@pytest.fixture
def url(archive, product, centre):
    ra, dec = centre
    return f"{archive.url}/ibe/data/ztf/products/sci/{product}?center={ra},{dec}&size=20arcsec&gzip=false"


def pixels(content):
    return fits.getdata(io.BytesIO(content))


def search(radec=None, **options):
    query = metasearch.MetaQuery()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        query.query(kind="sci", radec=radec, cookies=options.pop("cookies", {}), **options)
    return query.metatable


def sign_on(user, password):
    return ztfquery.io.get_cookie(user, requests.utils.quote(password, safe=""))


def test_search_has_the_columns_of_irsa_and_finds_public_images(archive):
    images = search(sql_query="filtercode='zi' and seeing<2.5")
    assert list(images.columns) == metasearch.QUERIABLE_FIELD["sci"]
    assert len(images) == 2
    assert images["meta_id"].tolist() == archive.sky.images["meta_id"].tolist()[:2]


def test_search_by_ztfquery_with_account(monkeypatch, archive):
    monkeypatch.setattr(ztfquery.io, "_load_id_", lambda *_: (OWNER[0], requests.utils.quote(OWNER[1])))
    query = ZTFQuery()
    query.load_metadata(kind="sci", sql_query="field>0 and qid in (1,2,3,4)")
    assert len(query.metatable) == 3
    assert archive.log[-1].signed_on


def test_search_that_matches_nothing_has_a_header_line():
    images = search(sql_query="filtercode='zg'")
    assert images.empty
    assert list(images.columns) == metasearch.QUERIABLE_FIELD["sci"]


@pytest.mark.parametrize("query", ["nonsense<3", "field==", "1); drop table sci"])
def test_search_with_a_bad_condition_fails_as_xml(query):
    assert "<?xml version" in search(sql_query=query).columns[0]


def test_search_overlaps_footprints(archive):
    row = archive.sky.images.iloc[0]
    west, north = row["ra2"], row["dec1"]
    inside, outside = (west + 0.01, north - 0.01), (west - 0.01, north + 0.01)
    only = f"meta_id={row['meta_id']}"
    assert len(search(inside, sql_query=only)) == 1
    assert search(outside, sql_query=only).empty
    assert len(search(outside, size=0.03, sql_query=only)) == 1
    assert search((row["ra"] + 180, -row["dec"]), sql_query=only).empty


def test_search_for_the_most_centred_image_and_some_columns(archive):
    row = archive.sky.images.iloc[1]
    images = search((row["ra"], row["dec"]), mcen=True, colnames=["field", "meta_id"])
    assert images.to_dict("records") == [{"field": row["field"], "meta_id": row["meta_id"]}]


def test_image_is_a_whole_ztf_quadrant(archive, product):
    row = archive.sky.images.iloc[0]
    (url,) = metatable_to_url(search(sql_query=f"meta_id={row['meta_id']}"), datakind="sci")
    assert url.endswith(product)
    response = requests.get(url)
    assert int(response.headers["Content-Length"]) == len(response.content)
    with fits.open(io.BytesIO(response.content)) as hdus:
        hdus.verify("exception")
        image, header = hdus[0].data, hdus[0].header
        assert image.shape == (HEIGHT, WIDTH)
        assert np.isfinite(image).all()
        assert image.min() > 0
        assert len(header) == 266
        assert header["ORIGIN"] == "Zwicky Transient Facility"
        assert header["FILENAME"].endswith(f"c{row['ccdid']:02d}_o.fits")
        assert header["CTYPE1"] == "RA---TPV"


def test_sources_are_at_their_true_pixel_positions(archive, product):
    quadrant = archive.sky.quadrants[product]
    catalogue = archive.sky.catalogue
    stars = catalogue[(catalogue["TYPE"] == "PSF") & catalogue["FLUX_I"].between(3e3, 3e4)]
    x, y = quadrant.to_pixel(stars["RA"].to_numpy(), stars["DEC"].to_numpy())
    inside = (np.abs(x - WIDTH / 2) < 1500) & (np.abs(y - HEIGHT / 2) < 1500)
    shifts = []
    for x0, y0 in zip(x[inside], y[inside], strict=True):
        cols, rows = (int(round(v)) + np.arange(-2, 3) for v in (x0, y0))
        stamp = np.asarray(quadrant.pixels[np.ix_(rows, cols)], dtype=float) - quadrant.row["background"]
        # windowed centroid, twice what a Gaussian window as wide as the star finds
        weight = np.exp(-((cols - x0) ** 2 + ((rows - y0) ** 2)[:, None]) / 2)
        total = (weight * stamp).sum()
        shifts.append(
            [(weight * stamp * (cols - x0)).sum() / total, (weight * stamp.T * (rows - y0)).sum() / total]
        )
    assert len(shifts) > 20
    assert np.abs(np.median(shifts, axis=0)).max() < 0.05
    assert np.median(np.abs(shifts)) < 0.1


def test_cutout_is_a_slice_of_the_image(archive, product, centre, url):
    response = requests.get(url)
    assert len(response.content) == 9 * 2880
    with fits.open(io.BytesIO(response.content)) as hdus:
        cutout, header = hdus[0].data, hdus[0].header
    quadrant = archive.sky.quadrants[product]
    (x0, x1), (y0, y1) = quadrant.cutout_range(*centre, 20, 20)
    np.testing.assert_array_equal(cutout, quadrant.pixels[y0:y1, x0:x1])
    np.testing.assert_array_equal(cutout, archive.sky.cutout(product, *centre))
    x, y = WCS(header).wcs_world2pix(*centre, 0)
    assert 8.7 < x < 9.73
    assert 8.7 < y < 9.73
    np.testing.assert_allclose([x + x0, y + y0], quadrant.to_pixel(*centre), atol=1e-6)
    whole = fits.Header.fromstring(quadrant.header)
    changed = {name for name in set(whole) if str(whole[name]) != str(header[name])}
    assert changed <= {"NAXIS1", "NAXIS2", "CRPIX1", "CRPIX2"}


def test_some_cutouts_have_an_extra_row_and_those_at_the_edge_fewer(archive, product):
    quadrant = archive.sky.quadrants[product]
    rng = np.random.default_rng(0)
    places = quadrant.wcs.wcs_pix2world(rng.uniform(20, 3050, (2000, 2)), 0)
    widths = np.array([[b - a for a, b in quadrant.cutout_range(*place, 20, 20)] for place in places])
    assert set(widths.ravel()) == {20, 21}
    assert 0.01 < (widths == 21).mean() < 0.03
    (corner,) = quadrant.wcs.wcs_pix2world([[3, 2]], 0)
    assert archive.sky.cutout(product, *corner).shape[0] < 15


@pytest.fixture
def part(archive, product, centre, tmp_path, monkeypatch):
    """Serve 300 x 260 px of the first image; return the server and the ranges of these pixels."""
    quadrant = archive.sky.quadrants[product]
    x, y = (int(v) for v in quadrant.to_pixel(*centre))
    ranges = (x - 100, x + 200), (y - 200, y + 60)
    (tmp_path / Path(product).name).write_bytes(quadrant.cutout_bytes(ranges))
    with ArchiveServer(sky=ImageParts(tmp_path)) as server:
        point_clients_to(server.url, monkeypatch.setattr)
        yield server, ranges


def test_part_of_an_image_has_the_metadata_of_the_whole(archive, product, part):
    row = archive.sky.images.iloc[0]
    (found,) = search((row["ra"], row["dec"]), size=0.1).to_dict("records")
    assert found["seeing"] == pytest.approx(row["seeing"], abs=2e-3)
    for name in ("filefracday", "field", "ccdid", "qid", "filtercode", "crpix1", "crpix2", "infobits"):
        assert found[name] == row[name]
    for name in ("ra", "dec", "crval1", "cd11", "ra1", "dec1", "ra2", "dec2", "ra3", "dec3", "ra4", "dec4"):
        assert found[name] == pytest.approx(row[name], abs=0.01)
    (url,) = metatable_to_url(search(sql_query="seeing<5"), datakind="sci")
    assert url.endswith(product)


def test_cutouts_of_a_part_are_those_of_the_whole_image_and_end_where_it_ends(archive, url, centre, part):
    server, ((left, _), (bottom, top)) = part
    from_part = url.replace(archive.url, server.url)
    whole, cutout = (fits.open(io.BytesIO(requests.get(where).content))[0] for where in (url, from_part))
    np.testing.assert_array_equal(cutout.data, whole.data)
    for name in ("CRPIX1", "CRPIX2", "CRVAL1", "CD1_1", "PV1_2", "FILENAME", "QID", "SEEING"):
        assert cutout.header[name] == whole.header[name]
    wcs = next(iter(archive.sky.quadrants.values())).wcs
    at = {name: wcs.wcs_pix2world(left + 50, y, 0) for name, y in (("edge", top - 3), ("off", top + 20))}
    answers = {
        name: requests.get(from_part.replace("center={},{}".format(*centre), f"center={ra},{dec}"))
        for name, (ra, dec) in at.items()
    }
    assert pixels(answers["edge"].content).shape in {(12, 20), (13, 20), (12, 21), (13, 21)}
    assert answers["off"].status_code == 400


def test_whole_image_of_a_part_has_no_other_pixels(product, archive, part):
    server, ((x0, x1), (y0, y1)) = part
    image = pixels(requests.get(f"{server.url}/ibe/data/ztf/products/sci/{product}").content)
    assert image.shape == (HEIGHT, WIDTH)
    np.testing.assert_array_equal(image[y0:y1, x0:x1], archive.sky.quadrants[product].pixels[y0:y1, x0:x1])
    assert np.isfinite(image).sum() == (x1 - x0) * (y1 - y0)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("{product}?center=9,-1&size=20arcsec", 400),
        ("{product}?center=185,1&size=20arcsec", 400),
        ("{product}?center=here&size=20arcsec", 400),
        ("2019/0101/000000/ztf_20190101000000_000001_zi_c01_o_q1_sciimg.fits", 404),
    ],
)
def test_products_that_are_not_there(archive, product, path, status):
    response = requests.get(f"{archive.url}/ibe/data/ztf/products/sci/{path.format(product=product)}")
    assert response.status_code == status


def test_sign_on_gives_a_cookie_only_for_the_right_password():
    assert sign_on(*OWNER)["JOSSO_SESSIONID"]
    assert not sign_on(OWNER[0], "wrong")
    assert not sign_on("nobody", "wrong")


def test_proprietary_images_need_an_account_with_rights(archive):
    row = archive.sky.images.iloc[2]
    centre = f"?center={row['ra']},{row['dec']}&size=20arcsec"
    url = f"{archive.url}/ibe/data/ztf/products/sci/{row['product']}{centre}"
    assert requests.get(url).status_code == 401
    assert requests.get(url, cookies=sign_on(*GUEST)).status_code == 403
    cookies = sign_on(*OWNER)
    assert requests.get(url, cookies=cookies).status_code == 200
    assert len(search(sql_query="qid>0", cookies=sign_on(*GUEST))) == 2
    assert len(search(sql_query="qid>0", cookies=cookies)) == 3
    archive.expire_sessions()
    assert requests.get(url, cookies=cookies).status_code == 401
    assert len(search(sql_query="qid>0", cookies=cookies)) == 2


def tap():
    return TAPService(legacy_survey.TAP_URL)


@pytest.mark.parametrize("mode", ["run_sync", "run_async"])
def test_tap_answers_adql(archive, mode):
    query = "SELECT TOP 5 ra, type, flux_r FROM ls_dr10.tractor WHERE type = 'PSF' ORDER BY ra"
    table = getattr(tap(), mode)(query).to_table()
    stars = archive.sky.catalogue.query("TYPE == 'PSF'").sort_values("RA")
    assert len(table) == 5
    assert table["ra"][0] == stars["RA"].iloc[0]
    assert set(table["type"]) == {"PSF"}
    assert table["flux_r"].dtype == np.float32


def test_tap_counts_duplicates_of_both_releases():
    for release in ("ls_dr9", "ls_dr10"):
        query = f"SELECT brick_primary, count(*) AS n FROM {release}.tractor GROUP BY brick_primary"
        table = tap().run_sync(query).to_table()
        assert table["brick_primary"].tolist() == [0, 1]
        assert 0 < table["n"][0] < 0.02 * table["n"][1]


def test_tap_cuts_at_maxrec_and_says_so(archive):
    data = {"QUERY": "SELECT ra FROM ls_dr9.tractor", "LANG": "ADQL", "MAXREC": 7}
    content = requests.post(f"{archive.url}/tap/sync", data).content
    assert len(Table.read(io.BytesIO(content), format="votable")) == 7
    assert b'<INFO name="QUERY_STATUS" value="OVERFLOW"/>' in content


def test_tap_reports_a_bad_query():
    for run in (tap().run_sync, tap().run_async):
        with pytest.raises(DALQueryError, match="no such column: flux_q"):
            run("SELECT flux_q FROM ls_dr9.tractor")


def test_tap_aborts_what_takes_too_long(archive, monkeypatch):
    monkeypatch.setattr(archive.tap, "area_limit", 20)
    query = "SELECT ra FROM ls_dr9.tractor WHERE ra BETWEEN 5.0 AND 10.0 AND dec BETWEEN -5.0 AND 0.0"
    job = tap().submit_job(query)
    assert job.phase == "PENDING"
    assert job.run().phase == "ABORTED"
    with pytest.raises(DALQueryError, match="time limit"):
        job.raise_if_error()


def test_tap_job_takes_its_time(archive):
    data = {"QUERY": "SELECT 1 AS one", "PHASE": "RUN"}
    job = requests.post(f"{archive.url}/tap/async", data, allow_redirects=False).headers["Location"]
    archive.tap._jobs[job.rpartition("/")[2]]["polls"] = 2
    phases = [requests.get(f"{job}/phase").text for _ in range(3)]
    assert phases == ["QUEUED", "EXECUTING", "COMPLETED"]


def test_tap_result_is_whole_again_after_a_fault(archive):
    job = tap().submit_job("SELECT 1 AS one").run()
    assert job.phase == "COMPLETED"
    archive.inject("truncated")
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        requests.get(job.result_uri)
    assert job.fetch_result().to_table()["one"].tolist() == [1]


def crossmatch(table, radius=1):
    upload = Table.from_pandas(table[["RA", "DEC"]].assign(number=np.arange(len(table))))
    return XMatch.query(
        upload, "vizier:I/355/gaiadr3", radius * u.arcsec, colRA1="RA", colDec1="DEC", cache=False
    )


@pytest.fixture
def known_tables(monkeypatch):
    """Keep astroquery from storing the list of tables on disk."""
    monkeypatch.setattr(XMatchClass, "get_available_tables", lambda _: ["I/355/gaiadr3"])


def test_xmatch_finds_the_gaia_sources_of_stars(archive, known_tables):
    catalogue = archive.sky.catalogue
    stars = catalogue[(catalogue["TYPE"] == "PSF") & (catalogue["FLUX_R"] > 10 ** (0.4 * 5))]
    found = crossmatch(stars)
    assert found.colnames[:4] == ["angDist", "RA", "DEC", "number"]
    assert set(found["number"]) == set(range(len(stars)))
    assert found["Source"].dtype == np.int64
    assert found["Source"].min() > 2**53
    assert found["pmRA"].mask.any()
    total = np.hypot(found["pmRA"], found["pmDE"]) / found["e_pmRA"]
    assert 0.9 < (total > 5).mean() < 1


def test_xmatch_finds_few_galaxies(archive, known_tables):
    galaxies = archive.sky.catalogue.query("TYPE not in ('PSF', 'DUP') and FLUX_R > 0")
    found = crossmatch(galaxies, radius=0.5)
    assert 0.02 < len(found) / len(galaxies) < 0.06
    moving = np.hypot(found["pmRA"], found["pmDE"]) > 5 * found["e_pmRA"]
    assert 0.002 < moving.sum() / len(galaxies) < 0.02


def test_xmatch_lists_and_refuses_tables(archive):
    assert "I/355/gaiadr3" in requests.get(f"{XMatchClass.URL}/tables").text.splitlines()
    files = {"cat1": ("cat1.csv", "ra,dec\n1,2\n")}
    data = {"cat2": "vizier:x", "distMaxArcsec": 1, "colRA1": "ra", "colDec1": "dec"}
    response = requests.post(XMatchClass.URL, data, files=files)
    assert response.status_code == 400
    assert "unknown catalogue" in response.text


def test_xmatch_error_reaches_astroquery(monkeypatch):
    monkeypatch.setattr(XMatchClass, "is_table_available", lambda self, name: isinstance(name, str))
    upload = Table({"ra": [1.0], "dec": [2.0]})
    with pytest.raises(InvalidQueryError, match="unknown catalogue"):
        XMatch.query(upload, "vizier:no/such", 1 * u.arcsec, colRA1="ra", colDec1="dec", cache=False)


def test_every_fault_is_counted_logged_and_gone_after_once(archive, url):
    for kind in KINDS:
        if kind in ("timeout", "slow_drip", "refused"):
            continue
        before = archive.fault_counts[kind]
        archive.inject(kind)
        with contextlib.suppress(requests.RequestException):
            requests.get(url)
        assert archive.fault_counts[kind] == before + 1
        assert archive.log[-1].fault == kind
        assert requests.get(url).status_code == 200


def test_refused_closes_the_port_for_a_while(archive, url, monkeypatch):
    monkeypatch.setattr(server, "OUTAGE", 1.0)
    archive.inject("refused")
    with pytest.raises(requests.ConnectionError, match="reset"):
        requests.get(url)
    with pytest.raises(requests.ConnectionError, match="refused"):
        requests.get(url)
    with requests.Session() as patient:
        patient.mount("http://", HTTPAdapter(max_retries=Retry(connect=9, backoff_factor=0.2)))
        assert patient.get(url).status_code == 200


@pytest.mark.parametrize("kind", ["reset", "reset_midway"])
def test_reset_connection(archive, url, kind):
    archive.inject(kind)
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError), match="reset"):
        requests.get(url)


def test_timeout_is_silent_and_blocks_nobody(archive, url, monkeypatch):
    monkeypatch.setattr(archive, "stall", 1.0)
    archive.inject("timeout")
    with ThreadPoolExecutor(1) as pool:
        start = time.monotonic()
        silent = pool.submit(requests.get, url)
        while not archive.log or archive.log[-1].fault != "timeout":
            assert time.monotonic() - start < 60
            time.sleep(0.01)
        assert requests.get(url).status_code == 200
        assert not silent.done()
        with pytest.raises(requests.ConnectionError):
            silent.result()
    assert time.monotonic() - start >= 1.0


def test_slow_drip_comes_in_small_pieces_and_not_whole(archive, url):
    archive.inject("slow_drip")
    start = time.monotonic()
    with requests.get(url, stream=True) as response:
        assert int(response.headers["Content-Length"]) == 25920
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            response.content  # noqa: B018
    assert 1.1 < time.monotonic() - start < 60, "whole, it would take 130 s"


def test_truncated_body_is_half_of_what_is_announced(archive, url):
    archive.inject("truncated")
    response = requests.get(url, stream=True)
    assert response.headers["Content-Length"] == "25920"
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="12960 bytes read, 12960 more"):
        response.content  # noqa: B018


@pytest.mark.parametrize(("kind", "status"), HTTP_FAULTS.items())
def test_error_pages(archive, url, kind, status):
    archive.inject(kind)
    response = requests.get(url)
    assert response.status_code == status
    assert response.headers["Content-Type"].startswith("text/html")
    assert ("Retry-After" in response.headers) == (status == 429)


def test_expired_session(archive, url):
    cookies = sign_on(*OWNER)
    archive.inject("expired_session", times=2)
    assert requests.get(url, cookies=cookies).status_code == 401
    assert requests.get(url).status_code == 200
    assert requests.get(url, cookies=cookies).status_code == 401
    assert requests.get(url, cookies=sign_on(*OWNER)).status_code == 200


@pytest.mark.parametrize(("kind", "side"), [("cutout_5", 5), ("cutout_19", 19), ("cutout_21", 21)])
def test_cutouts_of_other_sizes(archive, product, centre, url, kind, side):
    archive.inject(kind)
    image = pixels(requests.get(url).content)
    assert image.shape == (side, side)
    true = archive.sky.cutout(product, *centre)
    np.testing.assert_array_equal(image[-20:, -20:] if side == 21 else image, true[:side, :side])


def test_nan_pixels(archive, product, url):
    archive.inject("nan_pixels", times=2)
    assert np.isnan(pixels(requests.get(url).content)).any()
    assert np.isnan(pixels(requests.get(url.partition("?")[0]).content)).any()


def test_corrupt_fits_is_no_fits_of_the_right_length(archive, url):
    archive.inject("corrupt_fits", times=6)
    contents = [requests.get(url).content for _ in range(6)]
    assert {content.startswith(b"SIMPLE") for content in contents} == {True, False}
    for content in contents:
        assert len(content) == 25920
        with pytest.raises((OSError, KeyError, ValueError)), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pixels(content)


@pytest.mark.parametrize("kind", ["wrong_position", "wrong_image"])
def test_wrong_cutouts_are_valid_and_say_what_they_are(archive, centre, url, kind):
    true = fits.open(io.BytesIO(requests.get(url).content))[0]
    archive.inject(kind)
    wrong = fits.open(io.BytesIO(requests.get(url).content))[0]
    assert (true.header["FILENAME"] == wrong.header["FILENAME"]) == (kind == "wrong_position")
    distance = np.hypot(*(WCS(wrong.header).wcs_world2pix(*centre, 0) - np.array([9.5, 9.5])))
    assert (distance < 2) == (kind == "wrong_image")
    assert not np.array_equal(true.data, wrong.data)


def test_faults_by_chance_are_those_asked_for(url):
    with ArchiveServer(
        n_images=1, fault_rate=0.5, kinds=["http500", "html200"], where=lambda request: "sci" in request.path
    ) as server:
        place = f"{server.url}/ibe/search/ztf/products/sci?WHERE=qid>0&ct=csv"
        statuses = [requests.get(place).status_code for _ in range(60)]
        assert requests.get(f"{server.url}/tap/async/none").status_code == 404
    assert 15 < sum(server.fault_counts.values()) < 45
    assert statuses.count(500) == server.fault_counts["http500"] > 0
    assert set(server.fault_counts) == {"http500", "html200"}


def test_stopped_server_is_gone():
    with ArchiveServer(n_images=1) as server, requests.Session() as session:
        session.get(f"{server.url}/tap/none")
    with pytest.raises(requests.ConnectionError):
        session.get(f"{server.url}/tap/none")


@pytest.mark.slow
def test_process_of_its_own(product, centre):
    folder = Path(__file__).parent / "archives"
    command = [sys.executable, folder, "--images", "3", "--fault-rate", "1", "--kinds", "cutout_5"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().strip()
        query = "?center={},{}&size=20arcsec".format(*centre)
        cutout = requests.get(f"{url}/ibe/data/ztf/products/sci/{product}{query}").content
        truth = requests.get(f"{url}/_truth/{product}{query}").content
        assert requests.get(f"{url}/_fault_counts").json() == {"cutout_5": 1}
        (record,) = requests.get(f"{url}/_log").json()
        process.stdin.close()
        assert process.wait(60) == 0
    assert record["fault"] == "cutout_5"
    np.testing.assert_array_equal(pixels(cutout), pixels(truth)[:5, :5])
