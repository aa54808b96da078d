import asyncio
import multiprocessing
import os
import signal
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

import numpy as np
import pytest

from dynawatt.controller.surfaces import SurfaceKey, SurfaceStore
from dynawatt.perfmodel.catalog import UnknownProfileError
from dynawatt.workload.mix import LengthMix
from dynawatt.workload.objectives import LatencyObjectives

MIX = LengthMix(np.full(50, 200), np.full(50, 20))
KEY = SurfaceKey(
    model="meta-llama/Llama-3.1-8B-Instruct",
    gpu="h100-sxm",
    tensor_parallel=1,
    max_num_batched_tokens=8192,
    max_num_seqs=64,
    clocks_mhz=(1980,),
    objectives=LatencyObjectives(((None, 5.0),), 0.5),
    mix_bin=MIX.bin(),
)
UNKNOWN = replace(KEY, model="nobody/knows-1b")


@pytest.fixture
async def store():
    store = SurfaceStore()
    yield store
    store.close()


async def wait(check):
    for _ in range(600):
        if found := check():
            return found
        await asyncio.sleep(0.1)
    raise AssertionError("not so after 60 s")


def workers():
    return {process.pid for process in multiprocessing.active_children()}


async def test_failure_is_told_and_then_tried_again(store):
    before = workers()
    for _ in range(2):
        with pytest.raises(UnknownProfileError, match="knows-1b"):
            await wait(lambda: store.get(UNKNOWN, MIX))
    surface = await wait(lambda: store.get(KEY, MIX))
    assert surface.clocks_mhz == [1980]
    await wait(lambda: len(workers() - before) == 1)  # the workers of the failures are gone


async def test_a_dead_worker_is_replaced(store):
    before = workers()
    assert store.get(KEY, MIX) is None
    [pid] = await wait(lambda: workers() - before)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(BrokenProcessPool):
        await wait(lambda: store.get(KEY, MIX))
    assert await wait(lambda: store.get(KEY, MIX))


async def test_one_at_a_time_and_each_once(store):
    other = replace(KEY, max_num_seqs=32)
    assert store.get(KEY, MIX) is None
    assert store.get(other, MIX) is None
    first = await wait(lambda: store.get(KEY, MIX))
    second = await wait(lambda: store.get(other, MIX))
    assert store.get(KEY, MIX) is first
    assert store.get(other, MIX) is second


async def test_the_next_bin_serves_while_the_own_surface_is_built(store):
    known = await wait(lambda: store.get(KEY, MIX))
    inputs, outputs = KEY.mix_bin
    near, far = replace(KEY, mix_bin=(inputs + 1, outputs - 1)), replace(KEY, mix_bin=(inputs + 2, outputs))
    assert store.get(near, MIX) is known
    assert store.get(far, MIX) is None
    assert store.get(replace(near, max_num_seqs=32), MIX) is None
    own = await wait(lambda: (found := store.get(near, MIX)) is not known and found)
    assert own is not known
