import pytest

from dynawatt.adapters.vllm_load.source import LoadObservation, LoadQuestion, ShapeLoad, WatchedPod


def seen(rate_rps, recent_rps, window_s=40.0):
    return LoadObservation(rate_rps, None, 0.0, [], [], recent_rps=recent_rps, recent_window_s=window_s)


@pytest.mark.parametrize(
    ("rate_rps", "recent_rps", "expected_rps"),
    [
        (5.0, 5.0, 5.0),  # steady
        (5.0, 6.0, 5.0),  # 240 instead of 200 requests: could be chance
        (5.0, 20.0, 20.0 - 3 * 800**0.5 / 40),
        (5.0, 0.0, 5.0),
        (5.0, None, 5.0),
        (0.02, 0.075, 0.02),  # three requests
    ],
)
def test_a_burst_is_what_chance_does_not_explain(rate_rps, recent_rps, expected_rps):
    assert seen(rate_rps, recent_rps).burst_rps == pytest.approx(expected_rps)


def test_a_service_is_the_sum_of_its_shapes():
    shapes = {
        "a": ShapeLoad(3, 1.0, 6.0, 2.0, 0.5, 100.0, [], []),
        "b": ShapeLoad(1, 2.0, 4.0, 0.0, 0.9, 50.0, [], []),
        "c": ShapeLoad(1, 0.0, 0.0, 0.0, None, 0.0, [], []),
    }
    found = LoadObservation(3.0, None, 0.0, [], [], shapes=shapes)
    assert (found.running, found.waiting, found.generated_tps) == (10.0, 2.0, 150.0)
    assert found.kv_usage == pytest.approx(0.6)


def test_what_one_shape_does_not_tell_is_not_known_of_the_service():
    shapes = {
        "a": ShapeLoad(1, 1.0, 1.0, 0.0, None, 10.0, [], []),
        "b": ShapeLoad(1, 1.0, 1.0, 0.0, None, None, [], []),
    }
    found = LoadObservation(3.0, None, 0.0, [], [], shapes=shapes)
    assert found.generated_tps is None
    assert found.kv_usage is None


def test_the_recent_window_is_never_empty():
    question = LoadQuestion("prod", "llama", {"a": [WatchedPod("p")], "b": []}, rate_window_s=2)
    assert question.recent_window_s == 1
    assert question.pods == [WatchedPod("p")]
