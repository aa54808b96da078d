from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.errors import InvalidInputError
from dynawatt.routing.packing import Packing

SERVING = 12


@dataclass(frozen=True)
class Fleet:
    """Each replica carries 10 requests/s at most; at what ``best_rps`` each, the load costs the fewest watts."""

    best_rps: float = 4.0

    def capacity_rps(self, replicas):
        return 10.0 * replicas

    def open_replicas(self, replicas, rate_rps):
        return min(replicas, max(1, round(rate_rps / self.best_rps)))


rates = st.floats(0.0, 150.0)
rows = st.tuples(rates, st.integers(0, 200))
fleets = st.builds(Fleet, st.floats(2.0, 30.0))


def run(packing, readings, *, serving=SERVING, every_s=5.0):
    return [packing.step(every_s * i, rate_rps, serving, waiting) for i, (rate_rps, waiting) in enumerate(readings)]


@given(fleets, st.lists(rows, max_size=60), rates, st.integers(0, 400))
def test_settles_under_a_constant_load_whatever_came_before(fleet, before, rate_rps, waiting):
    packing = Packing(fleet, quiet_s=60.0)
    after = run(packing, [*before, *[(rate_rps, waiting)] * 80])[len(before) :]
    assert all(a >= b for a, b in pairwise(after))
    assert len(set(after[-40:])) == 1


@given(fleets, st.lists(st.tuples(rows, st.floats(0, 50), st.integers(0, 50)), max_size=60))
def test_more_load_never_opens_fewer(fleet, readings):
    less = run(Packing(fleet), [row for row, _, _ in readings])
    more = run(Packing(fleet), [(row[0] + rate_rps, row[1] + waiting) for row, rate_rps, waiting in readings])
    assert all(a <= b for a, b in zip(less, more, strict=True))


@given(fleets, st.lists(rows, max_size=60), st.integers(1, 20))
def test_opens_what_the_load_needs_at_once_and_never_more_than_serve(fleet, readings, serving):
    for (rate_rps, _), found in zip(readings, run(Packing(fleet), readings, serving=serving), strict=True):
        assert 1 <= found <= serving
        assert fleet.capacity_rps(found) >= rate_rps or found == serving
        assert found >= fleet.open_replicas(serving, rate_rps)


@given(st.lists(st.floats(-1.0, 1.0), max_size=100), st.floats(4.0, 100.0))
def test_noise_within_the_margin_moves_nothing(noise, rate_rps):
    """Once what the highest load asks for is open, no reading between it and 1 / (1 + margin) of it closes any."""
    packing = Packing(Fleet(), quiet_s=10.0, margin=0.1)
    first = packing.step(0.0, rate_rps, SERVING, 0)
    readings = [(rate_rps * (1 + 0.045 * (each - 1)), 0) for each in noise]
    assert run(packing, readings) == [first] * len(readings)


def test_closes_only_after_a_quiet_time():
    packing = Packing(Fleet(), quiet_s=60.0)
    assert packing.step(0.0, 40.0, SERVING, 0) == 10
    assert [packing.step(now_s, 12.0, SERVING, 0) for now_s in (5.0, 30.0, 60.0, 60.1)] == [10, 10, 10, 3]


def test_closes_to_the_most_that_the_quiet_time_asked_for():
    packing = Packing(Fleet(), quiet_s=60.0)
    packing.step(0.0, 40.0, SERVING, 0)
    packing.step(30.0, 28.0, SERVING, 0)
    packing.step(50.0, 20.0, SERVING, 0)
    found = [packing.step(now_s, 8.0, SERVING, 0) for now_s in (61.0, 91.0, 111.0)]
    assert found == [8, 6, 2]  # 28 rps and 20 rps, with 10 % to spare


def test_a_queue_opens_so_many_that_each_has_a_short_one():
    packing = Packing(Fleet(), longest_queue=8.0, quiet_s=12.0)
    found = run(packing, [(8.0, 16), (8.0, 17), (8.0, 100), (8.0, 32), (8.0, 24), (8.0, 0), (8.0, 0)])
    assert found == [2, 3, 12, 12, 12, 4, 3]


def test_a_reading_that_is_no_number_changes_nothing():
    packing = Packing(Fleet())
    assert [packing.step(float(i), rate, SERVING, 0) for i, rate in enumerate((20.0, nan, nan))] == [5, 5, 5]
    assert packing.step(1000.0, nan, SERVING, 0) == 5
    assert packing.step(1001.0, inf, SERVING, 0) == SERVING
    assert packing.step(1002.0, -5.0, SERVING, 0) == SERVING


def test_all_are_open_before_the_load_is_known():
    packing = Packing(Fleet(), quiet_s=10.0)
    assert run(packing, [(nan, 0), (nan, 0), (8.0, 0), (8.0, 0), (8.0, 0)]) == [12, 12, 12, 12, 2]


def test_a_clock_that_goes_back_begins_the_quiet_time_anew():
    packing = Packing(Fleet(), quiet_s=60.0)
    packing.step(1e6, 40.0, SERVING, 0)
    assert [packing.step(now_s, 4.0, SERVING, 0) for now_s in (10.0, 70.0, 70.1)] == [10, 10, 1]


def test_nothing_is_open_where_nothing_serves():
    packing = Packing(Fleet())
    assert [packing.step(float(i), 40.0, serving, 0) for i, serving in enumerate((0, 3, 12, 0, 12))] == [
        0,
        3,
        10,
        0,
        10,
    ]


def test_replicas_that_carry_nothing_are_all_open():
    class Useless(Fleet):
        def capacity_rps(self, replicas):
            return 0.0

    assert Packing(Useless()).step(0.0, 0.0, 5, 0) == 5


def test_asks_the_fleet_once_for_each_step_of_the_load():
    asked = []

    class Counting(Fleet):
        def open_replicas(self, replicas, rate_rps):
            asked.append(rate_rps)
            return super().open_replicas(replicas, rate_rps)

    packing = Packing(Counting())
    list(accumulate(range(5000), lambda _, i: packing.step(i, (i * 37 % 1000) / 10, SERVING, 0)))
    assert len(asked) == len(set(asked)) <= 201


@pytest.mark.parametrize("setting", ["quiet_s", "margin", "longest_queue"])
@pytest.mark.parametrize("value", [-1.0, nan])
def test_refuses_settings_out_of_range(setting, value):
    with pytest.raises(InvalidInputError, match=setting):
        Packing(Fleet(), **{setting: value})
