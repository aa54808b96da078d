"""The same explanation as JSON, units in the names."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

from dynawatt.api.llmservice_status import Change, Decision, EngineAdvice, Reshape
from dynawatt.cli.explain.explanation import Explanation, slo_text
from dynawatt.cli.explain.judging import Judged


def to_json(told: Explanation) -> dict[str, Any]:
    """All of it."""
    spec, status = told.spec, told.status
    return {
        "namespace": told.namespace,
        "name": told.name,
        "deployment": told.deployment,
        "time": _json_time(told.now),
        "mode": None if spec is None else spec.mode.value,
        "knobs": None if spec is None else [knob.value for knob in spec.knobs],
        "paused": None if spec is None else spec.paused,
        "slo": None if spec is None else slo_text(spec.slo),
        "conditions": [_condition(each) for each in told.conditions],
        "replicas": [asdict(each) for each in told.replicas],
        "last_decision": None if status.last_decision is None else _decision(status.last_decision),
        "reshape": None if status.reshape is None else _reshape(status.reshape),
        "engine_advice": [_advice(each) for each in status.engine_advice],
        "clocks": [
            {
                "pods": list(group.pods),
                "claim_mhz": group.claim_mhz or None,
                "gpus": group.gpus,
                "told": group.told,
                "as_claimed": group.as_claimed,
                "remedy": group.remedy or None,
            }
            for group in told.clocks
        ],
        "last_changes": [_change(change) for change in status.last_changes],
        "events": [
            {"time": _json_time(event.time), "type": event.type, "reason": event.reason, "message": event.message}
            for event in told.events
        ],
        "next": [{"text": step.text, "command": step.command or None} for step in told.next],
        "not_understood": list(told.not_understood),
        "unread": dict(told.unread),
    }


def _json_time(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _condition(condition: Judged) -> dict[str, Any]:
    return {
        "type": condition.type,
        "status": condition.status,
        "reason": condition.reason,
        "message": condition.message,
        "since": _json_time(condition.since),
        "standing": condition.standing.value,
        "remedy": condition.remedy or None,
    }


def _decision(decision: Decision) -> dict[str, Any]:
    saving, chosen = decision.predicted_saving, decision.chosen
    options = [(chosen, None), *((other, other.why_not) for other in decision.runners_up)]
    return {
        "time": _json_time(decision.time),
        "reason": decision.reason,
        "message": decision.message,
        "options": [
            {
                "chosen": point is chosen,
                "replicas": point.replicas,
                "tensor_parallel": point.tensor_parallel_size,
                "clock_mhz": point.clock_megahertz,
                "predicted_power_w": point.predicted_watts,
                "why_not": why_not,
            }
            for point, why_not in options
        ],
        "predicted_saving_percent": None
        if saving is None
        else {"to_keeping": saving.to_keeping_percent, "to_default_clock": saving.to_default_clock_percent},
    }


def _reshape(reshape: Reshape) -> dict[str, Any]:
    return {
        "to": reshape.to,
        "started": _json_time(reshape.started_time),
        "attempts": reshape.attempts,
        "retry": None if reshape.retry_time is None else _json_time(reshape.retry_time),
        "message": reshape.message,
    }


def _advice(advice: EngineAdvice) -> dict[str, Any]:
    return {
        "flags": list(advice.flags),
        "saves_percent": advice.saves_percent,
        "needs_plug_in": advice.needs_plug_in,
        "message": advice.message,
    }


def _change(change: Change) -> dict[str, Any]:
    return {
        "time": _json_time(change.time),
        "knob": change.knob.value,
        "from": change.from_,
        "to": change.to,
        "reason": change.reason,
    }
