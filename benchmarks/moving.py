"""Print how well asteroids and satellites are told in real stamps of alerts, beside other ways.

python benchmarks/moving.py FOLDER [--model FILE] [--train-stamps 4000] [--seed 0]

FOLDER holds ``alerts.parquet`` and, 8 bit, ``glints_8bit.npz``, ``asteroid_streaks_8bit.npz`` and
``no_streaks_8bit.npz``. Trained on simulated stamps alone are the classifier that comes with the package and
extremely randomised trees on the same features. Trained on real ones, with nights left out, are both for
asteroids against the rest. The rules are thresholds in the spirit of ZTF's alert filters; findsat_mrt of
acstools and OpenCV's HoughLinesP (extra ``benchmarks``) see the difference images. The standard errors are of
nights drawn with replacement. Real satellites are of one exposure: near copies of each other, so counts.
"""

import argparse
import logging
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from ztf_sg import MovingObjectClassifier, MuyGPSClassifier, Triplets, load_alerts
from ztf_sg.simulation.stamps import simulate_stamps
from ztf_sg.streaks import FEATURES, classify_alerts, measure_stamps
from ztf_sg.streaks.one_vs_rest import CLIP
from ztf_sg.streaks.stamps import CLASS_NAMES

ASTEROID, SATELLITE, BINS = 1, 2, 10  # labels; of the expected calibration error
FALSE = 0.01  # share of false positives at which completeness is counted
MAX_ERRORS = (0.01, 0.02, 0.05)  # shares of mistakes for which it is counted how many stamps are ambiguous
BOOTSTRAPS, FOLDS, REPEATS = 200, 5, 5
TREES = {"n_estimators": 500, "min_samples_leaf": 2, "random_state": 0}
SHARPEST, TEMPLATE_SNR, CANNY = 4.0, 5.0, (60, 120)  # clipping of baselines' images [noise]; rule; OpenCV's
NEAREST_STAR = 1.5  # of a reference source that a new one must not be at ["]
STREAK_SIDE = 63  # the 8 bit stamps of streaks are cut to, as well as seen whole [px]


def completeness(is_class, score):
    """Return the share of a class above the score that 1 % of the rest exceed."""
    return float(np.mean(score[is_class] > np.quantile(score[~is_class], 1 - FALSE)))


def calibration_error(labels, probabilities):
    """Return the expected calibration error of the top label, with classes weighted alike."""
    weights = (1 / np.bincount(labels))[labels]
    top, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = np.minimum((top * BINS).astype(int), BINS - 1)
    return float(np.abs(np.bincount(bins, weights * (right - top))).sum() / weights.sum())


def task_scores(labels, probabilities):
    """Return AUC, average precision and completeness of the three tasks, a dict."""
    either = labels > 0
    ratio = probabilities[:, SATELLITE] / np.maximum(probabilities[:, 1:].sum(axis=1), 1e-12)
    tasks = {
        "asteroid or not": (labels == ASTEROID, probabilities[:, ASTEROID]),
        "satellite or not": (labels == SATELLITE, probabilities[:, SATELLITE]),
        "which of both": ((labels == SATELLITE)[either], ratio[either]),
    }
    return {
        f"{task}: {name}": measure(*args)
        for task, args in tasks.items()
        for name, measure in (
            ("AUC", roc_auc_score),
            ("AP", average_precision_score),
            ("found at 1 %", completeness),
        )
    }


def with_errors(labels, nights, probabilities, seed):
    """Return the scores of the tasks and their standard errors, nights drawn with replacement."""
    rng, groups = (
        np.random.default_rng(seed),
        [np.flatnonzero(nights == night) for night in np.unique(nights)],
    )
    drawn = []
    while len(drawn) < BOOTSTRAPS:
        rows = np.concatenate([groups[k] for k in rng.integers(len(groups), size=len(groups))])
        if np.bincount(labels[rows], minlength=3).min() >= 2:
            drawn.append(task_scores(labels[rows], probabilities[rows]))
    return pd.Series(task_scores(labels, probabilities)), pd.DataFrame(drawn).std()


