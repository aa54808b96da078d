"""What all types of the API share: camelCase outside, snake_case inside, and rules told once.

Attribute docstrings become the descriptions that ``kubectl explain`` shows, so
they speak to users. A Rule is enforced twice, by the API server as CEL and by
a validator in Python; both refuse with the same message.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final, TypeAlias

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel

MESSAGE_LENGTH: Final = 1024
"""Longest free text in a status."""

CLOCK_MIN_MHZ: Final = 100
CLOCK_MAX_MHZ: Final = 5000
"""Beyond any GPU's SM clocks; a number outside is a mistake in the unit."""


JsonExtra: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rule:
    """A constraint that a plain schema cannot express."""

    cel: str
    message: str
    """Says what must be; shown by kubectl and raised in Python."""

    def violation(self) -> ValueError:
        """The error a Python validator raises."""
        return ValueError(self.message)


def cel_rules(*rules: Rule) -> JsonExtra:
    """The ``json_schema_extra`` that carries rules into the CRD."""
    return {"x-kubernetes-validations": [{"rule": rule.cel, "message": rule.message} for rule in rules]}


ATOMIC: Final[JsonExtra] = {"x-kubernetes-list-type": "atomic"}
"""A list with one writer, replaced as a whole."""

SET: Final[JsonExtra] = {"x-kubernetes-list-type": "set"}
"""A list whose values are different from each other."""


def keyed_by(field: str) -> JsonExtra:
    """A list whose entries have different values of a field."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [field]}


class ApiModel(BaseModel):
    """Written in camelCase, used in snake_case; unknown fields are ignored, as in a status of a newer version."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        use_attribute_docstrings=True,
        extra="ignore",
    )

    def to_dict(self) -> dict[str, Any]:
        """As the Kubernetes API takes it: camelCase, JSON types, absent instead of null."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class SpecModel(ApiModel):
    """Written by users: an unknown field is a mistake and refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, fields: Any) -> Any:
        """The API server takes null for absent, too."""
        if isinstance(fields, Mapping):
            return {name: value for name, value in fields.items() if value is not None}
        return fields


def first_problem(error: ValidationError, *, root: str = "") -> str:
    """One line on the first thing wrong: the field under ``root``, the value, and what it must be."""
    problem = error.errors(include_url=False)[0]
    path = root
    for part in problem["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    message = problem["msg"].removeprefix("Value error, ").replace("Input should", "must")
    if problem["type"] == "missing":
        return f"{path}: must be given"
    if problem["type"] == "extra_forbidden":
        return f"{path}: is not a known field; remove it or correct its name"
    value = shorten(repr(problem["input"]), 80)
    return ": ".join(part for part in (path, value, message) if part)


def shorten(text: str, length: int) -> str:
    """Text cut to a length, with an ellipsis where something is missing."""
    return text if len(text) <= length else text[: length - 1] + "…"


def _utc_seconds(time: datetime) -> datetime:
    return time.astimezone(UTC).replace(microsecond=0)


def _dns_1123(rule: Rule, pattern: str) -> Callable[[str], str]:
    def check(name: str) -> str:
        if not re.fullmatch(pattern, name):
            raise rule.violation()
        return name

    return check


_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}([.]{_LABEL})*"
_LABEL_RULE = Rule(
    f"self.matches('^{_LABEL}$')",
    "must be a DNS-1123 label: lower-case letters, digits and '-', starting and ending with a letter or digit",
)
_SUBDOMAIN_RULE = Rule(
    f"self.matches('^{_SUBDOMAIN}$')",
    "must be a DNS-1123 name: lower-case letters, digits, '-' and '.', starting and ending with a letter or digit",
)

DnsLabel = Annotated[
    str, AfterValidator(_dns_1123(_LABEL_RULE, _LABEL)), Field(max_length=63, json_schema_extra=cel_rules(_LABEL_RULE))
]
DnsName = Annotated[
    str,
    AfterValidator(_dns_1123(_SUBDOMAIN_RULE, _SUBDOMAIN)),
    Field(max_length=253, json_schema_extra=cel_rules(_SUBDOMAIN_RULE)),
]
"""Name of a namespaced object."""

ClockMHz = Annotated[int, Field(strict=True, ge=CLOCK_MIN_MHZ, le=CLOCK_MAX_MHZ)]

Count = Annotated[int, Field(ge=0, le=100_000)]

StatusText = Annotated[
    str,
    BeforeValidator(lambda text: shorten(text, MESSAGE_LENGTH) if isinstance(text, str) else text),
    Field(max_length=MESSAGE_LENGTH),
]
"""Free text, shortened where too long: a status that is refused explains nothing."""

Word = Annotated[str, Field(max_length=253)]
"""A name or CamelCase reason."""

Timestamp = Annotated[
    AwareDatetime,
    AfterValidator(_utc_seconds),
    PlainSerializer(lambda time: time.strftime("%Y-%m-%dT%H:%M:%SZ"), return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""UTC to the second, as Kubernetes writes times."""


class ClockRange(ApiModel):
    """Lowest and highest SM clock, both included."""

    min_megahertz: ClockMHz
    """Lowest SM clock in MHz."""
    max_megahertz: ClockMHz
    """Highest SM clock in MHz."""

    def __str__(self) -> str:
        """Short text for a table, such as ``800-1980``."""
        low, high = self.min_megahertz, self.max_megahertz
        return str(low) if low == high else f"{low}-{high}"
