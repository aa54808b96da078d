"""The two queries that a look at a service takes, however many pods and shapes it has; and a third now and then.

Each is a union of many small ones, told apart by the label ``what``: a server that
is asked twice per service answers hundreds of services without a queue. Before
anything is summed, series that differ only in what scraping added count once, so
that two jobs, or the two Prometheus of a pair, do not double the load.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from dynawatt.adapters import vllm_names
from dynawatt.adapters.promql import WHAT, equals, escaped, joined, one_of, tagged, union
from dynawatt.adapters.vllm_load.scope import Scope
from dynawatt.adapters.vllm_load.source import WatchedPod
from dynawatt.adapters.vllm_names import series_names

SHAPE: Final = "dynawatt_shape"
"""Label of what belongs to a shape."""
RECENT: Final = "recent_"
"""Before the name of what is taken over the recent window."""
_OWN_LABELS: Final = "engine,model_name,finished_reason,le"
"""What vLLM itself tells the series of one pod apart by."""
_RUNNING: Final = series_names(vllm_names.RUNNING)
_WAITING: Final = series_names(vllm_names.WAITING)
_FIRST_TOKENS: Final = series_names(vllm_names.TTFT, "_count")

MEANS: Final = {"running": ("sum", _RUNNING), "kv_usage": ("max", series_names(vllm_names.KV_USAGE))}
"""Over the rate window, and how a pod's engines are put together."""
CHANGES: Final = {
    # delta takes the same two samples as increase does and extrapolates alike, which deriv would not.
    "finished": ("increase", series_names(vllm_names.FINISHED, "_total")),
    "running_change": ("delta", _RUNNING),
    "waiting_change": ("delta", _WAITING),
    "first_tokens": ("increase", _FIRST_TOKENS),
}
"""What arrivals are made from."""
BUCKETS: Final = {
    "ttft": series_names(vllm_names.TTFT, "_bucket"),
    "tbt": series_names(vllm_names.TBT, "_bucket"),
    "inputs": series_names(vllm_names.INPUT_LENGTH, "_bucket"),
    "outputs": series_names(vllm_names.OUTPUT_LENGTH, "_bucket"),
}
_SUMS: Final = {
    "input_sum": series_names(vllm_names.INPUT_LENGTH, "_sum"),
    "output_sum": series_names(vllm_names.OUTPUT_LENGTH, "_sum"),
}
_GENERATED: Final = series_names(vllm_names.GENERATION_TOKENS, "_total")
WORK: Final = {
    "gaps": series_names(vllm_names.TBT, "_count"),
    "gap_sum_s": series_names(vllm_names.TBT, "_sum"),
    "prompt_tokens": series_names(vllm_names.PROMPT_TOKENS, "_total"),
    "cached_tokens": series_names(vllm_names.PREFIX_HITS, "_total"),
    "prefills": series_names(vllm_names.PREFILL_TIME, "_count"),
    "prefill_sum_s": series_names(vllm_names.PREFILL_TIME, "_sum"),
    "iterations": series_names(vllm_names.ITERATION_TOKENS, "_count"),
}
"""What a pod did, and how long it took."""
CLOCK: Final = "clock_"
"""Before the quantile of the SM clock in parts about it."""
_CLOCK_QUANTILES: Final = (0.125, 0.375, 0.625, 0.875)
"""Stand for a quarter of the window each."""
_POD_ENERGY: Final = "dynawatt_pod_energy_joules_total"
_GPU_CLOCK: Final = "dynawatt_gpu_sm_clock_hertz"

FAMILY_OF: Final[Mapping[str, str]] = {
    "age_s": _RUNNING[0],
    "waiting": _WAITING[0],
    "generated": _GENERATED[0],
    **{what: names[0] for what, (_, names) in (MEANS | CHANGES).items()},
    **{RECENT + what: names[0] for what, (_, names) in CHANGES.items()},
    **{what: names[0] for what, names in (BUCKETS | _SUMS).items()},
}
"""For people: what the parts of an answer are taken from."""


