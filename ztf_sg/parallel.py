"""Numerical work on slices of an array, shared among threads: numpy lets them run side by side."""

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Lock

from joblib import effective_n_jobs
from threadpoolctl import ThreadpoolController

CHUNK = 250  # cutouts, whose intermediate results (0.8 MB each) stay in the processor's cache


def slices(n, step):
    """Return slices that divide n rows into parts of `step` rows (at least one), the last one shorter."""
    step = max(1, step)
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def threaded(work, items, n_threads):
    """Return the list of work(item) for a list of items, in order, done by at most n_threads threads.

    Linear algebra within a call uses the thread of that call only.
    """
    n_threads = min(n_threads, len(items))
    with one_blas_thread:
        if n_threads <= 1:
            return [work(item) for item in items]
        with ThreadPoolExecutor(n_threads) as executor:
            return list(executor.map(work, items))


def map_chunks(function, n):
    """Return the list of function(rows) for slices of at most :data:`CHUNK` of n rows, in order.

    All processors share the work; no slice may depend on another.
    """
    return threaded(function, slices(n, CHUNK), effective_n_jobs(-1))


class _OneBlasThread:
    """Context manager that counts who is inside, as the limit that it sets is that of the process."""

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
    """Return the controller of the linear algebra libraries, which takes 20 ms to find those loaded."""
    import scipy.linalg  # noqa: F401 - loads scipy's library, and numpy's

    return ThreadpoolController()


one_blas_thread = _OneBlasThread()
"""``with one_blas_thread:`` keeps linear algebra to one thread, which is faster for many small matrices."""
