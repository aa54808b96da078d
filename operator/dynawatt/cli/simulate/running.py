"""Runs one policy after another over the same load."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from dynawatt.accounting.tariff import Tariff
from dynawatt.cli.simulate.comparison import Comparison, Fidelity, PolicyRun, Question, Refusal, bound_names
from dynawatt.cli.simulate.loads import Load
from dynawatt.cli.simulate.progress import ProgressBars
from dynawatt.cli.simulate.study import PreparedStudy
from dynawatt.errors import InvalidInputError
from dynawatt.routing.prediction import LengthPredictor
from dynawatt.simulation.driver import SimulationSettings, simulate
from dynawatt.simulation.policies.catalog import BOUND, BUILDERS
from dynawatt.simulation.policies.clairvoyant import Bound, clairvoyant
from dynawatt.simulation.policy import Policy
from dynawatt.simulation.results import PolicyResult
from dynawatt.simulation.slots.driver import simulate_slots
from dynawatt.simulation.study import Study
from dynawatt.workload.trace import Trace


def run_all(
    names: Sequence[str],
    prepared: PreparedStudy,
    load: Load,
    question: Question,
    bars: ProgressBars,
    *,
    tolerant: bool = False,
    tariff: Tariff | None = None,
) -> Comparison:
    """Build and simulate policies in order; each name of the catalog once.

    With ``tolerant`` a policy that cannot be built, or whose first fleet does not fit the inventory, is left out with
    the reason; otherwise that raises InvalidInputError. A tariff is for what energy costs.
    """
    runner = _Runner(prepared, load, question, bars)
    runs: list[PolicyRun] = []
    refusals: list[Refusal] = []
    bounds: dict[str, Bound] = {}
    runner.compile()
    for name in names:
        try:
            if name == BOUND:
                wanted = bound_names([run.result for run in runs])
                bounds.update({each: clairvoyant(each, prepared.study, load.horizon_s) for each in wanted})
            else:
                runs.append(runner.run(name))
        except InvalidInputError as error:
            if not tolerant:
                raise
            refusals.append(Refusal(name, str(error)))
    return Comparison(question, tuple(runs), bounds, tuple(refusals), prepared.wall_s, tariff, load.fit)


@dataclass(slots=True)
class _Runner:
    prepared: PreparedStudy
    load: Load
    question: Question
    bars: ProgressBars

    @property
    def study(self) -> Study:
        return self.prepared.study

    def run(self, name: str) -> PolicyRun:
        """Build and simulate one."""
        begin_s = time.perf_counter()
        policy = BUILDERS[name](name, self.study)
        build_s = time.perf_counter() - begin_s
        self.bars.begin(name, self.load.horizon_s)
        begin_s = time.perf_counter()
        result, drawing_s = self._simulate(policy, self.settings(policy))
        return PolicyRun(result, build_s, time.perf_counter() - begin_s - drawing_s)

    def settings(self, policy: Policy) -> SimulationSettings:
        """The same for all policies; a fleet sized beyond the inventory gets what it needs, and pays for it."""
        servers = max(self.study.servers, policy.servers if isinstance(policy, _SizedFleet) else 0)
        return SimulationSettings(
            self.load.horizon_s,
            servers,
            self.question.slo.percentile,
            startup_s=self.study.startup_s,
            predictor=LengthPredictor(self.study.predictor_accuracy, self.load.seed),
            classes=self.study.classes,
        )

    def compile(self) -> None:
        """Simulate a second without requests, so that compiling, or loading what was compiled, counts for no policy."""
        policy = BUILDERS[next(iter(BUILDERS))](next(iter(BUILDERS)), self.study)
        if self.question.fidelity is Fidelity.EVENTS:
            simulate(policy, (), self.study.objectives, replace(self.settings(policy), horizon_s=1.0))

    def _simulate(self, policy: Policy, settings: SimulationSettings) -> tuple[PolicyResult, float]:
        """The result, and the wall time of reading or drawing the load."""
        show: Callable[[float], None] = self.bars.show
        if self.question.fidelity is Fidelity.SLOTS:
            return simulate_slots(policy, self.prepared.counts.slots, self.study, settings, show), 0.0
        arrivals = _Timed(self.load.chunks())
        return simulate(policy, arrivals, self.study.objectives, settings, show), arrivals.wall_s


@runtime_checkable
class _SizedFleet(Protocol):
    @property
    def servers(self) -> int:
        """Whole servers that the policy was sized to."""
        ...


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
