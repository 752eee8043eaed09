import resource
import tempfile
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ztf_sg.fetching.manifest import (
    IMAGES_COLUMNS,
    MANIFEST_COLUMNS,
    Manifest,
    ManifestError,
    count_outcomes,
    outcome,
    read_manifest,
)

Position = namedtuple("Position", "RA DEC type")
SETTINGS = {"origin": "here", "filter": "zi", "max_seeing": 1.85, "max_infobits": 0}
OLD_HEADER = "file,RA,DEC,type,source_image,origin,filter,max_seeing,status\n"
OLD_LINE = "star_0.fits,7.5000000,-2.5000000,PSF,ztf_1.fits,here,zi,1.8500000,saved\n"


def make_row(file="star_0.fits", status="saved", ra=7.5, dec=-2.5):
    row = {"file": file, "RA": ra, "DEC": dec, "type": "PSF", "source_image": "ztf_1.fits", "tried": ""}
    row["trail"] = ""
    return row | {"status": status} | SETTINGS


def test_line_is_on_the_disk_at_once(tmp_path):
    Manifest(tmp_path).append(make_row())
    assert read_manifest(tmp_path).to_dict("records") == [make_row()]
    assert Manifest(tmp_path).rows == {"star_0.fits": make_row()}


def test_later_line_on_a_file_counts(tmp_path):
    manifest = Manifest(tmp_path)
    manifest.append(make_row(status="failed: HTTP status 503"))
    manifest.append(make_row(status="saved"))
    assert read_manifest(tmp_path)["status"].tolist() == ["saved"]


def test_line_for_which_the_disk_has_no_room_leaves_nothing(tmp_path):
    manifest = Manifest(tmp_path)
    manifest.append(make_row("star_0.fits"))
    before = manifest.path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, limits[1]))
    try:
        with pytest.raises(OSError):
            manifest.append(make_row("star_1.fits"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert manifest.path.read_bytes() == before
    assert list(manifest.rows) == ["star_0.fits"]


def test_many_threads_lose_no_line(tmp_path):
    manifest = Manifest(tmp_path)
    names = [f"star_{number}.fits" for number in range(200)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: manifest.append(make_row(name, status=f"skipped: {name}, 'x'")), names))
    table = read_manifest(tmp_path)
    assert sorted(table["file"]) == sorted(names)
    assert (table["status"] == "skipped: " + table["file"] + ", 'x'").all()
    assert (tmp_path / "manifest.csv").read_text().count("file,RA") == 1


def test_sorting_puts_some_files_last_in_the_order_given(tmp_path):
    manifest = Manifest(tmp_path)
    for name in ("star_2.fits", "galaxy_1.fits", "star_10.fits", "galaxy_0.fits"):
        manifest.append(make_row(name))
    manifest.sort(["star_1.fits", "star_2.fits", "star_10.fits"])
    expected = ["galaxy_1.fits", "galaxy_0.fits", "star_2.fits", "star_10.fits"]
    assert read_manifest(tmp_path)["file"].tolist() == expected
    assert list(Manifest(tmp_path).rows) == expected
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.csv"]


statuses = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)


@given(st.lists(statuses, min_size=1, max_size=4))
@settings(max_examples=30)
@example(["a,\"b\"\n'c'", "NA", "nan", "", " ", "1"])
def test_any_status_is_read_as_it_was_written_but_for_white_space(texts):
    with tempfile.TemporaryDirectory() as folder:
        manifest = Manifest(Path(folder))
        rows = {}
        for n, text in enumerate(texts):
            name = f"star_{n}.fits"
            manifest.append(make_row(name, text))
            rows[name] = make_row(name, " ".join(text.split()))
        assert Manifest(Path(folder)).rows == rows
        manifest.sort(rows)
        assert Manifest(Path(folder)).rows == rows


@given(st.integers(0, 200))
@settings(max_examples=25)
def test_manifest_torn_anywhere_keeps_its_whole_lines(length):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "manifest.csv"
        for name in ("star_0.fits", "star_1.fits", "star_2.fits"):
            Manifest(Path(folder)).append(make_row(name, status='skipped: "NaN", no'))
        content = path.read_bytes()[:length]
        path.write_bytes(content)
        manifest = Manifest(Path(folder))
        assert len(manifest.rows) == max(content.count(b"\n") - 1, 0)
        manifest.append(make_row("star_9.fits"))
        assert list(read_manifest(folder)["file"])[-1] == "star_9.fits"
        assert len(read_manifest(folder)) == len(manifest.rows)


