"""The page that ``dynawatt advise`` prints: what was found, what to do, what it stands on."""

import textwrap
from collections.abc import Iterator
from math import floor
from typing import Final

from dynawatt.cli.advise.report import Report
from dynawatt.cli.advise.resource import as_yaml
from dynawatt.quantities import kwh
from dynawatt.simulation.advice.rungs import Rung, Step

_WIDTH: Final = 100
_NAMES: Final = {
    Step.PRESENT: "as it is",
    Step.FLAGS: "1 engine flags",
    Step.CLOCK: "2 + GPU clock",
    Step.REPLICAS: "3 + replicas",
    Step.SHAPE: "4 + shape",
}
_HEAD: Final = ("", "replicas", "clock, MHz", "watts", "kWh/day", "saves", "band", "TTFT ok", "TBT ok")


def page(report: Report) -> str:
    """The whole page."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    replica, advice = report.replica, report.advice
    counts = advice.present.course.replicas
    many = f"{counts.max()}" if counts.min() == counts.max() else f"{counts.min()} to {counts.max()}"
    yield (
        f"dynawatt advise: {replica.model.architecture.name} {replica.model.precision}, {many} x "
        f"{replica.tensor_parallel} {replica.gpu.name}, {', '.join(_settings(report))}"
    )
    yield ""
    yield from _verdict(report)
    yield ""
    yield from _table(report)
    yield ""
    yield "What to do, in this order"
    for number, step in enumerate(_steps(report), start=1):
        yield from _wrapped(step, f"  {number}. ")
    if (resource := report.best_resource) is not None:
        yield ""
        if report.deployment is None:
            yield "    # Put in the names of your Deployment and its namespace."
        yield from textwrap.indent(as_yaml(resource), "    ").rstrip().splitlines()
    for title, sentences in (("Measured", report.measured()), ("Assumed", report.assumed())):
        yield ""
        yield title
        for sentence in sentences:
            yield from _wrapped(sentence, "  - ")


def _settings(report: Report) -> list[str]:
    settings = report.present.shape.settings
    found = [f"chunk {settings.max_num_batched_tokens}"]
    if settings.long_prefill_token_threshold:
        found.append(f"long prefills by {settings.long_prefill_token_threshold}")
    return found


def _verdict(report: Report) -> Iterator[str]:
    present, slo = report.advice.present.cost, report.slo
    judged = "MISSES" if report.misses_slo else "meets"
    yield from _wrapped(
        f"As it is the service {judged} its SLO ({report.slo_text}): predicted are {_percent(present.ttft_attainment)} "
        f"of first tokens and {_percent(present.tbt_attainment)} of gaps in time, {slo.percentile:g}% wanted; in the "
        f"worst five minutes {_percent(present.worst_attainment)}."
    )
    if report.misses_slo:
        yield from _wrapped("Savings are against a configuration that does not do its job: mend that first.")
    if (latency := report.observed.latency) and abs(latency.tbt - present.tbt_attainment) > 0.02:
        yield from _wrapped(
            f"vLLM itself measured {latency.tbt:.1%} of gaps in time: where the model and it disagree, trust vLLM."
        )


def _table(report: Report) -> Iterator[str]:
    rows = [_HEAD, *(_row(report, rung, _name(rung)) for rung in report.advice.rungs)]
    if (urgent := report.advice.urgent_first) is not None:
        rows.append(_row(report, urgent, "3 by deadline *"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    for row in rows:
        first, *others = zip(row, widths, strict=True)
        cells = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        yield "  " + "  ".join(cells).rstrip()
    notes = ["Each rung holds those above it. Watts: mean of all GPUs you have, those that no pod holds idling."]
    notes += [
        f"{_name(rung)} takes up to {rung.cost.most_gpus} GPUs, {rung.cost.most_gpus - report.advice.inventory_gpus} "
        "more than you have."
        for rung in report.advice.rungs
        if rung.cost.most_gpus > report.advice.inventory_gpus
    ]
    if urgent is not None:
        notes.append("* requests served in order of their deadlines: needs the vLLM plug-in, which does not exist yet.")
    for note in notes:
        yield from _wrapped(note, "  ")


def _name(rung: Rung) -> str:
    name = _NAMES[rung.step]
    return f"{name} (TP{rung.course.model.gpus})" if rung.step is Step.SHAPE else name


def _row(report: Report, rung: Rung, name: str) -> tuple[str, ...]:
    load, known = report.advice.load, report.advice.load.known
    replicas, clocks = rung.course.replicas[known], rung.course.clock_mhz[known]
    saving = rung.saving
    is_present = rung.step is Step.PRESENT
    return (
        name,
        _span(int(replicas.min()), int(replicas.max())),
        _span(int(clocks.min()), int(clocks.max())),
        f"{rung.cost.energy_j / load.known_s:,.0f}",
        f"{load.per_day(kwh(rung.cost.energy_j)):,.1f}",
        "" if is_present else _whole(saving.share),
        "" if is_present else f"{_whole(saving.low)} to {_whole(saving.high)}",
        _judged(rung.cost.ttft_attainment, report.slo.fraction),
        _judged(rung.cost.tbt_attainment, report.slo.fraction),
    )


def _judged(share: float, wanted: float) -> str:
    return _percent(share) + ("" if share >= wanted else "!")


def _whole(share: float) -> str:
    """Whole percents; no -0."""
    return f"{round(100 * share) + 0}%"


def _percent(share: float) -> str:
    """Cut, not rounded: 98.96 % is not 99.0 %."""
    return f"{floor(1000 * share + 1e-9) / 10:.1f}%"


def _span(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}-{high}"


def _steps(report: Report) -> Iterator[str]:
    """What to do, each with what it brings."""
    yield _flags_step(report)
    for rung in report.advice.rungs:
        if rung.step in _STEPS:
            yield _STEPS[rung.step](report, rung)


def _flags_step(report: Report) -> str:
    flags, rung = report.advice.flags, report.advice.rung(Step.FLAGS)
    if rung is None:
        return (
            f"No flags make a replica of TP{report.replica.tensor_parallel} meet this SLO under any load: loosen the "
            "objectives, or see the shape below."
        )
    if not flags.changed:
        return "Leave the engine flags: no others let a replica carry noticeably more."
    before = f"instead of {flags.before_rps:.1f}" if flags.before_rps > 0 else "where now it misses it at any load"
    return (
        f"Restart vLLM with {' '.join(report.flags(rung))}. A replica then carries {flags.after_rps:.1f} requests/s "
        f"within the SLO {before}: what the next rungs save stands on that."
    )


def _clock_step(report: Report, rung: Rung) -> str:
    if not report.is_worthwhile(rung):
        return "Leave the GPU clocks: lower ones save nothing worth it here within the SLO."
    return (
        "Install dynawatt and apply the LLMService below. `mode: Recommend` changes nothing and explains itself in its "
        f"status; `mode: Auto` with `knobs: [Clock]` then saves {_whole(report.added(rung))}, and no pod is touched."
    )


def _replicas_step(report: Report, rung: Rung) -> str:
    if report.is_worthwhile(rung):
        spare = " A single replica has no spare when its pod dies: raise `replicas.min` where that matters."
        single = spare if rung.course.replicas.min() == 1 < report.advice.present.course.replicas.min() else ""
        return f"When you trust it, add the knob Replicas: {_whole(report.added(rung))} more.{single}"
    if report.meets(rung):
        return "Leave the number of replicas to whoever sets it now: following the load saves nothing worth it here."
    return (
        "Leave the number of replicas to whoever sets it now: following this load with a forecast that has no history "
        "would miss the SLO."
    )


def _shape_step(report: Report, rung: Rung) -> str:
    degree = rung.course.model.gpus
    if not report.is_worthwhile(rung):
        return f"Stay with TP{report.replica.tensor_parallel}: the next best, TP{degree}, is hardly better, or worse."
    return (
        f"Consider TP{degree}: {_whole(report.added(rung))} more. Redeploy with {' '.join(report.flags(rung))} and "
        f"{degree} GPUs per pod: dynawatt does not change shapes by itself yet."
    )


_STEPS: Final = {Step.CLOCK: _clock_step, Step.REPLICAS: _replicas_step, Step.SHAPE: _shape_step}


def _wrapped(text: str, first: str = "") -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_on_hyphens=False,
        break_long_words=False,
    )
