"""Conditions: what is true of an LLMService or GPUNode, since when, and why.

Follows the Kubernetes API conventions: the status is True, False or Unknown,
the reason is one CamelCase word for machines, the message a sentence for
people, and the transition time moves only when the status does.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from dynawatt.api.base import ApiModel, StatusText, Timestamp, Word, keyed_by


class ConditionType(StrEnum):
    """The conditions that are set, in the order they are listed in."""

    READY = "Ready"
    """The sum of the others: this resource does what it was asked to."""
    METRICS_AVAILABLE = "MetricsAvailable"
    """Prometheus answers with fresh vLLM metrics of this service."""
    PROFILE_AVAILABLE = "ProfileAvailable"
    """There is a performance profile for this model on these GPUs."""
    MODEL_ACCURATE = "ModelAccurate"
    """Measured latencies and watts are near what the model predicts."""
    SLO_ATTAINABLE = "SLOAttainable"
    """Some operating point within the limits meets the SLO at the expected load."""
    SLO_MET = "SLOMet"
    """Measured latencies are within the SLO."""
    PROGRESSING = "Progressing"
    """A change is under way."""
    CLOCKS_GOVERNED = "ClocksGoverned"
    """GPU clocks follow claims."""
    GPUS_HEALTHY = "GPUsHealthy"
    """No GPU of the node has failed."""
    DRAIN_CONFIGURED = "DrainConfigured"
    """vLLM pods finish their requests before they stop, so that replicas can be taken away."""
    CONFLICTING = "Conflicting"
    """Something else changes what dynawatt changes."""


class ConditionStatus(StrEnum):
    """Whether a condition holds."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Reason(StrEnum):
    """Why a condition has its status."""

    # The LLMService and its target
    RECONCILED = "Reconciled"
    """Everything is as the last decision wants it."""
    RECOMMENDING = "Recommending"
    """Plans are made and explained, nothing is changed: `mode` is Recommend."""
    PAUSED = "Paused"
    """Everything is held as it is: `paused` is true."""
    SWITCHED_OFF = "SwitchedOff"
    """Nothing is planned or changed: `mode` is Off, or the ConfigMap dynawatt-switch turns dynawatt off."""
    GIVING_BACK = "GivingBack"
    """The replicas and clocks found at the start are being restored."""
    WAITING_FOR_LEASE = "WaitingForLease"
    """Another operator holds the Lease; this one changes nothing."""
    INVALID_SPEC = "InvalidSpec"
    """The spec does not fit this version of the operator."""
    DEPLOYMENT_NOT_FOUND = "DeploymentNotFound"
    """The Deployment that `deploymentRef` names does not exist."""
    NO_VLLM_CONTAINER = "NoVllmContainer"
    """No container of the Deployment runs vLLM, or several could and `container` names none."""
    UNSUPPORTED_DEPLOYMENT = "UnsupportedDeployment"
    """vLLM is started in a way that cannot be read, such as a shell string or without a GPU limit."""
    API_ERROR = "APIError"
    """The Kubernetes API refused or did not answer a request."""

    # Metrics and load
    METRICS_FRESH = "MetricsFresh"
    """All queries answered with fresh numbers."""
    METRICS_QUERY_FAILED = "MetricsQueryFailed"
    """A query to Prometheus failed or gave no usable number; the message names it."""
    NO_LOAD_YET = "NoLoadYet"
    """Metrics arrive, but no request was finished yet, so there is nothing to plan for."""

    # Models and plans
    PROFILE_FOUND = "ProfileFound"
    """A profile matches the model, the GPU and the tensor-parallel size."""
    NO_PROFILE = "NoProfile"
    """No profile matches the model, the GPU and the tensor-parallel size."""
    MODEL_FITS = "ModelFits"
    """What is measured is within a quarter of what the model predicted, or calibration makes up for it."""
    MODEL_DRIFTED = "ModelDrifted"
    """What is measured is far from what the model predicts; the message says how far."""
    NOT_CALIBRATED_YET = "NotCalibratedYet"
    """Too little was measured to compare."""
    PLAN_FOUND = "PlanFound"
    """An operating point within the limits meets the SLO."""
    SLO_UNREACHABLE = "SLOUnreachable"
    """No operating point within the limits meets the SLO; the fastest one is used."""
    CANNOT_PLAN = "CannotPlan"
    """What is known of the service makes no sense together; the message says what, and everything is held."""
    WITHIN_SLO = "WithinSLO"
    """Measured latencies meet the objectives at the percentile."""
    SLO_MISSED = "SLOMissed"
    """Measured latencies miss an objective at the percentile."""
    NOT_PLANNED_YET = "NotPlannedYet"
    """The first plan is still to be made."""

    # Changes
    STEADY = "Steady"
    """No change is under way."""
    SCALING = "Scaling"
    """Replicas are being added or drained."""
    RESHAPING = "Reshaping"
    """Replicas of another shape are taking over."""
    NO_SPARE_CAPACITY = "NoSpareCapacity"
    """A change waits for free GPUs on one node; the message says how many are missing."""
    OUTSIDE_CHANGE_WINDOW = "OutsideChangeWindow"
    """A change waits for the next of the `changeWindows`."""
    DISRUPTION_NOT_ALLOWED = "DisruptionNotAllowed"
    """Draining waits for a PodDisruptionBudget."""
    RESHAPE_FAILED = "ReshapeFailed"
    """Replicas of another shape did not become Ready and were taken away; it is tried again later."""
    RESHAPE_REFUSED = "ReshapeRefused"
    """The Deployment cannot be copied into another shape; the message says why."""
    GIVE_BACK_INCOMPLETE = "GiveBackIncomplete"
    """The original replicas could not be started in time, so siblings go on serving."""
    STARTUP_BUDGET_TOO_SMALL = "StartupBudgetTooSmall"
    """The startup probe gives up before replicas usually are Ready."""
    DRAIN_SET_UP = "DrainSetUp"
    """Shutdown timeout and grace period let requests finish."""
    DRAIN_NOT_CONFIGURED = "DrainNotConfigured"
    """vLLM would abort running requests when a pod stops; the message gives the settings to add."""
    NO_CONFLICT = "NoConflict"
    """Nobody else changes the replicas."""
    SCALED_BY_HPA = "ScaledByHPA"
    """A HorizontalPodAutoscaler scales the same Deployment."""
    SCALED_BY_KEDA = "ScaledByKEDA"
    """A ScaledObject of KEDA scales the same Deployment."""
    RESIZED_BY_VPA = "ResizedByVPA"
    """A VerticalPodAutoscaler restarts the pods of the same Deployment."""
    FOREIGN_WRITE = "ForeignWrite"
    """Somebody else changed the replicas; the message names the field manager."""

    # Clocks
    CLAIMS_APPLIED = "ClaimsApplied"
    """All claimed GPUs are kept within their claims."""
    NO_CLAIMS = "NoClaims"
    """No GPU is claimed; all run at their default clocks."""
    CLOCK_KNOB_OFF = "ClockKnobOff"
    """`knobs` does not contain Clock."""
    CLAIMS_PENDING = "ClaimsPending"
    """Claims are written, but not applied on every GPU yet."""
    LEASE_STALE = "LeaseStale"
    """The operator's Lease is not renewed; clocks are back at default until it is."""
    INVALID_CLAIM = "InvalidClaim"
    """A pod's claim cannot be read; its GPUs stay at their default clocks."""
    CLOCK_CONTROL_UNSUPPORTED = "ClockControlUnsupported"
    """A claimed GPU does not let its clock be set."""
    GPU_SHARED = "GPUShared"
    """Several pods hold the GPU, or it is handed out in time slices; its energy is reported, its clock left alone."""
    MIG_ENABLED = "MIGEnabled"
    """The GPU is partitioned, and its clock belongs to all partitions; its energy is reported."""
    UNKNOWN_DEVICE_ID = "UnknownDeviceID"
    """The kubelet names a device that is no GPU of this node by UUID."""
    DRA_UNSUPPORTED = "DRAUnsupported"
    """The GPU was allocated by a resource claim (DRA), which does not tell its UUID."""
    AMBIGUOUS_POD = "AmbiguousPod"
    """The kubelet and the API do not agree on which pod of that name holds the GPU."""
    CLOCKS_SWITCHED_OFF = "ClocksSwitchedOff"
    """The ConfigMap dynawatt-switch turns dynawatt off; all clocks are at default."""
    JOURNAL_UNWRITABLE = "JournalUnwritable"
    """The agent cannot write down which GPUs it locks, so it locks none."""
    AGENT_STALE = "AgentStale"
    """The agent of a node has not finished a cycle for a while; GPUs there may be locked, and are planned as such."""
    AGENT_STOPPED = "AgentStopped"
    """The agent of this node was stopped and brought all clocks back to default."""
    GPU_ERROR = "GPUError"
    """A GPU could not be read or set; the message says which."""
    ALLOCATIONS_UNAVAILABLE = "AllocationsUnavailable"
    """Which pod holds which GPU could not be read; clocks are left as they are."""

    # GPUs
    ALL_HEALTHY = "AllHealthy"
    """Every GPU answers and has shown no error that calls for a reset or a replacement."""
    GPU_UNHEALTHY = "GPUUnhealthy"
    """A GPU does not answer or has shown such an error; the message says which."""
    HEALTH_UNKNOWN = "HealthUnknown"
    """A GPU has not told its error counts yet."""
    ROW_REMAP_PENDING = "RowRemapPending"
    """A GPU works, but should be reset soon: memory rows wait for that to be replaced."""
    PERSISTENCE_MODE_OFF = "PersistenceModeOff"
    """A GPU's driver is unloaded with its last client, and forgets clocks and counters; turn persistence mode on."""