def print_tasks(real, models, seed):
    """Print the scores of each model's probabilities on real stamps."""
    columns = {}
    for name, probabilities in models.items():
        scores, errors = with_errors(real.labels, real.table["night"].to_numpy(), probabilities, seed)
        columns[name] = [f"{score:.4f} +- {errors[key]:.4f}" for key, score in scores.items()]
    print(pd.DataFrame(columns, index=scores.index).to_string())
    for name, probabilities in models.items():
        called, satellites = probabilities.argmax(axis=1), real.labels == SATELLITE
        right = [np.mean(called[real.labels == label] == label) for label in (0, ASTEROID)]
        print(
            f"{name}: {np.sum(called[satellites] == ASTEROID)} of {satellites.sum()} satellites (one "
            f"exposure) called asteroids; right are {right[0]:.3f} of others, {right[1]:.3f} of asteroids; "
            f"calibration error of the top label, classes alike, "
            f"{calibration_error(real.labels, probabilities):.3f}"
        )


def print_ambiguous(model, real, simulated, flashes):
    """Print how many stamps are ambiguous, and wrong among the others; lone flashes are simulated."""
    parts = {f"real {name}": real[real.labels == label] for label, name in enumerate(CLASS_NAMES)}
    points = (simulated.table["kind"] == "asteroid").to_numpy()
    parts |= {"real, all": real, "simulated asteroids, points": simulated[points]}
    parts |= {"simulated, all but lone flashes": simulated, "simulated lone flashes": flashes}
    for max_error in MAX_ERRORS:
        print(f"\nambiguous, and wrong among the others, for a max_error of {max_error}:")
        for name, stamps in parts.items():
            table = model.describe(stamps, max_error)
            wrong = (table["class"] != np.array(CLASS_NAMES)[stamps.labels])[~table["ambiguous"]]
            print(f"  {name}: {table['ambiguous'].mean():.3f} of {len(stamps)}, {wrong.mean():.3f}")


def print_what_is_lost(model, real):
    """Print how many real asteroids are ambiguous by their difference image alone."""
    asteroids = real[real.labels == ASTEROID]
    alone = Triplets(difference=asteroids.difference, table=asteroids.table)
    shares = [f"{model.ambiguous(alone, share).mean():.2f}" for share in MAX_ERRORS]
    print(f"\nasteroids by the difference image alone: {', '.join(shares)} ambiguous, by max_error")


def print_lengths(model, real):
    """Print how often the lengths of real asteroids, which are points, exceed their errors."""
    found = model.measure(real[real.labels == ASTEROID])
    ratio = found["length"] / found["length_error"]
    shares = [f"{np.mean(ratio > limit):.2f} above {limit} times" for limit in (2, 4)]
    print(f"lengths of real asteroids: {', '.join(shares)} the error")


def scaled_muygps():
    """Return MuyGPs for two classes with the scaling and the neighbours of MovingObjectClassifier."""
    clip = FunctionTransformer(np.clip, kw_args={"a_min": -CLIP, "a_max": CLIP})
    return make_pipeline(StandardScaler(), clip, MuyGPSClassifier(MovingObjectClassifier().nn_count))


def print_nights_left_out(real, features):
    """Print the scores of asteroid against the rest, trained on real stamps of other nights."""
    labels, nights = (real.labels == ASTEROID).astype(int), real.table["night"]
    print(f"\nasteroid or not, trained on real stamps, nights left out ({FOLDS} folds):")
    for name, model in (
        ("MuyGPs", scaled_muygps()),
        ("trees", ExtraTreesClassifier(**TREES)),
    ):
        found = cross_val_predict(
            model, features, labels, groups=nights, cv=GroupKFold(FOLDS), method="predict_proba"
        )[:, 1]
        rows = (
            real.labels != SATELLITE
        )  # those that train hold no satellite where the only exposure is left out
        scores = [measure(labels[rows], found[rows]) for measure in (roc_auc_score, average_precision_score)]
        share = completeness(labels[rows] == 1, found[rows])
        print(f"  {name}: AUC {scores[0]:.4f}, AP {scores[1]:.4f}, found at 1 % {share:.3f} (no satellites)")


