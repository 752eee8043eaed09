"""Figures of notebooks become smaller, and look the same."""

import base64
import io

import matplotlib.pyplot as plt
import nbformat
import numpy as np
from PIL import Image
from shrink_figures import main

from ztf_sg.plotting import new_axes


def test_figures_are_smaller_look_the_same_and_stay_so(tmp_path, monkeypatch):
    ax = new_axes((4, 3))
    ax.imshow(np.random.default_rng(0).normal(size=(20, 20)))
    content = io.BytesIO()
    plt.savefig(content, format="png")
    output = nbformat.v4.new_output(
        "display_data", {"image/png": base64.b64encode(content.getvalue()).decode()}
    )
    cell, path = nbformat.v4.new_code_cell("draw()", outputs=[output]), tmp_path / "drawn.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    monkeypatch.setattr("sys.argv", ["shrink_figures.py", str(path)])
    main()
    once = path.read_bytes()
    main()
    assert path.read_bytes() == once
    shrunk = base64.b64decode(nbformat.read(path, 4).cells[0].outputs[0].data["image/png"])
    assert len(shrunk) < 0.6 * len(content.getvalue())
    before, after = (
        np.array(Image.open(io.BytesIO(png)).convert("RGB"), int) for png in (content.getvalue(), shrunk)
    )
    assert np.abs(before - after).mean() < 1
    plt.close("all")
