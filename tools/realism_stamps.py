"""Measure how well simulated stamps of alerts can be told from real ones, class by class.

python tools/realism_stamps.py [REAL] [--per-class 600] [--splits 5] [--figure FILE]

Real stamps are halved at random into A and B by their nights. Gradient boosting tells simulated stamps from B
and, as the floor, A from B, with samples of one size and whole exposures left out; see two_sample.py.
Conditions differ from night to night: real nights can be told from one another, too. No measure is in counts,
which would tell exposures only. Where one night holds nearly all of a class, stamps are halved at random, the
floor is a coin, and simulated stamps are those nearest to real ones in seeing, depth and brightness.

REAL is a folder with `alerts.parquet`; it defaults to what the environment variable ZTF_SG_REAL_ALERTS names.
The figure shows simulated stamps beside real ones; real ones are not to be committed.
"""

import argparse
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from realism import half_of_nights
from scipy.ndimage import gaussian_filter, label
from scipy.spatial import cKDTree
from two_sample import compare, summary, telling_features

from ztf_sg import Triplets
from ztf_sg.simulation.stamps import simulate_stamps
from ztf_sg.streaks.stamps import IMAGES

CLASSES = {  # real label: simulated kinds
    "star": ["variable"],
    "asteroid": ["asteroid"],
    "galaxy": ["nucleus", "supernova"],
    "satellite": ["train"],
}
FEWEST = 15  # stamps of a class outside its largest night
NEAREST = 2  # simulated stamps for each real one, where conditions are matched
RADII = (1.5, 2.5, 4.0, 6.0)  # of apertures [px]
ANGLES = np.arange(0, 180, 10)  # of lines through the centre [deg]
COLUMNS = 6  # of the figure, for each of real and simulated stamps


