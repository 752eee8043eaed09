"""Print how much better several images of an object tell its class than one.

python benchmarks/combining.py [--objects 5000] [--seed 1] [--model FILE] [--jobs 2] [--plot FILE]

The objects are of a simulated sky: as many stars as galaxies, by its truth table, at each signal-to-noise
ratio from 8 to 20 that a fit of the point-spread function to a typical i image would have; with no more than
a tenth of their light from neighbours (FRACFLUX), none of which is within 5 arcsec. Of each there are the
best two images, of different nights, in g, r and i, as fetch_cutouts chooses them. A classifier, by default
the ready one for sources of any depth, judges each image; those outside of what it was trained on are left
out. The prior is that the classes are equally many.

Standard errors are by bootstrap: from objects drawn with replacement. Correlations are of the log ratios of
two images of the objects of a class; the likeliest ones are those with which `combine` makes the classes of
the objects most probable. To see whether contradictions are found, one image of each object is replaced by
that of an object of the other class, in the same filter; of objects as drawn, it is told how many are wrong.
"""

import argparse
from itertools import combinations
from tempfile import TemporaryDirectory

import astropy.units as u
import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from matplotlib.figure import Figure
from scipy.optimize import minimize_scalar
from scipy.special import expit

from ztf_sg import StarGalaxyClassifier, fetch_cutouts, load_cutouts
from ztf_sg.evaluation import calibration_error
from ztf_sg.own_objects import combine
from ztf_sg.own_objects.combine import CORRELATION, LARGEST_LOG_RATIO
from ztf_sg.positions import cut_blends, cut_fluxes, cut_neighbours, cut_types, magnitude
from ztf_sg.simulation import MockSky
from ztf_sg.simulation.parameters import GAIN, NOISE_EXCESS
from ztf_sg.ztf import PIXEL_SCALE, READ_NOISE

FILTERS, N_IMAGES = ("zg", "zr", "zi"), 2
SNR_RANGE, SNR_BINS = (8.0, 20.0), 4
ISOLATION = 5 * u.arcsec
SEEING, BACKGROUND, MAGZP = 1.6, 270.0, 25.55  # of a typical i image: [px], [DN], [mag]
TASK_SIZE = 100  # objects that a process is given at a time
REPEATS = 200  # of the bootstrap
SLOTS = [f"{code}{rank}" for code in FILTERS for rank in range(N_IMAGES)]
BANDS = [SLOTS[k : k + N_IMAGES] for k in range(0, len(SLOTS), N_IMAGES)]
SETS = {
    "one": [[slot] for slot in SLOTS],
    "two of a band": BANDS,
    "one in each band": [list(slots) for slots in zip(*BANDS, strict=True)],
    "two in each band": [SLOTS],
}
LARGEST_RATIO, LARGEST_ECE = 0.5, 0.015  # wanted


def expected_snr(objects):
    """Return the signal-to-noise ratio of the fit of a point source on a typical i image, good to 20 %.

    Profiles are taken for Gaussians, whose half-light radius is half of their FWHM.
    """
    counts = 10 ** (0.4 * (MAGZP - objects["magnitude"]))
    counts /= 1 + 2 * (objects["RADIUS"] / PIXEL_SCALE / SEEING) ** 2  # what the fit takes of it
    sky_variance = NOISE_EXCESS**2 * (BACKGROUND / GAIN + (READ_NOISE / GAIN) ** 2)
    return counts / np.sqrt(counts / GAIN + 4 * np.pi * (SEEING / 2.355) ** 2 * sky_variance)


def choose(sky, count):
    """Return objects of a sky in random order, as many of each class at each signal-to-noise ratio."""
    objects = cut_neighbours(sky.objects[sky.objects["FLUX_I"] > 0], ISOLATION)
    objects = cut_blends(cut_types(cut_fluxes(objects)))
    objects = objects.assign(magnitude=magnitude(objects["FLUX_I"]))
    edges = np.geomspace(*SNR_RANGE, SNR_BINS + 1)
    objects["bin"] = pd.cut(expected_snr(objects), edges, labels=False)
    objects = objects.dropna(subset="bin").sample(frac=1, random_state=sky.seed)
    groups = objects.groupby(["bin", "CLASS"])
    fewest = groups.size().unstack().min(axis=1)
    objects = objects[groups.cumcount() < objects["bin"].map(fewest)]
    if len(objects) < count:
        raise SystemExit(f"{sky} has {len(objects)} such objects; give --objects {len(objects)} or fewer")
    return objects.head(count).reset_index(drop=True)


