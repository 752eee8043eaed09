import os
import re
import stat
import tempfile
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits

from ztf_sg.cutouts import load_cutouts
from ztf_sg.fetching import ImageChooser
from ztf_sg.fetching.choose import IMAGES_PER_OBJECT
from ztf_sg.fetching.fetch import fetch_cutouts
from ztf_sg.fetching.manifest import ManifestError, read_manifest
from ztf_sg.services.errors import NothingFound, ProprietaryData
from ztf_sg.simulation import ORIGIN, MockSky
from ztf_sg.ztf import image_name

COLUMNS = "file RA DEC type source_image tried trail origin filter max_seeing max_infobits status".split()


NOBODY = 65534  # a user without rights


class Recorder:
    """An image service that notes what it is asked and passes it on to another one.

    ``spoil`` changes the answer to the request of that number, counted from 0.
    """

    def __init__(self, service, spoil=None, origin=None):
        self.service = service
        self.spoil = spoil or {}
        self.origin = origin or service.origin
        self.searches = []
        self.fetched = []
        self.images = []

    def search_images(self, ra, dec, size, filtercode, max_seeing, max_infobits):
        self.searches.append((ra, dec, size))
        return self.service.search_images(ra, dec, size, filtercode, max_seeing, max_infobits)

    def get_cutout(self, image, ra, dec, size):
        number = len(self.fetched)
        self.fetched.append((ra, dec))
        self.images.append(image_name(image))
        content = self.service.get_cutout(image, ra, dec, size)
        return self.spoil.get(number, bytes)(content)


class Spoiled(Recorder):
    """An image service whose every answer about some positions, by number, is spoiled."""

    def __init__(self, service, stars, spoil):
        super().__init__(service)
        self.spoiled = {stars["RA"].iloc[row]: fault for row, fault in spoil.items()}

    def get_cutout(self, image, ra, dec, size):
        return self.spoiled.get(ra, bytes)(super().get_cutout(image, ra, dec, size))


def missing(content):
    raise NothingFound("HTTP status 404")


def proprietary(content):
    raise ProprietaryData("HTTP status 403")


def interrupt(content):
    raise KeyboardInterrupt


def not_fits(content):
    return b"<html><body>Service unavailable</body></html>"


def empty(content):
    return b""


def cut_short(content):
    return content[:4000]


def with_nan(content):
    pixels, header = fits.getdata(BytesIO(content), header=True)
    pixels[5, 5] = np.nan
    return as_bytes(pixels, header)


def too_small(content):
    pixels, header = fits.getdata(BytesIO(content), header=True)
    return as_bytes(pixels[:19], header)


def too_large(content):
    pixels, header = fits.getdata(BytesIO(content), header=True)
    return as_bytes(np.resize(pixels, (22, 22)), header)


def as_bytes(pixels, header):
    file = BytesIO()
    fits.PrimaryHDU(pixels, header).writeto(file)
    return file.getvalue()


@pytest.fixture
def service(mock_sky):
    return Recorder(mock_sky)


@pytest.fixture
def stars(mock_positions):
    return mock_positions[0].head(5)


@pytest.fixture
def galaxies(mock_positions):
    return mock_positions[1].head(3)


def fetch(positions, directory, service, **options):
    return fetch_cutouts(positions, directory, service, progress=False, **options)


def files(directory):
    return sorted(path.name for path in directory.iterdir() if path.name not in ("manifest.csv", ".lock"))


def star_files(*numbers):
    return [f"star_{number}.fits" for number in numbers]


