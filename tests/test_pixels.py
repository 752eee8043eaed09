import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import train_test_split

from ztf_sg import MuyGPSClassifier, PixelClassifier, normalize
from ztf_sg.cutouts import BUNDLED_CUTOUTS, list_cutouts, load_files
from ztf_sg.pixels import orientations


def noise_images(n, side=8, random_state=0):
    return np.random.default_rng(random_state).normal(size=(n, side, side))


def symmetric_images(n, side=8, random_state=0):
    """Return distinct images that look nearly the same in all orientations."""
    images = noise_images(n, side, random_state)
    turned = [np.rot90(image, turns, (1, 2)) for image in (images, images[:, ::-1]) for turns in range(4)]
    return np.mean(turned, axis=0) + 0.01 * noise_images(n, side, random_state + 1)


def striped(n, random_state=0):
    """Return images of two classes, broad and narrow bars in any orientation, and the classes."""
    rng = np.random.default_rng(random_state)
    images, y = 0.3 * rng.normal(size=(n, 8, 8)), np.arange(n) % 2
    for image, broad in zip(images, y, strict=True):
        image[:, 3:5] += 2 - broad
        image[:, 2:6] += broad
    images[::3] = np.rot90(images[::3], 1, (1, 2))
    return images.reshape(n, -1), y


@pytest.mark.parametrize("masked", ["X", "y"])
def test_masked_pixels_and_labels_are_refused(masked):
    X, y = striped(30)
    good = PixelClassifier(nn_count=10).fit(np.ma.masked_array(X), y)
    arguments = {"X": X, "y": y}
    arguments[masked] = np.ma.masked_equal(arguments[masked], arguments[masked].flat[7])
    with pytest.raises(ValueError, match=f"{masked}: .* masked"):
        PixelClassifier(nn_count=10).fit(**arguments)
    with pytest.raises(ValueError, match="X: 1 values are masked"):
        good.predict(np.ma.masked_equal(X, X[0, 0]))


def test_orientations_are_the_eight_of_a_square():
    images = noise_images(3, side=5)
    turned = orientations(images.reshape(3, -1)).reshape(8, 3, 5, 5)
    np.testing.assert_array_equal(turned[0], images)
    for number, image in enumerate(images):
        expected = {
            side[::rows, ::columns].tobytes()
            for side in (image, image.T)
            for rows in (1, -1)
            for columns in (1, -1)
        }
        found = {np.ascontiguousarray(copy).tobytes() for copy in turned[:, number]}
        assert len(found) == 8
        assert found == expected


def test_an_oblong_keeps_its_shape_in_half_a_turn_only():
    images = np.random.default_rng(0).normal(size=(3, 20, 21))
    turned = orientations(images.reshape(3, -1)).reshape(2, 3, 20, 21)
    np.testing.assert_array_equal(turned, [images, np.rot90(images, 2, (1, 2))])


def test_pixels_of_oblongs_tell_bars_of_two_widths():
    X, y = striped(200)
    oblongs = np.pad(X.reshape(-1, 8, 8), ((0, 0), (0, 0), (0, 1))).reshape(200, -1)
    classifier = PixelClassifier().fit(oblongs[:100], y[:100])
    assert classifier.score(oblongs[100:], y[100:]) > 0.9


def test_pixels_tell_bars_of_two_widths_in_orientations_never_seen():
    X, y = striped(160)
    upright = X[np.arange(160) % 3 > 0], y[np.arange(160) % 3 > 0]
    classifier = PixelClassifier().fit(*upright)
    assert classifier.score(X[::3], y[::3]) > 0.95


def test_pixels_predict_the_same_in_every_orientation():
    X, y = striped(120)
    classifier = PixelClassifier().fit(X, y)
    queries = striped(10, random_state=1)[0]
    probabilities = classifier.predict_proba(orientations(queries)).reshape(8, 10, 2)
    np.testing.assert_allclose(probabilities, np.tile(probabilities[0], (8, 1, 1)), atol=0.02)


@pytest.mark.parametrize("random_state", range(3))
def test_training_leaves_all_turned_copies_of_an_object_out(random_state):
    X = symmetric_images(100).reshape(100, -1)
    y = np.random.default_rng(random_state).permutation(np.repeat([0, 1], 50))
    fresh = symmetric_images(200, random_state=7).reshape(200, -1)
    model = PixelClassifier().fit(X, y)
    components = model.pipeline_[0].transform
    fooled = MuyGPSClassifier(batch_count=300).fit(components(orientations(X)), np.tile(y, 8))
    confidence, fooled_confidence = (
        np.abs(probabilities[:, 1] - 0.5).mean()
        for probabilities in (model.predict_proba(fresh), fooled.predict_proba(components(fresh)))
    )
    assert confidence < 0.15  # the labels are random: nothing can be learned
    assert fooled_confidence > 0.25


