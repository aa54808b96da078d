import json
from math import inf
from pathlib import Path

import pytest

from dynawatt.adapters.vllm_load.buckets import TBT_BOUNDS_S, TTFT_BOUNDS_S, advised_buckets
from dynawatt.adapters.vllm_load.page import pod_page

REAL = Path(__file__).parents[4] / "shared" / "vllm" / "metrics-0.32.0.txt"


def test_objectives_on_bounds_need_nothing():
    assert advised_buckets([0.25, 0.5, 2.5], 0.1) is None


def test_bounds_are_added_to_the_families_that_lack_them():
    advised = json.loads(advised_buckets([0.25, 0.4, 2.0], 0.1))
    assert advised == {"time_to_first_token": sorted([*TTFT_BOUNDS_S, 0.4, 2.0])}
    advised = json.loads(advised_buckets([0.25], 0.045))
    assert advised == {"inter_token_latency": sorted([*TBT_BOUNDS_S, 0.045])}


@pytest.mark.parametrize("objective_s", [0.3 - 0.1, 200 / 1000, 0.1 + 0.1])
def test_rounding_is_no_other_bound(objective_s):
    assert advised_buckets([0.1], objective_s) is None


def test_what_the_histogram_has_already_counts():
    assert advised_buckets([0.4], 0.03, ttft_bounds_s=[0.4, inf], tbt_bounds_s=[0.03, inf]) is None
    advised = json.loads(advised_buckets([0.4], 0.05, ttft_bounds_s=[0.2, inf], tbt_bounds_s=[0.03, inf]))
    assert advised == {"time_to_first_token": [0.2, 0.4], "inter_token_latency": [0.03, 0.05]}


@pytest.mark.skipif(not REAL.exists(), reason="shared data is absent")
def test_the_defaults_are_those_of_the_real_vllm():
    counts = pod_page(REAL.read_bytes()).counts
    assert [bound for what, bound in counts if what == "ttft"] == [*TTFT_BOUNDS_S, inf]
    assert [bound for what, bound in counts if what == "tbt"] == [*TBT_BOUNDS_S, inf]
