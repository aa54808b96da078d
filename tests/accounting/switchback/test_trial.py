import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.accounting.switchback.estimate import FEWEST_PAIRS
from dynawatt.accounting.switchback.schedule import CARRY_OVER_S, PERIOD_S, Schedule
from dynawatt.accounting.switchback.trial import SwitchbackTrial
from dynawatt.errors import InvalidInputError

SCHEDULE = Schedule("6f1f0f43-9f53-4c6e-8d3b-1b7f7f2a1a01", 50)
START_S = 1_760_000_000.0
FLEET = ("tp4", 3)
STEP_S = 10.0


def pair_start_s(schedule=SCHEDULE):
    """When the first period of a pair begins, with the time before it uncounted."""
    phase = schedule.at(START_S)
    while schedule.at(phase.end_s + 1).pair == phase.pair:
        phase = schedule.at(phase.end_s + 1)
    return phase.end_s


def fed(trial, start_s, seconds, *, step_s=STEP_S, power=None, fleet=FLEET, clock_off=None, schedule=SCHEDULE):
    """Let it see looks every ten seconds; by default 1000 W with the clock off and 800 W with it on."""
    looks = start_s + np.arange(0.0, seconds + step_s / 2, step_s)
    for before_s, now_s in pairwise(looks):
        off = schedule.at(now_s).clock_off
        watts = power(now_s, off) if power else 1000.0 if off else 800.0
        load = None if watts is None else 5.0
        trial.observe(
            schedule,
            before_s,
            now_s,
            power_w=watts,
            load=load,
            fleet=fleet(now_s) if callable(fleet) else fleet,
            clock_off=off if clock_off is None else clock_off(now_s, off),
        )
    return trial


def test_half_a_day_tells_the_saving():
    trial = fed(SwitchbackTrial(), START_S, 12 * 3600)
    assert trial.pairs >= 70
    assert trial.saving.ratio == pytest.approx(0.2)
    assert trial.saving.is_certain
    assert trial.progress == f"{trial.pairs} pairs of periods were compared"


def test_before_that_it_says_how_much_is_missing():
    trial = SwitchbackTrial()
    assert (trial.saving, trial.progress) == (None, "0 of at least 12 pairs of periods were compared")
    fed(trial, pair_start_s(), 2 * PERIOD_S * (FEWEST_PAIRS - 1) + STEP_S)
    assert (trial.saving, trial.progress) == (None, "11 of at least 12 pairs of periods were compared")
    fed(trial, pair_start_s() + 2 * PERIOD_S * (FEWEST_PAIRS - 1), 2 * PERIOD_S + STEP_S)
    assert trial.saving.pairs == 12


def test_what_happens_soon_after_a_switch_does_not_count():
    def overshooting(now_s, off):
        late = now_s - STEP_S - SCHEDULE.at(now_s).start_s < CARRY_OVER_S
        return 9999.0 if late else 1000.0 if off else 800.0

    trial = fed(SwitchbackTrial(), START_S, 12 * 3600, power=overshooting)
    assert trial.saving.ratio == pytest.approx(0.2)


@pytest.mark.parametrize(
    "changes",
    [
        {"fleet": lambda now_s: ("tp4", 3 if now_s < pair_start_s() + PERIOD_S else 4)},
        {"clock_off": lambda now_s, off: False},
        {"clock_off": lambda now_s, off: not off},
        {"power": lambda now_s, off: None},
        {"power": lambda now_s, off: None if now_s < pair_start_s() + 0.6 * PERIOD_S else 1.0},
        {"power": lambda now_s, off: float("nan")},
        {"step_s": 400.0},
    ],
)
def test_pairs_that_cannot_be_compared_are_dropped(changes):
    start_s = pair_start_s()
    assert fed(SwitchbackTrial(), start_s, 2 * PERIOD_S + STEP_S).pairs == 1
    assert fed(SwitchbackTrial(), start_s, 2 * PERIOD_S + STEP_S, **changes).pairs == 0


def test_a_fleet_that_changes_between_two_pairs_spoils_none():
    start_s = pair_start_s()
    trial = fed(SwitchbackTrial(), start_s, 4 * PERIOD_S + STEP_S, fleet=lambda now_s: now_s > start_s + 2 * PERIOD_S)
    assert trial.pairs == 2


def test_a_few_missing_looks_do_no_harm():
    start_s = pair_start_s()
    trial = fed(
        SwitchbackTrial(), start_s, 2 * PERIOD_S + STEP_S, power=lambda now_s, off: None if now_s % 100 < 10 else 7.0
    )
    assert trial.pairs == 1


def test_a_pair_that_was_begun_before_a_restart_is_dropped():
    start_s = pair_start_s()
    first = fed(SwitchbackTrial(), start_s, 1.5 * PERIOD_S)
    second = fed(SwitchbackTrial.from_dict(first.to_dict()), start_s + 1.5 * PERIOD_S, 0.5 * PERIOD_S + STEP_S)
    assert second.pairs == 0


def test_without_a_share_nothing_is_compared():
    assert fed(SwitchbackTrial(), START_S, 6 * 3600, schedule=Schedule("svc", 0)).pairs == 0


def test_it_remembers_only_so_much():
    trial = fed(SwitchbackTrial(), START_S, 5 * 86_400, step_s=24.0)
    assert trial.pairs == 500
    old = fed(SwitchbackTrial(), START_S, 86_400, step_s=24.0)
    fed(old, START_S + 40 * 86_400, 3600, step_s=24.0)
    assert old.pairs <= 6


def test_state_goes_through_json_unchanged():
    trial = fed(SwitchbackTrial(), START_S, 12 * 3600, power=lambda now_s, off: 900.0 + now_s % 7 + 100 * off)
    again = SwitchbackTrial.from_dict(json.loads(json.dumps(trial.to_dict())))
    assert (again.saving, again.pairs) == (trial.saving, trial.pairs)
    assert again.to_dict() == trial.to_dict()


@pytest.mark.parametrize(
    "state",
    [{}, {"pairs": 3}, {"pairs": [3]}, {"pairs": [[1, 2, 3]]}, {"pairs": [["a"] * 5]}, {"pairs": [[1e999] * 5]}],
)
def test_state_that_is_none_is_refused(state):
    with pytest.raises(InvalidInputError, match="state of a switchback"):
        SwitchbackTrial.from_dict(state)


@given(
    st.lists(
        st.tuples(
            st.floats(-50, 700), st.one_of(st.none(), st.floats(allow_nan=True)), st.booleans(), st.integers(0, 1)
        ),
        max_size=60,
    )
)
def test_whatever_is_observed_it_does_not_fail(looks):
    trial, now_s = SwitchbackTrial(), START_S
    for step_s, watts, off, fleet in looks:
        trial.observe(SCHEDULE, now_s, now_s + step_s, power_w=watts, load=1.0, fleet=fleet, clock_off=off)
        now_s += step_s
    SwitchbackTrial.from_dict(trial.to_dict())
