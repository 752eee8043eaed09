"""The CDS X-Match service with one catalogue, a Gaia DR3 made from the mock sky."""

from functools import cached_property

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from .answers import text, votable, votable_error

GAIA = "vizier:I/355/gaiadr3"
COLUMNS = {"Source": "i8", "RAdeg": "f8", "DEdeg": "f8"} | dict.fromkeys(
    ("Plx", "e_Plx", "pmRA", "pmDE", "e_pmRA", "e_pmDE", "Gmag"), "f8"
)
TABLES = ("I/355/gaiadr3", "II/246/out", "II/349/ps1")
FAINTEST_STAR = 21  # [mag]
GALAXIES_SEEN, GALAXIES_MOVING = 0.03, 0.005  # shares of galaxies with a source: at rest, seeming to move
TWO_PARAMETER_SHARE = 0.02  # of sources with a position and nothing else
MOTION = 4.0  # of stars, in each coordinate [mas/yr]
ID = 'ID="QUERY_STATUS" '


class XMatch:
    def __init__(self, sky):
        self.sky = sky

    @cached_property
    def gaia(self):
        return make_gaia(self.sky.catalogue, self.sky.seed)

    @cached_property
    def _tree(self):
        return cKDTree(_unit_vectors(self.gaia["RAdeg"], self.gaia["DEdeg"]))

    def tables(self, request):
        return text("\n".join(TABLES))

    def match(self, request):
        form = request.form
        try:
            if form.get("cat2") != GAIA:
                raise ValueError(f"unknown catalogue {form.get('cat2')}; this server has {GAIA}")
            radius = float(form["distMaxArcsec"])
            if not 0 < radius <= 180:
                raise ValueError("distMaxArcsec must be within 0..180")
            upload = _read_upload(request)
            ra, dec = (upload[form[name]].to_numpy(float) for name in ("colRA1", "colDec1"))
        except (ValueError, KeyError) as error:
            return votable_error(400, f"X-Match: {error}", ID)
        return self._answer(upload, _unit_vectors(ra, dec), radius)

    def _answer(self, upload, places, radius):
        chord = 2 * np.sin(np.radians(radius / 3600) / 2)
        found = self._tree.query_ball_point(places, chord) if len(places) else []
        gaia = self.gaia
        rows = []
        uploaded = list(upload.astype(object).itertuples(index=False, name=None))
        sources = list(gaia.astype(object).itertuples(index=False, name=None))
        for number, matches in enumerate(found):
            for match in matches:
                half = np.linalg.norm(self._tree.data[match] - places[number]) / 2
                distance = round(float(np.degrees(2 * np.arcsin(half))) * 3600, 6)
                rows.append([_null(v) for v in (distance, *uploaded[number], *sources[match])])
        types = {name: {"i": "i8", "f": "f8"}.get(kind.kind, "char") for name, kind in upload.dtypes.items()}
        return votable(rows, {"angDist": "f8"} | types | COLUMNS)


def _null(value):
    return None if isinstance(value, float) and np.isnan(value) else value


def _unit_vectors(ra, dec):
    ra, dec = np.radians(np.asarray(ra)), np.radians(np.asarray(dec))
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def make_gaia(catalogue, seed):
    """Return Gaia's view of a catalogue: the brighter stars, which move, and a few galaxies."""
    rng = np.random.default_rng([seed, 3])
    with np.errstate(divide="ignore", invalid="ignore"):
        magnitude = 22.5 - 2.5 * np.log10(catalogue["FLUX_R"].to_numpy(float))
    chance = rng.random(len(catalogue))
    star = catalogue["TYPE"].to_numpy() == "PSF"
    seen = np.where(star, magnitude < FAINTEST_STAR, chance < GALAXIES_SEEN + GALAXIES_MOVING)
    seen &= np.isfinite(magnitude) & (catalogue["TYPE"].to_numpy() != "DUP")
    source, star, magnitude = catalogue[seen], star[seen], magnitude[seen]
    moving = ~star & (chance[seen] < GALAXIES_MOVING)
    n = len(source)
    error = 0.02 * 10 ** (0.21 * np.maximum(magnitude - 14, 0))
    scatter = np.clip(rng.normal(0, 0.4, (3, n)), -0.7, 0.7) * error  # a galaxy stays within its error
    scatter[:, star] = rng.normal(0, 1, (3, star.sum())) * error[star]
    motion = rng.normal(0, MOTION, (2, n)) * star
    angle = rng.uniform(0, 2 * np.pi, n)
    motion += np.where(moving, 10 * error, 0) * np.stack([np.cos(angle), np.sin(angle)])
    parallax = rng.lognormal(np.log(0.5), 0.6, n) * star
    astrometry = np.stack([parallax, error, *motion, error, error], axis=1)
    astrometry[:, [0, 2, 3]] += scatter.T
    astrometry[star & (rng.random(n) < TWO_PARAMETER_SHARE)] = np.nan
    offset = rng.normal(0, np.where(star, 0.02, 0.1), (2, n)) / 3600
    dec = source["DEC"].to_numpy() + offset[1]
    ra = source["RA"].to_numpy() + offset[0] / np.cos(np.radians(dec))
    # more digits than a float can hold
    identity = 2_500_000_000_000_000_001 + 137_438_953_473 * np.flatnonzero(seen)
    values = [identity, ra, dec, *np.round(astrometry, 4).T, np.round(magnitude, 4)]
    return pd.DataFrame(dict(zip(COLUMNS, values, strict=True)))


def _read_upload(request):
    with request.files["cat1"].stream as file:
        return pd.read_csv(file)
