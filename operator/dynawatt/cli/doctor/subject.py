"""An LLMService as the doctor looks at it: with its Deployment, and what it asks for."""

from dataclasses import dataclass

from dynawatt.adapters.kubernetes.client import KubernetesObject
from dynawatt.api.conditions import Reason
from dynawatt.api.llmservice import Knob, LLMServiceSpec, Mode
from dynawatt.api.remedies import remedy_for
from dynawatt.cli.doctor.check import About
from dynawatt.cli.doctor.facts import Facts
from dynawatt.controller.shapes.selectors import selects
from dynawatt.controller.target import Workload, read_workload
from dynawatt.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class Subject:
    """One LLMService with what it manages."""

    service: KubernetesObject
    spec: LLMServiceSpec
    workload: Workload
    about: About

    @property
    def namespace(self) -> str:
        """Of service and Deployment."""
        return str(self.service["metadata"]["namespace"])

    @property
    def scales(self) -> bool:
        """Whether the operator is to set replicas now, so that what keeps it from that is a failure."""
        return self.spec.mode is Mode.AUTO and self.spec.scales

    @property
    def reshapes(self) -> bool:
        """Likewise for shapes."""
        return self.spec.mode is Mode.AUTO and Knob.SHAPE in self.spec.knobs

    def remedy(self, reason: Reason) -> str:
        """What to do about it here."""
        name = str(self.service["metadata"]["name"])
        return remedy_for(reason, namespace=self.namespace, name=name, deployment=self.spec.deployment_ref.name)


def subject_of(service: KubernetesObject, facts: Facts) -> Subject | None:
    """A service as it is managed; None where its spec cannot be read or its Deployment is not there."""
    metadata = service["metadata"]
    try:
        spec = LLMServiceSpec.parse(service["spec"])
    except InvalidInputError:
        return None
    deployment = facts.deployments.get((metadata["namespace"], spec.deployment_ref.name))
    if deployment is None:
        return None
    selector = deployment["spec"]["selector"]
    pods = [
        pod
        for pod in facts.pods.get(metadata["namespace"], ())
        if selects(selector, pod["metadata"].get("labels") or {})
    ]
    return Subject(service, spec, read_workload(deployment, pods), about_service(service))


def about_service(service: KubernetesObject) -> About:
    """Makes checks about it."""
    return About(f"{service['metadata']['namespace']}/{service['metadata']['name']}")
