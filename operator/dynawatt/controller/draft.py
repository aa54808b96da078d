"""The status of an LLMService while a tick builds it: conditions, changes, the decision."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from math import inf
from typing import Any, Self

from pydantic import ValidationError

from dynawatt.api.conditions import ConditionType, Reason, find_condition, set_condition
from dynawatt.api.llmservice import Knob
from dynawatt.api.llmservice_status import (
    Change,
    Decision,
    LLMServiceStatus,
    OperatingPoint,
    PredictedSaving,
    RunnerUp,
    add_change,
)
from dynawatt.planning.service import BECAUSE, ServicePlan


class Hold(Exception):  # noqa: N818 - not an error: this tick ends here and nothing is changed
    """Nothing can be decided now; says which condition is why."""

    def __init__(self, type_: ConditionType, status: bool | None, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.condition = (type_, status, reason, message)
        self.reason = reason


@dataclass(slots=True)
class StatusDraft:
    """Wraps the status as last written; everything not set in a tick stays as it was."""

    status: LLMServiceStatus
    before: LLMServiceStatus
    """As it was when the tick began."""
    on_record: LLMServiceStatus
    """As the API has it, which may be older: a write can be under way, or have failed."""
    generation: int
    now: datetime

    @classmethod
    def of(
        cls,
        recorded: Mapping[str, Any],
        *,
        written: LLMServiceStatus | None = None,
        generation: int,
        now: datetime,
    ) -> Self:
        """Start from what was last written, or from what is on record when this operator wrote nothing yet."""
        on_record = read_status(recorded)
        before = written or on_record
        parsed = before.model_copy(deep=True)
        draft = cls(parsed, before, on_record, generation, now)
        parsed.observed_generation = generation
        for type_ in ConditionType:
            if find_condition(parsed.conditions, type_) is None:
                draft.set(type_, None, Reason.NOT_PLANNED_YET, "not looked at yet")
        return draft

    @property
    def adopted_is_on_record(self) -> bool:
        """Whether a successor would know what to give back."""
        adopted, recorded = self.status.adopted, self.on_record.adopted
        return adopted is not None and recorded is not None and adopted.replicas == recorded.replicas

    @property
    def since_scaled_s(self) -> float:
        """Since dynawatt last changed the replicas; infinite when those that are there were not chosen by it."""
        changed = [change.time for change in self.status.last_changes if change.knob is not Knob.CLOCK]
        if self.status.adopted is None or not changed:
            return inf
        return max(0.0, (self.now - max(changed)).total_seconds())

    @property
    def since_reshaped_s(self) -> float:
        """Since a change of shape last went on; infinite where none did, or all was given back since."""
        if self.status.adopted is None:
            return inf
        times = [change.time for change in self.status.last_changes if change.knob is Knob.SHAPE]
        return max(0.0, (self.now - max(times)).total_seconds()) if times else inf

    def set(self, type_: ConditionType, status: bool | None, reason: Reason, message: str) -> None:
        """Set one condition; None is Unknown.

        It has changed if it is not as it was when the tick began, whatever this tick said of it first.
        """
        known = find_condition(self.before.conditions, type_)
        others = [condition for condition in self.status.conditions if condition.type != type_]
        self.status.conditions = set_condition(
            others if known is None else [*others, known],
            type_,
            status,
            reason=reason,
            message=message,
            observed_generation=self.generation,
            now=self.now,
        )

    def changed(self, knob: Knob, before: str, after: str, reason: str) -> None:
        """Record a change that was carried out."""
        change = Change(time=self.now, knob=knob, from_=before, to=after, reason=reason)
        self.status.last_changes = add_change(self.status.last_changes, change)

    def decide(self, plan: ServicePlan, sizes: Mapping[str, int]) -> bool:
        """Take over a plan as the last decision; True when it differs from the one before in more than its numbers.

        ``sizes`` are tensor-parallel sizes by shape.
        """
        chosen = OperatingPoint(
            replicas=plan.replicas,
            tensor_parallel_size=sizes.get(plan.shape),
            clock_megahertz=plan.clock_mhz,
            predicted_watts=round(plan.power_w),
        )
        before = self.status.last_decision
        if before is not None and _fleet(before.chosen) == _fleet(chosen):
            same_clock = before.chosen.clock_megahertz == chosen.clock_megahertz
            if same_clock and before.reason == plan.reason and _why_fixed(before.message) == _why_fixed(plan.message):
                return False
        self.status.last_decision = Decision(
            time=self.now,
            reason=plan.reason,
            message=plan.message,
            chosen=chosen,
            predicted_saving=_saving(plan),
            runners_up=[
                RunnerUp(
                    replicas=other.replicas,
                    tensor_parallel_size=sizes.get(other.shape),
                    clock_megahertz=other.clock_mhz,
                    predicted_watts=round(other.power_w),
                    why_not=other.why_not,
                )
                for other in plan.runners_up
            ],
        )
        return True


def read_status(status: Mapping[str, Any]) -> LLMServiceStatus:
    """A status as found. Of one that another version wrote and this one cannot read, what is to be given back."""
    try:
        return LLMServiceStatus.model_validate(dict(status))
    except ValidationError:
        pass
    try:
        return LLMServiceStatus.model_validate({"adopted": status.get("adopted")})
    except ValidationError:
        return LLMServiceStatus()


def _saving(plan: ServicePlan) -> PredictedSaving | None:
    if plan.energy_j <= 0:
        return None
    return PredictedSaving(
        to_keeping_percent=_percent(plan.saving_to_keeping),
        to_default_clock_percent=_percent(plan.saving_to_default_clock),
    )


def _fleet(point: OperatingPoint) -> tuple[int, int | None]:
    return point.replicas, point.tensor_parallel_size


def _why_fixed(message: str) -> str:
    """Why the clock of a decision could not be chosen; empty where it could."""
    return message.partition(BECAUSE)[2]


def _percent(fraction: float) -> int:
    return round(100 * min(max(fraction, -1.0), 1.0))
