"""A fetch from IRSA, with all that may befall it: faults, kills, Ctrl-C, outages. IRSA is on loopback."""

import json
import logging
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote, quote_plus

import numpy as np
import pandas as pd
import pytest
import ztfquery.io
from archives import KINDS
from archives.ibe import html
from astropy.io import fits
from astropy.wcs import WCS
from ztfquery import buildurl, metasearch

import ztf_sg
from ztf_sg import load_cutouts
from ztf_sg.fetching import fetch as cutouts
from ztf_sg.fetching.choose import ONE_BY_ONE, REQUEST_COST, WHOLE, ImageChooser, plan_downloads
from ztf_sg.fetching.fetch import IMAGE_FOLDER, FetchStopped, fetch_cutouts
from ztf_sg.fetching.manifest import read_manifest
from ztf_sg.services import http
from ztf_sg.services.errors import ServiceDown, Unreachable, WrongPassword
from ztf_sg.services.irsa import Irsa
from ztf_sg.services.retries import Retries

ONE_IMAGE, TWO_IMAGES = 1.4, 1.5  # limits of the seeing that leave so many public images [arcsec]
# one kind of fault of each sort: no answer, slow, cut short, an error page, a refusal, a file of no use
WHOLE_IMAGE_KINDS = ["reset", "slow_drip", "truncated", "http503", "expired_session", "corrupt_fits"]
KEPT = ("NAXIS1", "NAXIS2", "CRPIX1", "CRPIX2")

pytestmark = pytest.mark.slow


def make_irsa(tries=6, patience=30.0, **options):
    retries = Retries(tries=tries, first_wait=0.02, longest_wait=0.1, patience=patience)
    return Irsa(retries=retries, **options)


def fetch(positions, directory, service=None, **options):
    options = {"max_seeing": ONE_IMAGE, "request_cost": 0, "progress": False} | options
    return fetch_cutouts(positions, directory, service or make_irsa(), **options)


@pytest.fixture
def impatient(request, archive, monkeypatch):
    """Have the client give up soon, and before the archive does, if the archive keeps it waiting at all."""
    callspec = getattr(request.node, "callspec", None)
    if callspec is None or callspec.params["kind"] in ("timeout", "slow_drip"):
        monkeypatch.setattr(http, "READ_TIMEOUT", 0.5)
        monkeypatch.setattr(archive, "stall", 0.8)


@pytest.fixture
def stars(archive_positions):
    return archive_positions[0]


@pytest.fixture
def uneven_stars(stars):
    """Return 36 stars: 26 on one image, which are cheaper cut from the whole of it, and 10 on another."""
    return pd.concat([stars[stars["RA"] < 5.65].head(26), stars[stars["RA"] > 5.845].head(10)])


@pytest.fixture
def galaxies(archive_positions):
    return archive_positions[1]


def kinds_of(manifest):
    return Counter(status.split(":")[0] for status in manifest["status"])


def names_of(directory, suffix=""):
    return {path.name for path in Path(directory).rglob(f"*{suffix}") if path.is_file()} - {".lock"}


def requests_for(archive, what):
    """Return the log of the archive's "search", "login", "image" or "cutout" requests."""
    path = {"search": "/ibe/search", "login": "/account"}.get(what, "/ibe/data")
    records = [record for record in archive.log if record.path.startswith(path)]
    if what in ("image", "cutout"):
        records = [record for record in records if ("center" in record.args) == (what == "cutout")]
    return records


def for_cutouts(request):
    return "center" in request.args


def for_data(request):
    return "/data/" in request.path


def assert_true_cutouts(archive, directory, manifest):
    """Compare the pixels of all saved cutouts with what they should be."""
    saved = manifest[manifest["status"] == "saved"]
    for row in saved.itertuples():
        pixels = fits.getdata(directory / row.file)
        np.testing.assert_array_equal(pixels, archive.sky.cutout(row.source_image, row.RA, row.DEC), row.file)


