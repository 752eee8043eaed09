"""The notebooks run, each from the files of the one before, and are committed as a run leaves them."""

import json
import re
import shutil

import papermill
import pytest
from helpers import ROOT

from ztf_sg.cutouts import read_image_csv

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[1-4]_*.ipynb"))
CSV_NAMES = ["raw_image_data.csv", *(f"norm_{number}_image_data.csv" for number in range(1, 6))]
N_PER_CLASS = 20  # as few as an exercise of notebook 2 proposes


def stderr_of(notebook):
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output["text"] for output in outputs if output.get("name") == "stderr"]


@pytest.mark.notebooks
class TestRealCutouts:
    def test_notebooks_3_and_4_run(self, run_notebook, tmp_path, real_cutouts):
        every_third = tmp_path / "cutouts"
        every_third.mkdir()
        for path in sorted(real_cutouts.glob("*.fits"))[::3]:
            shutil.copy(path, every_third)
        for number in (3, 4):
            notebook = run_notebook(number, tmp_path, DATA_DIR=tmp_path / "data", CUTOUT_DIR=every_third)
            assert not stderr_of(notebook)


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

    def test_notebook_4_runs_and_warns_of_nothing_but_few_cutouts(self, run_notebook, folders, tmp_path):
        notebook = run_notebook(4, tmp_path, **folders)
        warnings = re.findall(r"\w+Warning: .*", "\n".join(stderr_of(notebook)))
        assert not [text for text in warnings if not re.search("nn_count=|max_error=", text)]

    def test_notebook_4_refuses_tables_of_another_folder(self, run_notebook, folders, tmp_path):
        with pytest.raises(papermill.PapermillExecutionError, match="was not made from"):
            run_notebook(4, tmp_path, DATA_DIR=folders["DATA_DIR"], CUTOUT_DIR=ROOT / "cutouts_test")

    def test_bundled_cutouts_go_with_the_positions(self, run_notebook, positions_folder, tmp_path):
        bundle = tmp_path / "cutouts_test"
        shutil.copytree(ROOT / "cutouts_test", bundle)
        before = {path.name: path.read_bytes() for path in bundle.glob("[!.]*")}
        run_notebook(2, tmp_path, DATA_DIR=positions_folder, CUTOUT_DIR=bundle)
        assert {path.name: path.read_bytes() for path in bundle.glob("[!.]*")} == before


@pytest.mark.notebooks
def test_notebook_4_says_that_notebook_3_comes_first(run_notebook, tmp_path):
    with pytest.raises(papermill.PapermillExecutionError, match="run notebook 3"):
        run_notebook(4, tmp_path, DATA_DIR=tmp_path / "nothing", CUTOUT_DIR=ROOT / "cutouts_test")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_notebook_is_as_a_clean_run_leaves_it(path):
    cells = json.loads(path.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"]
    assert not re.search(r"(?<![\w.])/(home|root|work|tmp|Users|usr|opt)/", json.dumps(outputs))
    assert sum("parameters" in cell["metadata"].get("tags", []) for cell in code) == 1
    assert path.stat().st_size < 600_000


def test_there_are_four_notebooks():
    assert [path.name[0] for path in NOTEBOOKS] == ["1", "2", "3", "4"]