class TestFetching:
    def test_manifest_lists_every_cutout(self, stars, tmp_path, service):
        manifest = fetch(stars, tmp_path, service)
        assert list(manifest.columns) == COLUMNS
        assert manifest["file"].tolist() == star_files(0, 1, 2, 3, 4) == files(tmp_path)
        np.testing.assert_allclose(manifest[["RA", "DEC"]], stars[["RA", "DEC"]], rtol=0, atol=1e-7)
        assert set(manifest["type"]) == {"PSF"}
        assert set(manifest["origin"]) == {ORIGIN}
        assert set(manifest["status"]) == {"saved"}
        assert all(
            re.fullmatch(r"ztf_\d{14}_\d{6}_zi_c\d\d_o_q\d_sciimg\.fits", x) for x in manifest["source_image"]
        )

    def test_manifest_returned_is_the_one_on_disk(self, stars, tmp_path, service):
        returned = fetch(stars, tmp_path, service)
        on_disk = read_manifest(tmp_path)
        np.testing.assert_allclose(on_disk[["RA", "DEC"]], returned[["RA", "DEC"]], rtol=0, atol=1e-7)
        text = [name for name in COLUMNS if name not in ("RA", "DEC")]
        assert on_disk[text].to_numpy().tolist() == returned[text].to_numpy().tolist()

    def test_cutouts_show_the_listed_position_on_the_listed_image(self, stars, tmp_path, service):
        manifest = fetch(stars, tmp_path, service)
        table = load_cutouts(tmp_path).table
        there = SkyCoord(table["ra"], table["dec"], unit="deg")
        wanted = SkyCoord(stars["RA"], stars["DEC"], unit="deg")
        assert (there.separation(wanted) < 1.5 * u.arcsec).all()
        headers = [fits.getheader(tmp_path / name) for name in manifest["file"]]
        assert [header["FILENAME"] for header in headers] == manifest["source_image"].tolist()

    def test_both_classes_share_a_folder(self, stars, galaxies, tmp_path, service):
        fetch(stars.head(2), tmp_path, service)
        manifest = fetch(galaxies, tmp_path, service)
        assert manifest["file"].tolist() == ["galaxy_0.fits", "galaxy_1.fits", "galaxy_2.fits"]
        assert len(read_manifest(tmp_path)) == 5
        assert load_cutouts(tmp_path).labels.tolist() == [1, 1, 1, 0, 0]

    def test_lower_case_types_column_of_a_position_file_will_do(self, stars, tmp_path, service):
        fetch(stars[["RA", "DEC", "TYPE"]].rename(columns={"TYPE": "type"}).head(1), tmp_path, service)
        assert files(tmp_path) == star_files(0)

    def test_folder_without_manifest_has_an_empty_one(self, tmp_path):
        manifest = read_manifest(tmp_path)
        assert manifest.empty
        assert list(manifest.columns) == COLUMNS

    def test_manifest_without_a_column_is_named(self, tmp_path):
        (tmp_path / "manifest.csv").write_text("file,RA,DEC,type\n")
        with pytest.raises(
            ManifestError, match="manifest.csv: lacks source_image, origin, filter, max_seeing, status"
        ):
            read_manifest(tmp_path)