class TestMethods:
    def test_whole_image_and_cutout_service_give_the_same(self, archive, stars, tmp_path):
        archive.inject("cutout_21", times=3)
        one_by_one = fetch(stars.head(30), tmp_path / "one", request_cost=0)
        assert len(requests_for(archive, "cutout")) == 30
        assert not requests_for(archive, "image")
        archive.log.clear()
        whole = fetch(stars.head(30), tmp_path / "whole", request_cost=np.inf)
        assert len(requests_for(archive, "image")) == 1
        assert not requests_for(archive, "cutout")
        assert one_by_one.equals(whole)
        assert set(whole["status"]) == {"saved"}
        for name in whole["file"]:
            self.assert_equal(*(fits.open(tmp_path / folder / name)[0] for folder in ("one", "whole")))

    def assert_equal(self, first, second):
        assert first.data.shape == (20, 20)
        np.testing.assert_array_equal(first.data, second.data)
        pixels = np.array([[0, 0], [9.5, 9.5], [19, 0], [3.25, 17.5]])
        sky = WCS(first.header).all_pix2world(pixels, 0)
        np.testing.assert_allclose(WCS(second.header).wcs_world2pix(sky, 0), pixels, rtol=0, atol=1e-6)
        assert "PV1_7" in first.header
        assert list(first.header) == list(second.header)
        for card, other in zip(first.header.cards, second.header.cards, strict=True):
            if card.keyword in KEPT:
                assert card.value == pytest.approx(other.value, abs=1e-6), card.keyword
            else:
                assert (card.value, card.comment) == (other.value, other.comment), card.keyword

    def test_saved_pixels_are_true_on_every_image(self, archive, stars, galaxies, tmp_path):
        manifest = fetch([stars.head(20), galaxies.head(20)], tmp_path, max_seeing=1.85)
        assert kinds_of(manifest) == {"saved": 40}
        assert manifest["source_image"].nunique() > 1
        assert_true_cutouts(archive, tmp_path, manifest)

    def test_many_objects_on_an_image_have_it_fetched_whole_by_default(self, archive, stars, tmp_path):
        manifest = fetch_cutouts(stars.head(25), tmp_path, make_irsa(), max_seeing=ONE_IMAGE, progress=False)
        assert kinds_of(manifest) == {"saved": 25}
        assert [len(requests_for(archive, what)) for what in ("search", "image", "cutout")] == [1, 1, 0]

    def test_few_objects_on_an_image_are_fetched_one_by_one_by_default(self, archive, stars, tmp_path):
        fetch_cutouts(stars.head(5), tmp_path, make_irsa(), max_seeing=ONE_IMAGE, progress=False)
        assert [len(requests_for(archive, what)) for what in ("search", "image", "cutout")] == [1, 0, 5]

    def test_cutouts_of_whole_images_tell_whether_a_trail_crosses_them(self, archive, stars, tmp_path):
        def find_trails(image, header):
            mask = np.zeros(image.shape, dtype=bool)
            x, y = WCS(header).all_world2pix(*stars[["RA", "DEC"]].to_numpy()[0], 0)
            mask[int(y), int(x) - 5 : int(x)] = True
            return SimpleNamespace(mask=mask)

        options = {"max_seeing": ONE_IMAGE, "find_trails": find_trails}
        manifest = fetch(stars.head(4), tmp_path / "whole", request_cost=np.inf, **options)
        assert manifest["trail"].tolist() == ["yes", "no", "no", "no"]
        cards = [fits.getval(tmp_path / "whole" / name, "TRAIL") for name in manifest["file"]]
        assert cards == [True, False, False, False]
        assert load_cutouts(tmp_path / "whole").shape == (4,)
        (tmp_path / "whole" / "manifest.csv").unlink()
        again = fetch(stars.head(4), tmp_path / "whole", request_cost=0, **options)
        assert again["trail"].tolist() == ["yes", "no", "no", "no"], "those that a killed run did not list"
        one_by_one = fetch(stars.head(4), tmp_path / "one", request_cost=0, **options)
        assert set(one_by_one["trail"]) == {""}

    def test_single_object_never_has_its_image_fetched_whole(self, archive, stars, tmp_path):
        fetch(stars.head(1), tmp_path, request_cost=np.inf)
        assert [len(requests_for(archive, what)) for what in ("image", "cutout")] == [0, 1]

    def test_stars_and_galaxies_share_a_whole_image(self, archive, stars, galaxies, tmp_path):
        manifest = fetch([stars.head(3), galaxies.head(3)], tmp_path, request_cost=np.inf)
        assert kinds_of(manifest) == {"saved": 6}
        assert len(requests_for(archive, "image")) == 1
        assert not requests_for(archive, "cutout")

    def test_plan_says_what_is_sent_then(self, archive, uneven_stars, tmp_path):
        chooser = ImageChooser(make_irsa(), max_seeing=TWO_IMAGES)
        plan = plan_downloads(chooser.choose_each(uneven_stars))
        assert chooser.searches == len(requests_for(archive, "search")) == 1
        assert set(plan["method"]) == {WHOLE, ONE_BY_ONE}, "so that both methods are seen"
        archive.log.clear()
        fetch(uneven_stars, tmp_path, max_seeing=TWO_IMAGES, request_cost=REQUEST_COST)
        assert len(requests_for(archive, "image")) == (plan["method"] == WHOLE).sum()
        assert len(requests_for(archive, "cutout")) == plan["requests"][plan["method"] == ONE_BY_ONE].sum()
        sent = sum(record.sent for record in archive.log if "/data/" in record.path)
        assert sent == pytest.approx(plan["bytes"].sum(), rel=1e-3)

    def test_search_of_a_patch_is_kept_for_the_next_run(self, archive, stars, tmp_path):
        for run in ("first", "second"):
            fetch(stars.head(3), tmp_path / run, make_irsa(cache=tmp_path / "cache"))
        assert len(requests_for(archive, "search")) == 1
        assert len(requests_for(archive, "cutout")) == 6

    @pytest.mark.parametrize("concurrency", [1, 3])
    def test_no_more_requests_at_a_time_than_allowed(
        self, archive, stars, tmp_path, monkeypatch, concurrency
    ):
        under_way, most, change, respond = 0, 0, threading.Condition(), archive.respond

        def counting(handler):
            nonlocal under_way, most
            with change:
                under_way += 1
                most = max(most, under_way)
                change.notify_all()
                if handler.path.startswith("/ibe/data"):
                    change.wait_for(lambda: most >= concurrency, timeout=30)
            time.sleep(0.02)
            with change:  # before the answer is out: the next request may follow at once
                under_way -= 1
            respond(handler)

        monkeypatch.setattr(archive, "respond", counting)
        fetch(stars.head(12), tmp_path, make_irsa(concurrency=concurrency))
        assert most == concurrency


