import asyncio
import itertools
import time

import pytest

from dynawatt.sandbox.nodesim.replica import MAX_CATCH_UP_S, Job
from dynawatt.simulation.engine import EngineRequest


@pytest.fixture
def submit(pod):
    def submit(output_tokens, input_tokens=10):
        loop = asyncio.get_running_loop()
        request = EngineRequest("r", arrival_s=loop.time(), input_tokens=input_tokens, output_tokens=output_tokens)
        job = Job(request, on_token=lambda: None, ended=loop.create_future())
        times_s = []
        job.on_token = lambda: times_s.append(job.last_token_s)
        pod.served.replica.submit(job)
        return job, times_s

    return submit


def longest_gap_s(times_s):
    return max(after - before for before, after in itertools.pairwise(times_s))


async def test_a_short_stall_is_made_up_for(submit):
    job, times_s = submit(60)
    await asyncio.sleep(0.1)
    time.sleep(MAX_CATCH_UP_S / 3)  # noqa: ASYNC251 - this is the stall
    await job.ended
    assert longest_gap_s(times_s) < MAX_CATCH_UP_S / 4


async def test_a_long_stall_is_lost_time_and_no_burst_follows(submit):
    job, times_s = submit(60)
    await asyncio.sleep(0.1)
    time.sleep(3 * MAX_CATCH_UP_S)  # noqa: ASYNC251 - this is the stall
    await job.ended
    assert longest_gap_s(times_s) > 2 * MAX_CATCH_UP_S


async def test_requests_share_iterations(pod, submit):
    jobs = [submit(20) for _ in range(10)]
    for job, _ in jobs:
        assert await job.ended == "length"
        assert job.emitted_tokens == 20
    ends_s = [job.last_token_s - jobs[0][0].request.arrival_s for job, _ in jobs]
    assert max(ends_s) < 1.5 * min(ends_s)


async def test_abort_frees_the_request_and_is_harmless_when_repeated(pod, submit):
    job, _ = submit(10_000)
    other, _ = submit(30)
    await asyncio.sleep(0.05)
    pod.served.replica.abort(job)
    pod.served.replica.abort(job)
    assert await job.ended == "abort"
    assert await other.ended == "length"
    assert pod.served.replica.jobs == 0


async def test_a_stopped_replica_aborts_what_was_and_what_comes(pod, submit):
    before, _ = submit(10_000)
    pod.served.replica.stop()
    after, _ = submit(10)
    assert [await before.ended, await after.ended] == ["abort", "abort"]
    assert pod.served.replica.jobs == 0


async def test_a_lower_clock_slows_prefill_down(pod, submit):
    async def ttft_s():
        job, _ = submit(1, input_tokens=8000)
        await job.ended
        return job.first_token_s - job.request.arrival_s

    fast_s = await ttft_s()
    pod.gpus[0].lock(asyncio.get_running_loop().time(), 345, 600)
    await asyncio.sleep(0.1)
    assert await ttft_s() > 1.5 * fast_s
