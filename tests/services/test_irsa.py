import io
import logging
import pickle
import posixpath
import re
import socket
import traceback
import warnings

import numpy as np
import pandas as pd
import pytest
import requests
import ztfquery.io
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st
from werkzeug import Response
from ztfquery import buildurl, metasearch
from ztfquery.query import metatable_to_url

from ztf_sg.fetching import ImageChooser
from ztf_sg.fetching.cut import cut_image, read_answer
from ztf_sg.services import account, http
from ztf_sg.services.errors import (
    BadAnswer,
    MissingAccount,
    NothingFound,
    RefusedRequest,
    ServiceError,
    Unreachable,
    WrongPassword,
)
from ztf_sg.services.irsa import Irsa, cutout_url, image_url
from ztf_sg.services.retries import Retries
from ztf_sg.ztf import FILTERCODES, NAME_COLUMNS, image_name

pytestmark = pytest.mark.usefixtures("no_account")

NAME = "ztf_20190917468333_000698_zi_c03_o_q2_sciimg.fits"
PASSWORD = "p&ss w#rd%41/Ü"
PLAIN_PASSWORD = "plainsecret"
AUTH = ("someone@example.org", PASSWORD)
PATCH = {"ra": 7.5, "dec": -2.5, "size": 0.5}


def make_irsa(**options):
    return Irsa(retries=Retries(tries=3, first_wait=0.001, longest_wait=0.01, patience=9), **options)


def metadata(n=2):
    table = pd.DataFrame(1.5, index=range(n), columns=metasearch.QUERIABLE_FIELD["sci"])
    codes = {"filtercode": "zi", "imgtypecode": "o", "obsdate": "2019-09-17 11:14:24+00"}
    numbers = {"filefracday": 20190917468333, "field": 698, "ccdid": 3, "qid": 2}
    return table.assign(**codes, **numbers)


@pytest.fixture
def image():
    return metadata().iloc[0]


@pytest.fixture
def fits_bytes():
    content = io.BytesIO()
    fits.PrimaryHDU(np.zeros((20, 20), "f4")).writeto(content)
    return content.getvalue()


@pytest.fixture
def server(httpserver, monkeypatch):
    """Point ztfquery at a loopback server that knows one account."""
    monkeypatch.setattr(metasearch, "SEARCH_BASEURL", httpserver.url_for("/ibe/search/ztf/products/"))
    monkeypatch.setattr(buildurl, "DATA_BASEURL", httpserver.url_for("/ibe/data/ztf/products/"))
    monkeypatch.setattr(ztfquery.io, "LOGIN_URL", httpserver.url_for("/login.do"))

    def login(request):
        response = Response("<html>login</html>")
        passwords = (PASSWORD, PLAIN_PASSWORD)
        if request.args["josso_username"] == AUTH[0] and request.args["josso_password"] in passwords:
            response.set_cookie("JOSSO_SESSIONID", "crumbs")
        return response

    httpserver.expect_request("/login.do").respond_with_handler(login)
    return httpserver


@pytest.fixture
def unreachable(monkeypatch):
    with socket.create_server(("localhost", 0)) as closed:
        url = f"http://localhost:{closed.getsockname()[1]}/"
    monkeypatch.setattr(metasearch, "SEARCH_BASEURL", url)
    monkeypatch.setattr(buildurl, "DATA_BASEURL", url)
    monkeypatch.setattr(ztfquery.io, "LOGIN_URL", url + "login.do")


def serve_search(server, text, **kwargs):
    server.expect_request("/ibe/search/ztf/products/sci").respond_with_data(text, **kwargs)


def serve_cutout(server, content, **kwargs):
    url = f"/ibe/data/ztf/products/sci/2019/0917/468333/{NAME}"
    server.expect_request(url).respond_with_data(content, **kwargs)


def last_request(server):
    return server.log[-1][0]


def test_search_returns_the_metadata(server):
    serve_search(server, metadata(3).to_csv(index=False))
    images = make_irsa().search_images(**PATCH)
    assert list(images.columns) == metasearch.QUERIABLE_FIELD["sci"]
    assert len(images) == 3
    assert len(server.log) == 1


