"""What the answers of Prometheus mean, and whether they can be believed.

vLLM does not count arrivals. What arrived in a window is what finished in it and
what is there now that was not before: completions plus the change of running and
waiting. That misses requests that their clients gave up, which vLLM never counts as
finished, and those that a crash took along. First tokens plus the change of waiting
miss neither, but for requests given up while they wait, and mistake a request that
was preempted for a new one while it waits again. Otherwise the two are equal but
for what is just being prefilled, so the greater of them is the load.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

from dynawatt.adapters.promql import WHAT
from dynawatt.adapters.vllm_load.histograms import added, histogram_of, mix_of
from dynawatt.adapters.vllm_load.queries import BUCKETS, CHANGES, FAMILY_OF, RECENT, SHAPE
from dynawatt.adapters.vllm_load.scope import Scope
from dynawatt.adapters.vllm_load.source import LoadObservation, LoadQuestion, ShapeLoad, WatchedPod
from dynawatt.ports import MetricsUnavailable, Sample
from dynawatt.workload.mix import Histogram

_MOST_NAMED: Final = 3

Shapes = Mapping[str, Sequence[WatchedPod]]
Flow = Mapping[str, float]
"""What is known of one pod, by part of the query."""


def arrived(flows: Sequence[Flow], window: str = "") -> float:
    """Requests that arrived at several pods in a window, as said above.

    The greater is taken of all of them at once: of each alone, it would mostly choose from noise.
    """
    finished, running, waiting, first_tokens = (sum(flow[window + what] for flow in flows) for what in CHANGES)
    return max(0.0, max(finished + running, first_tokens) + waiting)


def flows_from(samples: Sequence[Sample], scope: Scope) -> dict[str, dict[str, float]]:
    """The answer to the flow query by value of the pod label. Raises MetricsUnavailable for what is no number."""
    flows: dict[str, dict[str, float]] = defaultdict(dict)
    for sample in samples:
        flows[sample.labels.get(scope.pod_label, "")][_part(sample)] = sample.value
    return flows


def absent(question: LoadQuestion, scope: Scope, flows: Mapping[str, Flow]) -> list[str]:
    """Names of expected pods without any series."""
    return [pod.name for pod in question.pods if pod.expected and "age_s" not in flows.get(scope.value(pod), {})]


def check(question: LoadQuestion, scope: Scope, flows: Mapping[str, Flow]) -> None:
    """Raise MetricsUnavailable unless every expected pod tells all that is needed, and tells it of now."""
    if names := absent(question, scope, flows):
        raise MetricsUnavailable(
            f"{FAMILY_OF['age_s']} has no series of {_named(names)} by the label {scope.pod_label}: does Prometheus "
            "scrape every vLLM pod?"
        )
    expected = {pod.name: flows[scope.value(pod)] for pod in question.pods if pod.expected}
    if stale := {name: flow["age_s"] for name, flow in expected.items() if flow["age_s"] > question.max_age_s}:
        raise MetricsUnavailable(
            f"the newest sample of {FAMILY_OF['age_s']} of {_named(list(stale))} is {max(stale.values()):.0f} s old: "
            f"must be at most {question.max_age_s:g} s; does Prometheus still scrape, and in time?"
        )
    for what in ("waiting", "running", *CHANGES):
        if names := [name for name, flow in expected.items() if what not in flow]:
            raise MetricsUnavailable(
                f"{FAMILY_OF[what]} of {_named(names)} has no two samples within {question.rate_window_s} s: scrape "
                f"at least every {max(1, question.rate_window_s // 4)} s, and let no relabelling drop it"
            )


def observation(
    question: LoadQuestion, scope: Scope, shapes: Shapes, flows: Mapping[str, Flow], buckets: Sequence[Sample]
) -> LoadObservation:
    """What was seen. ``shapes`` may hold pods that are gone as well. Raises MetricsUnavailable."""
    check(question, scope, flows)
    parts: dict[str, dict[str, list[Sample]]] = defaultdict(lambda: defaultdict(list))
    for sample in buckets:
        parts[_part(sample)][sample.labels.get(SHAPE, "")].append(sample)
    expects = any(pod.expected for pod in question.pods)
    if missing := [what for what in BUCKETS if expects and not parts[what]]:
        raise MetricsUnavailable(
            f"{FAMILY_OF[missing[0]]} has no series of Deployment {question.deployment}: let no relabelling drop it, "
            "nor Prometheus keep it as a native histogram alone"
        )
    by_shape = {what: {shape: histogram_of(found) for shape, found in parts[what].items()} for what in BUCKETS}
    total = {what: added(histograms.values()) for what, histograms in by_shape.items()}
    loads = {}
    for shape, pods in shapes.items():
        latencies = [by_shape[what].get(shape, []) for what in ("ttft", "tbt")]
        if load := _shape_load(question, [flows.get(scope.value(pod), {}) for pod in pods], *latencies):
            loads[shape] = load
    if not loads:
        raise MetricsUnavailable(
            f"no pod of Deployment {question.deployment} was scraped twice within {question.rate_window_s} s yet"
        )
    ages_s = [flow["age_s"] for flow in flows.values() if "age_s" in flow]
    return LoadObservation(
        rate_rps=sum(load.rate_rps for load in loads.values()),
        mix=mix_of(total["inputs"], total["outputs"], _sum(parts["input_sum"]), _sum(parts["output_sum"])),
        finished_requests=total["inputs"][-1][1] if total["inputs"] else 0.0,
        ttft=total["ttft"],
        tbt=total["tbt"],
        recent_rps=_recent_rps(question, scope, shapes, flows),
        recent_window_s=question.recent_window_s,
        age_s=max(0.0, min(ages_s, default=0.0)),
        shapes=loads,
    )


def _shape_load(question: LoadQuestion, flows: Sequence[Flow], ttft: Histogram, tbt: Histogram) -> ShapeLoad | None:
    """None when none of its pods tells enough to have a rate."""
    counted = [flow for flow in flows if all(what in flow for what in (*CHANGES, "running"))]
    if not counted:
        return None
    fresh = [flow for flow in flows if flow.get("age_s", math.inf) <= question.max_age_s]
    usages = [flow["kv_usage"] for flow in fresh if "kv_usage" in flow]
    generated = [flow["generated"] for flow in counted if "generated" in flow]
    return ShapeLoad(
        pods=len(fresh),
        rate_rps=arrived(counted) / question.rate_window_s,
        running=sum(flow["running"] for flow in fresh if "running" in flow),
        waiting=sum(flow.get("waiting", 0.0) for flow in fresh),
        kv_usage=sum(usages) / len(usages) if usages else None,
        generated_tps=sum(generated) / question.rate_window_s if generated else None,
        ttft=ttft,
        tbt=tbt,
    )


def _recent_rps(question: LoadQuestion, scope: Scope, shapes: Shapes, flows: Mapping[str, Flow]) -> float | None:
    """None when a pod of which two scrapes are expected has them not: the others alone would be too few."""
    counted = []
    for pod in (pod for pods in shapes.values() for pod in pods):
        flow = flows.get(scope.value(pod), {})
        if all(RECENT + what in flow for what in CHANGES):
            counted.append(flow)
        elif pod.expected:
            return None
    return arrived(counted, RECENT) / question.recent_window_s


def _part(sample: Sample) -> str:
    """What a sample is about. Raises MetricsUnavailable when it is no number."""
    what = sample.labels.get(WHAT, "")
    if not math.isfinite(sample.value):
        raise MetricsUnavailable(
            f"{FAMILY_OF.get(what, what)} is {sample.value}: must be a number; does a recording or relabelling rule "
            "write into it?"
        )
    return what


def _sum(samples: Mapping[str, Sequence[Sample]]) -> float:
    """Over all shapes; NaN when nothing is known."""
    found = [sample.value for each in samples.values() for sample in each]
    return sum(found) if found else math.nan


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MOST_NAMED])
    return f"pod {shown} and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else f"pod {shown}"
