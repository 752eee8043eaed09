"""Print the accuracy of MuyGPs on raw and normalized cutouts of a folder, over five random halves."""

import argparse
from pathlib import Path

from ztf_sg import NORMALIZATIONS, StarGalaxyClassifier, load_cutouts, normalize
from ztf_sg.classification import PixelClassifier
from ztf_sg.embedding import embed
from ztf_sg.evaluation import compare_data, leave_one_night_out, matched_accuracy, random_halves

BUNDLED = Path(__file__).parents[1] / "cutouts_test"


def main():
    """Print the table, then what the photometric features reach on unseen nights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", default=BUNDLED, help="folder of labelled cutouts")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    cutouts = load_cutouts(options.folder)
    data = {name: normalize(cutouts.images, name).reshape(len(cutouts), -1) for name in NORMALIZATIONS}
    classifiers = dict.fromkeys(data, PixelClassifier()) | {"photometric features": StarGalaxyClassifier()}
    data["photometric features"] = cutouts
    table = compare_data(data, cutouts.labels, classifiers, random_halves(cutouts.labels, options.repeats))
    print(f"{cutouts}\naccuracy, mean and standard deviation over {options.repeats} random halves:")
    print(table.to_string(index=False, float_format="%.4f"))
    probability = leave_one_night_out(
        StarGalaxyClassifier(), cutouts, cutouts.labels, cutouts.table["obsmjd"]
    )
    predicted = (probability > 0.5).astype(int)
    matched = matched_accuracy(cutouts.labels, predicted, embed(cutouts)["magnitude"])
    accuracy = (predicted == cutouts.labels).mean()
    print(f"photometric features, leaving one night out: {accuracy:.4f}, magnitude-matched {matched:.4f}")


if __name__ == "__main__":
    main()
