"""The kubelet is away: clocks are held for a while, then given back."""

import pytest

from dynawatt.agent.view import HOLD_S

from .ledger import holds, race, until

pytestmark = pytest.mark.integration

GPUS = (0, 1)


def go_away(kubelet):
    kubelet.stop()


def hang(kubelet):
    kubelet.delay_s = 3600.0


def talk_garbage(kubelet):
    kubelet.raw = b"\xff" * 500


def come_back(kubelet):
    kubelet.delay_s, kubelet.raw = 0.0, None
    kubelet.stop()
    kubelet.start()


def test_a_kubelet_that_is_away(new_rig, trial):
    faults = {"is gone": go_away, "hangs": hang, "talks garbage": talk_garbage}
    rigs = {what: new_rig() for what in faults}
    agents = [rig.spawn() for rig in rigs.values()]
    for rig, agent in zip(rigs.values(), agents, strict=True):
        until(agent.is_ready)
        rig.place("pod", *GPUS, ceiling_mhz=900)
    until(lambda: all(rig.at(900, *GPUS) for rig in rigs.values()))
    ended = {}
    for what, rig in rigs.items():
        faults[what](rig.kubelet)
        found = trial(f"kubelet {what}", f"held for {HOLD_S:.0f} s, then at default", HOLD_S + 2.0)
        ended[found] = rig.all_default
    holds(lambda: all(rig.at(900, *GPUS) for rig in rigs.values()), for_s=HOLD_S - 3.0)
    race(ended)
    for rig in rigs.values():
        until(lambda rig=rig: rig.cluster.condition() == ("Unknown", "AllocationsUnavailable"))
    assert all(agent.is_ready() for agent in agents)
    back = {}
    for what, rig in rigs.items():
        come_back(rig.kubelet)
        found = trial(f"kubelet {what} no more", "governed again", 3.0)
        back[found] = lambda rig=rig: rig.at(900, *GPUS)
    race(back)
