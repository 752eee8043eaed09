import hashlib
import io
import os
import warnings
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
from werkzeug import Response

from ztf_sg import load_cutouts
from ztf_sg.cutouts import BUNDLED_CUTOUTS
from ztf_sg.services import release
from ztf_sg.services.errors import BadAnswer, RefusedRequest, Unreachable
from ztf_sg.services.release import release_hashes
from ztf_sg.services.retries import Retries

NAMES = [f"{kind}_{number}.fits" for kind in ("galaxy", "star") for number in range(3)]
FILES = {name: (BUNDLED_CUTOUTS / name).read_bytes() for name in NAMES}
TOP = "ZTF_image_classification-0ea2"


def zipped(files):
    """Return an archive of files by name, as GitHub makes them: all in one folder."""
    archive = io.BytesIO()
    with ZipFile(archive, "w", ZIP_DEFLATED) as file:
        file.writestr(f"{TOP}/", "")
        for name, content in files.items():
            file.writestr(name if name.startswith(("/", "..")) else f"{TOP}/{name}", content)
    return archive.getvalue()


def archive_of(files, **others):
    return zipped({"LICENSE": "MIT", **{f"cutouts/{name}": files[name] for name in files}, **others})


@pytest.fixture
def server(httpserver, monkeypatch):
    """Return a server whose answers are set by `serve`, and which stands for the true one."""
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
    monkeypatch.setattr(release, "release_hashes", lambda: hashes)
    monkeypatch.setattr(release, "URL", httpserver.url_for("/archive.zip"))
    return httpserver


def serve(server, *answers):
    """Answer one request after the other, the last answer again and again."""
    left = list(answers)

    def respond(_):
        answer = left.pop(0) if len(left) > 1 else left[0]
        return answer if isinstance(answer, Response) else Response(answer)

    server.clear()
    server.expect_request("/archive.zip").respond_with_handler(respond)


def fetch_release(folder):
    quick = partial(Retries, tries=3, first_wait=0.01, longest_wait=0.02, patience=5)
    return release.fetch_release(folder, retries=quick())


def names_in(folder):
    return sorted(path.name for path in folder.rglob("*"))


def test_release_is_a_folder_of_cutouts_with_their_licence(server, tmp_path, capfd):
    serve(server, archive_of(FILES, README="read me"))
    cutouts = load_cutouts(fetch_release(tmp_path / "new" / "real"))
    assert cutouts.table["name"].tolist() == [name.removesuffix(".fits") for name in NAMES]
    assert names_in(tmp_path / "new" / "real") == ["LICENSE", *NAMES]
    assert {name: (tmp_path / "new/real" / name).read_bytes() for name in NAMES} == FILES
    said = capfd.readouterr()
    assert str(tmp_path) not in said.out + said.err


def test_whole_release_is_not_asked_for_again(server, tmp_path):
    serve(server, archive_of(FILES))
    fetch_release(tmp_path)
    fetch_release(tmp_path)
    assert len(server.log) == 1


def test_only_what_lacks_is_fetched(server, tmp_path):
    serve(server, archive_of(FILES, NOTICE="notice"))
    fetch_release(tmp_path)
    untouched = (tmp_path / NAMES[0]).stat().st_mtime_ns
    (tmp_path / NAMES[1]).unlink()
    (tmp_path / "NOTICE").unlink()
    fetch_release(tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in NAMES} == FILES
    assert (tmp_path / NAMES[0]).stat().st_mtime_ns == untouched
    assert names_in(tmp_path) == ["LICENSE", "NOTICE", *NAMES]


def test_files_are_for_all_whom_the_umask_allows(server, tmp_path):
    serve(server, archive_of(FILES))
    before = os.umask(0o027)
    try:
        fetch_release(tmp_path)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o640}


