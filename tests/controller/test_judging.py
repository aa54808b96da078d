import math

import pytest

from dynawatt.adapters.vllm_load.source import LoadObservation
from dynawatt.api.conditions import ConditionType, find_condition
from dynawatt.api.llmservice import SLO
from dynawatt.controller.judging import judge_slo

OBJECTIVES = SLO.model_validate(
    {
        "interTokenMilliseconds": 100,
        "timeToFirstToken": [{"maxInputTokens": 256, "milliseconds": 250}, {"milliseconds": 2000}],
    }
)


def histogram(**shares):
    """Cumulative, from shares of observations up to a bound in ms."""
    rows = [(float(bound[1:]) / 1000, count) for bound, count in shares.items()]
    return [*rows, (math.inf, 100.0)]


@pytest.mark.parametrize(
    ("ttft", "tbt", "status", "reason"),
    [
        ([], [], "Unknown", "NoLoadYet"),
        (histogram(b250=99, b2000=100), histogram(b100=99), "True", "WithinSLO"),
        (histogram(b250=50, b2000=99), histogram(b100=99), "Unknown", "WithinSLO"),
        (histogram(b250=50, b2000=98), histogram(b100=99), "False", "SLOMissed"),
        (histogram(b250=99, b2000=100), histogram(b100=98.9), "False", "SLOMissed"),
    ],
)
def test_slo_met(draft, ttft, tbt, status, reason):
    found = draft()
    judge_slo(found, OBJECTIVES, LoadObservation(rate_rps=1.0, mix=None, finished_requests=100.0, ttft=ttft, tbt=tbt))
    condition = find_condition(found.status.conditions, ConditionType.SLO_MET)
    assert (condition.status, condition.reason) == (status, reason)


def test_the_message_does_not_move_with_the_numbers(draft):
    messages = set()
    for share in (90.0, 91.2, 98.9):
        found = draft()
        load = LoadObservation(
            rate_rps=1.0, mix=None, finished_requests=100.0, ttft=histogram(b250=100), tbt=histogram(b100=share)
        )
        judge_slo(found, OBJECTIVES, load)
        messages.add(find_condition(found.status.conditions, ConditionType.SLO_MET).message)
    assert messages == {"fewer than 99% of gaps between tokens are within 100 ms"}


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        ({"b250": 100}, None),
        ({"b100": 99, "b300": 100}, "250 ms lies inside a bucket of vLLM's histogram that ends at 300 ms"),
        ({"b100": 100}, None),  # the last bucket has no end
    ],
)
def test_an_objective_between_two_buckets_is_said_to_be_judged_roughly(draft, bounds, said):
    found = draft()
    ttft, tbt = histogram(**bounds, b2000=100), histogram(b100=100)
    if said is None and "b250" not in bounds:
        ttft = histogram(**bounds)
    judge_slo(found, OBJECTIVES, LoadObservation(rate_rps=1.0, mix=None, finished_requests=100.0, ttft=ttft, tbt=tbt))
    message = find_condition(found.status.conditions, ConditionType.SLO_MET).message
    assert ("lies inside" in message) is (said is not None)
    assert (said or "") in message
