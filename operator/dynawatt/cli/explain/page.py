"""The page that ``dynawatt explain`` prints, for a terminal of 80 columns."""

from collections.abc import Iterator, Sequence
from typing import Final

from dynawatt.api.llmservice import Mode
from dynawatt.api.llmservice_status import OperatingPoint
from dynawatt.cli.explain.ages import age, clock_time
from dynawatt.cli.explain.explanation import Explanation, slo_text
from dynawatt.cli.explain.judging import Judged, Standing
from dynawatt.cli.layout import Paint, table, wrapped

_NAMED_PODS: Final = 3
_MARKS: Final = {Standing.GOOD: "green", Standing.NOTED: "yellow", Standing.UNKNOWN: "yellow", Standing.BAD: "red"}


def page(told: Explanation, paint: Paint) -> str:
    """The whole page."""
    sections = (_attention, _replicas, _decision, _reshape, _clocks, _advice, _changes, _events, _next, _notes)
    lines = list(_head(told, paint))
    for section in sections:
        body = list(section(told, paint))
        if body:
            lines += ["", *body]
    return "\n".join(lines) + "\n"


def _head(told: Explanation, paint: Paint) -> Iterator[str]:
    yield paint(f"LLMService {told.namespace}/{told.name}", "bold")
    ready = next((condition for condition in told.conditions if condition.type == "Ready"), None)
    if ready is None:
        yield from wrapped("the operator has not looked at it yet", "  ")
    else:
        word = "Ready" if ready.status == "True" else "not Ready" if ready.status == "False" else "Ready: unknown"
        first, *rest = wrapped(f"{word}, {ready.reason}: {ready.message}", "  ")
        yield "\n".join([paint(first, _MARKS[ready.standing]), *rest])
    if told.spec is not None:
        yield from wrapped(_asked(told), "  ")
        yield from wrapped(slo_text(told.spec.slo), "  ")
    good = [condition for condition in told.by_standing(Standing.GOOD) if condition.type != "Ready"]
    if names := ", ".join(_name(condition) for condition in good):
        yield from wrapped(names, " " * 12, "  as wanted ")
    if unknown := ", ".join(condition.type for condition in told.by_standing(Standing.UNKNOWN)):
        yield from wrapped(unknown, " " * 16, "  not known yet ")


def _asked(told: Explanation) -> str:
    """What the user wants done."""
    spec = told.spec
    assert spec is not None
    knobs = ", ".join(knob.value for knob in spec.knobs)
    mode = f"mode Auto with {knobs}" if spec.mode is Mode.AUTO else f"mode {spec.mode.value}"
    limits = f"{spec.replicas.min} to {spec.replicas.max} replicas"
    if spec.max_gpus is not None:
        limits += f", at most {spec.max_gpus} GPUs"
    return f"Deployment {told.deployment}, {mode}{', paused' if spec.paused else ''}; {limits}"


def _attention(told: Explanation, paint: Paint) -> Iterator[str]:
    noted = [condition for condition in told.by_standing(Standing.NOTED) if condition.type != "Ready"]
    if not told.attention and not noted:
        return
    yield paint("Conditions", "bold")
    for condition in told.attention:
        yield from _condition(told, condition, paint, mark="!")
        if condition.remedy:
            yield from wrapped(condition.remedy, "       ", "    -> ")
    for condition in noted:
        yield from _condition(told, condition, paint, mark=" ")


def _condition(told: Explanation, condition: Judged, paint: Paint, *, mark: str) -> Iterator[str]:
    since = age(told.now - condition.since)
    text = f"{_name(condition)}, {condition.reason} for {since}: {condition.message}"
    first, *rest = wrapped(text, "    ", f"  {mark} ")
    yield paint(first, _MARKS[condition.standing]) if mark.strip() else first
    yield from rest


def _name(condition: Judged) -> str:
    """Type and status in words."""
    return {"True": "", "False": "not ", "Unknown": "unknown whether "}.get(condition.status, "") + condition.type


def _replicas(told: Explanation, paint: Paint) -> Iterator[str]:
    if not told.replicas:
        return
    yield paint("Replicas", "bold")
    rows = [("READY", "TP", "CLOCK, MHz", "GPU", "DEPLOYMENT")]
    for each in told.replicas:
        size = "?" if each.tensor_parallel is None else str(each.tensor_parallel)
        counts = f"{each.ready}/{each.desired}"
        rows.append((counts, size, each.clock_mhz or "default", each.gpu_product or "?", each.deployment))
    yield from table(rows, right=(0, 1, 2))


