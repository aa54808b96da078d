from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.agent.metering import KEEP_S, EnergyKey, EnergyMeter
from dynawatt.agent.serving import ServingMeter
from dynawatt.governing.reading import PodReading
from dynawatt.ports import Scrape

from .views import A, B

NOTHING = dict.fromkeys(PodReading._fields)


def scrape(now_s: float = 0.0, **values: Any) -> Scrape:
    return Scrape(now_s, PodReading(**(NOTHING | values)), "")


SILENT = Scrape(0.0, None, "timed out")


def generated(*values: float | None) -> float | None:
    """Tokens counted over readings of one pod."""
    meter = ServingMeter()
    for value in values:
        meter.observe({A: scrape(generation_tokens=value)}, {}, 0.0)
    return meter.totals(0.0)[A].generation_tokens


@pytest.mark.parametrize(
    ("readings", "tokens"),
    [
        ((5000.0,), 0.0),
        ((5000.0, 5100.0, 5100.0, 5350.0), 350.0),
        ((0.0, 40.0), 40.0),
        ((5000.0, 5100.0, 30.0, 50.0), 150.0),
        ((5000.0, None, 5100.0), 100.0),
        ((None, None), None),
        ((None, 70.0, 75.0), 5.0),
        ((10.0, float("nan"), 12.0), 2.0),
        ((10.0, float("inf"), 12.0), 2.0),
        ((10.0, 1e300, 12.0), 2.0),
        ((10.0, -5.0, 12.0), 2.0),
    ],
)
def test_tokens_since_the_first_reading(readings: Sequence[float | None], tokens: float | None) -> None:
    assert generated(*readings) == tokens


def test_each_number_is_counted_by_itself() -> None:
    meter = ServingMeter()
    meter.observe({A: scrape(1.0, prompt_tokens=100.0, generation_tokens=10.0)}, {A: "prod/llama"}, 1.0)
    meter.observe({A: scrape(2.0, prompt_tokens=150.0, finished=4.0)}, {A: "prod/llama"}, 2.0)
    meter.observe({A: scrape(3.0, generation_tokens=11.0, finished=6.0)}, {A: "prod/llama"}, 3.0)
    found = meter.totals(3.0)[A]
    assert (found.prompt_tokens, found.generation_tokens, found.requests) == (50.0, 1.0, 2.0)
    assert (found.service, found.arrival_dispersion, found.as_of_s) == ("prod/llama", None, 3.0)


def test_a_pod_that_was_never_read_has_served_nothing_that_is_known() -> None:
    meter = ServingMeter()
    meter.observe({A: SILENT}, {A: "prod/llama"}, 0.0)
    assert meter.totals(0.0) == {}


def test_a_pod_that_cannot_be_read_stands_still_and_is_made_up_for() -> None:
    meter = ServingMeter()
    meter.observe({A: scrape(1.0, generation_tokens=10.0)}, {}, 1.0)
    meter.observe({A: SILENT}, {}, 2.0)
    silent = meter.totals(2.0)[A]
    meter.observe({A: scrape(3.0, generation_tokens=30.0)}, {}, 3.0)
    assert (silent.generation_tokens, silent.as_of_s) == (0.0, 1.0)
    assert meter.totals(3.0)[A].generation_tokens == 20.0


def test_gone_pods_stay_as_they_ended_for_as_long_as_their_joules() -> None:
    serving, energy = ServingMeter(), EnergyMeter()
    serving.observe({A: scrape(0.0, finished=1.0)}, {A: "prod/llama"}, 0.0)
    energy.observe(uuid="GPU-0", counter_j=0.0, holder=A, now_s=0.0)
    for now_s in (1.0, KEEP_S, KEEP_S + 0.1, KEEP_S + 1.0):
        serving.observe({B: scrape(now_s, finished=1.0)}, {}, now_s)
        found = serving.totals(now_s)
        assert (A in found) == (EnergyKey("GPU-0", A) in energy.totals_j(now_s)) == (now_s <= KEEP_S)
        assert A not in found or found[A].service == "prod/llama"


def test_a_silent_pod_is_not_gone() -> None:
    meter = ServingMeter()
    meter.observe({A: scrape(0.0, finished=1.0)}, {}, 0.0)
    meter.observe({A: SILENT}, {}, KEEP_S)
    assert A in meter.totals(1.5 * KEEP_S)


def test_a_claim_that_comes_and_goes_moves_the_service_only() -> None:
    meter = ServingMeter()
    told = []
    for finished, services in ((1.0, {}), (2.0, {A: "prod/llama"}), (3.0, {})):
        meter.observe({A: scrape(finished=finished)}, services, 0.0)
        told.append((meter.totals(0.0)[A].service, meter.totals(0.0)[A].requests))
    assert told == [("", 0.0), ("prod/llama", 1.0), ("", 2.0)]


class Second(NamedTuple):
    tokens: int
    joules: int
    read: bool
    restarts: bool


SECONDS = st.builds(
    Second, tokens=st.integers(0, 5000), joules=st.integers(0, 700), read=st.booleans(), restarts=st.booleans()
)


@given(st.lists(SECONDS, min_size=1))
def test_joules_and_tokens_belong_together_whenever_a_pod_was_read(seconds: Sequence[Second]) -> None:
    serving, energy = ServingMeter(), EnergyMeter()
    counter_j, shown = 1e6, 777  # what both counters had before the agent started
    serving.observe({A: scrape(0.0, generation_tokens=float(shown))}, {}, 0.0)
    energy.observe(uuid="GPU-0", counter_j=counter_j, holder=A, now_s=0.0)
    tokens = joules = 0
    before = True
    for now_s, second in enumerate(seconds, start=1):
        tokens, joules = tokens + second.tokens, joules + second.joules
        counter_j += second.joules
        # What a server counted after its last reading is lost with it, and one that has caught up cannot be told.
        restarts = second.restarts and before and second.read and second.tokens < shown
        before = second.read
        shown = second.tokens if restarts else shown + second.tokens
        serving.observe({A: scrape(now_s, generation_tokens=float(shown)) if second.read else SILENT}, {}, now_s)
        energy.observe(uuid="GPU-0", counter_j=counter_j, holder=A, now_s=now_s)
        if second.read:
            assert serving.totals(now_s)[A].generation_tokens == tokens
            assert energy.totals_j(now_s) == {EnergyKey("GPU-0", A): joules}
