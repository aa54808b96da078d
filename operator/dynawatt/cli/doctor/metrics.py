"""Checks of Prometheus: whether it answers, and whether it knows of every service what plans need."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from dynawatt.adapters import vllm_names
from dynawatt.adapters.agent_cycles import LAST_CYCLES
from dynawatt.adapters.promql import one_of
from dynawatt.adapters.vllm_load.scope import Scope, find_scope
from dynawatt.adapters.vllm_load.source import LoadQuestion, WatchedPod
from dynawatt.adapters.vllm_names import series_names
from dynawatt.api.conditions import Reason
from dynawatt.api.remedies import remedy_for
from dynawatt.cli.doctor.check import About, Check, counted, some
from dynawatt.cli.doctor.facts import Facts
from dynawatt.cli.doctor.subject import Subject, subject_of
from dynawatt.controller.target import ready_since
from dynawatt.ports import MetricsSource, MetricsUnavailable

METRICS: Final = About("metrics")
_NAME: Final = "__name__"
_NEEDED: Final = (
    series_names(vllm_names.RUNNING),
    series_names(vllm_names.WAITING),
    series_names(vllm_names.FINISHED, "_total"),
    series_names(vllm_names.TTFT, "_bucket"),
    series_names(vllm_names.TBT, "_bucket"),
    series_names(vllm_names.INPUT_LENGTH, "_bucket"),
    series_names(vllm_names.OUTPUT_LENGTH, "_bucket"),
)
"""Families without which nothing is planned."""
_USEFUL: Final = (series_names(vllm_names.KV_USAGE), series_names(vllm_names.GENERATION_TOKENS, "_total"))
_WINDOW_S: Final = 120
"""The operator's usual rate window."""
_FEWEST_SAMPLES: Final = 4
_SILENT_S: Final = 60.0
_YOUNG_S: Final = 60.0
"""Prometheus finds a pod only some time after it is Ready."""


async def check_metrics(source: MetricsSource, facts: Facts) -> list[Check]:
    """Everything about Prometheus."""
    try:
        await source.query("vector(1)")
    except MetricsUnavailable as error:
        remedy = "Give --prometheus-url and all --prometheus-* as the operator has them, from where it is reachable."
        return [METRICS.failed("Prometheus", str(error), remedy)]
    checks = [METRICS.ok("Prometheus", "answers")]
    try:
        checks.append(await _agents(source, facts))
        for service in facts.services:
            subject = subject_of(service, facts)
            if subject is not None:
                checks += await _service(source, subject, facts.now.timestamp())
    except MetricsUnavailable as error:
        checks.append(METRICS.failed("Prometheus", str(error), remedy_for(Reason.METRICS_QUERY_FAILED)))
    return checks


def without_prometheus() -> Check:
    """What is said where no Prometheus was named."""
    return METRICS.skipped("Prometheus", "not asked: no address was given", "Give --prometheus-url URL.")


async def _agents(source: MetricsSource, facts: Facts) -> Check:
    """Whether the agents' metrics are scraped, and what their last cycle tells of them."""
    wanted = set(facts.gpu_nodes)
    if not wanted:
        return METRICS.ok("agents", "there are none whose metrics could be missing")
    found = await source.query(f"time() - {LAST_CYCLES}")
    ages_s = {sample.labels.get("node", ""): sample.value for sample in found}
    scrape = "Scrape the agents' /metrics with `honorLabels: true`, and let `node` be the name of their node."
    if not ages_s:
        return METRICS.warning("agents", "Prometheus has no metrics of the agents", scrape)
    silent = {name for name in wanted if ages_s.get(name, 0.0) > _SILENT_S}
    if silent:
        longest_s = max(ages_s[name] for name in silent)
        message = f"no cycle for up to {longest_s:.0f} s of the agents on {some(silent)}"
        return METRICS.warning("agents", message, remedy_for(Reason.AGENT_STALE))
    missing = wanted - ages_s.keys()
    if missing:
        return METRICS.warning("agents", f"Prometheus has no metrics of the agents on {some(missing)}", scrape)
    return METRICS.ok("agents", f"of {counted(len(wanted), 'node')} are scraped")


