"""What each part of our policy is worth: it again with one thing taken away or changed, beside single-pool."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from dynawatt.cli.simulate.comparison import Ablated, Comparison
from dynawatt.cli.simulate.options import Slo
from dynawatt.cli.simulate.progress import ProgressBars
from dynawatt.cli.simulate.session import Conditions, Session, prepare
from dynawatt.errors import InvalidInputError
from dynawatt.simulation.policies.dynawatt import DYNAWATT
from dynawatt.simulation.results import PolicyResult
from dynawatt.simulation.static_policies import SINGLE_POOL
from dynawatt.simulation.study import Foresight, Knobs, SurfaceSource
from dynawatt.workload.objectives import LatencyObjectives

DEFAULT_ABLATED: Final = list(DYNAWATT)[-1]
_KNOBS: Final = {
    "no clock knob": Knobs(clock=False),
    "no replica knob": Knobs(replicas=False),
    "no shape knob": Knobs(shape=False),
    "untuned engine settings": Knobs(settings=False),
    "no governor": Knobs(governor=False),
    "no packing": Knobs(packing=False),
    "cold start": Knobs(foresight=Foresight.COLD),
    "perfect forecast": Knobs(foresight=Foresight.PERFECT),
}
_SLO_FACTORS: Final = (0.5, 2.0)
_PEAK_SERVERS: Final = (1, 4, 8, 40)
_STARTUPS_MIN: Final = (1, 4, 8)
_IDLE_POWERS_W: Final = (0.0, 70.0, 110.0)
_PERFECT_PREDICTOR: Final = 1.0

_Prepare = Callable[[], Session]


@dataclass(frozen=True, slots=True)
class _Variant:
    group: str
    name: str
    prepare: _Prepare
    same_baseline: bool
    """Whether the tuned static fleet does the same as in the comparison."""


def ablated_policy(names: Sequence[str]) -> str:
    """Which one: the last of ours that is simulated, or the best."""
    return next((name for name in reversed(names) if name in DYNAWATT), DEFAULT_ABLATED)


def ablate(
    session: Session, comparison: Comparison, policy: str, surfaces: SurfaceSource, bars: ProgressBars
) -> list[Ablated]:
    """One row per condition; what cannot be prepared or built has a reason instead of figures.

    Args:
        session: The conditions of the comparison.
        comparison: It holds the policy and the tuned static fleet.
        policy: One of ours.
        surfaces: Where they come from.
        bars: Where progress is shown.
    """
    results = {result.name: result for result in comparison.results}
    if policy not in results or SINGLE_POOL not in results:
        return []
    whole, single = results[policy], results[SINGLE_POOL]
    rows = [_row("", "nothing changed", whole, single, whole)]
    for variant in _variants(session, surfaces):
        bars.context = variant.name
        try:
            there = variant.prepare()
            names = [policy] if variant.same_baseline else [SINGLE_POOL, policy]
            found = there.compare(names, bars).results
        except InvalidInputError as error:
            rows.append(Ablated(variant.group, variant.name, None, None, None, str(error)))
        else:
            rows.append(
                _row(variant.group, variant.name, found[-1], single if variant.same_baseline else found[0], whole)
            )
    bars.context = ""
    return rows


def _variants(session: Session, surfaces: SurfaceSource) -> Iterator[_Variant]:
    study, conditions = session.study, session.conditions
    for name, knobs in _KNOBS.items():
        yield _Variant("knobs and loops", name, partial(session.with_study, replace(study, knobs=knobs)), True)
    accuracy = replace(study, predictor_accuracy=_PERFECT_PREDICTOR)
    yield _Variant("knobs and loops", "perfect predictor", partial(session.with_study, accuracy), True)
    for factor in _SLO_FACTORS:
        tighter = replace(conditions, slo=_scaled(conditions.slo, factor))
        yield _Variant("SLO", f"objectives x {factor:g}", partial(prepare, tighter, surfaces), False)
    for servers in _PEAK_SERVERS:
        sized, name = _of_size(conditions, servers), f"{servers} peak server{'s' if servers > 1 else ''}"
        yield _Variant("size", name, partial(prepare, sized, surfaces), False)
    for minutes in _STARTUPS_MIN:
        slower = replace(study, startup_s=60.0 * minutes)
        yield _Variant("start-up", f"{minutes} min", partial(session.with_study, slower), True)
    for released_w in _IDLE_POWERS_W:
        yield _Variant("released GPUs", f"{released_w:g} W", partial(session.with_released, released_w), False)


def _row(group: str, name: str, result: PolicyResult, single: PolicyResult, whole: PolicyResult) -> Ablated:
    # Per token: the load of another size is another one.
    each_j, whole_j = result.j_per_token, whole.j_per_token
    return Ablated(
        group=group,
        name=name,
        result=result,
        to_single_pool=result.energy_idling_j / single.energy_idling_j,
        to_unablated=each_j / whole_j if each_j and whole_j else None,
        reason=None,
    )


def _scaled(slo: Slo, factor: float) -> Slo:
    objectives = slo.objectives
    ttft = tuple((bound, factor * objective_s) for bound, objective_s in objectives.ttft)
    return replace(slo, objectives=LatencyObjectives(ttft, factor * objectives.tbt_s))


def _of_size(conditions: Conditions, servers: int) -> Conditions:
    """The load scaled to a fleet of another size, whatever fixed it before."""
    options = replace(conditions.options, peak_servers=servers, replicas=None, servers=None)
    return replace(conditions, options=options)
