import json
import re
import runpy
from datetime import UTC, datetime
from pathlib import Path

import pytest
from kubernetes.client.exceptions import ApiException

from dynawatt.adapters.kubernetes.client import api_client, request_json, resource_path
from dynawatt.api.base import ClockRange
from dynawatt.api.conditions import ConditionType, Reason, set_condition
from dynawatt.api.gpunode import EnergyOnly, GPUNodeStatus, GPUStatus
from dynawatt.api.group import API_VERSION, GPUNODE_KIND, GPUNODE_PLURAL, LLMSERVICE_KIND, LLMSERVICE_PLURAL
from dynawatt.api.llmservice import Knob, LLMServiceSpec
from dynawatt.api.llmservice_status import (
    Adopted,
    Change,
    Decision,
    LLMServiceStatus,
    OperatingPoint,
    RunnerUp,
    ShapeStatus,
)

pytestmark = pytest.mark.integration

CASES = runpy.run_path(str(Path(__file__).parents[1] / "api" / "llmservice_cases.py"))
SERVICES = resource_path(API_VERSION, LLMSERVICE_PLURAL, namespace="default")
NODES = resource_path(API_VERSION, GPUNODE_PLURAL)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def kubectl(sandbox_kubectl):
    return sandbox_kubectl.attempt


@pytest.fixture(scope="module")
def api(sandbox):
    return api_client(sandbox.kubeconfig)


@pytest.fixture
def send(api):
    """Creates objects that are gone after the test; a refusal is returned as the server's own message."""
    created = []

    def request(method, path, body, **query):
        try:
            answer = request_json(api, method, path, body=body, query={"fieldValidation": "Strict"} | query)
        except ApiException as error:
            return json.loads(error.body)["message"]
        if method == "POST" and "dryRun" not in query:
            created.append(f"{path}/{answer['metadata']['name']}")
        return answer

    yield request
    for path in created:
        request_json(api, "DELETE", path)


def service(spec):
    return {"apiVersion": API_VERSION, "kind": LLMSERVICE_KIND, "metadata": {"name": "crd-test"}, "spec": spec}


@pytest.mark.parametrize("spec", CASES["ACCEPTED"])
def test_accepted_and_defaulted_as_in_python(send, spec):
    answer = send("POST", SERVICES, service(spec), dryRun="All")
    assert answer["spec"] == LLMServiceSpec.parse(spec).to_dict()


@pytest.mark.parametrize(("spec", "at", "says", "is_rule"), CASES["REFUSED"])
def test_refused_with_field_and_words(send, spec, at, says, is_rule):
    message = send("POST", SERVICES, service(spec), dryRun="All")
    assert (f"spec.{at}" if at else "spec: ") in message
    assert says in message


@pytest.mark.parametrize("target", ["other", "llama-70b-2"])
def test_target_cannot_change(send, target):
    created = send("POST", SERVICES, service(CASES["BASE"]))
    created["spec"]["deploymentRef"]["name"] = target
    message = send("PUT", f"{SERVICES}/crd-test", created)
    assert "spec.deploymentRef: " in message
    assert "must not change; to manage another Deployment delete this LLMService" in message


def test_everything_else_can_change(send):
    created = send("POST", SERVICES, service(CASES["BASE"]))
    created["spec"] = LLMServiceSpec.parse(
        CASES["with_changes"]({"mode": "Auto", "knobs": ["Replicas"], "slo.percentile": 90, "paused": True})
    ).to_dict()
    assert send("PUT", f"{SERVICES}/crd-test", created)["spec"] == created["spec"]


@pytest.fixture
def llmservice_status():
    conditions = []
    for type_ in ConditionType:
        conditions = set_condition(
            conditions, type_, True, reason=Reason.RECONCILED, message="", observed_generation=1, now=NOW
        )
    return LLMServiceStatus(
        observed_generation=1,
        conditions=conditions,
        adopted=Adopted(replicas=6),
        shapes=[
            ShapeStatus(
                gpu_product="NVIDIA-H100-80GB-HBM3",
                tensor_parallel_size=4,
                desired_replicas=4,
                ready_replicas=3,
                clock=ClockRange(min_megahertz=800, max_megahertz=1410),
            )
        ],
        last_decision=Decision(
            time=NOW,
            reason="FewestWatts",
            message="4 replicas at 1410 MHz",
            chosen=OperatingPoint(replicas=4, clock_megahertz=1410, predicted_watts=5200),
            runners_up=[RunnerUp(replicas=3, clock_megahertz=1980, predicted_watts=5900, why_not="700 W more")] * 3,
        ),
        last_changes=[Change(time=NOW, knob=Knob.REPLICAS, from_="3", to="4", reason="load rises")] * 10,
    )


