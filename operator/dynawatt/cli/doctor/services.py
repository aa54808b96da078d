"""Checks of each LLMService: what it manages, and whether that can be done."""

from collections.abc import Iterator

from dynawatt.adapters.kubernetes.client import KubernetesObject
from dynawatt.adapters.vllm_args import VllmPodError
from dynawatt.api.conditions import ConditionType, Reason
from dynawatt.api.llmservice import LLMServiceSpec
from dynawatt.api.llmservice_status import LLMServiceStatus
from dynawatt.api.remedies import remedy_for
from dynawatt.cli.doctor.check import About, Check, counted, some
from dynawatt.cli.doctor.engine import check_engine
from dynawatt.cli.doctor.facts import Facts
from dynawatt.cli.doctor.neighbours import check_neighbours
from dynawatt.cli.doctor.subject import Subject, about_service, subject_of
from dynawatt.cli.explain.judging import Standing, judge
from dynawatt.cli.explain.reading import read_leniently
from dynawatt.controller.shapes.template import read_template
from dynawatt.errors import InvalidInputError


def check_services(facts: Facts) -> Iterator[Check]:
    """All of them."""
    about = About("services")
    if "services" in facts.unread:
        yield about.skipped("LLMServices", f"could not be listed: {facts.unread['services']}", "Install the CRDs.")
    elif not facts.services:
        yield about.ok("LLMServices", "there are none yet: `dynawatt advise` writes the first one")
    for service in facts.services:
        yield from _check_service(service, facts)


def _check_service(service: KubernetesObject, facts: Facts) -> Iterator[Check]:
    metadata, about = service["metadata"], about_service(service)
    for what in ("deployments", "pods"):
        if what in facts.unread:
            yield about.skipped(
                "Deployment", f"could not be read: {facts.unread[what]}", f"Run it as somebody who may list {what}."
            )
            return
    try:
        name = LLMServiceSpec.parse(service["spec"]).deployment_ref.name
    except InvalidInputError as error:
        remedy = remedy_for(Reason.INVALID_SPEC, namespace=metadata["namespace"], name=metadata["name"])
        yield about.failed("spec", str(error), remedy)
        return
    subject = subject_of(service, facts)
    if subject is None:
        remedy = remedy_for(Reason.DEPLOYMENT_NOT_FOUND)
        yield about.failed("Deployment", f"{name} does not exist in {metadata['namespace']}", remedy)
        return
    yield _deployment(subject, facts)
    try:
        template = read_template(subject.workload.deployment, subject.spec.container)
    except VllmPodError as error:
        yield about.failed("vLLM", str(error), subject.remedy(_reading_reason(error)))
    else:
        yield from check_engine(subject, template, facts)
    yield from check_neighbours(
        about,
        subject.workload.deployment,
        autoscalers=facts.autoscalers.get(subject.namespace, ()),
        budgets=facts.budgets.get(subject.namespace, ()),
        unread=facts.unread,
        spec=subject.spec,
    )
    yield from _state(subject)


def _reading_reason(error: VllmPodError) -> Reason:
    container = error.reason in ("ContainerNotFound", "NoVllmContainer", "AmbiguousContainer")
    return Reason.NO_VLLM_CONTAINER if container else Reason.UNSUPPORTED_DEPLOYMENT


def _deployment(subject: Subject, facts: Facts) -> Check:
    name = subject.spec.deployment_ref.name
    rivals = [
        other["metadata"]["name"]
        for other in facts.services
        if other["metadata"]["namespace"] == subject.namespace
        and other["spec"]["deploymentRef"]["name"] == name
        and other["metadata"]["name"] != subject.service["metadata"]["name"]
    ]
    if rivals:
        message = f"{name} is managed by {some(rivals)} as well"
        return subject.about.failed("Deployment", message, "Delete all but one of these LLMServices.")
    ready, wanted = len(subject.workload.serving_pods), subject.workload.replicas
    message = f"{name}, {ready} of {counted(wanted, 'replica')} Ready"
    if ready < wanted:
        remedy = f"kubectl -n {subject.namespace} describe pods, if that is not because they are starting"
        return subject.about.warning("Deployment", message, remedy)
    return subject.about.ok("Deployment", message)


def _state(subject: Subject) -> Iterator[Check]:
    """What the operator itself says, where something is to be done about it."""
    name = str(subject.service["metadata"]["name"])
    status, _ = read_leniently(LLMServiceStatus, subject.service.get("status") or {})
    if status is None or not status.conditions:
        remedy = "An operator does so within seconds: see the check of its Lease."
        yield subject.about.warning("status", "no operator has looked at it yet", remedy)
        return
    conditions = judge(
        status.conditions, namespace=subject.namespace, name=name, deployment=subject.spec.deployment_ref.name
    )
    bad = [condition for condition in conditions if condition.standing is Standing.BAD]
    if bad:
        told = "; ".join(f"{each.type} is {each.status}, {each.reason}" for each in bad)
        yield subject.about.warning("status", told, "See why:", f"dynawatt explain {subject.namespace}/{name}")
        return
    ready = next((each.message for each in conditions if each.type == ConditionType.READY), "")
    yield subject.about.ok("status", ready or "the operator finds nothing wrong")
