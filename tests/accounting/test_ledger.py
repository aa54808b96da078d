import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.accounting.counterfactual import Counterfactual, Moment
from dynawatt.accounting.fleets import Draw
from dynawatt.accounting.ledger import Bands, SavingLedger, Source
from dynawatt.accounting.metering import EnergySpan

AS_FOUND, TUNED = Counterfactual.AS_FOUND, Counterfactual.TUNED_STATIC
BANDS = Bands(clock=0.4, level=0.1)


def moment(used_w=600.0, found_w=1000.0, tuned_w=800.0, gpus=(4, 4, 4), overloaded=()):
    instead = {AS_FOUND: Draw(found_w, gpus[1]), TUNED: Draw(tuned_w, gpus[2])}
    return Moment(Draw(used_w, gpus[0]), instead, frozenset(overloaded), 70.0)


def kept(looks, **options):
    """A ledger that took looks of (time, moment, joules by the meter since the look before, or None)."""
    ledger = SavingLedger(**options)
    before_s = 0.0
    for now_s, now, joules in looks:
        ledger.observe(now_s, now, None if joules is None else EnergySpan(before_s, now_s, joules), BANDS)
        before_s = now_s if joules is not None else before_s
    return ledger


def test_without_agents_both_energies_are_modelled():
    ledger = kept([(10.0 * step, moment(), None) for step in range(61)], wait_s=60.0)
    saving = ledger.savings[AS_FOUND]
    assert (saving.energy_j, saving.counterfactual_j) == (360_000.0, 600_000.0)
    assert saving.band_j == pytest.approx(0.4 * 240_000.0)
    assert ledger.savings[TUNED].saved_j == pytest.approx(120_000.0)
    assert ledger.used_j == {Source.MODELLED: 360_000.0, Source.MEASURED: 0.0}
    assert ledger.known_s == {Source.MODELLED: 600.0, Source.MEASURED: 0.0}


def test_measured_energy_takes_the_place_of_the_modelled_one():
    ledger = kept([(0.0, moment(), 0.0), (10.0, moment(), 5000.0), (20.0, moment(), 7000.0)])
    saving = ledger.savings[AS_FOUND]
    assert (saving.energy_j, saving.counterfactual_j, saving.band_j) == (12_000.0, 20_000.0, 2000.0)
    assert ledger.used_j == {Source.MODELLED: 0.0, Source.MEASURED: 12_000.0}


def test_a_complete_reading_may_come_late():
    ledger = kept([(0.0, moment(), 0.0), (10.0, moment(), None), (20.0, moment(), None), (30.0, moment(), 15_000.0)])
    assert ledger.used_j[Source.MEASURED] == 15_000.0
    assert ledger.savings[AS_FOUND].counterfactual_j == 30_000.0


def test_one_that_comes_too_late_is_not_counted_on_top_of_the_model():
    looks = [(0.0, moment(), 0.0), *((10.0 * n, moment(), None) for n in range(1, 8)), (80.0, moment(), 99_999.0)]
    ledger = kept([*looks, (90.0, moment(), 5000.0)], wait_s=40.0)
    assert ledger.used_j == {Source.MODELLED: 80 * 600.0, Source.MEASURED: 5000.0}
    assert ledger.savings[AS_FOUND].counterfactual_j == 90_000.0


def test_an_agent_that_began_anew_leaves_the_span_to_the_model():
    ledger = SavingLedger()
    for now_s, joules in ((0.0, 0.0), (10.0, None), (20.0, 4000.0)):
        ledger.observe(now_s, moment(), EnergySpan(now_s - 10, now_s, joules), BANDS)
    assert ledger.used_j == {Source.MODELLED: 6000.0, Source.MEASURED: 4000.0}


def test_nothing_is_invented_for_a_pause():
    ledger = kept([(0.0, moment(), 0.0), (10.0, moment(), 6000.0), (1000.0, moment(), 1e9), (1010.0, moment(), 6000.0)])
    assert ledger.known_s[Source.MEASURED] == 20.0
    assert ledger.savings[AS_FOUND].counterfactual_j == 20_000.0
    assert sum(ledger.used_j.values()) == 12_000.0


def test_what_is_open_when_a_pause_begins_is_booked():
    ledger = kept([(0.0, moment(), 0.0), (10.0, moment(), None), (1000.0, moment(), None), (1010.0, moment(), 9e9)])
    assert ledger.used_j == {Source.MODELLED: 12_000.0, Source.MEASURED: 0.0}


def test_a_clock_that_was_set_back_is_a_pause():
    ledger = kept([(100.0, moment(), 0.0), (50.0, moment(), 0.0), (60.0, moment(), 6000.0)])
    assert sum(ledger.known_s.values()) == 10.0


def test_watts_change_evenly_between_two_looks():
    ledger = kept([(0.0, moment(found_w=0.0), 0.0), (10.0, moment(found_w=1000.0), 0.0)])
    assert ledger.savings[AS_FOUND].counterfactual_j == 5000.0


def test_released_gpus_are_charged_also_where_the_rest_is_measured():
    ledger = kept([(0.0, moment(gpus=(2, 4, 4)), 0.0), (10.0, moment(gpus=(2, 4, 4)), 3000.0)])
    assert ledger.savings[AS_FOUND].energy_j == 3000.0 + 2 * 70.0 * 10.0
    assert ledger.savings[AS_FOUND].counterfactual_j == 10_000.0


def test_a_counterfactual_that_appears_counts_from_then_on():
    first = Moment(Draw(600.0, 4), {TUNED: Draw(800.0, 4)}, frozenset(), 70.0)
    ledger = kept([(0.0, first, 0.0), (10.0, first, 6000.0), (20.0, moment(), 6000.0), (30.0, moment(), 6000.0)])
    assert ledger.savings[AS_FOUND].counterfactual_j == 10_000.0
    assert ledger.savings[AS_FOUND].energy_j == 6000.0
    assert ledger.savings[TUNED].counterfactual_j == 16_000.0  # the look at which they changed is a pause


def test_time_in_which_a_counterfactual_would_have_missed_the_slo():
    busy = moment(overloaded=[AS_FOUND])
    ledger = kept([(0.0, busy, 0.0), (10.0, busy, 1.0), (20.0, moment(), 1.0)])
    assert ledger.overloaded_s == {AS_FOUND: 15.0, TUNED: 0.0}


@given(
    st.lists(
        st.tuples(st.floats(0, 5e3), st.floats(0, 5e3), st.booleans(), st.sampled_from([5.0, 10.0, 45.0, 500.0])),
        min_size=2,
        max_size=40,
    )
)
def test_time_and_energy_are_booked_once(looks):
    ledger, now_s, covered_s, found_j, before = SavingLedger(), 0.0, 0.0, 0.0, None
    for used_w, found_w, read, step_s in looks:
        now_s += step_s
        now = moment(used_w=used_w, found_w=found_w)
        ledger.observe(now_s, now, EnergySpan(now_s, now_s, 1.0) if read else None, BANDS)
        if before is not None and step_s < 60:
            covered_s += step_s
            found_j += step_s * (before + found_w) / 2
        before = found_w
    ledger.observe(now_s + 1e6, moment(), None, BANDS)  # books what is open
    assert sum(ledger.known_s.values()) == pytest.approx(covered_s)
    saving = ledger.savings.get(AS_FOUND)
    assert (saving.counterfactual_j if saving else 0.0) == pytest.approx(found_j)
    assert (saving.energy_j if saving else 0.0) == pytest.approx(sum(ledger.used_j.values()))
