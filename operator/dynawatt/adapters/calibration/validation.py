"""The errors of shipped profiles, as stored in them or computed again from measured data.

A directory of data is laid out as the sources are named: ``ml-energy/``,
``splitwise-sim/``, ``club3090-clock-powercap/``, ``rtxpro6000-powercap/``.
Tables of GPU operations come from the package aiconfigurator-core, where it is
installed. What is not there keeps its stored errors, and says so.
"""

import csv
import importlib.util
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from dynawatt.adapters.calibration.clock_sweeps import read_clock_sweeps
from dynawatt.adapters.calibration.engine_2023 import covers, recorded_residuals
from dynawatt.adapters.calibration.ml_energy import read_ml_energy
from dynawatt.adapters.calibration.splitwise import read_splitwise
from dynawatt.adapters.calibration.splitwise_power import read_splitwise_power
from dynawatt.adapters.silicon_tables import REPOSITORIES, SiliconModel
from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.architectures import ARCHITECTURES
from dynawatt.perfmodel.clock_shape import modelled_power_w, modelled_tokens_per_s
from dynawatt.perfmodel.derivation.calibration import sort_rows
from dynawatt.perfmodel.derivation.closed_loop import ClosedLoopRow, steady_state
from dynawatt.perfmodel.derivation.held_out import held_out_residuals
from dynawatt.perfmodel.derivation.overhead import MEASURED, EngineOverhead
from dynawatt.perfmodel.derivation.profiles import apply_overhead, closed_loop_residual
from dynawatt.perfmodel.gpus import gpu_by_name
from dynawatt.perfmodel.model_names import model_by_name
from dynawatt.perfmodel.power import POWER
from dynawatt.perfmodel.power_fit import predicted_w, residual
from dynawatt.perfmodel.power_rows import PowerRows, closed_loop_power, two_phase_power
from dynawatt.perfmodel.profile import ModelProfile, Residual

_ML_ENERGY: Final = "ml-energy/ml_energy_flat.csv"
_SPLITWISE: Final = "splitwise-sim/perf_model.csv"
_RECORDED_GPUS: Final = ("h100-sxm", "a100-sxm")
_TABLES: Final = "aiconfigurator_core"
_SHARED: Final = ("power", "clock_shape")
"""Quantities whose sets belong to a GPU, not to one profile."""
_BARE: Final = EngineOverhead(iteration_s=0.0, parallel_s=0.0, request_s=0.0, prompt_tokens=0.0)
_OVERHEAD_GPU: Final = "h100-sxm"


@dataclass(frozen=True, slots=True)
class ValidationSet:
    """One set of measurements and how far the model is from it."""

    profile: str | None
    """None for a set that several profiles share."""
    residual: Residual
    recomputed: bool
    """False for the error stored in the profile."""

    @property
    def name(self) -> str:
        """Data set, after the profile where it is of one."""
        return self.residual.dataset if self.profile is None else f"{self.profile}: {self.residual.dataset}"


def stored_sets(profiles: Iterable[ModelProfile]) -> list[ValidationSet]:
    """What the profiles themselves say, sets that several share only once."""
    sets = (
        ValidationSet(None if each.quantity in _SHARED else profile.name, each, recomputed=False)
        for profile in profiles
        for each in profile.residuals
    )
    return list(dict.fromkeys(sets))


def recomputed_sets(
    profiles: Sequence[ModelProfile], directory: Path, progress: Callable[[str], None]
) -> list[ValidationSet]:
    """The same from the data in ``directory``; sets whose data are not there as stored.

    Args:
        profiles: what to validate.
        directory: measured data.
        progress: told what is being computed.

    Raises InvalidInputError when the directory holds none of the data, or a file is not what it should be.
    """
    ml_energy, splitwise = directory / _ML_ENERGY, directory / _SPLITWISE
    try:
        rows = read_ml_energy(ml_energy) if ml_energy.is_file() else []
        phases = read_splitwise_power(splitwise) if splitwise.is_file() else []
        sweeps = read_clock_sweeps(directory)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidInputError(f"--data {directory}: {error}; give files that can be read") from error
    if not (rows or phases or sweeps):
        raise InvalidInputError(f"--data {directory}: holds no measurements: give a folder with {_ML_ENERGY}")
    progress("power")
    wanted = {(profile.gpu.name, profile.precision, profile.architecture.experts > 1) for profile in profiles}
    measured = closed_loop_power(rows) + two_phase_power(phases)
    found = [
        each for one in measured if (one.gpu, one.precision, one.experts) in wanted for each in _power_residuals(one)
    ]
    progress("clock sweeps")
    for sweep in sweeps:
        between = slice(1, -1)
        for unit, modelled, truth in (
            ("watts", modelled_power_w(sweep), sweep.power_w),
            ("tokens/s", modelled_tokens_per_s(sweep), sweep.tokens_per_s),
        ):
            name = f"{sweep.name} {unit}"
            found.append(residual(name, "clock_shape", modelled[between], truth[between], held_out=False))
    sets = [ValidationSet(None, each, recomputed=True) for each in found]
    for profile in profiles:
        progress(profile.name)
        own = [*_step_residuals(profile), *_closed_loop_residuals(profile, rows)]
        if covers(profile) and profile.gpu.name in _RECORDED_GPUS and splitwise.is_file():
            own += recorded_residuals(profile, read_splitwise(splitwise, profile.gpu.name))
        sets += [ValidationSet(profile.name, each, recomputed=True) for each in own]
    return _with_stored(sets, stored_sets(profiles))


