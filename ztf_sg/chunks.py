"""Work on many cutouts a chunk at a time, on all processors: numpy lets threads run side by side."""

from concurrent.futures import ThreadPoolExecutor

from joblib import cpu_count

CHUNK = 250  # cutouts, whose intermediate results (0.8 MB each) stay in the processor's cache


def map_chunks(function, n):
    """Return what a function gives for each chunk of n rows, in their order.

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
    chunks = [slice(start, min(start + CHUNK, n)) for start in range(0, n, CHUNK)]
    if len(chunks) < 2:
        return [function(chunk) for chunk in chunks]
    with ThreadPoolExecutor(min(len(chunks), cpu_count())) as threads:
        return list(threads.map(function, chunks))
