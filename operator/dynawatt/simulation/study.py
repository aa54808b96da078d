"""All that policies are built from: the load to expect, the models, the SLO, the inventory.

A study is shared by all policies of a comparison. It answers their questions about
shapes, each of them once: engine settings tuned for a shape, and surfaces.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from dynawatt.errors import InvalidInputError
from dynawatt.forecast.slots import Calendar
from dynawatt.perfmodel.profile import ReplicaProfile
from dynawatt.perfmodel.surface import Surface
from dynawatt.planning import attainment, governor_table
from dynawatt.simulation.energy_tuning import tune_for_energy
from dynawatt.simulation.fleet_core import ReplicaShape
from dynawatt.simulation.governor_clocks import governor_clocks
from dynawatt.simulation.operating_point import SATURATING, saturation_rps
from dynawatt.simulation.settings import EngineSettings, QueueOrder
from dynawatt.simulation.sizing import Demand, tune_chunk
from dynawatt.simulation.surface_question import SurfaceQuestion
from dynawatt.workload.classes import ALL_CLASSES, CLASS_NAMES, LengthClasses
from dynawatt.workload.mix import LengthMix
from dynawatt.workload.objectives import LatencyObjectives
from dynawatt.workload.trace import Trace

_FLEET_SIZES: Final = (1, 2, 4, 8)
"""Replicas that share a load, as surfaces know them; the largest number stands for all above."""
_LARGE_FLEETS: Final = {32: 12, 128: 48}
"""Further sizes, each known where the tuned static fleet has more replicas than this: half again as many as the size
before. What a replica gains by sharing the load with even more is little, and to simulate them takes long."""
_REQUESTS: Final = 6000
"""Measured at every point of a surface."""
_WORTH_A_LOOK: Final = 0.4
"""Capacity per GPU, relative to the best degree, above which a shape may still take the fewest joules."""
SPARE_BUDGETS: Final = (0.0, governor_table.SPARE_BUDGET, attainment.SPARE_BUDGET)
"""Surfaces are fine around the attainments that leave these parts of the error budget."""


class SurfaceSource(Protocol):
    """Where surfaces come from: built, or kept from an earlier run."""

    def get_all(self, questions: Sequence[SurfaceQuestion]) -> list[Surface]:
        """One for each question, in order."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """What a policy that learns knows beforehand: the week before.

    It is another draw of the same workload with its level off by 10 %, so that nobody knows the load itself.
    """

    start_s: float
    """Of the first slot; the last one ends at time 0."""
    requests: NDArray[np.float64]
    """Counts per slot of five minutes, [slot, class]."""


class Foresight(StrEnum):
    """What a policy that learns knows of the demand ahead."""

    LEARNT = "learnt"
    """Forecast from the week before and from what it saw."""
    COLD = "cold"
    """The same without the week before."""
    PERFECT = "perfect"
    """The load itself, which the study has to hold."""


@dataclass(frozen=True, slots=True)
class Knobs:
    """What our own policies may use; ablations take one away at a time."""

    clock: bool = True
    """Without it every replica runs at its default clock."""
    replicas: bool = True
    """Without it as many replicas serve, from the first second to the last."""
    shape: bool = True
    """Without it every replica has the tensor-parallel degree of the static fleet."""
    settings: bool = True
    """Without it the prefill chunk is vLLM's own rather than tuned."""
    governor: bool = True
    """Without it a plan's clock holds until the next plan."""
    packing: bool = True
    """Without it every loaded replica gets requests."""
    calibration: bool = False
    """With it factors for time and watts are learnt from what the fleet shows; profiles are taken as they are else."""
    foresight: Foresight = Foresight.LEARNT


