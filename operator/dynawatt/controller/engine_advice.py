"""What the status says about vLLM's flags: those worth changing by hand, in sentences with numbers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from dynawatt.adapters.engine_settings import changed_flags, engine_flags
from dynawatt.adapters.vllm_args import VllmSettings
from dynawatt.adapters.vllm_load.buckets import FLAG, advised_buckets
from dynawatt.adapters.vllm_load.source import LoadObservation
from dynawatt.api.base import MESSAGE_LENGTH
from dynawatt.api.llmservice import SLO
from dynawatt.api.llmservice_status import EngineAdvice
from dynawatt.quantities import MS_PER_S
from dynawatt.simulation.advice.engine import BetterFlags, EngineFindings
from dynawatt.simulation.settings import EngineSettings, QueueOrder
from dynawatt.simulation.surface_question import SurfaceQuestion

_PRIORITY: Final = "--scheduling-policy=priority"


@dataclass(slots=True)
class AdviceBook:
    """What the advice on one service's flags is about, as remembered between ticks."""

    question: SurfaceQuestion | None = None
    """That the findings answer; None before there are any."""
    findings: EngineFindings | None = None
    _first_subject: tuple[object, ...] = ()
    """Since the operator started; what is on record is taken to be about it."""

    def take(self, question: SurfaceQuestion, findings: EngineFindings) -> None:
        """Keep an answer."""
        self.question, self.findings = question, findings

    def covers(self, question: SurfaceQuestion) -> bool:
        """Whether the findings are good enough an answer to this question.

        Those for a mix in the next bin are, so that one on the edge of two bins does not bring new advice in each tick.
        """
        if self.question is None or self.question.family() != question.family():
            return False
        pairs = zip(self.question.mix_bin, question.mix_bin, strict=True)
        return max(abs(a - b) for a, b in pairs) <= 1

    def advice(
        self, question: SurfaceQuestion, vllm: VllmSettings, recorded: Sequence[EngineAdvice]
    ) -> list[EngineAdvice]:
        """On these replicas: by the findings, whatever load they are for, or before there are any what is on record."""
        subject = _subject(question)
        self._first_subject = self._first_subject or subject
        if self.question is None or self.findings is None:
            if subject != self._first_subject:
                return []
            return [each for each in recorded if not (_is_on_buckets(each) or _is_followed(each, question.settings))]
        return list(flag_advice(self.findings, question, vllm)) if subject == _subject(self.question) else []


def flag_advice(findings: EngineFindings, question: SurfaceQuestion, vllm: VllmSettings) -> Iterator[EngineAdvice]:
    """Each entry alone leads from the settings as they are to better ones."""
    present, degree = question.settings, question.replica.tensor_parallel
    if (better := findings.flags) is not None:
        yield EngineAdvice(
            flags=changed_flags(better.tuned.settings, present),
            saves_percent=_percent(better.saving),
            message=_flags_message(findings, better, degree),
        )
    for better in findings.orders:
        flags = changed_flags(better.tuned.settings, present)
        deadline = better.tuned.settings.queue_order is QueueOrder.DEADLINE
        if not deadline and vllm.scheduling_policy != "priority":
            flags.append(_PRIORITY)
        yield EngineAdvice(
            flags=flags,
            saves_percent=_percent(better.saving),
            needs_plug_in=True,
            message=_order_message(findings, better, degree, deadline=deadline),
        )


def bucket_advice(slo: SLO, load: LoadObservation, recorded: Sequence[EngineAdvice]) -> list[EngineAdvice]:
    """Buckets that the SLO can be read from exactly, where vLLM has none; without load, what is on record."""
    if not load.ttft or not load.tbt:
        return [each for each in recorded if _is_on_buckets(each)]
    ttft_s = [objective_s for _, objective_s in slo.ttft_objectives_s]
    value = advised_buckets(
        ttft_s,
        slo.tbt_objective_s,
        ttft_bounds_s=[bound_s for bound_s, _ in load.ttft],
        tbt_bounds_s=[bound_s for bound_s, _ in load.tbt],
    )
    flag = f"{FLAG}={value}"
    if value is None or len(flag) > MESSAGE_LENGTH:  # longer only where somebody has given vLLM hundreds of buckets
        return []
    wanted = ", ".join(f"{MS_PER_S * objective_s:g}" for objective_s in dict.fromkeys(ttft_s))
    message = (
        f"vLLM's histograms then have buckets that end at the objectives, {wanted} ms to the first token and "
        f"{MS_PER_S * slo.tbt_objective_s:g} ms between tokens; until then attainment is interpolated inside a bucket, "
        "and agents judge by its end"
    )
    return [EngineAdvice(flags=[flag], message=message)]


def _subject(question: SurfaceQuestion) -> tuple[object, ...]:
    """What makes old advice useless when it changes; what is learnt of the profile does not."""
    return question.replica.name, question.settings, question.objectives, question.attainments[0]


def _is_on_buckets(advice: EngineAdvice) -> bool:
    return any(flag.startswith(FLAG) for flag in advice.flags)


def _is_followed(advice: EngineAdvice, present: EngineSettings) -> bool:
    given = {f"{flag}={value}" for flag, value in engine_flags(present).items()}
    return bool(advice.flags) and given.issuperset(advice.flags)


def _flags_message(findings: EngineFindings, better: BetterFlags, degree: int) -> str:
    before, after = findings.present, better.tuned
    if before.capacity_rps <= 0:
        return (
            f"a replica of TP{degree} misses the SLO under any load; then it carries {_figure(after.capacity_rps)} "
            f"requests/s, for {_figure(after.request_j)} J each beyond what idle GPUs draw"
        )
    return (
        f"a replica of TP{degree} then carries {_figure(after.capacity_rps)} requests/s within the SLO instead of "
        f"{_figure(before.capacity_rps)}, for {_figure(after.request_j)} J each beyond what idle GPUs draw instead of "
        f"{_figure(before.request_j)}; saved where clocks and replicas follow the load"
    )


def _order_message(findings: EngineFindings, better: BetterFlags, degree: int, *, deadline: bool) -> str:
    how = "when requests wait in order of their deadlines"
    if deadline:
        how += " and long prefills are set aside for urgent ones, by the plug-in's own scheduler (--scheduler-cls)"
    rival = "as it is" if findings.flags is None else "with the best flags for the present order"
    return (
        f"{how}, a replica of TP{degree} carries {_figure(better.tuned.capacity_rps)} requests/s within the SLO, for "
        f"{_figure(better.tuned.request_j)} J each beyond what idle GPUs draw: {_percent(better.added_saving)}% less "
        f"energy than {rival}"
    )


def _figure(value: float) -> str:
    """Three digits are more than the model knows."""
    return f"{float(f'{value:.3g}'):,g}"


def _percent(saving: float | None) -> int | None:
    return None if saving is None else round(100 * saving)
