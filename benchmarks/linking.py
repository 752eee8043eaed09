"""Link the flashes of satellites in simulated exposures, beside the rule of the broker Fink.

python benchmarks/linking.py [--exposures 20] [--seed 0]

Fink's rule takes 5 or more detections within 5" of the great circle through two of them, and then those
within 1" of a quadratic; it knows no steps, and compares all triples. A satellite is found if four fifths of
its flashes are in one link, and little else is; a link of which less than half is of one satellite is false.
"""

import argparse
import time

import numpy as np
import pandas as pd

from ztf_sg.streaks.linking import find_tracks

FIELD = 7 * 3600.0  # width of the field [arcsec]
ORBITS = {  # length of the path in 30 s, and step [arcsec]; largest relative change of speed per radian
    "geosynchronous": ((400, 460), (8, 60), 0.0),
    "medium": ((980, 1100), (15, 150), 0.1),
    "low": ((18_000, 25_000), (150, 1500), 1.5),
}
NEAR, ON = 5.0, 1.0  # distances of Fink's rule [arcsec]
FEWEST = 5
MOST_TRIPLES = 1000  # detections for which all triples are compared in some seconds


def satellite(orbit, rng, error=0.3):
    """Return the flashes of a satellite that were detected [arcsec], shape (n, 2); some are missing."""
    lengths, steps, gain = ORBITS[orbit]
    length = rng.uniform(*lengths)
    n_steps = max(int(length / rng.uniform(*steps)), 6)
    along = length * (np.arange(n_steps + 1) / n_steps - 0.5)
    along = along + rng.uniform(-gain, gain) * along**2 / 2 / 206_265
    angle = rng.uniform(0, np.pi)
    flashes = along[:, None] * [np.cos(angle), np.sin(angle)] + rng.uniform(0.1, 0.9, 2) * FIELD
    flashes = flashes[rng.random(len(flashes)) < rng.uniform(0.6, 1.0)]
    inside = ((flashes > 0) & (flashes < FIELD)).all(axis=1)
    return flashes[inside] + rng.normal(0, error, (inside.sum(), 2))


def exposure(n_random, orbits, rng):
    """Return the detections of an exposure and the number of the satellite of each, -1 for others."""
    parts = [rng.uniform(0, FIELD, (n_random, 2))]
    parts += [each for each in (satellite(orbit, rng) for orbit in orbits) if len(each) >= FEWEST]
    points = np.concatenate(parts)
    truth = np.repeat(np.arange(len(parts)) - 1, [len(part) for part in parts])
    order = rng.permutation(len(points))
    return points[order], truth[order]


def fink_links(points):
    """Return the links of Fink's rule, as rows; a detection belongs to the first that takes it."""
    links, free = [], np.ones(len(points), bool)
    for first in range(len(points)):
        for second in range(first + 1, len(points)):
            if not (free[first] and free[second]):
                continue
            axis = points[second] - points[first]
            size = np.hypot(*axis)
            across = ((points - points[first]) @ [-axis[1], axis[0]]) / max(size, 1e-9)
            rows = np.flatnonzero((np.abs(across) < NEAR) & free)
            if len(rows) < FEWEST:
                continue
            along = (points[rows] - points[first]) @ axis / max(size, 1e-9)
            fit = np.polynomial.Polynomial.fit(along, across[rows], 2)
            rows = rows[np.abs(across[rows] - fit(along)) < ON]
            if len(rows) >= FEWEST:
                links.append(rows)
                free[rows] = False
    return links


def judge(links, truth):
    """Return how many satellites there are, how many are found, and how many links are false."""
    found, false = set(), 0
    for rows in links:
        numbers, counts = np.unique(truth[rows], return_counts=True)
        best = numbers[np.argmax(counts)]
        if best < 0 or counts.max() < len(rows) / 2:
            false += 1
        elif counts.max() >= 0.8 * np.sum(truth == best) and counts.max() >= 0.8 * len(rows):
            found.add(best)
    return truth.max(initial=-1) + 1, len(found), false


def measure(rule, n_random, orbits, n_exposures, seed):
    """Return the results of a rule on some exposures as a dict."""
    totals, seconds = np.zeros(3, dtype=int), 0.0
    for number in range(n_exposures):
        points, truth = exposure(n_random, orbits, np.random.default_rng([seed, number]))
        start = time.perf_counter()
        links = rule(points)
        seconds += time.perf_counter() - start
        totals += judge(links, truth)
    n, found, false = totals
    complete = f"{found / n:.3f} of {n}" if n else "-"
    return {"found": complete, "false links": false, "s per exposure": round(seconds / n_exposures, 3)}


def ours(points):
    """Return the links of the package, as rows."""
    return [track.members for track in find_tracks(points)]


def main():
    """Print the results by kind of orbit and number of detections."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--exposures", type=int, default=20, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    cases = [(orbit, n) for orbit in ORBITS for n in (100, 1000, 4000)] + [
        ("none", n) for n in (100, 1000, 4000)
    ]
    rows = []
    for orbit, n_random in cases:
        orbits = [] if orbit == "none" else [orbit] * 5
        rules = {"link_flashes": (ours, arguments.exposures)}
        if n_random <= MOST_TRIPLES:
            rules["Fink's rule"] = (fink_links, max(1, arguments.exposures // 10))
        for name, (rule, n_exposures) in rules.items():
            result = measure(rule, n_random, orbits, n_exposures, arguments.seed)
            rows.append({"orbit": orbit, "others": n_random, "rule": name, "exposures": n_exposures} | result)
    print(pd.DataFrame(rows).to_string(index=False))


if __name__ == "__main__":
    main()
