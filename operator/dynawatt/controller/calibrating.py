"""Compares what live replicas do with what their profiles say, once a minute and service, and tells of it."""

import logging
import time
from collections.abc import Mapping
from typing import Final

from dynawatt.adapters.vllm_load.source import LoadQuestion, WatchedPod
from dynawatt.adapters.vllm_load.working import PodWork, WorkSource
from dynawatt.api.conditions import ConditionType, Reason, find_condition
from dynawatt.controller.evaluating import clock_is_off
from dynawatt.controller.learnt import Learnt
from dynawatt.controller.stillness import as_it_is, is_claimed
from dynawatt.controller.target import ShapedWorkload
from dynawatt.controller.tick import Tick
from dynawatt.errors import InvalidInputError
from dynawatt.planning.calibration.comparing import Comparison, compare
from dynawatt.planning.calibration.observing import Observation
from dynawatt.planning.calibration.predicting import Predictor
from dynawatt.ports import MetricsUnavailable

_FEWEST_SCRAPES: Final = 4
_RETELL_S: Final = 900.0
"""The numbers in a text change all the time, and every new one is a write to the API."""
_STATUS: Final = {Reason.MODEL_FITS: True, Reason.MODEL_DRIFTED: False, Reason.NOT_CALIBRATED_YET: None}

_log = logging.getLogger(__name__)


class _TellsNothing(Exception):  # noqa: N818 - nothing failed
    """A window from which nothing can be learnt; says why."""