@dataclass(slots=True, eq=False)
class Study:
    """One comparison."""

    profiles: Mapping[int, ReplicaProfile]
    """By tensor-parallel degree: all that the model and GPU allow."""
    base_settings: Callable[[ReplicaProfile, QueueOrder], EngineSettings]
    """vLLM's own flags for a shape."""
    tensor_parallel: int
    """Of static fleets and of every policy that does not choose it."""
    mix: LengthMix
    cv: float
    """Coefficient of variation of the gaps of the renewal process that is as bursty as the service's requests."""
    objectives: LatencyObjectives
    fraction: float
    """Of requests, and of gaps, that must be within the objectives."""
    peak_rps: float
    """Mean over the busiest five minutes: what static fleets are sized for."""
    surfaces: SurfaceSource
    servers: int = 1
    """The inventory, the same for every policy."""
    single_replicas: int = 1
    """Of the tuned static fleet, single-pool."""
    single_settings: EngineSettings | None = None
    static_replicas: int | None = None
    """Of every static fleet, where somebody fixed it; None sizes each for the peak."""
    busiest: Trace | None = None
    """Requests of the busiest hour, from its beginning on: static fleets must carry them."""
    classes: LengthClasses = field(default_factory=LengthClasses)
    history: History | None = None
    """None for a cold start."""
    future: History | None = None
    """The load itself, from time 0 on: for the oracle and for ablations alone."""
    calendar: Calendar = field(default_factory=Calendar)
    predictor_accuracy: float = 0.81
    """Of the output-length class of a request, by which pools are chosen; 81 % is DynamoLLM's (HPCA 2025)."""
    startup_s: float | None = None
    """From a replica's creation to Ready; None takes each profile's."""
    seed: int = 1
    knobs: Knobs = field(default_factory=Knobs)
    _tuned: dict[tuple[int, QueueOrder, tuple[int, ...]], tuple[EngineSettings, float]] = field(default_factory=dict)
    _efficient: dict[tuple[int, QueueOrder, tuple[int, ...]], EngineSettings | None] = field(default_factory=dict)
    _surfaces: dict[str, Surface] = field(default_factory=dict)
    _work: dict[tuple[int, EngineSettings], NDArray[np.float64]] = field(default_factory=dict)

    def demand(self, classes: Sequence[int] = ALL_CLASSES) -> Demand:
        """What a pool for these classes is sized for, but how much of it."""
        return Demand(self.mix_of(classes), self.cv_of(classes), self.objectives, self.fraction, self.seed)

    def mix_of(self, classes: Sequence[int] = ALL_CLASSES) -> LengthMix:
        """The requests of these classes. Raises InvalidInputError when there are none."""
        found = self.classes.of(self.mix.input_tokens, self.mix.output_tokens)
        rows = np.isin(found, list(classes))
        if not rows.any():
            names = ", ".join(CLASS_NAMES[index] for index in classes)
            raise InvalidInputError(f"classes {names}: the load has no such requests; take another load or other cuts")
        return LengthMix(self.mix.input_tokens[rows], self.mix.output_tokens[rows])

    @property
    def class_shares(self) -> NDArray[np.float64]:
        """Part of all requests in each class; sums to 1."""
        found = self.classes.of(self.mix.input_tokens, self.mix.output_tokens)
        return np.bincount(found, minlength=len(CLASS_NAMES)) / len(found)

    def cv_of(self, classes: Sequence[int]) -> float:
        """Burstiness of what is left when only these classes are taken out of the stream, at random.

        Thinning a renewal process with probability p changes the squared CV c2 of its gaps to 1 + p (c2 - 1).
        """
        share = float(self.class_shares[list(classes)].sum())
        return float(np.sqrt(max(0.0, 1 + share * (self.cv**2 - 1))))

    def startup_of(self, tensor_parallel: int) -> float:
        """Seconds from creation to Ready."""
        return self.profiles[tensor_parallel].model.startup_s if self.startup_s is None else self.startup_s

    def tuned(
        self, tensor_parallel: int, order: QueueOrder, classes: Sequence[int] = ALL_CLASSES
    ) -> ReplicaShape | None:
        """The shape with the prefill chunk that carries most of these classes; None when it carries nothing."""
        key = (tensor_parallel, order, tuple(classes))
        profile = self.profiles[tensor_parallel]
        if key not in self._tuned:
            self._tuned[key] = tune_chunk(profile, self.base_settings(profile, order), self.demand(classes))
        settings, capacity_rps = self._tuned[key]
        return ReplicaShape(profile, settings) if capacity_rps > 0 else None

    def efficient(
        self, tensor_parallel: int, order: QueueOrder, classes: Sequence[int] = ALL_CLASSES
    ) -> ReplicaShape | None:
        """The shape with the settings that take the fewest joules per request; None when it carries nothing.

        Nor when it carries far less per GPU than the best degree: then it would only cost time to look at it.
        """
        per_gpu_rps = {degree: self._capacity_rps(degree, order, classes) / degree for degree in self.profiles}
        if per_gpu_rps[tensor_parallel] <= _WORTH_A_LOOK * max(per_gpu_rps.values()):
            return None
        key = (tensor_parallel, order, tuple(classes))
        profile = self.profiles[tensor_parallel]
        if key not in self._efficient:
            found = tune_for_energy(profile, self.base_settings(profile, order), self.demand(classes))
            self._efficient[key] = found.settings if found.capacity_rps > 0 else None
        settings = self._efficient[key]
        return None if settings is None else ReplicaShape(profile, settings)

    def _capacity_rps(self, tensor_parallel: int, order: QueueOrder, classes: Sequence[int]) -> float:
        """Of one replica alone at the default clock, with the chunk that carries most."""
        self.tuned(tensor_parallel, order, classes)
        return self._tuned[tensor_parallel, order, tuple(classes)][1]

    def question(self, shape: ReplicaShape, classes: Sequence[int] = ALL_CLASSES) -> SurfaceQuestion:
        """About a shape under the load of these classes, at all clocks a governor may use."""
        return SurfaceQuestion(
            replica=shape.replica,
            settings=shape.settings,
            mix=self.mix_of(classes),
            cv=self.cv_of(classes),
            objectives=self.objectives,
            attainments=tuple(attainment.planned_attainment(self.fraction, spare) for spare in SPARE_BUDGETS),
            clocks_mhz=governor_clocks(shape.replica.gpu),
            fleet_sizes=self._fleet_sizes(),
            requests=_REQUESTS,
            seed=self.seed,
        )

    def _fleet_sizes(self) -> tuple[int, ...]:
        large = (size for size, above in _LARGE_FLEETS.items() if self.single_replicas > above)
        return (*_FLEET_SIZES, *large)

    def surface(self, shape: ReplicaShape, classes: Sequence[int] = ALL_CLASSES) -> Surface:
        """Of a shape under the load of these classes."""
        return self.surfaces_of([(shape, classes)])[0]

    def surfaces_of(self, wanted: Sequence[tuple[ReplicaShape, Sequence[int]]]) -> list[Surface]:
        """Several at once, which may be built side by side."""
        questions = [self.question(shape, classes) for shape, classes in wanted]
        prints = [question.fingerprint() for question in questions]
        missing = {mark: each for mark, each in zip(prints, questions, strict=True) if mark not in self._surfaces}
        found = self.surfaces.get_all(list(missing.values()))
        self._surfaces.update(zip(missing, found, strict=True))
        return [self._surfaces[mark] for mark in prints]

    def weights(self, classes: Sequence[int]) -> NDArray[np.float64]:
        """By class: what a request is worth in mean requests of these classes, by its work; 0 for all others.

        Load is counted so where the mix drifts: an hour of longer prompts needs more replicas, though no more come.
        """
        members = list(classes)
        relative = np.zeros(len(CLASS_NAMES))
        relative[members] = 1.0
        shape = self.tuned(self.tensor_parallel, QueueOrder.FCFS)
        if shape is None:
            return relative
        work_s, shares = self.work(shape)[members], self.class_shares[members]
        mean_s = float(shares @ work_s) / (float(shares.sum()) or 1.0)
        if mean_s > 0:
            # Classes that the mix does not have are rare: they count as one request each.
            relative[members] = np.where(work_s > 0, work_s / mean_s, 1.0)
        return relative

    def work(self, shape: ReplicaShape) -> NDArray[np.float64]:
        """By class: seconds of one replica at its default clock per request, when it never runs dry; 0 where unknown.

        Weighs requests of different classes against each other, where a surface is of another mix.
        """
        key = (shape.replica.tensor_parallel, shape.settings)
        if key not in self._work:
            work_s = np.zeros(len(CLASS_NAMES))
            for index in np.flatnonzero(self.class_shares):
                mix, clock_mhz = self.mix_of([int(index)]), shape.replica.gpu.default_clock_mhz
                rps = saturation_rps(shape, mix, clock_mhz, SATURATING)
                work_s[index] = 1 / rps
            self._work[key] = work_s
        return self._work[key]
