import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.errors import InvalidInputError
from dynawatt.routing.pools import dominates, eligibility, next_larger
from dynawatt.workload.classes import CLASS_NAMES

SS, SM, SL, MS, MM, ML, LS, LM, LL = range(9)
NINE = [(each,) for each in range(9)]
pool_lists = st.lists(st.frozensets(st.integers(0, 8), min_size=1), min_size=1, max_size=9)


def served(pools, pool):
    return " ".join(CLASS_NAMES[each] for each in np.flatnonzero(eligibility(pools)[pool]))


@pytest.mark.parametrize(
    ("pool", "classes"),
    [
        (SS, "SS"),
        (SL, "SS SM SL"),
        (LS, "SS MS LS"),
        (MM, "SS SM MS MM"),
        (ML, "SS SM SL MS MM ML"),
        (LL, " ".join(CLASS_NAMES)),
    ],
)
def test_a_pool_serves_what_is_longer_in_nothing(pool, classes):
    assert served(NINE, pool) == classes


def test_a_pool_for_several_classes_serves_what_any_of_them_dominates():
    assert served([(SL, LS)], 0) == "SS SM SL MS LS"


def test_dominance_is_an_order():
    for a in range(9):
        assert dominates(a, a)
        for b in range(9):
            assert not (a != b and dominates(a, b) and dominates(b, a))
            for c in range(9):
                assert not (dominates(a, b) and dominates(b, c)) or dominates(a, c)
    assert not dominates(SL, LS)
    assert not dominates(LS, SL)


def test_spilled_load_goes_on_to_longer_outputs_then_inputs():
    chain = {SS: SM, SM: SL, SL: ML, MS: MM, MM: ML, ML: LL, LS: LM, LM: LL, LL: None}
    assert {pool: next_larger(NINE, pool) for pool in range(9)} == chain


def test_spilled_load_passes_over_pools_that_are_not_there():
    pools = [(SS, SM), (LL,), (MS, MM), (SL,)]
    assert [next_larger(pools, pool) for pool in range(4)] == [3, None, 1, 1]


def test_pools_for_the_same_classes_do_not_spill_to_each_other():
    assert next_larger([(SS,), (SS,), (LL,), (LL,)], 0) == 2
    assert next_larger([(SS,), (SS,), (LL,), (LL,)], 2) is None


@given(pool_lists)
def test_spilling_ends_and_never_loses_a_class(pools):
    may_serve = eligibility(pools)
    for start in range(len(pools)):
        pool, larger = start, next_larger(pools, start)
        while larger is not None:
            assert (may_serve[larger] >= may_serve[pool]).all()
            assert may_serve[larger].sum() > may_serve[pool].sum()
            pool, larger = larger, next_larger(pools, larger)
        assert not any(
            (may_serve[each] >= may_serve[pool]).all() and (may_serve[each] > may_serve[pool]).any()
            for each in range(len(pools))
        )


@pytest.mark.parametrize("classes", [(), (9,), (0, -1)])
def test_refuses_pools_for_no_class_or_an_unknown_one(classes):
    with pytest.raises(InvalidInputError, match="pool 1"):
        eligibility([(0,), classes])