def test_killed_run_leaves_nothing_that_is_taken_for_a_cutout(server, tmp_path, monkeypatch):
    def replace(source, target):
        if target.name == NAMES[3]:
            raise KeyboardInterrupt
        Path(source).rename(target)

    serve(server, archive_of(FILES, NOTICE="notice"))
    with monkeypatch.context() as patch:
        patch.setattr(release, "TemporaryDirectory", lambda **place: nullcontext(mkdtemp(**place)))
        patch.setattr(release.os, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            fetch_release(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load_cutouts(tmp_path)) == 3
        assert len(load_cutouts(fetch_release(tmp_path))) == len(NAMES)


@pytest.mark.parametrize("content", [FILES[NAMES[1]], b"", b"x" * (release.LARGEST + 1)])
def test_file_with_other_content_never_lands_and_is_named(server, tmp_path, content):
    serve(server, archive_of(FILES | {NAMES[0]: content}))
    with pytest.raises(
        BadAnswer, match=rf"1 of 6 cutouts are not as published: {NAMES[0]} has other content;"
    ):
        fetch_release(tmp_path)
    assert names_in(tmp_path) == ["LICENSE", *NAMES[1:]]
    serve(server, archive_of(FILES))
    assert names_in(fetch_release(tmp_path)) == ["LICENSE", *NAMES]


def test_missing_file_is_named(server, tmp_path):
    serve(server, archive_of({name: FILES[name] for name in NAMES[:-1]}))
    with pytest.raises(BadAnswer, match=f"{NAMES[-1]} is missing; the others are in {tmp_path}"):
        fetch_release(tmp_path)


def test_damaged_file_is_named(server, tmp_path):
    archive = bytearray(archive_of(FILES))
    start = archive.index(f"{TOP}/cutouts/{NAMES[2]}".encode()) + 200
    archive[start : start + 50] = bytes(50)
    serve(server, bytes(archive))
    with pytest.raises(BadAnswer, match=f"1 of 6 .*: {NAMES[2]} is damaged"):
        fetch_release(tmp_path)
    assert NAMES[2] not in names_in(tmp_path)


def test_other_files_of_the_archive_stay_in_it(server, tmp_path):
    extra = {f"cutouts/{name}": "x" for name in ("star_9.fits", "../../evil.fits", "../LICENSE")}
    extra |= {name: "x" for name in ("../LICENSE", "/LICENSE", "LICENSE/../../evil", "LICENSE\\..\\evil")}
    serve(server, archive_of(FILES, **extra))
    fetch_release(tmp_path / "real")
    assert names_in(tmp_path) == ["LICENSE", *NAMES[:3], "real", *NAMES[3:]]
    assert (tmp_path / "real" / "LICENSE").read_text() == "MIT"


def test_cutouts_come_not_without_a_licence(server, tmp_path):
    serve(server, zipped({f"cutouts/{name}": FILES[name] for name in NAMES}))
    with pytest.raises(BadAnswer, match="holds no licence"):
        fetch_release(tmp_path / "real")
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("fault", ["html", "truncated", "busy", "broken"])
def test_release_is_asked_for_again_after_a_fault(server, tmp_path, fault):
    whole = archive_of(FILES)
    answers = {
        "html": Response("<html>Sign in", content_type="text/html"),
        "truncated": Response(whole[:-100]),
        "busy": Response("busy", status=503),
        "broken": Response(iter([whole[:1000]]), headers={"Content-Length": str(len(whole))}),
    }
    serve(server, answers[fault], whole)
    assert len(load_cutouts(fetch_release(tmp_path))) == len(NAMES)
    assert len(server.log) == 2


@pytest.mark.parametrize(
    ("answer", "error", "message", "asked"),
    [
        (Response("gone", status=404), RefusedRequest, "status 404 .* search for LLNL-CODE-825407", 1),
        (Response("no", status=403), RefusedRequest, "status 403", 1),
        (Response("<html>Sign in"), BadAnswer, "no archive of the release .* log-in page", 3),
        (Response("down", status=500), Unreachable, "status 500 for the archive of the release", 3),
    ],
)
def test_lasting_fault_is_told_and_nothing_is_written(server, tmp_path, answer, error, message, asked):
    serve(server, answer)
    with pytest.raises(error, match=message):
        fetch_release(tmp_path / "real")
    assert len(server.log) == asked
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("name", ["star_first.fits", "star_1.fits.gz", "mine/star_1.fits", "star_1.fits"])
def test_folder_with_other_cutouts_is_left_as_it_is(server, tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"mine")
    with pytest.raises(
        ValueError, match=f"holds 1 FITS files that are not as in the release, such as {name};"
    ):
        fetch_release(tmp_path)
    assert path.read_bytes() == b"mine"
    with pytest.raises(NotADirectoryError, match=f"{name}: is a file"):
        fetch_release(path)
    assert not server.log


def test_folder_where_nothing_can_be_written_is_named_before_anything_is_fetched(
    server, tmp_path, monkeypatch
):
    monkeypatch.setattr(release.os, "access", lambda *_: False)  # as for all users but root
    with pytest.raises(PermissionError, match=f"{tmp_path}: you may not write there; name another folder"):
        fetch_release(tmp_path)
    assert not server.log


@pytest.mark.parametrize("name", ["LICENSE", f"cutouts/{NAMES[0]}"])
def test_file_that_seems_to_be_encrypted_is_named(server, tmp_path, name):
    archive = bytearray(archive_of(FILES))
    entry = archive.rindex(f"{TOP}/{name}".encode())  # in the table of contents, 38 bytes after the flags
    archive[entry - 38] |= 1
    serve(server, bytes(archive))
    with pytest.raises(BadAnswer, match=f"({NAMES[0]}|licence) is damaged"):
        fetch_release(tmp_path)


def test_hashes_are_those_of_real_cutouts(real_cutouts):
    hashes = release_hashes()
    for path in real_cutouts.glob("*.fits"):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == hashes[path.name]


def test_each_of_the_cutouts_has_a_hash():
    hashes = release_hashes()
    assert len(hashes) == 1500
    assert all(len(digest) == 64 for digest in hashes.values())


@pytest.mark.remote_data
def test_true_release_is_as_published(tmp_path):
    assert len(load_cutouts(release.fetch_release(tmp_path))) == 1500
