"""What goes wrong between an archive and its clients, each kind by name, by chance or on demand."""

import threading
import time
from collections import Counter
from email.utils import formatdate

import numpy as np

from .answers import html

FILES, CUTOUTS = ("image", "cutout"), ("cutout",)
UNANSWERED = ("refused", "reset", "timeout")
CUT_SHORT = ("reset_midway", "slow_drip", "truncated")
PAGES = ("http429", "http500", "http503", "html200")
# kind: the requests it can befall; None is all
KINDS = {
    **dict.fromkeys((*UNANSWERED, *CUT_SHORT, *PAGES)),
    "expired_session": ("search", *FILES),
    "nan_pixels": FILES,
    "corrupt_fits": FILES,
    "cutout_5": CUTOUTS,
    "cutout_19": CUTOUTS,
    "cutout_21": CUTOUTS,
    "wrong_position": CUTOUTS,
    "wrong_image": CUTOUTS,
}


class Faults:
    """Decide which request meets which fault."""

    def __init__(self, rate=0.0, kinds=tuple(KINDS), seed=0, where=None):
        unknown = set(kinds) - set(KINDS)
        if unknown:
            raise ValueError(f"unknown kinds of fault {sorted(unknown)}; known: {', '.join(KINDS)}")
        self.rate, self.kinds, self.where = rate, tuple(kinds), where
        self.counts = Counter()
        self.rng = np.random.default_rng(seed)
        self._injected = []
        self._lock = threading.Lock()

    def inject(self, kinds, times=1, where=None):
        """Let the next requests that a kind can befall, and for which `where` is true, meet it."""
        kinds = [kinds] if isinstance(kinds, str) else list(kinds)
        for kind in kinds:
            KINDS[kind]
        with self._lock:
            self._injected += [(kind, where) for kind in kinds for _ in range(times)]

    def pick(self, request, category):
        """Return the kind of fault for a request, or None; `category` is such as "search" or "cutout"."""
        with self._lock:
            for number, (kind, where) in enumerate(self._injected):
                if _befalls(kind, category) and (where is None or where(request)):
                    del self._injected[number]
                    return kind
            chance, choice = self.rng.random(2)
        kinds = [kind for kind in self.kinds if _befalls(kind, category)]
        if chance >= self.rate or not kinds or (self.where and not self.where(request)):
            return None
        return kinds[int(choice * len(kinds))]

    def coin(self, sides=2):
        with self._lock:
            return int(self.rng.integers(sides))


def _befalls(kind, category):
    return KINDS[kind] is None or category in KINDS[kind]


def http_fault(kind, coin):
    """Return the answer of a kind that is nothing but an answer."""
    if kind == "html200":
        return html(200, "Archive maintenance: services will be back soon")
    status = int(kind.removeprefix("http"))
    if status != 429:
        return html(status, "The server cannot answer now")
    wait = ("0", "1", formatdate(time.time() + 1, usegmt=True))[coin(3)]
    return html(429, "Too many requests", **{"Retry-After": wait})


def spoil_file(body, header_size, kind, coin):
    """Return a FITS file of the same length with pixels that are no numbers, or with a broken header."""
    spoilt = bytearray(body)
    if kind == "nan_pixels":
        pixels = np.frombuffer(spoilt, ">f4", offset=header_size)
        pixels[: max(len(pixels) // 3, 1)] = np.nan
    elif coin():
        spoilt[:80] = bytes(80)
    else:  # begins like a FITS file, and is none
        spoilt[80 : 5 * 80] = b"\xff" * (4 * 80)
    return bytes(spoilt)
