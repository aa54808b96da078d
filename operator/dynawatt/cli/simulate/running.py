"""Runs one policy after another over the same load."""

import time
from collections.abc import Iterator
from dataclasses import replace

from dynawatt.cli.simulate.comparison import Comparison, Question
from dynawatt.cli.simulate.fleets import Fleets
from dynawatt.cli.simulate.loads import Load
from dynawatt.cli.simulate.progress import ProgressBars
from dynawatt.simulation.driver import SimulationSettings, simulate
from dynawatt.simulation.governed_policies import ClockOnlyPolicy
from dynawatt.simulation.results import PolicyResult
from dynawatt.simulation.static_policies import StaticPolicy
from dynawatt.workload.trace import Trace


def run_all(fleets: Fleets, load: Load, question: Question) -> Comparison:
    """Simulate them in order. Raises InvalidInputError when a fleet does not fit the inventory."""
    results: list[PolicyResult] = []
    walls_s: list[float] = []
    objectives, percentile = question.slo.objectives, question.slo.percentile
    settings = SimulationSettings(load.horizon_s, fleets.servers, percentile)
    _compile(fleets.policies[0], question)
    with ProgressBars() as bars:
        for policy in fleets.policies:
            bars.begin(policy.name, settings.horizon_s)
            arrivals = _Timed(load.chunks())
            # A static fleet that needs more servers than the inventory gets them, and pays for them.
            servers = max(fleets.servers, policy.servers)
            begin_s = time.perf_counter()
            results.append(simulate(policy, arrivals, objectives, replace(settings, servers=servers), bars.show))
            walls_s.append(time.perf_counter() - begin_s - arrivals.wall_s)
    return Comparison(question, tuple(results), tuple(walls_s), fleets.sizing_wall_s, load.fit)


def _compile(policy: StaticPolicy | ClockOnlyPolicy, question: Question) -> None:
    """Simulate a second without requests, so that compiling, or loading what was compiled, counts for no policy."""
    simulate(policy, (), question.slo.objectives, SimulationSettings(1.0, policy.servers))


class _Timed:
    """Passes chunks on and adds up how long it took to read or draw them."""

    def __init__(self, chunks: Iterator[Trace]) -> None:
        self._chunks = chunks
        self.wall_s = 0.0

    def __iter__(self) -> Iterator[Trace]:
        while True:
            begin_s = time.perf_counter()
            chunk = next(self._chunks, None)
            self.wall_s += time.perf_counter() - begin_s
            if chunk is None:
                return
            yield chunk
