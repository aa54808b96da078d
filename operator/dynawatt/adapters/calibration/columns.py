"""Numbers out of the columns of a CSV file of measurements."""

import math
from collections.abc import Mapping

from dynawatt.errors import InvalidInputError


def number(fields: Mapping[str, str], name: str, where: str) -> float:
    """A column's value, 0 or more. Raises InvalidInputError with place and field."""
    value = _parsed(fields, name)
    if not value >= 0:
        raise InvalidInputError(f"{where}: {name} {fields.get(name) or ''!r}: must be a number, 0 or more")
    return value


def positive_number(fields: Mapping[str, str], name: str, where: str) -> float:
    """A column's value, above 0. Raises InvalidInputError with place and field."""
    value = _parsed(fields, name)
    if not value > 0:
        raise InvalidInputError(f"{where}: {name} {fields.get(name) or ''!r}: must be a positive number")
    return value


def _parsed(fields: Mapping[str, str], name: str) -> float:
    """The value, or nan where there is no finite one."""
    try:
        value = float(fields.get(name) or "")
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan
