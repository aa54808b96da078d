"""Checks of how a Deployment runs vLLM: model, GPUs, drain, start-up, and whether it can be copied."""

from collections.abc import Iterator
from typing import Final

from dynawatt.adapters.deployment_file import GPU_LABEL
from dynawatt.adapters.profile_files import find_replica
from dynawatt.api.conditions import Reason
from dynawatt.api.llmservice import Knob
from dynawatt.cli.doctor.check import Check, counted
from dynawatt.cli.doctor.facts import Facts, gpus_of
from dynawatt.cli.doctor.subject import Subject
from dynawatt.controller.shapes.drain import drain_problem, pre_stop_s
from dynawatt.controller.shapes.probes import needed_s, startup_budget_s
from dynawatt.controller.shapes.refusal import RefusalReason
from dynawatt.controller.shapes.refusals import template_refusals
from dynawatt.controller.shapes.template import Template
from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.profile import ReplicaProfile

_TOLD: Final = 3


def check_engine(subject: Subject, template: Template, facts: Facts) -> Iterator[Check]:
    """Everything about how its pods run vLLM."""
    settings, about = template.settings, subject.about
    if template.replica_gpus != settings.tensor_parallel_size:
        message = "pipeline or data parallelism above 1 is not supported"
        yield about.failed("vLLM", message, subject.remedy(Reason.UNSUPPORTED_DEPLOYMENT))
        return
    largest = max(map(gpus_of, facts.nodes), default=None)
    found = f"{settings.model}, TP{settings.tensor_parallel_size}"
    if largest is not None and template.replica_gpus > largest:
        remedy = "Use a smaller --tensor-parallel-size, or larger nodes."
        yield about.failed("vLLM", f"{found}: no node has more than {counted(largest, 'GPU')}", remedy)
    else:
        yield about.ok("vLLM", found)
    profile, check = _profile(subject, template, facts)
    yield check
    yield _drain(subject, template)
    yield _startup(subject, template, profile)
    if Knob.SHAPE in subject.spec.knobs:
        yield _shape(subject, facts)


def _profile(subject: Subject, template: Template, facts: Facts) -> tuple[ReplicaProfile | None, Check]:
    product = _product(subject, template, facts)
    if product is None:
        remedy = "Label the GPU nodes: NVIDIA's GPU feature discovery does."
        return None, subject.about.skipped("profile", f"no node tells its GPU by the label {GPU_LABEL}", remedy)
    settings = template.settings
    try:
        replica = find_replica(
            settings.model,
            product,
            settings.tensor_parallel_size,
            quantization=settings.quantization,
            dtype=settings.dtype,
        )
    except InvalidInputError as error:
        return None, subject.about.failed("profile", str(error), subject.remedy(Reason.NO_PROFILE))
    return replica, subject.about.ok("profile", f"{replica.name} on {product}")


def _product(subject: Subject, template: Template, facts: Facts) -> str | None:
    """What the pods run on; before there are any, what they may run on if that is only one product."""
    labels = {node["metadata"]["name"]: node["metadata"].get("labels") or {} for node in facts.nodes}
    products = [labels.get(pod["spec"]["nodeName"], {}).get(GPU_LABEL) for pod in subject.workload.live_pods]
    found = {product for product in products if product}
    if not found:
        selector = (template.pod_spec.get("nodeSelector") or {}).items()
        found = {each[GPU_LABEL] for each in labels.values() if GPU_LABEL in each and selector <= each.items()}
    return str(found.pop()) if len(found) == 1 else None


def _drain(subject: Subject, template: Template) -> Check:
    problem = drain_problem(template.pod_spec, template.container, template.settings)
    if problem is not None:
        remedy = subject.remedy(Reason.DRAIN_NOT_CONFIGURED)
        return subject.about.bad("drain", problem, remedy, hurts=subject.scales or subject.reshapes)
    if pre_stop_s(template.container) <= 0:
        return subject.about.warning(
            "drain",
            "running requests finish, but new ones that arrive just after a pod was told to stop are refused",
            "Add `lifecycle: {preStop: {sleep: {seconds: 15}}}` to the container, and as much to "
            "`terminationGracePeriodSeconds`.",
        )
    return subject.about.ok("drain", f"requests have {template.settings.shutdown_timeout_s:g} s to finish")


def _startup(subject: Subject, template: Template, profile: ReplicaProfile | None) -> Check:
    budget = startup_budget_s(template.container)
    if budget is None:
        return subject.about.ok("start-up", "no probe ends a slow start")
    default_s = profile.model.startup_s if profile else 0.0
    usual_s = subject.workload.startup_s(default_s)
    source = "measured" if subject.workload.serving_pods else "by the profile"
    if budget < usual_s or (budget < needed_s(usual_s) and not template.container.get("startupProbe")):
        which = "startup" if template.container.get("startupProbe") else "liveness"
        message = f"the {which} probe gives up after {budget} s, and starts take {usual_s:.0f} s ({source})"
        remedy = subject.remedy(Reason.STARTUP_BUDGET_TOO_SMALL)
        return subject.about.bad("start-up", message, remedy, hurts=budget < usual_s)
    return subject.about.ok("start-up", f"starts take {usual_s:.0f} s ({source}) and may take {budget} s")


def _shape(subject: Subject, facts: Facts) -> Check:
    if "volume_claims" in facts.unread:
        remedy = "Run it as somebody who may list persistentvolumeclaims."
        return subject.about.skipped("shapes", f"volumes could not be read: {facts.unread['volume_claims']}", remedy)
    claims = {
        claim["metadata"]["name"]: claim["spec"].get("accessModes") or ()
        for claim in facts.volume_claims.get(subject.namespace, ())
    }
    found = template_refusals(subject.workload.deployment, container=subject.spec.container, volume_claims=claims)
    refused = [refusal for refusal in found if refusal.reason is not RefusalReason.DRAIN_NOT_CONFIGURED]  # said above
    if not refused:
        return subject.about.ok("shapes", "the Deployment can be copied into other shapes")
    message = "; ".join(refusal.message for refusal in refused[:_TOLD])
    remedy = subject.remedy(Reason.RESHAPE_REFUSED)
    return subject.about.bad("shapes", message, remedy, hurts=subject.reshapes)
