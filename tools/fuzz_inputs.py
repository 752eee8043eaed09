"""Damage cutouts, tables, model files and folders in many ways, and count what their readers make of them.

python tools/fuzz_inputs.py --cases 2000 [--seed 0] [--only KIND]
python tools/fuzz_inputs.py --survey 20000 [--seed 0]

Each case writes a few records without ztf_sg, damages some of them in one way, and reads them with ztf_sg.
What is served must be what was written, bit by bit; what is damaged must be served or named, as its kind
demands. The last line counts errors that are not documented (uncaught), good records that were not served or
changed (lost), and bad ones of which no word was said (unnamed).

``--survey`` classifies that many cutouts, of which one in a hundred is bad, as FITS and as Parquet files, on
threads and on a LocalCluster.
"""

import argparse
import io
import sys
import traceback
import warnings
from collections import Counter, defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from fuzzing.file_kinds import CSV_KINDS, FOLDER_KINDS, MODEL_KINDS, POSITION_KINDS, csv_text
from fuzzing.fits_kinds import FITS_KINDS, Record, fits_bytes
from fuzzing.table_kinds import PARQUET_KINDS, ROW_KINDS, table_of

from ztf_sg import CutoutSet, StarGalaxyClassifier, load_cutouts
from ztf_sg.classification import CLASSIFIER_FEATURES, PRETRAINED
from ztf_sg.cutouts import CutoutError, read_image_csv
from ztf_sg.features import FLAGS
from ztf_sg.model_file import ModelFileError
from ztf_sg.positions import read_positions

SIZE = 20  # of a cutout [px]


class Outcome(NamedTuple):
    """What became of a record: served, changed, named, kept (a good one), lost, unnamed or uncaught."""

    outcome: str
    detail: str = ""


def make_record(name, rng):
    """Return a record with pixels of noise, integers so that each type of number can hold them."""
    values = {
        "SEEING": round(rng.uniform(1.2, 5), 4),
        "MAGZP": round(rng.uniform(25, 26.5), 4),
        "FILTER": str(rng.choice(["ZTF_g", "ZTF_r", "ZTF_i"])),
        "OBSMJD": round(58000 + rng.uniform(0, 3000), 7),
        "EXPTIME": 30.0,
        "GAIN": round(rng.uniform(5.8, 6.5), 3),
        "SATURATE": round(rng.uniform(40000, 60000), 2),
        "APCOR1": round(rng.uniform(-1.4, -0.6), 4),
        "APCOR2": round(rng.uniform(-0.7, -0.3), 4),
        "ORIGIN": "Zwicky Transient Facility",
    }
    pixels = np.round(rng.normal(250, 15, (SIZE, SIZE))).astype(np.float32)
    return Record(name, pixels, values, float(rng.uniform(0, 360)), float(rng.uniform(-30, 85)))


def make_records(count, rng):
    """Return some records with the names of stars and galaxies."""
    return [make_record(f"{rng.choice(['star', 'galaxy'])}_{number}", rng) for number in range(count)]


def is_served(record, cutouts, row):
    """Tell whether a row of a CutoutSet is what was written, bit by bit; a WCS is inverted to 1e-9 deg."""
    found = cutouts.table.iloc[row]
    near = abs((found["ra"] - record.ra + 180) % 360 - 180) < 1e-9 and abs(found["dec"] - record.dec) < 1e-9
    same = all(found[key.lower()] == value for key, value in record.values.items())
    return bool(near and same and np.array_equal(cutouts.images[row], record.pixels))


def fate(record, demand, cutouts, file=""):
    """Return the Outcome of a record, given what its kind demands and the set that was read."""
    rows = np.flatnonzero(cutouts.table["name"] == record.name)
    starts = (f"{record.name}.", file) if file else f"{record.name}."
    skipped = cutouts.skipped.astype(str)
    is_named = skipped["name"].str.startswith(starts) | (skipped["name"] == record.name)
    reasons = skipped["reason"][is_named.astype(bool)].tolist()
    served = len(rows) == 1 and is_served(record, cutouts, rows[0])
    if demand in ("good", "kept"):
        return Outcome("kept" if demand == "good" else "served") if served else Outcome("lost", str(reasons))
    if reasons and not (file and len(rows)):  # row groups are lost one by one
        is_said = all((record.name in r or (file and file in r)) and "\n" not in r for r in reasons)
        return Outcome("named") if is_said and not len(rows) else Outcome("unnamed", str(reasons))
    if demand == "either" and len(rows):
        return Outcome("served" if served else "changed")
    return Outcome("unnamed", f"{len(rows)} rows")


def read_both_ways(read, demands, says):
    """Yield faults of reading with on_error="raise" beside "skip"; the set read with "skip" comes last.

    `says` are the names of which the error must have one.
    """
    cutouts = read("skip")
    try:
        read("raise")
        if len(cutouts.skipped):
            yield Outcome("unnamed", "nothing raised, though some were left out")
    except CutoutError as error:
        if not any(name in str(error) for name in says):
            yield Outcome("unnamed", f"raised {error}")
        elif "good" in demands and not len(cutouts.skipped):
            yield Outcome("lost", f"raised {error}")
    yield cutouts


