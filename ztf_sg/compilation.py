"""Compilation of numerical functions by numba, with the options that all of the package's have."""

from functools import cache
from hashlib import sha256
from pathlib import Path

from numba import njit

OPTIONS = {"nogil": True, "fastmath": {"contract", "reassoc"}, "error_model": "numpy"}


def compiled(function):
    """Compile a function, and keep its machine code, if a folder can be written.

    It is compiled anew when a file of its folder has changed, as the functions that it calls are a part of
    it. Numba looks at the function's own file alone, and keeps machine code under the function's name.
    """
    function.__qualname__ += f"_{_fingerprint(Path(function.__code__.co_filename).parent)}"
    try:
        return njit(function, **OPTIONS, cache=True)
    except RuntimeError:  # numba found no such folder
        return njit(function, **OPTIONS)


@cache
def _fingerprint(folder):
    """Return a hash of the source files of a folder."""
    return sha256(b"".join(path.read_bytes() for path in sorted(folder.glob("*.py")))).hexdigest()[:8]


inlined = njit(**OPTIONS, forceinline=True)
"""Decorator of functions that compiled ones call, and become a part of."""
