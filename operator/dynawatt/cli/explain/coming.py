"""What happens to a service next, and what its owner could do next."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from cronsim import CronSimError

from dynawatt.adapters.kubernetes.cluster import parse_time
from dynawatt.api.conditions import ConditionType
from dynawatt.api.llmservice import Knob, LLMServiceSpec, Mode, Scaler
from dynawatt.api.llmservice_status import LLMServiceStatus, Reshape
from dynawatt.api.switch import switched_off
from dynawatt.cli.explain.ages import age, clock_time
from dynawatt.cli.explain.findings import Findings
from dynawatt.cli.explain.judging import Judged, Standing
from dynawatt.controller.windows import is_open, next_opening

_SLACK: Final = 2.0
"""Clocks of machines differ: a Lease counts as stale only after so many of its durations."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happens or could be done."""

    text: str
    command: str = ""
    """That does it; empty where nothing is to be typed."""


def whats_next(
    found: Findings,
    *,
    spec: LLMServiceSpec | None,
    status: LLMServiceStatus,
    conditions: Sequence[Judged],
    now: datetime,
) -> list[Step]:
    """In the order in which it matters."""
    if blocked := _blocked(found, spec, now):
        return [blocked]
    assert spec is not None
    steps = []
    if status.reshape is not None:
        steps.append(_reshape(status.reshape, now))
    ready = _of(conditions, ConditionType.READY)
    if ready is None:
        return [*steps, Step("The operator has not looked at it yet, which it does within seconds.")]
    if ready.standing is Standing.BAD:
        steps.append(
            Step(f"Held: {ready.message.removeprefix('holding: ')}. Planning goes on by itself once that is mended.")
        )
    elif spec.paused:
        steps.append(Step("Nothing changes while `spec.paused` is true; metrics are still observed."))
    else:
        steps += _changes(spec, status, conditions, now)
        steps.append(Step("A new plan is made every few minutes, and at once when the load leaves its forecast."))
        steps += _next_rung(found, spec, status, conditions)
    return steps


def _blocked(found: Findings, spec: LLMServiceSpec | None, now: datetime) -> Step | None:
    """Why nothing else can happen next."""
    metadata = found.service["metadata"]
    if "deletionTimestamp" in metadata:
        since = age(now - parse_time(metadata["deletionTimestamp"]))
        return Step(f"Being deleted since {since}: what dynawatt changed is given back, then it is gone.")
    if "switch" not in found.unread and (off := switched_off(found.switch)):
        return Step(
            f"Nothing is changed while dynawatt is switched off: {off}. To switch it on again:",
            "kubectl -n dynawatt-system delete configmap dynawatt-switch",
        )
    if "lease" not in found.unread and (silence := _silence(found, now)):
        return Step(
            f"Nothing happens without an operator: {silence}. Clocks go back to default by themselves. To see why:",
            "dynawatt doctor",
        )
    if spec is None:
        return Step("The spec is not understood by this version of dynawatt: use the version that the operator has.")
    if spec.mode is Mode.OFF and not spec.paused:
        return Step('Nothing is planned or changed: `spec.mode` is "Off".', _patch(found, {"mode": "Recommend"}))
    return None


def _silence(found: Findings, now: datetime) -> str:
    """Why no operator is at work; empty when one is."""
    if found.lease is None:
        return "it has never taken its Lease"
    lease = found.lease.get("spec") or {}
    holder, renewed = lease.get("holderIdentity") or "", lease.get("renewTime")
    if not holder:
        return "the last one has stopped and given its Lease back"
    if renewed is None:
        return ""
    since = now - parse_time(renewed)
    stale = since > timedelta(seconds=_SLACK * (lease.get("leaseDurationSeconds") or 30))
    return f"{holder} last renewed its Lease {age(since)} ago" if stale else ""


def _reshape(reshape: Reshape, now: datetime) -> Step:
    if reshape.retry_time is None:
        return Step(f"The replicas of {reshape.to} take over, one step at a time: {reshape.message or 'under way'}.")
    wait = reshape.retry_time - now
    when = f"at {clock_time(reshape.retry_time, now)}, in {age(wait)}" if wait > timedelta() else "at the next plan"
    return Step(
        f"The reshape to {reshape.to} is tried again {when}. It failed: {reshape.message or 'no reason given'}."
    )


