import numpy as np
import pytest

from dynawatt.adapters.trace_workload import read_workload
from dynawatt.cli.simulate.loads import Load
from dynawatt.cli.simulate.options import DEFAULT_SLO, parse_slo
from dynawatt.cli.simulate.session import Conditions, prepare, thirds
from dynawatt.cli.simulate.slot_counts import count_load
from dynawatt.cli.simulate.study import StudyOptions
from dynawatt.forecast.slots import WEEK_SLOTS
from dynawatt.simulation.fleet_core import ReplicaShape
from dynawatt.simulation.static_sizing import carries
from dynawatt.workload import streaming
from dynawatt.workload.builtin import built_in
from dynawatt.workload.classes import LengthClasses
from dynawatt.workload.mix import LengthMix
from dynawatt.workload.trace import ScaleMode

from .simulating import coarse  # noqa: F401 (a fixture)
from .test_simulate import trace  # noqa: F401 (a fixture)


def session(workload, *, hours=None, rate_scale=1.0, slo=DEFAULT_SLO, **options):
    conditions = Conditions(
        workload=workload,
        model="llama-3.1-70b",
        gpu="h100-sxm",
        tensor_parallel=8,
        slo=parse_slo(slo),
        slo_text=slo,
        hours=hours,
        seed=1,
        scale_mode=ScaleMode.SUPERPOSE,
        rate_scale=rate_scale,
        options=StudyOptions(chunk=2048, **options),
    )
    return prepare(conditions, NoSurfaces())


class NoSurfaces:
    def get_all(self, questions):
        raise AssertionError("a study asks for no surface before somebody does")


@pytest.fixture(scope="module")
def day():
    return session(built_in("azure-2024-conv"), hours=2, peak_servers=1)


def test_the_study_knows_every_shape_that_the_profile_covers(day):
    assert sorted(day.study.profiles) == [2, 4, 8]


def test_the_week_before_is_the_whole_week_a_tenth_lower_and_not_the_load_itself(day):
    study = day.study
    assert study.history.requests.shape == (WEEK_SLOTS, 9)
    assert study.history.start_s == -7 * 86400.0
    assert len(study.future.requests) == 24
    then, now = study.history.requests[:24].sum(axis=1), study.future.requests.sum(axis=1)
    assert then.sum() == pytest.approx(0.9 * now.sum(), rel=0.03)
    assert (then != 0.9 * now).all()
    # Workdays are in it: it is not the first two hours, those of a Sunday, over and over.
    assert study.history.requests.sum(axis=1).max() > 1.5 * then.mean()


def test_the_mix_of_the_week_before_is_that_of_the_load(day):
    then = day.study.history.requests.sum(axis=0)
    assert then / then.sum() == pytest.approx(day.study.class_shares, abs=1e-3)


def test_the_future_is_the_load_itself(day):
    assert day.study.future.requests.sum() == sum(map(len, day.load.chunks()))


def test_a_cold_start_knows_nothing_of_the_week_before():
    assert session(built_in("azure-2024-conv"), hours=0.5, replicas=1, cold_start=True).study.history is None


def test_a_short_trace_is_taken_to_have_come_again_and_again(trace):  # noqa: F811
    study = session(read_workload(trace), replicas=2).study
    then = study.history.requests
    assert then.shape == (WEEK_SLOTS, 9)
    assert then.sum() / WEEK_SLOTS == pytest.approx(0.9 * 1500, rel=0.03)
    assert then.sum(axis=1).std() == pytest.approx(np.sqrt(0.9 * 1500), rel=0.1)


def test_what_is_simulated_of_a_trace_does_not_change_its_week_before(trace):  # noqa: F811
    whole, part = (session(read_workload(trace), hours=hours, replicas=2).study for hours in (None, 0.05))
    assert (whole.history.requests == part.history.requests).all()
    assert part.future.requests.sum() < whole.future.requests.sum()


