"""Classify a simulated survey, and check that killed processes change no byte of the result.

python benchmarks/survey.py [--objects 1000000]

The survey is made of the bundled cutouts, repeated with fresh noise, in Parquet files. A process of its own
classifies it with threads, undisturbed: that gives the objects per second, the share of each stage and the
largest memory. Then two processes of a Dask cluster classify it: one of them is killed, twice, then the whole
run, and a second run goes on from there. The two results are compared byte by byte.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

import numpy as np
from timing import thread_note
from tqdm.auto import trange

from ztf_sg import CutoutSet, load_cutouts
from ztf_sg.cutouts import BUNDLED_CUTOUTS
from ztf_sg.features import background
from ztf_sg.survey import classify_survey
from ztf_sg.survey.partition import STAGES

FILE_ROWS = 49_152  # cutouts per Parquet file
# By default, Dask's workers give memory back at once, which has to be cleared again for each array.
MALLOC = {"MALLOC_TRIM_THRESHOLD_": 2**28, "MALLOC_MMAP_THRESHOLD_": 2**26, "OMP_NUM_THREADS": 1}
NOISE = 0.5  # fresh noise, in units of each cutout's own


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        name, *folders = options.run
        return {"threads": run_threads, "cluster": run_cluster, "killed": run_killed}[name](*folders)
    with tempfile.TemporaryDirectory() as scratch:
        survey, first, second = (Path(scratch) / name for name in ("survey", "undisturbed", "killed"))
        print(thread_note())
        size = make_survey(survey, options.objects)
        print(f"{options.objects} simulated cutouts, {size / 1e9:.2f} GB of Parquet", flush=True)
        run("threads", survey, first)
        run("killed", survey, second, status=-signal.SIGKILL)
        print(f"the run was killed with {count_parts(second)} partitions written")
        run("cluster", survey, second)
        same = count_equal_files(first, second)
        print(f"killed a worker twice and the whole run once, then resumed: {same} files are the same")


def make_survey(folder, objects, random_state=0):
    """Write Parquet files of bundled cutouts with fresh noise; return their size [bytes]."""
    folder.mkdir()
    bundled = load_cutouts(BUNDLED_CUTOUTS)
    noise = background(bundled.images.astype(float))[1].astype(np.float32)
    rng = np.random.default_rng(random_state)
    for start in trange(0, objects, FILE_ROWS, desc="making the survey", unit="file"):
        numbers = np.arange(start, min(start + FILE_ROWS, objects))
        cutouts = bundled[numbers % len(bundled)]
        fresh = rng.standard_normal(cutouts.images.shape, dtype=np.float32)
        images = cutouts.images + NOISE * noise[numbers % len(bundled), None, None] * fresh
        table = cutouts.table.assign(name=[f"object_{number}" for number in numbers])
        CutoutSet(images, cutouts.labels, table).to_parquet(folder / f"survey_{start // FILE_ROWS}.parquet")
    return sum(path.stat().st_size for path in folder.iterdir())


def run(name, *folders, status=0):
    """Classify in a process of its own, with its own group of processes; stop unless it ends as expected."""
    process = subprocess.run([sys.executable, __file__, "--run", name, *folders], start_new_session=True)
    if process.returncode != status:
        raise SystemExit(
            f"{name}: exit status {process.returncode}; if it was not killed, classify more objects"
        )


def run_threads(survey, results):
    """Classify with threads; print the speed, the share of each stage and the memory."""
    started = time.perf_counter()
    parts = classify_survey(survey, results, progress=False)
    seconds, memory = time.perf_counter() - started, getrusage(RUSAGE_SELF).ru_maxrss / 1e6
    objects, spent = parts["objects"].sum(), parts[list(STAGES)].sum()
    shares = ", ".join(f"{stage} {100 * spent[stage] / spent.sum():.0f} %" for stage in STAGES)
    print(f"{objects} classified in {seconds:.0f} s: {objects / seconds:.0f} objects/s ({shares})")
    print(f"largest memory of the process {memory:.2f} GB", flush=True)


def run_cluster(survey, results, disturb=None):
    """Classify with two single-threaded processes of a Dask cluster, which a thread may disturb."""
    import dask
    from distributed import LocalCluster

    dask.config.set({"distributed.nanny.pre-spawn-environ": MALLOC})
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        if disturb:
            threading.Thread(target=disturb, args=[cluster], daemon=True).start()
        classify_survey(survey, results, scheduler=cluster, progress=False)


def run_killed(survey, results):
    """Classify on a cluster; a worker is killed, twice, and then the whole run."""
    files = len(list(Path(survey).iterdir()))

    def wait_for_more(parts):
        while count_parts(results) <= parts:
            time.sleep(0.5)

    def kill(cluster):
        killed = set()
        for parts in (0, files // 4 + 1):
            wait_for_more(parts)
            pid = next(nanny.pid for nanny in cluster.workers.values() if nanny.pid not in {None, *killed})
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
        wait_for_more(files)
        os.killpg(0, signal.SIGKILL)

    run_cluster(survey, results, kill)


def count_parts(results):
    """Return the number of partitions that are written."""
    return len(list(Path(results).glob("part-*.parquet")))


def count_equal_files(first, second):
    """Return the number of result files, or stop if the two folders do not hold the same."""
    one, other = ({path.name: path.read_bytes() for path in f.glob("*.parquet")} for f in (first, second))
    if one != other:
        raise SystemExit("the results differ")
    return len(one)


if __name__ == "__main__":
    main()
