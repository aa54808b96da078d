import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.accounting.metering import EnergySpan, ServiceMeter


def test_energy_between_two_readings_of_all_pods():
    meter = ServiceMeter()
    assert meter.observe(0.0, {"a": 100.0, "b": 1000.0}, ["a", "b"]) == EnergySpan(0.0, 0.0, None)
    assert meter.observe(10.0, {"a": 150.0, "b": 1025.0}, ["a", "b"]) == EnergySpan(0.0, 10.0, 75.0)
    assert meter.power_w == 7.5


def test_a_pod_that_could_not_be_read_delays_the_sum_but_loses_nothing():
    meter = ServiceMeter()
    meter.observe(0.0, {"a": 0.0, "b": 0.0}, ["a", "b"])
    assert meter.observe(10.0, {"a": 10.0}, ["a", "b"]) is None
    assert meter.observe(20.0, {"b": 5.0}, ["a", "b"]) is None
    assert meter.observe(30.0, {"a": 30.0, "b": 30.0}, ["a", "b"]) == EnergySpan(0.0, 30.0, 60.0)


def test_a_new_pod_counts_from_its_start_also_when_it_is_read_late():
    meter = ServiceMeter()
    meter.observe(0.0, {"a": 500.0}, ["a"])
    assert meter.observe(10.0, {"a": 510.0}, ["a", "new"]) is None
    assert meter.observe(20.0, {"a": 520.0, "new": 7.0}, ["a", "new"]) == EnergySpan(0.0, 20.0, 27.0)


def test_a_pod_that_has_gone_counts_to_its_end():
    meter = ServiceMeter()
    meter.observe(0.0, {"a": 0.0, "b": 0.0}, ["a", "b"])
    assert meter.pods(["a"]) == {"a", "b"}
    assert meter.observe(10.0, {"a": 1.0, "b": 4.0}, ["a"]) == EnergySpan(0.0, 10.0, 5.0)
    assert meter.observe(20.0, {"a": 2.0}, ["a"]) == EnergySpan(10.0, 20.0, 1.0)
    assert meter.pods(["a"]) == {"a"}


def test_what_a_pod_used_before_its_agent_began_anew_cannot_be_told():
    meter = ServiceMeter()
    meter.observe(0.0, {"a": 500.0}, ["a"])
    assert meter.observe(10.0, {"a": 3.0}, ["a"]) == EnergySpan(0.0, 10.0, None)
    assert meter.power_w is None
    assert meter.observe(20.0, {"a": 23.0}, ["a"]) == EnergySpan(10.0, 20.0, 20.0)
    assert meter.power_w == 2.0


def test_without_agents_nothing_is_told():
    meter = ServiceMeter()
    assert meter.observe(0.0, {}, ["a"]) is None
    assert meter.observe(10.0, {}, ["a"]) is None
    assert meter.power_w is None


def test_no_pods_use_nothing():
    meter = ServiceMeter()
    meter.observe(0.0, {}, [])
    assert meter.observe(10.0, {}, []) == EnergySpan(0.0, 10.0, 0.0)


def test_power_is_that_of_the_last_window():
    meter = ServiceMeter(window_s=20.0)
    for now_s, counter_j in ((0.0, 0.0), (10.0, 1000.0), (20.0, 1010.0), (30.0, 1020.0)):
        meter.observe(now_s, {"a": counter_j}, ["a"])
    assert meter.power_w == 1.0


@given(st.lists(st.lists(st.tuples(st.floats(0, 1e4), st.booleans()), min_size=3, max_size=3), max_size=30))
def test_whatever_is_read_when_the_sum_is_what_the_counters_moved(looks):
    meter, true_j, told_j = ServiceMeter(), [0.0] * 3, 0.0
    pods = ["a", "b", "c"]
    meter.observe(0.0, dict.fromkeys(pods, 0.0), pods)
    for number, look in enumerate(looks, 1):
        true_j = [counter + moved for counter, (moved, _) in zip(true_j, look, strict=True)]
        seen = {pod: j for pod, j, (_, read) in zip(pods, true_j, look, strict=True) if read}
        span = meter.observe(float(number), seen, pods)
        assert (span is not None) == (len(seen) == 3)
        told_j += span.energy_j if span else 0.0
    last = meter.observe(1e3, dict(zip(pods, true_j, strict=True)), pods)
    assert told_j + last.energy_j == pytest.approx(sum(true_j))
