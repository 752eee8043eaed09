"""Compilation of numerical functions by numba, with the options that all of the package's have."""

from functools import cache
from hashlib import sha256
from pathlib import Path

from numba import njit

OPTIONS = {"nogil": True, "fastmath": {"contract", "reassoc"}, "error_model": "numpy"}


def compiled(function):
    """Compile a function, and keep its machine code, if a folder can be written.

    It is compiled anew when a file of its folder, or this one, has changed, as the functions that it calls
    are a part of it. Numba looks at the function's own file alone, and keeps machine code under its name.
    """
    function.__qualname__ += f"_{_fingerprint(Path(function.__code__.co_filename).parent)}"
    try:
        return njit(function, **OPTIONS, cache=True)
    except RuntimeError:  # numba found no such folder
        return njit(function, **OPTIONS)


@cache
def _fingerprint(folder):
    """Return a hash of the source files of a folder, and of this one."""
    paths = [Path(__file__), *sorted(folder.glob("*.py"))]
    return sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:8]


inlined = njit(**OPTIONS, forceinline=True)
"""Decorator of functions that compiled ones call, and become a part of."""


@inlined
def copy_into(target, source):
    """Fill an array with another one of the same shape, (n,) or (n, m).

    For ``target[:] = source`` numba compiles the message of an error, too, which takes several seconds.
    """
    if target.ndim == 1:
        for i in range(len(target)):
            target[i] = source[i]
    else:
        for i in range(target.shape[0]):
            for j in range(target.shape[1]):
                target[i, j] = source[i, j]
