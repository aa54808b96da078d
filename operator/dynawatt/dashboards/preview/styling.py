"""What a panel's JSON says of how its series look."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

COLOURS: Final = {"green": "#2f9e44", "orange": "#e8850c", "red": "#d6293e", "blue": "#2f6fde", "text": "#868e96"}
PALETTE: Final = (
    "#2f6fde", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#7048a8", "#8a8d00", "#1098ad", "#a0522d",
)  # fmt: skip
"""Told apart with any colour vision, as far as ten can be."""


def defaults(panel: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of all its fields."""
    found: Mapping[str, Any] = panel["fieldConfig"]["defaults"]
    return found


def steps(config: Mapping[str, Any]) -> list[tuple[float | None, str]]:
    """Bounds of thresholds with their colours; None for the first."""
    return [(step["value"], COLOURS[step["color"]]) for step in config["thresholds"]["steps"]]


def colour_at(value: float, config: Mapping[str, Any]) -> str:
    """Colour of a value by the thresholds."""
    return [colour for bound, colour in steps(config) if bound is None or value >= bound][-1]


def overrides(panel: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Properties that overrides give to a series or column."""
    found: dict[str, Any] = {}
    for override in panel["fieldConfig"]["overrides"]:
        matcher = override["matcher"]
        by_name = matcher["id"] == "byName" and matcher["options"] == name
        by_pattern = matcher["id"] == "byRegexp" and re.search(matcher["options"].strip("/"), name)
        if by_name or by_pattern:
            found |= {each["id"]: each["value"] for each in override["properties"]}
    return found


def colours(panel: Mapping[str, Any], names: Sequence[str]) -> dict[str, str]:
    """By name of the series: those that overrides fix, and the next of the palette."""
    found, taken = {}, 0
    for name in names:
        fixed = overrides(panel, name).get("color")
        if fixed is None:
            found[name] = PALETTE[taken % len(PALETTE)]
            taken += 1
        else:
            found[name] = COLOURS[fixed["fixedColor"]]
    return found
