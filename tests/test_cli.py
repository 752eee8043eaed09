"""The command ztf-sg: what it prints and writes, and with which exit status it ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io.votable import parse
from astropy.table import Table
from helpers import ROOT, StoredSky, modules_after

import ztf_sg
from ztf_sg import cli, plotting
from ztf_sg.services.errors import ServiceDown, WrongPassword
from ztf_sg.services.irsa import Irsa

ARGUMENTS = ("--offline", "--filters", "i", "--images", "1")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(ztf_sg.__file__).parents[1])}


@pytest.fixture(scope="module")
def stored(mock_sky):
    return StoredSky(mock_sky)


@pytest.fixture
def sky(stored, monkeypatch):
    """Return the simulated sky of the option --offline, which draws each cutout once for all tests."""
    sky = stored.fresh()
    monkeypatch.setattr("ztf_sg.simulation.MockSky", lambda: sky)
    return sky


@pytest.fixture
def positions(mock_positions, tmp_path):
    """Return a file of six objects, of which one has no position, and one lies outside of the survey."""
    table = pd.concat([each.head(3) for each in mock_positions], ignore_index=True)[["RA", "DEC"]]
    table.insert(0, "name", list("abcdef"))
    table.loc[1, "RA"] = np.nan
    table.loc[4, ["RA", "DEC"]] = 100.0, 50.0
    table.to_csv(tmp_path / "positions.csv", index=False)
    return tmp_path / "positions.csv"


@pytest.fixture
def run(tmp_path, capsys):
    """Return a function that runs the command in this process, and gives status, output and errors."""

    def run(*arguments):
        try:
            status = cli.main(list(map(str, arguments)))
        except SystemExit as ended:
            status = ended.code
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


class TestClassify:
    def test_list_becomes_a_table_and_a_summary(self, run, sky, positions, tmp_path):
        status, out, err = run("classify", positions, *ARGUMENTS, "--output", tmp_path / "classes.csv")
        table = pd.read_csv(tmp_path / "classes.csv", keep_default_na=False)
        assert table["name"].tolist() == list("abcdef")
        assert (table["class"] != "").tolist() == [True, False, True, True, False, True]
        stars = (table["class"] == "star").sum()
        assert out.splitlines()[0] == f"asked 6, classified 4: stars {stars}, galaxies {4 - stars}"
        assert out.splitlines()[-1] == "without a class 2: bad row 1, no image 1"
        assert (status, err) == (0, "")
        assert names_in(tmp_path) == ["classes.csv", "positions.csv"], "what was on the way is gone"

    @pytest.mark.parametrize("ending", ["csv", "ecsv", "vot", "parquet"])
    def test_table_can_be_read_again_with_what_it_was_made_of(self, run, sky, positions, tmp_path, ending):
        path = tmp_path / f"classes.{ending}"
        status, *_ = run(
            "classify", positions, *ARGUMENTS, "--galaxy-fraction", "0.2", "--output", path, "--directory",
            tmp_path / "kept",
        )  # fmt: skip
        assert status == 0
        made = {"galaxy_fraction": 0.2, "filters": ["zi"], "n_images": 1, "images_from": sky.origin}
        made |= {"list": str(positions), "package": f"ztf_sg {ztf_sg.__version__}", "model": "pretrained"}
        if ending == "vot":
            infos = {info.name: info.value for info in parse(path).get_first_table().infos}
            assert infos.items() >= {name: str(value).strip("[']") for name, value in made.items()}.items()
        elif ending == "parquet":
            assert pd.read_parquet(path).attrs.items() >= made.items()
        elif ending == "ecsv":
            assert Table.read(path).meta.items() >= made.items()
        table = pd.read_parquet(path) if ending == "parquet" else Table.read(path).to_pandas()
        assert table["name"].tolist() == list("abcdef")
        assert table["n_images"].tolist() == [1, 0, 1, 1, 0, 1]
        assert table["p_galaxy"].isna().tolist() == [False, True, False, False, True, False]

    @pytest.mark.parametrize("ending", ["csv", "ecsv", "vot", "parquet"])
    def test_odd_names_of_objects_and_files_do_no_harm(self, run, sky, positions, tmp_path, ending):
        table = pd.read_csv(positions)
        table["name"] = ["$\\foo$", "a\x0bb", "星系", "&<'\">", "c\ufffed", "d\x1b[1m"]
        source, path = tmp_path / "l\udce9 ü.csv", tmp_path / f"ä b.{ending}"
        table.to_csv(source, index=False)
        assert run("classify", source, *ARGUMENTS, "--output", path)[0] == 0
        written = pd.read_parquet(path) if ending == "parquet" else Table.read(path)
        assert list(written["name"]) == ["$\\foo$", "a b", "星系", "&<'\">", "c d", "d [1m"]

    def test_units_are_in_the_file(self, run, sky, positions, tmp_path):
        run("classify", positions, *ARGUMENTS, "--output", tmp_path / "classes.ecsv")
        table = Table.read(tmp_path / "classes.ecsv")
        assert table["RA"].unit == table["DEC"].unit == "deg"

    def test_most_uncertain_objects_are_drawn(self, run, sky, positions, tmp_path):
        plot = tmp_path / "uncertain.png"
        run("classify", positions, *ARGUMENTS, "--output", tmp_path / "classes.csv", "--plot", plot)
        assert plot.read_bytes().startswith(b"\x89PNG")

    @pytest.mark.parametrize("bands, shown", [("i", "4472832130"), ("ri", "4472832130942575872")])
    def test_names_of_drawn_objects_have_room(self, run, sky, positions, tmp_path, monkeypatch, bands, shown):
        drawn, draw = [], plotting.plot_objects

        def plot_objects(images, names, **options):
            drawn.extend(names)
            return draw(images, names, **options)

        monkeypatch.setattr("ztf_sg.plotting.plot_objects", plot_objects)
        pd.read_csv(positions).head(1).assign(name=4472832130942575872).to_csv(positions, index=False)
        command = "classify", positions, "--offline", "--images", "1", "--filters", *bands
        run(*command, "--output", tmp_path / "classes.csv", "--plot", tmp_path / "plot.png")
        assert [name.split("  ")[0] for name in drawn] == [shown]

    def test_cutouts_that_are_there_are_classified_as_a_list_is(self, run, sky, positions, tmp_path):
        run("classify", positions, *ARGUMENTS, "--output", tmp_path / "list.parquet")
        assert run("fetch", positions, tmp_path / "fits", *ARGUMENTS)[:2] == (
            0,
            "objects 6, images wanted 5: saved 4, skipped 1, failed 0\n"
            "bad rows 1, the first, row 1: RA is missing; give a position, or leave the row out\n",
        )
        status, out, _ = run("classify", tmp_path / "fits", "--output", tmp_path / "fits.parquet")
        assert status == 0 and out.startswith("asked 4, classified 4: ")
        of_list, of_cutouts = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("list", "fits"))
        merged = of_list.merge(of_cutouts, on="name", suffixes=("", "_of_cutouts"))
        assert merged["name"].tolist() == list("acdf")
        assert merged["p_galaxy"].equals(merged["p_galaxy_of_cutouts"])
        status, _, err = run("classify", tmp_path / "fits", "--output", tmp_path / "fits" / "fits.parquet")
        assert status == 1 and "would be read as well in the next run" in err

    def test_list_in_a_parquet_file_is_no_cutouts(self, run, sky, positions, tmp_path):
        pd.read_csv(positions).to_parquet(tmp_path / "list.parquet")
        output = tmp_path / "classes.csv"
        assert run("classify", tmp_path / "list.parquet", *ARGUMENTS, "--output", output)[0] == 0


class TestFailures:
    def test_images_that_did_not_come_end_with_status_3_and_the_next_run_goes_on(
        self, run, sky, positions, tmp_path
    ):
        command = "classify", positions, *ARGUMENTS, "--output", tmp_path / "classes.csv"
        sky.missing = lambda image, ra: ra == pd.read_csv(positions)["RA"][0]
        status, out, err = run(*command)
        assert status == 3
        assert "without a class 3: failed 1, " in out
        assert err.startswith("ztf-sg: warning: ") and "run it again" in err and err.count("\n") == 1
        assert (tmp_path / "classes.csv.parts").is_dir()
        sky.missing = None
        assert run(*command)[0] == 0
        assert not (tmp_path / "classes.csv.parts").exists()

    @pytest.mark.parametrize(
        "error", [ServiceDown("no answer for 900 s"), WrongPassword("check user name and password")]
    )
    def test_error_is_one_line_and_debug_shows_where(self, run, sky, positions, tmp_path, error):
        sky.faults[0] = error
        command = "classify", positions, *ARGUMENTS, "--output", tmp_path / "classes.csv"
        status, out, err = run(*command)
        assert (status, out) == (1, "")
        assert err.startswith(f"ztf-sg: {error}") and err.count("\n") == 1
        assert not (tmp_path / "classes.csv").exists()
        sky.faults[len(sky.asked)] = error
        with pytest.raises(type(error)):
            run(*command, "--debug")

    def test_unexpected_error_is_named(self, run, sky, positions, tmp_path, monkeypatch):
        monkeypatch.setattr("ztf_sg.own_objects.classify_positions", lambda *_, **__: 1 / 0)
        status, _, err = run("classify", positions, *ARGUMENTS, "--output", tmp_path / "classes.csv")
        assert (status, err) == (
            1,
            "ztf-sg: ZeroDivisionError: division by zero; run it with --debug for more\n",
        )

    def test_list_that_is_not_there(self, run, tmp_path):
        status, _, err = run("classify", tmp_path / "none.csv", "--output", tmp_path / "classes.csv")
        assert status == 1
        assert err == f"ztf-sg: {tmp_path / 'none.csv'}: no such file; check its name\n"

    @pytest.mark.parametrize(
        "arguments",
        [
            (),
            ("classify",),
            ("classify", "positions.csv"),
            ("classify", "positions.csv", "--output", "classes.xyz"),
            ("classify", "positions.csv", "--output", "classes"),
            ("classify", "positions.csv", "--output", "classes.csv", "--filters", "z"),
            ("classify", "positions.csv", "--output", "classes.csv", "--images", "0"),
            ("classify", "positions.csv", "--output", "classes.csv", "--galaxy-fraction", "1"),
            ("classify", "positions.csv", "--output", "classes.csv", "--plot", "page.doc"),
            ("classify", "positions.csv", "--output", "classes.csv", "--max-seeing", "0"),
            ("classify", "positions.csv", "--output", "classes.csv", "--max-seeing", "inf"),
            ("classify", "positions.csv", "--output", "classes.csv", "--max-error", "2"),
            ("moving", "alerts.avro", "--output", "classes.csv", "--max-error", "nan"),
            ("classify", ".", "--output", "classes.csv", "--workers", "2"),
            ("classify", ".", "--output", "classes.csv", "--max-seeing", "2"),
        ],
    )
    def test_wrong_command_line_ends_with_status_2_before_any_work(self, run, sky, arguments):
        status, out, err = run(*arguments)
        assert (status, out) == (2, "")
        assert err.splitlines()[-1].startswith("ztf-sg")
        assert not sky.searches

    def test_output_that_cannot_be_written_is_refused_before_any_work(self, run, sky, positions, tmp_path):
        (tmp_path / "folder.csv").mkdir()
        (tmp_path / "file").touch()
        for output, fault in (("folder.csv", "is a folder"), ("file/classes.csv", "is a file")):
            status, _, err = run("classify", positions, *ARGUMENTS, "--output", tmp_path / output)
            assert status == 1 and fault in err
        command = "classify", positions, *ARGUMENTS, "--output", tmp_path / "classes.csv"
        status, _, err = run(*command, "--plot", tmp_path / "file" / "plot.png")
        assert status == 1 and "is a file" in err
        assert not sky.searches

    @pytest.mark.parametrize("by_link", [False, True])
    def test_list_is_never_overwritten_by_its_classes(self, run, sky, positions, tmp_path, by_link):
        before, output = positions.read_text(), positions
        if by_link:
            output = tmp_path / "link.csv"
            output.symlink_to(positions)
        status, _, err = run("classify", positions, *ARGUMENTS, "--output", output)
        assert status == 1 and "is what is to be classified; name another file for --output" in err
        assert positions.read_text() == before and not sky.searches

    def test_folder_of_other_files_is_not_removed(self, run, sky, positions, tmp_path):
        other = tmp_path / "classes.csv.parts" / "other.txt"
        other.parent.mkdir()
        other.touch()
        status, _, err = run("classify", positions, *ARGUMENTS, "--output", tmp_path / "classes.csv")
        assert status == 1 and "holds other files; move them, or name a folder with --directory" in err
        assert other.exists() and not sky.searches

    def test_file_of_results_stays_as_it_was_if_the_next_run_fails(self, run, sky, positions, tmp_path):
        (tmp_path / "classes.csv").write_text("before")
        sky.faults[0] = ServiceDown("no answer")
        assert run("classify", positions, *ARGUMENTS, "--output", tmp_path / "classes.csv")[0] == 1
        assert (tmp_path / "classes.csv").read_text() == "before"

    def test_interrupt_ends_with_status_130_and_the_same_command_goes_on(self, run, sky, positions, tmp_path):
        sky.faults[2] = KeyboardInterrupt()
        command = "classify", positions, *ARGUMENTS, "--output", tmp_path / "classes.csv"
        status, out, err = run(*command)
        assert (status, out) == (130, "")
        parts = tmp_path / "classes.csv.parts"
        assert err == (
            f"ztf-sg: stopped with 0 of 1 parts of the list done, which {parts} keeps; "
            "run it again to go on\n"
        )
        assert run(*command)[0] == 0
        assert len(sky.asked) == 5, "each once, and the one that was under way again"

    def test_password_is_in_no_message(self, run, positions, tmp_path, monkeypatch):
        monkeypatch.setenv("IRSA_USERNAME", "somebody")
        monkeypatch.setenv("IRSA_PASSWORD", "planted-secret")

        def refuse(service, *arguments):
            service._account._auth = "somebody", "planted-secret"
            raise WrongPassword(f"{service} opens no session")

        monkeypatch.setattr(Irsa, "search_images", refuse)
        status, out, err = run("classify", positions, "--output", tmp_path / "classes.csv")
        assert status == 1 and "opens no session" in err
        left = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        assert "planted-secret" not in out + err + left.decode(errors="replace")


class TestProcess:
    def test_help_loads_nothing_heavy(self, tmp_path):
        heavy = {"numpy", "pandas", "astropy", "sklearn", "matplotlib", "pyarrow", "numba"}
        assert not modules_after(["ztf_sg.cli"], tmp_path)["ztf_sg.cli"] & heavy

    @pytest.mark.parametrize("command", [[], ["classify"], ["fetch"]])
    def test_help_shows_an_example_or_the_exit_status(self, run, command):
        status, out, _ = run(*command, "--help")
        assert status == 0
        assert "example:\n  ztf-sg" in out or "exit status:" in out

    def test_version(self, run):
        assert run("--version")[:2] == (0, f"ztf-sg {ztf_sg.__version__}\n")

    def test_reader_that_has_gone_does_not_matter_but_a_full_disk_does(self, tmp_path):
        code = (
            "import sys; from ztf_sg import cli; cli._classify = lambda options: ('summary', cli.FINE); "
            "sys.exit(cli.main(['classify', '.', '--output', 'classes.csv']))"
        )
        for stdout, status in ((self._pipe_without_reader(), 0), (os.open("/dev/full", os.O_WRONLY), 1)):
            ended = subprocess.run(
                [sys.executable, "-c", code],
                stdout=stdout,
                stderr=subprocess.PIPE,
                cwd=tmp_path,
                env=ENVIRONMENT,
            )
            assert (ended.returncode, ended.stderr.count(b"\n")) == (status, status)

    @staticmethod
    def _pipe_without_reader():
        reader, writer = os.pipe()
        os.close(reader)
        return writer

    def test_script_of_the_package_is_the_command(self):
        assert 'ztf-sg = "ztf_sg.cli:main"' in (ROOT / "pyproject.toml").read_text()

    @pytest.mark.slow
    def test_signal_of_the_keyboard_ends_a_process_without_a_traceback(self, positions, tmp_path):
        command = [
            sys.executable,
            "-m",
            "ztf_sg",
            "classify",
            positions,
            *ARGUMENTS,
            "--output",
            "classes.csv",
        ]
        process = subprocess.Popen(
            list(map(str, command)), cwd=tmp_path, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
        )
        while not (tmp_path / "classes.csv.parts" / "fetched").exists() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130
        assert err.startswith("ztf-sg: stopped with 0 of 1 parts") and err.count("\n") == 1
