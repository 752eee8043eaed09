"""Print how complete find_trails is beside acstools.findsat_mrt, how often it errs, and how long it takes.

python benchmarks/trails.py [IMAGES] [--fields 40] [--quadrants 10] [--plot FILE]

Both search the same simulated fields of 1024 px, with trails of known signal-to-noise ratio: that of all
light of a trail, by the root of the sum of the squares of its pixels in units of the noise. findsat_mrt gets
the image as find_trails prepares it: without background, stars, galaxies and bad columns, which are NaN; and
binned by 2. On three other fields, with 18 trails, it found 6 of them so, and the same 6 in the image less
its median, binned likewise, neither with false ones; unbinned, on one of these fields, it took three times
as long and found one trail in place of two. It searches at a low threshold; then the lowest one is taken that
leaves no more false trails than find_trails has.
Then trails are counted in simulated quadrants that have none. findsat_mrt takes most of the time: --fields 0
leaves it out. What is found is told as it goes on. IMAGES is a folder of real science images, whose trails
are listed.
"""

import argparse
import contextlib
import io
import logging
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits
from timing import thread_note

from ztf_sg import find_trails
from ztf_sg.simulation.trails import simulate_field, simulate_trails
from ztf_sg.streaks.sky_pixels import prepare_sky
from ztf_sg.ztf import FILTERCODES, QUADRANT

TRAILS_PER_FIELD, SNR_RANGE = 3, (5.0, 60.0)
SNR_EDGES = (5, 7, 8, 10, 13, 18, 25, 60)
MRT_THRESHOLD = 4.0  # the default of findsat_mrt is 5
BINNING = 2  # of images for findsat_mrt [px]
TOLERANCE = 8.0  # how far the ends of a found trail may be from the line of the true one [px]
FIRST_FIELD, FIRST_QUADRANT = 3000, 9000  # seeds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="?", type=Path, help="folder of real science images")
    parser.add_argument("--fields", type=int, default=40, help="simulated fields of 1024 px for both")
    parser.add_argument("--quadrants", type=int, default=10, help="simulated quadrants without trails")
    parser.add_argument("--plot", help="file for a figure of the completeness")
    options = parser.parse_args()
    print(thread_note())
    find_trails(simulate_field(0, (256, 256))[0])  # compiles
    if options.fields:
        compare(options.fields, options.plot)
    if options.quadrants:
        count_false_trails(options.quadrants)
    if options.images:
        list_real_trails(options.images)


def compare(n_fields, plot):
    """Print the completeness of both against the signal-to-noise ratio, and their times."""
    truths, found, seconds = [], {name: [] for name in SEARCHES}, {name: [] for name in SEARCHES}
    for number in range(n_fields):
        truth = simulate_trails(TRAILS_PER_FIELD, FIRST_FIELD + number, snr_range=SNR_RANGE)
        truth = truth.assign(field=number)
        filtercode = FILTERCODES[number % len(FILTERCODES)]
        image, header = simulate_field(FIRST_FIELD + number, trails=truth, filtercode=filtercode)
        truths.append(truth)
        for name, search in SEARCHES.items():
            start = time.process_time()
            found[name].append(search(image, header).assign(field=number))
            seconds[name].append(time.process_time() - start)
        said = ", ".join(f"{name} {said_of(found[name][-1], truth)}" for name in SEARCHES)
        tell(f"field {number + 1} of {n_fields}, {TRAILS_PER_FIELD} trails: {said}")
    truth = pd.concat(truths, ignore_index=True)
    found = {name: match(pd.concat(tables, ignore_index=True), truth) for name, tables in found.items()}
    allowed = int((found["find_trails"]["truth"] < 0).sum())
    found["findsat_mrt"] = at_equal_error(found["findsat_mrt"], allowed)
    table = completeness(truth, found)
    print(f"{len(truth)} trails in {n_fields} fields of 1024 px; completeness by signal-to-noise ratio:")
    print(table.to_string(float_format="%.2f"))
    print(f"false trails: {dict((name, int((rows['truth'] < 0).sum())) for name, rows in found.items())}")
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    ratio = medians["findsat_mrt"] / medians["find_trails"]
    print(
        f"seconds of a processor per field: find_trails {medians['find_trails']:.2f}, findsat_mrt "
        f"{medians['findsat_mrt']:.1f}: {ratio:.0f} times as long"
    )
    if plot:
        draw(table, plot)


def search_ours(image, header):
    """Return the trails that find_trails finds: x1, y1, x2, y2 [px], snr."""
    return find_trails(image, header).table[["x1", "y1", "x2", "y2", "snr"]]


def search_mrt(image, header):
    """Return the trails that findsat_mrt finds in the sky of an image, as of `search_ours`."""
    from acstools.findsat_mrt import TrailFinder

    sky = prepare_sky(image, header["SEEING"], header["SATURATE"])
    cleaned = np.where(sky.is_sky, sky.values * sky.noise, np.nan).astype(float)
    logging.disable(logging.INFO)
    quiet = contextlib.redirect_stdout(io.StringIO())
    with tempfile.TemporaryDirectory() as folder, quiet, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {"processes": 1, "threshold": MRT_THRESHOLD, "output_dir": folder}
        finder = TrailFinder(binned(cleaned), save_diagnostic=False, save_catalog=False, **options)
        finder.run_mrt()
        finder.find_mrt_sources()
        finder.filter_sources()
    logging.disable(logging.NOTSET)
    columns = ["x1", "y1", "x2", "y2", "snr"]
    if finder.source_list is None:
        return pd.DataFrame(columns=columns, dtype=float)
    passed = finder.source_list[finder.source_list["status"] == 2]
    rows = [(*pixels_before(row["endpoints"]), row["snr"]) for row in passed]
    return pd.DataFrame(rows, columns=columns, dtype=float)