def rows(table):
    return [re.split(r"\s{2,}", line.strip()) for line in table.splitlines()]


def test_service_status_is_kept_and_shown(send, kubectl, llmservice_status):
    created = send("POST", SERVICES, service(CASES["BASE"]))
    written = send("PUT", f"{SERVICES}/crd-test/status", created | {"status": llmservice_status.to_dict()})
    assert written["status"] == llmservice_status.to_dict()
    title, row = rows(kubectl("get", "llmsvc", "crd-test", "-o", "wide").stdout)
    assert dict(zip(title[:-1], row, strict=False)) == {
        "NAME": "crd-test",
        "MODE": "Recommend",
        "REPLICAS": "3/4",
        "TP": "4",
        "CLOCK(MHZ)": "800-1410",
        "SLO": "True",
        "READY": "True",
        "TARGET": "llama-70b",
        "REASON": "Reconciled",
        "WATTS": "5200",
    }


def test_status_of_a_new_service_can_be_written(send):
    created = send("POST", SERVICES, service(CASES["BASE"]))
    empty = LLMServiceStatus().to_dict()
    assert send("PUT", f"{SERVICES}/crd-test/status", created | {"status": empty})["status"] == empty


def test_node_status_is_kept_and_shown(send, kubectl):
    status = GPUNodeStatus(
        gpus=[
            GPUStatus(
                uuid=f"GPU-{index}",
                product="NVIDIA-H100",
                clock_control="Supported",
                min_clock_megahertz=345,
                max_clock_megahertz=1980,
                allocated_to="prod/llama-0" if index < 4 else None,
                claim=ClockRange(min_megahertz=800, max_megahertz=1410) if index < 2 else None,
                energy_only=EnergyOnly(reason="GPUShared", message="2 pods hold it") if index == 7 else None,
                health="Unhealthy" if index == 6 else "Healthy",
                xids=[31, 79] if index == 6 else [],
            )
            for index in range(8)
        ],
        conditions=set_condition(
            set_condition(
                [],
                ConditionType.CLOCKS_GOVERNED,
                True,
                reason=Reason.CLAIMS_APPLIED,
                message="",
                observed_generation=1,
                now=NOW,
            ),
            ConditionType.GPUS_HEALTHY,
            False,
            reason=Reason.GPU_UNHEALTHY,
            message="GPU-6: XID 79.",
            observed_generation=1,
            now=NOW,
        ),
    )
    created = send(
        "POST", NODES, {"apiVersion": API_VERSION, "kind": GPUNODE_KIND, "metadata": {"name": "crd-test-node"}}
    )
    written = send("PUT", f"{NODES}/crd-test-node/status", created | {"status": status.to_dict()})
    assert written["status"] == status.to_dict()
    title, row = rows(kubectl("get", "gpunode", "crd-test-node").stdout)
    assert dict(zip(title[:-1], row, strict=False)) == {
        "NAME": "crd-test-node",
        "PRODUCT": "NVIDIA-H100",
        "GPUS": "8",
        "ALLOCATED": "4",
        "CLAIMED": "2",
        "GOVERNED": "True",
        "HEALTHY": "False",
    }


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("llmservice", ["fewest joules", "spec", "-required-"]),
        ("llmservice.spec", ["deploymentRef", 'Write "Off" in quotes', 'Default ["Clock"].']),
        ("llmservice.spec.slo", ["interTokenMilliseconds", "From 50 to 99, default 99.", "within their objective"]),
        ("llmservice.spec.slo.timeToFirstToken", ["maxInputTokens", "ascending order", "milliseconds"]),
        ("gpunode.status.gpus", ["clockControl", "enum: Supported, Unsupported, Unknown"]),
    ],
)
def test_explain(kubectl, path, words):
    text = " ".join(kubectl("explain", path).stdout.split())
    assert all(word in text for word in words)


def test_kubectl_shows_the_user_what_must_be(kubectl):
    spec = CASES["with_changes"]({"replicas": {"min": 5, "max": 4}})
    refused = kubectl("apply", "-f", "-", stdin=json.dumps(service(spec)))
    assert refused.returncode == 1
    assert 'The LLMService "crd-test" is invalid: spec.replicas: ' in refused.stderr
    assert "`min` must be at most `max`" in refused.stderr
