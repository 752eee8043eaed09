"""Classify a simulated survey, from Parquet to Parquet, and see that nothing that is killed changes a byte.

    python benchmarks/survey.py [--objects 1000000] [--folder FOLDER]

The survey is made of the bundled cutouts, again and again, each time with fresh noise. It is classified by
threads, in a process of its own, undisturbed: that gives the objects a second, the share of each stage, and
the largest memory of that process. It is classified again by two processes of a Dask cluster, of which one is
killed, twice, and then the whole run is; a second run goes on from there. Both results are compared byte by
byte.
"""

import argparse
import contextlib
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
from ztf_sg.features import background
from ztf_sg.survey import STAGES, classify_survey

BUNDLED = Path(__file__).parents[1] / "cutouts_test"
FILE_ROWS = 49_152  # cutouts of a Parquet file
# Dask has its workers give memory back at once, so that each array is cleared anew.
MALLOC = {"MALLOC_TRIM_THRESHOLD_": 2**28, "MALLOC_MMAP_THRESHOLD_": 2**26, "OMP_NUM_THREADS": 1}
NOISE = 0.5  # of the fresh noise, in units of each cutout's own


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="for survey and results; a temporary one by default")
    parser.add_argument("--run", nargs=3, metavar=("HOW", "SURVEY", "RESULTS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        how, *folders = options.run
        {"calm": run_and_report, "cluster": run_on_cluster}[how](*folders)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        survey, calm, disturbed = (Path(scratch) / name for name in ("survey", "calm", "disturbed"))
        print(thread_note())
        size = make_survey(survey, options.objects)
        print(f"{options.objects} simulated cutouts, {size / 1e9:.2f} GB of Parquet", flush=True)
        subprocess.run(command("calm", survey, calm), check=True)
        kills = disturb(survey, disturbed)
        same = equal_files(calm, disturbed)
        print(
            f"killed a worker {kills} times and the whole run once, then resumed: {same} files are the same"
        )


def make_survey(folder, objects, random_state=0):
    """Write Parquet files of bundled cutouts with fresh noise; return their size [bytes]."""
    folder.mkdir()
    bundled = load_cutouts(BUNDLED)
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


def command(how, survey, results):
    """Return the command that classifies the survey in a process of its own."""
    return [sys.executable, __file__, "--run", how, str(survey), str(results)]


def run_and_report(survey, results):
    """Classify the survey by threads, and print what it took."""
    started = time.perf_counter()
    parts = classify_survey(survey, results, progress=False)
    seconds, memory = time.perf_counter() - started, getrusage(RUSAGE_SELF).ru_maxrss / 1e6
    objects, spent = parts["objects"].sum(), parts[list(STAGES)].sum()
    shares = ", ".join(f"{stage} {100 * spent[stage] / spent.sum():.0f} %" for stage in STAGES)
    print(f"{objects} classified in {seconds:.0f} s: {objects / seconds:.0f} objects/s ({shares})")
    print(f"largest memory of the process {memory:.2f} GB", flush=True)


def run_on_cluster(survey, results):
    """Classify the survey on two single-threaded processes; say on standard output which they are."""
    import dask
    from distributed import LocalCluster

    dask.config.set({"distributed.nanny.pre-spawn-environ": MALLOC})
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        done = threading.Event()

        def tell():
            while not done.wait(0.5):
                pids = [nanny.pid for nanny in cluster.workers.values() if nanny.pid]
                print(*pids, flush=True)

        threading.Thread(target=tell, daemon=True).start()
        classify_survey(survey, results, scheduler=cluster, progress=False)
        done.set()


def disturb(survey, results):
    """Classify; kill a worker twice, then everything, and go on to the end; return the workers killed."""
    run = subprocess.Popen(
        command("cluster", survey, results), stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    files = len(list(survey.iterdir()))
    kills, killed = 0, set()
    try:
        for line in run.stdout:
            pids = [int(pid) for pid in line.split()]
            finished = len(list(results.glob("part-*.parquet")))
            if kills < 2 and finished > kills * files // 4 and set(pids) - killed:
                victim = (set(pids) - killed).pop()
                os.kill(victim, signal.SIGKILL)
                killed.add(victim)
                kills += 1
            elif kills == 2 and finished > files:
                break
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    if run.returncode != -signal.SIGKILL:
        raise SystemExit("the run was over before it was killed: classify more objects")
    kept = len(list(results.glob("part-*.parquet")))
    print(f"the run was killed with {kept} partitions written")
    subprocess.run(command("cluster", survey, results), check=True, stdout=subprocess.DEVNULL)
    return kills


def equal_files(first, second):
    """Return how many result files there are, and stop unless they are the same in both folders."""
    names = [sorted(path.name for path in folder.glob("*.parquet")) for folder in (first, second)]
    if names[0] != names[1]:
        raise SystemExit("the results have other files")
    for name in names[0]:
        if (first / name).read_bytes() != (second / name).read_bytes():
            raise SystemExit(f"{name} differs")
    return len(names[0])


if __name__ == "__main__":
    main()