def images_of(seed, objects, model):
    """Return the images of some objects: slot, label and what `combine` needs, a DataFrame."""
    positions = objects[["RA", "DEC"]].assign(object=objects.index)
    options = {"filters": FILTERS, "n_images": N_IMAGES, "progress": False, "request_cost": 0}
    with TemporaryDirectory() as folder:
        fetch_cutouts(positions, folder, MockSky(seed), **options)
        cutouts = load_cutouts(folder)
    found = model.classify_features(model.features(cutouts), threshold=0.5)
    table = cutouts.table[["object", "filter"]].assign(log_ratio=found["log_ratio"], outside=found["outside"])
    return table.assign(label=(objects["CLASS"] == "galaxy").astype(int)[table["object"]].to_numpy())


def with_slots(images):
    """Return the images that are not outside, with their place among those of their object."""
    rank = images.groupby(["object", "filter"]).cumcount()
    images = images.assign(slot="z" + images["filter"].str[-1] + rank.astype(str))
    return images[~images["outside"]].reset_index(drop=True)


def draw(seed, objects, model, n_jobs):
    """Return `images_of` all objects."""
    parts = [objects.iloc[start : start + TASK_SIZE] for start in range(0, len(objects), TASK_SIZE)]
    found = Parallel(n_jobs)(delayed(images_of)(seed, part, model) for part in parts)
    return pd.concat(found, ignore_index=True)


def judged(images, labels, choices):
    """Return label and p_galaxy of the objects for each choice of images, rows in turn, a DataFrame."""
    found = [combine(images[images["slot"].isin(slots)]) for slots in choices]
    return pd.concat(
        part[["p_galaxy", "n_images"]].assign(label=labels[part.index], choice=number)
        for number, part in enumerate(found)
    )


def error_shares(rows, weights):
    """Return the share of errors among some rows of `judged`, for weights of the objects, (repeats, n)."""
    wrong = (rows["p_galaxy"] > 0.5) != rows["label"]
    n = weights.shape[1]
    wrong, all_rows = np.bincount(rows.index, wrong, n), np.bincount(rows.index, minlength=n)
    return weights @ wrong / (weights @ all_rows)


def errors_table(images, labels, weights):
    """Return errors and calibration by number of images, a DataFrame; the first weights are all 1."""
    found = {name: judged(images, labels, choices) for name, choices in SETS.items()}
    singles = found["one"]
    best = min(
        (part for _, part in singles.groupby("choice")), key=lambda part: error_shares(part, weights)[0]
    )
    one, table = error_shares(singles, weights), []
    for name, rows in {"one": singles, "one, the best": best, **found}.items():
        shares = error_shares(rows, weights)
        ratios = shares / one
        row = {"images": name, "objects": rows.index.nunique(), "inside": rows["n_images"].mean()}
        row |= {"errors": shares[0], "errors_err": shares[1:].std(), "ratio": ratios[0]}
        row |= {"ratio_err": ratios[1:].std(), "ece": calibration_error(rows["label"], rows["p_galaxy"])}
        table.append(row)
    return pd.DataFrame(table)


def correlations(ratios, labels):
    """Return the correlation of the log ratios of two images of a band, and of two bands.

    Parameters
    ----------
    ratios, labels : pandas.DataFrame, pandas.Series
        Log ratios by object and slot, NaN where there is none, and the label of each object.
    """
    by_class = [ratios[(labels == label).to_numpy()].corr() for label in (0, 1)]
    values = {True: [], False: []}
    for one, other in combinations(ratios.columns, 2):
        values[one[:-1] == other[:-1]] += [table.loc[one, other] for table in by_class]
    return np.mean(values[True]), np.mean(values[False])


def fitted_correlation(ratios, labels):
    """Return the correlation with which the combined probabilities of objects are likeliest."""
    clipped = ratios.clip(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO)
    total, others = clipped.sum(axis=1).to_numpy(), ratios.notna().sum(axis=1).to_numpy() - 1
    agreement = (2 * labels.to_numpy() - 1) * total

    def loss(correlation):
        return np.logaddexp(0, -agreement / (1 + others * correlation)).mean()

    return minimize_scalar(loss, bounds=(-0.1, 2), method="bounded").x


def correlations_table(images, labels, rng):
    """Return all correlations and their standard errors, a DataFrame."""
    ratios = images.pivot(index="object", columns="slot", values="log_ratio")[SLOTS]
    labels = labels[ratios.index]

    def measure(rows):
        some, theirs = ratios.iloc[rows], labels.iloc[rows]
        fitted = [
            fitted_correlation(some[slots], theirs) for slots in (["zr0", "zr1"], ["zi0", "zi1"], SLOTS)
        ]
        return [*correlations(some, theirs), *fitted]

    names = [
        "two images of a band",
        "two bands",
        "likeliest, two in r",
        "likeliest, two in i",
        "likeliest, all",
    ]
    draws = [measure(rng.integers(0, len(ratios), len(ratios))) for _ in range(REPEATS)]
    found = measure(np.arange(len(ratios)))
    return pd.DataFrame({"correlation": found, "error": np.std(draws, axis=0)}, index=names)


