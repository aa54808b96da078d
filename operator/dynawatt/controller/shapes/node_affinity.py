"""Required node affinity of pods, evaluated here."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"


class Requirement(NamedTuple):
    """On one label, or one field, of a node."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether it is met."""
        found = labels.get(self.key)
        match self.operator:
            case "In":
                return found in self.values
            case "NotIn":  # also of nodes without the label
                return found not in self.values
            case "Exists":
                return found is not None
            case "DoesNotExist":
                return found is None
            case "Gt" | "Lt":
                return self._compares(found)
        return False

    def _compares(self, found: str | None) -> bool:
        """Of whole numbers; what is none meets nothing."""
        try:
            number, bound = int(found or ""), int(self.values[0])
        except (ValueError, IndexError):
            return False
        return number > bound if self.operator == "Gt" else number < bound


class Term(NamedTuple):
    """Requirements that must all hold."""

    labels: tuple[Requirement, ...]
    fields: tuple[Requirement, ...]

    def admits(self, name: str, labels: Mapping[str, str]) -> bool:
        """Whether a node meets it; a term without any requirement matches nothing."""
        if not (self.labels or self.fields):
            return False
        fields = {"metadata.name": name}
        return all(each.holds(labels) for each in self.labels) and all(each.holds(fields) for each in self.fields)


def required_terms(pod_spec: Mapping[str, Any]) -> tuple[Term, ...] | None:
    """Of which one must match a node; None where a pod spec requires nothing."""
    required = ((pod_spec.get("affinity") or {}).get("nodeAffinity") or {}).get(_REQUIRED)
    if required is None:
        return None
    return tuple(
        Term(_requirements(each.get("matchExpressions")), _requirements(each.get("matchFields")))
        for each in required.get("nodeSelectorTerms") or ()
    )


def _requirements(expressions: Sequence[Mapping[str, Any]] | None) -> tuple[Requirement, ...]:
    return tuple(
        Requirement(each["key"], each["operator"], tuple(each.get("values") or ())) for each in expressions or ()
    )
