import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dynawatt.errors import InvalidInputError
from dynawatt.routing.pools import dominates
from dynawatt.simulation.policies.pools import own_shares, pools_above, request_pools, spill
from dynawatt.workload.classes import CLASS_NAMES

from .small_pools import by_class, index

LOADS = arrays(np.float64, len(CLASS_NAMES), elements=st.just(0.0) | st.floats(1e-3, 50)).filter(
    lambda loads: loads.sum() > 0
)


def test_nine_classes_with_load_are_nine_pools():
    assert [pool.name for pool in request_pools(np.ones(9), 0.1)] == list(CLASS_NAMES)


def test_a_rare_class_joins_the_next_larger_pool():
    loads = np.ones(9)
    loads[[index("SM"), index("ML")]] = 0.05
    pools = {pool.name: pool.classes for pool in request_pools(loads, 0.1)}
    assert "SM" not in pools
    assert "ML" not in pools
    assert pools["SL"] == (index("SM"), index("SL"))
    assert pools["LL"] == (index("ML"), index("LL"))


def test_without_long_answers_the_largest_pool_is_for_what_there_is():
    pools = request_pools(by_class(SS=2, MS=3, LS=4), 0.1)
    assert [(pool.name, pool.classes) for pool in pools] == [
        ("SS", (0,)),
        ("MS", (3,)),
        ("LL", (1, 2, 4, 5, 6, 7, 8)),
    ]


def test_pools_without_load_are_refused():
    with pytest.raises(InvalidInputError, match="load of all request classes is 0"):
        request_pools(np.zeros(9), 0.1)


@given(LOADS, st.floats(0, 5))
def test_every_class_has_one_pool_that_may_serve_it(loads, least):
    pools = request_pools(loads, least)
    assert sorted(each for pool in pools for each in pool.classes) == list(range(9))
    assert all(dominates(pool.largest, each) for pool in pools for each in pool.classes)
    assert pools[-1].name == "LL"
    assert len(pools) == 1 or all(loads[list(pool.classes)].sum() >= least for pool in pools)


def test_what_does_not_fit_goes_to_longer_answers_first():
    pools = request_pools(np.ones(9), 0.1)
    above = {pools[row].name: to and pools[to].name for row, to in enumerate(pools_above(pools))}
    assert above == {
        "SS": "SM", "SM": "SL", "SL": "ML", "MS": "MM", "MM": "ML", "ML": "LL", "LS": "LM", "LM": "LL", "LL": None,
    }  # fmt: skip


def test_the_part_that_a_pool_cannot_carry_goes_up_and_on():
    pools = request_pools(by_class(SS=1.5, MS=1.0, LL=3.0), 0.1)
    capacities = [1.0, 1.2, 9.0]
    found = spill(pools, by_class(SS=1.5, MS=1.0, LL=3.0), lambda row, _: capacities[row])
    # SS keeps 1.0 of 1.5; MS is then offered 1.5 and keeps 80 % of it, of either class.
    assert found.shares[:, index("SS")] == pytest.approx([2 / 3, 0.8 / 3, 0.2 / 3])
    assert found.shares[:, index("MS")] == pytest.approx([0, 0.8, 0.2])
    assert found.loads.sum(axis=1) == pytest.approx([1.0, 1.2, 3.3])
    assert found.overload == 0


def test_the_last_pool_takes_all_and_says_what_is_too_much():
    pools = request_pools(by_class(SS=1, LL=1), 0.1)
    found = spill(pools, by_class(SS=1, LL=4), lambda row, _: [0.0, 3.5][row])
    assert found.shares[1, index("SS")] == 1
    assert found.overload == pytest.approx(1.5)


def test_a_pool_without_replicas_is_passed_by_even_without_load():
    pools = request_pools(by_class(SS=1, LL=1), 0.1)
    found = spill(pools, by_class(LL=1), lambda row, _: [0.0, 3.0][row])
    assert found.shares[:, index("SS")].tolist() == [0, 1]


@given(LOADS, st.floats(0, 5), st.data())
def test_spilling_loses_nothing_and_respects_dominance(loads, least, data):
    pools = request_pools(loads, least)
    capacities = data.draw(arrays(np.float64, len(pools), elements=st.just(0.0) | st.floats(1e-3, 60)))
    found = spill(pools, loads, lambda row, _: capacities[row])
    assert found.shares.sum(axis=0) == pytest.approx(1)
    assert found.loads.sum() == pytest.approx(loads.sum())
    assert (found.loads.sum(axis=1)[:-1] <= capacities[:-1] * (1 + 1e-9)).all()
    refused = np.array([[not dominates(pool.largest, each) for each in range(9)] for pool in pools])
    assert not (found.shares[refused] > 0).any()


def test_own_shares_are_those_of_the_pools_classes():
    pools = request_pools(by_class(SS=2, LL=2), 0.1)
    shares = own_shares(pools)
    assert shares.sum(axis=0).tolist() == [1.0] * 9
    assert shares[0].tolist() == by_class(SS=1).tolist()
