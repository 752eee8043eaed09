"""Time predictions and measure peak memory from ten thousand to a million objects.

    python benchmarks/prediction_scaling.py [--counts 10000 100000 1000000] [--repeats 7] [--plot FILE]

Posterior mean and variance from 20,000 training points with 8 features, 30 neighbours, neighbour search
included. The counts take turns, so that a slow moment of the machine hits all of them alike; in its turn
a small count is predicted again and again, up to 300,000 objects. Times are medians of the turns. The peak
memory of every count is that of a process of its own, and holds the features too.
"""

import argparse
import resource
import subprocess
import sys
from functools import partial

from prediction_speed import N_TRAIN, NN_COUNT, simulate
from timing import medians, repeat_alternately, thread_note

from ztf_sg import MuyGPSClassifier

N_FEATURES = 8
WARM_UP = 5_000
OBJECTS_A_TURN = 300_000


def train():
    """Return a classifier that has predicted before."""
    classifier = MuyGPSClassifier(NN_COUNT).fit(*simulate(N_TRAIN, N_FEATURES, 1))
    classifier.posterior(simulate(WARM_UP, N_FEATURES, 2)[0])
    return classifier


def microseconds(counts, repeats):
    """Return the median time per object [µs] of each count."""
    classifier, X = train(), simulate(max(counts), N_FEATURES, 2)[0]

    def predict(count):
        for turn in range(turns(count)):
            start = turn * count % (len(X) - count + 1)
            classifier.posterior(X[start : start + count])

    jobs = {count: partial(predict, count) for count in counts}
    times = medians(repeat_alternately(jobs, repeats)[0])
    return [1e6 * times[count] / (count * turns(count)) for count in counts]


def turns(count):
    """Return how often a count is predicted in its turn."""
    return max(1, OBJECTS_A_TURN // count)


def peak_memory(count):
    """Return the peak memory [MB] of this process after predicting."""
    train().posterior(simulate(count, N_FEATURES, 2)[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6  # ru_maxrss is in kB


def peak_memory_apart(count):
    """Return what `peak_memory` does in a new process."""
    command = [sys.executable, __file__, "--memory", str(count)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def plot(counts, costs, memory, path):
    """Draw cost and memory against the number of objects."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.4), layout="constrained")
    panels = (
        (costs, "time per object [µs]", "#0072B2"),
        (memory, "peak memory [MB]", "#D55E00"),
    )
    for axes, (values, label, colour) in zip(figure.subplots(1, 2), panels, strict=True):
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
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--plot", metavar="FILE", help="draw a figure, too")
    parser.add_argument("--memory", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.repeats < 1:
        parser.error("--repeats must be at least 1")
    if arguments.memory:
        print(peak_memory(arguments.memory))
        return
    print(thread_note())
    print(f"{'objects':>10}{'time [µs/object]':>20}{'objects/s':>12}{'peak memory [MB]':>20}")
    # memory first: a process inherits the peak of the one that starts it
    memory = [peak_memory_apart(count) for count in arguments.counts]
    costs = microseconds(arguments.counts, arguments.repeats)
    for count, cost, peak in zip(arguments.counts, costs, memory, strict=True):
        print(f"{count:10}{cost:20.1f}{1e6 / cost:12.0f}{peak:20.0f}")
    print(f"largest over smallest cost {max(costs) / min(costs):.2f}")
    if arguments.plot:
        plot(arguments.counts, costs, memory, arguments.plot)


if __name__ == "__main__":
    main()
