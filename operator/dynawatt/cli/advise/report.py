"""Everything that a page of advice, or its JSON, is made of."""

from dataclasses import dataclass
from typing import Final

from dynawatt.cli.advise.observed import Observed
from dynawatt.cli.advise.present import Present
from dynawatt.cli.advise.resource import HIGHEST_PERCENTILE, dns_name, llmservice, vllm_flags
from dynawatt.cli.simulate.options import Slo
from dynawatt.perfmodel.profile import ReplicaProfile
from dynawatt.quantities import S_PER_HOUR
from dynawatt.simulation.advice.rungs import Advice, Rung, Step

_WORTHWHILE: Final = {Step.SHAPE: 0.05}
_WORTHWHILE_ELSE: Final = 0.01
"""Of the present energy: a rung that adds less is not worth its trouble. Another shape is a new Deployment."""
_SHORT_S: Final = 23 * S_PER_HOUR


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """Advice on one service, and what it stands on."""

    observed: Observed
    present: Present
    advice: Advice
    slo: Slo
    slo_text: str
    deployment: str | None
    """Name of the Deployment, where it is known."""
    namespace: str
    replicas_assumed: bool
    """Whether nobody said how many replicas there are."""

    @property
    def replica(self) -> ReplicaProfile:
        """Models of the present shape."""
        return self.present.shape.replica

    @property
    def misses_slo(self) -> bool:
        """Whether the configuration as it is misses the SLO, as predicted or as vLLM measured for certain."""
        latency = self.observed.latency
        measured = latency is not None and min(latency.tbt, latency.ttft_at_most) < self.slo.fraction
        return measured or not self.meets(self.advice.present)

    @property
    def title(self) -> str:
        """The Deployment's name, or one made up after the model."""
        return self.deployment or dns_name(self.present.vllm.model)

    def meets(self, rung: Rung) -> bool:
        """Whether a rung is predicted to meet the SLO."""
        return rung.cost.attainment >= self.slo.fraction

    def added(self, rung: Rung) -> float:
        """Part of the present energy that a rung saves beyond the one below it."""
        below = self.advice.rungs[self.advice.rungs.index(rung) - 1]
        return rung.saving.share - below.saving.share

    def is_worthwhile(self, rung: Rung) -> bool:
        """Whether it saves enough beyond the one below, and meets the SLO if that one does."""
        below = self.advice.rungs[self.advice.rungs.index(rung) - 1]
        enough = _WORTHWHILE.get(rung.step, _WORTHWHILE_ELSE)
        return self.added(rung) >= enough and (self.meets(rung) or not self.meets(below))

    def flags(self, rung: Rung) -> list[str]:
        """VLLM flags that a rung changes."""
        return vllm_flags(rung.course.model.shape, self.present.shape)

    def resource(self, rung: Rung) -> dict[str, object] | None:
        """The LLMService of a rung that needs one."""
        if rung.step not in (Step.CLOCK, Step.REPLICAS):
            return None
        return llmservice(self.advice, rung.step, self.slo, self.title, self.namespace)

    @property
    def best_resource(self) -> dict[str, object] | None:
        """That of the highest rung which is worthwhile and takes an LLMService."""
        rungs = [self.advice.rung(step) for step in (Step.REPLICAS, Step.CLOCK)]
        known = [rung for rung in rungs if rung is not None]
        best = next((rung for rung in known if self.is_worthwhile(rung)), known[-1] if known else None)
        return None if best is None else self.resource(best)

    def measured(self) -> list[str]:
        """What was counted."""
        load, mix = self.observed.load, self.observed.load.mix
        known_h, all_h = load.known_s / S_PER_HOUR, float(load.width_s.sum()) / S_PER_HOUR
        time = _hours(known_h) if known_h > 0.999 * all_h else f"{_hours(known_h)} of {_hours(all_h)}, gaps left out"
        found = [
            f"{load.requests:,.0f} requests in {time} from {self.observed.source}: {load.mean_rps:.2f}/s, "
            f"{load.peak_rps:.2f}/s in the busiest five minutes",
            f"lengths: mean {mix.mean_input_tokens:.0f} tokens in, {mix.mean_output_tokens:.0f} out; "
            f"{self.observed.mix_source}",
        ]
        if self.observed.cv_source == "measured":
            found.append(f"burstiness: as of gaps between requests with a CV of {load.cv:.2f} (1 is Poisson)")
        if self.observed.prefix_hit_ratio > 0:
            found.append(f"prefix cache: {self.observed.prefix_hit_ratio:.0%} of prompt tokens are found in it")
        if self.observed.replicas is not None:
            low, high = int(self.observed.replicas.min()), int(self.observed.replicas.max())
            found.append(f"replicas: {low}" if low == high else f"replicas: {low} to {high}, as they were")
        if (latency := self.observed.latency) is not None:
            found.append(
                f"latency by vLLM's own histograms: {latency.tbt:.1%} of gaps in time; of first tokens "
                f"{latency.ttft_at_least:.1%} to {latency.ttft_at_most:.1%}, as they know no input lengths"
            )
        fit = self.observed.fit
        if fit.dropped or fit.clipped:
            found.append(
                f"{fit.dropped} requests too long for the model were dropped, {fit.clipped} cut to its context"
            )
        return found

    def assumed(self) -> list[str]:
        """What was not known, and what the models take for granted."""
        power = [each for each in self.replica.model.residuals if each.quantity == "power"]
        found = list(self.present.assumed)
        if self.replicas_assumed:
            found.append(f"{self.advice.present.course.replicas[0]} replicas, what the peak needs (--replicas)")
        if self.observed.cv_source != "measured":
            found.append(f"burstiness: CV {self.observed.load.cv:.2f}, {self.observed.cv_source}")
        if self.observed.load.known_s < _SHORT_S:
            found.append(
                f"{_hours(self.observed.load.known_s / S_PER_HOUR)} stand for all days: nights and weekends, when "
                "most is saved, are not seen"
            )
        found.append("requests spread over all replicas, each to the one with the fewest")
        if power:
            worst = max(each.p90_abs_error for each in power)
            found.append(f"watts: profile {self.replica.model.name}, 9 of 10 measurements within {worst:.0%}")
        found += [
            f"what a lower clock saves: derived, not measured on this GPU; to within "
            f"{self.replica.model.power.clock_band:.0%} of it, which the bands hold",
            f"GPUs that no pod holds idle at {self.replica.released_w:.0f} W; a new replica takes "
            f"{self.advice.present.course.model.curve.startup_s / 60:.1f} min to start",
            "replicas follow a forecast that begins with no history",
        ]
        if self.slo.percentile > HIGHEST_PERCENTILE or self.slo.percentile % 1:
            found.append(
                f"an LLMService takes whole percentiles up to {HIGHEST_PERCENTILE}: the resource has the next lower"
            )
        return found


def _hours(hours: float) -> str:
    return f"{60 * hours:.0f} minutes" if hours < 1.995 else f"{hours:.0f} hours"