class TestFaults:
    @pytest.mark.usefixtures("impatient")
    @pytest.mark.parametrize("kind", KINDS)
    def test_once_does_no_harm_to_a_cutout(self, archive, stars, tmp_path, owner, kind):
        archive.inject(kind, where=for_cutouts)
        service = make_irsa(auth=owner if kind == "expired_session" else None)
        manifest = fetch(stars.head(3), tmp_path, service)
        assert kinds_of(manifest) == {"saved": 3}
        assert_true_cutouts(archive, tmp_path, manifest)
        assert archive.fault_counts == {kind: 1}
        assert names_of(tmp_path) == {*manifest["file"], "manifest.csv"}

    @pytest.mark.usefixtures("impatient")
    @pytest.mark.parametrize("kind", WHOLE_IMAGE_KINDS)
    def test_once_does_no_harm_to_a_whole_image(self, archive, stars, tmp_path, kind, owner):
        archive.inject(kind, where=lambda request: for_data(request) and not for_cutouts(request))
        service = make_irsa(auth=owner if kind == "expired_session" else None)
        manifest = fetch(stars.head(4), tmp_path, service, request_cost=np.inf)
        assert kinds_of(manifest) == {"saved": 4}
        assert_true_cutouts(archive, tmp_path, manifest)
        assert archive.fault_counts == {kind: 1}
        assert names_of(tmp_path) == {*manifest["file"], "manifest.csv"}

    @pytest.mark.usefixtures("impatient")
    @pytest.mark.parametrize("kind", ["http503", "truncated", "corrupt_fits"])
    def test_whole_image_that_never_comes_is_made_up_for_by_cutouts(self, archive, stars, tmp_path, kind):
        archive.faults.rate, archive.faults.kinds = 1.0, (kind,)
        archive.faults.where = lambda request: for_data(request) and not for_cutouts(request)
        manifest = fetch(stars.head(4), tmp_path, make_irsa(tries=2), request_cost=np.inf)
        assert kinds_of(manifest) == {"saved": 4}
        assert_true_cutouts(archive, tmp_path, manifest)
        assert [len(requests_for(archive, what)) for what in ("image", "cutout")] == [2, 4]

    def spoil_second(self, archive, stars, kind):
        """Have every request for the second star meet a fault."""
        start = f"{stars['RA'].iloc[1]}"
        archive.faults.rate, archive.faults.kinds = 1.0, (kind,)
        archive.faults.where = lambda request: request.args.get("center", "").startswith(start)

    @pytest.mark.parametrize("kind", ["cutout_19", "nan_pixels", "wrong_position", "wrong_image"])
    def test_useless_cutout_is_skipped_and_not_asked_for_again(self, archive, stars, tmp_path, kind):
        self.spoil_second(archive, stars, kind)
        manifest = fetch(stars.head(3), tmp_path, make_irsa(tries=2))
        assert [status.split(":")[0] for status in manifest["status"]] == ["saved", "skipped", "saved"]
        assert_true_cutouts(archive, tmp_path, manifest)
        assert names_of(tmp_path, ".fits") == {"star_0.fits", "star_2.fits"}
        archive.faults.rate = 0.0
        archive.log.clear()
        assert fetch(stars.head(3), tmp_path).equals(read_manifest(tmp_path)[list(manifest.columns)])
        assert not archive.log

    @pytest.mark.usefixtures("impatient")
    @pytest.mark.parametrize("kind", ["reset", "timeout", "truncated", "http503", "html200"])
    def test_cutout_that_never_comes_has_failed_and_is_asked_for_again(self, archive, stars, tmp_path, kind):
        self.spoil_second(archive, stars, kind)
        manifest = fetch(stars.head(3), tmp_path, make_irsa(tries=2))
        assert [status.split(":")[0] for status in manifest["status"]] == ["saved", "failed", "saved"]
        assert archive.fault_counts[kind] == 4, "two tries now, two when the rest is done"
        assert names_of(tmp_path, ".fits") == {"star_0.fits", "star_2.fits"}
        archive.faults.rate = 0.0
        archive.log.clear()
        manifest = fetch(stars.head(3), tmp_path)
        assert kinds_of(manifest) == {"saved": 3}
        assert len(requests_for(archive, "cutout")) == 1
        assert_true_cutouts(archive, tmp_path, manifest)

    def test_corrupt_files_are_never_saved(self, archive, stars, tmp_path):
        self.spoil_second(archive, stars, "corrupt_fits")
        manifest = fetch(stars.head(3), tmp_path, make_irsa(tries=2))
        assert kinds_of(manifest)["saved"] == 2
        assert names_of(tmp_path, ".fits") == {"star_0.fits", "star_2.fits"}

    def test_cutouts_of_an_image_that_is_not_there_have_failed_as_it_may_come_later(
        self, archive, stars, tmp_path, monkeypatch
    ):
        image = archive.sky.images.query("seeing < 1.4")["product"].iloc[0]
        monkeypatch.delitem(archive.sky.quadrants, image)
        manifest = fetch(stars.head(3), tmp_path)
        assert kinds_of(manifest) == {"failed": 3}
        assert manifest["status"].str.contains("404").all()
        assert len(requests_for(archive, "cutout")) == 6, "once now, once when the rest is done"

    def test_skipped_cutouts_are_made_up_for_by_later_rows(self, archive, stars, tmp_path):
        self.spoil_second(archive, stars, "cutout_19")
        manifest = fetch(stars, tmp_path, make_irsa(tries=2), n_cutouts=3)
        assert manifest["file"].tolist() == [f"star_{number}.fits" for number in range(4)]
        assert kinds_of(manifest) == {"saved": 3, "skipped": 1}

    def test_useless_cutouts_do_not_count_as_an_outage(self, archive, stars, tmp_path):
        archive.faults.rate, archive.faults.kinds, archive.faults.where = 1.0, ("cutout_19",), for_cutouts
        manifest = fetch(stars.head(40), tmp_path, make_irsa(tries=2, patience=0.3))
        assert kinds_of(manifest) == {"skipped": 40}

    def test_session_that_ends_again_and_again_is_no_lack_of_rights(self, archive, stars, tmp_path, owner):
        archive.inject("expired_session", times=2, where=for_cutouts)
        manifest = fetch(stars.head(3), tmp_path, make_irsa(auth=owner, concurrency=1))
        assert kinds_of(manifest) == {"saved": 3}