@pytest.mark.parametrize(
    ("key", "value"),
    [("origin", "there"), ("filter", "zr"), ("max_seeing", 1.8), ("max_infobits", 2**25 - 1)],
)
def test_other_settings_are_refused(tmp_path, key, value):
    manifest = Manifest(tmp_path)
    manifest.append(make_row())
    with pytest.raises(ManifestError, match=f"made with {key} .*name another folder"):
        manifest.check({}, SETTINGS | {key: value})
    manifest.check({"star_0": Position(7.5, -2.5, "PSF")}, SETTINGS)


@given(st.floats(0.1, 10))
@settings(max_examples=20)
@example(5 / 3)
@example(np.pi)
def test_limit_that_the_manifest_rounds_is_the_same_when_it_is_read(max_seeing):
    kept = SETTINGS | {"max_seeing": max_seeing}
    with tempfile.TemporaryDirectory() as folder:
        Manifest(Path(folder)).append(make_row() | kept)
        Manifest(Path(folder)).check({}, kept)
        with pytest.raises(ManifestError):
            Manifest(Path(folder)).check({}, kept | {"max_seeing": max_seeing + 1e-5})


@pytest.mark.parametrize("position", [Position(7.5001, -2.5, "PSF"), Position(7.5, -2.5001, "PSF")])
def test_other_position_is_refused(tmp_path, position):
    manifest = Manifest(tmp_path)
    manifest.append(make_row())
    with pytest.raises(ManifestError, match="star_0.fits was made for RA 7.5, DEC -2.5, but the list now"):
        manifest.check({"star_0": position}, SETTINGS)


class TestManifestFromBeforeMaxInfobitsWasKept:
    def test_is_read_as_made_with_the_default(self, tmp_path):
        (tmp_path / "manifest.csv").write_text(OLD_HEADER + OLD_LINE)
        assert read_manifest(tmp_path).to_dict("records") == [make_row()]
        assert (tmp_path / "manifest.csv").read_text() == OLD_HEADER + OLD_LINE
        with pytest.raises(ManifestError, match="made with max_infobits 0, not 33554431"):
            Manifest(tmp_path).check({}, SETTINGS | {"max_infobits": 2**25 - 1})

    @pytest.mark.parametrize("lines", ["", OLD_LINE])
    def test_gets_the_column_when_it_is_opened(self, tmp_path, lines):
        (tmp_path / "manifest.csv").write_text(OLD_HEADER + lines)
        manifest = Manifest(tmp_path)
        manifest.append(make_row("star_1.fits"))
        expected = [make_row("star_0.fits")] * bool(lines) + [make_row("star_1.fits")]
        assert read_manifest(tmp_path).to_dict("records") == expected

    def test_bundled_manifest_is_none(self):
        content = (ROOT / "cutouts_test" / "manifest.csv").read_text()
        assert content.startswith(",".join(MANIFEST_COLUMNS))


def test_outcomes_are_counted_by_class(tmp_path):
    manifest = Manifest(tmp_path)
    manifest.append(make_row("star_0.fits", "saved"))
    manifest.append(make_row("star_1.fits", "skipped: a: b"))
    manifest.append(make_row("galaxy_0.fits", "failed: c"))
    table = count_outcomes(read_manifest(tmp_path))
    assert table.loc["star"].tolist() == [1, 1, 0]
    assert table.loc["galaxy"].tolist() == [0, 0, 1]
    assert outcome(make_row(status="skipped: a: b")) == "skipped"


def test_empty_folder_has_an_empty_manifest(tmp_path):
    assert Manifest(tmp_path).rows == {}
    assert list(read_manifest(tmp_path).columns) == list(MANIFEST_COLUMNS)
    assert count_outcomes(read_manifest(tmp_path)).columns.tolist() == ["saved", "skipped", "failed"]


def test_line_that_cannot_be_written_leaves_the_manifest_as_it_was(tmp_path, monkeypatch):
    manifest = Manifest(tmp_path)
    manifest.append(make_row("star_0.fits"))
    before = (tmp_path / "manifest.csv").read_bytes()

    def full_disk(descriptor):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full_disk)
        with pytest.raises(OSError, match="No space"):
            manifest.append(make_row("star_1.fits"))
    assert (tmp_path / "manifest.csv").read_bytes() == before
    assert list(manifest.rows) == ["star_0.fits"]


def test_damaged_line_is_named(tmp_path):
    Manifest(tmp_path).append(make_row("star_0.fits"))
    with open(tmp_path / "manifest.csv", "a") as file:
        file.write("a,b,c,d,e,f,g,h,i,j,k,l,m\n")
    with pytest.raises(ManifestError, match="manifest.csv: damaged .*line 3"):
        read_manifest(tmp_path)