class TestContinuing:
    def test_repeated_fetch_asks_for_nothing(self, stars, tmp_path, service, mock_sky):
        first = fetch(stars, tmp_path, service)
        content = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}
        again = Recorder(mock_sky)
        second = fetch(stars, tmp_path, again)
        assert again.fetched == again.searches == []
        assert {name: (tmp_path / name).read_bytes() for name in files(tmp_path)} == content
        assert second["file"].tolist() == first["file"].tolist()

    def test_deleted_file_alone_is_fetched_again(self, stars, tmp_path, service):
        fetch(stars, tmp_path, service)
        before = (tmp_path / "star_2.fits").read_bytes()
        (tmp_path / "star_2.fits").unlink()
        service.fetched.clear()
        fetch(stars, tmp_path, service)
        assert service.fetched == [(stars["RA"].iloc[2], stars["DEC"].iloc[2])]
        assert (tmp_path / "star_2.fits").read_bytes() == before

    def test_file_fetched_again_is_listed_once(self, stars, tmp_path, service):
        fetch(stars, tmp_path, service)
        (tmp_path / "star_2.fits").unlink()
        fetch(stars, tmp_path, service)
        assert sorted(read_manifest(tmp_path)["file"]) == star_files(0, 1, 2, 3, 4)

    def test_interrupted_fetch_is_continued(self, stars, tmp_path, mock_sky):
        with pytest.raises(KeyboardInterrupt):
            fetch(stars, tmp_path, Recorder(mock_sky, {2: interrupt}))
        there = files(tmp_path)
        assert 2 <= len(there) < 5
        rest = Recorder(mock_sky)
        manifest = fetch(stars, tmp_path, rest)
        assert len(rest.fetched) == 5 - len(there)
        assert manifest["file"].tolist() == files(tmp_path) == star_files(0, 1, 2, 3, 4)

    def test_longer_list_with_the_same_beginning_extends_the_folder(self, stars, tmp_path, service):
        fetch(stars.head(2), tmp_path, service)
        fetch(stars, tmp_path, service)
        assert len(service.fetched) == 5
        assert files(tmp_path) == star_files(0, 1, 2, 3, 4)

    def test_shorter_list_is_served_from_the_folder(self, stars, tmp_path, service):
        fetch(stars, tmp_path, service)
        assert fetch(stars.head(2), tmp_path, service)["file"].tolist() == star_files(0, 1)
        assert len(service.fetched) == 5

    def test_skipped_positions_are_not_asked_for_again(self, stars, tmp_path, mock_sky):
        fetch(stars, tmp_path, Spoiled(mock_sky, stars, {1: not_fits}))
        again = Recorder(mock_sky)
        manifest = fetch(stars, tmp_path, again)
        assert again.fetched == []
        assert (manifest["status"] == "saved").tolist() == [True, False, True, True, True]

    @pytest.mark.parametrize("max_seeing", [5 / 3, np.float32(1.7)])
    def test_limit_of_seeing_that_the_manifest_rounds_is_no_obstacle(
        self, stars, tmp_path, service, max_seeing
    ):
        fetch(stars.head(2), tmp_path, service, max_seeing=max_seeing)
        fetch(stars, tmp_path, service, max_seeing=max_seeing)
        assert len(service.fetched) == 5

    def test_folder_from_before_max_infobits_was_kept_is_extended(self, stars, tmp_path, service):
        fetch(stars.head(2), tmp_path, service)
        manifest = tmp_path / "manifest.csv"
        content = manifest.read_text()
        manifest.write_text(content.replace(",max_infobits", "").replace(",0,saved", ",saved"))
        fetch(stars.head(2), tmp_path, service)
        assert manifest.read_text() == content
        fetch(stars, tmp_path, service)
        assert len(service.fetched) == 5
        assert read_manifest(tmp_path)["file"].tolist() == star_files(0, 1, 2, 3, 4)

    def test_file_saved_but_not_listed_by_a_stopped_run_is_no_obstacle(self, stars, tmp_path, service):
        fetch(stars, tmp_path, service)
        manifest = tmp_path / "manifest.csv"
        manifest.write_text("".join(manifest.read_text().splitlines(keepends=True)[:-1]))
        fetch(stars, tmp_path, service)
        assert read_manifest(tmp_path)["file"].tolist() == files(tmp_path)

    @pytest.mark.parametrize("torn", [1, 20, 60])
    def test_torn_last_line_of_the_manifest_is_no_obstacle(self, stars, tmp_path, service, torn):
        fetch(stars, tmp_path, service)
        manifest = tmp_path / "manifest.csv"
        manifest.write_bytes(manifest.read_bytes()[:-torn])
        fetch(stars, tmp_path, service)
        assert read_manifest(tmp_path)["file"].tolist() == files(tmp_path)

    def test_progress_bar_is_shown_unless_there_is_nothing_to_do(
        self, stars, galaxies, tmp_path, service, capsys
    ):
        fetch_cutouts(stars, tmp_path, service)
        capsys.readouterr()
        fetch_cutouts(stars, tmp_path, service)
        assert capsys.readouterr().err == ""
        fetch_cutouts(galaxies.head(1), tmp_path, service)
        assert "cutouts of galaxy: 100%" in capsys.readouterr().err


