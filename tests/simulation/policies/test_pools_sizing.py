import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dynawatt.routing.prediction import LengthPredictor
from dynawatt.simulation.policies.pools import request_pools, spill
from dynawatt.simulation.policies.pools_sizing import filled_replicas, merged_replicas, own_replicas, predicted_loads

from .small_pools import MOST, by_class, profile, tables

THREE = request_pools(by_class(SS=1, MM=1, LL=1), 0.1)


def test_own_pools_are_rounded_up():
    found = own_replicas(tables(THREE, [[profile(8, 1.0)]] * 3), by_class(SS=1.4, MM=2.0, LL=0.0))
    assert found == [2, 2, 1]


def test_leftovers_are_pushed_up_and_only_the_last_pool_is_rounded_up():
    # 0.4 of SS makes MM 3.1, of which 0.1 makes LL 0.3.
    assert filled_replicas(tables(THREE, [[profile(8, 1.0)]] * 3), by_class(SS=1.4, MM=2.7, LL=0.2)) == [1, 3, 1]


def test_a_pool_that_fills_no_replica_has_none():
    assert filled_replicas(tables(THREE, [[profile(8, 1.0)]] * 3), by_class(SS=0.4, MM=0.5, LL=1.2)) == [0, 0, 3]


def test_all_load_of_a_closed_pool_goes_up():
    known = tables(THREE, [[profile(8, 1.0)]] * 3)
    assert filled_replicas(known, by_class(SS=2, MM=2, LL=0.5), closed={1}) == [2, 0, 3]


def test_urgent_spill_is_planned_from_the_whole_mix_the_more_strictly_the_more_there_is():
    rows = [(0.5, [profile(8, 0.5)]), (1.0, [profile(8, 0.25)])]
    known = tables(THREE, [[profile(8, 1.0)]] * 3, rows, urgent=("SS",))
    assert filled_replicas(known, by_class(LL=1.2), {0, 1}) == [0, 0, 2]
    assert filled_replicas(known, by_class(SS=0.4, LL=1.2), {0, 1}) == [0, 0, 4]
    assert filled_replicas(known, by_class(SS=0.9, LL=0.7), {0, 1}) == [0, 0, 7]


def test_a_pool_that_takes_in_others_is_sized_by_those_that_it_gets_most_of():
    known = tables(THREE, [[profile(8, 1.0)], [profile(8, 0.5)], [profile(8, 1.0)]])
    assert filled_replicas(known, by_class(MM=1.4, LL=1.5), {0, 1}) == [0, 0, 3]
    assert filled_replicas(known, by_class(MM=1.6, LL=1.3), {0, 1}) == [0, 0, 6]


def test_pools_merge_where_that_takes_fewer_replicas():
    # LL's replicas carry more: MM is better off there. SS fills one of its own, and goes there with the rest alone.
    known = tables(THREE, [[profile(8, 1.0)], [profile(8, 1.0)], [profile(8, 1.3)]])
    loads = by_class(SS=1.1, MM=1.1, LL=1.4)
    assert filled_replicas(known, loads) == [1, 1, 2]
    assert merged_replicas(known, loads, MOST) == [1, 0, 2]


def test_of_equals_the_most_pools_stay():
    known = tables(THREE, [[profile(8, 1.0)]] * 3)
    assert merged_replicas(known, by_class(SS=1.1, MM=1.1, LL=0.4), MOST) == [1, 1, 1]


def test_of_equals_the_one_that_starts_the_fewest():
    known = tables(THREE, [[profile(8, 1.0)]] * 3)
    loads = by_class(SS=1.1, MM=1.1, LL=0.4)
    assert merged_replicas(known, loads, MOST, standing=[0, 2, 0]) == [0, 2, 1]
    assert merged_replicas(known, loads, MOST, standing=[0, 0, 3]) == [0, 0, 3]


def test_an_inventory_too_small_gives_the_larger_pools_what_there_is():
    known = tables(THREE, [[profile(8, 1.0)]] * 3)
    assert merged_replicas(known, by_class(SS=3, MM=2, LL=2.5), most=5) == [2, 2, 1]


@given(arrays(np.float64, 9, elements=st.floats(0, 1.2)), st.integers(1, MOST))
def test_no_more_than_pools_for_themselves_and_enough(loads, most):
    known = tables(THREE, [[profile(8, 1.0)]] * 3)
    found = merged_replicas(known, loads, most)
    assert sum(found) <= most
    assert found[-1] >= 1
    if np.ceil(loads.sum()) < most:
        assert sum(found) <= sum(own_replicas(known, loads))
        served = spill(THREE, loads, lambda row, _: known.own[row][0].capacity(found[row]))
        assert served.overload <= 1e-6


def test_wrong_predictions_move_load_between_outputs_of_an_input():
    work = by_class(MS=1.0, ML=3.0)
    loads = predicted_loads(by_class(MS=2.0, ML=1.0), work, LengthPredictor(0.81))
    assert loads.sum() == pytest.approx(5)
    assert loads[3:6].sum() == pytest.approx(5)
    assert loads[3] == pytest.approx(2 * 0.81 + 3 * LengthPredictor(0.81).output_confusion[2, 0])
