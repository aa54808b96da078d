"""Clock claims: the operator's permission to the agent, as an annotation on a vLLM pod.

The claim dies with its pod and holds only while the Lease it names is renewed.
Reading is strict, because what an agent does not fully understand it must not
act on: the GPUs then stay at their default clocks.
"""

import json
from typing import Annotated, Any, Final, Literal, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator

from dynawatt.api.base import ApiModel, ClockMHz, first_problem, shorten

CLAIM_VERSION: Final = 1
_MAX_CHARACTERS: Final = 2048

NamespacedName = Annotated[
    str, Field(max_length=317, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?/[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
]
"""``namespace/name``."""


class InvalidClaimError(ValueError):
    """A claim cannot be read; the message is one line with field, value and what must be."""


class ClockClaim(ApiModel):
    """The clocks between which one pod's GPUs may be kept, and on whose behalf."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = CLAIM_VERSION
    """Format of the claim; a reader refuses all others."""
    min_megahertz: ClockMHz
    """Lowest SM clock in MHz."""
    max_megahertz: ClockMHz
    """Highest SM clock in MHz."""
    lease: NamespacedName
    """The Lease that must be fresh, as namespace/name."""
    service: NamespacedName
    """The LLMService that the claim serves, as namespace/name."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.min_megahertz > self.max_megahertz:
            raise ValueError("minMegahertz must be at most maxMegahertz")
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


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) < len(pairs):
        raise ValueError("a key stands twice")
    return keys
