"""Checks of others that change the same Deployment: autoscalers, disruption budgets, GitOps controllers."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from dynawatt.adapters.kubernetes.client import KubernetesObject
from dynawatt.api.conditions import Reason
from dynawatt.api.llmservice import LLMServiceSpec, Mode, Scaler
from dynawatt.api.remedies import remedy_for
from dynawatt.cli.doctor.check import About, Check, some
from dynawatt.controller.shapes.selectors import selects

_LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"


class _GitOps(NamedTuple):
    """One way in which manifests get into a cluster by themselves."""

    name: str
    managers: tuple[str, ...]
    """Field managers begin with one of these."""
    marks: tuple[str, ...]
    """Labels or annotations that it leaves on what it manages."""
    remedy: str


_GITOPS: Final = (
    _GitOps(
        "Argo CD",
        ("argocd",),
        ("argocd.argoproj.io/tracking-id", "argocd.argoproj.io/instance"),
        "In the Application: `ignoreDifferences: [{{group: apps, kind: Deployment, name: {name}, jsonPointers: "
        "[/spec/replicas]}}]` and `syncOptions: [RespectIgnoreDifferences=true]`; or leave `replicas` out of the "
        "manifest.",
    ),
    _GitOps(
        "Flux",
        ("kustomize-controller", "flux"),
        ("kustomize.toolkit.fluxcd.io/name",),
        "Leave `replicas` out of the manifest of Deployment {name}: Flux then leaves it to the cluster.",
    ),
    _GitOps(
        "Flux's helm-controller",
        ("helm-controller",),
        ("helm.toolkit.fluxcd.io/name",),
        "In the HelmRelease: `driftDetection: {{ignore: [{{paths: [/spec/replicas], target: {{kind: Deployment, name: "
        "{name}}}}}]}}`; better have the chart leave `replicas` out.",
    ),
    _GitOps(
        "Helm",
        ("helm",),
        ("meta.helm.sh/release-name",),
        "Have the chart leave `replicas` out: every `helm upgrade` that sets it takes dynawatt's number back.",
    ),
)


def check_neighbours(
    about: About,
    deployment: KubernetesObject,
    *,
    autoscalers: Sequence[KubernetesObject],
    budgets: Sequence[KubernetesObject],
    unread: Mapping[str, str],
    spec: LLMServiceSpec,
) -> Iterator[Check]:
    """Everybody who changes or protects what dynawatt is to change; ``unread`` says why one of both is empty."""
    acts = spec.mode is Mode.AUTO and spec.scales
    if "autoscalers" in unread:
        remedy = "Run it as somebody who may list autoscalers of every kind."
        yield about.skipped("autoscaler", f"could not be read: {unread['autoscalers']}", remedy)
    else:
        yield from _autoscalers(about, deployment, autoscalers, spec, acts=acts)
    if "budgets" in unread:
        remedy = "Run it as somebody who may list poddisruptionbudgets."
        yield about.skipped("disruption", f"could not be read: {unread['budgets']}", remedy)
    yield from _budgets(about, deployment, budgets)
    yield from _gitops(about, deployment, acts=acts)


def _autoscalers(
    about: About,
    deployment: KubernetesObject,
    autoscalers: Sequence[KubernetesObject],
    spec: LLMServiceSpec,
    *,
    acts: bool,
) -> Iterator[Check]:
    name = deployment["metadata"]["name"]
    mine = [scaler for scaler in autoscalers if _target(scaler) == name]
    external = spec.replicas.scaled_by is Scaler.EXTERNAL
    by_kind = {
        "ScaledObject": Reason.SCALED_BY_KEDA,
        "HorizontalPodAutoscaler": Reason.SCALED_BY_HPA,
        "VerticalPodAutoscaler": Reason.RESIZED_BY_VPA,
    }
    troubled = False
    for kind, reason in by_kind.items():
        found = [each["metadata"]["name"] for each in mine if each["kind"] == kind and not _is_inert(each)]
        if not found:
            continue
        if kind != "VerticalPodAutoscaler" and external:
            yield about.ok("autoscaler", f"{kind} {some(found)} sets the replicas, as `scaledBy: External` says")
            continue
        troubled = True
        yield about.bad("autoscaler", f"{kind} {some(found)} changes the Deployment", remedy_for(reason), hurts=acts)
    if external and not troubled and not any(each["kind"] != "VerticalPodAutoscaler" for each in mine):
        remedy = "Create a HorizontalPodAutoscaler or ScaledObject that follows dynawatt_desired_replicas."
        yield about.warning("autoscaler", "`scaledBy` is External, but no autoscaler sets the replicas", remedy)
    elif not mine:
        yield about.ok("autoscaler", "nobody else scales the Deployment")


def _target(scaler: KubernetesObject) -> str:
    """The Deployment that an autoscaler changes; empty when it changes something else."""
    spec = scaler.get("spec") or {}
    ref = spec.get("scaleTargetRef") or spec.get("targetRef") or {}
    return str(ref.get("name", "")) if ref.get("kind", "Deployment") == "Deployment" else ""


def _is_inert(scaler: KubernetesObject) -> bool:
    """Whether it only recommends."""
    policy = (scaler.get("spec") or {}).get("updatePolicy") or {}
    return scaler["kind"] == "VerticalPodAutoscaler" and policy.get("updateMode") in ("Off", "Initial")


def _budgets(about: About, deployment: KubernetesObject, budgets: Sequence[KubernetesObject]) -> Iterator[Check]:
    labels = (deployment["spec"]["template"].get("metadata") or {}).get("labels") or {}
    mine = [budget for budget in budgets if selects(budget["spec"].get("selector"), labels)]
    for budget in mine:
        name, status = budget["metadata"]["name"], budget.get("status") or {}
        if status.get("expectedPods", 0) > 0 and status.get("disruptionsAllowed", 0) <= 0:
            message = f"PodDisruptionBudget {name} lets no pod go at present: draining waits for it"
            yield about.warning("disruption", message, "Let it spare at least one pod, as `maxUnavailable: 1` does.")
        else:
            yield about.ok("disruption", f"PodDisruptionBudget {name} lets pods go")


def _gitops(about: About, deployment: KubernetesObject, *, acts: bool) -> Iterator[Check]:
    metadata = deployment["metadata"]
    name, marks = metadata["name"], (metadata.get("labels") or {}).keys() | (metadata.get("annotations") or {}).keys()
    fields = metadata.get("managedFields") or ()
    for tool in _GITOPS:
        own = [entry for entry in fields if str(entry.get("manager", "")).startswith(tool.managers)]
        if tool.name == "Helm":  # whose name begins helm-controller's, too
            own = [entry for entry in own if not str(entry["manager"]).startswith("helm-controller")]
        if not own and not marks & set(tool.marks):
            continue
        sets = any("f:replicas" in ((entry.get("fieldsV1") or {}).get("f:spec") or {}) for entry in own)
        if sets or _manifest_has_replicas(deployment):
            message = f"{tool.name} sets `replicas` of the Deployment"
            yield about.bad("GitOps", message, tool.remedy.format(name=name), hurts=acts)
        else:
            yield about.ok("GitOps", f"{tool.name} manages the Deployment and leaves `replicas` alone")


def _manifest_has_replicas(deployment: KubernetesObject) -> bool:
    """Whether what was last applied from the client, as Argo CD does, names a number of replicas."""
    text = (deployment["metadata"].get("annotations") or {}).get(_LAST_APPLIED)
    try:
        applied = json.loads(text or "{}")
    except ValueError:
        return False
    return isinstance(applied, dict) and "replicas" in (applied.get("spec") or {})
