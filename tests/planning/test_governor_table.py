import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynawatt.adapters.profile_files import find_replica
from dynawatt.errors import InvalidInputError
from dynawatt.governing.table import MAX_ROWS
from dynawatt.perfmodel.models import Batch, chunk_pairs
from dynawatt.perfmodel.surface import Surface, SurfacePoint
from dynawatt.planning.governor_table import governor_table
from dynawatt.workload.mix import LengthMix
from dynawatt.workload.objectives import LatencyObjectives

OBJECTIVES = LatencyObjectives(((256, 0.25), (1024, 0.4), (None, 2.0)), 0.1)
MIX = LengthMix(np.array([200, 600, 2000, 2000]), np.array([100, 100, 200, 200]))


@dataclass(frozen=True)
class Limits:
    max_num_batched_tokens: int = 2048
    max_num_seqs: int = 256
    kv_capacity_tokens: int = 500_000


@pytest.fixture(scope="module")
def replica():
    return find_replica("llama-3.1-70b", "h100-sxm", 8)


def row(capacity_rps, idle_w, busy_w):
    """Points of a clock that carries so much; watts rise in a straight line with the load, and go on beyond it."""
    slope = (busy_w - idle_w) / capacity_rps
    good = [SurfacePoint(rate, 1, 1, 0.1, 0.01, idle_w + slope * rate, tbt_p50_s=0.03) for rate in (0.0, capacity_rps)]
    return [*good, SurfacePoint(capacity_rps + 1e-6, 0.5, 0.5, 9.0, 1.0, busy_w)]


def surface(rows):
    return Surface(tensor_parallel=8, released_w=70.0, loaded_idle_w=110.0, points=rows)


def table(replica, rows, mix=MIX, limits=None, objectives=OBJECTIVES, **changes):
    values = {"attainment": 0.99, "replicas": 1, "urgent_first": False, **changes}
    return governor_table(surface(rows), replica, limits or Limits(), mix, objectives, **values)


ROWS = {1005: row(2.0, 700, 1000), 1395: row(4.0, 750, 1400), 1980: row(8.0, 880, 3000)}


def test_every_clock_is_used_up_to_what_it_carries(replica):
    found = table(replica, ROWS)
    assert [row.clock_mhz for row in found.rows] == [1005, 1395, 1980]
    assert [row.load_rps for row in found.rows] == pytest.approx([2.0, 4.0, 8.0])


def test_a_clock_that_another_one_beats_is_left_out(replica):
    found = table(replica, {**ROWS, 1200: row(3.0, 900, 2000)})
    assert [row.clock_mhz for row in found.rows] == [1005, 1395, 1980]  # 1200 draws more than 1395 at each of its loads


def test_a_clock_below_the_most_efficient_one_is_used_only_while_it_draws_less(replica):
    # Idle 1005 MHz draws less, but from 1 req/s on 1395 MHz does.
    found = table(replica, {1005: row(2.0, 700, 1600), 1395: row(4.0, 1000, 1600), 1980: row(8.0, 1100, 3000)})
    assert found.rows[0].clock_mhz == 1005
    assert found.rows[0].load_rps == pytest.approx(1.0, abs=8.0 / 64)


def test_the_batch_is_the_largest_within_the_objective(replica):
    tight = replace(OBJECTIVES, tbt_s=0.02)
    mean_context = MIX.input_tokens.mean() + MIX.output_tokens.mean() / 2
    for row in table(replica, ROWS, objectives=tight).rows:
        assert 0 < row.decode_requests < Limits().max_num_seqs
        within, beyond = (
            replica.step_s(Batch(count, round(count * mean_context), 0, 0.0), row.clock_mhz)
            for count in (row.decode_requests, row.decode_requests + 1)
        )
        assert within <= tight.tbt_s < beyond


def test_prefill_speed_is_that_of_full_iterations_beside_the_decoding_batch(replica):
    first = table(replica, ROWS).rows[0]
    decoding = round(2.0 * 150 * 0.03)
    tokens = 2048 - decoding
    step = Batch(decoding, round(decoding * 1275), tokens, chunk_pairs(tokens, 0))
    assert first.prefill_tokens_per_s == pytest.approx(tokens / replica.step_s(step, 1005))


@pytest.mark.parametrize(
    ("inputs", "urgent_first", "expected_s"),
    [
        ([200, 600, 2000, 2000], False, 0.25),
        ([600, 600, 2000, 2000], False, 0.4),
        ([200, *[2000] * 199], False, 2.0),  # half a percent may well miss
        ([1000, 3000], True, 0.25 * 0.4 + 0.75 * 2.0),
    ],
)
def test_how_fast_a_queue_must_be_worked_off(replica, inputs, urgent_first, expected_s):
    mix = LengthMix(np.array(inputs), np.full(len(inputs), 100))
    assert table(replica, ROWS, mix=mix, urgent_first=urgent_first).drain_s == pytest.approx(expected_s)


def test_reserve_lowers_what_a_clock_carries(replica):
    def falling(load_rps):
        return [SurfacePoint(rate, 1 - 0.01 * rate / load_rps, 1, 0.1, 0.01, 700 + rate) for rate in (0.0, load_rps)]

    rows = {1980: falling(8.0)}
    full, spare = (table(replica, rows, spare_budget=part).rows[-1].load_rps for part in (0.0, 0.35))
    assert (full, spare) == (pytest.approx(8.0), pytest.approx(0.65 * 8.0))


def test_no_clock_within_the_slo_is_refused(replica):
    hopeless = [SurfacePoint(0.0, 0.5, 0.5, 9.0, 1.0, 900.0), SurfacePoint(1.0, 0.5, 0.5, 9.0, 1.0, 900.0)]
    with pytest.raises(InvalidInputError, match="loosen the objectives"):
        table(replica, {1980: hopeless})


@settings(max_examples=25)  # each builds a table of up to 20 clocks
@given(
    capacities=st.lists(st.floats(0.5, 20.0), min_size=1, max_size=20),
    watts=st.lists(st.tuples(st.floats(500, 900), st.floats(1000, 5000)), min_size=20, max_size=20),
)
def test_any_surface_gives_a_small_ascending_table_that_reaches_the_highest_capacity(replica, capacities, watts):
    rows = {810 + 45 * i: row(most, *watts[i]) for i, most in enumerate(capacities)}
    found = table(replica, rows)
    assert 1 <= len(found.rows) <= MAX_ROWS
    assert found.rows[-1].load_rps == pytest.approx(max(capacities))
    assert len(json.dumps(found.to_dict(), separators=(",", ":"))) < 700