def test_groups_of_one_are_the_same_as_none():
    X, y = striped(100)
    alone, none = (
        MuyGPSClassifier(nn_count=10).fit(X, y, groups=groups) for groups in (np.arange(100) % 100, None)
    )
    np.testing.assert_array_equal(alone.predict_proba(X), none.predict_proba(X))


def test_groups_may_be_named():
    X, y = striped(100)
    numbers = np.repeat(np.arange(50), 2)
    numbered, named = (
        MuyGPSClassifier(nn_count=10).fit(X, y, groups=groups)
        for groups in (numbers, [f"object {i:02}" for i in numbers])
    )
    np.testing.assert_array_equal(named.predict_proba(X), numbered.predict_proba(X))


@pytest.mark.parametrize("n", [3, 99, 101])
def test_groups_must_be_one_a_point(n):
    with pytest.raises(ValueError, match="inconsistent|groups"):
        MuyGPSClassifier().fit(*striped(100), groups=np.arange(n))


def test_one_object_alone_cannot_be_left_out():
    with pytest.raises(ValueError, match="groups"):
        MuyGPSClassifier().fit(*striped(100), groups=np.zeros(100))


def test_fewer_cutouts_than_components_are_enough():
    X, y = striped(10)
    classifier = PixelClassifier(n_components=20).fit(X, y)
    assert classifier.pipeline_[0].n_components_ == 10
    assert classifier.predict_proba(X).shape == (10, 2)
    assert np.isfinite(classifier.predict_proba(X)).all()


def test_fewer_pixels_than_components_are_enough():
    X, y = striped(60)
    corner = X.reshape(-1, 8, 8)[:, 3:5, 3:5].reshape(60, -1)
    assert PixelClassifier(n_components=20, nn_count=10).fit(corner, y).pipeline_[0].n_components_ == 4


def test_components_are_those_of_all_orientations():
    X, y = striped(30)
    classifier = PixelClassifier(n_components=5, nn_count=10).fit(X, y)
    expected = PCA(5, random_state=0).fit(orientations(X))
    np.testing.assert_allclose(classifier.pipeline_[0].components_, expected.components_)


def test_prediction_wants_the_pixels_of_training():
    classifier = PixelClassifier(nn_count=10).fit(*striped(30))
    for method in (classifier.predict, classifier.predict_proba):
        with pytest.raises(ValueError, match="49 features.*expecting 64"):
            method(np.zeros((5, 49)))


def test_pixel_probabilities_sum_to_one_and_agree_with_the_prediction():
    X, y = striped(40)
    names = np.array(["star", "galaxy"])[y]
    classifier = PixelClassifier(nn_count=10).fit(X, names)
    queries = striped(50, random_state=2)[0]
    probabilities = classifier.predict_proba(queries)
    assert classifier.classes_.tolist() == ["galaxy", "star"]
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_array_equal(
        classifier.predict(queries), classifier.classes_[probabilities.argmax(axis=1)]
    )


def test_an_untrained_pixel_classifier_says_so():
    for method in ("predict", "predict_proba"):
        with pytest.raises(NotFittedError):
            getattr(PixelClassifier(), method)(np.zeros((2, 64)))


def test_pixel_classifiers_repeat_themselves_and_pickle():
    X, y = striped(30)
    first, again = (PixelClassifier(nn_count=10, random_state=1).fit(X, y) for _ in range(2))
    pickled = pickle.loads(pickle.dumps(first))
    for other in (again, pickled):
        np.testing.assert_array_equal(other.predict_proba(X), first.predict_proba(X))
    assert clone(first).get_params() == first.get_params()


def test_normalized_pixels_of_the_bundle_separate():
    some = load_files(list_cutouts(BUNDLED_CUTOUTS)[::5])
    X = normalize(some.images, "minmax").reshape(len(some), -1)
    train, test = train_test_split(np.arange(len(some)), stratify=some.labels, test_size=0.5, random_state=0)
    classifier = PixelClassifier().fit(X[train], some.labels[train])
    assert classifier.score(X[test], some.labels[test]) > 0.8
