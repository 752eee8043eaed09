"""Compilation of numerical functions by numba, with the options that all of the package's have."""

from numba import njit

OPTIONS = {"nogil": True, "fastmath": {"contract", "reassoc"}, "error_model": "numpy"}


def compiled(function):
    """Compile a function, and keep its machine code until its file changes, if a folder can be written."""
    try:
        return njit(function, **OPTIONS, cache=True)
    except RuntimeError:  # numba found no such folder
        return njit(function, **OPTIONS)


inlined = njit(**OPTIONS, forceinline=True)
"""Decorator of functions that compiled ones call, and become a part of."""