def flow_query(scope: Scope, namespace: str, pods: Sequence[WatchedPod], rate_s: int, recent_s: int) -> str:
    """Gauges and counters by pod; ``age_s`` is that of the newest sample, by the clock of Prometheus."""
    key, selector = scope.pod_label, scope.selector(namespace, pods)

    def by_pod(together: str, series: str) -> str:
        return f"{together} by ({key}) ({_once(key, series)})"

    parts = {
        "age_s": f"time() - max by ({key}) (timestamp({_RUNNING[0]}{{{selector}}}))",
        "waiting": by_pod("sum", f"{_WAITING[0]}{{{selector}}}"),
        "generated": by_pod("sum", _newest(key, "increase", _GENERATED, f"{{{selector}}}[{rate_s}s]")),
    }
    for what, (together, names) in MEANS.items():
        parts[what] = by_pod(together, _newest(key, "avg_over_time", names, f"{{{selector}}}[{rate_s}s]"))
    for prefix, window_s in (("", rate_s), (RECENT, recent_s)):
        for what, (function, names) in CHANGES.items():
            parts[prefix + what] = by_pod("sum", _newest(key, function, names, f"{{{selector}}}[{window_s}s]"))
    return union([tagged(query, **{WHAT: what}) for what, query in parts.items()])


def histogram_query(scope: Scope, namespace: str, shapes: Mapping[str, Sequence[WatchedPod]], mix_s: int) -> str:
    """Histograms of latencies and lengths by shape, and the sums of the lengths."""
    key, parts = scope.pod_label, []
    for shape, pods in shapes.items():
        window = f"{{{scope.selector(namespace, pods)}}}[{mix_s}s]"
        for what, names in (BUCKETS | _SUMS).items():
            series = _once(key, _newest(key, "increase", names, window))
            parts.append(tagged(f"sum by (le) ({series})", **{WHAT: what, SHAPE: shape}))
    return union(parts)


def work_query(scope: Scope, namespace: str, pods: Sequence[WatchedPod], window_s: int) -> str:
    """What each pod did over a window, by vLLM's counters; what its GPUs used and their clocks, by the agents' metrics.

    The agents' name pods as Kubernetes does, by the labels ``namespace`` and ``pod``.
    """
    key, window = scope.pod_label, f"{{{scope.selector(namespace, pods)}}}[{window_s}s]"
    held = f"{{{joined(equals('namespace', namespace), one_of('pod', sorted(pod.name for pod in pods)))}}}[{window_s}s]"
    parts = {"scrapes": f"max by ({key}) (count_over_time({_RUNNING[0]}{window}))"}
    for what, names in WORK.items():
        parts[what] = f"sum by ({key}) ({_once(key, _newest(key, 'increase', names, window))})"
    parts["energy_samples"] = f"max by (pod) (count_over_time({_POD_ENERGY}{held}))"
    parts["energy_j"] = f"max by (pod) (increase({_POD_ENERGY}{held}))"
    for quantile in _CLOCK_QUANTILES:
        parts[f"{CLOCK}{quantile}"] = f"avg by (pod) (quantile_over_time({quantile}, {_GPU_CLOCK}{held}))"
    return union([tagged(query, **{WHAT: what}) for what, query in parts.items()])


def arrivals_query(scope: Scope, namespace: str, deployment: str, slot_s: int) -> str:
    """First tokens per slot, of all pods that a Deployment and those of its other shapes ever had."""
    # Their names end with the hash of a pod template and five signs.
    pods = f'{scope.pod_label}=~"{escaped(deployment)}(-[0-9a-f]{{6}})?-[a-z0-9]{{1,10}}-[a-z0-9]{{5}}"'
    window = f"{{{joined(scope.namespace_matcher(namespace), pods)}}}[{slot_s}s]"
    return f"sum({_once(scope.pod_label, _newest(scope.pod_label, 'increase', _FIRST_TOKENS, window))})"


def _newest(key: str, function: str, names: Sequence[str], window: str) -> str:
    """A function of the series under the newest of their names that each pod has."""
    return f" or on ({key}) ".join(f"{function}({name}{window})" for name in names)


def _once(key: str, series: str) -> str:
    """Those of several scrapers counted once."""
    return f"max by ({key},{_OWN_LABELS}) ({series})"
