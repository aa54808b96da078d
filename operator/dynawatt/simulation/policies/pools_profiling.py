"""Makes profile tables from surfaces.

DynamoLLM (HPCA 2025) profiles every class at each tensor-parallel degree, at clocks
200 MHz apart.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from scipy.optimize import nnls

from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.gpus import GpuSpec
from dynawatt.perfmodel.surface import Surface
from dynawatt.planning.attainment import planned_attainment
from dynawatt.planning.curves import shape_curve
from dynawatt.simulation.fleet_core import ReplicaShape
from dynawatt.simulation.inventory import GPUS_PER_SERVER
from dynawatt.simulation.policies.pools import Numbers, RequestPool
from dynawatt.simulation.policies.pools_profile import PoolProfile, ProfileTables
from dynawatt.simulation.study import Study
from dynawatt.workload.classes import ALL_CLASSES, CLASS_NAMES

_FIRST_MHZ: Final = 800
_STEP_MHZ: Final = 200
_URGENT_PARTS: Final = 4
"""Rows of tables by how many requests are urgent."""


def profiled_clocks(gpu: GpuSpec, known_mhz: Sequence[int]) -> tuple[int, ...]:
    """800, 1000, .. MHz and the default clock, each the nearest one known, ascending."""
    wanted = [*range(_FIRST_MHZ, gpu.default_clock_mhz, _STEP_MHZ), gpu.default_clock_mhz]
    return tuple(sorted({min(known_mhz, key=lambda known: abs(known - clock)) for clock in wanted}))


def profile_tables(
    study: Study,
    pools: Sequence[RequestPool],
    shapes: Sequence[ReplicaShape],
    *,
    spare_budget: float,
    most_servers: int,
) -> ProfileTables:
    """Profile every pool at every shape.

    Args:
        study: What to build from.
        pools: As from ``request_pools``.
        shapes: The static fleets' shape first.
        spare_budget: Part of the error budget that plans leave.
        most_servers: The largest inventory that will be asked for.

    Raises InvalidInputError when the first shape carries nothing of a pool.
    """
    objectives_s, shares = _objectives_s(study), study.class_shares
    urgent = float(shares[objectives_s < study.objectives.ttft[-1][1]].sum())
    attainment = planned_attainment(study.fraction, spare_budget)
    # Urgent requests are those that miss. Twice as many of them among as many requests: half of them may.
    parts = np.linspace(urgent, 1.0, _URGENT_PARTS).tolist() if urgent > 0 else [1.0]
    strict = [1 - (1 - attainment) * urgent / part if urgent > 0 else attainment for part in parts]
    kinds = [*((pool.classes, attainment) for pool in pools), *((ALL_CLASSES, each) for each in strict)]
    found = iter(study.surfaces_of([(shape, classes) for classes, _ in kinds for shape in shapes]))
    work = study.work(shapes[0])
    rows = [
        [
            _profile(
                study, shape, next(found), work=work, classes=classes, attainment=wanted, most_servers=most_servers
            )
            for shape in shapes
        ]
        for classes, wanted in kinds
    ]
    for pool, row in zip(pools, rows, strict=False):
        if row[0] is None:
            names = ", ".join(CLASS_NAMES[index] for index in pool.classes)
            raise InvalidInputError(
                f"SLO of {study.fraction:.1%}: a replica of {shapes[0].replica.name} misses it under any load of "
                f"classes {names}; loosen the objectives or choose more GPUs per replica"
            )
    return ProfileTables(
        pools=pools,
        work=work,
        own=rows[: len(pools)],
        shared=list(zip(parts, rows[len(pools) :], strict=True)),
        objectives_s=objectives_s,
        tolerated=1 - study.fraction,
    )


def _profile(
    study: Study,
    shape: ReplicaShape,
    surface: Surface,
    *,
    work: Numbers,
    classes: Sequence[int],
    attainment: float,
    most_servers: int,
) -> PoolProfile | None:
    """Of one shape under the load of these classes; None when it carries nothing."""
    degree = shape.replica.tensor_parallel
    clocks_mhz = profiled_clocks(shape.replica.gpu, surface.clocks_mhz)
    tuned, fixed = (
        shape_curve(
            f"TP{degree}",
            surface,
            shape.replica,
            attainment=attainment,
            startup_s=study.startup_of(degree),
            most_replicas=most_servers * (GPUS_PER_SERVER // degree),
            clocks_mhz=clocks,
        )
        for clocks in (clocks_mhz, clocks_mhz[-1:])
    )
    shares = study.class_shares[list(classes)]
    weight = float(work[list(classes)] @ shares / shares.sum())
    mix = study.mix_of(classes)
    mean_tokens = (mix.mean_input_tokens, mix.mean_output_tokens)
    return PoolProfile(degree, tuned, fixed, weight, mean_tokens) if fixed.capacity_rps(1) > 0 else None


def work_per_token(study: Study, shape: ReplicaShape) -> tuple[float, float]:
    """Work of a prompt token and of a generated one, fitted to the work of the classes, weighed by their load."""
    work, shares = study.work(shape), study.class_shares
    present = np.flatnonzero(shares)
    means = np.array(
        [(mix.mean_input_tokens, mix.mean_output_tokens) for mix in (study.mix_of([int(c)]) for c in present)]
    )
    (prompt, generated), _ = nnls(means * shares[present, None], work[present] * shares[present])
    return float(prompt), float(generated)


def _objectives_s(study: Study) -> Numbers:
    """Median objective of the first token in every class; infinite for classes without requests."""
    found = study.classes.of(study.mix.input_tokens, study.mix.output_tokens)
    ttft_s = study.objectives.ttft_s_of(study.mix.input_tokens)
    return np.array(
        [np.median(ttft_s[found == index]) if (found == index).any() else np.inf for index in range(len(CLASS_NAMES))]
    )
