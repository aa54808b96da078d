from dynawatt.governing.reading import PodReading
from dynawatt.governing.table import ClockRow, GovernorTable

ROWS = (
    ClockRow(800, 1.0, 8_000.0, 20),
    ClockRow(1200, 3.0, 12_000.0, 60),
    ClockRow(1600, 6.0, 16_000.0, 100),
    ClockRow(1980, 8.0, 20_000.0, 140),
)
FLOOR_MHZ, CEILING_MHZ = 800, 1980


def table(**changes):
    values = {
        "attainment": 0.99,
        "tbt_s": 0.1,
        "drain_s": 0.5,
        "prompt_tokens": 1000.0,
        "kv_requests": 400.0,
        "judges_ttft": True,
        "rows": ROWS,
        **changes,
    }
    return GovernorTable(**values)


class Pod:
    """A pod's counters: requests that arrive at a rate and end at once, each with a first token and ten gaps."""

    def __init__(self):
        self.now_s = 100.0
        self.requests = 0.0
        self.tokens = 0.0
        self.late_tokens = 0.0
        self.late_gaps = 0.0

    def second(self, rate_rps, *, late=0.0, late_gaps=0.0, prompt_tokens=1000.0, running=5, waiting=0, kv_usage=0.04):
        """Let a second pass; its reading."""
        self.now_s += 1.0
        self.requests += rate_rps
        self.tokens += rate_rps * prompt_tokens
        self.late_tokens += late
        self.late_gaps += late_gaps
        return PodReading(
            running=running,
            waiting=waiting,
            kv_usage=kv_usage,
            finished=self.requests,
            first_tokens=self.requests,
            first_tokens_met=self.requests - self.late_tokens,
            gaps=10 * self.requests,
            gaps_met=10 * self.requests - self.late_gaps,
            prompt_tokens=self.tokens,
            generation_tokens=11 * self.requests,
        )


def clocks(governor, pod, seconds, rate_rps, **reading):
    """The clock of every second."""
    return [governor.step(pod.now_s, pod.second(rate_rps, **reading)) for _ in range(seconds)]
