from dataclasses import replace

import pytest

from dynawatt.perfmodel.architectures import ARCHITECTURES
from dynawatt.perfmodel.derivation import held_out
from dynawatt.perfmodel.derivation.grid import samples_between
from dynawatt.perfmodel.derivation.held_out import held_out_residuals
from dynawatt.perfmodel.derivation.profiles import Subject, derive_profile
from dynawatt.perfmodel.derivation.shape import CONTEXTS, REQUESTS, TOKENS, derive_shape, with_overhead
from dynawatt.perfmodel.gpus import GPUS
from dynawatt.perfmodel.models import Batch, chunk_pairs
from dynawatt.perfmodel.power import power_calibration

LLAMA = ARCHITECTURES["llama-3.1-8b"]
H100 = GPUS["h100-sxm"]
SUBJECT = Subject(LLAMA, "bf16", H100)


def profile_of(measured):
    return derive_profile(SUBJECT, lambda size: measured, power_calibration(H100.name, "bf16"), "synthetic", ("test",))


def exact_s(model, batch, clock=1.0):
    tokens = batch.decode_requests + batch.prefill_tokens
    seconds = (model.weights_s**model.norm + (model.token_compute_s * tokens / clock) ** model.norm) ** (1 / model.norm)
    seconds += (model.norms_s + model.link_s) * tokens + model.link_start_s + model.head
    if batch.decode_requests:
        seconds += model.decode_start_s + model.decode_request_s * batch.decode_requests
        seconds += model.context_s * batch.decode_context_tokens
    elif batch.prefill_tokens:
        seconds += model.prefill_start_s
    return seconds + model.prefill_token_s * batch.prefill_tokens + model.pair_s * batch.prefill_pairs / clock


BATCHES = [
    Batch(1, 100, 0, 0),
    Batch(20, 20_000, 0, 0),
    Batch(200, 100_000, 0, 0),
    Batch(1024, 200_000, 0, 0),
    Batch(0, 0, 300, chunk_pairs(300, 0)),
    Batch(0, 0, 5000, chunk_pairs(5000, 3000)),
    Batch(37, 40_000, 800, chunk_pairs(800, 500)),
]


@pytest.mark.parametrize("batch", BATCHES, ids=str)
def test_a_derived_replica_takes_what_its_operations_take(synthetic, batch):
    replica = profile_of(synthetic()).replica(1).at_clock(H100.default_clock_mhz)
    assert replica.step_s(batch) == pytest.approx(exact_s(synthetic(), batch), rel=0.01)


@pytest.mark.parametrize("batch", BATCHES, ids=str)
def test_lower_clocks_slow_down_arithmetic_alone(synthetic, batch):
    replica = profile_of(synthetic()).replica(1).at_clock(990)
    # Attention of decode follows the clock by a few percent, which the synthetic model does not have.
    assert replica.step_s(batch) == pytest.approx(exact_s(synthetic(), batch, clock=0.5), rel=0.05)


def test_covers_what_engines_are_set_to(synthetic):
    shape = derive_shape(synthetic(), LLAMA, H100, 2, 10**6).coefficients
    assert (shape.step.tokens[0], shape.step.tokens[-1]) == (1, 16384)
    assert (shape.step.requests[0], shape.step.requests[-1]) == (0, 1024)


def test_work_is_that_of_the_architecture(synthetic):
    single = derive_shape(synthetic(), LLAMA, H100, 1, 10**6).coefficients.work
    halved = derive_shape(synthetic(), LLAMA, H100, 2, 10**6).coefficients.work
    # 8.03e9 weights, of which the embedding's 0.53e9 multiply nothing.
    assert single.flops[0] == pytest.approx(2 * 7.5e9, rel=0.01)
    assert halved.flops[0] == pytest.approx(single.flops[0] / 2)
    assert single.context_bytes == LLAMA.kv_bytes_per_token
    assert single.link_bytes[-1] == 0
    assert halved.link_bytes[-1] > 0
    # Prompt tokens beyond the most decoding requests pass no LM head.
    per_token = (single.flops[-1] - single.flops[-2]) / (16384 - 12288)
    assert per_token == pytest.approx(2 * (8.03e9 - 2 * 128256 * 4096), rel=0.01)


def test_a_sliding_window_halves_what_context_costs(synthetic):
    windowed = replace(LLAMA, sliding_window_tokens=128)
    work = derive_shape(synthetic(), windowed, H100, 1, 10**6).coefficients.work
    assert work.context_bytes == LLAMA.kv_bytes_per_token / 2


def test_more_gpus_than_kv_heads_repeat_them(synthetic):
    few_heads = replace(LLAMA, kv_heads=2)
    by_size = [derive_shape(synthetic(), few_heads, H100, size, 10**6).coefficients.work for size in (1, 2, 8)]
    assert [work.context_bytes / by_size[0].context_bytes for work in by_size] == [1, 0.5, 0.5]


def test_overhead_is_added_to_each_step(synthetic):
    bare = derive_shape(synthetic(), LLAMA, H100, 1, 10**6).coefficients
    step = with_overhead(bare, 1e-3, 20e-6).step
    assert (step.iteration_overhead_s, step.request_overhead_s) == (1e-3, 20e-6)


def test_held_out_points_show_a_model_that_is_off(synthetic):
    replica = profile_of(synthetic()).replica(1).at_clock(H100.default_clock_mhz)
    right = held_out_residuals(replica, synthetic(), 10**6, LLAMA.context_tokens, "set")
    assert {residual.quantity for residual in right} == {"decode_step", "prefill_step"}
    assert all(residual.held_out for residual in right)
    by_name = {(residual.quantity, residual.dataset): residual.mean_abs_error for residual in right}
    assert by_name["decode_step", "set"] < 0.01
    assert by_name["prefill_step", "set"] < 0.01
    assert by_name["prefill_step", "set, mixed, one kernel"] < 0.01
    assert by_name["prefill_step", "set, mixed, two kernels"] > by_name["prefill_step", "set, mixed, one kernel"]

    slow = synthetic(weights_s=16e-3)
    wrong = held_out_residuals(replica, slow, 10**6, LLAMA.context_tokens, "set")
    assert wrong[0].mean_abs_error > 0.1


def test_batches_beyond_the_cache_are_not_held_out(synthetic):
    replica = profile_of(synthetic()).replica(1).at_clock(H100.default_clock_mhz)
    small = held_out_residuals(replica, synthetic(), 5_000, LLAMA.context_tokens, "set")
    large = held_out_residuals(replica, synthetic(), 10**6, LLAMA.context_tokens, "set")
    assert small[0].points < large[0].points


def test_held_out_points_had_no_part_in_the_fit():
    fitted = set(samples_between(TOKENS))
    mixed = {a + b for a in held_out._MIXED_REQUESTS for b in held_out._MIXED_CHUNKS}
    assert fitted.isdisjoint({*held_out._REQUESTS, *held_out._CHUNKS, *mixed})
    assert set(REQUESTS).isdisjoint({*held_out._REQUESTS, *held_out._MIXED_REQUESTS})
    assert set(CONTEXTS).isdisjoint({*held_out._CONTEXTS, *held_out._MIXED_CONTEXTS})