def rule(stamps):
    """Return a score of being an asteroid by one rule: new light, and no reference source within 1.5 arcsec.

    It is how the alert filters of moving objects begin (AMPEL, Fink): ``distnr`` from the alert alone.
    """
    return np.where(stamps.table["isdiffpos"].isin(["t", "1"]), stamps.table["distnr"], 0.0)


def eight_bit(images):
    """Return images as 8 bit from -4 to 12 noise, and as clipped floats without NaN."""
    flat = images.reshape(len(images), -1)
    level = np.nanmedian(flat, axis=1)[:, None, None]
    noise = 1.4826 * np.nanmedian(np.abs(flat - level[:, 0]), axis=1)[:, None, None]
    signal = np.nan_to_num((images - level) / noise)
    return (np.clip((signal + SHARPEST) / 16, 0, 1) * 255).astype(np.uint8), signal


def hough_score(image):
    """Return the greatest length of a line that OpenCV's HoughLinesP finds [px]."""
    import cv2

    edges = cv2.Canny(cv2.GaussianBlur(image, (3, 3), 0), *CANNY)
    lines = cv2.HoughLinesP(edges, 1, np.pi / 180, 12, minLineLength=10, maxLineGap=8)
    if lines is None:
        return 0.0
    ends = lines.reshape(-1, 4).astype(float)  # of shape (n, 4) or (n, 1, 4), by the version
    return float(np.hypot(*(ends[:, :2] - ends[:, 2:]).T).max())


