"""Stars, galaxies and moving objects in images of the Zwicky Transient Facility, told apart with MuyGPs.

The names below are loaded when first used, so that ``import ztf_sg`` stays light.
"""

from importlib import import_module

_HOME = {
    "CutoutSet": "cutouts",
    "load_cutouts": "cutouts",
    "load_example": "cutouts",
    "iter_parquet": "cutouts",
    "NORMALIZATIONS": "normalization",
    "Normalizer": "normalization",
    "normalize": "normalization",
    "MuyGPSClassifier": "muygps",
    "MovingObjectClassifier": "streaks",
    "PixelClassifier": "pixels",
    "StarGalaxyClassifier": "classification",
    "Triplets": "streaks",
    "link_flashes": "streaks",
    "load_alerts": "streaks",
    "find_trails": "streaks",
    "fetch_cutouts": "fetching",
    "classify_partition": "survey",
    "classify_survey": "survey",
    "classify_positions": "own_objects",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name == "__version__":
        from importlib.metadata import version

        return version(__name__)
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *__all__, "__version__"])