class Condition(ApiModel):
    """One thing that is true, false or unknown about the resource."""

    type: Annotated[str, Field(max_length=63)]
    """What it is about."""
    status: ConditionStatus
    """Whether it holds."""
    reason: Word
    """Why, in one word for machines."""
    message: StatusText
    """Why, in a sentence for people."""
    last_transition_time: Timestamp
    """When the status last changed."""
    observed_generation: Annotated[int, Field(ge=0)]
    """The generation of the spec that this was found for."""


Conditions = Annotated[list[Condition], Field(max_length=32, json_schema_extra=keyed_by("type"))]


def set_condition(
    conditions: Sequence[Condition],
    type_: ConditionType,
    status: ConditionStatus | bool | None,
    *,
    reason: Reason,
    message: str,
    observed_generation: int,
    now: datetime,
) -> list[Condition]:
    """Conditions with one of them set, in the order of ConditionType; unknown types come last.

    ``status`` may be a bool, or None for Unknown. ``now`` must carry a time zone; it counts if the status changes.
    """
    wanted = _as_status(status)
    before = find_condition(conditions, type_)
    kept_since = before.last_transition_time if before is not None and before.status is wanted else now
    condition = Condition(
        type=type_.value,
        status=wanted,
        reason=reason.value,
        message=message,
        last_transition_time=kept_since,
        observed_generation=observed_generation,
    )
    others = [other for other in conditions if other.type != type_]
    return sorted([*others, condition], key=_position)


def find_condition(conditions: Sequence[Condition], type_: ConditionType) -> Condition | None:
    """The condition of a type, or None before it is first set."""
    return next((condition for condition in conditions if condition.type == type_), None)


def _as_status(status: ConditionStatus | bool | None) -> ConditionStatus:
    if isinstance(status, ConditionStatus):
        return status
    return ConditionStatus.UNKNOWN if status is None else ConditionStatus.TRUE if status else ConditionStatus.FALSE


_ORDER = {type_.value: position for position, type_ in enumerate(ConditionType)}


def _position(condition: Condition) -> int:
    return _ORDER.get(condition.type, len(_ORDER))
