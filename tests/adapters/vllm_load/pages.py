"""Pages of a vLLM pod as they would be at any moment of a steady load: every number follows from the time."""

from dataclasses import dataclass, replace
from math import inf

TTFT_S, TBT_S, INPUT, OUTPUT = 0.2, 0.03, 700, 100
BOUNDS = {
    "time_to_first_token_seconds": ((0.1, 0.25, 0.5, inf), TTFT_S),
    "inter_token_latency_seconds": ((0.025, 0.05, 0.1, inf), TBT_S),
    "request_prompt_tokens": ((100, 500, 1000, 2000, inf), INPUT),
    "request_generation_tokens": ((10, 50, 100, 200, inf), OUTPUT),
}


@dataclass(frozen=True)
class Pod:
    """Serves requests that arrive evenly, in constant time; all begins at time 0."""

    rate_rps: float = 4.0
    stay_s: float = 2.0
    """From arrival to the end."""
    aborted: float = 0.0
    """Part of the requests that clients give up after the first token, half way."""
    engines: int = 1
    old: bool = False
    """Under the names of vLLM 0.9."""
    both: bool = False
    """Under both names."""
    ttft_s: float = TTFT_S
    running: str | None = None
    """Instead of the true number."""

    def at(self, elapsed_s, stamp_ms=None):
        """The page so long after the start, with explicit timestamps if asked for."""
        tail = "" if stamp_ms is None else f" {stamp_ms}"
        return "".join(f"vllm:{name}{{{labels}}} {value}{tail}\n" for name, labels, value in self.series(elapsed_s))

    def series(self, elapsed_s):
        for engine in range(self.engines):
            labels = f'engine="{engine}",model_name="m"'
            for name, more, value in self._engine(max(0.0, elapsed_s)):
                yield name, f"{labels}{more}", value

    def _engine(self, elapsed_s):
        rate = self.rate_rps / self.engines
        arrived = rate * elapsed_s
        served = (1 - self.aborted) * rate * max(0.0, elapsed_s - self.stay_s)
        gone = self.aborted * rate * max(0.0, elapsed_s - self.stay_s / 2)
        yield "num_requests_running", "", self.running or arrived - served - gone
        yield "num_requests_waiting", "", 0
        for kv in self._names("kv_cache_usage_perc", "gpu_cache_usage_perc"):
            yield kv, "", 0.5
        for reason, part in (("stop", 0.75), ("length", 0.25), ("abort", 0.0)):
            yield "request_success_total", f',finished_reason="{reason}"', part * served
        yield "generation_tokens_total", "", OUTPUT * served
        first_tokens = rate * max(0.0, elapsed_s - self.ttft_s)
        counts = (first_tokens, OUTPUT * served, served, served)
        for (family, (bounds, each)), count in zip(BOUNDS.items(), counts, strict=True):
            taken = self.ttft_s if family == "time_to_first_token_seconds" else each
            tbt = family == "inter_token_latency_seconds"
            for name in self._names(family, "time_per_output_token_seconds") if tbt else [family]:
                yield f"{name}_count", "", count
                yield f"{name}_sum", "", count * taken
                for bound in bounds:
                    le = "+Inf" if bound == inf else bound
                    yield f"{name}_bucket", f',le="{le}"', count if taken <= bound else 0

    def _names(self, new, old):
        return [new, old] if self.both else [old if self.old else new]

    def but(self, **changes):
        return replace(self, **changes)
