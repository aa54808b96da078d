"""Closed loops: replicas whose physics are off show their latencies and joules, as vLLM and the agents count them."""

import json
import re
from dataclasses import dataclass, replace

import numpy as np
import pytest

from dynawatt.adapters.profile_files import find_replica
from dynawatt.errors import InvalidInputError
from dynawatt.planning.calibration.comparing import Comparison, compare
from dynawatt.planning.calibration.observing import Observation
from dynawatt.planning.calibration.predicting import Predictor
from dynawatt.planning.calibration.shape import ShapeCalibration
from dynawatt.planning.calibration.startup import StartupTimes
from dynawatt.simulation.engine import EngineRequest, ReplicaEngine
from dynawatt.simulation.fleet_core import FleetCore, ReplicaShape
from dynawatt.simulation.settings import EngineSettings
from dynawatt.workload.builtin import built_in
from dynawatt.workload.objectives import LatencyObjectives
from dynawatt.workload.trace import Trace

PROFILE = find_replica("llama-3.1-70b", "h100-sxm", 8)
SETTINGS = EngineSettings(1024, 256, PROFILE.kv_capacity_tokens)
MIX = built_in("azure-2024-conv").mix(1000)
PREDICTOR = Predictor(PROFILE, SETTINGS, MIX)
WINDOW_S = 30.0


def arrivals(rate_rps, span_s, seed=1):
    rng = np.random.default_rng(seed)
    count = rng.poisson(rate_rps * span_s)
    pick = rng.integers(0, len(MIX.input_tokens), count)
    return Trace(np.sort(rng.uniform(0, span_s, count)), MIX.input_tokens[pick], MIX.output_tokens[pick])


