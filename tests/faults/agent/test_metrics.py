"""vLLM pods whose metrics hang, flood or lie, and pods that get a burst."""

from collections.abc import Iterator

import pytest

from .idle import HIGH_MHZ, LOW_MHZ, IdlePods
from .ledger import race, until

pytestmark = pytest.mark.integration

SETTLING_S = 60.0
"""A governor knows its load after 10 s, and goes down after 20 s that needed less."""
BLIND_S = 7.0
"""Without a reading for 5 s a pod gets its ceiling."""
BURST_S = 2.0

MISBEHAVIOURS = ("hangs", "drips", "floods", "answers 404", "is cut short", "says NaN", "says -3", "tells no load")
EVENTS = {
    "30 requests run at once": lambda page: page.metrics.set("vllm:num_requests_running", 30),
    "400 requests wait": lambda page: page.metrics.set("vllm:num_requests_waiting", 400),
    "KV cache full": lambda page: page.metrics.set("vllm:kv_cache_usage_perc", 0.99),
    "gaps between tokens late": lambda page: page.metrics.observe("vllm:inter_token_latency_seconds", 0.5, 100),
    "counters go back": lambda page: page.restart(),
}


@pytest.fixture(scope="module", autouse=True)
def nothing_goes_on_afterwards(idle_pods: IdlePods) -> Iterator[None]:
    """Their agent would go on scraping pages that drip until the last test of all has run."""
    yield
    idle_pods.rig.close()


def test_metrics_that_cannot_be_trusted_and_bursts(idle_pods, trial):
    rig, pages = idle_pods.rig, idle_pods.pages
    until(lambda: rig.at(LOW_MHZ, *rig.gpus), within_s=SETTLING_S)
    free = iter(rig.gpus)
    high = {}
    for misbehaviour, gpu in zip(MISBEHAVIOURS, free, strict=False):
        pages[gpu].misbehaviour = misbehaviour
        found = trial(f"/metrics of a pod {misbehaviour}", "its clock at the ceiling", BLIND_S)
        high[found] = lambda gpu=gpu: rig.at(HIGH_MHZ, gpu)
    for event, gpu in zip(EVENTS, free, strict=False):
        found = trial(f"burst in the metrics of a pod: {event}", "its clock at the ceiling", BURST_S)
        high[found] = lambda gpu=gpu: rig.at(HIGH_MHZ, gpu)
        EVENTS[event](pages[gpu])
    others = list(free)
    cycles_s = []

    def others_are_governed():
        cycles_s.append(rig.agent.metric("dynawatt_agent_cycle_seconds"))
        return rig.at(LOW_MHZ, *others) and rig.agent.is_ready()

    assert others
    race(high, meanwhile=others_are_governed)
    short = trial("all these at once", "a cycle takes no longer than", 1.0)
    short.note(took_s=max(cycles_s))
    assert rig.cluster.condition() == ("True", "ClaimsApplied")
    assert rig.agent.metric("dynawatt_agent_scrape_failures_total") > 0