def findsat_score(signal):
    """Return the greatest significance of a line that findsat_mrt of acstools finds."""
    from acstools.findsat_mrt import TrailFinder

    logging.disable(logging.WARNING)  # which tells each step, and that nothing is found
    finder = TrailFinder(np.clip(signal, -SHARPEST, SHARPEST), processes=1, threshold=4, max_width=12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        finder.run_mrt()
        finder.find_mrt_sources()
    found = finder.source_list
    return 0.0 if found is None or len(found) == 0 else float(np.max(found["max_value"]))


def print_line_finders(real, ours, count, seed):
    """Print how other finders of lines tell satellites from the rest in the difference images, and ours."""
    rng = np.random.default_rng(seed)
    others = rng.permutation(np.flatnonzero(real.labels != SATELLITE))[:count]
    rows = np.concatenate([np.flatnonzero(real.labels == SATELLITE), others])
    images, signals = eight_bit(real.difference[rows])
    satellites = real.labels[rows] == SATELLITE
    print(f"\nsatellites against {len(others)} others by the difference image alone:")
    print_score("  this package", satellites, ours[rows, SATELLITE], np.nan)
    for name, score, stack in (
        ("  OpenCV HoughLinesP", hough_score, images),
        ("  acstools findsat_mrt", findsat_score, signals),
    ):
        start = time.perf_counter()
        found = np.array([score(image) for image in stack])
        print_score(name, satellites, found, (time.perf_counter() - start) / len(stack) * 1e3)


def print_score(name, is_class, score, milliseconds):
    """Print the figures of one score."""
    area, precision = roc_auc_score(is_class, score), average_precision_score(is_class, score)
    print(
        f"{name}: AUC {area:.3f}, AP {precision:.3f}, "
        f"found at 1 % {completeness(is_class, score):.2f}"
        + (f", {milliseconds:.1f} ms a stamp" if np.isfinite(milliseconds) else "")
    )


def print_eight_bit(folder, model):
    """Print what the 8 bit stamps of glints and of streaks, difference images alone, are called."""
    glints = np.load(folder / "glints_8bit.npz")
    stamps = Triplets(difference=np.where(glints["mask"], glints["stamp"].astype(np.float32), np.nan))
    called, trails = model.predict(stamps), glints["label"] == "satellite"
    print(
        f"\nglints with a trail or train: {np.sum(called[trails] == SATELLITE)} of {trails.sum()} satellites"
    )
    ambiguous = [f"{model.ambiguous(stamps, share)[~trails].mean():.2f}" for share in MAX_ERRORS]
    print(
        f"lone flashes: {np.bincount(called[~trails], minlength=3).tolist()} called other, asteroid, "
        f"satellite; {', '.join(ambiguous)} of them ambiguous, by max_error"
    )
    for name in ("asteroid_streaks_8bit", "no_streaks_8bit"):
        dark = 255 - np.load(folder / f"{name}.npz")["stamp"].astype(np.float32)
        first = (dark.shape[1] - STREAK_SIDE) // 2
        cut = dark[:, first : first + STREAK_SIDE, first : first + STREAK_SIDE]
        counts = [np.sum(model.predict(Triplets(difference=each)) == ASTEROID) for each in (dark, cut)]
        print(
            f"{name}: {counts[0]} of {len(dark)} called asteroids, {counts[1]} where cut to {STREAK_SIDE} px"
        )


def print_speed(model, stamps):
    """Print how many stamps are classified per second from memory, and also measured as alerts are."""
    large = stamps[np.tile(np.arange(len(stamps)), REPEATS)]
    model.predict_proba(large)
    start, used = time.perf_counter(), time.process_time()
    model.predict_proba(large)
    rate, each = len(large) / (time.perf_counter() - start), (time.process_time() - used) / len(large)
    print(f"\n{rate:.0f} stamps/s from memory, {1e3 * each:.2f} ms of one core each")
    start = time.perf_counter()
    classify_alerts(large, model)
    print(f"classify_alerts: {len(large) / (time.perf_counter() - start):.0f} stamps/s")


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", help="a saved MovingObjectClassifier; the pretrained one by default")
    parser.add_argument("--train-stamps", type=int, default=4000, help="simulated, that train the trees")
    parser.add_argument("--baseline-stamps", type=int, default=150, help="that the slow finders see")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model = (
        MovingObjectClassifier.load(options.model) if options.model else MovingObjectClassifier.pretrained()
    )
    real = load_alerts(options.folder / "alerts.parquet")
    features = measure_stamps(real)[list(FEATURES)].fillna(0).to_numpy()
    simulated = simulate_stamps(options.train_stamps, options.seed + 1000)
    is_flash = (simulated.table["kind"] == "flash").to_numpy()
    flashes, simulated = simulated[is_flash], simulated[~is_flash]
    trees = ExtraTreesClassifier(**TREES).fit(
        measure_stamps(simulated)[list(FEATURES)].fillna(0).to_numpy(), simulated.labels
    )
    print(real)
    print("trained on simulated stamps alone:")
    probabilities = {"MuyGPs (pretrained)": model.predict_proba(real), "trees": trees.predict_proba(features)}
    print_tasks(real, probabilities, options.seed)
    rest = real.labels != SATELLITE
    print_score("rule, new light away from reference sources, asteroid or not",
                real.labels[rest] == ASTEROID, rule(real)[rest], np.nan)  # fmt: skip
    print_ambiguous(model, real, simulated, flashes)
    print_lengths(model, real)
    print_nights_left_out(real, features)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of images that are missing, as they shall be here
        alone = model.predict_proba(Triplets(difference=real.difference, table=real.table))
        print_line_finders(real, alone, options.baseline_stamps, options.seed)
        print_what_is_lost(model, real)
        print_eight_bit(options.folder, model)
    print_speed(model, real)


if __name__ == "__main__":
    main()