def _with_stored(sets: list[ValidationSet], stored: list[ValidationSet]) -> list[ValidationSet]:
    """Stored sets fill in where nothing of that quantity was computed from that source."""
    have = {_source(each) for each in sets}
    return sets + [each for each in stored if _source(each) not in have]


def _source(each: ValidationSet) -> tuple[str | None, str, str]:
    """Sets of a profile from one source are computed all or none; shared ones each for itself."""
    dataset = each.residual.dataset
    return each.profile, each.residual.quantity, dataset if each.profile is None else dataset.split()[0]


def _power_residuals(rows: PowerRows) -> list[Residual]:
    gpu, power = gpu_by_name(rows.gpu), POWER[rows.gpu, rows.precision].coefficients
    parts = [(held_out, rows.part(held_out=held_out)) for held_out in (True, False)]
    return [
        residual(rows.name, "power", predicted_w(points, power, gpu), points.power_w, held_out=held_out)
        for held_out, points in parts
        if len(points)
    ]


def _step_residuals(profile: ModelProfile) -> list[Residual]:
    """Steps against the tables they come from; nothing where these are not installed or not of this model."""
    name = profile.architecture.name
    if name not in REPOSITORIES or importlib.util.find_spec(_TABLES) is None:
        return []
    bare = apply_overhead(profile, _BARE, "")
    found: list[Residual] = []
    for size in profile.tensor_parallel_sizes:
        try:
            measured = SiliconModel(REPOSITORIES[name], profile.gpu.name, profile.precision, size)
        except InvalidInputError:
            return []
        replica = bare.replica(size)
        found += held_out_residuals(
            replica.at_clock(profile.gpu.default_clock_mhz),
            measured,
            replica.kv_capacity_tokens,
            profile.architecture.context_tokens,
            f"aiconfigurator-core vLLM tables {profile.gpu.name}, TP {size}",
        )
    return found


def _closed_loop_residuals(profile: ModelProfile, rows: Sequence[ClosedLoopRow]) -> list[Residual]:
    """Mean step, and power with it, against the whole engine under a constant number of requests."""
    overhead = MEASURED.get(profile.gpu.name, MEASURED.get(_OVERHEAD_GPU))
    if overhead is None:
        return []
    known = [row for row in rows if _architecture(row.model) is not None]
    by_use = sort_rows(known, lambda model: ARCHITECTURES[str(_architecture(model))].experts == 1)
    found: list[Residual] = []
    for held_out, chosen in ((False, by_use.fitted), (True, by_use.held_out)):
        own = [row for row in chosen if _is_of(profile, row)]
        for task in sorted({row.task for row in own}):
            of_task = [row for row in own if row.task == task]
            name = f"ML.ENERGY v3 {task}, up to 256 requests"
            found += closed_loop_residual(profile, of_task, overhead.prompt_tokens, name, held_out=held_out)
    own = [row for row in (*by_use.fitted, *by_use.held_out) if _is_of(profile, row)]
    return found + _whole_profile_power(profile, own, overhead.prompt_tokens)


def _whole_profile_power(profile: ModelProfile, rows: Sequence[ClosedLoopRow], prompt_tokens: float) -> list[Residual]:
    """Watts with the modelled step times, not the measured ones: what a simulation will say."""
    covered = [row for row in rows if row.tensor_parallel in profile.shapes]
    if not covered:
        return []
    modelled = []
    for row in covered:
        replica = profile.replica(row.tensor_parallel).at_clock(profile.gpu.default_clock_mhz)
        batches = steady_state(row.requests, prompt_tokens, row.output_tokens)
        energy_j = sum(share * replica.energy_j(batch) for share, batch in batches)
        modelled.append(energy_j / sum(share * replica.step_s(batch) for share, batch in batches))
    name, measured = "ML.ENERGY v3, with the modelled step times", np.array([row.power_w for row in covered])
    return [residual(name, "power", np.array(modelled), measured, held_out=False)]


def _is_of(profile: ModelProfile, row: ClosedLoopRow) -> bool:
    return (_architecture(row.model), row.precision, row.gpu) == (
        profile.architecture.name,
        profile.precision,
        profile.gpu.name,
    )


def _architecture(model: str) -> str | None:
    try:
        return model_by_name(model).architecture.name
    except InvalidInputError:
        return None
