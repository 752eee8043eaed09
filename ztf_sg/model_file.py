"""Files of trained classifiers: plain arrays and JSON, so that loading a model never runs code."""

import json
import zipfile
from importlib.metadata import version
from threading import Lock

import numpy as np

from ztf_sg.files import atomic_write, local_path

STAR_GALAXY = "star-galaxy classifier, version 3"
FORMAT = f"ztf_sg {STAR_GALAXY}"
LARGEST_FILE = 2**30  # [bytes]
ONE_AT_A_TIME = Lock()  # numpy parses headers with ast, which may fail in several threads of Python 3.11
REMEDY = "save the model again, or fetch the file anew"


class ModelFileError(ValueError):
    """A file holds no usable model; the message names the file, the fault and the remedy."""


def write_arrays(path, arrays, description, kind=STAR_GALAXY):
    """Write a dict of arrays of numbers, and a dict that JSON can hold; the file is whole or not there.

    `kind` names the classifier and its version.
    """
    description = {"format": f"ztf_sg {kind}", "written by": f"ztf_sg {version('ztf_sg')}", **description}
    with atomic_write(path) as file:
        np.savez_compressed(file, description=np.array(json.dumps(description)), **arrays)


def read_arrays(path, shapes, kind=STAR_GALAXY):
    """Return the arrays, float64 and finite, and the description that :func:`write_arrays` wrote.

    Parameters
    ----------
    path : path-like
    shapes : dict of str to tuple
        Shapes of the arrays that must be there; a word stands for any length, the same one in all arrays.
    kind : str
        Of the classifier, as it was written.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If the path is that of a folder, or the file is damaged, holds Python objects or other arrays, or is
        of another version.
    """
    path = local_path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such model file; save one with the method save of a classifier")
    if path.is_dir():
        raise ModelFileError(f"{path}: is a folder; name a file that the method save of a classifier wrote")
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
            if size > LARGEST_FILE:
                raise ModelFileError(f"{path}: unpacks to {size} bytes, which no model does; {REMEDY}")
            file.seek(0)
            with ONE_AT_A_TIME, np.load(file, allow_pickle=False) as stored:
                found = {name: stored[name] for name in stored.files}
        if "description" not in found:
            raise ModelFileError(
                f"{path}: holds {', '.join(sorted(found)[:5]) or 'nothing'} and no description, so it is "
                "no model; name a file that the method save of a classifier wrote"
            )
        description = json.loads(str(found.pop("description")))
        if description.get("format") != f"ztf_sg {kind}":
            raise ModelFileError(
                f"{path}: holds a {description.get('format')!r}, expected a 'ztf_sg {kind}'; "
                "train the model and save it again with this version of ztf_sg"
            )
        if set(found) != set(shapes):
            raise ModelFileError(f"{path}: holds {sorted(found)}, expected {sorted(shapes)}; {REMEDY}")
        arrays = {name: np.asarray(found[name], dtype=np.float64) for name in shapes}
    except ModelFileError:
        raise
    except Exception as error:  # zipfile, numpy and json raise nearly anything on damaged bytes
        raise ModelFileError(f"{path}: no model that can be read ({error}); {REMEDY}") from error
    _check_shapes(path, arrays, shapes)
    return arrays, description


def _check_shapes(path, arrays, shapes):
    lengths = {}
    for name, shape in shapes.items():
        array = arrays[name]
        fits = array.ndim == len(shape) and all(
            length == (lengths.setdefault(wanted, length) if isinstance(wanted, str) else wanted)
            for length, wanted in zip(array.shape, shape, strict=True)
        )
        if not fits:
            raise ModelFileError(f"{path}: {name} has shape {array.shape}, expected {shape}; {REMEDY}")
        if not np.isfinite(array).all():
            raise ModelFileError(f"{path}: {name} is not finite; {REMEDY}")
