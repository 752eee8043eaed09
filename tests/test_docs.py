"""The site builds without a warning, needs no network, and has an entry for each public name."""

import re
import subprocess
import sys
from importlib import import_module
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup
from helpers import ROOT

import ztf_sg

pytestmark = pytest.mark.slow
ROOMS = [path.parent.name for path in sorted((ROOT / "ztf_sg").glob("*/__init__.py"))]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = ["-W", "--keep-going", "-q", "-c", "docs", "-d", folder / "doctrees", ".", folder / "html"]
    run = subprocess.run([sys.executable, "-m", "sphinx", *command], cwd=ROOT, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    return folder / "html"


@pytest.fixture(scope="module")
def pages(site):
    found = {path: BeautifulSoup(path.read_text(), "html.parser") for path in sorted(site.rglob("*.html"))}
    return {path: page for path, page in found.items() if "_static" not in path.parts}


def local_links(pages):
    """Yield page, target file and anchor of each link within the site."""
    for path, page in pages.items():
        for link in page.select("a[href]"):
            url = urlsplit(link["href"])
            if not (url.scheme or url.netloc):
                yield path, (path.parent / unquote(url.path)).resolve() if url.path else path, url.fragment


def test_links_and_anchors_lead_somewhere(pages):
    ids = {path: {tag["id"] for tag in page.select("[id]")} for path, page in pages.items()}
    links = list(local_links(pages))
    assert len(links) > 1000
    assert [(str(page), str(target)) for page, target, _ in links if not target.exists()] == []
    broken = [
        (page.name, target.name, anchor)
        for page, target, anchor in links
        if anchor and target in ids and unquote(anchor) not in ids[target]
    ]
    assert broken == []


def test_the_root_leads_to_the_landing_page(site, pages):
    refresh = pages[site / "index.html"].select_one("meta[http-equiv=refresh]")["content"]
    assert (site / refresh.partition("url=")[2]) in pages


def test_pages_load_nothing_from_another_host(site, pages):
    loaded = [
        (path.name, tag.get("src") or tag.get("href"))
        for path, page in pages.items()
        for tag in page.select("script[src], link[href], img[src], iframe[src], source[src]")
    ]
    assert [(page, url) for page, url in loaded if re.match(r"(https?:)?//", url)] == []
    inline = [script.text for page in pages.values() for script in page.select("script:not([src])")]
    assert [text for text in inline if re.search(r"""(from|import\(|src\s*=)\s*["']https?://""", text)] == []
    sheets = {path.name: path.read_text() for path in (site / "_static").rglob("*.css")}
    assert [name for name, text in sheets.items() if re.search(r"url\(['\"]?(https?:)?//", text)] == []


def test_no_page_holds_a_path_of_this_machine(pages):
    assert [path.name for path, page in pages.items() if str(ROOT) in page.text] == []


def test_pages_with_maths_load_the_mathjax_of_the_site(pages):
    with_maths = {path: page for path, page in pages.items() if page.select(".math")}
    assert len(with_maths) >= 3
    for path, page in with_maths.items():
        scripts = [script["src"] for script in page.select("script[src*=mathjax]")]
        assert [(path.parent / urlsplit(script).path).exists() for script in scripts] == [True], path.name


def test_no_dollar_sign_is_left_of_maths(pages):
    for path, page in pages.items():
        for tag in page.select("pre, code, script, style, .math"):
            tag.decompose()
        assert "$" not in page.body.text, path.name


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_of_a_room_has_an_entry(room, site, pages):
    reference = [page for path, page in pages.items() if path.parent == site / "docs" / "api"]
    entries = {tag["id"] for page in reference for tag in page.select("dt[id]")}
    names = {f"ztf_sg.{room}.{name}" for name in import_module(f"ztf_sg.{room}").__all__}
    assert names - entries == set()


def test_every_name_of_the_package_leads_to_its_entry(site, pages):
    links = pages[site / "docs" / "api" / "index.html"].select("td:first-child a[href*='#ztf_sg.']")
    assert {link["href"].rpartition(".")[2] for link in links} == set(ztf_sg.__all__)
