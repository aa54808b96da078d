import asyncio
import multiprocessing
import os
import signal
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from dynawatt.adapters.profile_files import find_replica
from dynawatt.adapters.surface_cache import SurfaceCache
from dynawatt.controller import surfaces
from dynawatt.controller.surfaces import SurfaceStore
from dynawatt.simulation.settings import EngineSettings
from dynawatt.simulation.surface_question import SurfaceQuestion
from dynawatt.workload.mix import LengthMix
from dynawatt.workload.objectives import LatencyObjectives

REPLICA = find_replica("meta-llama/Llama-3.1-8B-Instruct", "h100-sxm", 1)


def mix(inputs, outputs=20):
    return LengthMix(np.full(50, inputs), np.full(50, outputs))


QUESTION = SurfaceQuestion(
    replica=REPLICA,
    settings=EngineSettings(8192, 64, REPLICA.kv_capacity_tokens),
    mix=mix(200),
    cv=1.09,
    objectives=LatencyObjectives(((None, 5.0),), 0.5),
    attainments=(0.99,),
    clocks_mhz=(1980,),
    fleet_sizes=(1,),
    requests=200,
)
# More than the profile covers, which only the simulation in the worker finds out.
WRONG = replace(QUESTION, settings=replace(QUESTION.settings, max_num_seqs=100_000, max_num_batched_tokens=100_000))


class Clock:
    now_s = 1000.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def store(clock):
    store = SurfaceStore(now_s=clock)
    yield store
    store.close()


async def wait(check):
    for _ in range(600):
        if found := check():
            return found
        await asyncio.sleep(0.1)
    raise AssertionError("not so after 60 s")


async def failure(store, question):
    """What building it raises, once it has."""

    def failed():
        try:
            assert store.get(question) is None
        except Exception as error:
            return error
        return None

    return await wait(failed)


def workers():
    return {process.pid for process in multiprocessing.active_children()}


async def test_a_failure_is_told_and_tried_again_ever_more_seldom(store, clock):
    before = workers()
    error = await failure(store, WRONG)
    for pause_s in (10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 600.0, 600.0):
        clock.now_s += pause_s - 0.1
        with pytest.raises(type(error)):
            store.get(WRONG)
        clock.now_s += 0.2
        assert store.get(WRONG) is None  # under way
        await failure(store, WRONG)
    surface = await wait(lambda: store.get(QUESTION))
    assert surface.clocks_mhz == [1980]
    await wait(lambda: len(workers() - before) == 1)  # the workers of the failures are gone


async def test_a_failure_does_not_keep_others_from_their_surfaces(store):
    await failure(store, WRONG)
    assert await wait(lambda: store.get(QUESTION))
    with pytest.raises(Exception, match="100000"):
        store.get(WRONG)


async def test_a_dead_worker_is_replaced_for_every_service(store):
    before = workers()
    assert store.get(QUESTION) is None
    [pid] = await wait(lambda: workers() - before)
    os.kill(pid, signal.SIGKILL)
    # The service that asked may be gone by then; another one asks.
    assert await wait(lambda: store.get(replace(QUESTION, seed=2)))
    with pytest.raises(BrokenProcessPool):
        store.get(QUESTION)


async def test_one_at_a_time_and_each_once(store):
    other = replace(QUESTION, cv=2.0)
    assert store.get(QUESTION) is None
    assert store.get(other) is None
    first = await wait(lambda: store.get(QUESTION))
    second = await wait(lambda: store.get(other))
    assert store.get(QUESTION) is first
    assert store.get(other) is second


async def test_the_next_bin_serves_while_the_own_surface_is_built(store):
    known = await wait(lambda: store.get(QUESTION))
    near, far = replace(QUESTION, mix=mix(252)), replace(QUESTION, mix=mix(400))
    assert near.mix_bin[0] == QUESTION.mix_bin[0] + 1
    assert store.get(near) is known
    assert store.get(far) is None
    assert store.get(replace(near, seed=2)) is None
    own = await wait(lambda: (found := store.get(near)) is not known and found)
    assert own != known


async def test_a_surface_on_disk_is_not_built_again(tmp_path):
    cache = SurfaceCache(tmp_path)
    first = SurfaceStore(cache)
    built = await wait(lambda: first.get(QUESTION))
    first.close()
    assert cache.load(QUESTION.fingerprint()) == built
    # What the file holds is what is answered, not a new simulation.
    marked = replace(built, released_w=1.0)
    cache.store(QUESTION.fingerprint(), marked)
    second = SurfaceStore(cache)
    assert await wait(lambda: second.get(QUESTION)) == marked
    second.close()


async def test_a_disk_that_cannot_be_written_costs_only_time(tmp_path):
    (tmp_path / "file").write_text("")
    store = SurfaceStore(SurfaceCache(tmp_path / "file" / "below"))
    assert await wait(lambda: store.get(QUESTION))
    store.close()


async def test_only_the_ones_asked_for_last_are_kept_in_memory(store, monkeypatch):
    monkeypatch.setattr(surfaces, "_MOST_ANSWERS", 2)
    first, second, third = QUESTION, replace(QUESTION, seed=2), replace(QUESTION, seed=3)
    for question in (first, second):
        await wait(lambda question=question: store.get(question))
    known = store.get(first)
    await wait(lambda: store.get(third))
    assert store.get(first) is known
    assert store.get(second) is None  # is built again


async def test_other_work_is_done_when_no_surface_was_missing_lately(store, clock):
    work = partial(os.getenv, "HOME")
    assert store.run_aside(work) is None  # services may just be about to ask
    clock.now_s += 60.0
    assert store.get(QUESTION) is None
    assert store.run_aside(work) is None
    await wait(lambda: store.get(QUESTION))
    clock.now_s += 29.0
    assert store.run_aside(work) is None
    clock.now_s += 1.0
    assert store.get(QUESTION) is not None  # it is there, and keeps nobody waiting
    first = store.run_aside(work)
    assert store.run_aside(work) is None
    assert await first == os.environ["HOME"]
    assert store.get(replace(QUESTION, seed=2)) is None
    await wait(lambda: store.get(replace(QUESTION, seed=2)))
    assert store.run_aside(work) is None


async def test_other_work_that_kills_the_worker_does_no_harm_to_surfaces(store, clock):
    clock.now_s += 60.0
    with pytest.raises(BrokenProcessPool):
        await store.run_aside(partial(os._exit, 1))
    assert await wait(lambda: store.get(QUESTION))


async def test_nothing_is_begun_once_it_is_closed(clock):
    store = SurfaceStore(now_s=clock)
    clock.now_s += 60.0
    store.close()
    assert store.run_aside(os.getpid) is None
