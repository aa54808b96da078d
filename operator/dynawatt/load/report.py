"""What a load test found, as data."""

from dataclasses import asdict, dataclass
from typing import Any

from dynawatt.workload.objectives import LatencyObjectives


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of a latency, in seconds; None when nothing was measured."""

    p50: float | None
    p90: float | None
    p99: float | None


@dataclass(frozen=True, slots=True)
class Attainment:
    """Fractions within the objectives; None without objectives, or when nothing was measured."""

    ttft: float | None
    """Of all requests that ended; a failed one has missed its objective."""
    tbt: float | None
    """Of all gaps between two events that carry tokens, failed requests included."""


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """A load test at one moment. "Recent" is the last 10 s."""

    elapsed_s: float
    planned: int
    """Requests of the whole replay."""
    sent: int
    outstanding: int
    succeeded: int
    failed: int
    retried: int
    attainment: Attainment
    recent_rps: float
    recent_tokens_per_s: float
    recent_attainment: Attainment
    recent_ttft_s: Percentiles
    recent_tbt_s: Percentiles


@dataclass(frozen=True, slots=True)
class LoadReport:
    """A load test that has ended."""

    planned: int
    requests: int
    """Sent; the sum of succeeded, failed and unfinished."""
    succeeded: int
    failed: int
    unfinished: int
    """Cut off because the test was stopped; they count neither as failed nor in the attainment."""
    retried: int
    """Times a request was sent again, to another pod, because one refused the connection or answered 503."""
    failed_by_reason: dict[str, int]
    failure_examples: dict[str, str]
    """For each reason what one request met."""
    attainment: Attainment
    ttft_s: Percentiles
    """From the scheduled arrival to the first token, of the requests that got one."""
    tbt_s: Percentiles
    gaps: int
    prompt_tokens: int
    """Of the requests that succeeded."""
    generated_tokens: int
    duration_s: float
    max_send_delay_s: float
    """How late the generator itself was at worst; it counts as part of the TTFT."""
    objectives: LatencyObjectives | None
    stopped: str | None
    """Why the replay ended before its end; the report is partial then."""

    @property
    def tokens_per_s(self) -> float:
        """Generated tokens per second of the test."""
        return self.generated_tokens / self.duration_s if self.duration_s > 0 else 0.0

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        objectives = None
        if self.objectives is not None:
            objectives = {
                "ttft": [{"max_input_tokens": bound, "s": limit_s} for bound, limit_s in self.objectives.ttft],
                "tbt_s": self.objectives.tbt_s,
            }
        return {
            **asdict(self),
            "objectives": objectives,
            "tokens_per_s": self.tokens_per_s,
            "partial": self.stopped is not None,
        }
