import builtins
import io

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from ztf_sg import CutoutSet, load_example
from ztf_sg.plotting import LabelCutouts

LONG = "name,label,time\ngalaxy_0,1,2026-01-01,sure\n"  # a note that was added by hand


@pytest.fixture
def cutouts():
    return load_example()[::10]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "labels.csv"


def click(labelling, word):
    """Click the button of that word, as the front end does."""
    (button,) = [each for each in labelling.widget.children[2].children if each.description.startswith(word)]
    assert not button.disabled
    button.click()


def progress(labelling):
    return labelling.widget.children[-1].value


def rows(path):
    table = pd.read_csv(path, dtype={"name": str})
    return list(zip(table["name"], table["label"], strict=True))


def test_every_answer_is_in_the_file_at_once(cutouts, path):
    labelling = LabelCutouts(cutouts, path)
    assert not path.exists()
    click(labelling, "galaxy")
    assert rows(path) == [("galaxy_0", 1)]
    click(labelling, "star")
    click(labelling, "skip")
    assert rows(path) == [("galaxy_0", 1), ("galaxy_370", 0), ("star_0", -1)]
    assert progress(labelling) == "3 of 4 labelled"
    assert pd.to_datetime(pd.read_csv(path)["time"], utc=True).notna().all()


def test_picture_is_the_cutout_with_its_first_row_at_the_bottom(cutouts, path):
    images = np.zeros((1, 20, 30))
    images[0, 0] = np.arange(30)
    labelling = LabelCutouts(CutoutSet(images, [-1], pd.DataFrame({"name": ["a"]})), path)
    picture = matplotlib.image.imread(io.BytesIO(labelling.widget.children[0].value))
    assert picture.shape[:2] == (320, 480)
    assert picture[-1, -1, 0] == picture[-16, -1, 0] == 1
    assert picture[:-16, :, 0].max() == 0


def test_each_answer_brings_the_next_picture(cutouts, path):
    labelling = LabelCutouts(cutouts, path)
    pictures = []
    for _ in range(len(cutouts)):
        pictures.append(labelling.widget.children[0].value)
        click(labelling, "star")
    assert len(set(pictures)) == len(cutouts)
    assert labelling.current is None
    assert [button.disabled for button in labelling.widget.children[2].children] == [True, True, True, False]
    labelling.press("s")
    assert len(rows(path)) == len(cutouts)


def test_keys_that_are_typed_label(cutouts, path):
    labelling = LabelCutouts(cutouts, path)
    box = labelling.widget.children[3]
    for text in ("s", "sgx", "sgx", "sgxk", "sg"):  # fast typing adds several keys; deleting does nothing
        box.value = text
    assert [label for _, label in rows(path)] == [0, 1, -1]
    box.value = "sgu"
    assert [label for _, label in rows(path)] == [0, 1]


def test_undo_shows_the_last_cutout_again(cutouts, path):
    labelling = LabelCutouts(cutouts, path)
    first = labelling.widget.children[0].value
    click(labelling, "star")
    click(labelling, "undo")
    assert rows(path) == []
    assert labelling.widget.children[0].value == first
    labelling.press("u")  # nothing is left to undo
    assert (labelling.current, progress(labelling)) == (0, "0 of 4 labelled")


def test_labelling_goes_on_where_it_was_and_undoes_what_was_before(cutouts, path):
    click(LabelCutouts(cutouts, path), "star")
    labelling = LabelCutouts(cutouts, path)
    assert labelling.current == 1
    click(labelling, "undo")
    assert labelling.current == 0


def test_other_rows_and_columns_of_the_file_are_kept(cutouts, path):
    path.write_text("name,label,time,note\n007,1,2026-01-01,NA\n")
    labelling = LabelCutouts(cutouts, path)
    labelling.press("u")  # the only row is of another set
    click(labelling, "star")
    assert path.read_text().splitlines()[:2] == ["name,label,time,note", "007,1,2026-01-01,NA"]
    assert progress(labelling) == "1 of 4 labelled"


def test_what_others_write_to_the_file_meanwhile_is_kept(cutouts, path):
    first, second = LabelCutouts(cutouts[:2], path), LabelCutouts(cutouts[2:], path)
    click(first, "star")
    click(second, "galaxy")
    click(first, "skip")
    assert rows(path) == [("galaxy_0", 0), ("star_0", 1), ("galaxy_370", -1)]
    path.write_text(path.read_text().replace("galaxy_0,0", "galaxy_0,1") + "mine,1,2026-01-01\n")
    click(second, "undo")  # its own answer, not the last one
    assert rows(path) == [("galaxy_0", 1), ("galaxy_370", -1), ("mine", 1)]
    assert progress(second) == "0 of 2 labelled"


