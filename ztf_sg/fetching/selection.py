"""Which cutouts a run of `fetch_cutouts` wants, and which of them are saved, skipped, failed or missing."""

from collections import Counter

import numpy as np

from ztf_sg.checks import is_whole_number
from ztf_sg.cutouts import CLASS_NAMES
from ztf_sg.fetching.manifest import FAILED, SAVED, SKIPPED
from ztf_sg.positions import labels_of_types


class Selection:
    """`n_cutouts` of each class, or all, from the top of its list; later positions make up for those skipped.

    `classes` and `targets` are the positions by class and file, and by file; `wanted` the numbers by class.
    `outcomes` are "saved", "skipped" or "failed", by file; a file that is not in it is still to be fetched.
    """

    def __init__(self, classes, n_cutouts=None):
        if n_cutouts is not None and not (is_whole_number(n_cutouts) and n_cutouts >= 0):
            raise ValueError(f"n_cutouts={n_cutouts!r}: expected a whole number, 0 or more, or None for all")
        self.targets = {name: position for targets in classes.values() for name, position in targets.items()}
        most = np.inf if n_cutouts is None else n_cutouts
        self.wanted = {kind: min(len(targets), most) for kind, targets in classes.items()}
        self.outcomes = {}
        self._classes = classes

    def names(self):
        """Return the names of the wanted cutouts, and of those skipped on the way to them."""
        names = []
        for kind, targets in self._classes.items():
            left = self.wanted[kind]
            for name in targets:
                if not left:
                    break
                names.append(name)
                left -= self.outcomes.get(name) != SKIPPED
        return names

    def missing(self):
        """Return the names of the wanted cutouts that have no outcome."""
        return [name for name in self.names() if name not in self.outcomes]

    def forget_failed(self):
        """Make the wanted cutouts that failed missing again, for another try; return their names."""
        failed = [name for name in self.names() if self.outcomes.get(name) == FAILED]
        for name in failed:
            del self.outcomes[name]
        return failed

    def counts(self):
        """Return the number of wanted cutouts by outcome, a `collections.Counter`."""
        return Counter(self.outcomes[name] for name in self.names() if name in self.outcomes)

    def summary(self):
        """Say in a line how far the run has come."""
        counts = [f"{self.counts()[kind]} {kind}" for kind in (SAVED, SKIPPED, FAILED)]
        return ", ".join([*counts, f"{len(self.missing())} to go"])


def positions_by_class(tables):
    """Return the positions of tables, named tuples RA, DEC [deg], type, by class and ``CLASS_ROW.fits``."""
    classes = {}
    for table in tables:
        labels = np.unique(labels_of_types(table["type"]))
        if len(labels) != 1 or labels[0] < 0:
            types = ", ".join(sorted(set(table["type"])))
            raise ValueError(
                "a table of positions must be all stars or all galaxies; its types are: "
                f"{types or 'none, it is empty'}"
            )
        kind = CLASS_NAMES[labels[0]]
        if kind in classes:
            raise ValueError(f"two tables of {kind} positions: put them into one")
        rows = enumerate(table.itertuples(index=False))
        classes[kind] = {f"{kind}_{number}.fits": position for number, position in rows}
    return classes
