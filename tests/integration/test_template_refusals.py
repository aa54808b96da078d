"""Deployments that cannot be copied into another shape are told what to change, and governed in every other way."""

import json
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.integration

WAIT_S = 120.0
MODEL = "meta-llama/Llama-3.1-8B-Instruct"
CLAIM = "weights"


def in_shell(pod_spec):
    [container] = pod_spec["containers"]
    container["command"] = ["/bin/sh", "-c"]
    container["args"] = [f"exec vllm serve {MODEL} --tensor-parallel-size 1 --shutdown-timeout 10"]


def on_one_node(pod_spec):
    """Two reasons at once."""
    [container] = pod_spec["containers"]
    del container["readinessProbe"]
    container["volumeMounts"] = [{"name": "cache", "mountPath": "/weights"}]
    pod_spec["volumes"] = [{"name": "cache", "persistentVolumeClaim": {"claimName": CLAIM}}]


def as_it_is(pod_spec):
    """Nothing is wrong with it."""


class Case(NamedTuple):
    edit: object
    sizes: list[int] | None
    told: list[str]


CASES = {
    "in-shell": Case(in_shell, None, ["stand inside `sh -c`", "give them as a list under `args`"]),
    "on-one-node": Case(
        on_one_node,
        None,
        [
            "without a readiness or startup probe pods count as Ready while they load",
            "add a readinessProbe with `httpGet: {path: /health, port: 8000}`",
            f"PersistentVolumeClaim '{CLAIM}' is ReadWriteOnce",
        ],
    ),
    "too-wide": Case(as_it_is, [1, 16], ["tensor-parallel size 16", "take 16 out of `tensorParallelSizes`"]),
}


@pytest.fixture(scope="module")
def claim(dynawatt_kubectl):
    """Bound by hand: no controller of the sandbox does that, or takes the finalizers off in the end."""
    terms = {"accessModes": ["ReadWriteOnce"], "storageClassName": ""}
    size = {"storage": "1Gi"}
    volume = {
        **terms,
        "capacity": size,
        "hostPath": {"path": "/weights"},
        "claimRef": {"name": CLAIM, "namespace": "default"},
    }
    bound = {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}
    claim = {**terms, "resources": {"requests": size}, "volumeName": CLAIM}
    kinds = {"PersistentVolume": (volume, {}), "PersistentVolumeClaim": (claim, bound)}
    for kind, (spec, metadata) in kinds.items():
        body = {"apiVersion": "v1", "kind": kind, "metadata": {"name": CLAIM, **metadata}, "spec": spec}
        dynawatt_kubectl("apply", "--filename=-", stdin=json.dumps(body))
    yield
    for kind in kinds:
        dynawatt_kubectl("delete", kind, CLAIM, "--wait=false")
        dynawatt_kubectl("patch", kind, CLAIM, "--type=merge", '--patch={"metadata":{"finalizers":null}}')


@pytest.fixture(scope="module")
def services(managed, claim):
    """All cases at the same time, under load."""
    found = {name: managed(name) for name in CASES}
    loads = []
    for name, case in CASES.items():
        found[name].deploy(replicas=2, edit=case.edit)
        loads.append(found[name].load(every_s=1.0))
        sizes = {} if case.sizes is None else {"tensorParallelSizes": case.sizes}
        found[name].manage(knobs=["Clock", "Shape"], **sizes)
    yield found
    assert [load.stop().failed for load in loads] == [0] * len(loads)


@pytest.mark.parametrize("name", CASES)
def test_a_shape_is_refused_and_the_rest_goes_on(services, until, name):
    service = services[name]
    until(lambda: service.settled(1), within_s=WAIT_S)
    until(service.slowed, within_s=WAIT_S)
    message = service.until("Progressing", "False", "ReshapeRefused")
    for told in CASES[name].told:
        assert told in message
    assert ("Warning", "ReshapeRefused") in service.events()
    assert service.siblings() == {}
    assert service.condition("Ready")[:2] == ("True", "Reconciled")
