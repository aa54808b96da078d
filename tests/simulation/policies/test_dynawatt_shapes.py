from math import inf

import numpy as np
import pytest

from dynawatt.errors import InvalidInputError
from dynawatt.simulation.policies.dynawatt_shapes import fewest_gpus, least_watts, shape_choices
from dynawatt.simulation.settings import QueueOrder
from dynawatt.simulation.study import Knobs, Study

from .hand_surfaces import FAST_MHZ, RELEASED_W, SLOW_MHZ, hand_study, hand_surface, two_degrees

DEADLINE = QueueOrder.DEADLINE
NOTHING = {"slow": (0.0, 100.0, 250.0), "fast": (0.0, 130.0, 630.0)}
DEGREES = {1: hand_surface(1), 2: hand_surface(2, slow=(9.0, 200.0, 470.0), fast=(16.0, 260.0, 1060.0))}


def both_degrees(**changes):
    return hand_study(DEGREES, profiles=two_degrees(), **changes)


def by_hand(rate_rps):
    """Least watts beyond released GPUs over every degree, number of replicas and clock of one server."""
    least = inf
    for gpus, rows in (
        (1, ((5.0, 100.0, 250.0), (10.0, 130.0, 630.0))),
        (2, ((9.0, 200.0, 470.0), (16.0, 260.0, 1060.0))),
    ):
        for count in range(1, 8 // gpus + 1):
            for carried_rps, idle_w, busy_w in rows:
                if rate_rps <= count * carried_rps:
                    watts = idle_w + (busy_w - idle_w) * rate_rps / count / carried_rps
                    least = min(least, count * (watts - gpus * RELEASED_W))
    return least


def test_every_degree_is_a_choice_within_the_inventory():
    choices = shape_choices(both_degrees(servers=2), DEADLINE)
    assert [(choice.name, choice.curve.gpus, choice.curve.most_replicas) for choice in choices] == [
        ("tp1", 1, 16),
        ("tp2", 2, 8),
    ]
    assert all(choice.shape.settings.queue_order is DEADLINE for choice in choices)


def test_least_watts_are_those_found_by_hand():
    rates_rps = np.array([0.0, 0.5, 4.0, 5.0, 9.5, 17.0, 40.0, 63.0, 79.9, 81.0])
    choices = shape_choices(both_degrees(), DEADLINE)
    assert least_watts(choices, rates_rps) == pytest.approx([by_hand(rate) for rate in rates_rps])
    assert by_hand(81.0) == inf


@pytest.mark.parametrize(("rate_rps", "gpus"), [(0.0, 1), (10.0, 1), (10.1, 2), (26.0, 3), (63.0, 7), (80.1, inf)])
def test_the_fewest_gpus_are_those_of_the_smallest_fleet_of_any_degree(rate_rps, gpus):
    assert fewest_gpus(shape_choices(both_degrees(), DEADLINE), rate_rps) == gpus


def test_without_the_clock_there_is_the_default_one_alone():
    study = hand_study(knobs=Knobs(settings=False, clock=False))
    [choice] = shape_choices(study, DEADLINE)
    assert choice.curve.clocks_mhz == (FAST_MHZ,)
    assert choice.curve.power_w(1, 5.0) == pytest.approx(380.0)
    [free] = shape_choices(hand_study(), DEADLINE)
    assert free.curve.power_w(1, 5.0) == pytest.approx(250.0)


def test_without_the_shape_every_replica_has_the_degree_of_the_static_fleet():
    study = both_degrees(knobs=Knobs(settings=False, shape=False), tensor_parallel=2)
    assert [choice.name for choice in shape_choices(study, DEADLINE)] == ["tp2"]


def test_settings_are_tuned_unless_that_is_switched_off(monkeypatch):
    asked = []

    def efficient(study, degree, order, classes):
        asked.append((degree, order, tuple(classes)))

    monkeypatch.setattr(Study, "efficient", efficient)
    [choice] = shape_choices(hand_study(), DEADLINE)
    assert choice.shape.settings == hand_study().base_settings(None, DEADLINE)
    assert asked == []
    with pytest.raises(InvalidInputError, match="no number of GPUs per replica meets it under any load"):
        shape_choices(hand_study(knobs=Knobs()), DEADLINE, [0, 4])
    assert asked == [(1, DEADLINE, (0, 4))]


def test_a_shape_that_carries_nothing_is_no_choice():
    only_two = hand_study({1: hand_surface(1, **NOTHING), 2: DEGREES[2]}, profiles=two_degrees())
    assert [choice.name for choice in shape_choices(only_two, DEADLINE)] == ["tp2"]
    with pytest.raises(InvalidInputError, match="no number of GPUs per replica meets it under any load"):
        shape_choices(hand_study({1: hand_surface(1, **NOTHING)}), DEADLINE)


def test_a_claim_spans_the_surface_and_is_made_once():
    [choice] = shape_choices(hand_study(), DEADLINE)
    claim = choice.governed(3)
    assert (claim.floor_mhz, claim.ceiling_mhz) == (SLOW_MHZ, FAST_MHZ)
    assert choice.governed(3) is claim
    assert [row.clock_mhz for row in claim.table.rows] == [SLOW_MHZ, FAST_MHZ]
