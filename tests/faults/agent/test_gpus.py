"""Drivers that refuse, hang, lose a GPU or start anew."""

import pytest

from dynawatt.sandbox.driver.build import Flavour, ensure_driver
from dynawatt.sandbox.driver.control import Result

from .four_pods import GROUPS, place_four_pods, reclaim
from .ledger import holds, race, until
from .rig import APPLICATIONS, LOCK

pytestmark = pytest.mark.integration

FOLLOWED_S = 3.0
"""How soon a changed claim must be followed while something else is wrong."""
RETRY_S = 30.0


@pytest.fixture
def rig(new_rig):
    return place_four_pods(new_rig())


def members(groups):
    return [gpu for group in groups for gpu in GROUPS[group]]


def test_a_gpu_that_refuses(rig, trial, thorough):
    rig.fail(LOCK, 1, result=Result.UNKNOWN)
    rig.fail(LOCK, 3, result=Result.NO_PERMISSION)
    for function in (LOCK, APPLICATIONS):
        rig.fail(function, 5, result=Result.NOT_SUPPORTED)
    reclaim(rig, 0, 1, 2, 3, ceiling_mhz=900)
    kinds = {0: "an error", 1: "NO_PERMISSION", 2: "NOT_SUPPORTED"}
    race(
        {
            trial(
                f"one GPU of a TP group refuses with {kind}", "the whole group at default", FOLLOWED_S
            ): lambda group=group: rig.at_default(*GROUPS[group])
            for group, kind in kinds.items()
        }
        | {trial("the other group at the same time", "its claim is followed", FOLLOWED_S): lambda: rig.at(900, 6, 7)}
    )
    until(lambda: rig.cluster.condition()[0] == "False")
    assert rig.agent.metric("dynawatt_clock_set_failures_total", command="lock", reason="NoPermission") == 1
    holds(lambda: rig.at_default(*members(range(3))) and rig.at(900, 6, 7), for_s=2.0)
    rig.driver.restore()
    if thorough:
        back = trial("it refuses no more", "tried again, the group governed", RETRY_S + 3.0)
        back.until(lambda: rig.at(900, 0, 1, 2, 3))


def test_a_driver_without_locked_clocks(new_rig, trial):
    rig = new_rig(library=ensure_driver(flavour=Flavour.OLD))
    rig.start()
    rig.place("pod", 0, 1, ceiling_mhz=900)
    used = trial("driver without locked clocks", "governed by application clocks", FOLLOWED_S)
    used.until(lambda: [rig.driver.application_mhz(uuid) for uuid in rig.uuids[:2]] == [900, 900])
    assert rig.at_default(*rig.gpus[2:])
    gone = trial("its pod deleted", "at default", 2.0)
    rig.remove("pod")
    gone.begin()
    gone.until(rig.all_default)


def test_a_lost_gpu(rig, trial, thorough):
    others = trial("one GPU falls off the bus", "claims of the others are followed", FOLLOWED_S)
    rig.driver.set_lost(rig.uuids[1])
    reclaim(rig, 0, 1, 2, 3, ceiling_mhz=900)
    others.begin()
    others.until(lambda: rig.at(900, *members((1, 2, 3))))
    group = trial("one GPU falls off the bus", "the others of its group at default", FOLLOWED_S)
    group.until(lambda: rig.at_default(0))
    if thorough:
        told = trial("one GPU falls off the bus", "GPUNode says that it is unhealthy", 12.0)
        told.until(lambda: rig.cluster.condition("GPUsHealthy") == ("False", "GPUUnhealthy"))
    back = trial("a lost GPU answers again, still locked", "at default or governed", FOLLOWED_S)
    rig.driver.set_lost(rig.uuids[1], False)
    back.begin()
    back.until(lambda: rig.at_default(0, 1) or rig.at(900, 0, 1))


def test_a_driver_that_starts_anew(rig, trial):
    energy_j = rig.agent.metric("dynawatt_node_energy_joules_total")
    again = trial("driver reloaded: no lock, counters at 0", "claims are followed again", FOLLOWED_S)
    rig.driver.reload()
    again.begin()
    again.until(lambda: rig.at(1200, *rig.gpus))
    counted = trial("driver reloaded: no lock, counters at 0", "exported joules go on rising", FOLLOWED_S)
    counted.until(lambda: (rig.agent.metric("dynawatt_node_energy_joules_total") or 0) > (energy_j or 0))
