"""Surveys of many cutouts, of which one in a hundred is bad, as FITS and as Parquet files."""

import os
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from distributed import LocalCluster

from ztf_sg import StarGalaxyClassifier, classify_survey, load_cutouts
from ztf_sg.cutouts import BUNDLED_CUTOUTS
from ztf_sg.survey import read_skipped

from .fits_kinds import FITS_KINDS, REFUSED, Record
from .table_kinds import row_of

BAD = 100  # one cutout in so many is bad
PARQUET_FILE = 5000  # cutouts
SCHEDULERS = ("threads", "LocalCluster")


def fuzz_survey(count, seed=0):
    """Print what becomes of the cutouts of the surveys, and return the number of faults."""
    cutouts = load_cutouts(BUNDLED_CUTOUTS)
    expected = pd.Series(
        StarGalaxyClassifier.pretrained().predict_proba(cutouts)[:, 1], cutouts.table["name"]
    )
    faults = 0
    with TemporaryDirectory() as folder:
        for form, write in {"FITS": write_fits, "Parquet": write_parquet}.items():
            source = Path(folder) / form
            source.mkdir()
            origin, bad = write(source, count, np.random.default_rng(seed), cutouts)
            for scheduler in SCHEDULERS:
                results = Path(folder) / f"{form} {scheduler}"
                faults += classify(source, results, scheduler, origin, bad, expected)
    print(f"faults {faults}")
    return faults


def write_fits(folder, count, rng, cutouts):
    """Write links to the bundled cutouts, and damaged files.

    Return the bundled cutout of each good one, and the kind of damage of each bad one, by name.
    """
    kinds = [(kind, damage) for kind, (damage, demand) in FITS_KINDS.items() if demand == REFUSED]
    origin, bad = {}, {}
    for number in range(count):
        row = number % len(cutouts)
        source = cutouts.table["name"][row]
        name = f"{source.split('_')[0]}_{number}"
        if number % BAD:
            os.link(BUNDLED_CUTOUTS / f"{source}.fits", folder / f"{name}.fits")
            origin[name] = source
        else:
            kind, damage = kinds[number // BAD % len(kinds)]
            suffix, content = damage(record_of(cutouts, row, name), rng)
            (folder / f"{name}{suffix}").write_bytes(content)
            bad[name] = kind
    return origin, bad


def write_parquet(folder, count, rng, cutouts):
    """Write files of rows, some of them damaged; as of write_fits."""
    origin, bad = {}, {}
    for start in range(0, count, PARQUET_FILE):
        rows = []
        for number in range(start, min(start + PARQUET_FILE, count)):
            row = number % len(cutouts)
            source = cutouts.table["name"][row]
            record = record_of(cutouts, row, f"{source.split('_')[0]}_{number}")
            rows.append(row_of(record))
            if number % BAD:
                origin[record.name] = source
            else:
                kind = list(ROW_DAMAGE)[number // BAD % len(ROW_DAMAGE)]
                rows[-1] |= ROW_DAMAGE[kind](rows[-1])
                bad[record.name] = kind
        frame = pd.DataFrame(rows)
        images = pa.array(frame.pop("image").tolist(), pa.list_(pa.float32()))
        table = pa.Table.from_pandas(frame, preserve_index=False).append_column("image", images)
        pq.write_table(table, folder / f"{start}.parquet", row_group_size=1024)
    return origin, bad


ROW_DAMAGE = {  # what one column of Parquet can hold beside good values
    "NaN pixel": lambda row: {"image": np.where(row["image"] == row["image"].max(), np.nan, row["image"])},
    "infinite pixel": lambda row: {
        "image": np.where(row["image"] == row["image"].max(), np.inf, row["image"])
    },
    "too few pixels": lambda row: {"image": row["image"][:-1]},
    "no pixels": lambda row: {"image": None},
    "empty pixels": lambda row: {"image": []},
    "infinite number": lambda row: {"magzp": -np.inf},
    "number missing": lambda row: {"gain": None},
    "NaN": lambda row: {"saturate": np.nan},
    "not above 0": lambda row: {"seeing": 0.0},
    "filter missing": lambda row: {"filter": None},
    "no position on the sky": lambda row: {"dec": 91.0},
}


def record_of(cutouts, row, name):
    """Return a cutout as a record of another name."""
    values = cutouts.table.iloc[row]
    header = {key.upper(): value for key, value in values.items() if key not in ("name", "ra", "dec")}
    return Record(name, cutouts.images[row], header, values["ra"], values["dec"])


def classify(source, results, scheduler, origin, bad, expected):
    """Classify a survey, print what became of its cutouts, and return the number of faults."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that some were left out
        if scheduler == "LocalCluster":
            with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
                classify_survey(source, results, scheduler=cluster, partition=4096, progress=False)
        else:
            classify_survey(source, results, scheduler=scheduler, partition=4096, progress=False)
    found = pd.concat(pd.read_parquet(path) for path in sorted(results.glob("part-*.parquet")))
    found = found.set_index("name")["p_galaxy"]
    skipped = read_skipped(results)
    named = dict(zip(skipped["name"].str.split(".").str[0], skipped["reason"], strict=True))
    lost = sum(name not in found for name in origin)
    changed = sum(
        not np.isclose(found[name], expected[origin[name]], atol=1e-9) for name in origin if name in found
    )
    unnamed = [kind for name, kind in bad.items() if name not in named or name not in named[name]]
    others = len(named) - len(bad) + len(found) - len(origin)
    print(
        f"{source.name}, {scheduler}: {len(origin) + len(bad)} cutouts, {len(bad)} bad ones of "
        f"{len(set(bad.values()))} kinds: classified {len(found)} named {len(named)} lost {lost} "
        f"changed {changed} unnamed {len(unnamed)}"
    )
    if unnamed:
        print("  not named:", ", ".join(sorted(set(unnamed))))
    return lost + changed + len(unnamed) + abs(others)