def test_weekdays_lie_where_the_published_weeks_have_them():
    # Both published weeks have two quiet days in a row. Slot 0 of the calendar is a Monday's first.
    for name in ("azure-2024-conv", "azure-2024-code"):
        study = session(built_in(name), hours=0.5, replicas=1).study
        days = np.arange(0.0, 7 * 86400.0, 86400.0)
        weekend = [(study.calendar.slot(day_s) // 288) % 7 >= 5 for day_s in days]
        counts = np.diff(built_in(name).curve.count_by(np.append(days, 7 * 86400.0)))
        assert max(counts[weekend]) < min(counts[~np.array(weekend)])


@pytest.mark.parametrize("cv", [1.0, 13.0])
def test_the_static_fleet_of_a_drawn_load_carries_its_busiest_hour_and_one_less_does_not(cv):
    study = session(built_in("azure-2023-conv", cv), rate_scale=4.0).study
    shape = ReplicaShape(study.profiles[8], study.single_settings)
    assert study.single_replicas > 1
    assert carries(study, study.busiest, shape, study.single_replicas)
    assert not carries(study, study.busiest, shape, study.single_replicas - 1)


@pytest.mark.parametrize("cv", [1.0, 13.0])
def test_a_drawn_load_is_scaled_to_what_the_fleet_carries(cv):
    found = session(built_in("azure-2023-conv", cv), peak_servers=2)
    shape = ReplicaShape(found.study.profiles[8], found.study.single_settings)
    busiest = found.study.busiest
    assert carries(found.study, busiest, shape, 2)
    assert not carries(found.study, busiest.compress(1.15), shape, 2)


def test_counting_a_load_misses_no_request(trace):  # noqa: F811
    load = Load(read_workload(trace), hours=None, seed=1, scale_mode=ScaleMode.SUPERPOSE, context_tokens=131072)
    counts = count_load(load, LengthClasses())
    assert counts.slots.requests.sum() == len(counts.busiest) == 1500
    assert counts.busiest.arrival_s[0] == 0


@pytest.mark.parametrize("most", [900, 1 << 20])
def test_the_busiest_hour_is_a_whole_one_however_its_requests_are_handed_out(monkeypatch, most):
    monkeypatch.setattr(streaming, "MAX_CHUNK_REQUESTS", most)
    load = Load(built_in("azure-2024-conv"), hours=9, seed=1, scale_mode=ScaleMode.SUPERPOSE, context_tokens=131072)
    load.rate_scale = 0.02
    counts = count_load(load, LengthClasses())
    hours = counts.slots.requests.sum(axis=1).reshape(9, 12).sum(axis=1)
    assert len(counts.busiest) == hours.max() > 900
    assert counts.busiest.arrival_s[0] == 0
    assert 3500 < counts.busiest.span_s <= 3600
    assert (np.diff(counts.busiest.arrival_s) >= 0).all()


@pytest.mark.parametrize(("cv", "follows"), [(1.0, "counts"), (13.0, "rates")])
def test_replicas_serve_rates_where_bursts_move_the_counts_more(cv, follows):
    load = Load(
        built_in("azure-2024-code", cv), hours=12, seed=1, scale_mode=ScaleMode.SUPERPOSE, context_tokens=131072
    )
    load.rate_scale = 0.2
    slots = count_load(load, LengthClasses()).slots
    served, counted = slots.served.sum(axis=1), slots.requests.sum(axis=1)
    assert served.sum() == pytest.approx(counted.sum())
    assert (np.abs(served / counted - 1).max() > 0.2) == (follows == "rates")
    assert np.abs(np.diff(np.log(served))).max() < 0.2


def test_thirds_of_a_load_fill_every_class_when_lengths_are_independent():
    rng = np.random.default_rng(1)
    mix = LengthMix(rng.integers(1, 5000, 20_000), rng.integers(1, 900, 20_000))
    shares = np.bincount(thirds(mix).of(mix.input_tokens, mix.output_tokens), minlength=9) / 20_000
    assert shares == pytest.approx(np.full(9, 1 / 9), abs=0.01)


def test_thirds_of_equal_lengths_are_still_cuts():
    classes = thirds(LengthMix(np.full(10, 7), np.full(10, 1)))
    assert classes.input_cuts[0] < classes.input_cuts[1]
    assert classes.output_cuts[0] < classes.output_cuts[1]
