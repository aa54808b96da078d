"""Times as people say them."""

from datetime import UTC, datetime, timedelta


def age(span: timedelta) -> str:
    """A span in its largest two units, or one where that is enough: 45 s, 3 min, 2 h 10 min, 5 d."""
    total_s = max(0, round(span.total_seconds()))
    if total_s < 60:
        return f"{total_s} s"
    minutes = total_s // 60
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes and hours < 10 else f"{hours} h"
    return f"{hours // 24} d"


def clock_time(time: datetime, now: datetime) -> str:
    """The hour in UTC, with the day where it is another one."""
    time, now = time.astimezone(UTC), now.astimezone(UTC)
    return time.strftime("%H:%M" if time.date() == now.date() else "%Y-%m-%d %H:%M") + " UTC"
