"""Which vLLM services a Prometheus knows, from the labels of their series.

vLLM itself names only the model. What tells services of one model apart are the
labels that scraping adds, under one name or another: the namespace, and the pod,
whose name begins with that of its Deployment.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dynawatt.adapters.promql import equals, escaped, joined
from dynawatt.adapters.vllm_load.scope import NAMESPACE_LABELS, POD_LABELS
from dynawatt.adapters.vllm_names import RUNNING, series_names
from dynawatt.errors import InvalidInputError, nearest_names
from dynawatt.ports import MetricsSource, MetricsUnavailable, Sample

_SERIES: Final = series_names(RUNNING)[0]
_SUFFIXES: Final = ("-[a-z0-9]{5,10}-[a-z0-9]{5}", "-[0-9]+", "")
"""What a Deployment and a StatefulSet put after their names to name a pod, and a pod of its own."""
_MOST_LISTED: Final = 8


@dataclass(frozen=True, slots=True)
class VllmService:
    """One of them."""

    model: str
    """The first name that requests may use for it."""
    namespace: str
    name: str
    """Of the Deployment or StatefulSet, or what comes closest to it; empty where no label tells."""
    matchers: str
    """PromQL that selects its series, model aside."""

    @property
    def selector(self) -> str:
        """PromQL that selects its series where they name the model."""
        return joined(self.matchers, equals("model_name", self.model))

    def __str__(self) -> str:
        """For people, with what selects it."""
        return f"{self.model} ({self.matchers})" if self.matchers else self.model


async def find_service(
    source: MetricsSource,
    *,
    window_s: int,
    selector: str = "",
    namespace: str | None = None,
    service: str | None = None,
    model: str | None = None,
) -> VllmService:
    """The only service that fits.

    Args:
        source: The Prometheus.
        window_s: How far back it may have been seen.
        selector: PromQL label matchers, such as ``job="vllm"``.
        namespace: Of its pods.
        service: Name of its Deployment, StatefulSet or Service.
        model: Name that requests use.

    Raises InvalidInputError when none or several fit, and MetricsUnavailable when Prometheus does not answer.
    """
    labels = ",".join(("model_name", "service", "job", *NAMESPACE_LABELS, *POD_LABELS))
    # Routers tell again what their servers do, and name the server.
    direct = joined(selector, equals("server", ""))
    query = f"group by ({labels}) (last_over_time({_SERIES}{{{direct}}}[{window_s}s]))"
    try:
        found = [each for each in _services(await source.query(query), selector) if namespace in (None, each.namespace)]
    except MetricsUnavailable as error:
        if selector and "parse error" in str(error):
            raise InvalidInputError(
                f'--selector {selector}: Prometheus cannot read it; give matchers such as namespace="prod",job="vllm"'
            ) from error
        raise
    if not found:
        asked = joined(selector, "" if namespace is None else equals("namespace", namespace))
        where = f" that match {asked}" if asked else ""
        raise InvalidInputError(
            f"no series {_SERIES}{where} in the last {window_s / 3600:g} hours: does this Prometheus scrape vLLM? "
            "Check --namespace and --selector, or look further back with --hours"
        )
    wanted = [each for each in found if service in (None, each.name) and model in (None, each.model)]
    if len(wanted) == 1:
        return wanted[0]
    if not wanted:
        names = {each.name for each in found} if service is not None else {each.model for each in found}
        option, name = ("--service", service) if service is not None else ("--served-model", model)
        raise InvalidInputError(f"{option} {name}: Prometheus has no such service; {nearest_names(name or '', names)}")
    listed = "; ".join(map(str, wanted[:_MOST_LISTED])) + ("; ..." if len(wanted) > _MOST_LISTED else "")
    raise InvalidInputError(
        f"Prometheus knows {len(wanted)} vLLM services: choose one with --namespace, --service, --served-model or "
        f"--selector: {listed}"
    )


def _services(samples: Sequence[Sample], selector: str) -> list[VllmService]:
    """By the labels that tell them apart; pods of one Deployment are one service."""
    jobs: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    matchers: dict[tuple[str, str, str], str] = {}
    for sample in samples:
        labels = sample.labels
        namespace_label, namespace = _told(labels, NAMESPACE_LABELS)
        name, pods = _owner(*_told(labels, POD_LABELS))
        if not name and labels.get("service"):
            name, pods = labels["service"], equals("service", labels["service"])
        key = labels.get("model_name", ""), namespace, name
        jobs[key].add(labels.get("job", ""))
        matchers[key] = joined(selector, equals(namespace_label, namespace) if namespace else "", pods)
    found = []
    for key, its_jobs in sorted(jobs.items()):
        # Series that two jobs scrape would count twice: the first of them is as good as the other.
        job = equals("job", min(its_jobs)) if len(its_jobs) > 1 and key[2] else ""
        alone = [job] if key[2] or len(its_jobs) == 1 else [equals("job", each) for each in sorted(its_jobs)]
        found += [VllmService(*key, joined(matchers[key], each)) for each in alone]
    return found


def _told(labels: Mapping[str, str], names: Sequence[str]) -> tuple[str, str]:
    """Name and value of the label that tells. Where a Prometheus reads another, the true one is the exported one."""
    in_order = sorted(names, key=lambda name: not name.startswith("exported_"))
    return next(((name, labels[name]) for name in in_order if labels.get(name)), (names[0], ""))


def _owner(label: str, pod: str) -> tuple[str, str]:
    """What made a pod, after its name, and the matcher of all pods it makes; empty without a pod."""
    if not pod:
        return "", ""
    for suffix in _SUFFIXES:
        if match := re.fullmatch(f"(.+){suffix}", pod):
            return match[1], f'{label}=~"{escaped(match[1])}{suffix}"'
    return pod, ""
