"""What runs of many tasks share: Dask schedulers, and the settings that are kept with the results."""

import json
from contextlib import contextmanager, nullcontext
from itertools import islice

from tqdm.auto import tqdm

from ztf_sg.cutouts.listing import RESULTS as NOTES
from ztf_sg.cutouts.listing import SETTINGS
from ztf_sg.files import atomic_write

MODEL = "model.npz"
SCHEDULERS = ("threads", "processes", "synchronous")


def check_scheduler(scheduler):
    """Raise a ValueError unless it is one of `SCHEDULERS`, or a client, a cluster or an address of Dask."""
    if isinstance(scheduler, str):
        is_known = scheduler in SCHEDULERS or "://" in scheduler
    else:  # clients and clusters have this; to import their classes would take long
        is_known = hasattr(scheduler, "scheduler_info") and not isinstance(scheduler, type)
    if not is_known:
        raise ValueError(
            f"scheduler: expected {', '.join(map(repr, SCHEDULERS))}, a client, a cluster, or an address "
            f"such as 'tcp://localhost:8786', got {scheduler!r}"
        )


@contextmanager
def open_scheduler(scheduler):
    """Give what `run_tasks` takes: one of `SCHEDULERS` as it is, else a client, closed again if made here."""
    if _is_local(scheduler):
        yield scheduler
        return
    with _needing_dask():
        import distributed
    is_client = isinstance(scheduler, distributed.Client)
    with nullcontext(scheduler) if is_client else distributed.Client(scheduler) as client:
        yield client


def _is_local(scheduler):
    """Tell whether a scheduler is one of `SCHEDULERS`."""
    return isinstance(scheduler, str) and scheduler in SCHEDULERS


@contextmanager
def _needing_dask():
    """Turn an ImportError of Dask into one that says how to install it."""
    try:
        yield
    except ImportError as error:
        raise ImportError(f"surveys need Dask: pip install 'ztf_sg[survey]' ({error})") from error


def run_tasks(work, tasks, scheduler, progress, unit="partitions", at_a_time=None):
    """Return what `work` returns for each task, in any order.

    Parameters
    ----------
    work : function
        It returns a dict. That of a task of which Dask lost the worker again and again is made here, with
        the keys file and error.
    tasks : list of tuple
        Arguments of `work`; the first is the path of the file that it writes.
    scheduler : str or distributed.Client
        As given by `open_scheduler`.
    progress : bool
        Show a progress bar.
    unit : str
        What the bar calls the tasks.
    at_a_time : int, optional
        Largest number of tasks at work at a time; by default as many as the scheduler takes.
    """
    if not tasks:
        return []
    if scheduler == "synchronous":
        return [work(*task) for task in tqdm(tasks, desc=unit, disable=not progress)]
    if not _is_local(scheduler):
        return _run_on_cluster(work, tasks, scheduler, progress, unit, at_a_time or len(tasks))
    with _needing_dask():
        import dask
        from tqdm.dask import TqdmCallback
    with TqdmCallback(desc=unit, tqdm_class=tqdm) if progress else nullcontext():
        delayed = [dask.delayed(work)(*task) for task in tasks]
        # one by one, as a task is long: by default a process takes six at once
        return dask.compute(delayed, scheduler=scheduler, num_workers=at_a_time, chunksize=1)[0]


def _run_on_cluster(work, tasks, client, progress, unit, at_a_time):
    import distributed

    def submit(task):
        future = client.submit(work, *task, pure=False, retries=2)
        names[future.key] = task[0].name
        return future

    names, waiting, rows = {}, iter(tasks), []
    first = [submit(task) for task in islice(waiting, at_a_time)]
    finished = distributed.as_completed(first, with_results=True, raise_errors=False)
    with tqdm(total=len(tasks), desc=unit, disable=not progress) as bar:
        for future, row in finished:
            done = future.status == "finished"
            rows.append(row if done else {"file": names[future.key], "error": repr(row)})
            bar.update()
            for task in islice(waiting, 1):
                finished.add(submit(task))
    return rows


def keep_settings(destination, model, settings):
    """Store model and settings in a folder of results, or check that the results there are of the same.

    Raises
    ------
    ValueError
        If they are from others; the message names what differs.
    """
    notes = destination / NOTES
    kept = notes / SETTINGS
    if not kept.exists():
        if any(destination.glob("part-*.parquet")):
            raise ValueError(f"{destination}: holds results of unknown origin; name another destination")
        model.save(notes / MODEL)
        with atomic_write(kept) as file:
            file.write(json.dumps(settings).encode())
    try:
        before = json.loads(kept.read_text())
    except ValueError as error:
        raise ValueError(f"{kept}: damaged ({error}); remove {destination} and classify anew") from error
    if not isinstance(before, dict):
        raise ValueError(f"{kept}: damaged, as it holds no settings; remove {destination} and classify anew")
    changed = [name for name in settings if before.get(name) != settings[name]]
    if not model.is_saved_in(notes / MODEL):
        changed.append("model")
    if changed:
        raise ValueError(
            f"{destination}: holds results with another {', '.join(changed)}; name another destination, or "
            "remove it"
        )
