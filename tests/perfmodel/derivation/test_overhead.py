from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.perfmodel.architectures import ARCHITECTURES
from dynawatt.perfmodel.derivation.calibration import CHAT, calibrate, sort_rows
from dynawatt.perfmodel.derivation.closed_loop import ClosedLoopRow, steady_state
from dynawatt.perfmodel.derivation.overhead import EngineOverhead, fit_overhead, mean_step_s
from dynawatt.perfmodel.derivation.profiles import Subject, derive_profile
from dynawatt.perfmodel.gpus import GPUS
from dynawatt.perfmodel.models import chunk_pairs
from dynawatt.perfmodel.power import power_calibration

TRUE = EngineOverhead(iteration_s=0.8e-3, parallel_s=0.5e-3, request_s=25e-6, prompt_tokens=330.0)
SUBJECT = Subject(ARCHITECTURES["llama-3.1-8b"], "bf16", GPUS["h100-sxm"])


@given(st.floats(1, 2000), st.floats(1, 5000), st.floats(1, 10000))
def test_a_steady_state_is_a_distribution(requests, prompt_tokens, output_tokens):
    shares = [share for share, _ in steady_state(requests, prompt_tokens, output_tokens)]
    assert sum(shares) == pytest.approx(1)
    assert min(shares) >= 0


def test_prompts_arrive_as_fast_as_requests_end():
    iterations = steady_state(100, prompt_tokens=400, output_tokens=200)
    assert sum(share * batch.prefill_tokens for share, batch in iterations) == pytest.approx(100 / 200 * 400, rel=1e-3)
    assert all(batch.decode_requests == 100 for _, batch in iterations)
    two_prompts = iterations[2][1]
    assert two_prompts.prefill_pairs == 2 * chunk_pairs(400, 0)


def row(requests, size=1, step_s=1.0, **fields):
    base = ClosedLoopRow("model", "h100-sxm", size, "bf16", CHAT, round(requests), requests, 350.0, step_s, 500.0)
    return replace(base, **fields)


@pytest.fixture
def replicas(synthetic):
    """A small model on one GPU and one ten times as slow on two: their prefills tell the mean prompt."""

    def replica(model):
        profile = derive_profile(SUBJECT, lambda size: model, power_calibration("h100-sxm", "bf16"), "set", ())
        return profile.replica(1).at_clock(GPUS["h100-sxm"].default_clock_mhz)

    return {1: replica(synthetic()), 2: replica(synthetic(weights_s=40e-3, token_compute_s=200e-6))}


def measured(replicas, overhead, sizes=(1, 2)):
    found = []
    for size in sizes:
        for requests in (8.0, 16.0, 32.0, 64.0, 128.0, 256.0):
            bare = row(requests, size)
            engine_s = overhead.iteration_overhead_s(size) + overhead.request_s * requests
            step_s = mean_step_s(replicas[size], bare, overhead.prompt_tokens) + engine_s
            found.append((replace(bare, step_s=step_s), replicas[size]))
    return found


def test_recovers_overhead_and_prompts(replicas):
    found = fit_overhead(measured(replicas, TRUE))
    assert found.iteration_s == pytest.approx(TRUE.iteration_s, rel=0.05)
    assert found.parallel_s == pytest.approx(TRUE.parallel_s, rel=0.1)
    assert found.request_s == pytest.approx(TRUE.request_s, rel=0.05)
    assert found.prompt_tokens == pytest.approx(TRUE.prompt_tokens, rel=0.05)


def test_one_wild_row_does_not_move_the_fit_much(replicas):
    rows = measured(replicas, TRUE)
    wild, replica = rows[3]
    rows[3] = (replace(wild, step_s=3 * wild.step_s), replica)
    assert fit_overhead(rows).request_s == pytest.approx(TRUE.request_s, rel=0.15)


def test_a_given_prompt_is_kept(replicas):
    assert fit_overhead(measured(replicas, TRUE), 330.0).prompt_tokens == pytest.approx(330.0, abs=0.01)


def test_other_gpus_take_the_prompt_from_the_reference(replicas):
    slow_host = replace(TRUE, request_s=80e-6)
    rows = [each for each, _ in measured(replicas, TRUE)]
    rows += [replace(each, gpu="b200-sxm") for each, _ in measured(replicas, slow_host)]
    found = calibrate(rows, lambda each: replicas[each.tensor_parallel])
    assert found["b200-sxm"].request_s == pytest.approx(80e-6, rel=0.1)
    assert found["b200-sxm"].prompt_tokens == pytest.approx(found["h100-sxm"].prompt_tokens, abs=0.01)


def test_every_third_row_of_a_series_is_held_out_and_large_batches_are_dropped():
    rows = [row(requests) for requests in (8.0, 16.0, 32.0, 64.0, 128.0, 192.0, 512.0)]
    sorted_rows = sort_rows(rows, lambda model: True)
    assert [each.requests for each in sorted_rows.fitted] == [8, 16, 64, 128]
    assert [each.requests for each in sorted_rows.held_out] == [32, 192]


def test_experts_and_other_tasks_only_check():
    rows = [row(8.0), row(8.0, task="gpqa"), row(8.0, model="experts")]
    sorted_rows = sort_rows(rows, lambda model: model != "experts")
    assert sorted_rows.fitted == (rows[0],)
    assert set(sorted_rows.held_out) == set(rows[1:])


def test_a_new_gpu_slower_than_an_old_one_measured_its_host():
    old = row(64.0, size=2, step_s=20e-3)
    slower = row(64.0, size=1, step_s=25e-3, gpu="b200-sxm")
    faster = row(32.0, size=1, step_s=15e-3, gpu="b200-sxm")
    other_task = row(64.0, size=1, step_s=25e-3, gpu="b200-sxm", task="gpqa")
    sorted_rows = sort_rows([old, slower, faster, other_task], lambda model: True)
    assert sorted_rows.host_bound == (slower,)
