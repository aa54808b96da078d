import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.errors import InvalidInputError
from dynawatt.routing.prediction import LengthPredictor

accuracies = st.floats(1 / 3, 1.0, exclude_min=True)
classes = st.lists(st.integers(0, 8), max_size=40).map(lambda found: np.array(found, np.int64))
mixes = st.lists(st.just(0.0) | st.floats(0.01, 10.0), min_size=9, max_size=9).filter(any).map(np.array)


@given(accuracies)
def test_a_prediction_is_right_as_often_as_said_and_seldom_far_off(accuracy):
    confusion = LengthPredictor(accuracy).output_confusion
    np.testing.assert_allclose(confusion.sum(axis=1), 1.0)
    np.testing.assert_allclose(confusion.diagonal(), accuracy)
    assert (confusion >= 0).all()
    short, medium, long = confusion[0]
    assert short >= medium >= long
    np.testing.assert_allclose(medium**2, short * long, atol=1e-12)  # the same factor for each step
    assert confusion[1, 0] == confusion[1, 2] <= confusion[1, 1]


@pytest.mark.parametrize("accuracy", [1.0, 0.81, 0.6])
def test_drawn_predictions_follow_the_confusion(accuracy):
    predictor = LengthPredictor(accuracy)
    count = 90_000
    actual = np.arange(count) % 9
    predicted = predictor.predicted(0, actual)
    seen = np.zeros((9, 9))
    np.add.at(seen, (actual, predicted), 9 / count)
    # Five standard deviations of a part of 10,000.
    np.testing.assert_allclose(seen, predictor.confusion, atol=5 * 0.5 / 100)
    np.testing.assert_array_equal(seen > 0, predictor.confusion > 0)


def test_the_perfect_predictor_is_right():
    actual = np.arange(9)
    predicted = LengthPredictor(1.0).predicted(5, actual)
    assert predicted.tolist() == actual.tolist()
    predicted[0] = 8
    assert actual[0] == 0


@given(st.integers(0, 2**40), classes, st.integers(0, 40), accuracies)
def test_a_prediction_depends_on_number_and_class_alone(first, actual, cut, accuracy):
    predictor = LengthPredictor(accuracy)
    whole = predictor.predicted(first, actual)
    parts = [predictor.predicted(first, actual[:cut]), predictor.predicted(first + len(actual[:cut]), actual[cut:])]
    assert whole.tolist() == np.concatenate(parts).tolist()
    assert (whole // 3 == actual // 3).all()


def test_another_seed_errs_elsewhere():
    actual = np.full(1000, 4)
    first, second = (LengthPredictor(0.6, seed).predicted(0, actual) for seed in (0, 1))
    both = ((first != 4) & (second != 4)).mean()
    assert both == pytest.approx(0.4**2, abs=0.05)


def test_errors_are_not_regular_in_the_number():
    """As draws of their own: whether a prediction errs tells nothing of those 1, 2 or 9 requests later."""
    wrong = LengthPredictor(0.6).predicted(0, np.full(20_000, 4)) != 4
    for lag in (1, 2, 9, 1000):
        assert (wrong[lag:] & wrong[:-lag]).mean() == pytest.approx(0.16, abs=0.02)


@given(accuracies, mixes)
def test_what_a_prediction_tells_is_the_mix_again(accuracy, mix):
    """The law of total probability: over all predictions, actual classes come as often as they do."""
    predictor = LengthPredictor(accuracy)
    told = predictor.distribution(mix)
    np.testing.assert_allclose(told.sum(axis=1), 1.0)
    np.testing.assert_allclose(mix @ predictor.confusion @ told, mix, atol=1e-9)


def test_what_a_prediction_tells_by_hand():
    """Nine in ten inputs short, of these half with short outputs and half with long ones."""
    predictor = LengthPredictor(0.6)
    (_, near, far), *_ = predictor.output_confusion
    told = predictor.distribution(np.array([45.0, 0, 45, 10, 0, 0, 0, 0, 0]))
    np.testing.assert_allclose(told[0, :3], [0.6 / (0.6 + far), 0, far / (0.6 + far)])
    np.testing.assert_allclose(told[1, :3], [0.5, 0, 0.5])
    np.testing.assert_allclose(told[5, 3:6], [1.0, 0, 0])
    # No long input ever came: each output is as likely as the prediction makes it.
    np.testing.assert_allclose(told[6, 6:], np.array([0.6, 0.2, far]) / (0.8 + far))
    assert near > far


@pytest.mark.parametrize("accuracy", [1 / 3, 0.0, -1.0, 1.01, float("nan")])
def test_refuses_accuracies_out_of_range(accuracy):
    with pytest.raises(InvalidInputError, match=f"accuracy {accuracy}"):
        LengthPredictor(accuracy)


def test_refuses_seeds_out_of_range():
    with pytest.raises(InvalidInputError, match="seed -1"):
        LengthPredictor(0.6, -1)


@pytest.mark.parametrize("mix", [np.zeros(9), np.ones(8), np.full(9, np.nan), np.array([2.0, -1] + [0] * 7)])
def test_refuses_mixes_that_are_none(mix):
    with pytest.raises(InvalidInputError, match="mix"):
        LengthPredictor(0.6).distribution(mix)