def test_search_asks_patch_filter_and_seeing_anonymously(server):
    serve_search(server, metadata().to_csv(index=False))
    make_irsa().search_images(**PATCH, filtercode="zr", max_seeing=np.float64(2))
    request = last_request(server)
    assert request.args["POS"] == "7.5,-2.5"
    assert request.args["SIZE"] == "0.5"
    assert request.args["WHERE"] == "filtercode='zr' and seeing<2.0 and infobits<=0"
    assert request.args["ct"] == "csv"
    assert not request.cookies


def test_search_that_finds_nothing(server):
    serve_search(server, metadata(0).to_csv(index=False))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(
            NothingFound, match=r"none of the images of RA 7.5, DEC -2.5 deg.*filtercode='zi' and seeing<1.85"
        ):
            make_irsa().search_images(**PATCH)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "\n",
        "<?xml version='1.0'?>\n<VOTABLE><INFO>bad column</INFO></VOTABLE>",
        "<!DOCTYPE html>\n<html><body>Down, for now</body></html>",
        "<html>\n<p>a, b, c</p>\n</html>",
        "<html></html>",
        b"\xff\xfe\x00binary",
        "column_name,unit\nra,deg\n",
    ],
)
def test_search_answer_that_is_no_table_of_images(server, answer):
    serve_search(server, answer)
    with pytest.raises(BadAnswer, match="IRSA answered"):
        make_irsa().search_images(**PATCH)


def test_search_of_unknown_filter_is_refused():
    with pytest.raises(ValueError, match="unknown filter code 'i'; known: zg, zr, zi"):
        make_irsa().search_images(**PATCH, filtercode="i")


def test_search_without_server(unreachable):
    with pytest.raises(Unreachable, match="the images of RA 7.5, DEC -2.5 deg"):
        make_irsa().search_images(**PATCH)


def test_cutout_url_names_product_centre_and_size(image):
    assert cutout_url(image, 7.5, -0.00001) == (
        f"{buildurl.DATA_BASEURL}sci/2019/0917/468333/{NAME}?center=7.5,-0.00001&size=20arcsec&gzip=false"
    )
    assert cutout_url(image, 7.5, 1, size=30.5).endswith("center=7.5,1&size=30.5arcsec&gzip=false")


def test_image_name_from_text_and_from_floats(image):
    assert image_name(image) == NAME
    assert image_name(image.astype(str).replace("698", "000698")) == NAME
    assert image_name(metadata().astype({"field": float, "filefracday": float, "qid": float}).iloc[0]) == NAME


@given(
    st.integers(20180101000000, 20301231999999),
    st.integers(1, 9999),
    st.integers(1, 16),
    st.integers(1, 4),
    st.sampled_from(FILTERCODES),
)
def test_name_and_url_are_those_of_ztfquery(day, field, ccd, quadrant, band):
    row = dict(zip(NAME_COLUMNS, (day, field, ccd, quadrant, band, "o"), strict=True))
    (expected,) = metatable_to_url(pd.DataFrame([row]), datakind="sci", source=buildurl.DATA_BASEURL)
    for image in (pd.Series(row), pd.DataFrame([row]).astype({"field": float, "qid": float}).iloc[0]):
        assert image_url(image) == expected
        assert image_name(image) == posixpath.basename(expected)


@pytest.mark.parametrize("call", ["search_images", "get_cutout", "get_image"])
def test_call_sends_one_request_and_is_repeated_by_retries(server, image, fits_bytes, call):
    serve_search(server, metadata().to_csv(index=False))
    serve_cutout(server, fits_bytes)
    server.expect_oneshot_request(re.compile("/ibe/.*")).respond_with_data("busy", status=503)
    service = make_irsa()
    arguments = {"search_images": (7.5, -2.5, 0.5), "get_cutout": (image, 7.5, -2.5), "get_image": (image,)}
    with pytest.raises(Unreachable, match="HTTP status 503"):
        getattr(service, call)(*arguments[call])
    assert len(server.log) == 1
    server.expect_oneshot_request(re.compile("/ibe/.*")).respond_with_data("busy", status=503)
    assert len(service.retries.call(getattr(service, call), *arguments[call]))
    assert len(server.log) == 3