def fits_case(kind, rng, folder):
    """Yield the outcomes of the records of a folder of FITS files, of which one or two are damaged."""
    damage, demand = FITS_KINDS[kind]
    records = make_records(int(rng.integers(5, 8)), rng)  # most are good, and set the shape
    bad = set(rng.choice(len(records), int(rng.integers(1, 3)), replace=False).tolist())
    for number, record in enumerate(records):
        if number not in bad:
            (folder / f"{record.name}.fits").write_bytes(fits_bytes(record))
            continue
        suffix, content = damage(record, rng)
        path = folder / (suffix if "/" in suffix else f"{record.name}{suffix}")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        if "/" in suffix:
            name = path.relative_to(folder).as_posix().split(".")[0]
            records[number] = record._replace(name=name)
    demands = [demand if number in bad else "good" for number in range(len(records))]
    *faults, cutouts = read_both_ways(
        lambda on_error: load_cutouts(folder, on_error), demands, [records[number].name for number in bad]
    )
    yield from faults
    yield from (fate(record, demand, cutouts) for record, demand in zip(records, demands, strict=True))


def rows_case(kind, rng, folder):
    """Yield the outcomes of the rows of a table, in memory or in a file, of which some are damaged."""
    damage, demand = ROW_KINDS[kind]
    records = make_records(int(rng.integers(4, 9)), rng)
    bad = set(rng.choice(len(records), int(rng.integers(1, 3)), replace=False).tolist())
    table = damage(records, sorted(bad), rng)
    demands = [demand if number in bad else "good" for number in range(len(records))]
    path = folder / "cutouts.parquet"
    if isinstance(table, pa.Table) and rng.random() < 0.7:
        pq.write_table(table, path, row_group_size=int(rng.integers(1, 9)))

        def read(on_error):
            return CutoutSet.read_parquet(path, on_error=on_error)
    else:

        def read(on_error):
            return CutoutSet.from_table(table, on_error)

    says = [records[number].name for number in bad] + [f"row {number}" for number in bad]
    *faults, cutouts = read_both_ways(read, demands, says)
    yield from faults
    yield from (fate(record, demand, cutouts) for record, demand in zip(records, demands, strict=True))


def parquet_case(kind, rng, folder):
    """Yield the outcomes of the rows of two Parquet files, one of which is damaged as a whole."""
    damage, demand = PARQUET_KINDS[kind]
    records = make_records(8, rng)
    halves = {"good.parquet": records[:4], "other.parquet": records[4:]}
    for file, rows in halves.items():
        content = io.BytesIO()
        pq.write_table(table_of(rows), content, row_group_size=2, write_page_checksum=True)
        content = content.getvalue() if file == "good.parquet" else damage(content.getvalue(), rows, rng)
        (folder / file).write_bytes(content)
    demands = ["good"] * 4 + [demand] * 4
    read_folder = lambda on_error: CutoutSet.read_parquet(folder, on_error=on_error)  # noqa: E731
    *faults, cutouts = read_both_ways(
        read_folder, demands, ["other.parquet", *(record.name for record in records[4:])]
    )
    yield from faults
    for record, demand in zip(records, demands, strict=True):
        yield fate(record, demand, cutouts, "" if demand == "good" else "other.parquet")


def folder_case(kind, rng, folder):
    """Yield the outcomes of good records beside other things, which must be ignored or mentioned."""
    disturb, word = FOLDER_KINDS[kind]
    records = make_records(4, rng)
    for record in records:
        (folder / f"{record.name}.fits").write_bytes(fits_bytes(record))
    disturb(folder, records, rng)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cutouts = load_cutouts(folder, "skip")
    said = [str(warning.message) for warning in caught]
    yield from (fate(record, "good", cutouts) for record in records)
    if len(cutouts) > len(records):
        yield Outcome("unnamed", "more was read than there is")
    is_said = any(word in text for text in [*said, *cutouts.skipped["reason"]]) if word else not said
    yield Outcome("named" if word else "served") if is_said else Outcome("unnamed", f"{word!r} not in {said}")


def all_or_nothing(read, documented, path, is_same, demand):
    """Return the Outcome of a file that is read as a whole or refused by name."""
    try:
        found = read(path)
    except documented as error:
        if demand == "kept":
            return Outcome("lost", str(error))
        is_said = path.name in str(error) and "\n" not in str(error)
        return Outcome("named") if is_said else Outcome("unnamed", str(error))
    if is_same(found):
        return Outcome("served") if demand != "refused" else Outcome("unnamed", "nothing was raised")
    return Outcome("changed") if demand == "either" else Outcome("unnamed", "other values were read")


