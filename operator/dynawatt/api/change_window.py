"""When pods may be started and stopped: cron windows, as maintenance windows are written."""

import re
from datetime import datetime
from typing import Annotated, Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, Field

from dynawatt.api.base import Rule, SpecModel, cel_rules

MAX_WINDOWS: Final = 16

_FIELD = r"[-0-9A-Za-z*,/?#]+"
_SCHEDULE = Rule(
    f"self.matches('^{_FIELD}( {_FIELD}){{4}}$')",
    'must be five cron fields with single spaces: minute, hour, day of month, month, day of week; as in "0 22 * * 1-5"',
)
_ZONE = Rule(
    "self.matches('^[A-Za-z][-A-Za-z0-9_+]*(/[-A-Za-z0-9_+]+)*$')",
    'must be a time zone by its IANA name, as in "Europe/Berlin"',
)


def _schedule(text: str) -> str:
    if not re.fullmatch(f"{_FIELD}( {_FIELD}){{4}}", text):
        raise _SCHEDULE.violation()
    try:
        CronSim(text, datetime(2000, 1, 1))  # a field out of its range passes the pattern
    except CronSimError as error:
        raise _SCHEDULE.violation() from error
    return text


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:  # unknown, or the machine has no such data
        raise _ZONE.violation() from error
    return name


class ChangeWindow(SpecModel):
    """A time in which replicas and shapes may be changed, again and again."""

    schedule: Annotated[str, AfterValidator(_schedule), Field(max_length=100, json_schema_extra=cel_rules(_SCHEDULE))]
    """When the window opens, as five cron fields: minute, hour, day of month, month, day of week."""
    duration_minutes: Annotated[int, Field(strict=True, ge=1, le=10_080)]
    """How long it stays open, in minutes."""
    time_zone: Annotated[str, AfterValidator(_zone), Field(max_length=64, json_schema_extra=cel_rules(_ZONE))] = (
        "Etc/UTC"
    )
    """Time zone of the schedule, by its IANA name."""
