"""The notebooks run, each from the files of the one before, and are committed as a run leaves them."""

import json
import re
import shutil
from pathlib import Path

import papermill
import pytest

from ztf_sg.dataset import read_image_csv

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[1-4]_*.ipynb"))
CSV_NAMES = ["raw_image_data.csv", *(f"norm_{number}_image_data.csv" for number in range(1, 6))]


def run(number, tmp_path, **parameters):
    """Execute a notebook from its own folder's place, with scratch output."""
    parameters = {
        name: str(value) if isinstance(value, Path) else value for name, value in parameters.items()
    }
    return papermill.execute_notebook(
        NOTEBOOKS[number - 1],
        tmp_path / f"{number}.ipynb",
        parameters,
        cwd=tmp_path,
        progress_bar=False,
        kernel_name="python3",
    )


def stderr_of(notebook):
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output["text"] for output in outputs if output.get("name") == "stderr"]


@pytest.mark.notebooks
def test_offline_pipeline_makes_positions_then_cutouts_then_tables(tmp_path):
    data, cutouts = tmp_path / "data", tmp_path / "cutouts"
    for number in (1, 2, 3):
        needed = {"DATA_DIR": data} if number == 1 else {"DATA_DIR": data, "CUTOUT_DIR": cutouts}
        notebook = run(number, tmp_path, **needed, **({"N_PER_CLASS": 15} if number == 2 else {}))
        assert not [text for text in stderr_of(notebook) if "cutouts" not in text]
    assert {"stars.csv", "gals.csv", *CSV_NAMES} <= {path.name for path in data.iterdir()}
    assert len(list(cutouts.glob("star_*.fits"))) == len(list(cutouts.glob("galaxy_*.fits"))) == 15
    assert all(len(read_image_csv(data / name)[1]) == 30 for name in CSV_NAMES)


@pytest.mark.notebooks
def test_bundled_cutouts_go_with_the_positions_of_notebook_1(tmp_path):
    bundle = tmp_path / "cutouts_test"
    shutil.copytree(ROOT / "cutouts_test", bundle)
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    run(1, tmp_path, DATA_DIR=tmp_path / "data")
    run(2, tmp_path, DATA_DIR=tmp_path / "data", CUTOUT_DIR=bundle)
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before


@pytest.mark.notebooks
def test_notebooks_3_and_4_run_on_the_bundle(tmp_path):
    for number in (3, 4):
        notebook = run(number, tmp_path, DATA_DIR=tmp_path / "data", CUTOUT_DIR=ROOT / "cutouts_test")
        assert not stderr_of(notebook)


@pytest.mark.notebooks
def test_notebooks_3_and_4_run_on_real_cutouts(tmp_path, real_cutouts):
    for number in (3, 4):
        notebook = run(number, tmp_path, DATA_DIR=tmp_path / "data", CUTOUT_DIR=Path(real_cutouts))
        assert not stderr_of(notebook)


@pytest.mark.notebooks
def test_notebook_4_says_that_notebook_3_comes_first(tmp_path):
    with pytest.raises(papermill.PapermillExecutionError, match="run notebook 3"):
        run(4, tmp_path, DATA_DIR=tmp_path / "nothing", CUTOUT_DIR=ROOT / "cutouts_test")


@pytest.mark.notebooks
@pytest.mark.filterwarnings("ignore")
def test_notebooks_3_and_4_run_on_a_handful_of_cutouts(tmp_path, simulated_cutouts):
    for number in (3, 4):
        run(number, tmp_path, DATA_DIR=tmp_path / "data", CUTOUT_DIR=Path(simulated_cutouts))


@pytest.mark.notebooks
def test_notebook_4_refuses_tables_of_another_folder(tmp_path, simulated_cutouts):
    run(3, tmp_path, DATA_DIR=tmp_path / "data", CUTOUT_DIR=Path(simulated_cutouts))
    with pytest.raises(papermill.PapermillExecutionError, match="were not made from"):
        run(4, tmp_path, DATA_DIR=tmp_path / "data", CUTOUT_DIR=ROOT / "cutouts_test")


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