def fleet_windows(real, rates_rps, *, replicas=2, clocks_mhz=(1980,), window_s=WINDOW_S, knows_busy=True):
    """Comparisons, of replicas at one clock after the other, at one load after the other."""
    core = FleetCore([ReplicaShape(real, SETTINGS)], LatencyObjectives(((None, 2.0),), 0.1))
    ids = [core.add_replica(0, clock_mhz=clocks_mhz[0]) for _ in range(replicas)]
    before = core.tally()
    for number, rate_rps in enumerate(rates_rps):
        clock_mhz = clocks_mhz[number // 10 % len(clocks_mhz)]
        for each in ids:
            core.set_clock(each, clock_mhz)
        drawn, now_s = arrivals(rate_rps, window_s, seed=number), core.now_s
        core.advance(now_s + window_s, replace(drawn, arrival_s=drawn.arrival_s + now_s))
        did, before = core.tally() - before, core.tally()
        yield compare(
            Observation(
                replica_s=replicas * window_s,
                clocks_mhz=[clock_mhz],
                gaps=float(did.gaps.sum()),
                gap_sum_s=float(did.gap_sum_s.sum()),
                prompt_tokens=float(did.input_tokens),
                energy_j=float(did.energy_j.sum()),
                busy_s=did.busy_gpu_s / real.tensor_parallel if knows_busy else None,
            ),
            PREDICTOR,
        )


def new():
    return ShapeCalibration(StartupTimes(PROFILE.model.startup_s))


def learn(comparisons, calibration=None):
    calibration = calibration or new()
    for each in comparisons:
        calibration.observe(each, WINDOW_S)
    return calibration


def day(low_rps, high_rps, hours):
    """Windows of a load that goes up and down within six hours."""
    at = np.arange(round(hours * 3600 / WINDOW_S))
    return low_rps + (high_rps - low_rps) * (1 - np.cos(2 * np.pi * at * WINDOW_S / 21600)) / 2


@pytest.mark.parametrize("time_factor", [0.8, 1.2])
@pytest.mark.parametrize("power_factor", [0.8, 1.2])
def test_physics_off_by_a_fifth_are_found_at_all_loads_and_clocks(time_factor, power_factor):
    real = PROFILE.calibrated(time_factor=time_factor, power_factor=power_factor)
    found = learn(fleet_windows(real, day(0.5, 6.0, 9), clocks_mhz=(1980, 1005, 1590)))
    assert found.time.value == pytest.approx(time_factor, abs=0.03)
    assert found.power.value == pytest.approx(power_factor, abs=0.03)
    assert found.drift == ""


def test_a_true_profile_stays_as_it_is():
    found = learn(fleet_windows(PROFILE, day(0.5, 6.0, 9), clocks_mhz=(1980, 1005)))
    assert found.time.value == pytest.approx(1.0, abs=0.026)
    assert found.power.value == 1.0


def test_slow_replicas_are_known_within_minutes_and_fast_ones_within_hours():
    slow, fast = (PROFILE.calibrated(time_factor=factor, power_factor=factor) for factor in (1.2, 0.8))
    assert learn(fleet_windows(slow, [4.0] * 14)).time.value == pytest.approx(1.2, abs=0.026)
    calibration = learn(fleet_windows(fast, [4.0] * 50))
    assert (calibration.time.value, calibration.power.value) == (1.0, 1.0)
    learn(fleet_windows(fast, [4.0] * 300), calibration)
    assert (calibration.time.value, calibration.power.value) == pytest.approx((0.8, 0.8), abs=0.026)


def test_few_requests_change_nothing_and_say_why():
    slow = PROFILE.calibrated(time_factor=1.4)
    found = learn(fleet_windows(slow, [0.01] * 10))
    assert found.time.value == 1.0
    assert "gaps, 2,000 are needed" in found.frozen
    assert new().frozen.startswith("time factor: 0 gaps, 2,000 are needed; power factor: 0 replica-seconds, 300 are")


def test_a_quiet_service_learns_too_in_its_own_time():
    slow = PROFILE.calibrated(time_factor=1.3)
    assert learn(fleet_windows(slow, [0.05] * 600, replicas=1)).time.value == pytest.approx(1.3, abs=0.03)


def test_a_fleet_that_is_another_has_drifted():
    slow = PROFILE.calibrated(time_factor=2.0, power_factor=1.4)
    drift = learn(fleet_windows(slow, [2.0] * 40)).drift
    assert drift.startswith("iterations take 1.5 times what the profile says (gaps between tokens: observed over")
    assert "as far as it is corrected, 0.7 to 1.5" in drift
    assert re.search(
        r"GPUs draw 1\.(38|4) times what the profile says \(watts: observed over predicted is 1.(39|4)", drift
    )
    assert "outside of 0.80 to 1.25" in drift
    assert drift.endswith("or measure a new one")
    assert "\n" not in drift


def test_busy_time_that_is_not_known_costs_little_where_replicas_are_busy():
    found = learn(fleet_windows(PROFILE, [6.0] * 40, knows_busy=False))
    assert found.power.value == pytest.approx(1.0, abs=0.026)


@dataclass
class Windows:
    """One replica, iteration by iteration, with what its histograms and its energy counter say of each window."""

    real: object
    trace: Trace
    clock_mhz: float = 1980.0

    def run(self):
        engine, now_s, window_s, next_request = ReplicaEngine(SETTINGS, self.real), 0.0, WINDOW_S, 0
        last_s, seen = {}, dict.fromkeys(("gaps", "gap_sum_s", "prompt_tokens", "prefills", "prefill_sum_s"), 0.0)
        energy_j = busy_s = 0.0
        while next_request < len(self.trace) or engine.running_count:
            while next_request < len(self.trace) and self.trace.arrival_s[next_request] <= now_s:
                lengths = (int(self.trace.input_tokens[next_request]), int(self.trace.output_tokens[next_request]))
                engine.submit(EngineRequest(str(next_request), float(self.trace.arrival_s[next_request]), *lengths))
                next_request += 1
            iteration = engine.start_iteration(now_s, self.clock_mhz)
            if iteration is None:
                step_s, power_w = float(self.trace.arrival_s[next_request]) - now_s, self.real.loaded_idle_w(1980)
            else:
                step_s, power_w = iteration.duration_s, iteration.power_w
                busy_s += step_s
            now_s += step_s
            energy_j += step_s * power_w * self.real.tensor_parallel
            for request in iteration.emitting if iteration else []:
                if request.request_id in last_s:
                    seen["gaps"] += 1
                    seen["gap_sum_s"] += now_s - last_s[request.request_id]
                else:
                    seen["prefills"] += 1
                    seen["prefill_sum_s"] += now_s - request.scheduled_s
                    seen["prompt_tokens"] += request.input_tokens
                last_s[request.request_id] = now_s
            if iteration:
                engine.finish_iteration(iteration)
            if now_s >= window_s:
                span_s = now_s - (window_s - WINDOW_S)
                yield compare(
                    Observation(span_s, [self.clock_mhz], **seen, energy_j=energy_j, busy_s=min(busy_s, span_s)),
                    PREDICTOR,
                )
                seen, energy_j, busy_s, window_s = dict.fromkeys(seen, 0.0), 0.0, 0.0, now_s + WINDOW_S


def real_with(prefill=1.0, **factors):
    """Physics in which only what scales with the clock, as prefills do, is slower."""
    model = PROFILE.model
    shape = model.shapes[8]
    step = replace(
        shape.step, compute_s=tuple(prefill * each for each in shape.step.compute_s), pair_s=prefill * shape.step.pair_s
    )
    return replace(model, shapes={8: replace(shape, step=step)}).replica(8).calibrated(**factors)


def test_prefills_and_gaps_agree_where_all_is_slower_alike():
    windows = list(Windows(PROFILE.calibrated(time_factor=1.2), arrivals(1.5, 400.0)).run())
    total = Comparison()
    for each in windows:
        total = total.plus(each)
    assert total.gap_sum_s / total.predicted_gap_sum_s == pytest.approx(1.2, rel=0.03)
    assert total.prefill_sum_s / total.predicted_prefill_sum_s == pytest.approx(1.2, rel=0.05)
    assert total.energy_j / total.predicted_energy_j == pytest.approx(1.0, rel=0.03)
    assert learn(windows).time.value == pytest.approx(1.2, abs=0.03)


def test_slow_prefills_alone_count_because_first_tokens_have_an_objective_too():
    windows = list(Windows(real_with(prefill=1.5), arrivals(1.0, 400.0)).run())
    gaps_alone = learn(replace_prefills(windows))
    both = learn(windows)
    assert both.time.value >= gaps_alone.time.value + 0.1


def replace_prefills(windows):
    return [each._replace(prefills=0.0, prefill_sum_s=0.0, predicted_prefill_sum_s=0.0) for each in windows]


def test_it_goes_on_after_a_restart():
    slow = PROFILE.calibrated(time_factor=1.2, power_factor=0.9)
    windows = list(fleet_windows(slow, [4.0] * 60))
    whole, begun = learn(windows), learn(windows[:25])
    begun.startup.observe(77.0)
    kept = ShapeCalibration.from_dict(json.loads(json.dumps(begun.to_dict())), PROFILE.model.startup_s)
    assert kept.startup == begun.startup
    assert len(json.dumps(kept.to_dict())) < 1000
    learn(windows[25:], kept)
    assert (kept.time, kept.power) == (whole.time, whole.power)


@pytest.mark.parametrize("change", [{"version": 2}, {"time": None}, {"gaps": {}}, {"startup": {}}, {"more": 1}])
def test_an_unknown_state_is_refused(change):
    with pytest.raises(InvalidInputError, match="must"):
        ShapeCalibration.from_dict({**new().to_dict(), **change}, 100.0)
    with pytest.raises(InvalidInputError, match="must"):
        ShapeCalibration.from_dict(None, 100.0)


@pytest.mark.parametrize(
    "bad",
    [
        {"replica_s": 0.0},
        {"clocks_mhz": []},
        {"gaps": -1.0},
        {"gap_sum_s": float("nan")},
        {"energy_j": -1.0},
    ],
)
def test_a_window_that_cannot_be_is_refused(bad):
    with pytest.raises(InvalidInputError, match="must"):
        Observation(**{"replica_s": 1.0, "clocks_mhz": [1980], "gaps": 1, "gap_sum_s": 1, "prompt_tokens": 0, **bad})


def test_a_clock_of_another_gpu_is_refused():
    with pytest.raises(InvalidInputError, match="observed clock 9000 MHz of h100-sxm"):
        PREDICTOR.predict(Observation(30.0, [9000], 10, 1.0, 0))


def test_an_idle_replica_draws_what_the_profile_says():
    found = compare(Observation(60.0, [1005], 0, 0, 0, energy_j=50_000.0), PREDICTOR)
    assert found.predicted_energy_j == pytest.approx(60 * 8 * PROFILE.loaded_idle_w(1005))
    assert (found.gaps, found.predicted_gap_sum_s) == (0, 0)
