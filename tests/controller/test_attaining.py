import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.adapters.vllm_load.source import LoadObservation
from dynawatt.api.llmservice import SLO
from dynawatt.controller.attaining import input_classes, ttft_bounds
from dynawatt.workload.mix import LengthMix

THREE = SLO.model_validate(
    {
        "interTokenMilliseconds": 100,
        "timeToFirstToken": [
            {"maxInputTokens": 256, "milliseconds": 250},
            {"maxInputTokens": 1024, "milliseconds": 400},
            {"milliseconds": 2000},
        ],
    }
)
ONE = SLO.model_validate({"interTokenMilliseconds": 100, "timeToFirstToken": [{"milliseconds": 2000}]})
LATEST_S = 10.0


def observed(lengths, ttft_s):
    """What a histogram with a bucket for every objective tells of these requests."""
    uppers = (0.25, 0.4, 2.0, LATEST_S)
    histogram = [(upper, float(sum(each <= upper for each in ttft_s))) for upper in uppers]
    mix = LengthMix(np.array(lengths), np.ones(len(lengths), dtype=np.int64)) if len(lengths) else None
    return LoadObservation(
        rate_rps=1.0, mix=mix, finished_requests=float(len(lengths)), ttft=[*histogram, (math.inf, len(ttft_s))], tbt=[]
    )


def test_classes_are_named_by_their_tokens():
    assert input_classes(THREE) == {"1-256": 0.25, "257-1024": 0.4, "1025+": 2.0}
    assert input_classes(ONE) == {"1+": 2.0}


def test_half_of_the_requests_bear_twice_the_share_of_what_is_late():
    found = ttft_bounds(THREE, observed([100] * 50 + [5000] * 50, [0.1] * 98 + [3.0] * 2))
    assert found["1-256"] == pytest.approx((0.96, 1.0))
    assert found["1025+"] == pytest.approx((0.96, 1.0))
    assert found["all"] == pytest.approx((0.98, 0.98))
    assert "257-1024" not in found  # nobody knows of requests that there were none of


def test_one_objective_is_measured_exactly():
    found = ttft_bounds(ONE, observed([100, 3000], [0.1, 0.1, 0.1, 3.0]))
    assert found == {"all": (0.75, 0.75), "1+": (0.75, 0.75)}


def test_nothing_is_said_before_a_first_token():
    assert ttft_bounds(THREE, observed([], [])) == {}


def test_without_lengths_the_extreme_objectives_bound_all():
    assert ttft_bounds(THREE, observed([], [0.1, 0.3, 1.0, 5.0])) == {"all": (0.25, 0.75)}


REQUESTS = st.lists(
    st.tuples(st.sampled_from([1, 200, 256, 257, 1024, 1025, 9000]), st.floats(0.01, LATEST_S)), min_size=1, max_size=60
)


@given(REQUESTS)
def test_the_truth_lies_between_the_bounds(requests):
    found = ttft_bounds(THREE, observed(*zip(*requests, strict=True)))
    timely = [ttft_s <= THREE.ttft_objective_s(length) for length, ttft_s in requests]
    assert found["all"].low - 1e-9 <= np.mean(timely) <= found["all"].high + 1e-9
    for name, members in {
        "1-256": [met for met, (length, _) in zip(timely, requests, strict=True) if length <= 256],
        "257-1024": [met for met, (length, _) in zip(timely, requests, strict=True) if 256 < length <= 1024],
        "1025+": [met for met, (length, _) in zip(timely, requests, strict=True) if length > 1024],
    }.items():
        assert (name in found) == bool(members)
        if members:
            assert found[name].low - 1e-9 <= np.mean(members) <= found[name].high + 1e-9
