"""Train the classifier that comes with the package.

Run ``python tools/train_model.py FOLDER`` to train it on a folder of labelled cutouts, the bundled ones.
"""

import sys

from ztf_sg.classification import PRETRAINED, StarGalaxyClassifier
from ztf_sg.cutouts import load_cutouts

if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python tools/train_model.py FOLDER")
    cutouts = load_cutouts(sys.argv[1])
    StarGalaxyClassifier().fit(cutouts, cutouts.labels).save(PRETRAINED)
    print(f"trained on {cutouts}; wrote {PRETRAINED.name}, {PRETRAINED.stat().st_size / 1000:.0f} kB")
