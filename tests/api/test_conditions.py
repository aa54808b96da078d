from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dynawatt.api.conditions import (
    Condition,
    ConditionStatus,
    ConditionType,
    Reason,
    find_condition,
    set_condition,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
UPDATES = st.lists(
    st.tuples(
        st.sampled_from(ConditionType),
        st.sampled_from(ConditionStatus),
        st.sampled_from(Reason),
        st.text(max_size=2000),
        st.integers(0, 100),
    )
)


def apply_all(updates):
    conditions = []
    for second, (type_, status, reason, message, generation) in enumerate(updates):
        conditions = set_condition(
            conditions,
            type_,
            status,
            reason=reason,
            message=message,
            observed_generation=generation,
            now=START + timedelta(seconds=second),
        )
    return conditions


@given(UPDATES)
def test_one_condition_per_type_in_declared_order(updates):
    types = [condition.type for condition in apply_all(updates)]
    assert types == [type_ for type_ in ConditionType if type_ in {update[0] for update in updates}]


@given(UPDATES)
def test_latest_update_wins_and_time_is_that_of_the_last_status_change(updates):
    for condition in apply_all(updates):
        own = [(second, update) for second, update in enumerate(updates) if update[0] == condition.type]
        _, (_, status, reason, message, generation) = own[-1]
        assert condition.status is status
        assert condition.reason == reason
        assert condition.message == message[:1024] or (len(message) > 1024 and condition.message.endswith("…"))
        assert condition.observed_generation == generation
        since = own[-1][0]
        for second, update in reversed(own):
            if update[1] is not status:
                break
            since = second
        assert condition.last_transition_time == START + timedelta(seconds=since)


@given(UPDATES)
def test_conditions_survive_json(updates):
    conditions = apply_all(updates)
    assert [Condition.model_validate(condition.to_dict()) for condition in conditions] == conditions


@given(UPDATES.filter(bool))
def test_input_is_left_alone(updates):
    before = apply_all(updates[:-1])
    copies = [condition.model_copy() for condition in before]
    type_, status, reason, message, generation = updates[-1]
    set_condition(before, type_, status, reason=reason, message=message, observed_generation=generation, now=START)
    assert before == copies


def ready(status, *, now=START, conditions=()):
    return set_condition(
        conditions, ConditionType.READY, status, reason=Reason.PAUSED, message="", observed_generation=1, now=now
    )


@pytest.mark.parametrize(("given_status", "text"), [(True, "True"), (False, "False"), (None, "Unknown")])
def test_status_may_be_a_bool_or_none(given_status, text):
    assert ready(given_status)[0].to_dict()["status"] == text


def test_unknown_types_of_another_version_are_kept_last():
    other = Condition.model_validate(ready(True)[0].to_dict() | {"type": "Reshaping"})
    assert [condition.type for condition in ready(True, conditions=[other])] == ["Ready", "Reshaping"]


def test_times_are_utc_seconds():
    now = datetime(2026, 1, 1, 2, 0, 0, 999_999, tzinfo=timezone(timedelta(hours=2)))
    assert ready(True, now=now)[0].to_dict()["lastTransitionTime"] == "2026-01-01T00:00:00Z"


def test_naive_time_is_refused():
    with pytest.raises(ValidationError):
        ready(True, now=datetime(2026, 1, 1))


def test_find():
    assert find_condition(ready(True), ConditionType.READY).reason == "Paused"
    assert find_condition([], ConditionType.READY) is None