def csv_case(kind, rng, folder):
    """Yield the outcome of a table of pixels, of which a row or the file is damaged, and of a good one."""
    damage, demand = CSV_KINDS[kind]
    labels, pixels = rng.integers(-1, 2, 6), np.round(rng.normal(250, 15, (6, 9)), 3)
    rows = [[str(label), *map(repr, row.tolist())] for label, row in zip(labels, pixels, strict=True)]

    def is_same(found):
        return np.array_equal(found[0], pixels) and np.array_equal(found[1], labels)

    for name, content in {"good.csv": csv_text(rows), "damaged.csv": damage(rows, rng)}.items():
        (folder / name).write_bytes(content)
        wanted = "kept" if name == "good.csv" else demand
        outcome = all_or_nothing(read_image_csv, ValueError, folder / name, is_same, wanted)
        yield Outcome("kept") if name == "good.csv" and outcome.outcome == "served" else outcome


def positions_case(kind, rng, folder):
    """Yield the outcome of a pair of files of positions, of which one is damaged."""
    damage, demand = POSITION_KINDS[kind]
    ra, dec = np.round(rng.uniform(0, 360, (2, 4)), 7), np.round(rng.uniform(-90, 90, (2, 4)), 7)
    for number, file in enumerate(("stars.csv", "gals.csv")):
        kinds = ["PSF"] * 4 if number == 0 else rng.choice(["REX", "EXP", "DEV", "SER"], 4).tolist()
        rows = [["RA", "DEC", "type"]]
        rows += [[repr(float(ra[number, n])), repr(float(dec[number, n])), kinds[n]] for n in range(4)]
        (folder / file).write_bytes(csv_text(rows) if number == 0 else damage(rows, rng))

    def is_same(found):
        return all(
            np.array_equal(table["RA"], ra[n]) and np.array_equal(table["DEC"], dec[n])
            for n, table in enumerate(found)
        )

    yield all_or_nothing(
        lambda path: read_positions(path.parent), ValueError, folder / "gals.csv", is_same, demand
    )


def model_case(kind, rng, folder):
    """Yield the outcome of a damaged model file."""
    damage, demand = MODEL_KINDS[kind]
    path = folder / "model.npz"
    path.write_bytes(damage(PRETRAINED.read_bytes(), rng))
    values = np.random.default_rng(0).normal(size=(5, len(CLASSIFIER_FEATURES)))
    features = pd.DataFrame(values, columns=CLASSIFIER_FEATURES).assign(
        seeing=1.7, **dict.fromkeys(FLAGS, False)
    )
    expected = StarGalaxyClassifier.pretrained().classify_features(features, 0.9)["p_galaxy"]

    def is_same(model):
        return np.array_equal(model.classify_features(features, 0.9)["p_galaxy"], expected)

    yield all_or_nothing(StarGalaxyClassifier.load, ModelFileError, path, is_same, demand)


CASES = {
    "FITS": (fits_case, FITS_KINDS),
    "row": (rows_case, ROW_KINDS),
    "Parquet": (parquet_case, PARQUET_KINDS),
    "folder": (folder_case, FOLDER_KINDS),
    "CSV": (csv_case, CSV_KINDS),
    "positions": (positions_case, POSITION_KINDS),
    "model": (model_case, MODEL_KINDS),
}


def run_case(group, kind, seed):
    """Return the outcomes of one case as a list; an error that is not documented is one of them."""
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return list(CASES[group][0](kind, np.random.default_rng(seed), Path(folder)))
        except Exception:
            return [Outcome("uncaught", traceback.format_exc())]


def fuzz(cases, seed=0, only=None):
    """Return counts of the outcomes by kind, and print the details of the first faults."""
    kinds = [(group, kind) for group, (_, kinds) in CASES.items() for kind in kinds if only in (None, kind)]
    if not kinds:
        raise SystemExit(f"no kind of damage is called {only!r}")
    counts, shown = defaultdict(Counter), 0
    for case in range(cases):
        group, kind = kinds[case % len(kinds)]
        for outcome, detail in run_case(group, kind, [seed, case]):
            counts[f"{group}: {kind}"][outcome] += 1
            if outcome in ("uncaught", "lost", "unnamed") and shown < 20:
                shown += 1
                print(f"case {case}, {group}, {kind}: {outcome}: {detail}", file=sys.stderr)
    return counts


def report(counts):
    """Print counts by kind, then the line of their sums; return how many faults there were."""
    outcomes = ("kept", "served", "changed", "named", "uncaught", "lost", "unnamed")
    table = pd.DataFrame(counts).T.reindex(columns=outcomes).fillna(0).astype(int)
    print(table.to_string())
    sums = table.sum()
    print(f"{len(table)} kinds, {sums.sum()} outcomes, {sums['kept'] / sums.sum():.0%} of undamaged records")
    print(" ".join(f"{name} {sums[name]}" for name in outcomes[-3:]))
    return int(sums[list(outcomes[-3:])].sum())


def main():
    """Run what the arguments ask for; the exit code tells whether there were faults."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=2000, help="number of cases, the kinds in turn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="one kind of damage")
    parser.add_argument(
        "--survey", type=int, metavar="N", help="classify N cutouts, one in a hundred of them bad"
    )
    arguments = parser.parse_args()
    if arguments.survey:
        from fuzzing.survey import fuzz_survey

        sys.exit(fuzz_survey(arguments.survey, arguments.seed) > 0)
    sys.exit(report(fuzz(arguments.cases, arguments.seed, arguments.only)) > 0)


if __name__ == "__main__":
    main()
