"""What fleets of one shape carry and draw: least watts over load, for any number of replicas.

A surface tells this for one clock and one size at a time, in slow steps. A curve
holds the same numbers as arrays: every row of a surface is linear between its
points, so on the union of all points nothing is lost. Noise is taken out of
capacities alone: more replicas, or a higher clock, never carry less.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.profile import ReplicaProfile
from dynawatt.perfmodel.surface import Surface, SurfacePoint

Numbers: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class ShapeCurve:
    """Fleets of equal replicas, as large as ``most_replicas``, that share a load evenly at one clock."""

    name: str
    gpus: int
    """Of one replica, as are all watts that follow."""
    startup_s: float
    """From creation to Ready."""
    starting_w: float
    """Drawn until then."""
    parked_w: float
    """Drawn when loaded but idle, at the lowest clock."""
    released_w: float
    """Drawn by as many GPUs that no pod holds."""
    clocks_mhz: tuple[int, ...]
    """To choose from, ascending."""
    capacities_rps: Numbers
    """Of whole fleets, [replicas, clock] from no replica on; non-decreasing both ways."""
    sizes: tuple[int, ...]
    """Fleets that were simulated, ascending from 1: between two of them all is linear, above the largest it stands."""
    loads_rps: Numbers
    """Of one replica, ascending from 0."""
    watts: Numbers
    """Of one replica, [size, load, clock]."""

    def __post_init__(self) -> None:
        """Check what a planner cannot do without."""
        watts = (self.starting_w, self.parked_w, self.released_w)
        if self.gpus < 1 or not 0 <= self.startup_s < inf or len(self.capacities_rps) < 2 or not self.clocks_mhz:
            raise InvalidInputError(
                f"shape {self.name} of {self.gpus} GPUs, start-up {self.startup_s} s: must have 1 or more GPUs, "
                "clocks, at least 1 replica, and a start-up of 0 s or more"
            )
        if not all(np.isfinite(values).all() for values in (watts, self.watts, self.capacities_rps, self.loads_rps)):
            raise InvalidInputError(f"shape {self.name}: watts and loads must be numbers; build its surface again")

    @property
    def most_replicas(self) -> int:
        """The largest fleet that can be asked for."""
        return len(self.capacities_rps) - 1

    def capacity_rps(self, replicas: int) -> float:
        """Most load that the whole fleet carries within the wanted attainment; 0 for a shape that never attains it."""
        return float(self.capacities_rps[replicas, -1])

    @overload
    def power_w(self, replicas: int, rate_rps: float) -> float: ...
    @overload
    def power_w(self, replicas: int, rate_rps: Numbers) -> Numbers: ...
    def power_w(self, replicas: int, rate_rps: float | Numbers) -> float | Numbers:
        """Least watts of the whole fleet over clocks, shaped as the rates; infinite beyond its capacity."""
        return _like(rate_rps, self._at_clocks(np.array([replicas]), np.ravel(rate_rps)).min(axis=-1)[0])

    @overload
    def packed_w(self, replicas: int, rate_rps: float) -> float: ...
    @overload
    def packed_w(self, replicas: int, rate_rps: Numbers) -> Numbers: ...
    def packed_w(self, replicas: int, rate_rps: float | Numbers) -> float | Numbers:
        """``power_w`` where only ``open_replicas`` serve and the others are parked."""
        return _like(rate_rps, self.packed_table(np.ravel(rate_rps), replicas)[-1])

    def clock_mhz(self, replicas: int, rate_rps: float) -> int:
        """The clock of ``power_w``; the highest one beyond the capacity."""
        watts = self._at_clocks(np.array([replicas]), np.array([rate_rps]))[0, 0]
        return self.clocks_mhz[int(watts.argmin()) if np.isfinite(watts).any() and replicas > 0 else -1]

    def clock_power_w(self, replicas: int, rate_rps: float | Numbers, clock_mhz: int) -> Numbers:
        """Watts of the whole fleet at one clock, shaped as the rates; beyond its capacity those of a busy one.

        Raises ValueError for a clock that is none of ``clocks_mhz``.
        """
        clock = self.clocks_mhz.index(clock_mhz)
        load_rps = np.ravel(rate_rps)[None, :] / max(replicas, 1)
        watts = self._interpolated(np.array([replicas]), load_rps, slice(clock, clock + 1))
        return np.asarray(watts * replicas).reshape(np.shape(rate_rps))

    def open_replicas(self, replicas: int, rate_rps: float) -> int:
        """How many are to serve, the others parked, for the fewest watts; all of them beyond the capacity."""
        if replicas < 1:
            return 0
        sizes = np.arange(1, replicas + 1)
        watts = self.power_table(np.array([rate_rps]), replicas)[1:, 0] + (replicas - sizes) * self.parked_w
        return int(watts.argmin()) + 1 if np.isfinite(watts).any() else replicas

    def power_table(self, rates_rps: Numbers, most: int | None = None) -> Numbers:
        """``power_w`` of all fleets from none to ``most`` replicas, [replicas, rate]."""
        return np.asarray(self._at_clocks(self._fleets(most), rates_rps).min(axis=-1))

    def packed_table(self, rates_rps: Numbers, most: int | None = None) -> Numbers:
        """``packed_w`` of all fleets from none to ``most`` replicas, [replicas, rate]."""
        watts = self.power_table(rates_rps, most)
        parked_w = self.parked_w * np.arange(len(watts))[:, None]
        watts[1:] = np.minimum.accumulate(watts[1:] - parked_w[1:], axis=0) + parked_w[1:]
        return watts

    def busy_w(self, most: int | None = None) -> Numbers:
        """Watts of all fleets from none to ``most`` replicas under as much load as each carries, [replicas]."""
        fleets = self._fleets(most)
        load_rps = self.capacities_rps[fleets, -1] / np.maximum(fleets, 1)
        return np.asarray(self._interpolated(fleets, load_rps[:, None], slice(-1, None))[:, 0, 0] * fleets)

    def at_clock(self, clock_mhz: float) -> "ShapeCurve":
        """The same without a choice of clocks: with the highest alone that is not above this one, or the lowest.

        As long as any clock carries load, those that carry none do not count: from them nobody can tell how many
        replicas are needed.
        """
        able = np.flatnonzero(self.capacities_rps[-1]).tolist() or range(len(self.clocks_mhz))
        index = max((index for index in able if self.clocks_mhz[index] <= clock_mhz), default=able[0])
        only = slice(index, index + 1)
        return replace(
            self,
            clocks_mhz=self.clocks_mhz[only],
            capacities_rps=self.capacities_rps[:, only],
            watts=self.watts[:, :, only],
        )

    def _fleets(self, most: int | None) -> NDArray[np.int_]:
        return np.arange((self.most_replicas if most is None else most) + 1)

    def _at_clocks(self, replicas: NDArray[np.int_], rates_rps: Numbers) -> Numbers:
        """Watts of fleets, [replicas, rate, clock]; infinite where the clock does not carry the rate."""
        carried = rates_rps[None, :, None] <= self.capacities_rps[replicas, None, :]
        load_rps = rates_rps[None, :] / np.maximum(replicas, 1)[:, None]
        return np.where(carried, self._interpolated(replicas, load_rps) * replicas[:, None, None], inf)

    def _interpolated(self, replicas: NDArray[np.int_], load_rps: Numbers, clocks: slice = slice(None)) -> Numbers:
        """Watts of one replica under loads of its own, both as [replicas, rate] -> [replicas, rate, clock]."""
        point = np.minimum(np.searchsorted(self.loads_rps[1:], load_rps, side="right"), len(self.loads_rps) - 2)
        width_rps = self.loads_rps[point + 1] - self.loads_rps[point]
        along = np.minimum((load_rps - self.loads_rps[point]) / width_rps, 1.0)[:, :, None]
        place = np.interp(replicas, self.sizes, np.arange(len(self.sizes)))
        below = place.astype(int)
        towards = place - below

        def of(size: NDArray[np.int_], rows: NDArray[np.int_]) -> Numbers:
            here, there = (self.watts[size[rows, None], point[rows] + end, clocks] for end in (0, 1))
            return np.asarray(here + along[rows] * (there - here))

        watts = of(below, np.arange(len(replicas)))
        between = np.flatnonzero(towards)
        watts[between] += towards[between, None, None] * (of(below + 1, between) - watts[between])
        return watts


def shape_curve(
    name: str,
    surface: Surface,
    profile: ReplicaProfile,
    *,
    attainment: float,
    startup_s: float,
    most_replicas: int,
    clocks_mhz: Collection[int] | None = None,
) -> ShapeCurve:
    """The curve of a shape.

    Args:
        name: Of the shape, as plans are to call it.
        surface: Of the shape, for the mix of its load.
        profile: Models of the shape, for what it draws while it does not serve.
        attainment: Planned fraction of first tokens and of gaps within their objectives, any spare budget included.
        startup_s: From a replica's creation to Ready.
        most_replicas: The largest fleet that will be asked for.
        clocks_mhz: Clocks to choose from, all of the surface's; None takes those. The default clock alone switches
            the choice off.

    Raises InvalidInputError for values out of range.
    """
    clocks = _checked_clocks(surface, clocks_mhz)
    if not 0 < attainment <= 1:
        raise InvalidInputError(f"planned attainment {attainment} of shape {name}: must be a fraction above 0, up to 1")
    if most_replicas < 1:
        raise InvalidInputError(f"most replicas {most_replicas} of shape {name}: must be at least 1")
    capacities_rps = _capacities_rps(surface, clocks, attainment, most_replicas)
    fleets = {1: surface.points, **surface.shared_points}
    sizes = tuple(sorted(fleets))
    rows = [[fleets[size][clock] for clock in clocks] for size in sizes]
    loads_rps = _loads_rps(rows)
    return ShapeCurve(
        name=name,
        gpus=surface.tensor_parallel,
        startup_s=startup_s,
        starting_w=surface.tensor_parallel * surface.loaded_idle_w,
        parked_w=surface.tensor_parallel * profile.loaded_idle_w(clocks[0]),
        released_w=surface.tensor_parallel * surface.released_w,
        clocks_mhz=clocks,
        capacities_rps=capacities_rps,
        sizes=sizes,
        loads_rps=loads_rps,
        watts=np.array([np.stack([_watts(row, loads_rps) for row in of_size], axis=1) for of_size in rows]),
    )


def _checked_clocks(surface: Surface, clocks_mhz: Collection[int] | None) -> tuple[int, ...]:
    known = surface.clocks_mhz
    clocks = tuple(sorted(set(known if clocks_mhz is None else clocks_mhz)))
    if not clocks or not set(clocks) <= set(known):
        raise InvalidInputError(f"clocks {list(clocks)} MHz: must be some of the surface's, {known}")
    return clocks


def _capacities_rps(surface: Surface, clocks_mhz: Sequence[int], attainment: float, most_replicas: int) -> Numbers:
    """[replicas, clock], from no replica on."""
    sizes = sorted({1, *surface.shared_points})
    each_rps = np.array([[surface.capacity_rps(clock, attainment, size) for clock in clocks_mhz] for size in sizes])
    replicas = np.arange(most_replicas + 1)
    of_clocks = [replicas * np.interp(replicas, sizes, of_sizes) for of_sizes in each_rps.T]
    return np.maximum.accumulate(np.maximum.accumulate(np.stack(of_clocks, axis=1), axis=0), axis=1)


def _loads_rps(rows: Sequence[Sequence[Sequence[SurfacePoint]]]) -> Numbers:
    """All loads at which any row bends; at least two."""
    loads_rps = np.unique([point.rate_rps for of_size in rows for row in of_size for point in row])
    return loads_rps if len(loads_rps) > 1 else np.array([loads_rps[0], loads_rps[0] + 1.0])


def _watts(row: Sequence[SurfacePoint], loads_rps: Numbers) -> Numbers:
    return np.interp(loads_rps, [point.rate_rps for point in row], [point.power_w for point in row])


def _like(rate_rps: float | Numbers, watts: Numbers) -> float | Numbers:
    """As a number for a number, else shaped as the rates."""
    return watts.reshape(rate_rps.shape) if isinstance(rate_rps, np.ndarray) else float(watts[0])
