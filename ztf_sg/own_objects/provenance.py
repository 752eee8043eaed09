"""What classes were made with: package, model, and the assumptions about the objects."""

from importlib.metadata import version

import numpy as np

from ztf_sg.classification import PRETRAINED, PRETRAINED_ANY_DEPTH
from ztf_sg.survey.partition import load_model


def provenance(model, galaxy_fraction, max_error):
    """Return what classes are made with, a dict of plain values.

    Parameters
    ----------
    model : StarGalaxyClassifier
        Without a prior of its own.
    galaxy_fraction : float or pandas.Series
    max_error : float
    """
    digest = model.fingerprint()
    ready = [load_model(path, None).fingerprint() for path in (PRETRAINED, PRETRAINED_ANY_DEPTH)]
    return {
        "package": f"ztf_sg {version('ztf_sg')}",
        "model": "pretrained" if digest in ready else "of one's own",
        "model_sha256": digest,
        "galaxy_fraction": galaxy_fraction if np.isscalar(galaxy_fraction) else "one per object",
        "max_error": float(max_error),
    }
