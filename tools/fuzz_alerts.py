"""Damage alert packets and files of them in many ways, and count what load_alerts makes of them.

python tools/fuzz_alerts.py [10000] [--seed 0] [--only KIND]

Each case writes a few packets without ztf_sg, damages some of them or their file in one way, and reads them
with ztf_sg, until so many packets were written. Those served must have been written so, bit by bit. The last
line counts errors that are not documented (uncaught), good packets that were not served (lost), and packets
that were neither served nor named (unnamed).
"""

import argparse
import sys
import traceback
import warnings
from collections import Counter, defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from fuzz_inputs import Outcome, report
from fuzzing.alert_kinds import FILE_KINDS, FILE_WRITERS, PACKET_KINDS, WRITERS
from fuzzing.alert_packets import make_packet

from ztf_sg.streaks import AlertError, load_alerts
from ztf_sg.streaks.stamps import IMAGES


def read_both_ways(path):
    """Return the stamps read with on_error="skip", and faults of reading with "raise" beside it."""
    loaded, faults = load_alerts(path, "skip"), []
    bad = ~loaded.skipped["reason"].str.contains("is a copy of").astype(bool)
    try:
        load_alerts(path, "raise")
        if bad.any():
            faults.append(Outcome("unnamed", "nothing raised, though some were left out"))
    except AlertError as error:
        if path.name not in str(error) or "\n" in str(error):
            faults.append(Outcome("unnamed", f"raised {error}"))
        if not bad.any():
            faults.append(Outcome("lost", f"raised {error}"))
    return loaded, faults


def served_rows(loaded, stamps):
    """Return which rows hold the stamps of a packet, bit by bit."""
    same = [
        (np.asarray(getattr(loaded, kind)) == pixels) | (np.isnan(getattr(loaded, kind)) & np.isnan(pixels))
        for kind, pixels in zip(IMAGES, stamps, strict=True)
    ]
    return np.flatnonzero(np.all(same, axis=(0, 2, 3)))


def packet_case(kind, writer, rng, folder):
    """Yield the outcomes of packets of which one or two are damaged, in a good file."""
    damage, demand = PACKET_KINDS[kind]
    made = [make_packet(rng, number) for number in range(int(rng.integers(5, 8)))]
    bad = set(rng.choice(len(made), int(rng.integers(1, 3)), replace=False).tolist())
    packets = [damage(*each, rng) if number in bad else each[0] for number, each in enumerate(made)]
    name, content = WRITERS[writer](packets, None, rng)
    (folder / name).write_bytes(content)
    loaded, faults = read_both_ways(folder / name)
    yield from faults
    reasons = loaded.skipped["reason"].tolist()
    for number, (packet, stamps) in enumerate(made):
        is_served = len(served_rows(loaded, stamps)) == 1
        is_named = any(str(packet["candid"]) in reason and name in reason for reason in reasons)
        if number not in bad or demand == "kept":
            yield Outcome(("kept" if number not in bad else "served") if is_served else "lost", str(reasons))
        elif is_named:
            yield Outcome("named")
        elif demand == "either" and loaded.table["name"].str.contains(str(packet["candid"])).any():
            yield Outcome("served" if is_served else "changed")
        else:
            yield Outcome("unnamed", str(reasons))


def file_case(kind, writer, rng, folder):
    """Yield the outcomes of packets in a damaged file; one that cannot be served must have its file named."""
    made = [make_packet(rng, number) for number in range(int(rng.integers(1, 6)))]
    name, content = FILE_WRITERS[writer]([packet for packet, _ in made], [stamps for _, stamps in made], rng)
    (folder / name).write_bytes(FILE_KINDS[kind](content, rng))
    loaded, faults = read_both_ways(folder / name)
    yield from faults
    is_named = loaded.skipped["reason"].str.contains(name, regex=False).any()
    for _, stamps in made:
        if len(served_rows(loaded, stamps)):
            yield Outcome("kept" if kind == "whole" else "served")
        elif is_named:
            yield Outcome("lost" if kind == "whole" else "named", str(loaded.skipped["reason"].tolist()))
        else:
            yield Outcome("changed" if len(loaded) >= len(made) else "unnamed", f"{len(loaded)} rows")


CASES = [(packet_case, kind, writer) for kind in PACKET_KINDS for writer in WRITERS]
CASES += [(file_case, kind, writer) for kind in FILE_KINDS for writer in FILE_WRITERS]
np.random.default_rng(0).shuffle(CASES)  # so that the first few are of many kinds


def run_case(case, kind, writer, seed):
    """Return the outcomes of one case as a list; an error that is not documented is one of them."""
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return list(case(kind, writer, np.random.default_rng(seed), Path(folder)))
        except Exception:
            return [Outcome("uncaught", traceback.format_exc())]


def fuzz(packets, seed=0, only=None):
    """Return counts of the outcomes by kind, of at least so many packets, and print the first faults."""
    cases = [each for each in CASES if only in (None, each[1])]
    if not cases:
        raise SystemExit(f"no kind of damage is called {only!r}")
    counts, shown, number = defaultdict(Counter), 0, 0
    while sum(each.total() for each in counts.values()) < packets:
        case, kind, writer = cases[number % len(cases)]
        for outcome, detail in run_case(case, kind, writer, [seed, number]):
            counts[f"{'packet' if case is packet_case else 'file'}: {kind}"][outcome] += 1
            if outcome in ("uncaught", "lost", "unnamed") and shown < 20:
                shown += 1
                print(f"case {number}, {kind}, {writer}: {outcome}: {detail}", file=sys.stderr)
        number += 1
    return counts


def main():
    """Run what the arguments ask for; the exit code tells whether there were faults."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("packets", type=int, nargs="?", default=10_000, help="number of packets")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="one kind of damage")
    arguments = parser.parse_args()
    sys.exit(report(fuzz(arguments.packets, arguments.seed, arguments.only)) > 0)


if __name__ == "__main__":
    main()