def test_link_to_a_file_stays_one(cutouts, path):
    link = path.with_name("link.csv")
    link.symlink_to(path)
    click(LabelCutouts(cutouts, link), "star")
    assert rows(path) == [("galaxy_0", 0)]


def test_fault_is_told_where_the_user_sees_it(cutouts, path):
    labelling = LabelCutouts(cutouts, path)
    path.write_text(LONG)
    click(labelling, "star")
    assert "nothing is written: " in progress(labelling)
    assert "has rows of more values than columns" in progress(labelling)
    labelling.widget.children[3].value = "sg"
    path.unlink()
    labelling.widget.children[3].value = "sgg"
    assert rows(path) == [("galaxy_0", 1)]
    assert progress(labelling) == "1 of 4 labelled"


@pytest.mark.parametrize("name", ["a,b", 'a"b', "a\nb", "NA", " a", "007", "é", "=1"])
def test_names_of_all_kinds_are_found_again(cutouts, path, name):
    one = CutoutSet(cutouts.images[:1], cutouts.labels[:1], pd.DataFrame({"name": [name]}))
    LabelCutouts(one, path).press("s")
    assert LabelCutouts(one, path).current is None


def test_file_that_may_not_be_written_is_named_at_once(cutouts, path, monkeypatch):
    with pytest.raises(IsADirectoryError, match="is a folder; name a CSV file"):
        LabelCutouts(cutouts, path.parent)
    path.write_text("name,label,time\n")
    monkeypatch.setattr("os.access", lambda *_: False)  # as for all users but root
    with pytest.raises(PermissionError, match="labels.csv: may only be read"):
        LabelCutouts(cutouts, path)


def test_answer_that_cannot_be_written_is_not_taken_for_written(cutouts, tmp_path):
    folder = tmp_path / "taken"
    labelling = LabelCutouts(cutouts, folder / "labels.csv")
    folder.write_text("a file")
    with pytest.raises(NotADirectoryError, match="taken: is a file"):
        labelling.press("s")
    assert labelling.current == 0
    assert len(labelling.table) == 0


@pytest.mark.parametrize(
    "content", ["", "ra,dec\n1,2\n", "name,label,time\n1,2,3,4,5\n,,,,,,\n", "\xff\xfe", LONG]
)
def test_file_that_is_no_table_of_labels_is_left_alone(cutouts, path, content):
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match="labels.csv: .*; name (the columns, or )?another file"):
        LabelCutouts(cutouts, path)
    assert path.read_bytes() == content.encode("latin-1")


def test_names_must_tell_cutouts_apart(cutouts, path):
    twice = CutoutSet(cutouts.images, cutouts.labels, cutouts.table.assign(name="a"))
    with pytest.raises(ValueError, match="a occurs twice; set table"):
        LabelCutouts(twice, path)
    with pytest.raises(ValueError, match="carriage return"):
        LabelCutouts(CutoutSet(cutouts.images[:1], [0], pd.DataFrame({"name": ["a\rb"]})), path)
    with pytest.raises(ValueError, match="some have none"):
        LabelCutouts(CutoutSet(cutouts.images, cutouts.labels, cutouts.table[["ra", "dec"]]), path)


def test_missing_ipywidgets_is_named_with_its_remedy(cutouts, path, monkeypatch):
    real = builtins.__import__

    def without_ipywidgets(name, *args, **kwargs):
        if name == "ipywidgets":
            raise ImportError("No module named 'ipywidgets'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_ipywidgets)
    with pytest.raises(ImportError, match=r"pip install 'ztf_sg\[notebooks\]'"):
        LabelCutouts(cutouts, path)


@pytest.mark.notebooks
def test_labelling_in_a_kernel_displays_a_widget(tmp_path, monkeypatch):
    from nbclient import NotebookClient
    from nbformat.v4 import new_code_cell, new_notebook
    from traitlets.config import Config

    source = (
        "from ztf_sg import load_example\n"
        "from ztf_sg.plotting.labelling import LabelCutouts\n"
        "labelling = LabelCutouts(load_example(), 'labels.csv')\n"
    )
    cells = [new_code_cell(source + "labelling"), new_code_cell("labelling._buttons['g'].click()")]
    notebook = new_notebook(cells=cells)
    files = Config({"KernelManager": {"transport": "ipc"}})
    monkeypatch.chdir(tmp_path)
    NotebookClient(notebook, kernel_name="python3", config=files).execute()
    (output,) = notebook.cells[0].outputs
    assert "application/vnd.jupyter.widget-view+json" in output.data
    assert rows(tmp_path / "labels.csv") == [("galaxy_0", 1)]
