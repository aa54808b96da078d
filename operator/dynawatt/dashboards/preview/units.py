"""Values with Grafana's units, as text and on axes."""

from math import isfinite
from typing import Any, Final

_PREFIXED: Final = {"watt": "W", "joule": "J", "hertz": "Hz", "bytes": "B", "massg": "g"}
_PREFIXES: Final = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"))
_SUFFIXES: Final = {"reqps": " req/s", "cps": " c/s", "celsius": " °C", "kwatth": " kWh"}
_WORDS: Final = {"bool_on_off": ("off", "on"), "bool_yes_no": ("no", "yes")}


def text_of(value: float, unit: str, decimals: int | None = None) -> str:
    """A value for people."""
    if not isfinite(value):
        return "no data"
    if unit in _WORDS:
        return _WORDS[unit][bool(value)]
    if unit == "percentunit":
        return f"{100 * value:.{1 if decimals is None else decimals}f} %"
    if unit == "s" and abs(value) >= 1:
        return f"{_digits(value, decimals)} s"
    if unit in _PREFIXED or unit == "s":
        least, prefix = next(((least, prefix) for least, prefix in _PREFIXES if abs(value) >= least), (1.0, ""))
        return f"{_digits(value / least, decimals)} {prefix}{_PREFIXED.get(unit, 's')}"
    return f"{_digits(value, decimals)}{_SUFFIXES.get(unit, '')}"


def axis_of(unit: str) -> dict[str, Any]:
    """Properties of a plotly axis."""
    if unit == "percentunit":
        return {"tickformat": "~%"}
    if unit in _PREFIXED:
        return {"tickformat": "~s", "ticksuffix": _PREFIXED[unit]}
    return {"ticksuffix": {"s": " s"}.get(unit, _SUFFIXES.get(unit, ""))}


def _digits(value: float, decimals: int | None) -> str:
    if decimals is not None:
        return f"{value:.{decimals}f}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
