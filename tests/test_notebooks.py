"""The notebooks run, each from the files of the one before, and are committed as a run leaves them."""

import json
import re
import shutil

import numpy as np
import pytest
from astropy.io import fits
from helpers import ROOT

from ztf_sg.cutouts import list_cutouts, read_cutout, read_image_csv
from ztf_sg.simulation.stamps import simulate_stamps
from ztf_sg.streaks import write_alerts

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[1-5]_*.ipynb"))
TABLES = {"raw_image_data.csv", *(f"norm_{number}_image_data.csv" for number in range(1, 8))}
CSV_NAMES = ["raw_image_data.csv", *(f"norm_{number}_image_data.csv" for number in range(1, 6))]
N_STAMPS = 160  # enough of each kind to train on
N_PER_CLASS = 20  # as few as an exercise of notebook 2 proposes
# One warning, with the line of code that it is due to.
OUTSIDE = r".*Warning: \d+ of \d+ cutouts are outside of what the classifier was trained on: .*\n( .*\n)?\n*"


def stderr_of(notebook):
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output["text"] for output in outputs if output.get("name") == "stderr"]


# Sections of notebook 4: 4.5 compares kinds of data on random halves, 4.6 and 4.7 on unseen nights; 4.8 to
# 4.10 take long and see the same data.
SHORT = ("4.1", "4.2", "4.3", "4.4", "4.11")
DATA_KINDS = (*SHORT, "4.5")
UNSEEN_NIGHTS = (*DATA_KINDS, "4.6", "4.7")
MOST = (*UNSEEN_NIGHTS, "4.8", "4.9")


@pytest.mark.notebooks
@pytest.mark.exhaustive  # on simulated cutouts they run in other tests
class TestRealCutouts:
    def test_notebooks_3_and_4_run(self, run_notebook, tmp_path, real_cutouts):
        some = tmp_path / "cutouts"
        some.mkdir()
        for path in sorted(real_cutouts.glob("*.fits"))[::8]:
            shutil.copy(path, some)
        for number, sections in ((3, None), (4, SHORT)):
            places = {"DATA_DIR": tmp_path / "data", "CUTOUT_DIR": some}
            notebook = run_notebook(number, tmp_path, sections, **places)
            warnings = re.findall(r"\w+Warning: .*", "\n".join(stderr_of(notebook)))
            assert not [text for text in warnings if "max_error=" not in text]


@pytest.fixture(scope="class")
def positions_folder(run_notebook, tmp_path_factory):
    """Return a folder with what notebook 1 makes; not to be changed."""
    folder = tmp_path_factory.mktemp("notebook_1")
    assert not stderr_of(run_notebook(1, folder, DATA_DIR=folder / "data"))
    return folder / "data"


@pytest.fixture(scope="class")
def folders(run_notebook, positions_folder, tmp_path_factory):
    """Return the parameters of notebook 4 after notebooks 1 to 3, with few cutouts; not to be changed."""
    folder = tmp_path_factory.mktemp("notebooks_2_and_3")
    data, cutouts = folder / "data", folder / "cutouts"
    shutil.copytree(positions_folder, data)
    for number, size in ((2, {"N_PER_CLASS": N_PER_CLASS}), (3, {})):
        notebook = run_notebook(number, folder, DATA_DIR=data, CUTOUT_DIR=cutouts, **size)
        assert not [
            text for text in stderr_of(notebook) if "cutouts" not in text
        ]  # a progress bar is allowed
    return {"DATA_DIR": data, "CUTOUT_DIR": cutouts}


@pytest.mark.notebooks
class TestOffline:
    def test_notebooks_1_to_3_make_positions_then_cutouts_then_tables(self, folders):
        data, cutouts = folders.values()
        assert {"stars.csv", "gals.csv", *CSV_NAMES} <= {path.name for path in data.iterdir()}
        for name in ("star", "galaxy"):
            assert len(list(cutouts.glob(f"{name}_*.fits"))) == N_PER_CLASS
        assert all(len(read_image_csv(data / name)[1]) == 2 * N_PER_CLASS for name in CSV_NAMES)

    @pytest.mark.parametrize(
        "sections", [MOST, pytest.param(None, marks=pytest.mark.exhaustive)], ids=["most", "all"]
    )
    def test_notebook_4_warns_of_nothing_but_few_cutouts(self, run_notebook, folders, tmp_path, sections):
        notebook = run_notebook(4, tmp_path, sections, **folders)
        warnings = re.findall(r"\w+Warning: .*", "\n".join(stderr_of(notebook)))
        assert not [text for text in warnings if not re.search("nn_count=|max_error=|trained on", text)]

    @pytest.mark.exhaustive
    def test_notebook_2_shows_as_few_cutouts_as_there_are(self, run_notebook, positions_folder, tmp_path):
        places = {"DATA_DIR": positions_folder, "CUTOUT_DIR": tmp_path / "cutouts"}
        assert "6 cutouts of " in texts_of(run_notebook(2, tmp_path, N_PER_CLASS=3, **places))

    def test_bundled_cutouts_go_with_the_positions(self, run_notebook, positions_folder, tmp_path):
        bundle = tmp_path / "cutouts_test"
        shutil.copytree(ROOT / "cutouts_test", bundle)
        before = {path.name: path.read_bytes() for path in bundle.glob("[!.]*")}
        run_notebook(2, tmp_path, DATA_DIR=positions_folder, CUTOUT_DIR=bundle)
        assert {path.name: path.read_bytes() for path in bundle.glob("[!.]*")} == before


