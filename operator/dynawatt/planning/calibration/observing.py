"""What a window of a shape's metrics says, in plain numbers that vLLM and the agents count exactly.

Latencies come as sums and counts: a histogram's sum is exact, while its buckets
are coarse (.025, .05, .075 s) and tell little of 10 %. The sums also tell what
else is needed: gaps last as long in all as requests decode, so that the sum over
the replicas' time is the mean number of decoding requests.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import exp, isfinite

from dynawatt.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class Observation:
    """A window, as long as a few scrapes (15 to 60 s), of one replica or of equal ones that share their load.

    Sums are over these replicas. Raises InvalidInputError for numbers that no window has.
    """

    replica_s: float
    """Seconds times replicas that served from its beginning to its end."""
    clocks_mhz: Sequence[float]
    """Samples of the SM clock, at least one. The mean alone is right for a clock that holds; where a governor moves it,
    a GPU draws more than it would at the mean, and takes longer."""
    gaps: float
    gap_sum_s: float
    """Of gaps between tokens: ``vllm:inter_token_latency_seconds`` (without speculative decoding)."""
    prompt_tokens: float
    """Prompt tokens that were computed: without those found in the prefix cache."""
    prefills: float = 0.0
    prefill_sum_s: float = 0.0
    """From the first iteration that worked on a prompt to its first token, ``vllm:request_prefill_time_seconds``: the
    time to first token without the wait in the queue. None observed is 0 of 0."""
    energy_j: float | None = None
    """Joules of all GPUs of these replicas."""
    context_tokens: float | None = None
    """Mean KV tokens of one replica's running requests; None takes the mix for it."""
    busy_s: float | None = None
    """Replica-seconds in which iterations ran; their number, the count of ``vllm:iteration_tokens_total``, times the
    mean gap is near enough. None takes requests to come at random: at low load up to 10 % too few joules."""

    def __post_init__(self) -> None:
        """Check ranges."""
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, float | int) and not (isfinite(value) and value >= 0):
                raise InvalidInputError(f"{each.name} {value} of an observed window: must be 0 or more")
        if not self.replica_s > 0:
            raise InvalidInputError(f"replica_s {self.replica_s} of an observed window: must be above 0")
        if not self.clocks_mhz:
            raise InvalidInputError("clocks_mhz of an observed window: must be at least one")

    @property
    def decoding(self) -> float:
        """Requests that decode, mean over time and replicas."""
        return self.gap_sum_s / self.replica_s

    @property
    def busy_share(self) -> float:
        """Part of the time in which iterations ran.

        The number of requests that come at random and do not disturb each other is Poisson distributed.
        """
        if self.busy_s is not None:
            return min(1.0, self.busy_s / self.replica_s)
        return 1 - exp(-(self.gap_sum_s + self.prefill_sum_s) / self.replica_s)
