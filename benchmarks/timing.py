"""Helpers of the benchmarks: alternating repeats, medians, and a note on the machine."""

import os
import statistics
import time

from threadpoolctl import threadpool_info


def repeat_alternately(jobs, repeats):
    """Run jobs in turn, so that a slow moment of the machine affects all of them alike.

    Parameters
    ----------
    jobs : dict of str to callable
        Functions to time, by name.
    repeats : int
        Number of rounds; each runs every job once.

    Returns
    -------
    seconds : dict of str to list of float
        Wall time of each run [s].
    results : dict of str to list
        What each run returned.
    """
    seconds, results = {name: [] for name in jobs}, {name: [] for name in jobs}
    for _ in range(repeats):
        for name, job in jobs.items():
            start = time.perf_counter()
            results[name].append(job())
            seconds[name].append(time.perf_counter() - start)
    return seconds, results


def medians(seconds):
    """Return the median of each list of a dict."""
    return {name: statistics.median(values) for name, values in seconds.items()}


def thread_note():
    """Return a sentence on the processors and the threads of the linear algebra in use."""
    pools = {f"{pool['internal_api']} {pool['num_threads']}" for pool in threadpool_info()}
    return f"{os.cpu_count()} processors; threads: {', '.join(sorted(pools)) or 'one'}"