def _decision(told: Explanation, paint: Paint) -> Iterator[str]:
    decision = told.status.last_decision
    if decision is None:
        return
    yield paint(f"Last decision, {age(told.now - decision.time)} ago: {decision.reason}", "bold")
    yield from wrapped(decision.message, "  ")
    yield from table([("REPLICAS", "TP", "CLOCK, MHz", "WATTS", ""), *_options(told)], right=(0, 1, 2, 3))
    if (saving := decision.predicted_saving) is not None:
        parts = [
            f"{abs(percent)}% {'less' if percent > 0 else 'more'} energy than {compared}"
            for percent, compared in (
                (saving.to_keeping_percent, "the replicas as they were"),
                (saving.to_default_clock_percent, "the same replicas at the default clock"),
            )
            if percent
        ]
        yield from wrapped(f"By the model this takes {' and '.join(parts) or 'as much energy as before'}.", "  ")


def _options(told: Explanation) -> Iterator[tuple[str, ...]]:
    decision = told.status.last_decision
    assert decision is not None
    options: list[tuple[OperatingPoint, str]] = [(decision.chosen, "chosen")]
    options += [(other, other.why_not) for other in decision.runners_up]
    for point, why in options:
        size = point.tensor_parallel_size
        watts = f"{point.predicted_watts:,}"
        yield str(point.replicas), "" if size is None else str(size), str(point.clock_megahertz), watts, why


def _reshape(told: Explanation, paint: Paint) -> Iterator[str]:
    reshape = told.status.reshape
    if reshape is None:
        return
    failed = f", failed {reshape.attempts} times in a row" if reshape.attempts > 1 else ""
    yield paint(f"Reshape to {reshape.to}, since {age(told.now - reshape.started_time)}{failed}", "bold")
    yield from wrapped(reshape.message or "under way", "  ")


def _clocks(told: Explanation, paint: Paint) -> Iterator[str]:
    if not told.clocks or not any(group.claim_mhz or not group.as_claimed for group in told.clocks):
        return
    yield paint("Clock claims, and what the agents report", "bold")
    rows = [("PODS", "GPUS", "CLAIM, MHz", "")]
    for group in told.clocks:
        which = "" if group.as_claimed else f" ({_some(group.pods)})"
        rows.append((str(len(group.pods)), str(group.gpus), group.claim_mhz or "none", group.told + which))
    yield from table(rows, right=(0, 1, 2))
    for remedy in dict.fromkeys(group.remedy for group in told.clocks if group.remedy):
        yield from wrapped(remedy, "     ", "  -> ")


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED_PODS} more" if len(names) > _NAMED_PODS else ""
    return f"{', '.join(names[:_NAMED_PODS])}{more}"


def _advice(told: Explanation, paint: Paint) -> Iterator[str]:
    advice = told.status.engine_advice
    if not advice:
        return
    yield paint("vLLM flags worth changing by hand", "bold")
    for each in advice:
        saves = "" if each.saves_percent is None else f" Saves {each.saves_percent}% by the model."
        needs = " Does nothing before dynawatt's plug-in for vLLM is installed." if each.needs_plug_in else ""
        for flag in each.flags:
            yield f"  {flag}"
        yield from wrapped(f"{each.message.rstrip('.')}.{saves}{needs}", "    ")


def _changes(told: Explanation, paint: Paint) -> Iterator[str]:
    changes = told.status.last_changes
    if not changes:
        return
    yield paint("Last changes", "bold")
    rows = [
        (f"{age(told.now - change.time)} ago", f"{change.knob.value} {change.from_} -> {change.to}", change.reason)
        for change in changes
    ]
    yield from table(rows, right=(0,))


def _events(told: Explanation, paint: Paint) -> Iterator[str]:
    if not told.events:
        return
    yield paint("Events", "bold")
    rows = [(f"{age(told.now - event.time)} ago", event.reason, event.message) for event in told.events]
    yield from table(rows, right=(0,))


def _next(told: Explanation, paint: Paint) -> Iterator[str]:
    yield paint("Next", "bold")
    for step in told.next:
        yield from wrapped(step.text, "    ", "  - ")
        if step.command:
            yield f"      {step.command}"


def _notes(told: Explanation, paint: Paint) -> Iterator[str]:
    if told.not_understood:
        yield from wrapped(
            f"Written by another version and left out here: {', '.join(told.not_understood)}. Use the version of "
            "dynawatt that the operator has.",
            "  ",
            "",
        )
    for what, why in told.unread.items():
        yield from wrapped(f"Not looked at: {what.replace('_', ' ')} ({why}).", "  ", "")
    if told.not_understood or told.unread:
        return
    yield paint(f"As of {clock_time(told.now, told.now)}.", "dim")