class TestNumberOfCutouts:
    def test_stops_when_so_many_are_saved(self, stars, tmp_path, service):
        assert len(fetch(stars, tmp_path, service, n_cutouts=2)) == 2
        assert files(tmp_path) == star_files(0, 1)
        assert len(service.fetched) == 2

    def test_skipped_ones_do_not_count(self, stars, tmp_path, mock_sky):
        manifest = fetch(stars, tmp_path, Spoiled(mock_sky, stars, {0: not_fits}), n_cutouts=2)
        assert files(tmp_path) == star_files(1, 2)
        assert len(manifest) == 3

    def test_those_there_already_count(self, stars, tmp_path, service):
        fetch(stars, tmp_path, service, n_cutouts=2)
        fetch(stars, tmp_path, service, n_cutouts=3)
        assert len(service.fetched) == 3
        assert files(tmp_path) == star_files(0, 1, 2)

    def test_more_than_there_are_positions_means_all(self, stars, tmp_path, service):
        assert len(fetch(stars.head(2), tmp_path, service, n_cutouts=100)) == 2


class TestRefusals:
    def test_other_list_of_positions(self, stars, tmp_path, service):
        fetch(stars.head(2), tmp_path, service)
        with pytest.raises(ManifestError, match=r"star_0\.fits was made for RA"):
            fetch(stars.iloc[::-1], tmp_path, service)
        assert len(service.fetched) == 2

    def test_positions_rounded_in_a_file_are_no_other_list(self, stars, tmp_path, service):
        fetch(stars.head(2), tmp_path, service)
        fetch(stars.head(2).round({"RA": 6, "DEC": 6}), tmp_path, service)
        assert len(service.fetched) == 2

    def test_other_origin(self, stars, tmp_path, service, mock_sky):
        fetch(stars.head(1), tmp_path, service)
        live = Recorder(mock_sky, origin="Zwicky Transient Facility")
        with pytest.raises(ManifestError, match="simulated.* not 'Zwicky Transient Facility'"):
            fetch(stars, tmp_path, live)
        assert live.fetched == []

    def test_other_filter_or_limit(self, stars, tmp_path, service):
        fetch(stars, tmp_path, service)
        with pytest.raises(ManifestError, match="made with max_infobits 0, not 33554431"):
            fetch(stars, tmp_path, service, max_infobits=2**25 - 1)
        with pytest.raises(ManifestError, match="made with max_seeing 1.85, not 1.6"):
            fetch(stars, tmp_path, service, max_seeing=1.6)
        with pytest.raises(ManifestError, match="made with filter 'zi', not 'zr'"):
            fetch(stars, tmp_path, service, filters="zr")

    def test_own_cutouts_of_another_list_without_a_manifest(self, stars, tmp_path, service):
        fetch(stars, tmp_path, service)
        (tmp_path / "manifest.csv").unlink()
        before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}
        with pytest.raises(ManifestError, match="does not list, such as star_"):
            fetch(stars[::-1].reset_index(drop=True), tmp_path, service)
        assert {name: (tmp_path / name).read_bytes() for name in files(tmp_path)} == before

    def test_unlisted_file(self, stars, tmp_path, service):
        (tmp_path / "star_7.fits").write_bytes(b"")
        with pytest.raises(ManifestError, match=r"does not list, such as star_7\.fits"):
            fetch(stars, tmp_path, service)
        assert service.fetched == []

    def test_positions_of_both_classes_in_one_table(self, stars, galaxies, tmp_path, service):
        with pytest.raises(ValueError, match="all stars or all galaxies; .*PSF"):
            fetch(pd.concat([stars, galaxies]), tmp_path, service)

    def test_positions_of_another_simulated_sky(self, stars, tmp_path):
        with pytest.raises(ValueError, match="no object at 5 of 5 positions; run notebook 1"):
            fetch(stars, tmp_path, MockSky(seed=2))
        assert files(tmp_path) == []


