"""Time predictions and measure peak memory from ten thousand to a million objects.

    python benchmarks/prediction_scaling.py [--counts 10000 100000 1000000] [--plot FILE]

Posterior mean and variance from 20,000 training points with 8 features, 30 neighbours, neighbour search
included. Every count is predicted in a process of its own, whose peak memory holds the features too.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

from prediction_speed import N_TRAIN, NN_COUNT, simulate
from timing import thread_note

from ztf_sg import MuyGPSClassifier

N_FEATURES = 8
WARM_UP = 5_000


def measure(count, repeats):
    """Return microseconds an object and peak memory [MB] of this process."""
    classifier = MuyGPSClassifier(NN_COUNT).fit(*simulate(N_TRAIN, N_FEATURES, 1))
    X = simulate(count, N_FEATURES, 2)[0]
    classifier.posterior(X[:WARM_UP])
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        classifier.posterior(X)
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6  # ru_maxrss is in kB
    return {"count": count, "microseconds": statistics.median(seconds) / count * 1e6, "megabytes": peak}


def measure_apart(count, repeats):
    """Return what `measure` does in a new process."""
    command = [sys.executable, __file__, "--measure", str(count), "--repeats", str(repeats)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def plot(rows, path):
    """Draw cost and memory against the number of objects."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.4), layout="constrained")
    counts = [row["count"] for row in rows]
    panels = (
        ("microseconds", "time per object [µs]", "#0072B2"),
        ("megabytes", "peak memory [MB]", "#D55E00"),
    )
    for axes, (name, label, colour) in zip(figure.subplots(1, 2), panels, strict=True):
        values = [row[name] for row in rows]
        axes.plot(counts, values, "o-", color=colour)
        axes.set(xscale="log", xlabel="objects predicted", ylabel=label, ylim=(0, 1.3 * max(values)))
    figure.suptitle(
        f"Prediction from {N_TRAIN} training points, {N_FEATURES} features, {NN_COUNT} neighbours"
    )
    figure.savefig(path, dpi=150)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--counts", type=int, nargs="+", default=[10_000, 30_000, 100_000, 300_000, 1_000_000]
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--plot", metavar="FILE", help="draw a figure, too")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.repeats < 1:
        parser.error("--repeats must be at least 1")
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.repeats)))
        return
    print(thread_note())
    print(f"{'objects':>10}{'time [µs/object]':>20}{'objects/s':>12}{'peak memory [MB]':>20}")
    rows = []
    for count in arguments.counts:
        row = measure_apart(count, arguments.repeats)
        rows.append(row)
        rate = 1e6 / row["microseconds"]
        print(f"{count:10}{row['microseconds']:20.1f}{rate:12.0f}{row['megabytes']:20.0f}", flush=True)
    costs = [row["microseconds"] for row in rows]
    print(f"largest over smallest cost {max(costs) / min(costs):.2f}")
    if arguments.plot:
        plot(rows, arguments.plot)


if __name__ == "__main__":
    main()
