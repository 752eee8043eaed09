"""Reduce the colours of the figures in notebooks to 256, which makes the files three times smaller.

python tools/shrink_figures.py NOTEBOOK ...
"""

import base64
import io
import sys

import nbformat
from PIL import Image

from ztf_sg.files import atomic_write

COLOURS = 256


def main():
    """Rewrite each notebook whose figures become smaller."""
    for path in sys.argv[1:]:
        notebook = nbformat.read(path, as_version=4)
        outputs = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])]
        for data in outputs:
            if "image/png" in data:
                data["image/png"] = shrunk(data["image/png"])
        with atomic_write(path) as file:
            file.write(f"{nbformat.writes(notebook)}\n".encode())


def shrunk(encoded):
    """Return a figure, PNG in base64, with few colours on white; as it is if that is no smaller."""
    picture = Image.open(io.BytesIO(base64.b64decode(encoded)))
    if picture.mode == "P":
        return encoded
    white = Image.new("RGBA", picture.size, "white")
    white.alpha_composite(picture.convert("RGBA"))
    content = io.BytesIO()
    few = white.convert("RGB").quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(content, "PNG", optimize=True)
    return min(base64.b64encode(content.getvalue()).decode() + "\n", encoded, key=len)


if __name__ == "__main__":
    main()
