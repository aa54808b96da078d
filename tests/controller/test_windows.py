from datetime import UTC, datetime

import pytest

from dynawatt.api.change_window import ChangeWindow
from dynawatt.controller.windows import is_open, next_opening


def window(schedule, minutes, zone="Etc/UTC"):
    return ChangeWindow(schedule=schedule, duration_minutes=minutes, time_zone=zone)


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_without_windows_it_is_always_open():
    assert is_open((), at("2026-11-21T03:00:00"))
    assert next_opening((), at("2026-11-21T03:00:00")) is None


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2026-11-20T21:59:59", False),
        ("2026-11-20T22:00:00", True),
        ("2026-11-20T22:00:01", True),
        ("2026-11-21T01:59:59", True),  # past midnight, on a day that the schedule leaves out
        ("2026-11-21T02:00:00", False),
        ("2026-11-21T22:30:00", False),  # a Saturday
    ],
)
def test_a_window_on_weekdays(now, expected):
    assert is_open([window("0 22 * * 1-5", 240)], at(now)) is expected


@pytest.mark.parametrize(
    ("schedule", "minutes", "expected"), [("* * * * *", 60, True), ("13 * * * *", 60, True), ("13 * * * *", 59, False)]
)
def test_one_that_opens_again_within_a_minute(schedule, minutes, expected):
    assert is_open([window(schedule, minutes)], at("2026-11-21T04:12:30")) is expected


def test_any_of_several_will_do():
    windows = [window("0 22 * * *", 60), window("0 3 * * *", 60)]
    assert is_open(windows, at("2026-11-21T03:30:00"))
    assert not is_open(windows, at("2026-11-21T04:30:00"))
    assert next_opening(windows, at("2026-11-21T04:30:00")) == at("2026-11-21T22:00:00")


def test_time_zones_and_their_summer_time_count():
    berlin = [window("0 22 * * *", 60, "Europe/Berlin")]
    assert is_open(berlin, at("2026-01-10T21:30:00"))
    assert is_open(berlin, at("2026-07-10T20:30:00"))
    assert not is_open(berlin, at("2026-07-10T21:30:00"))


def test_a_day_that_comes_every_four_years():
    leap = [window("0 0 29 2 *", 60)]
    assert is_open(leap, at("2028-02-29T00:30:00"))
    assert next_opening(leap, at("2026-11-21T00:00:00")) == at("2028-02-29T00:00:00")
