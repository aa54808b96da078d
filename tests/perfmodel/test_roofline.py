import csv
import itertools
import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.perfmodel.catalog import replica_models
from dynawatt.perfmodel.models import Batch

MEASURED = Path(__file__).parents[2] / "../shared/data/ml-energy/ml_energy_flat.csv"
CONTEXT_TOKENS = 450  # of a request, prompt and half of its answer
SHAPES = {("8B", 1): 0.20, ("70B", 4): 0.10}
CLOCKS = (345, 600, 800, 1005, 1410, 1755, 1980)

batches = st.builds(
    lambda decode, context, prefill, before: Batch(decode, decode * context, prefill, before if prefill else 0),
    st.integers(0, 256),
    st.integers(1, 8000),
    st.integers(0, 8192),
    st.integers(0, 8192),
).filter(lambda batch: batch.decode_requests or batch.prefill_tokens)
shapes = st.sampled_from([("8B", 1), ("8B", 2), ("70B", 4), ("70B", 8)])


def roofline(size, tensor_parallel):
    return replica_models(f"Llama-3.1-{size}", "h100-sxm", tensor_parallel).step


def decode(requests, context=CONTEXT_TOKENS):
    return Batch(requests, requests * context, 0, 0)


@given(batch=batches, shape=shapes)
def test_time_falls_and_power_rises_with_the_clock(batch, shape):
    model = roofline(*shape)
    for slower, faster in itertools.pairwise(CLOCKS):
        assert model.step_s(batch, slower) > model.step_s(batch, faster) > 0
        assert model.power_w(batch, slower) <= model.power_w(batch, faster) <= 700
        assert model.loaded_idle_w(slower) < model.loaded_idle_w(faster) < model.power_w(batch, faster)


@given(batch=batches, shape=shapes, more=st.integers(1, 100))
def test_more_work_takes_longer(batch, shape, more):
    model = roofline(*shape)
    base_s = model.step_s(batch, 1410)
    larger = [
        Batch(batch.decode_requests + more, batch.decode_context_tokens, batch.prefill_tokens, 0),
        Batch(batch.decode_requests, batch.decode_context_tokens, batch.prefill_tokens + more, 0),
    ]
    if batch.decode_requests:
        context = batch.decode_context_tokens + more
        larger.append(Batch(batch.decode_requests, context, batch.prefill_tokens, batch.prefill_context_tokens))
    without_history = Batch(batch.decode_requests, batch.decode_context_tokens, batch.prefill_tokens, 0)
    assert model.step_s(without_history, 1410) <= base_s
    assert all(model.step_s(other, 1410) > model.step_s(without_history, 1410) for other in larger)


def test_decode_is_bound_by_memory_and_prefill_by_compute():
    model = roofline("70B", 4)
    stretch = {
        name: model.step_s(batch, 990) / model.step_s(batch, 1980)
        for name, batch in {"decode": decode(8), "prefill": Batch(0, 0, 4096, 0)}.items()
    }
    assert stretch["decode"] < 1.1
    assert 1.8 < stretch["prefill"] < 2


def test_a_wider_replica_is_faster_but_not_in_proportion():
    four, eight = (roofline("70B", size).step_s(decode(32), 1980) for size in (4, 8))
    assert four / 2 < eight < four


def test_idle_power():
    model = roofline("70B", 4)
    assert model.loaded_idle_w(1980) == pytest.approx(110)
    assert model.loaded_idle_w(800) == pytest.approx(78, abs=0.5)
    assert model.released_w == 70


@pytest.mark.parametrize(("size", "tensor_parallel"), SHAPES)
@pytest.mark.parametrize("requests", [1, 8])
def test_the_clock_saves_the_watts_of_decode_that_were_measured(size, tensor_parallel, requests):
    model = roofline(size, tensor_parallel)
    time_s = [model.step_s(decode(requests), clock) for clock in (780, 1980)]
    assert time_s[0] / time_s[1] < 1.03
    saved_w = model.power_w(decode(requests), 1980) - model.power_w(decode(requests), 780)
    assert 47 <= saved_w <= 90  # arXiv 2605.11999


@pytest.mark.skipif(not MEASURED.exists(), reason="the ML.ENERGY measurements are not on this machine")
@pytest.mark.parametrize(("size", "tensor_parallel"), SHAPES)
def test_the_calibration_holds_against_the_measurements(size, tensor_parallel, record_property):
    with MEASURED.open(newline="") as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if f"Llama-3.1-{size}" in row["model_id"]
            and (row["gpu_model"], row["tensor_parallel"]) == ("H100", str(tensor_parallel))
            and 8 <= int(row["max_num_seqs"]) <= 256
        ]
    assert len(rows) >= 8
    model = roofline(size, tensor_parallel)
    errors = {"itl": [], "watts": []}
    for row in rows:
        batch = decode(round(float(row["avg_batch_size"])))
        errors["itl"].append(abs(model.step_s(batch, 1980) * 1000 / float(row["median_itl_ms"]) - 1))
        errors["watts"].append(abs(model.power_w(batch, 1980) / float(row["w_per_gpu"]) - 1))
    for name, values in errors.items():
        record_property(name, f"median {statistics.median(values):.1%}, worst {max(values):.1%}")
    assert max(errors["itl"]) <= 0.10
    assert max(errors["watts"]) <= SHAPES[size, tensor_parallel]