def certainty_table(images):
    """Return how often single images are right beside what they promise, by log ratio, a DataFrame."""
    sure = images["log_ratio"].abs()
    right = (images["log_ratio"] > 0) == images["label"]
    groups = pd.cut(sure, [*range(int(LARGEST_LOG_RATIO) + 1), np.inf], include_lowest=True)
    table = pd.DataFrame({"images": sure, "promised": expit(sure), "right": right}).groupby(
        groups, observed=True
    )
    return table.agg({"images": "size", "promised": "mean", "right": "mean"})


def exchanged(images, donors, rng):
    """Return the images with one of each object replaced by that of an object of the other class."""
    images = images.sample(frac=1, random_state=rng).reset_index(drop=True)
    ratios = images["log_ratio"].to_numpy(copy=True)
    for (code, label), group in images[~images["object"].duplicated()].groupby(["filter", "label"]):
        others = donors["log_ratio"][(donors["filter"] == code) & (donors["label"] != label)]
        ratios[group.index] = rng.choice(others, len(group))
    return images.assign(log_ratio=ratios)


def contradictions_table(images, labels, rng):
    """Return the shares of contradictory objects, as drawn and exchanged, and of errors, a DataFrame."""
    rows = []
    n_images = images.groupby("object")["slot"].transform("size")
    for least, most in ((2, 2), (3, 4), (5, 6)):
        some = images[n_images.between(least, most)]
        found, others = combine(some), combine(exchanged(some, images, rng))
        is_wrong = found["class"] != labels[found.index]
        flagged = found["contradictory"]
        rows.append(
            {
                "images": f"{least}-{most}",
                "objects": len(found),
                "contradictory": flagged.mean(),
                "one exchanged": others["contradictory"].mean(),
                "errors among contradictory": is_wrong[flagged].mean(),
                "among others": is_wrong[~flagged].mean(),
            }
        )
    return pd.DataFrame(rows)


def plot(table):
    """Return a figure of the errors against the number of images."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    rows = table[table["images"] != "one, the best"]
    axes.errorbar(rows["inside"], 100 * rows["errors"], 100 * rows["errors_err"], fmt="o-", color="#0072B2")
    for row in rows.itertuples():
        axes.annotate(row.images, (row.inside, 100 * row.errors), (6, 6), textcoords="offset points")
    axes.set(
        xlabel="images per object that are not outside",
        ylabel="wrong classes [%]",
        xlim=(0.5, rows["inside"].max() + 2),
    )
    axes.set_ylim(0, 120 * rows["errors"].max())
    axes.grid(alpha=0.3)
    return figure


def report(images, rng):
    """Print all tables, and return that of the errors."""
    labels = images.groupby("object")["label"].first()
    labels = labels.reindex(range(labels.index.max() + 1), fill_value=-1)
    counts = np.bincount(images["object"], minlength=len(labels))
    print(f"{(counts > 0).sum()} objects, {len(images)} images inside of what the model was trained on\n")
    draws = rng.multinomial(len(labels), np.full(len(labels), 1 / len(labels)), REPEATS)
    errors = errors_table(images, labels, np.vstack([np.ones(len(labels), dtype=int), draws]))
    print(errors.to_string(index=False, float_format="%.4f"))
    found = correlations_table(images, labels, rng)
    print(f"\n{found.to_string(float_format='%.3f')}\nin use: {CORRELATION}\n")
    print(certainty_table(images).to_string(float_format="%.4f"))
    print(f"\n{contradictions_table(images, labels, rng).to_string(index=False, float_format='%.4f')}\n")
    last = errors.iloc[-1]
    print(
        f"errors of two images in each band over those of one: {last['ratio']:.3f} ± {last['ratio_err']:.3f} "
        f"(wanted: {LARGEST_RATIO}), ECE {last['ece']:.4f} (wanted: {LARGEST_ECE})"
    )
    return errors


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1, help="of the sky")
    parser.add_argument("--model", help="a saved StarGalaxyClassifier, not the ready one")
    parser.add_argument("--jobs", type=int, default=2, help="processes that draw the images")
    parser.add_argument("--plot", metavar="FILE", help="draw a figure, too")
    options = parser.parse_args()
    sky = MockSky(options.seed)
    model = StarGalaxyClassifier.pretrained(any_depth=True)
    if options.model:
        model = StarGalaxyClassifier.load(options.model)
    images = draw(options.seed, choose(sky, options.objects), model, options.jobs)
    print(f"{sky}: {options.objects} objects, {len(images)} images")
    errors = report(with_slots(images), np.random.default_rng(options.seed))
    if options.plot:
        plot(errors).savefig(options.plot, dpi=110)


if __name__ == "__main__":
    main()
