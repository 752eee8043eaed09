"""Which cutouts a run of `fetch_cutouts` wants, and which of them are saved, skipped, failed or missing."""

from collections import Counter

import numpy as np

from ztf_sg.checks import is_whole_number
from ztf_sg.cutouts import OBJECT
from ztf_sg.fetching.manifest import FAILED, SAVED, SKIPPED


class Selection:
    """The cutouts of `n_cutouts` objects of each class, or of all, from the top of its list.

    Later objects make up for those of which all cutouts are skipped.

    `targets` and `objects` are the Targets by slot, and the first of each object by its name; `wanted` the
    numbers of objects by class; `named_by_image` tells whether files are named after their images, too.
    `outcomes` are "saved", "skipped" or "failed", by slot; one that is not in it is still to be fetched.
    """

    def __init__(self, classes, n_cutouts=None):
        if n_cutouts is not None and not (is_whole_number(n_cutouts) and n_cutouts >= 0):
            raise ValueError(f"n_cutouts={n_cutouts!r}: expected a whole number, 0 or more, or None for all")
        objects = [targets for objects in classes.values() for targets in objects]
        self.targets = {target.slot: target for targets in objects for target in targets}
        self.objects = {targets[0].object: targets[0] for targets in objects}
        most = np.inf if n_cutouts is None else n_cutouts
        self.wanted = {kind: min(len(objects), most) for kind, objects in classes.items()}
        self.named_by_image = OBJECT in classes or any(target.rank for target in self.targets.values())
        self.outcomes = {}
        self._slots = {
            kind: [[target.slot for target in targets] for targets in objects]
            for kind, objects in classes.items()
        }

    @property
    def n_wanted(self):
        """How many cutouts are wanted in all."""
        wanted = [objects[: self.wanted[kind]] for kind, objects in self._slots.items()]
        return sum(len(slots) for objects in wanted for slots in objects)

    def slots(self):
        """Return the slots of the wanted cutouts, and of those skipped on the way to them."""
        wanted = []
        for kind, objects in self._slots.items():
            left = self.wanted[kind]
            for slots in objects:
                if not left:
                    break
                wanted += slots
                left -= any(self.outcomes.get(slot) != SKIPPED for slot in slots)
        return wanted

    def missing(self):
        """Return the slots of the wanted cutouts that have no outcome."""
        return [slot for slot in self.slots() if slot not in self.outcomes]

    def forget_failed(self):
        """Make the wanted cutouts that failed missing again, for another try; return their slots."""
        failed = [slot for slot in self.slots() if self.outcomes.get(slot) == FAILED]
        for slot in failed:
            del self.outcomes[slot]
        return failed

    def counts(self):
        """Return the number of wanted cutouts by outcome, a `collections.Counter`."""
        return Counter(self.outcomes[slot] for slot in self.slots() if slot in self.outcomes)

    def summary(self):
        """Say in a line how far the run has come."""
        counts = [f"{self.counts()[kind]} {kind}" for kind in (SAVED, SKIPPED, FAILED)]
        return ", ".join([*counts, f"{len(self.missing())} to go"])
