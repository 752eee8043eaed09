"""Stamps of alerts: a science, a template and a difference image of each detection."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ztf_sg.checks import image_stack

CLASS_NAMES = ("other", "asteroid", "satellite")
UNKNOWN = -1
IMAGES = ("science", "template", "difference")
SKIPPED_COLUMNS = ("name", "reason")
BRIGHTER = {
    **dict.fromkeys(("t", "true", "1", "1.0"), "t"),
    **dict.fromkeys(("f", "false", "0", "0.0", "-1", "-1.0"), "f"),
}
"""What isdiffpos says, as brokers write it: "t" where the science image is the brighter one, else "f"."""
SMALLEST = 3  # height and width of a stamp [px]


@dataclass(frozen=True, eq=False)
class Triplets:
    """Stamps of n detections: science, template and difference image, with labels and metadata.

    Sets are equal only to themselves. scikit-learn takes them as it takes arrays of n samples.

    Parameters
    ----------
    science, template, difference : array-like, optional
        Pixels in detector counts [DN], kept as float32, shape (n, height, width); NaN where there is no data.
        At least one is needed; the others are NaN if left out.
    labels : array-like, optional
        0 other (a star, a galaxy, an artifact, a comet), 1 asteroid, 2 satellite, -1 unknown; kept as int8,
        shape (n,). All -1 by default.
    table : pandas.DataFrame, optional
        n rows of what is known of the detections, such as name, jd [d], fid (1 g, 2 r, 3 i), ra, dec [deg],
        fwhm [px], magpsf, magzpsci [mag] and night. No column is needed.
    skipped : pandas.DataFrame, optional
        Alerts that could not be read: columns name and reason.

    Raises
    ------
    TypeError
        If table is no DataFrame.
    ValueError
        If all images are left out, they are no stacks of one shape, numbers of rows differ, a pixel is
        infinite, or a label is none of 0, 1, 2 and -1.
    """

    science: np.ndarray = None
    template: np.ndarray = None
    difference: np.ndarray = None
    labels: np.ndarray = None
    table: pd.DataFrame = None
    skipped: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=SKIPPED_COLUMNS))

    def __post_init__(self):
        given = {name: getattr(self, name) for name in IMAGES}
        given = {name: _stack(name, images) for name, images in given.items() if images is not None}
        if not given:
            raise ValueError(f"expected at least one of the images {', '.join(IMAGES)}")
        shapes = {name: images.shape for name, images in given.items()}
        if len(set(shapes.values())) > 1:
            raise ValueError(f"images must have one shape, got {shapes}")
        shape = next(iter(shapes.values()))
        for name in IMAGES:
            images = given[name] if name in given else np.full(shape, np.nan, dtype=np.float32)
            object.__setattr__(self, name, images)
        object.__setattr__(self, "labels", _labels(self.labels, shape[0]))
        object.__setattr__(self, "table", _table(self.table, shape[0]))

    @property
    def shape(self):
        """Shape as scikit-learn looks for it: (n,)."""
        return (len(self),)

    def __len__(self):
        return len(self.difference)

    def __getitem__(self, index):
        """Return the Triplets of the rows that a mask, slice, integer or index array picks."""
        rows = np.atleast_1d(np.arange(len(self))[index])
        if rows.ndim != 1:
            raise IndexError(f"expected an index with one axis, as of {len(self)} rows, got {rows.ndim} axes")
        table = self.table.iloc[rows].reset_index(drop=True)
        images = {name: getattr(self, name)[rows] for name in IMAGES}
        return Triplets(**images, labels=self.labels[rows], table=table)

    def __array__(self, dtype=None, copy=None):
        """Refuse to become an array: it would not be clear of what."""
        raise TypeError("Triplets are no array; pass their .science, .template, .difference or .labels")

    def __repr__(self):
        counts = [f"{np.sum(self.labels == label)} {name}" for label, name in enumerate(CLASS_NAMES)]
        height, width = self.difference.shape[1:]
        unknown = np.sum(self.labels == UNKNOWN)
        return f"Triplets({', '.join(counts)}, {unknown} unknown; {height} x {width} px)"


def _stack(name, images):
    """Return images as float32 (n, height, width); raise a ValueError that names them if they are none."""
    try:
        with np.errstate(over="ignore"):
            images = image_stack(images).astype(np.float32, copy=False)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    if images.ndim != 3 or min(images.shape[1:]) < SMALLEST:
        raise ValueError(f"{name}: expected shape (n, height, width) from {SMALLEST} px, got {images.shape}")
    infinite = np.flatnonzero(np.isinf(images).any(axis=(1, 2)))
    if len(infinite):
        raise ValueError(
            f"{name}: {len(infinite)} of {len(images)} stamps have infinite pixels, the first in row "
            f"{infinite[0]}; give NaN where there is no data"
        )
    return images


def _labels(labels, n):
    """Return labels as int8 (n,), -1 by default; raise a ValueError unless they are n known ones."""
    labels = np.full(n, UNKNOWN) if labels is None else np.asarray(labels)
    if labels.shape != (n,):
        raise ValueError(f"labels: expected shape ({n},), as there are {n} stamps, got {labels.shape}")
    known = (UNKNOWN, *range(len(CLASS_NAMES)))
    others = set(labels.tolist()) - set(known)
    if others or np.ma.is_masked(labels):
        raise ValueError(f"labels: expected 0 (other), 1 (asteroid), 2 (satellite) or -1, got {others}")
    return labels.astype(np.int8)


def _table(table, n):
    """Return the metadata of n stamps, without columns by default; raise an error if it is no such table."""
    table = pd.DataFrame(index=range(n)) if table is None else table
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"table: expected a pandas.DataFrame, got {type(table).__name__}")
    if len(table) != n:
        raise ValueError(f"table: expected {n} rows, as there are {n} stamps, got {len(table)}")
    return table.reset_index(drop=True)