class Calibrator:
    """Feeds what is learnt of profiles."""

    def __init__(self, source: WorkSource | None, learnt: Learnt) -> None:
        """``source`` tells what pods did; without it nothing is compared."""
        self._source = source
        self.learnt = learnt

    async def look(self, tick: Tick) -> None:
        """Learn from the last window of each shape in which nothing of it changed, when it is time, and tell."""
        watch, now_s = tick.runtime.watch, time.monotonic()
        watch.observe(now_s, _shapes(tick))
        due = watch.due(now_s)
        if self._source is not None and tick.runtime.mix is not None and due:
            watch.asked_s, watch.problem = now_s, ""
            try:
                await self._learn(self._source, tick, due, now_s)
            except (MetricsUnavailable, _TellsNothing) as error:
                watch.problem = str(error)
                _log.debug("service=%s calibration=none error=%r", tick.runtime.key, str(error))
        await self.learnt.save(now_s)
        self._tell(tick, now_s)

    async def _learn(self, source: WorkSource, tick: Tick, shapes: list[str], now_s: float) -> None:
        watch, workloads = tick.runtime.watch, [one for one in tick.target.workloads if one.shape in shapes]
        window_s = watch.window_s
        question = LoadQuestion(
            namespace=tick.runtime.namespace,
            deployment=tick.runtime.deployment,
            shapes={one.shape: _watched(one) for one in workloads},
        )
        works = await source.work(question, window_s)
        if works and min(work.scrapes for work in works.values()) < _FEWEST_SCRAPES:
            watch.widen()
            raise _TellsNothing(f"fewer than {_FEWEST_SCRAPES} scrapes within {window_s} s")
        found = {one.shape: self._compared(tick, one, works, window_s) for one in workloads}
        for shape, comparison in found.items():
            self.learnt.add(tick.runtime.models[shape], comparison, now_s, window_s)

    def _compared(
        self, tick: Tick, workload: ShapedWorkload, works: Mapping[str, PodWork], window_s: float
    ) -> Comparison:
        """Of all replicas of a shape. Raises _TellsNothing."""
        models, mix = tick.runtime.models[workload.shape], tick.runtime.mix
        assert mix is not None  # or it would not have been asked for
        predictor = Predictor(self.learnt.of(models).replica, models.engine, mix)
        found = Comparison()
        for pod in workload.serving_pods:
            name = pod["metadata"]["name"]
            if (work := works.get(name)) is None:
                raise _TellsNothing(f"pod {name} tells neither gaps between tokens nor prompt tokens")
            if not work.clocks_mhz and is_claimed(pod):
                raise _TellsNothing(f"Prometheus has no dynawatt_gpu_sm_clock_hertz of pod {name}, which is governed")
            default_mhz = predictor.replica.gpu.default_clock_mhz
            try:
                found = found.plus(compare(_observation(work, window_s, default_mhz), predictor))
            except InvalidInputError as error:
                raise _TellsNothing(str(error)) from error
        return found

    def _tell(self, tick: Tick, now_s: float) -> None:
        """Set the condition; for the same reason in other words only now and then."""
        watch = tick.runtime.watch
        reason, text = self._found(tick)
        before = find_condition(tick.draft.status.conditions, ConditionType.MODEL_ACCURATE)
        if watch.told is None and before is not None and before.reason == reason:  # by an operator before this one
            watch.told = reason, before.message, now_s
        if watch.told is not None and watch.told[0] is reason and now_s - watch.told[2] < _RETELL_S:
            text = watch.told[1]
        else:
            watch.told = reason, text, now_s
        tick.draft.set(ConditionType.MODEL_ACCURATE, _STATUS[reason], reason, text)

    def _found(self, tick: Tick) -> tuple[Reason, str]:
        if self._source is None:
            return Reason.NOT_CALIBRATED_YET, "profiles are not compared with what runs: that takes a Prometheus"
        serving = [one.shape for one in tick.target.workloads if one.serving_pods]
        shapes = {name: self.learnt.of(tick.runtime.models[name]) for name in serving}
        drifts = [f"{name}: {shape.state.drift}" for name, shape in shapes.items() if shape.state.drift]
        if drifts:
            return Reason.MODEL_DRIFTED, "; ".join(drifts)
        judged = {name: shape for name, shape in shapes.items() if "time" in shape.judged}
        if not judged:
            problem = tick.runtime.watch.problem
            whys = [f"{name}: {shape.state.frozen}" for name, shape in shapes.items()]
            return Reason.NOT_CALIBRATED_YET, problem or "; ".join(whys) or "no replica serves"
        texts = []
        for name, shape in judged.items():
            knows_watts = "power" in shape.judged
            watts = (
                f"{shape.state.power.value:.3g} times its watts" if knows_watts else "its watts are not compared yet"
            )
            texts.append(f"{name}: {shape.state.time.value:.3g} times the profile's seconds, {watts}")
        return Reason.MODEL_FITS, "; ".join(texts)


def _shapes(tick: Tick) -> dict[str, object]:
    """How each shape is that may be compared; none while one takes over from another."""
    reshape = tick.draft.status.reshape
    if reshape is not None and reshape.retry_time is None:
        return {}
    off = clock_is_off(tick, tick.draft.now.timestamp())
    found = {one.shape: as_it_is(one, clock_off=off) for one in tick.target.workloads}
    return {name: state for name, state in found.items() if state is not None}


def _watched(workload: ShapedWorkload) -> list[WatchedPod]:
    port = workload.settings.port
    return [
        WatchedPod(pod["metadata"]["name"], pod["status"].get("podIP") or "", port) for pod in workload.serving_pods
    ]


def _observation(work: PodWork, window_s: float, default_mhz: float) -> Observation:
    """Raises InvalidInputError."""
    iterations_s = None
    if work.iterations is not None and work.gaps > 0:
        # A gap is as long as the iteration that ends it.
        iterations_s = min(window_s, work.iterations * work.gap_sum_s / work.gaps)
    return Observation(
        replica_s=window_s,
        clocks_mhz=work.clocks_mhz or (default_mhz,),
        gaps=work.gaps,
        gap_sum_s=work.gap_sum_s,
        prompt_tokens=work.prompt_tokens,
        prefills=work.prefills,
        prefill_sum_s=work.prefill_sum_s,
        energy_j=work.energy_j,
        busy_s=iterations_s,
    )