class TestSecrets:
    @pytest.mark.usefixtures("impatient")
    def test_password_is_nowhere_after_a_faulty_run(
        self, archive, stars, galaxies, tmp_path, owner, caplog, capsys
    ):
        caplog.set_level(logging.DEBUG)
        kept = StringIO()
        handler = logging.StreamHandler(kept)
        logging.getLogger().addHandler(handler)
        archive.faults.rate = 0.3
        service = make_irsa(auth=owner, cache=tmp_path / "cache", tries=12)
        try:
            options = {"max_seeing": TWO_IMAGES, "progress": True}
            fetch(stars.head(30), tmp_path / "cutouts", service, **options)
            fetch(galaxies.head(8), tmp_path / "cutouts", service, request_cost=np.inf, **options)
        finally:
            logging.getLogger().removeHandler(handler)
        assert sum(archive.fault_counts.values()) > 8
        assert requests_for(archive, "login")
        output = capsys.readouterr()
        said = [output.out, output.err, caplog.text, kept.getvalue(), repr(service), str(vars(service))]
        assert "GET /ibe" in caplog.text, "the log of urllib3 is there"
        assert "cutouts of star" in output.err
        files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
        assert len(files) > 35
        password = owner[1]
        for secret in (password, quote(password), quote(password, safe=""), quote_plus(password)):
            assert not any(secret in text for text in said)
            assert not any(secret.encode() in content for content in files)

    def test_wrong_password_ends_the_run_with_a_summary_and_is_not_sent_again(
        self, archive, stars, tmp_path, owner
    ):
        service = make_irsa(auth=(owner[0], "wrong&secret"))
        for _ in range(2):
            with pytest.raises(WrongPassword, match="So far 0 saved, 0 skipped, 0 failed, 5 to go") as caught:
                fetch(stars.head(5), tmp_path, service)
            assert "wrong&secret" not in str(caught.value)
        assert len(requests_for(archive, "login")) == 2

    def test_proprietary_image_without_rights_fails_and_is_asked_for_once(
        self, archive, stars, tmp_path, guest, monkeypatch
    ):
        monkeypatch.setattr(archive.ibe, "_has_rights", lambda request: False)
        image = archive.sky.images.query("seeing < 1.4")["product"].iloc[0]
        monkeypatch.setitem(archive.ibe.proprietary, image, True)
        manifest = fetch(stars.head(8), tmp_path, make_irsa(auth=guest, concurrency=1))
        assert kinds_of(manifest) == {"failed": 8}
        assert manifest["status"].str.contains("refuses").all()
        assert len(requests_for(archive, "cutout")) == 1


