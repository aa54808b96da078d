"""kill -9, whenever: the next start leaves nothing behind."""

import random
import threading
import time

import pytest

from .ledger import until
from .rig import LOCK

pytestmark = pytest.mark.integration

ADMIN_GPU = 7
ADMIN_MHZ = 1005
GPUS = range(7)
CEILINGS_MHZ = (600, 900, 1200, 1500, 1800)


class Churn(threading.Thread):
    """Claims that come, change and go, and GPUs that are handed from pod to pod, until stopped."""

    def __init__(self, rig, seed):
        super().__init__(name="churn")
        self._rig = rig
        self._random = random.Random(seed)
        self._turn = threading.Lock()
        self._ending = threading.Event()
        self._names = 0
        self._pods = []
        self.live = {}
        """The ceiling that each GPU with a claim may have."""
        for gpus in ((0, 1), (2,), (3, 4), (5,)):
            self._arrive(gpus)

    def run(self):
        while not self._ending.wait(0.02):
            with self._turn:
                self.step()

    def paused(self):
        """Nothing changes while this is held."""
        return self._turn

    def stop(self):
        self._ending.set()
        self.join()

    def step(self):
        name, gpus = pod = self._random.choice(self._pods)
        match self._random.randrange(4):
            case 0:
                self._pods.remove(pod)
                self._rig.remove(name)
                self._note(gpus, None)
                self._arrive(gpus)
            case 1:
                self._rig.cluster.annotate(name, None)
                self._note(gpus, None)
            case _:
                ceiling_mhz = self._random.choice(CEILINGS_MHZ)
                self._rig.reclaim(name, ceiling_mhz)
                self._note(gpus, ceiling_mhz)

    def _arrive(self, gpus):
        self._names += 1
        name = f"pod-{self._names}"
        ceiling_mhz = self._random.choice((None, *CEILINGS_MHZ))
        self._rig.place(name, *gpus, ceiling_mhz=ceiling_mhz)
        self._pods.append((name, gpus))
        self._note(gpus, ceiling_mhz)

    def _note(self, gpus, ceiling_mhz):
        self.live = {**self.live, **dict.fromkeys(gpus, ceiling_mhz)}


@pytest.fixture
def rig(new_rig):
    return new_rig()


@pytest.fixture
def churn(rig):
    churn = Churn(rig, seed=7)
    churn.start()
    yield churn
    churn.stop()


def die_at_a_random_moment(rig, agent, chance):
    until(lambda: not rig.at_default(*GPUS))
    time.sleep(chance.uniform(0.0, 1.5))
    agent.kill()


def die_while_starting(rig, agent, chance):
    time.sleep(chance.uniform(0.0, 1.5))
    agent.kill()


def die_within_a_lock_call(rig, agent, chance):
    until(agent.is_ready)
    rig.driver.fail(LOCK, delay_s=0.05)
    before = rig.driver.calls(LOCK)
    until(lambda: rig.driver.calls(LOCK) > before)
    time.sleep(chance.uniform(0.0, 0.06))
    agent.kill()
    rig.driver.restore()


def is_followed(rig, gpu, ceiling_mhz):
    return rig.at_default(gpu) if ceiling_mhz is None else rig.at(ceiling_mhz, gpu)


def test_after_kill_9_the_next_start_leaves_no_gpu_locked_without_a_live_claim(rig, churn, trial, thorough):
    rig.start().kill()  # the first start of all resets what others left; from then on the journal knows
    rig.lock_by_hand(ADMIN_GPU, ADMIN_MHZ)
    commands = rig.commands(ADMIN_GPU)
    chance = random.Random(11)
    ways = (die_at_a_random_moment, die_while_starting, die_within_a_lock_call)
    left_behind = 0
    agent = rig.spawn()
    for number in range(45 if thorough else 4):
        way = ways[number % len(ways)]
        way(rig, agent, chance)
        left_behind += sum(not rig.at_default(gpu) for gpu in GPUS)
        found = trial("kill -9, claims and GPUs changing hands", "after the next start only live claims lock GPUs", 3.0)
        with churn.paused():
            churn.step()  # the dead agent has not heard of this
            found.begin()
            agent = rig.spawn()
            found.until(agent.is_ready)
            wrong = {
                gpu: rig.locked_mhz(gpu)
                for gpu in GPUS
                if not rig.at_default(gpu) and not rig.at(churn.live.get(gpu) or 0, gpu)
            }
        assert not wrong, f"{way.__name__}: {wrong} but {churn.live}"
        kept = trial("the same, a GPU locked by an administrator", "never touched")
        assert rig.locked_mhz(ADMIN_GPU) == (ADMIN_MHZ, ADMIN_MHZ), kept
        assert rig.commands(ADMIN_GPU) == commands
    again = trial("kill -9, claims and GPUs changing hands", "after the last start claims are followed again", 5.0)
    churn.stop()
    again.begin()
    again.until(lambda: all(is_followed(rig, gpu, churn.live.get(gpu)) for gpu in GPUS))
    assert left_behind  # otherwise the rounds have shown nothing