def main():
    """Print the AUCs of each class and the measures that differ most; draw the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("real", nargs="?", default=os.environ.get("ZTF_SG_REAL_ALERTS"))
    parser.add_argument("--per-class", type=int, default=1500)
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--figure")
    options = parser.parse_args()
    if not options.real:
        parser.error("name a folder of real alerts, or set ZTF_SG_REAL_ALERTS")
    real = read_real(options.real)
    simulated = {
        name: complete(simulate_stamps(options.per_class, [7, number], kinds))
        for number, (name, kinds) in enumerate(CLASSES.items())
    }
    found = [compare_class(name, real, stamps, options.splits) for name, stamps in simulated.items()]
    print("\nAUC, 0.5 is a coin; mean and standard error over the splits; the floor is A from B")
    print("\n".join(found))
    if options.figure:
        draw(real, simulated, options.figure)


def read_real(folder):
    """Return the real stamps of a folder as Triplets; the column `label` is that of their class."""
    table = pd.read_parquet(Path(folder) / "alerts.parquet")
    side = int(np.sqrt(len(table["science"].iloc[0])))
    images = {name: np.stack(table.pop(name).to_numpy()).reshape(-1, side, side) for name in IMAGES}
    return Triplets(**images, table=table)


def complete(stamps):
    """Return the stamps of which no image is missing."""
    return stamps[np.all([np.isfinite(getattr(stamps, name)).any(axis=(1, 2)) for name in IMAGES], axis=0)]


def compare_class(name, real, simulated, splits):
    """Print what tells simulated from real stamps of a class; return its line of AUCs."""
    real = real[(real.table["label"] == name).to_numpy()]
    if real.table["jd"].nunique() == 1:
        return f"{name:10s} one exposure: no AUC"
    described = describe_stamps(real).assign(image=real.table["jd"].to_numpy())
    ours = describe_stamps(simulated).assign(image=simulated.table["night"].to_numpy())
    groups, how = real.table["night"].to_numpy(), "nights"
    if np.sort(pd.Series(groups).value_counts())[:-1].sum() < FEWEST:
        groups, how = np.arange(len(real)), "stamps"
        described["image"] = groups
        ours = ours.iloc[alike(simulated, ours, real, described)]
    print(f"\n{name}: what tells simulated from real")
    print(telling_features(ours, described, count=14))
    scores = []
    for split in range(splits):
        in_a = half_of_nights(groups, np.random.default_rng(split))
        scores.append(compare(ours, described[in_a], described[~in_a]))
    return f"{summary(name, pd.DataFrame(scores))} (halves by {how})"


def alike(simulated, ours, real, described):
    """Return the simulated stamps nearest to real ones in seeing, depth of the reference and brightness."""
    names = ["template_noise", "difference_light_4.0"]
    spaces = [
        np.column_stack([measures[names], stamps.table["fwhm"] * stamps.table["seeratio"]])
        for stamps, measures in ((simulated, ours), (real, described))
    ]
    scale = spaces[1].std(axis=0)
    return np.unique(cKDTree(spaces[0] / scale).query(spaces[1] / scale, k=NEAREST)[1])


def describe_stamps(stamps):
    """Return measures of stamps that do not depend on counts, a table (n, ...)."""
    sky, noise = {}, {}
    for name in IMAGES:
        images = getattr(stamps, name)
        sky[name] = np.nanmedian(images, axis=(1, 2))[:, None, None]
        noise[name] = 1.4826 * np.nanmedian(np.abs(images - sky[name]), axis=(1, 2))[:, None, None]
    sigmas = {
        name: np.nan_to_num((getattr(stamps, name) - sky[name]) / noise[name]).astype(float) for name in sky
    }
    measures = {
        "template_noise": np.log10(noise["template"] / noise["science"]).ravel(),
        "difference_noise": np.log10(noise["difference"] / noise["science"]).ravel(),
        "no_data": np.isnan(stamps.difference).mean(axis=(1, 2)),
    }
    for name, pixels in sigmas.items():
        measures |= {f"{name}_{key}": values for key, values in describe_image(pixels).items()}
    # in the noise of the difference, all sources are on one scale
    scale = (noise["template"] / noise["science"]).ravel()
    measures["template_to_change"] = np.arcsinh(
        scale * aperture(sigmas["template"], 2.5) / np.maximum(abs(aperture(sigmas["difference"], 2.5)), 5)
    )
    return pd.DataFrame(measures).fillna(0.0)


def describe_image(pixels):
    """Return measures of images in units of their noise, as a dict of arrays (n,)."""
    clipped = np.clip(pixels, -3, 3)
    side = pixels.shape[1]
    outside = radius(side) > 8
    lines = line_means(clipped, side)
    light = {r: aperture(pixels, r) for r in RADII}
    measures = {f"light_{r}": np.arcsinh(values) for r, values in light.items()}
    total = np.where(abs(light[4.0]) > 10, light[4.0], 10)
    measures |= {f"growth_{r}": np.clip(light[r] / total, -2, 3) for r in (1.5, 2.5, 6.0)}
    near = np.where(radius(side) < 4, pixels, 0)
    measures["peak"] = np.clip(near.max(axis=(1, 2)) / total, 0, 1)
    measures["hole"] = np.arcsinh(near.min(axis=(1, 2)))
    measures["elongation"] = elongation(near)
    measures["brightest"] = np.arcsinh(np.where(outside, pixels, 0).max(axis=(1, 2)))
    measures["faintest"] = np.arcsinh(np.where(outside, pixels, 0).min(axis=(1, 2)))
    measures["covered"] = (gaussian_filter(pixels, (0, 0.8, 0.8)) > 2).mean(axis=(1, 2))
    measures["sources"] = [label(gaussian_filter(image, 0.8) > 3)[1] for image in pixels]
    measures |= {
        f"correlation_{axis}{step}": correlation(clipped, step, axis) for axis in "xy" for step in (1, 2, 3)
    }
    measures["line"], measures["line_contrast"] = (
        lines.max(axis=1),
        lines.max(axis=1) - np.median(lines, axis=1),
    )
    return measures


def radius(side):
    """Return the distances from the central pixel [px], (side, side)."""
    y, x = np.indices((side, side)) - side // 2
    return np.hypot(x, y)


def aperture(pixels, size):
    """Return the sums of pixels within a radius [px] of the centre, (n,)."""
    return pixels[:, radius(pixels.shape[1]) < size].sum(axis=1)


def elongation(near):
    """Return the ratio of the second moments along the axes of what is bright, (n,)."""
    y, x = np.indices(near.shape[1:]) - near.shape[1] // 2
    weight = np.maximum(near - 2, 0)
    total = np.maximum(weight.sum(axis=(1, 2)), 1)
    xx, yy, xy = ((weight * product).sum(axis=(1, 2)) / total for product in (x * x, y * y, x * y))
    return np.clip(np.hypot(xx - yy, 2 * xy) / np.maximum(xx + yy, 0.1), 0, 1)


def correlation(clipped, step, axis):
    """Return the correlation of pixels with those some steps away along an axis, (n,)."""
    turned = clipped if axis == "x" else clipped.swapaxes(1, 2)
    return (turned[:, :, step:] * turned[:, :, :-step]).mean(axis=(1, 2)) / (clipped**2).mean(axis=(1, 2))


def line_means(clipped, side):
    """Return the means of pixels along lines through the centre, without the centre, (n, angles)."""
    y, x = np.indices((side, side)) - side // 2
    directions = np.radians(ANGLES)[:, None, None]
    near = abs(y * np.cos(directions) - x * np.sin(directions)) < 1
    weights = (near & (radius(side) > 8)).reshape(len(ANGLES), -1).astype(float)
    return clipped.reshape(len(clipped), -1) @ (weights / weights.sum(axis=1, keepdims=True)).T


def draw(real, simulated, path):
    """Draw real stamps (left) and simulated ones (right) of each class to a file."""
    figure, axes = plt.subplots(3 * len(simulated), 2 * COLUMNS, figsize=(14, 3.4 * len(simulated)))
    rng = np.random.default_rng(0)
    for block, (name, stamps) in enumerate(simulated.items()):
        ours = real[(real.table["label"] == name).to_numpy()]
        for half, source in enumerate((ours, stamps)):
            for column, row in enumerate(rng.permutation(len(source))[:COLUMNS]):
                for image, kind in enumerate(IMAGES):
                    axis = axes[3 * block + image, half * COLUMNS + column]
                    show(axis, getattr(source, kind)[row])
            axes[3 * block, half * COLUMNS].set_title(f"{('real', 'simulated')[half]} {name}", loc="left")
    figure.tight_layout(pad=0.2)
    figure.savefig(path, dpi=70)


def show(axis, image):
    """Show an image from 4 sigma below its median to 8 above; pixels without data are blue."""
    sky = np.nanmedian(image)
    noise = 1.4826 * np.nanmedian(np.abs(image - sky))
    colours = plt.get_cmap("gray").with_extremes(bad="blue")
    axis.imshow(image, origin="lower", vmin=sky - 4 * noise, vmax=sky + 8 * noise, cmap=colours)
    axis.axis("off")


if __name__ == "__main__":
    main()
