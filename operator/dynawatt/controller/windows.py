"""Whether replicas and shapes may be changed now, by the user's change windows."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim

from dynawatt.api.change_window import ChangeWindow


def is_open(windows: Sequence[ChangeWindow], now: datetime) -> bool:
    """Whether any of them is open; always where there are none. ``now`` must carry a time zone."""
    return not windows or any(_is_open(window, now) for window in windows)


def next_opening(windows: Sequence[ChangeWindow], now: datetime) -> datetime | None:
    """When the next of them opens, in UTC; None where there are none."""
    openings = [next(CronSim(one.schedule, now.astimezone(ZoneInfo(one.time_zone)))) for one in windows]
    return min(openings).astimezone(UTC) if openings else None


def _is_open(window: ChangeWindow, now: datetime) -> bool:
    local = now.astimezone(ZoneInfo(window.time_zone))
    # The search goes back from the end of this minute: one that opens right now is found, one in the next is not.
    minute = local.replace(second=0, microsecond=0)
    opened = next(CronSim(window.schedule, minute + timedelta(minutes=1), reverse=True))
    return opened <= local < opened + timedelta(minutes=window.duration_minutes)
