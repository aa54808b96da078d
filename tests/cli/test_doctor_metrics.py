"""What the doctor says of Prometheus; what a real one answers is tried in tests/integration/test_doctor.py."""

import re

import pytest

from dynawatt.cli.doctor.check import Outcome
from dynawatt.cli.doctor.metrics import check_metrics
from dynawatt.ports import MetricsUnavailable, Sample

from .doctoring import facts, only
from .objects import NOW, pod, service

OK, WARNING, FAILED, SKIPPED = Outcome
NEEDED = (
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:request_success_total",
    "vllm:time_to_first_token_seconds_bucket",
    "vllm:inter_token_latency_seconds_bucket",
    "vllm:request_prompt_tokens_bucket",
    "vllm:request_generation_tokens_bucket",
)
USEFUL = ("vllm:kv_cache_usage_perc", "vllm:generation_tokens_total")
PODS = ("llama-a", "llama-b")


class Answers:
    """Series of pods, and what the few other questions are answered with."""

    def __init__(self, *, families=(*NEEDED, *USEFUL), pods=PODS, labels=("namespace", "pod"), samples=60.0, ages=None):
        self.families, self.pods, self.labels, self.samples = families, pods, labels, samples
        self.ages = {"gpu-1": 1.0} if ages is None else ages
        self.away = False

    async def query(self, promql):
        if self.away:
            raise MetricsUnavailable("Prometheus at http://x did not answer")
        if promql == "vector(1)":
            return [Sample({}, 1.0)]
        if "dynawatt_agent_last_cycle_timestamp_seconds" in promql:
            return [Sample({"node": node} if node else {}, age_s) for node, age_s in self.ages.items()]
        if "count_over_time" in promql:
            return [Sample({}, self.samples)] if any(name in promql for name in self.pods) else []
        namespace, pod_label = self.labels
        where = {namespace: "prod"} if namespace else {}
        if "__name__" in promql:
            asked = set(re.findall(r"vllm:[a-z_]+", promql))
            return [
                Sample({"__name__": family, pod_label: name}, 1.0)
                for name in self.pods
                for family in (self.families[name] if isinstance(self.families, dict) else self.families)
                if family in asked
            ]
        return [Sample(where | {pod_label: name}, 1.0) for name in self.pods]

    async def query_range(self, promql, start_s, end_s, step_s):
        raise AssertionError("nothing is asked over a range")


async def judged(answers, name, **changes):
    return only(await check_metrics(answers, facts(**changes)), name)


async def test_nothing_is_wrong_with_a_prometheus_in_order():
    checks = await check_metrics(Answers(), facts())
    assert {check.outcome for check in checks} == {OK}
    assert only(checks, "metrics").message == "all 7 families of vLLM that plans need, of 2 pods"
    assert only(checks, "metrics").about == "prod/llama"
    assert only(checks, "scraping").message == "about every 2 s"


async def test_a_prometheus_that_is_away():
    answers = Answers()
    answers.away = True
    [check] = await check_metrics(answers, facts())
    assert (check.outcome, check.message) == (FAILED, "Prometheus at http://x did not answer")


async def test_no_pod_of_the_service_is_scraped():
    check = await judged(Answers(pods=()), "metrics")
    assert check.outcome is FAILED
    assert "has no series of pod llama-a and 1 more" in check.message


async def test_one_pod_is_not_scraped():
    check = await judged(Answers(pods=("llama-a",)), "metrics")
    assert (check.outcome, check.message) == (FAILED, "1 of 2 Ready pods without metrics: llama-b")


@pytest.mark.parametrize("missing", NEEDED)
async def test_a_family_that_plans_need(missing):
    check = await judged(Answers(families=[name for name in (*NEEDED, *USEFUL) if name != missing]), "metrics")
    assert (check.outcome, check.message) == (FAILED, f"vLLM's {missing} missing")


async def test_a_family_that_one_pod_lacks():
    families = {"llama-a": (*NEEDED, *USEFUL), "llama-b": (*NEEDED[1:], *USEFUL)}
    assert (await judged(Answers(families=families), "metrics")).message == f"vLLM's {NEEDED[0]} missing"


async def test_older_names_will_do():
    old = "vllm:time_per_output_token_seconds_bucket"
    families = [old if name == "vllm:inter_token_latency_seconds_bucket" else name for name in (*NEEDED, *USEFUL)]
    check = await judged(Answers(families=families), "metrics")
    assert check.outcome is OK
    assert check.message.endswith(f"under older names: {old}")


async def test_what_is_only_reported_may_be_missing():
    check = await judged(Answers(families=NEEDED), "metrics")
    assert check.outcome is OK
    assert check.message.endswith("without vllm:kv_cache_usage_perc, vllm:generation_tokens_total, which only report")


@pytest.mark.parametrize(
    ("labels", "outcome"),
    [(("exported_namespace", "exported_pod"), WARNING), (("kubernetes_namespace", "kubernetes_pod_name"), None)],
)
async def test_labels_that_honor_labels_would_keep(labels, outcome):
    checks = await check_metrics(Answers(labels=labels), facts())
    assert [check.outcome for check in checks if check.name == "labels"] == ([outcome] if outcome else [])
    assert all("honorLabels: true" in check.remedy for check in checks if check.name == "labels")


async def test_a_scrape_that_is_too_seldom():
    check = await judged(Answers(samples=2.0), "scraping")
    assert (check.outcome, check.message) == (WARNING, "scraped 2 times in 120 s: too seldom for rates over so long")
    assert "at least every 30 s" in check.remedy


async def test_pods_that_were_ready_only_now_are_not_missed():
    young = pod("llama-c")
    young["status"]["conditions"][0]["lastTransitionTime"] = NOW.isoformat()
    checks = await check_metrics(Answers(pods=("llama-a",)), facts(pods={"prod": [pod(), young]}))
    assert only(checks, "metrics").outcome is OK
    nobody = await judged(Answers(), "metrics", pods={"prod": [young]})
    assert (nobody.outcome, nobody.message) == (SKIPPED, "no pod has been Ready for 60 s")


@pytest.mark.parametrize(
    ("ages", "outcome", "message"),
    [
        ({"gpu-1": 1.0}, OK, "of 1 node are scraped"),
        ({"gpu-1": 300.0}, WARNING, "no cycle for up to 300 s of the agents on gpu-1"),
        ({"gpu-9": 1.0}, WARNING, "Prometheus has no metrics of the agents on gpu-1"),
        ({}, WARNING, "Prometheus has no metrics of the agents"),
    ],
)
async def test_agents(ages, outcome, message):
    check = await judged(Answers(ages=ages), "agents")
    assert (check.outcome, check.message) == (outcome, message)


async def test_a_service_without_deployment_is_left_to_its_own_check():
    checks = await check_metrics(Answers(), facts(services=[service("gone")]))
    assert {check.about for check in checks} == {"metrics"}
