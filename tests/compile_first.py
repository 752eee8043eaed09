"""Has numba compile what many tests need, so that no two processes of the tests do so at the same time.

python tests/compile_first.py cutouts|stamps
"""

import sys
import warnings


def compile_for_cutouts():
    """Compile the features of cutouts, and MuyGPs."""
    from ztf_sg import MuyGPSClassifier, StarGalaxyClassifier, load_example
    from ztf_sg.features import measure_features

    cutouts = load_example()
    features = measure_features(cutouts).to_numpy(float)
    MuyGPSClassifier(10).fit(features, cutouts.labels).posterior(features)
    StarGalaxyClassifier.pretrained().predict_proba(cutouts)


def compile_for_stamps():
    """Compile the features of stamps, and the search for trails."""
    from ztf_sg import MovingObjectClassifier, find_trails
    from ztf_sg.simulation.stamps import simulate_stamps
    from ztf_sg.simulation.trails import simulate_field

    stamps = simulate_stamps(16, seed=0, n_jobs=1)
    MovingObjectClassifier.pretrained().measure(stamps)
    find_trails(*simulate_field(0, (256, 256)))


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # of the few objects
    {"cutouts": compile_for_cutouts, "stamps": compile_for_stamps}[sys.argv[1]]()
