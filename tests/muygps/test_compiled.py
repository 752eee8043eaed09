import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from helpers import ROOT, points

import ztf_sg.muygps.classifier
import ztf_sg.muygps.neighbours
from ztf_sg import MuyGPSClassifier

pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.parametrize("n_features", [3, 8, 40])
def test_chunks_threads_and_company_change_no_bit(monkeypatch, n_features):
    X, y = points(900, n_features)
    queries = points(700, n_features, random_state=1)[0]
    classifier = MuyGPSClassifier(n_jobs=1).fit(X, y)
    whole = classifier.posterior(queries)
    alone = [classifier.posterior(query[None]) for query in queries[:40]]
    np.testing.assert_array_equal(np.hstack(alone), np.array(whole)[:, :40])
    for n_jobs in (2, 5):
        classifier.n_jobs = n_jobs
        np.testing.assert_array_equal(classifier.posterior(queries), whole)
    for rows in (slice(1, None), slice(3, 400), slice(None, None, -1)):
        np.testing.assert_array_equal(classifier.posterior(queries[rows]), np.array(whole)[:, rows])
    monkeypatch.setattr(ztf_sg.muygps.classifier, "CHUNK", (1, 17))
    monkeypatch.setattr(ztf_sg.muygps.neighbours, "MATRIX_BYTES", 1)
    np.testing.assert_array_equal(classifier.posterior(queries), whole)


def test_threads_may_predict_at_the_same_time():
    X, y = points(900, 8)
    classifier = MuyGPSClassifier().fit(X, y)
    expected, found = classifier.posterior(X), {}
    threads = [
        threading.Thread(target=lambda name=name: found.update({name: classifier.posterior(X)}))
        for name in range(4)
    ]
    for step in ("start", "join"):
        for thread in threads:
            getattr(thread, step)()
    for name in range(4):
        np.testing.assert_array_equal(found[name], expected)


@pytest.mark.parametrize("n_features", [3, 40])
def test_the_order_of_features_in_memory_does_not_matter(n_features):
    X, y = points(300, n_features)
    by_rows, by_columns = (MuyGPSClassifier().fit(arrange(X), y) for arrange in (np.array, np.asfortranarray))
    expected = by_rows.posterior(X[::2])
    for queries in (X[::2], np.asfortranarray(X[::2])):
        np.testing.assert_array_equal(by_columns.posterior(queries), expected)


def test_a_model_that_was_stored_by_columns_predicts_the_same():
    X, y = points(300, 8)
    classifier = MuyGPSClassifier().fit(X, y)
    state = {name: np.asfortranarray(array) for name, array in classifier.get_state().items()}
    again = MuyGPSClassifier().set_state(classifier.classes_, **state)
    np.testing.assert_array_equal(again.posterior(X), classifier.posterior(X))


@pytest.mark.parametrize("n_features", [8, 40])
def test_numbers_too_large_for_distances_are_refused(n_features):
    X, y = points(300, n_features)
    classifier = MuyGPSClassifier().fit(X, y)
    queries = points(100, n_features, random_state=1)[0]
    queries[5] = 1e160
    with pytest.raises(ValueError, match="overflow"):
        classifier.predict_proba(queries)


def test_too_little_noise_is_an_error():
    X, y = points(50)
    classifier = MuyGPSClassifier(nn_count=20).fit(np.vstack([X, X]), np.tile(y, 2))
    classifier.noise_ = -1e-6
    with pytest.raises(np.linalg.LinAlgError, match="noise is too small"):
        classifier.posterior(X)


@pytest.mark.exhaustive  # compiles the engine once more
def test_no_folder_for_machine_code_is_needed():
    """Have numba look in a folder of the user's choice only, where no folder was chosen."""
    environment = os.environ | {"NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator"}
    environment |= {"NUMBA_CACHE_DIR": "", "PYTHONPATH": str(ROOT)}
    code = """
import numpy as np
from ztf_sg import MuyGPSClassifier
from ztf_sg.muygps import compiled
X = np.linspace(-1, 1, 60)[:, None]
classifier = MuyGPSClassifier(10).fit(X, X[:, 0] > 0)
print(classifier.predict(X[::59]), type(compiled.posterior._cache).__name__)
"""
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert run.stdout == "[False  True] NullCache\n", run.stderr