def _changes(
    spec: LLMServiceSpec, status: LLMServiceStatus, conditions: Sequence[Judged], now: datetime
) -> Iterator[Step]:
    """What is under way, or what the decision would change if it were carried out."""
    progress = _of(conditions, ConditionType.PROGRESSING)
    if progress is not None and progress.status == "True":
        yield Step(f"Under way: {progress.message}.")
    if spec.mode is Mode.AUTO and spec.scales and (window := _next_window(spec, now)):
        yield Step(f"Replicas and shapes may be changed again {window}; those that load needs are added at any time.")
    decision = status.last_decision
    if decision is None or not status.shapes:
        return
    present = sum(shape.desired_replicas for shape in status.shapes)
    wanted = decision.chosen.replicas
    if wanted == present:
        return
    if spec.mode is Mode.RECOMMEND:
        yield Step(f"In mode Auto with the knob Replicas, replicas would go from {present} to {wanted}.")
    elif spec.replicas.scaled_by is Scaler.EXTERNAL:
        yield Step(f"The autoscaler is told to go from {present} to {wanted} replicas (dynawatt_desired_replicas).")
    elif spec.scales:
        yield Step(f"Replicas are to go from {present} to {wanted}.")
    else:
        yield Step(f"Replicas stay at {present}, where {wanted} would be best: `spec.knobs` does not contain Replicas.")


def _next_window(spec: LLMServiceSpec, now: datetime) -> str:
    """When the next change window opens; empty while one is open, or where there are none."""
    try:
        opening = None if is_open(spec.change_windows, now) else next_opening(spec.change_windows, now)
    except CronSimError:  # what the API server takes for a schedule need not be one
        return "when `spec.changeWindows` can be read: a schedule in it is no cron expression"
    return "" if opening is None else f"at {clock_time(opening, now)}, in {age(opening - now)}"


def _next_rung(
    found: Findings, spec: LLMServiceSpec, status: LLMServiceStatus, conditions: Sequence[Judged]
) -> Iterator[Step]:
    """The next rung of adoption, once the present one stands."""
    decision = status.last_decision
    if decision is None:
        return
    saving = decision.predicted_saving
    if spec.mode is Mode.RECOMMEND:
        percent = 0 if saving is None else saving.to_default_clock_percent
        share = f" and saves {percent}% by the model" if percent > 0 else ""
        knobs: dict[str, Any] = {} if spec.knobs == (Knob.CLOCK,) else {"knobs": [Knob.CLOCK.value]}
        yield Step(
            f"When you believe this: mode Auto with the knob Clock alone touches no pod{share}.",
            _patch(found, {"mode": Mode.AUTO.value} | knobs),
        )
        return
    drain = _of(conditions, ConditionType.DRAIN_CONFIGURED)
    missing = next((knob for knob in (Knob.REPLICAS, Knob.SHAPE) if knob not in spec.knobs), None)
    if missing is None or spec.replicas.scaled_by is Scaler.EXTERNAL or (missing, spec.scales) == (Knob.REPLICAS, True):
        return
    if drain is None or drain.status != "True":
        yield Step(f"Before the knob {missing} can be added, pods must finish their requests: see DrainConfigured.")
        return
    added = [*(knob.value for knob in spec.knobs), missing.value]
    yield Step(f"The next rung is the knob {missing}.", _patch(found, {"knobs": added}))


def _of(conditions: Sequence[Judged], type_: ConditionType) -> Judged | None:
    return next((condition for condition in conditions if condition.type == type_.value), None)


def _patch(found: Findings, spec: dict[str, Any]) -> str:
    metadata = found.service["metadata"]
    body = json.dumps({"spec": spec}, separators=(",", ":"))
    return f"kubectl -n {metadata['namespace']} patch llmsvc {metadata['name']} --type merge -p '{body}'"
