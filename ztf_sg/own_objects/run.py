"""A run over the parts of a list, by one process or many, which together spare the archive."""

import shutil
from contextlib import suppress
from copy import copy

from ztf_sg.checks import is_whole_number
from ztf_sg.cutouts.listing import RESULTS as NOTES
from ztf_sg.fetching import FetchStopped
from ztf_sg.own_objects.part import STOPPED, classify_part, fetched_folder, is_finished
from ztf_sg.survey.running import open_scheduler, run_tasks


def check_workers(workers):
    """Raise a ValueError unless it is a number of processes, or a client, a cluster or an address of Dask."""
    is_number = is_whole_number(workers) and workers >= 1
    is_address = isinstance(workers, str) and "://" in workers
    if not (is_number or is_address or hasattr(workers, "scheduler_info")):
        raise ValueError(
            f"workers={workers!r}: expected a whole number, 1 or more, or a client, a cluster or the address "
            "of a Dask scheduler, such as 'tcp://localhost:8786'"
        )


def run_parts(parts, objects, service, request, workers, progress):
    """Classify the parts of a list that are not finished.

    Parameters
    ----------
    parts : dict of pathlib.Path to numpy.ndarray
        The rows of each part, by the path of its file.
    objects : pandas.DataFrame
        The list, from :func:`ztf_sg.positions.object_list`.
    service, request, workers, progress
        As of :func:`ztf_sg.own_objects.classify_positions` and
        :func:`~ztf_sg.own_objects.part.classify_part`.

    Returns
    -------
    dict of str to str
        What went wrong, by the name of the file, with parts that the same call tries again.

    Raises
    ------
    FetchStopped, ServiceDown, Stopped, AuthenticationError
        What ends the whole run.
    """
    waiting = [path for path in parts if not is_finished(path)]
    for path in parts.keys() - set(waiting):  # the run may have been killed before this
        shutil.rmtree(fetched_folder(path), ignore_errors=True)
    if not waiting:
        return {}
    stopped = waiting[0].parent / NOTES / STOPPED
    stopped.unlink(missing_ok=True)
    wanted = objects.drop(columns="fault").assign(object=objects.index)
    try:
        rows = _run({path: wanted.iloc[parts[path]] for path in waiting}, service, request, workers, progress)
    except KeyboardInterrupt:
        stopped.touch()
        done = sum(map(is_finished, parts))
        raise FetchStopped(
            f"stopped with {done} of {len(parts)} parts of the list done, which {stopped.parents[1]} keeps; "
            "run it again to go on"
        ) from None
    for row in rows:
        if "ended" in row:
            raise row["ended"]
    with suppress(OSError):  # of parts that are not finished
        fetched_folder(waiting[0]).parent.rmdir()
    return {row["file"]: row["error"] for row in rows if "error" in row}


def _run(tables, service, request, workers, progress):
    """Have the workers classify tables of objects, by the paths of their files; return what tasks return."""
    scheduler = workers
    if is_whole_number(workers):
        scheduler = "processes" if workers > 1 else "synchronous"
    alone = scheduler == "synchronous"
    with open_scheduler(scheduler) as opened:
        number = _number_of_workers(workers, opened, service)
        options = share_of(service, number), request, progress and alone, alone
        tasks = [(path, objects, *options) for path, objects in tables.items()]
        return run_tasks(classify_part, tasks, opened, progress and len(tasks) > 1, "parts", number)


def _number_of_workers(workers, scheduler, service):
    """Return how many tasks may be at work at a time."""
    if not is_whole_number(workers):
        workers = max(1, sum(scheduler.nthreads().values()))
    return int(min(workers, getattr(service, "concurrency", workers)))


def share_of(service, workers):
    """Return a service for each of some workers, which together send as many requests at a time as it may."""
    if workers == 1 or not hasattr(service, "concurrency"):
        return service
    shared = copy(service)
    shared.concurrency = max(1, service.concurrency // workers)
    return shared