CLIENT = """
import json, sys
import pandas as pd
from ztfquery import buildurl, io, metasearch
from ztf_sg.fetching.fetch import FetchStopped, fetch_cutouts
from ztf_sg.services.irsa import Irsa

buildurl.DATA_BASEURL, io.LOGIN_URL, metasearch.SEARCH_BASEURL, positions, folder, options = sys.argv[1:]
try:
    fetch_cutouts(pd.read_csv(positions), folder, Irsa(), progress=False, **json.loads(options))
except FetchStopped as stopped:
    print(*stopped._render_traceback_(), sep="\\n")
    sys.exit(3)
"""


@pytest.fixture
def start_client(archive, tmp_path, monkeypatch):
    """Return a function that starts a fetch in a process of its own, from an archive that takes its time."""
    respond = archive.respond

    def slowly(handler):
        time.sleep(0.05)
        respond(handler)

    monkeypatch.setattr(archive, "respond", slowly)
    started = []
    urls = [buildurl.DATA_BASEURL, ztfquery.io.LOGIN_URL, metasearch.SEARCH_BASEURL]

    def start(positions, directory, **options):
        positions.to_csv(tmp_path / "positions.csv", index=False)
        options = {"max_seeing": TWO_IMAGES} | options
        command = [sys.executable, "-c", CLIENT, *urls, tmp_path / "positions.csv", directory]
        process = subprocess.Popen(
            [*map(str, command), json.dumps(options)],
            env={**os.environ, "PYTHONPATH": str(Path(ztf_sg.__file__).parents[1])},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def wait_for_files(process, directory, number):
    end = time.monotonic() + 120
    while len(list(directory.glob("*.fits"))) < number and process.poll() is None:
        assert time.monotonic() < end, "the client does nothing"
        time.sleep(0.003)


class TestKills:
    def test_killed_twice_and_finished_is_as_never_disturbed(
        self, archive, uneven_stars, tmp_path, start_client
    ):
        positions, options = uneven_stars.reset_index(drop=True), {"request_cost": REQUEST_COST}
        there, rng = tmp_path / "killed", random.Random(1)
        snapshots = []
        for moment in sorted(rng.sample(range(1, 33), 2)):
            client = start_client(positions, there, **options)
            wait_for_files(client, there, moment)
            client.kill()
            client.wait()
            snapshots.append((len(archive.log), names_of(there, ".fits")))
        assert start_client(positions, there, **options).wait(300) == 0
        assert 0 < len(snapshots[0][1] - names_of(there / IMAGE_FOLDER)) < 36

        undisturbed = tmp_path / "undisturbed"
        log = list(archive.log)
        manifest = fetch(positions, undisturbed, max_seeing=TWO_IMAGES, **options)
        archive.log[:] = log
        assert kinds_of(manifest) == {"saved": 36}
        assert names_of(there) == names_of(undisturbed), "no .part files, no whole images"
        assert not (there / IMAGE_FOLDER).exists()
        different = [
            name
            for name in names_of(there)
            if (there / name).read_bytes() != (undisturbed / name).read_bytes()
        ]
        assert different == []
        assert_true_cutouts(archive, there, read_manifest(there))
        self.assert_nothing_was_asked_for_again(archive, manifest, snapshots)

    def assert_nothing_was_asked_for_again(self, archive, manifest, snapshots):
        file_at = {f"{row.RA:.5f},{row.DEC:.5f}": row.file for row in manifest.itertuples()}
        for requests, saved in snapshots:
            for record in archive.log[requests:]:
                asked = Path(record.path).name
                if "center" in record.args:
                    asked = file_at["{:.5f},{:.5f}".format(*map(float, record.args["center"].split(",")))]
                assert asked not in saved

    def test_file_saved_but_not_listed_is_adopted_without_a_request(self, archive, stars, tmp_path):
        fetch(stars.head(5), tmp_path)
        lines = (tmp_path / "manifest.csv").read_text().splitlines(keepends=True)
        (tmp_path / "manifest.csv").write_text("".join(lines[:3]))
        archive.log.clear()
        assert kinds_of(fetch(stars.head(5), tmp_path)) == {"saved": 5}
        assert not requests_for(archive, "cutout")
        assert (tmp_path / "manifest.csv").read_text() == "".join(lines)

    @pytest.mark.parametrize("torn", [30, 10_000])
    def test_torn_manifest_costs_no_request(self, archive, stars, tmp_path, torn):
        fetch(stars.head(5), tmp_path)
        whole = (tmp_path / "manifest.csv").read_bytes()
        (tmp_path / "manifest.csv").write_bytes(whole[: max(len(whole) - torn, 20)])
        archive.log.clear()
        fetch(stars.head(5), tmp_path)
        assert not requests_for(archive, "cutout")
        assert (tmp_path / "manifest.csv").read_bytes() == whole

    def leave_image(self, archive, directory):
        """Leave a whole image as a killed run does; return its name."""
        product = archive.sky.images.query("seeing < 1.4")["product"].iloc[0]
        (directory / IMAGE_FOLDER).mkdir(parents=True)
        name = Path(product).name
        (directory / IMAGE_FOLDER / name).write_bytes(archive.sky.quadrants[product].file_bytes())
        return name

    def test_whole_image_left_by_a_killed_run_is_used_without_a_request(self, archive, stars, tmp_path):
        name = self.leave_image(archive, tmp_path)
        manifest = fetch(stars.head(4), tmp_path)
        assert kinds_of(manifest) == {"saved": 4}
        assert set(manifest["source_image"]) == {name}
        assert not [record for record in archive.log if "/data/" in record.path]
        assert_true_cutouts(archive, tmp_path, manifest)
        assert not (tmp_path / IMAGE_FOLDER).exists()

    @pytest.mark.parametrize("length", [0, 28_800, 37_000_000])
    def test_part_of_a_whole_image_is_fetched_anew(self, archive, stars, tmp_path, length):
        name = self.leave_image(archive, tmp_path)
        os.truncate(tmp_path / IMAGE_FOLDER / name, length)
        manifest = fetch(stars.head(4), tmp_path)
        assert kinds_of(manifest) == {"saved": 4}
        assert [len(requests_for(archive, what)) for what in ("image", "cutout")] == [1, 0]
        assert_true_cutouts(archive, tmp_path, manifest)

    def test_leftovers_of_a_run_killed_at_its_very_end_are_removed(self, archive, stars, tmp_path):
        fetch(stars.head(3), tmp_path)
        self.leave_image(archive, tmp_path)
        (tmp_path / "manifest.csv.part").write_bytes(b"file,RA")
        fetch(stars.head(3), tmp_path)
        assert names_of(tmp_path) == {"star_0.fits", "star_1.fits", "star_2.fits", "manifest.csv"}
        assert not (tmp_path / IMAGE_FOLDER).exists()

    def test_unlisted_cutout_of_another_image_is_not_listed_under_the_wrong_name(
        self, archive, stars, tmp_path
    ):
        fetch(stars.head(1), tmp_path, max_seeing=ONE_IMAGE)
        (tmp_path / "manifest.csv").unlink()  # the run was killed before the first line was written
        product = archive.sky.images.query("seeing > 1.6")["product"].iloc[0]
        service = make_irsa()
        search = service.search_images
        service.search_images = lambda *arguments: search(*arguments).query("seeing > 1.6").head(1)
        manifest = fetch(stars.head(1), tmp_path, service, max_seeing=1.85)
        header = fits.getheader(tmp_path / "star_0.fits")
        assert Path(product).name.startswith(manifest["source_image"].iloc[0][:20])
        assert manifest["source_image"].iloc[0].startswith(header["FILENAME"].removesuffix(".fits"))


class TestSeveralImages:
    """Objects of unknown class, with images of three nights each; all of them share the images."""

    OPTIONS = {"filters": ["zi"], "n_images": 3, "max_seeing": 1.85}

    @pytest.fixture
    def objects(self, stars):
        return stars[["RA", "DEC"]].head(8)

    def test_three_nights_are_saved_with_one_search_and_true_pixels(self, archive, objects, tmp_path):
        manifest = fetch(objects, tmp_path, **self.OPTIONS)
        assert kinds_of(manifest) == {"saved": 24}
        assert_true_cutouts(archive, tmp_path, manifest)
        assert [len(requests_for(archive, what)) for what in ("search", "image", "cutout")] == [1, 0, 24]
        assert manifest["source_image"].str[4:12].nunique() == 3

    def test_each_filter_is_searched_for_once_though_it_has_no_images(self, archive, objects, tmp_path):
        options = self.OPTIONS | {"filters": ["zg", "zi"], "n_images": 1}
        manifest = fetch(objects, tmp_path, **options)
        assert kinds_of(manifest) == {"saved": 8, "skipped": 8}
        assert len(requests_for(archive, "search")) == 2

    def test_images_that_many_objects_share_are_fetched_once(self, archive, objects, tmp_path):
        manifest = fetch(objects, tmp_path / "whole", request_cost=np.inf, **self.OPTIONS)
        assert kinds_of(manifest) == {"saved": 24}
        assert [len(requests_for(archive, what)) for what in ("image", "cutout")] == [3, 0]
        one_by_one = fetch(objects, tmp_path / "one", request_cost=0, **self.OPTIONS)
        assert manifest.equals(one_by_one)
        assert_true_cutouts(archive, tmp_path / "whole", manifest)

    @pytest.mark.usefixtures("impatient")
    def test_faults_do_no_harm_and_the_next_run_asks_for_nothing(self, archive, objects, tmp_path):
        archive.faults.rate, archive.faults.kinds = 0.3, tuple(set(KINDS) - {"timeout", "slow_drip"})
        archive.faults.where = for_data
        manifest = fetch(objects, tmp_path, make_irsa(tries=12), **self.OPTIONS)
        assert kinds_of(manifest) == {"saved": 24}
        assert_true_cutouts(archive, tmp_path, manifest)
        assert names_of(tmp_path) == {*manifest["file"], "manifest.csv"}
        archive.faults.rate = 0.0
        archive.log.clear()
        assert fetch(objects, tmp_path, **self.OPTIONS).equals(read_manifest(tmp_path))
        assert not archive.log

    def test_missing_image_is_made_up_for_by_another_one_of_its_night(
        self, archive, objects, tmp_path, monkeypatch
    ):
        whole = fetch(objects, tmp_path / "all", **self.OPTIONS)
        best = whole["source_image"][0]
        product = next(path for path in archive.sky.quadrants if path.endswith(best))
        monkeypatch.delitem(archive.sky.quadrants, product)
        manifest = fetch(objects, tmp_path / "rest", **self.OPTIONS)
        assert kinds_of(manifest) == {"saved": 24}
        assert best not in set(manifest["source_image"])
        assert manifest["tried"].str.startswith(best).sum() == 8
        nights = manifest.assign(night=manifest["source_image"].str[4:12])
        assert not nights.duplicated(["object", "night"]).any()
        assert_true_cutouts(archive, tmp_path / "rest", manifest)

    def test_killed_and_finished_is_as_never_disturbed(self, archive, objects, tmp_path, start_client):
        options, there = self.OPTIONS | {"request_cost": 0}, tmp_path / "killed"
        client = start_client(objects, there, **options)
        wait_for_files(client, there, 9)
        client.kill()
        client.wait()
        saved, asked = names_of(there, ".fits"), len(archive.log)
        fetch(objects, there, **options)
        assert 9 <= len(saved) < 24
        numbers = {f"{ra:.5f}": number for number, ra in enumerate(objects["RA"])}
        names = set()
        for record in archive.log[asked:]:
            if "center" in record.args:
                ra = float(record.args["center"].split(",")[0])
                names.add(f"object_{numbers[f'{ra:.5f}']}_zi_{Path(record.path).name[4:18]}.fits")
        assert names and not saved & names
        fetch(objects, tmp_path / "undisturbed", **options)
        contents = [
            {path.name: path.read_bytes() for path in (tmp_path / name).glob("[!.]*")}
            for name in ("killed", "undisturbed")
        ]
        assert contents[0] == contents[1]


class Interrupting:
    """Irsa, where the user presses Ctrl-C while a request is under way."""

    def __init__(self, service, after):
        self.service, self.after, self.asked = service, after, 0

    def __getattr__(self, name):
        return getattr(self.service, name)

    def get_cutout(self, *arguments):
        self.asked += 1
        if self.asked > self.after:
            raise KeyboardInterrupt
        return self.service.get_cutout(*arguments)


SUMMARY = r"(\d+) saved, (\d+) skipped, (\d+) failed, (\d+) to go"


class TestStopping:
    def assert_summary(self, text, directory, total):
        saved, skipped, failed, to_go = map(int, re.search(SUMMARY, text).groups())
        assert (saved, skipped, failed) == (len(list(directory.glob("*.fits"))), 0, 0)
        assert saved + to_go == total

    def test_control_c_stops_with_a_summary_and_the_next_call_goes_on(self, archive, stars, tmp_path):
        service = make_irsa(concurrency=2)
        with pytest.raises(FetchStopped, match="^stopped: .*; run it again to go on$") as caught:
            fetch(stars.head(60), tmp_path, Interrupting(service, after=12))
        assert isinstance(caught.value, KeyboardInterrupt)
        assert caught.value._render_traceback_() == [str(caught.value)]
        assert "\n" not in str(caught.value)
        self.assert_summary(str(caught.value), tmp_path, 60)
        assert 11 <= len(list(tmp_path.glob("*.fits"))) <= 13

        images = service.search_images(stars["RA"][0], stars["DEC"][0], 0, max_seeing=ONE_IMAGE)
        assert service.get_cutout(images.iloc[0], stars["RA"][0], stars["DEC"][0]), "not stopped any more"
        archive.log.clear()
        there = names_of(tmp_path, ".fits")
        assert kinds_of(fetch(stars.head(60), tmp_path, service)) == {"saved": 60}
        assert len(requests_for(archive, "cutout")) == 60 - len(there)

    def test_control_c_during_a_search(self, archive, stars, tmp_path):
        service = make_irsa()

        def search_images(*arguments):
            raise KeyboardInterrupt

        service.search_images = search_images
        with pytest.raises(FetchStopped, match="0 saved, 0 skipped, 0 failed, 3 to go"):
            fetch(stars.head(3), tmp_path, service)

    def test_control_c_ends_waits_at_once(self, archive, stars, tmp_path):
        archive.faults.rate, archive.faults.kinds, archive.faults.where = 1.0, ("http503",), for_cutouts
        service = Irsa(retries=Retries(first_wait=120.0, longest_wait=120.0))

        def interrupt():
            while service.retries.faults.total() < 4 and not ended.wait(0.01):
                pass
            if not ended.wait(0.1):  # by now they wait
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

        ended = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            start = time.monotonic()
            pool.submit(interrupt)
            try:
                with pytest.raises(FetchStopped, match="0 saved, 0 skipped, 0 failed, 5 to go"):
                    fetch(stars.head(5), tmp_path, service)
            finally:
                ended.set()
        assert time.monotonic() - start < 60

    def test_interrupt_from_the_progress_bar(self, archive, stars, tmp_path, monkeypatch):
        class Bar(cutouts.tqdm):
            def update(self, n=1):
                super().update(n)
                if self.n >= 7:
                    raise KeyboardInterrupt

        monkeypatch.setattr(cutouts, "tqdm", Bar)
        with pytest.raises(FetchStopped) as caught:
            fetch(stars.head(40), tmp_path, progress=True)
        self.assert_summary(str(caught.value), tmp_path, 40)
        monkeypatch.undo()
        monkeypatch.setattr(cutouts, "tqdm", Bar.__base__)

    def test_sigint_to_a_process(self, archive, stars, tmp_path, start_client):
        client = start_client(stars.head(60), tmp_path / "cutouts", request_cost=0)
        wait_for_files(client, tmp_path / "cutouts", 5)
        client.send_signal(signal.SIGINT)
        output, _ = client.communicate(timeout=120)
        assert client.returncode == 3, output
        (line,) = output.splitlines()
        self.assert_summary(line, tmp_path / "cutouts", 60)


class TestOutages:
    def test_service_that_is_down_is_left_alone_after_few_requests(self, archive, stars, tmp_path):
        archive.faults.rate, archive.faults.kinds, archive.faults.where = 1.0, ("http503",), for_data
        with pytest.raises(
            ServiceDown,
            match="HTTP status 503.*So far 0 saved, 0 skipped, . failed, .. to go; nothing is lost",
        ):
            fetch(stars.head(60), tmp_path, make_irsa(patience=0.4))
        assert len(requests_for(archive, "cutout")) < 40
        archive.faults.rate = 0.0
        assert kinds_of(fetch(stars.head(60), tmp_path)) == {"saved": 60}

    def test_service_down_in_one_run_is_asked_again_in_the_next(self, archive, stars, tmp_path):
        service = make_irsa(patience=0.4)
        archive.faults.rate, archive.faults.kinds, archive.faults.where = 1.0, ("http503",), for_data
        with pytest.raises(ServiceDown):
            fetch(stars.head(20), tmp_path, service)
        archive.faults.rate = 0.0
        assert kinds_of(fetch(stars.head(20), tmp_path, service)) == {"saved": 20}

    def test_outage_that_ends_is_survived(self, archive, stars, tmp_path):
        archive.faults.rate, archive.faults.kinds = 1.0, ("http503",)
        archive.faults.where = lambda request: for_data(request) and archive.fault_counts["http503"] < 14
        manifest = fetch(stars.head(30), tmp_path)
        assert kinds_of(manifest) == {"saved": 30}
        assert archive.fault_counts["http503"] >= 14

    def test_search_that_does_not_work_is_an_error(self, archive, stars, tmp_path):
        archive.faults.rate, archive.faults.kinds = 1.0, ("http503",)
        with pytest.raises(Unreachable, match="HTTP status 503 for the images of RA"):
            fetch(stars.head(3), tmp_path, make_irsa(tries=2))
        assert not names_of(tmp_path)

    def test_retry_after_is_a_pause_for_all(self, archive, stars, tmp_path, monkeypatch):
        answer, service = archive._answer, make_irsa(concurrency=4)
        asked_to_wait = []

        def busy_once(request, category, kind):
            if category == "cutout" and not asked_to_wait:
                asked_to_wait.append(time.time())
                busy = html(429, "Too many requests", **{"Retry-After": "1"})
                busy.fault = "http429"
                return busy
            while category == "cutout" and not service.retries._pause_until:
                time.sleep(0.005)
            return answer(request, category, kind)

        monkeypatch.setattr(archive, "_answer", busy_once)
        assert kinds_of(fetch(stars.head(30), tmp_path, service)) == {"saved": 30}
        later = [record.time - asked_to_wait[0] for record in requests_for(archive, "cutout")]
        assert len(later) == 31
        # the pause cannot hold back the three that were under way when the answer came
        assert sum(seconds < 0.95 for seconds in later) <= 4
