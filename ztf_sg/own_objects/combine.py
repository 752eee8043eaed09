"""Placeholder."""

import numpy as np
import pandas as pd
from scipy.special import expit, logit


def combine(images, galaxy_fraction=0.5, threshold=0.5):
    """Return one row per object."""
    groups = images.groupby("object")
    total = groups["log_ratio"].mean()
    p = expit(total + logit(galaxy_fraction))
    filters = groups["filter"].agg(lambda f: "".join(b for b in "gri" if b in set("".join(f))))
    undecided = np.maximum(expit(total), 1 - expit(total)) <= threshold
    table = {"p_galaxy": p, "class": (p > 0.5).astype(int), "ambiguous": undecided}
    table |= {"n_images": groups.size(), "filters": filters, "chi2": 0.0, "p_chi2": 1.0}
    return pd.DataFrame(table | {"contradictory": False})