class TestUnusableAnswers:
    @pytest.mark.parametrize("fault", [not_fits, empty, cut_short, with_nan, too_small, too_large])
    def test_are_listed_as_skipped_and_leave_no_file(self, stars, tmp_path, mock_sky, fault):
        manifest = fetch(stars.head(3), tmp_path, Spoiled(mock_sky, stars, {1: fault}))
        assert manifest["status"].str.startswith("skipped: ").tolist() == [False, True, False]
        assert files(tmp_path) == star_files(0, 2)
        assert read_manifest(tmp_path)["status"].tolist() == manifest["status"].tolist()

    def test_position_off_every_image_is_listed_as_skipped(self, stars, tmp_path, service):
        lost = stars.head(2).assign(RA=[200.0, stars["RA"].iloc[1]])
        manifest = fetch(lost, tmp_path, service)
        assert manifest["status"].str.startswith("skipped: ").tolist() == [True, False]
        assert manifest["source_image"].iloc[0] == ""
        assert files(tmp_path) == star_files(1)


class TestNextBestImage:
    """An object is given up only when several images of it are of no use."""

    @pytest.fixture
    def images(self, stars, mock_sky):
        """Return the names of the images of the first star, the best first."""
        return [image_name(image) for image in ImageChooser(mock_sky).rank(*stars[["RA", "DEC"]].iloc[0])]

    @pytest.mark.parametrize("fault", [missing, proprietary, not_fits, empty, with_nan, too_small, too_large])
    def test_is_taken(self, stars, tmp_path, mock_sky, images, fault):
        service = Recorder(mock_sky, {0: fault})
        (row,) = fetch(stars.head(1), tmp_path, service).itertuples()
        assert (row.status, row.source_image) == ("saved", images[1])
        assert row.tried.startswith(f"{images[0]}: ")
        assert service.images == images[:2]
        assert len(service.searches) == 1
        assert fits.getheader(tmp_path / "star_0.fits")["FILENAME"][:25] in images[1]
        assert read_manifest(tmp_path)["tried"].tolist() == [row.tried]
        again = Recorder(mock_sky)
        fetch(stars.head(1), tmp_path, again)
        assert again.fetched == []

    def test_no_more_than_the_stated_number_is_tried(self, stars, tmp_path, mock_sky, images):
        assert len(images) == IMAGES_PER_OBJECT == 3
        service = Spoiled(mock_sky, stars, {0: not_fits})
        (row,) = fetch(stars.head(1), tmp_path, service).itertuples()
        assert row.status.startswith("skipped: ") and row.source_image == images[2]
        assert service.images == images
        assert [name in row.tried for name in images] == [True, True, False]

    @pytest.mark.parametrize("fault", [missing, proprietary])
    def test_what_may_come_later_has_failed_and_is_asked_for_again(self, stars, tmp_path, mock_sky, fault):
        manifest = fetch(stars.head(2), tmp_path, Spoiled(mock_sky, stars, {0: fault}))
        assert [status.split(":")[0] for status in manifest["status"]] == ["failed", "saved"]
        again = Recorder(mock_sky)
        manifest = fetch(stars.head(2), tmp_path, again)
        assert manifest["status"].tolist() == ["saved", "saved"]
        assert manifest["tried"].tolist() == ["", ""]
        assert len(again.fetched) == 1

    def test_one_missing_image_among_useless_ones_may_still_come(self, stars, tmp_path, mock_sky):
        service = Recorder(
            mock_sky, {0: not_fits, 1: missing, 2: not_fits, 3: not_fits, 4: missing, 5: not_fits}
        )
        assert fetch(stars.head(1), tmp_path, service)["status"].iloc[0].startswith("failed: ")

    def test_later_rows_do_not_make_up_for_what_the_next_image_gives(self, stars, tmp_path, mock_sky):
        fetch(stars, tmp_path, Recorder(mock_sky, {0: missing}), n_cutouts=2)
        assert files(tmp_path) == star_files(0, 1)

    def test_a_manifest_from_before_this_was_kept_is_extended(self, stars, tmp_path, service):
        fetch(stars.head(2), tmp_path, service)
        path = tmp_path / "manifest.csv"
        content = path.read_text()
        path.write_text(content.replace(",tried", "").replace(".fits,,", ".fits,"))
        fetch(stars.head(2), tmp_path, service)
        assert path.read_text() == content


