import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynawatt.simulation.engine import EngineSettings
from dynawatt.simulation.fleet import FleetResult, replay
from dynawatt.workload.trace import Trace

from .conftest import hand_models, objectives


def trace(*rows):
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    return Trace(np.array(columns[0], dtype=float), *(np.array(column, dtype=np.int64) for column in columns[1:]))


def run(requests, *, replicas=1, clock_mhz=1000, kv=1000, budget=64, tensor_parallel=1, slo=None, **options):
    return replay(
        requests,
        hand_models(tensor_parallel),
        EngineSettings(budget, 8, kv),
        replicas=replicas,
        clock_mhz=clock_mhz,
        objectives=slo or objectives(),
        **options,
    )


def gaps(result):
    return dict(zip(result.gap_s.tolist(), result.gap_counts.tolist(), strict=True))


def test_two_requests_by_hand():
    # 8 prompt tokens: 2 s at 400 W. One decodes beside 16 prompt tokens: 3.125 s at 400 W. One decodes: 1.125 s, 200 W.
    result = run(trace((0, 8, 3), (1, 16, 1)), slo=objectives(ttft_s=4.0, tbt_s=2.0))
    assert result.ttft_s.tolist() == [2.0, 4.125]
    assert gaps(result) == {3.125: 1, 1.125: 1}
    assert (result.ttft_attainment, result.tbt_attainment) == (0.5, 0.5)
    assert result.end_s == 6.25
    assert result.energy_j == 2 * 400 + 3.125 * 400 + 1.125 * 200


@pytest.mark.parametrize(
    ("options", "expected_j"),
    [
        ({}, 800 + 225),
        ({"tensor_parallel": 2}, 2 * (800 + 225)),
        ({"horizon_s": 1.0}, 800 + 225),
        ({"horizon_s": 10.0}, 800 + 225 + 6.875 * 100),
        ({"horizon_s": 10.0, "replicas": 3}, 800 + 225 + 6.875 * 100 + 2 * 10 * 100),
        ({"horizon_s": 10.0, "replicas": 3, "tensor_parallel": 4}, 4 * (800 + 225 + 687.5 + 2000)),
        ({"clock_mhz": 500}, 2 * (800 + 225)),
    ],
)
def test_energy_charges_work_and_idle_of_every_gpu_up_to_the_horizon(options, expected_j):
    assert run(trace((0, 8, 2)), **options).energy_j == pytest.approx(expected_j)


def test_idle_before_the_first_request_is_charged():
    assert run(trace((5, 8, 1))).energy_j == pytest.approx(5 * 100 + 2 * 400)


def test_requests_go_to_the_replica_with_the_fewest():
    assert run(trace((0, 8, 9), (0.5, 8, 9)), replicas=2).ttft_s.tolist() == [2.0, 2.0]


def test_a_preemption_is_a_long_gap_and_no_second_first_token():
    # The second request gets its first token at 2.75 s, is preempted at once and has its second token at 7.5 s.
    result = run(trace((0, 3, 5), (0.5, 2, 2)), kv=8)
    assert result.ttft_s.tolist() == [1.375, 2.25]
    assert gaps(result) == {1.375: 1, 1.125: 3, 4.75: 1}


def test_a_prompt_preempted_before_its_first_token_still_has_a_first_token():
    result = run(trace((0, 2, 40), (0.5, 50, 2)), kv=60, budget=2)
    # The first one decodes 39 more tokens; the second one's prompt does not fit beside the last of them.
    assert result.gap_counts.sum() == 39 + 1
    assert np.isfinite(result.ttft_s).all()
    assert result.ttft_s[1] > 39 * 1.125


def test_no_request_no_energy_but_idle():
    result = run(trace(), horizon_s=3.0)
    assert (result.energy_j, result.ttft_attainment, result.tbt_attainment) == (300.0, 1.0, 1.0)
    assert result.tbt_quantile_s(0.99) == 0.0


def test_progress_is_told():
    seen = []
    run(trace(*((0.01 * i, 1, 1) for i in range(1001))), on_progress=seen.append)
    assert seen == pytest.approx([4.99, 9.99])


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.floats(0, 60).map(lambda t: round(t, 3)), st.integers(1, 30), st.integers(1, 30)), max_size=30
    ),
    replicas=st.integers(1, 3),
    kv=st.integers(60, 200),
    budget=st.integers(8, 64),
)
def test_every_request_and_every_token_counts(rows, replicas, kv, budget):
    requests = trace(*sorted(rows))
    result = run(requests, replicas=replicas, kv=kv, budget=budget)
    assert len(result.ttft_s) == len(requests)
    assert np.isfinite(result.ttft_s).all()
    # The fastest first token there is: the prompt alone, in as few iterations as the budget allows.
    assert (result.ttft_s >= np.ceil(requests.input_tokens / budget) + requests.input_tokens / 8 - 1e-9).all()
    assert result.gap_counts.sum() == (requests.output_tokens - 1).sum()
    assert not len(result.gap_s) or result.gap_s.min() >= 1.125
    span_j = result.end_s * replicas
    assert 100 * span_j - 1e-6 <= result.energy_j <= 400 * span_j + 1e-6
    again = run(requests, replicas=replicas, kv=kv, budget=budget)
    assert (again.energy_j, again.ttft_s.tolist()) == (result.energy_j, result.ttft_s.tolist())


def test_quantile_over_weighted_gaps():
    result = FleetResult(np.array([]), np.array([3.0, 1.0, 2.0]), np.array([1, 90, 9]), 1.0, 1.0, 0.0, 0.0)
    assert [result.tbt_quantile_s(q) for q in (0.5, 0.9, 0.95, 0.99, 0.995, 1.0)] == [1.0, 1.0, 2.0, 2.0, 3.0, 3.0]