async def _service(source: MetricsSource, subject: Subject, now_s: float) -> list[Check]:
    """What Prometheus knows of one service."""
    about, pods = subject.about, _watched(subject, now_s, _YOUNG_S)
    if not pods:
        return [about.skipped("metrics", f"no pod has been Ready for {_YOUNG_S:.0f} s", "Look again in a minute.")]
    question = LoadQuestion(subject.namespace, subject.spec.deployment_ref.name, {"": pods})
    try:
        scope = await find_scope(source, question)
    except MetricsUnavailable as error:
        return [about.failed("metrics", str(error), remedy_for(Reason.METRICS_QUERY_FAILED))]
    selector = scope.selector(subject.namespace, pods)
    names = one_of(_NAME, [name for family in (*_NEEDED, *_USEFUL) for name in family])
    found = await source.query(f"group by ({_NAME}, {scope.pod_label}) ({{{names},{selector}}})")
    families: dict[str, set[str]] = defaultdict(set)
    for sample in found:
        families[sample.labels.get(scope.pod_label, "")].add(sample.labels.get(_NAME, ""))
    checks = [_families(about, pods, scope, families)]
    if (labelled := _labels(about, scope)) is not None:
        checks.append(labelled)
    if old := _watched(subject, now_s, _WINDOW_S):
        selector = scope.selector(subject.namespace, old)
        running = series_names(vllm_names.RUNNING)[0]
        counts = await source.query(f"min(count_over_time({running}{{{selector}}}[{_WINDOW_S}s]))")
        checks += [_interval(about, sample.value) for sample in counts]
    return checks


def _watched(subject: Subject, now_s: float, since_s: float) -> list[WatchedPod]:
    """Pods that have been Ready for so long, which is as long as their metrics can be expected."""
    return [
        WatchedPod(pod["metadata"]["name"], (pod.get("status") or {}).get("podIP") or "")
        for pod in subject.workload.serving_pods
        if now_s - (ready_since(pod) or now_s) >= since_s
    ]


def _families(about: About, pods: Sequence[WatchedPod], scope: Scope, families: dict[str, set[str]]) -> Check:
    """Whether every pod has every family, under whatever name."""
    unscraped = [pod.name for pod in pods if not families.get(scope.value(pod))]
    scrape = "Let a PodMonitor, or the scrape configuration, select every vLLM pod."
    if unscraped:
        message = f"{len(unscraped)} of {counted(len(pods), 'Ready pod')} without metrics: {some(unscraped)}"
        return about.failed("metrics", message, scrape)
    everywhere = set.intersection(*(families[scope.value(pod)] for pod in pods))
    lacking = _lacking(_NEEDED, everywhere)
    if lacking:
        remedy = "Let Prometheus keep these families (see metric_relabel_configs), or update vLLM."
        return about.failed("metrics", f"vLLM's {', '.join(lacking)} missing", remedy)
    outdated = sorted(name for family in (*_NEEDED, *_USEFUL) for name in family[1:] if name in everywhere)
    message = f"all {len(_NEEDED)} families of vLLM that plans need, of {counted(len(pods), 'pod')}"
    if outdated and _lacking([family[:1] for family in (*_NEEDED, *_USEFUL)], everywhere):
        return about.ok("metrics", f"{message}; under older names: {', '.join(outdated)}")
    useful = _lacking(_USEFUL, everywhere)
    return about.ok("metrics", message + (f"; without {', '.join(useful)}, which only report" if useful else ""))


def _lacking(families: Iterable[Sequence[str]], known: Collection[str]) -> list[str]:
    return [family[0] for family in families if not any(name in known for name in family)]


def _labels(about: About, scope: Scope) -> Check | None:
    """What is unusual about how the pods are labelled."""
    if "exported_pod" in (scope.pod_label, scope.namespace_label) or scope.namespace_label == "exported_namespace":
        return about.warning(
            "labels",
            f"the pod is in the label {scope.pod_label}, the namespace in {scope.namespace_label or 'none'}, because "
            "Prometheus keeps the scraper's own in their place: dynawatt reads it so, dashboards may not",
            "Set `honorLabels: true` where Prometheus scrapes another Prometheus or an exporter.",
        )
    if scope.is_by_address:
        remedy = "Set the labels pod and namespace from __meta_kubernetes_pod_name and __meta_kubernetes_namespace."
        return about.warning("labels", "pods are told by their address only, which other pods get later", remedy)
    return None


def _interval(about: About, samples: float) -> Check:
    if samples < _FEWEST_SAMPLES:
        message = f"scraped {samples:.0f} times in {_WINDOW_S} s: too seldom for rates over so long"
        remedy = (
            f"Scrape vLLM at least every {_WINDOW_S // _FEWEST_SAMPLES} s, or raise the operator's --rate-window-s."
        )
        return about.warning("scraping", message, remedy)
    return about.ok("scraping", f"about every {_WINDOW_S / samples:.0f} s")
