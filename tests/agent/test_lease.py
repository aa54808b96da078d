import math
from typing import Any

import pytest

from dynawatt.agent.lease import LeaseObserver


def lease(renewed: str, *, holder: str | None = "a", duration_s: int | None = 30) -> dict[str, Any]:
    return {"spec": {"renewTime": renewed, "holderIdentity": holder, "leaseDurationSeconds": duration_s}}


def test_lease_found_at_start_proves_nothing() -> None:
    observer = LeaseObserver()
    observer.observe(lease("12:00"), 0.0)
    observer.observe(lease("12:00"), 1.0)
    state = observer.state(1.0)
    assert not state.fresh
    assert math.isinf(state.age_s)
    assert state.reason == "no renewal of the operator's lease seen yet"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (lease("12:00"), lease("12:10")),
        (lease("12:00"), lease("11:00")),
        (lease("12:00"), lease("12:00", holder="b")),
        (None, lease("12:00")),
    ],
    ids=["renewed", "renewed by a clock behind", "taken over", "created"],
)
def test_a_change_is_a_renewal_and_ages_on_our_clock(before: Any, after: Any) -> None:
    observer = LeaseObserver()
    observer.observe(before, 100.0)
    observer.observe(after, 110.0)
    assert observer.state(110.0).fresh
    assert observer.state(139.9).fresh
    stale = observer.state(140.0)
    assert (stale.fresh, stale.age_s) == (False, 30.0)
    assert stale.reason == "the operator's lease was not renewed for its 30 s"


def test_the_reason_stays_the_same_while_stale() -> None:
    observer = LeaseObserver()
    observer.observe(None, 0.0)
    observer.observe(lease("12:00"), 1.0)
    assert observer.state(50.0).reason == observer.state(60.0).reason


def test_deletion_only_stops_renewals() -> None:
    observer = LeaseObserver()
    observer.observe(None, 0.0)
    observer.observe(lease("12:00"), 1.0)
    observer.observe(None, 5.0)
    assert observer.state(30.9).fresh
    assert not observer.state(31.0).fresh
    observer.observe(lease("12:00"), 40.0)
    assert observer.state(40.0).fresh


@pytest.mark.parametrize("holder", ["", None])
def test_a_lease_given_up_is_stale_at_once(holder: str | None) -> None:
    observer = LeaseObserver()
    observer.observe(lease("12:00"), 0.0)
    observer.observe(lease("12:10"), 1.0)
    observer.observe(lease("12:10", holder=holder), 2.0)
    assert observer.state(2.0).reason == "the operator gave its lease up"


@pytest.mark.parametrize("duration_s", [None, 0, -1])
def test_without_a_duration_nothing_is_fresh(duration_s: int | None) -> None:
    observer = LeaseObserver()
    observer.observe(None, 0.0)
    observer.observe(lease("12:00", duration_s=duration_s), 1.0)
    assert not observer.state(1.0).fresh
