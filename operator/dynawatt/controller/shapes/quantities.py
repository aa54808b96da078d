"""Kubernetes quantities (``500m``, ``16Gi``) in proportion, written as the API server itself would write them.

Written otherwise a quantity would be sent back changed, and a sibling would look
as if somebody had edited it.
"""

import math
from fractions import Fraction
from typing import Final

from kubernetes.utils.quantity import parse_quantity

_BINARY: Final = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_DECIMAL: Final = ("", "k", "M", "G", "T", "P", "E")


def amount(quantity: str | int | float) -> Fraction:
    """Cores or bytes. Raises ValueError."""
    return Fraction(parse_quantity(quantity))  # type: ignore[no-untyped-call]


def cores(amount_: Fraction) -> str:
    """Cores of CPU, rounded up to a thousandth."""
    thousandths = math.ceil(amount_ * 1000)
    return f"{thousandths}m" if thousandths % 1000 else _shortest(thousandths // 1000, 1000, _DECIMAL)


def memory(amount_: Fraction, like: str | int | float) -> str:
    """Bytes, rounded up, in powers of 1024 or 1000 as a quantity before it."""
    size = math.ceil(amount_)
    return _shortest(size, 1024, _BINARY) if str(like).endswith("i") else _shortest(size, 1000, _DECIMAL)


def _shortest(value: int, base: int, suffixes: tuple[str, ...]) -> str:
    position = 0
    while value and value % base == 0 and position + 1 < len(suffixes):
        value, position = value // base, position + 1
    return f"{value}{suffixes[position]}"