class TestArguments:
    @pytest.mark.parametrize(
        "argument",
        [
            {"filters": "i"}, {"filters": ["ZTF_i"]}, {"filters": ["zr", "zq"]}, {"filters": None},
            {"filters": ()}, {"filters": ["zr", "zr"]}, {"n_images": 0}, {"n_images": 1.5},
            {"max_seeing": np.nan}, {"max_seeing": "2"}, {"max_seeing": -1}, {"max_infobits": 0.5},
            {"max_infobits": -1}, {"max_infobits": "0"}, {"n_cutouts": -1}, {"n_cutouts": 2.5},
            {"n_cutouts": "2"}, {"n_cutouts": True}, {"request_cost": "0"}, {"request_cost": None},
            {"request_cost": np.nan}, {"request_cost": -1}, {"request_cost": True},
        ],
    )  # fmt: skip
    def test_that_make_no_sense_are_named_before_anything_is_asked(self, stars, tmp_path, service, argument):
        with pytest.raises(ValueError, match=next(iter(argument))):
            fetch(stars, tmp_path / "new", service, **argument)
        assert not service.searches and not (tmp_path / "new").exists()

    @pytest.mark.parametrize(
        "lacking, fault",
        [
            (None, "got None, which lacks origin, search_images, get_cutout"),
            (MockSky, "MockSky'>, a class"),
            (SimpleNamespace(origin="sky", search_images=print), "which lacks get_cutout"),
        ],
    )
    def test_what_is_no_image_service_is_named(self, stars, tmp_path, lacking, fault):
        with pytest.raises(TypeError, match=f"service: expected an image service, .*{fault}"):
            fetch(stars, tmp_path / "new", lacking)
        assert not (tmp_path / "new").exists()

    def test_no_table_at_all_is_named(self, tmp_path, service):
        with pytest.raises(ValueError, match="positions: expected a table of stars, .*got an empty list"):
            fetch([], tmp_path / "new", service)
        assert not service.searches and not (tmp_path / "new").exists()

    @pytest.mark.parametrize("ra, dec", [(np.nan, 0.0), (7.0, 91.0), (np.inf, 0.0), (7.0, None)])
    def test_rows_without_a_position_are_named_before_anything_is_asked(
        self, stars, tmp_path, service, ra, dec
    ):
        table = stars.astype({"RA": object, "DEC": object})
        table.loc[1, ["RA", "DEC"]] = ra, dec
        with pytest.raises(
            ValueError, match="1 of 5 rows have no position in the sky, the first, row 1 from 0"
        ):
            fetch(table, tmp_path, service)
        assert not service.searches


def test_checksums_of_the_whole_image_are_not_those_of_its_cutout(stars, tmp_path, mock_sky):
    def with_checksum(content):
        with fits.open(BytesIO(content)) as hdus:
            hdus[0].add_checksum()
            file = BytesIO()
            hdus.writeto(file)
        return file.getvalue()

    fetch(stars.head(1), tmp_path, Recorder(mock_sky, {0: with_checksum}))
    header = fits.getheader(tmp_path / "star_0.fits")
    assert "CHECKSUM" not in header and "DATASUM" not in header


class Changing(Recorder):
    """An image service that runs a function before its first cutout."""

    def __init__(self, service, before):
        super().__init__(service)
        self.before = before

    def get_cutout(self, *arguments):
        if not self.fetched:
            self.before()
        return super().get_cutout(*arguments)


