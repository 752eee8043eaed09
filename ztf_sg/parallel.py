"""Numerical work on slices of an array, shared among threads."""

from concurrent.futures import ThreadPoolExecutor
from functools import cache

from threadpoolctl import ThreadpoolController


def slices(n, step):
    """Return slices of at most `step` (at least one) of n rows."""
    step = max(1, step)
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def threaded(work, items, n_threads):
    """Call `work` with each item, in threads of which none starts threads for linear algebra.

    Parameters
    ----------
    work : callable
        Takes an item; what it returns is dropped.
    items : list
    n_threads : int
        Most threads at a time.
    """
    n_threads = min(n_threads, len(items))
    with _controller().limit(limits=1, user_api="blas"):
        if n_threads <= 1:
            for item in items:
                work(item)
            return
        with ThreadPoolExecutor(n_threads) as executor:
            for _ in executor.map(work, items):
                pass


@cache
def _controller():
    """Return the control of the linear algebra libraries, which takes 20 ms to find them."""
    return ThreadpoolController()