def test_incomplete_metadata_row_is_refused(image):
    with pytest.raises(ValueError, match="lacks field, qid"):
        cutout_url(image.drop("field").where(lambda row: row.index != "qid"), 7.5, -2.5)


def test_cutout_is_the_file_served(server, image, fits_bytes):
    serve_cutout(server, fits_bytes)
    assert make_irsa().get_cutout(image, 7.5, -2.5) == fits_bytes
    assert last_request(server).args.to_dict() == {"center": "7.5,-2.5", "size": "20arcsec", "gzip": "false"}
    assert not last_request(server).cookies


@pytest.mark.parametrize(
    ("status", "exception"),
    [
        (401, MissingAccount),
        (403, MissingAccount),
        (404, NothingFound),
        (400, RefusedRequest),
        (429, Unreachable),
        (500, Unreachable),
        (503, Unreachable),
    ],
)
def test_cutout_error_status(server, image, status, exception):
    serve_cutout(server, "<html>no</html>", status=status)
    with pytest.raises(exception, match=f"{NAME}") as caught:
        make_irsa().get_cutout(image, 7.5, -2.5)
    assert status in (401, 403) or f"HTTP status {status}" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"<html>\n<title>Login</title></html>", b"\x1f\x8b\x08\x00"])
def test_cutout_that_is_no_fits_file(server, image, content):
    serve_cutout(server, content)
    with pytest.raises(BadAnswer, match=f"the cutout of {NAME} .* no FITS file"):
        make_irsa().get_cutout(image, 7.5, -2.5)


def test_cutout_cut_short(server, image, fits_bytes):
    serve_cutout(server, fits_bytes[:3000])
    with pytest.raises(BadAnswer, match="cut .* short at 3000 bytes"):
        make_irsa().get_cutout(image, 7.5, -2.5)


def test_cutout_without_server(unreachable, image):
    with pytest.raises(Unreachable, match=f"did not deliver the cutout of {NAME}"):
        make_irsa().get_cutout(image, 7.5, -2.5)


def test_silent_server_is_given_up(monkeypatch, image):
    monkeypatch.setattr(http, "READ_TIMEOUT", 0.1)
    with socket.create_server(("localhost", 0)) as silent:
        monkeypatch.setattr(buildurl, "DATA_BASEURL", f"http://localhost:{silent.getsockname()[1]}/")
        with pytest.raises(Unreachable, match="timed out"):
            make_irsa().get_cutout(image, 7.5, -2.5)


def test_account_logs_in_once_and_sends_its_cookie(server, image, fits_bytes):
    serve_search(server, metadata().to_csv(index=False))
    serve_cutout(server, fits_bytes)
    service = make_irsa(auth=AUTH)
    assert not server.log
    service.search_images(**PATCH)
    assert last_request(server).cookies["JOSSO_SESSIONID"] == "crumbs"
    service.get_cutout(image, 7.5, -2.5)
    assert last_request(server).cookies["JOSSO_SESSIONID"] == "crumbs"
    assert [request.path for request, _ in server.log].count("/login.do") == 1


@pytest.mark.parametrize("call", ["search_images", "get_cutout"])
def test_wrong_password_is_an_error_and_no_empty_table(server, image, call):
    serve_search(server, metadata(0).to_csv(index=False))
    service = make_irsa(auth=("someone", "wrong"))
    arguments = (7.5, -2.5, 0.5) if call == "search_images" else (image, 7.5, -2.5)
    with pytest.raises(WrongPassword, match="check user name and password"):
        getattr(service, call)(*arguments)
    assert [request.path for request, _ in server.log] == ["/login.do", "/login.do"]


@pytest.mark.parametrize(
    ("domain", "expected"), [(".ipac.caltech.edu", True), ("irsa.ipac.caltech.edu", False)]
)
def test_cookies_of_the_login_page_are_no_login(domain, expected):
    cookies = requests.cookies.RequestsCookieJar()
    cookies.set("some", "value", domain=domain)
    assert account._has_session(cookies) is expected