def test_line_without_numbers_is_damaged(tmp_path):
    Manifest(tmp_path).append(make_row())
    content = (tmp_path / "manifest.csv").read_text().replace("1.8500000", "sharp")
    (tmp_path / "manifest.csv").write_text(content)
    with pytest.raises(ManifestError, match="manifest.csv: damaged .*sharp"):
        read_manifest(tmp_path)


def test_manifest_that_this_user_may_not_write_is_named_with_a_remedy(tmp_path, monkeypatch):
    manifest = Manifest(tmp_path)
    manifest.check_writable()
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(ManifestError, match="manifest.csv: may not be written by this user.*umask 002"):
        manifest.check_writable()


class TestManifestOfSeveralImages:
    @pytest.fixture
    def manifest(self, tmp_path):
        return Manifest(tmp_path, IMAGES_COLUMNS)

    def make_row(self, number=0, rank=1, file="object_{}_zi_20190105192708.fits", **changes):
        row = make_row(file.format(number)) | {"object": number, "name": "", "rank": rank, "type": ""}
        return row | changes

    def test_has_a_line_per_object_filter_and_rank(self, manifest, tmp_path):
        rows = [self.make_row(rank=1), self.make_row(rank=2), self.make_row(rank=1, filter="zr")]
        manifest.append(*rows)
        assert list(Manifest(tmp_path, IMAGES_COLUMNS).rows) == [
            "object_0_zi_1",
            "object_0_zi_2",
            "object_0_zr_1",
        ]
        assert read_manifest(tmp_path).to_dict("records") == [
            {k: row[k] for k in IMAGES_COLUMNS} for row in rows
        ]

    def test_later_line_with_another_image_replaces_the_earlier_one(self, manifest, tmp_path):
        manifest.append(self.make_row(status="failed: HTTP status 503"))
        manifest.append(self.make_row(file="object_{}_zi_20200105192708.fits"))
        assert read_manifest(tmp_path)["file"].tolist() == ["object_0_zi_20200105192708.fits"]

    def test_lines_without_image_are_of_the_class_of_the_type(self, manifest, tmp_path):
        for kind in ("PSF", "REX", ""):
            manifest.append(self.make_row(file="", type=kind, status="skipped: no image"))
        assert list(manifest.rows) == ["star_0_zi_1", "galaxy_0_zi_1", "object_0_zi_1"]
        assert len(read_manifest(tmp_path)) == 3
        assert count_outcomes(read_manifest(tmp_path))["skipped"].to_dict() == {
            "galaxy": 1,
            "object": 1,
            "star": 1,
        }

    @pytest.mark.parametrize("name", ["M 31", "a, b", "007", "NA", 'the "x"', "1e5", ""])
    def test_names_are_read_as_they_were_written(self, manifest, tmp_path, name):
        manifest.append(self.make_row(name=name))
        assert read_manifest(tmp_path)["name"].tolist() == [name]

    def test_is_not_mixed_with_one_of_single_images(self, manifest, tmp_path):
        manifest.append(self.make_row())
        with pytest.raises(ManifestError, match="its files are named by their images.*name another folder"):
            Manifest(tmp_path)

    def test_single_images_are_not_mixed_with_several(self, tmp_path):
        Manifest(tmp_path).append(make_row())
        with pytest.raises(ManifestError, match="its files are not named by their images.*another folder"):
            Manifest(tmp_path, IMAGES_COLUMNS)

    @pytest.mark.parametrize("length", [0, 3, len("file,object,name,rank"), 200, 2000])
    def test_torn_anywhere_keeps_its_whole_lines(self, manifest, tmp_path, length):
        for number in range(3):
            manifest.append(self.make_row(number))
        content = manifest.path.read_bytes()[:length]
        manifest.path.write_bytes(content)
        torn = Manifest(tmp_path, IMAGES_COLUMNS)
        assert len(torn.rows) == max(content.count(b"\n") - 1, 0)
        torn.append(self.make_row(9))
        assert read_manifest(tmp_path)["object"].tolist()[-1] == 9

    def test_list_with_another_position_is_refused_whatever_the_filter(self, manifest):
        manifest.append(self.make_row(3, filter="zr"))
        settings = {key: value for key, value in SETTINGS.items() if key != "filter"}
        manifest.check({"object_3": Position(7.5, -2.5, "")}, settings)
        with pytest.raises(ManifestError, match="object_3_zi_20190105192708.fits was made for RA 7.5"):
            manifest.check({"object_3": Position(7.6, -2.5, "")}, settings)
