"""Reads objects that another version may have written: what cannot be read is left out and named."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from dynawatt.api.base import ApiModel

_Model = TypeVar("_Model", bound=ApiModel)


def read_leniently(model: type[_Model], fields: Mapping[str, Any]) -> tuple[_Model | None, list[str]]:
    """As much of an object as is understood, and the paths of what is not; None when nothing of it is.

    What breaks a rule is taken out and the rest read again; what is missing takes out what it belongs to.
    """
    rest = copy.deepcopy(dict(fields))
    left_out: list[str] = []
    while True:
        try:
            return model.model_validate(rest, by_name=False), left_out
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
        path = problem["loc"][:-1] if problem["type"] == "missing" else problem["loc"]
        removed = _remove(rest, path)
        if removed is None:
            return None, left_out
        inside = tuple(f"{removed}{mark}" for mark in ".[")
        left_out = [*(name for name in left_out if not name.startswith(inside)), removed]


def _remove(fields: dict[str, Any], path: Sequence[str | int]) -> str | None:
    """Take out what a path leads to, as far as it leads anywhere; its name, or None when that would be everything."""
    container: Any = fields
    steps = list(path)
    walked: list[str | int] = []
    while steps and _holds(container, steps[0]):
        walked.append(steps.pop(0))
        if not steps or not _holds(container[walked[-1]], steps[0]):
            del container[walked[-1]]
            return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in walked).lstrip(".")
        container = container[walked[-1]]
    return None


def _holds(container: Any, step: str | int) -> bool:
    if isinstance(container, dict):
        return step in container
    return isinstance(container, list) and isinstance(step, int) and step < len(container)