@pytest.mark.parametrize(
    "auth", [(), ("user",), ("user", None), ("user", ""), (None, PASSWORD), PASSWORD, b"ab"]
)
def test_account_that_would_prompt_is_refused(auth):
    with pytest.raises(ValueError, match="auth: expected a user name and a password") as caught:
        make_irsa(auth=auth)
    assert PASSWORD not in str(caught.value)


def test_password_is_in_no_repr():
    service = make_irsa(auth=AUTH)
    assert PASSWORD not in repr(service) + str(service)
    assert repr(service) == "Irsa(with account)"
    assert repr(make_irsa()) == "Irsa(anonymous)"


def everything_said(error):
    """Return the text of an exception and of all the exceptions behind it."""
    said = "".join(traceback.format_exception(error))
    while error is not None:
        said += repr(error)
        error = error.__cause__ or error.__context__
    return said


@pytest.mark.parametrize("password", [PASSWORD, PLAIN_PASSWORD])
def test_password_is_in_no_exception_and_no_log(unreachable, caplog, password):
    caplog.set_level(logging.DEBUG)
    with pytest.raises(Unreachable, match="the log-in") as caught:
        make_irsa(auth=("someone", password)).search_images(**PATCH)
    for secret in (password, requests.utils.quote(password, safe="")):
        assert secret not in everything_said(caught.value) + caplog.text


@pytest.mark.parametrize("password", [PASSWORD, PLAIN_PASSWORD])
def test_password_and_cookie_are_in_no_exception_and_no_log_after_login(server, image, caplog, password):
    caplog.set_level(logging.DEBUG)
    serve_search(server, "<html></html>")
    serve_cutout(server, "<html></html>")
    service = make_irsa(auth=(AUTH[0], password))
    said = ""
    for call in (lambda: service.search_images(**PATCH), lambda: service.get_cutout(image, 7.5, -2.5)):
        with pytest.raises(ServiceError) as caught:
            call()
        said += everything_said(caught.value)
    ours = [record.getMessage() for record in caplog.records if record.name != "werkzeug"]
    said += "".join(ours)
    assert any("GET /ibe" in message for message in ours)
    for secret in (password, requests.utils.quote(password, safe=""), "crumbs"):
        assert secret not in said


@pytest.mark.remote_data
def test_live_cutout():
    service = make_irsa()
    images = service.search_images(7.5, -2.5, 0)
    content = service.get_cutout(images.iloc[0], 7.5, -2.5)
    header = fits.getheader(io.BytesIO(content))
    assert header["ORIGIN"] == service.origin


@pytest.mark.remote_data
def test_live_cutout_has_the_pixels_of_the_whole_image():
    ra, dec = 7.5, -2.5
    service = make_irsa()
    image = ImageChooser(service).choose(ra, dec)
    cutout = read_answer(service.get_cutout(image, ra, dec), image_name(image))
    with fits.open(io.BytesIO(service.get_image(image))) as hdus:  # 38 MB
        cut = cut_image(hdus[0], WCS(hdus[0].header), ra, dec)
    np.testing.assert_array_equal(cut.data, cutout.data)
    pixels = np.array([[0, 0], [9.5, 9.5], [19, 0]])
    sky = WCS(cutout.header).all_pix2world(pixels, 0)
    np.testing.assert_allclose(WCS(cut.header).wcs_world2pix(sky, 0), pixels, rtol=0, atol=1e-6)


def test_copy_for_another_process_asks_as_patiently_with_the_same_account(tmp_path):
    retries = Retries(tries=3, patience=7.0)
    service = Irsa(auth=("somebody", "secret"), cache=tmp_path, concurrency=2, retries=retries)
    copied = pickle.loads(pickle.dumps(service))
    assert (copied.concurrency, copied.cache.directory, repr(copied)) == (2, tmp_path, repr(service))
    assert (copied.retries.tries, copied.retries.patience) == (3, 7.0)
    assert copied.session is not service.session
    assert repr(pickle.loads(pickle.dumps(Irsa()))) == repr(Irsa())
