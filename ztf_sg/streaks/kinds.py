"""The kinds of stamps that are told: the classes, of which asteroids may be points and streaks."""

import numpy as np

from ztf_sg.checks import check_unmasked
from ztf_sg.streaks.stamps import CLASS_NAMES

KINDS = (*CLASS_NAMES, "streak")  # streaks are asteroids
CLASS_OF = (0, 1, 2, 1)  # of the kinds
ASTEROID, STREAK = KINDS.index("asteroid"), KINDS.index("streak")
TRAINED_ON = {
    "all": "two of the three images",
    "difference": "a difference image",
    "science": "a science image",
}  # what stamps have that train the model for a set of images


def by_class(kinds):
    """Return probabilities of the classes, (n, 3), from those of the kinds."""
    classes = np.array(CLASS_OF[: kinds.shape[1]])
    return np.stack([kinds[:, classes == label].sum(axis=1) for label in range(len(CLASS_NAMES))], axis=1)


def checked_labels(labels, n):
    """Return n labels as integers; raise a ValueError unless they are 0, 1 and 2, each at least once."""
    check_unmasked(labels=labels)
    labels = np.asarray(labels)
    if labels.shape != (n,):
        raise ValueError(f"labels: expected shape ({n},), one per stamp, got {labels.shape}")
    others = set(labels.tolist()) - set(range(len(CLASS_NAMES)))
    if others:
        raise ValueError(
            f"labels must be 0 (other), 1 (asteroid) or 2 (satellite), got {sorted(map(str, others))[:5]}; "
            "triplets[triplets.labels >= 0] leaves out unknown ones"
        )
    missing = [name for label, name in enumerate(CLASS_NAMES) if label not in labels]
    if missing:
        raise ValueError(f"labels: there is no stamp of class {', '.join(missing)}; add some")
    return labels.astype(int)


def check_kinds(kinds, n_kinds, images):
    """Raise a ValueError unless each kind is among those that train the model for a set of images."""
    missing = [name for kind, name in enumerate(KINDS[:n_kinds]) if kind not in kinds]
    if missing:
        raise ValueError(
            f"triplets: no {', '.join(missing)} has {TRAINED_ON[images]} with pixels "
            "enough, to train the model for it; add stamps with all three images"
        )


def with_streaks(labels, is_streak):
    """Return the kinds of n stamps; raise a ValueError unless some asteroids are streaks, others not."""
    check_unmasked(is_streak=is_streak)
    is_streak = np.asarray(is_streak)
    if is_streak.shape != labels.shape or is_streak.dtype != bool:
        raise ValueError(
            f"is_streak: expected {len(labels)} of True and False, one per stamp, "
            f"got shape {is_streak.shape} of {is_streak.dtype}"
        )
    asteroid = labels == ASTEROID
    if len(np.unique(is_streak[asteroid])) < 2:
        raise ValueError(
            f"is_streak: is {is_streak[asteroid][0]} of all asteroids; add others, or leave it out"
        )
    return np.where(asteroid & is_streak, STREAK, labels)