def binned(image):
    """Return the means of the pixels with data in boxes of `BINNING` px."""
    height, width = (side // BINNING for side in image.shape)
    boxes = image.reshape(height, BINNING, width, BINNING)
    return np.nanmean(boxes, axis=(1, 3))


def pixels_before(ends):
    """Return x1, y1, x2, y2 of ends in a binned image in the pixels of the image itself."""
    return np.ravel(ends) * BINNING + (BINNING - 1) / 2


SEARCHES = {"find_trails": search_ours, "findsat_mrt": search_mrt}


def said_of(found, truth):
    """Say how many true and false trails were found in a field."""
    numbers = match(found, truth)["truth"]
    return f"{numbers[numbers >= 0].nunique()} true and {np.sum(numbers < 0)} false"


def tell(text):
    """Say how far the work is, at once, so that a run that is stopped was of use."""
    print(text, file=sys.stderr, flush=True)


def match(found, truth):
    """Return found trails with the number of the true one that each lies on, -1 for a false one."""
    numbers = np.full(len(found), -1)
    for number, row in enumerate(found.itertuples()):
        for index, true in truth[truth["field"] == row.field].iterrows():
            if lies_on(row, true):
                numbers[number] = index
                break
    return found.assign(truth=numbers)


def lies_on(row, true):
    """Tell whether a found trail is a part of the line of a true one, and overlaps with it."""
    length = np.hypot(true["x2"] - true["x1"], true["y2"] - true["y1"])
    c, s = (true["x2"] - true["x1"]) / length, (true["y2"] - true["y1"]) / length
    dx, dy = (np.array([row.x1, row.x2]) - true["x1"], np.array([row.y1, row.y2]) - true["y1"])
    along, across = dx * c + dy * s, dy * c - dx * s
    return np.abs(across).max() < TOLERANCE and along.max() > 0 and along.min() < length


def at_equal_error(found, allowed):
    """Return the trails above the lowest threshold that leaves no more than so many false ones."""
    false = np.sort(found.loc[found["truth"] < 0, "snr"])[::-1]
    threshold = false[allowed] if len(false) > allowed else -np.inf
    return found[found["snr"] > threshold]


def completeness(truth, found):
    """Return the share of the true trails that are found, by signal-to-noise ratio, and their number."""
    table = truth.assign(snr=pd.cut(truth["snr"], SNR_EDGES), dotted=truth["spacing"].notna())
    for name, rows in found.items():
        table[name] = table.index.isin(rows["truth"])
    groups = table.groupby(["snr", "dotted"], observed=True)
    return groups.agg(trails=("dotted", "size"), **{name: (name, "mean") for name in found})


def draw(table, path):
    """Draw the completeness of continuous trails against their signal-to-noise ratio."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    rows = table.xs(False, level="dotted")
    middles = [np.sqrt(interval.left * interval.right) for interval in rows.index]
    for name in ("find_trails", "findsat_mrt"):
        axes.plot(middles, rows[name], marker="o", label=name)
    axes.set(xscale="log", xlabel="signal-to-noise ratio of the trail", ylabel="share found")
    axes.set_title("Trails found in simulated fields, at equal false trails")
    axes.legend()
    figure.savefig(path, dpi=100)


def count_false_trails(n_quadrants):
    """Print how many trails are found in simulated quadrants that have none, and how long one takes."""
    false, seconds = [], []
    for number in range(n_quadrants):
        filtercode = FILTERCODES[number % len(FILTERCODES)]
        image, header = simulate_field(FIRST_QUADRANT + number, QUADRANT[::-1], filtercode=filtercode)
        start = time.process_time()
        table = find_trails(image, header).table
        seconds.append(time.process_time() - start)
        false.append(table.assign(quadrant=number))
        which = "".join(f" ({row.length:.0f} px, S/N {row.snr:.1f})" for row in table.itertuples())
        tell(f"quadrant {number + 1} of {n_quadrants}: {len(table)} false trails{which}, {seconds[-1]:.1f} s")
    false = pd.concat(false, ignore_index=True)
    print(
        f"{len(false)} false trails in {n_quadrants} simulated quadrants without trails, "
        f"{np.median(seconds):.1f} s of a processor each"
    )
    if len(false):
        shown = ["quadrant", "x1", "y1", "x2", "y2", "width", "snr"]
        print(false[shown].round(1).to_string(index=False))


def list_real_trails(folder):
    """Print the trails and the bad columns of real images."""
    for path in sorted(folder.glob("*.fits")):
        image, header = fits.getdata(path, header=True)
        trails = find_trails(image, header)
        print(f"{path.name}: {len(trails)} trails; bad columns {ranges(trails.bad_columns)}")
        for row in trails.table.itertuples():
            print(
                f"    ({row.x1:.0f}, {row.y1:.0f}) to ({row.x2:.0f}, {row.y2:.0f}) px, "
                f"{row.width:.1f} px wide, {row.surface_magnitude:.1f} mag/arcsec^2, S/N {row.snr:.1f}"
            )


def ranges(numbers):
    """Return numbers as text, with runs of them shortened."""
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1) if len(numbers) else []
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs) or "none"


if __name__ == "__main__":
    main()
