"""SIGTERM, also while a driver call hangs; ``reset-all`` for when there is no agent."""

import pytest

from .ledger import until
from .rig import LOCK, POWER, RESET

pytestmark = pytest.mark.integration

HUNG = 3
OTHERS = (0, 1, 2, 4, 5, 6, 7)


@pytest.fixture
def rig(new_rig):
    """Every GPU is governed."""
    rig = new_rig()
    rig.spawn()
    rig.place("pair", 0, 1, ceiling_mhz=1200)
    for gpu in rig.gpus[2:]:
        rig.place(f"pod-{gpu}", gpu, ceiling_mhz=900)
    until(lambda: rig.at(1200, 0, 1) and rig.at(900, *rig.gpus[2:]))
    return rig


def test_sigterm_resets_all(rig, trial):
    reset = trial("SIGTERM, 8 GPUs governed", "all at default", 2.0)
    ended = trial("SIGTERM, 8 GPUs governed", "exit code 0, GPUNode says AgentStopped", 5.0)
    rig.reclaim("pair", 900)  # commands are under way
    reset.begin()
    ended.begin()
    rig.agent.terminate()
    reset.until(rig.all_default)
    ended.until(rig.agent.has_ended)
    assert rig.cluster.condition()[1] == "AgentStopped"
    assert "Traceback" not in rig.log.read_text()


def end_with_one_hung(rig, trial, fault):
    reset = trial(fault, "the others at default", 5.0)
    ended = trial(fault, "exit code 0", 10.0)
    rig.agent.terminate()
    reset.until(lambda: rig.at_default(*OTHERS))
    ended.until(rig.agent.has_ended)


@pytest.mark.parametrize("function", [RESET, pytest.param(POWER, marks=pytest.mark.thorough)])
def test_sigterm_while_a_call_hangs(rig, trial, function):
    fault = f"SIGTERM while {function} of one GPU hangs"
    calls = rig.driver.calls(function, rig.uuids[HUNG])
    rig.fail(function, HUNG, hang=True)
    if function == POWER:
        until(lambda: rig.driver.calls(function, rig.uuids[HUNG]) > calls)
    end_with_one_hung(rig, trial, fault)
    assert not rig.at_default(HUNG)
    assert rig.journalled == [rig.uuids[HUNG]]
    rig.driver.restore()
    cured = trial(fault, "the journal names it, the next start resets it", 3.0)
    rig.cluster.operator.pause()
    rig.spawn()
    cured.until(rig.all_default)


@pytest.mark.thorough
def test_sigterm_while_a_lock_hangs(rig, trial):
    before = rig.driver.calls(LOCK, rig.uuids[HUNG])
    rig.fail(LOCK, HUNG, hang=True)
    rig.reclaim(f"pod-{HUNG}", 600)
    until(lambda: rig.driver.calls(LOCK, rig.uuids[HUNG]) > before)
    end_with_one_hung(rig, trial, "SIGTERM while a lock call of one GPU hangs")
    assert rig.journalled == [rig.uuids[HUNG]]


def test_reset_all(rig, trial):
    refused = trial("reset-all while an agent runs", "refused, nothing touched")
    done = rig.run("reset-all", **{"journal-dir": rig.journal})
    assert (done.returncode, done.stdout) == (1, ""), refused
    assert "in use by another agent" in done.stderr
    assert rig.at(1200, 0, 1)

    rig.agent.kill()
    assert rig.at(1200, 0, 1)
    reset = trial("reset-all after kill -9", "all GPUs at default, exit code 0", 5.0)
    reset.begin()
    done = rig.run("reset-all", **{"journal-dir": rig.journal})
    assert done.returncode == 0, done.stderr
    reset.until(rig.all_default)
    assert rig.journalled == []

    partly = trial("reset-all while one GPU refuses", "the others at default, it is named, exit code 1", 10.0)
    rig.lock_by_hand(0, 900)
    rig.lock_by_hand(1, 900)
    rig.fail(RESET, 0, result=999)
    partly.begin()
    done = rig.run("reset-all", **{"journal-dir": rig.journal})
    assert done.returncode == 1
    assert rig.uuids[0] in done.stderr
    assert not rig.at_default(0)
    partly.until(lambda: rig.at_default(*rig.gpus[1:]))
    assert rig.journalled == [rig.uuids[0]]
