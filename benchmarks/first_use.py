"""Time the first classification in a new process: imports, the pretrained model and 40 cutouts.

    python benchmarks/first_use.py [FOLDER]

numba compiles the engine at the first use, and keeps the machine code: beside the package, or in the user's
cache if the package cannot be written (as here), or nowhere if neither can be. FOLDER holds the cutouts, by
default the bundled ones; the time to read them is not counted.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "cutouts_test"
CODE = """
import sys
from time import perf_counter
started = perf_counter()
from ztf_sg import StarGalaxyClassifier, load_cutouts
imported = perf_counter()
cutouts = load_cutouts(sys.argv[1])[:40]
read = perf_counter()
StarGalaxyClassifier.pretrained().predict_proba(cutouts)
times = imported - started, perf_counter() - read
print(f"{times[0]:12.2f}{times[1]:20.2f}{sum(times):11.2f}")
"""


def first_use(folder, **environment):
    """Print how long a new process takes, in an environment."""
    command = [sys.executable, "-c", CODE, folder]
    return subprocess.run(
        command, env=os.environ | environment, check=True, capture_output=True, text=True
    ).stdout


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else FOLDER
    print(f"{'machine code':28}{'import [s]':>12}{'classification [s]':>20}{'both [s]':>11}")
    with tempfile.TemporaryDirectory() as cache:
        user = {"HOME": cache, "XDG_CACHE_HOME": cache, "NUMBA_CACHE_LOCATOR_CLASSES": "UserWideCacheLocator"}
        nowhere = {"NUMBA_CACHE_DIR": "", "NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator"}
        for state, environment in (
            ("none yet", user),
            ("kept by the user", user),
            ("cannot be kept", nowhere),
        ):
            print(f"{state:28}{first_use(folder, **environment)}", end="", flush=True)


if __name__ == "__main__":
    main()
