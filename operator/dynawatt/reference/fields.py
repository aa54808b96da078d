"""The objects of a CRD's schema, each with its fields as rows of a table."""

import re
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, Final, NamedTuple, TypeAlias

Schema: TypeAlias = Mapping[str, Any]

_BOUNDS: Final = re.compile(r" (From \d+ to \d+(, default .+)?|(At least|At most) \d+|Default .+)\.$")


class ObjectFields(NamedTuple):
    """An object somewhere in a resource."""

    path: str
    """Such as ``spec.slo.timeToFirstToken[]``."""
    description: str
    rows: tuple[tuple[str, str, str, str], ...]
    """Name, type, default and description of each field."""
    rules: tuple[str, ...]
    """What must be true of several fields together, or of one beyond its type."""


def objects(schema: Schema, path: str, description: str = "") -> Iterator[ObjectFields]:
    """The object itself and all within it, outermost first; ``description`` is that of its field."""
    required = set(schema.get("required", ()))
    fields = schema["properties"].items()
    rules = [_rules(schema, "")]
    # Those of an object stand with its own fields.
    rules += [_rules(field, f"`{name}` ") for name, field in fields if field["type"] != "object"]
    yield ObjectFields(
        path,
        _plain(description or schema["description"]),
        tuple(
            (name, _type(field), _default(name, field, required), _plain(field["description"]))
            for name, field in fields
        ),
        tuple(chain.from_iterable(rules)),
    )
    for name, field in fields:
        child, suffix = (field["items"], "[]") if field["type"] == "array" else (field, "")
        if child["type"] == "object":
            yield from objects(child, f"{path}.{name}{suffix}", field["description"])


def _plain(description: str) -> str:
    """Without the bounds and the default, which `kubectl explain` does not show otherwise."""
    return _BOUNDS.sub("", description)


def _rules(schema: Schema, subject: str) -> list[str]:
    messages = [rule["message"] for rule in schema.get("x-kubernetes-validations", ())]
    return [f"{subject}{message}." for message in messages]


def _default(name: str, field: Schema, required: set[str]) -> str:
    if name in required:
        return "**required**"
    default = field.get("default")
    if default is None or isinstance(default, dict):  # of an object: its fields have their own
        return ""
    return f"`{_written(default)}`"


def _written(value: object) -> str:
    """As YAML on one line."""
    if isinstance(value, list):
        return f"[{', '.join(map(_written, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _type(field: Schema) -> str:
    if field["type"] == "array":
        count = _bounds(field, "minItems", "maxItems").removeprefix(", ")
        return f"list ({count}) of {_type(field['items'])}"
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    if "format" in field and field["type"] == "string":
        return str(field["format"])
    return f"{field['type']}{_bounds(field, 'minimum', 'maximum')}"


def _bounds(field: Schema, low: str, high: str) -> str:
    least, most = field.get(low), field.get(high)
    if most is None:
        return "" if least is None else f", at least {least}"
    return f", at most {most:,}" if least is None else f", {least:,} to {most:,}"