class WithoutImages(Recorder):
    """An image service whose archive is still empty."""

    def search_images(self, *arguments):
        raise NothingFound("nothing yet")


class TestOneRunAtATime:
    def test_second_run_in_the_same_folder_is_refused(self, stars, tmp_path, mock_sky):
        def second_run():
            with pytest.raises(ManifestError, match="another run is at work"):
                fetch(stars, tmp_path, mock_sky)

        service = Changing(mock_sky, second_run)
        assert len(fetch(stars, tmp_path, service)) == len(service.fetched) == 5

    def test_run_in_another_folder_is_not(self, stars, tmp_path, mock_sky):
        fetch(stars, tmp_path / "one", Changing(mock_sky, lambda: fetch(stars, tmp_path / "two", mock_sky)))
        assert files(tmp_path / "one") == files(tmp_path / "two") == star_files(0, 1, 2, 3, 4)


class TestLock:
    def test_lock_that_was_left_behind_does_not_stop_a_run(self, stars, tmp_path, mock_sky):
        (tmp_path / ".lock").write_bytes(b"")
        assert len(fetch(stars.head(1), tmp_path, mock_sky)) == 1

    def test_lock_is_open_to_all_users_whatever_the_umask(self, stars, tmp_path, mock_sky):
        before = os.umask(0o077)
        try:
            fetch(stars.head(1), tmp_path, mock_sky)
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / ".lock").stat().st_mode) == 0o666

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
    def test_lock_of_another_user_does_not_stop_a_run(self, stars, mock_sky):
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o777)
            fetch(stars.head(1), Path(folder), mock_sky)
            os.chmod(Path(folder) / "manifest.csv", 0o666)
            os.seteuid(NOBODY)
            try:
                with pytest.raises(PermissionError):
                    os.chmod(Path(folder) / ".lock", 0o600)
                assert len(fetch(stars.head(2), Path(folder), mock_sky)) == 2
            finally:
                os.seteuid(0)


class TestLateImages:
    def test_progress_of_a_resumed_run_is_complete(self, stars, tmp_path, mock_sky, capsys):
        lost = stars.assign(RA=[200.0, *stars["RA"].iloc[1:]])
        fetch(lost, tmp_path, Recorder(mock_sky), n_cutouts=2)
        capsys.readouterr()
        fetch_cutouts(lost, tmp_path, Recorder(mock_sky), n_cutouts=4)
        assert "| 4/4 [" in capsys.readouterr().err

    def test_position_without_image_is_looked_at_again(self, stars, tmp_path, mock_sky):
        before = fetch(stars, tmp_path, WithoutImages(mock_sky))
        assert before["status"].str.startswith("skipped: no image").all()
        assert set(fetch(stars, tmp_path, mock_sky)["status"]) == {"saved"}

    def test_looking_again_in_vain_changes_nothing(self, stars, tmp_path, mock_sky):
        lost = stars.assign(RA=[200.0, *stars["RA"].iloc[1:]])
        fetch(lost, tmp_path, Recorder(mock_sky))
        before = (tmp_path / "manifest.csv").read_bytes()
        again = Recorder(mock_sky)
        assert len(fetch(lost, tmp_path, again)) == 5
        assert again.fetched == []
        assert (tmp_path / "manifest.csv").read_bytes() == before


@pytest.mark.parametrize(("n_cutouts", "expected"), [(0, 0), (3, 3), (None, 5), (99, 5)])
def test_so_many_cutouts_are_fetched(stars, tmp_path, mock_sky, n_cutouts, expected):
    assert len(fetch(stars, tmp_path, mock_sky, n_cutouts=n_cutouts)) == expected


def test_tables_that_are_not_in_a_list_are_refused(stars, galaxies, tmp_path, mock_sky):
    with pytest.raises(TypeError, match="as a list"):
        fetch_cutouts(stars, galaxies, tmp_path, mock_sky)