def write_bundled(folder, n_stars, n_galaxies, change=lambda pixels: pixels, name="{name}.fits", night=None):
    """Write bundled cutouts, changed and renamed, to a folder: n of each class, of one night if given."""
    wanted = {"star": n_stars, "galaxy": n_galaxies}
    for path in list_cutouts(ROOT / "cutouts_test"):
        kind, number = path.stem.split("_")
        if wanted[kind]:
            pixels, header = read_cutout(path)
            if night is None or int(header["OBSMJD"]) == night:
                file = folder / name.format(name=path.stem, number=number, parity=int(number) % 2)
                file.parent.mkdir(parents=True, exist_ok=True)
                fits.PrimaryHDU(change(pixels), header).writeto(file)
                wanted[kind] -= 1
    assert not any(wanted.values())


def without_sky(pixels):
    """Return a cutout as of a difference image: around 0, and 63 x 63 px."""
    return np.pad(pixels - np.median(pixels), ((21, 22), (21, 22)), mode="reflect")


def texts_of(notebook):
    """Return all that a notebook prints or shows as text, once it is clear that none of it is a fault."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    texts = [o["text"] if "text" in o else o.get("data", {}).get("text/plain", "") for o in outputs]
    assert not re.search(r"\b([Nn]a[Nn]|None|NaT|Traceback)\b", "\n".join(texts))
    return "\n".join(texts)


@pytest.fixture
def run_both(run_notebook, tmp_path):
    """Return a function that runs notebooks 3 and 4 on ``tmp_path/cutouts``.

    It returns the texts of both. Tables are written to ``tmp_path/data``. A warning must be the one allowed,
    or that some cutouts are outside of the range of the few that a classifier was trained on.
    """

    def run(sections=None, allowed="no warning"):
        texts = []
        for number, chosen in ((3, None), (4, sections)):
            places = {"DATA_DIR": tmp_path / "data", "CUTOUT_DIR": tmp_path / "cutouts"}
            notebook = run_notebook(number, tmp_path, chosen, **places)
            said = re.sub(OUTSIDE, "", "\n".join(stderr_of(notebook)))
            assert bool(said) == (allowed in said)
            assert all(allowed in line for line in re.findall(r"\w+Warning: .*", said))
            texts.append(texts_of(notebook))
        return texts

    return run


@pytest.mark.exhaustive
@pytest.mark.notebooks
class TestOddFolders:
    def tables(self, folder):
        return {path.name: len(read_image_csv(path)[1]) for path in (folder / "data").glob("*.csv")}

    def test_one_night_in_sub_folders_with_a_dead_pixel(self, run_both, tmp_path):
        cutouts = tmp_path / "cutouts"
        write_bundled(cutouts, 30, 30, name="{parity}/{name}.fits.gz", night=58461)
        path = list_cutouts(cutouts)[7]
        pixels, header = read_cutout(path)
        pixels[0, 0] = 0
        fits.writeto(path, pixels, header, overwrite=True)
        texts = run_both(UNSEEN_NIGHTS, allowed="max_error=")
        for text in texts:
            assert "60 cutouts of 20 x 20 px: 30 stars, 30 galaxies, 0 unknown\n1 night;" in text
            assert text.count("log_minus_min leaves out 1 of 60 cutouts: their logarithm is undefined") == 1
        assert "held out in turn: thirds at random (unseen nights are left out: too few)" in texts[1]
        assert "the truth is not known: classifiers are judged by the labels" in texts[1]
        assert "log_minus_min is left out: it does not apply to all cutouts" in texts[1]
        assert "the limit is left out: the truth is not known" in texts[1]
        left_out = {"norm_1_image_data.csv": 59, "norm_5_image_data.csv": 59}
        assert self.tables(tmp_path) == dict.fromkeys(TABLES, 60) | left_out

    def test_difference_images_of_63_px(self, run_both, tmp_path):
        write_bundled(tmp_path / "cutouts", 20, 20, without_sky)
        texts = run_both(DATA_KINDS, allowed="max_error=")
        for text in texts:
            assert "40 cutouts of 63 x 63 px: 20 stars, 20 galaxies" in text
            assert "log_min_over_global_max leaves out 40 of 40 cutouts" in text
        assert "shown are the 6 techniques that apply to all" in texts[0]
        assert re.search(r"min_over_global_max( +-?\d\.\d+){4}\n", texts[1])
        assert not re.search(r"log_min\w+( +-?\d\.\d+){4}\n", texts[1])
        logarithms = {"norm_1_image_data.csv", "norm_5_image_data.csv"}
        assert self.tables(tmp_path) == dict.fromkeys(TABLES - logarithms, 40)

    def test_cutouts_of_unknown_class_are_classified_and_bundled_ones_explain(self, run_both, tmp_path):
        write_bundled(tmp_path / "cutouts", 20, 20, name="object_{name}.fits")
        sections = ("4.1", "4.2", "4.4", "4.5", "4.6", "4.7", "4.11")  # the others see the same
        texts = run_both(sections, allowed="40 of 40 names start with neither star_ nor galaxy_")
        assert all("40 cutouts of 20 x 20 px: 0 stars, 0 galaxies, 40 unknown" in text for text in texts)
        assert "bright unknown" in texts[0]
        assert "same night" in texts[0] and "same class" not in texts[0]
        assert "4.2 to 4.10 are left out for these cutouts, and show bundled ones" in texts[1]
        assert "limit of the data" in texts[1]
        assert re.search(r"\d+ of 40 are galaxies; look at \d+", texts[1])
        assert self.tables(tmp_path) == dict.fromkeys(TABLES, 40)

    @pytest.mark.parametrize(
        "n_stars, n_galaxies, counts",
        [
            (30, 0, "30 cutouts of 20 x 20 px: 30 stars, 0 galaxies, 0 unknown"),
            (6, 6, "12 cutouts of 20 x 20 px: 6 stars, 6 galaxies, 0 unknown"),
        ],
        ids=["one class", "twelve cutouts"],
    )
    def test_too_few_to_train_on_are_still_classified(self, run_both, tmp_path, n_stars, n_galaxies, counts):
        write_bundled(tmp_path / "cutouts", n_stars, n_galaxies)
        texts = run_both(sections=("4.1", "4.11"))
        assert all(counts in text and "all techniques apply" in text for text in texts)
        assert ("galaxy" in texts[0].split("GlobalStatistics")[0]) == (n_galaxies > 0)
        assert ("bright star" in texts[0]) == (n_stars > 1)
        assert f"there are {n_stars} and {n_galaxies}" in texts[1]
        assert re.search(rf"\d+ of {n_stars + n_galaxies} are galaxies", texts[1])
        assert self.tables(tmp_path) == dict.fromkeys(TABLES, n_stars + n_galaxies)


@pytest.mark.notebooks
class TestMovingObjects:
    def test_notebook_5_runs_on_few_stamps_and_on_alerts_of_ones_own(self, run_notebook, tmp_path):
        write_alerts(simulate_stamps(16, seed=9), tmp_path / "alerts.parquet")
        notebook = run_notebook(5, tmp_path, N_STAMPS=N_STAMPS, ALERTS=tmp_path / "alerts.parquet")
        assert not stderr_of(notebook)
        text = json.dumps([cell.get("outputs") for cell in notebook.cells])
        assert "0 unknown; 63 x 63 px); 0 could not be read" in text
        assert "39 of 39 flashes are linked" in text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_notebook_is_as_a_clean_run_leaves_it(path):
    cells = json.loads(path.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"]
    assert not re.search(r"(?<![\w.])/(home|root|work|tmp|Users|usr|opt)/", json.dumps(outputs))
    assert sum("parameters" in cell["metadata"].get("tags", []) for cell in code) == 1
    assert path.stat().st_size < (330_000 if path.name[0] < "4" else 500_000)  # 4 has most figures, 5 noise


def test_there_are_five_notebooks():
    assert [path.name[0] for path in NOTEBOOKS] == ["1", "2", "3", "4", "5"]
