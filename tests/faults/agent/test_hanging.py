"""Driver calls that never return, or minutes late."""

import pytest

from .four_pods import GROUPS, place_four_pods, reclaim
from .ledger import holds, race, until
from .rig import LOCK, POWER, RESET

pytestmark = pytest.mark.integration

FOLLOWED_S = 3.0
"""How soon a changed claim must be followed while something else is wrong."""
TIMEOUT_S = 2.0
"""Of one lock or reset."""
OTHERS = (2, 3, 4, 5, 6, 7)


@pytest.fixture
def rig(new_rig):
    return place_four_pods(new_rig())


def hang_in_a_reading(rig, gpu):
    rig.fail(POWER, gpu, hang=True)
    until(lambda: rig.agent.metric("dynawatt_gpu_power_watts", gpu_uuid=rig.uuids[gpu]) is None)
    reclaim(rig, 0, ceiling_mhz=600)


def hang_in_a_lock(rig, gpu):
    calls = rig.driver.calls(LOCK, rig.uuids[gpu])
    rig.fail(LOCK, gpu, hang=True)
    reclaim(rig, 0, ceiling_mhz=600)
    until(lambda: rig.driver.calls(LOCK, rig.uuids[gpu]) > calls)


@pytest.mark.parametrize("hang", [hang_in_a_reading, hang_in_a_lock])
def test_a_call_that_hangs(rig, trial, hang):
    fault = f"{hang.__name__.removeprefix('hang_in_a_')} of one GPU hangs"
    hang(rig, 1)
    group = trial(f"{fault}, its claim changes", "the other GPU of its group at default", FOLLOWED_S)
    followed = trial(fault, "claims of the others are followed", FOLLOWED_S)
    reclaim(rig, 1, 2, 3, ceiling_mhz=900)
    race({group: lambda: rig.at_default(0), followed: lambda: rig.at(900, *OTHERS)})
    ready = trial(fault, "/readyz says ready, as cycles go on", 2.0)
    ready.until(rig.agent.is_ready)
    once_more = trial(fault, "claims of the others are followed", FOLLOWED_S)
    reclaim(rig, 1, 2, 3, ceiling_mhz=1050)
    once_more.until(lambda: rig.at(1050, *OTHERS))
    late = trial(f"{fault}, and returns", "the group at default or governed", FOLLOWED_S)
    rig.driver.restore()
    late.until(lambda: rig.at_default(0, 1) or rig.at(600, 0, 1))
    holds(lambda: rig.at_default(0, 1) or rig.at(600, 0, 1), for_s=2.0)


@pytest.mark.thorough
def test_locks_of_several_gpus_that_hang(rig, trial):
    for gpu in (1, 3, 5):
        rig.fail(LOCK, gpu, hang=True)
    fault = "locks of three GPUs of three pods hang"
    followed = trial(fault, "the claim of the fourth is followed", 3 * TIMEOUT_S + 2.0)
    reclaim(rig, 0, 1, 2, 3, ceiling_mhz=900)
    followed.begin()
    followed.until(lambda: rig.at(900, 6, 7) and rig.at_default(0, 2, 4))
    late = trial(f"{fault}, and return", "their groups at default or governed", FOLLOWED_S)
    rig.driver.restore()
    late.until(lambda: all(rig.at_default(*gpus) or rig.at(900, *gpus) for gpus in GROUPS))


@pytest.mark.thorough
def test_all_but_one_gpu_hang_and_the_operator_is_gone(rig, trial):
    rig.fail(RESET, *range(7), hang=True)
    rig.cluster.operator.pause()
    until(lambda: rig.driver.calls(RESET, rig.uuids[0]) > 1)  # one was made at the start
    last = trial("resets of seven GPUs hang, Lease not renewed", "the eighth at default", TIMEOUT_S)
    last.until(lambda: rig.at_default(7))
    assert rig.agent.is_ready()
    back = trial("resets of seven GPUs hang, and return", "all at default", FOLLOWED_S)
    rig.driver.restore()
    back.until(rig.all_default)


@pytest.mark.thorough
def test_all_but_one_gpu_hang_and_all_is_switched_off(rig, trial):
    locks = rig.driver.calls(LOCK)
    rig.fail(LOCK, *range(7), hang=True)
    reclaim(rig, 0, 1, 2, 3, ceiling_mhz=900)
    until(lambda: rig.driver.calls(LOCK) > locks)
    last = trial("locks of seven GPUs hang, switched off", "the eighth at default", TIMEOUT_S + 2.0)
    rig.cluster.switch("false")
    last.until(lambda: rig.at_default(7))


def test_all_but_one_gpu_hang_and_the_agent_ends(rig, trial):
    rig.fail(RESET, *range(7), hang=True)
    last = trial("resets of seven GPUs hang, SIGTERM", "the eighth at default", TIMEOUT_S)
    ended = trial("resets of seven GPUs hang, SIGTERM", "exit code 0, the journal names the seven", 10.0)
    rig.agent.terminate()
    last.until(lambda: rig.at_default(7))
    ended.until(rig.agent.has_ended)
    assert rig.journalled == rig.uuids[:7]
