"""Numerical work on slices of an array, shared among threads: numpy lets them run side by side."""

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import import_module
from threading import Lock

from joblib import effective_n_jobs
from threadpoolctl import ThreadpoolController

CHUNK = 250  # cutouts, whose intermediate results (0.8 MB each) stay in the processor's cache


def slices(n, step):
    """Return slices of at most `step` (at least one) of n rows."""
    step = max(1, step)
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def threaded(work, items, n_threads):
    """Call `work` with each item, in threads of which none starts threads for linear algebra.

    Parameters
    ----------
    work : callable
        Takes an item.
    items : list
    n_threads : int
        Most threads at a time.

    Returns
    -------
    list
        What the calls returned, in the order of the items.
    """
    n_threads = min(n_threads, len(items))
    with _one_blas_thread:
        if n_threads <= 1:
            return [work(item) for item in items]
        with ThreadPoolExecutor(n_threads) as executor:
            return list(executor.map(work, items))


def map_chunks(function, n):
    """Return what a function gives for each chunk of n cutouts, on all processors, in order.

    Parameters
    ----------
    function : callable
        Takes a slice of rows; chunks must not depend on each other.
    n : int
        Number of rows.

    Returns
    -------
    list
        One result a chunk of at most :data:`CHUNK` rows.
    """
    return threaded(function, slices(n, CHUNK), effective_n_jobs(-1))


class _OneBlasThread:
    """Keeps linear algebra to one thread while anyone is inside: its limit is that of the whole process."""

    def __init__(self):
        self._lock, self._inside = Lock(), 0

    def __enter__(self):
        with self._lock:
            if not self._inside:
                self._limiter = _controller().limit(limits=1, user_api="blas")
            self._inside += 1

    def __exit__(self, *_):
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._limiter.restore_original_limits()


@cache
def _controller():
    """Return the control of the linear algebra libraries, which takes 20 ms to find those that are loaded."""
    import_module("scipy.linalg")  # loads scipy's, and numpy's
    return ThreadpoolController()


_one_blas_thread = _OneBlasThread()
