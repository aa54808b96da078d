import asyncio

import pytest

from dynawatt.controller.lease import LeaseHolder


class Clock:
    now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def holder(cluster, clock):
    def make(identity, duration_s=30):
        return LeaseHolder(cluster, namespace="system", identity=identity, duration_s=duration_s, clock=clock)

    return make


def test_the_first_one_acquires_and_renews(holder, cluster, clock):
    first = holder("first")
    assert not first.held
    first.attempt()
    acquired = cluster.lease_["spec"]
    clock.now_s += 20
    first.attempt()
    clock.now_s += 29
    assert first.held
    assert cluster.lease_["spec"]["acquireTime"] == acquired["acquireTime"]
    assert cluster.lease_["spec"]["renewTime"] > acquired["renewTime"]
    assert cluster.lease_["spec"]["leaseTransitions"] == 0
    clock.now_s += 2
    assert not first.held


@pytest.mark.parametrize("renew_time", ["1999-01-01T00:00:00.000000Z", "2999-01-01T00:00:00.000000Z"])
def test_takeover_only_when_unrenewed_for_the_duration_by_the_own_clock(holder, cluster, clock, renew_time):
    holder("first").attempt()
    cluster.lease_["spec"]["renewTime"] = renew_time
    second = holder("second", duration_s=5)  # the holder's own duration counts, not this one
    second.attempt()
    clock.now_s += 29
    second.attempt()
    assert not second.held
    assert second.holder == "first"
    clock.now_s += 2
    second.attempt()
    assert second.held
    assert cluster.lease_["spec"]["holderIdentity"] == "second"
    assert cluster.lease_["spec"]["leaseTransitions"] == 1


def test_a_renewal_starts_the_wait_anew(holder, clock):
    first, second = holder("first"), holder("second")
    first.attempt()
    for _ in range(10):
        second.attempt()
        clock.now_s += 10
        first.attempt()
    assert first.held
    assert not second.held


def test_who_was_taken_over_stops_acting_at_once(holder, clock):
    first, second = holder("first"), holder("second")
    first.attempt()
    second.attempt()
    clock.now_s += 31
    second.attempt()
    clock.now_s -= 31  # even if its own clock says otherwise
    assert first.held
    first.attempt()
    assert not first.held


def test_of_two_at_the_same_time_one_wins(holder, cluster, monkeypatch):
    first, second = holder("first"), holder("second")
    free = cluster.lease("system", "x")
    first.attempt()
    monkeypatch.setattr(cluster, "lease", lambda *_: free)  # read before the first wrote
    second.attempt()
    assert first.held
    assert not second.held


def test_release_lets_the_next_one_in_at_once(holder, cluster, clock):
    first, second = holder("first"), holder("second")
    first.attempt()
    renewed = cluster.lease_["spec"]["renewTime"]
    first.release()
    assert not first.held
    assert cluster.lease_["spec"]["renewTime"] == renewed
    second.attempt()
    assert second.held


def test_the_same_one_started_anew_goes_on_at_once(holder, cluster):
    holder("pod-a").attempt()
    again = holder("pod-a")
    again.attempt()
    assert again.held
    assert cluster.lease_["spec"]["leaseTransitions"] == 0


async def test_who_waits_looks_more_often_than_it_would_renew(holder, cluster, monkeypatch):
    pauses_s = []

    async def pause(duration_s):
        pauses_s.append(duration_s)
        if len(pauses_s) == 3:
            raise asyncio.CancelledError
        cluster.lease_ = None  # the other one is gone

    holder("first").attempt()
    monkeypatch.setattr(asyncio, "sleep", pause)
    with pytest.raises(asyncio.CancelledError):
        await holder("second").run(10.0)
    assert pauses_s == [2.0, 10.0, 10.0]


def test_release_leaves_the_lease_of_another(holder, cluster):
    holder("first").attempt()
    holder("second").release()
    assert cluster.lease_["spec"]["holderIdentity"] == "first"


@pytest.mark.parametrize("error", [OSError("no route"), KeyError("spec")])
async def test_renewing_goes_on_after_any_error(holder, cluster, error):
    first = holder("first")
    cluster.failing = error
    running = asyncio.create_task(first.run(0.5))
    await asyncio.sleep(0.1)
    assert not first.held
    cluster.failing = None
    for _ in range(50):
        if first.held:
            break
        await asyncio.sleep(0.1)
    assert first.held
    running.cancel()
