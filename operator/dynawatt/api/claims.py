"""Clock claims: the operator's permission to the agent, as an annotation on a vLLM pod.

A claim is a range of clocks and the table by which a governor chooses among
them every second. It dies with its pod and holds only while the Lease it names
is renewed. Reading is strict, because what an agent does not fully understand it
must not act on: the GPUs then stay at their default clocks. The JSON schema is
published as ``docs/clock-claim.schema.json``.
"""

import json
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import ConfigDict, Field, PlainSerializer, ValidationError, model_validator

from dynawatt.api.base import ApiModel, ClockMHz, first_problem, shorten

CLAIM_VERSION: Final = 2
_MAX_CHARACTERS: Final = 2048
_MAX_ROWS: Final = 16

NamespacedName = Annotated[
    str, Field(max_length=317, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?/[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
]
"""``namespace/name``."""


class InvalidClaimError(ValueError):
    """A claim cannot be read; the message is one line with field, value and what must be."""


def _short(value: float) -> int | float:
    """Whole numbers without a fraction, which a claim has no room for."""
    return int(value) if value.is_integer() else value


Number: TypeAlias = Annotated[
    float,
    Field(strict=True, ge=0, le=1e9, allow_inf_nan=False),
    PlainSerializer(_short, return_type=int | float),
]
Positive: TypeAlias = Annotated[Number, Field(gt=0)]
Row: TypeAlias = tuple[ClockMHz, Number, Number, Annotated[int, Field(strict=True, ge=0, le=1_000_000)]]


class ClaimTable(ApiModel):
    """What each clock carries, as ``GovernorTable.to_dict`` gives it; that the numbers make sense is for its reader."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attainment: Annotated[Number, Field(gt=0, lt=1)]
    """Fraction of first tokens, and of gaps between tokens, that must be in time."""
    tbt: Positive
    """Objective of gaps between tokens in seconds."""
    drain: Positive
    """Seconds within which waiting prompt tokens must be prefilled."""
    prompt: Positive
    """Mean prompt tokens of a request."""
    kv: Positive
    """Requests of mean context that fill the KV cache."""
    ttft: bool = Field(strict=True)
    """Whether the pod's own metrics tell which first tokens are in time."""
    rows: Annotated[tuple[Row, ...], Field(min_length=1, max_length=_MAX_ROWS)]
    """Ascending: SM clock in MHz, requests per second, prefilled tokens per second, decoding requests."""


class ClockClaim(ApiModel):
    """The clocks among which a governor may choose for one pod's GPUs, by which table, and on whose behalf."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[2] = CLAIM_VERSION
    """Format of the claim; a reader refuses all others."""
    floor_megahertz: ClockMHz
    """Lowest SM clock in MHz."""
    ceiling_megahertz: ClockMHz
    """Highest SM clock in MHz; taken when in doubt."""
    lease: NamespacedName
    """The Lease that must be fresh, as namespace/name."""
    service: NamespacedName
    """The LLMService that the claim serves, as namespace/name."""
    metrics_port: Annotated[int, Field(strict=True, ge=1, le=65535)]
    """Port of the pod at which vLLM serves /metrics."""
    ttft_milliseconds: Annotated[int, Field(strict=True, ge=1, le=3_600_000)] | None = None
    """The objective of all first tokens, given exactly when the table says that they can be judged."""
    table: ClaimTable
    """What each clock carries."""

    @model_validator(mode="after")
    def _check_fields_together(self) -> Self:
        if self.floor_megahertz > self.ceiling_megahertz:
            raise ValueError("floorMegahertz must be at most ceilingMegahertz")
        if self.table.ttft != (self.ttft_milliseconds is not None):
            raise ValueError("ttftMilliseconds must be given exactly when table.ttft is true")
        return self

    def to_annotation(self) -> str:
        """Compact JSON with sorted keys: equal claims give equal text, so that nothing is rewritten in vain."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_annotation(cls, text: str) -> Self:
        """Read the value of the annotation. Raises InvalidClaimError."""
        if len(text) > _MAX_CHARACTERS:
            raise InvalidClaimError(f"clock claim has {len(text)} characters: must have at most {_MAX_CHARACTERS}")
        try:
            claim = json.loads(text, object_pairs_hook=_unique_keys)
        except (ValueError, RecursionError) as error:
            raise InvalidClaimError(f"clock claim is not valid JSON: {error}") from error
        if not isinstance(claim, dict):
            raise InvalidClaimError(f"clock claim must be a JSON object, not {type(claim).__name__}")
        version = claim.get("version")
        if version != CLAIM_VERSION or isinstance(version, bool):
            raise InvalidClaimError(
                f"clock claim has version {shorten(repr(version), 20)}: must be {CLAIM_VERSION}; "
                "run the operator and the agents at the same release"
            )
        try:
            return cls.model_validate(claim, by_name=False)
        except ValidationError as error:
            raise InvalidClaimError(f"clock claim: {first_problem(error)}") from error


def claim_schema() -> str:
    """The published JSON schema of a claim, as the text of its file."""
    schema = ClockClaim.model_json_schema(by_alias=True)
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2) + "\n"


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) < len(pairs):
        raise ValueError("a key stands twice")
    return keys
