"""The operator is gone, cannot be reached, or is switched off: claims end by themselves."""

from datetime import timedelta

import pytest

from .cluster import LEASE_S
from .ledger import holds, until
from .proxy import Line

pytestmark = pytest.mark.integration

AFTER_LEASE_S = LEASE_S + 2.0


def governed(rig):
    rig.spawn()
    for gpu in rig.gpus:
        rig.place(f"pod-{gpu}", gpu, ceiling_mhz=900)
    until(lambda: rig.at(900, *rig.gpus))
    return rig


def followed(rig):
    return lambda: rig.at(900, *rig.gpus)


@pytest.fixture(scope="module")
def shared_rig(new_rig):
    return governed(new_rig())


@pytest.fixture
def rig(shared_rig):
    yield shared_rig
    shared_rig.cluster.operator.wall_clock_error = timedelta()
    shared_rig.cluster.operator.resume()
    until(followed(shared_rig))


def test_a_lease_that_is_not_renewed(rig, trial):
    ended = trial("Lease not renewed any more", "held for a while, then all at default", AFTER_LEASE_S)
    rig.cluster.operator.pause()
    ended.begin()
    holds(followed(rig), for_s=LEASE_S / 2)
    ended.until(rig.all_default)
    until(lambda: rig.cluster.condition() == ("False", "LeaseStale"))
    again = trial("Lease renewed again", "governed again", 3.0)
    rig.cluster.operator.resume()
    again.until(followed(rig))


def test_a_lease_that_is_deleted(rig, trial):
    ended = trial("Lease deleted", "all at default", AFTER_LEASE_S)
    rig.cluster.operator.pause()
    rig.cluster.operator.delete_lease()
    ended.begin()
    ended.until(rig.all_default)
    again = trial("Lease made anew", "governed again", 4.0)
    rig.cluster.operator.create_lease()
    rig.cluster.operator.resume()
    again.until(followed(rig))


def test_a_wall_clock_that_jumps(rig, trial, thorough):
    for years in (30, -30) if thorough else (30,):
        trial("Lease renewed with a time years ahead or back", "nothing changes")
        rig.cluster.operator.wall_clock_error = timedelta(days=365 * years)
        holds(followed(rig), for_s=LEASE_S + 1.0)
    ended = trial("not renewed any more after such a jump", "all at default", AFTER_LEASE_S)
    rig.cluster.operator.pause()
    ended.begin()
    ended.until(rig.all_default)


@pytest.mark.parametrize(
    "value", ["flase", *(pytest.param(value, marks=pytest.mark.thorough) for value in ("false", "0"))]
)
def test_the_switch(rig, trial, value):
    off = trial("switched off, also with a typing error", "all at default", 2.0)
    rig.cluster.switch(value)
    off.begin()
    off.until(rig.all_default)
    until(lambda: rig.cluster.condition() == ("False", "ClocksSwitchedOff"))
    on = trial("switched on again", "governed again", 3.0)
    rig.cluster.switch("true" if value == "false" else None)
    on.begin()
    on.until(followed(rig))


@pytest.mark.parametrize(
    ("line", "reconnected_s"),
    [
        (Line.REFUSED, 5.0),
        # A watch of the Lease that is silent for 12 s counts as dead.
        pytest.param(Line.SILENT, 15.0, marks=pytest.mark.thorough),
    ],
)
def test_an_api_server_out_of_reach(new_rig, trial, line, reconnected_s):
    rig = governed(new_rig(behind_proxy=True))
    fault = f"API server out of reach, connections {line.name.lower()}"
    ended = trial(fault, "held until the Lease ends, then all at default", AFTER_LEASE_S)
    rig.proxy.set(line)
    holds(followed(rig), for_s=LEASE_S / 2)
    ended.until(rig.all_default)
    assert rig.agent.is_ready()
    again = trial(f"{fault}, and back", "governed again", reconnected_s)
    rig.proxy.set(Line.OPEN)
    again.until(followed(rig))
