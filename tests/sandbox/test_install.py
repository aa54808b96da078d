import re

import pytest
import yaml

from dynawatt.adapters.vllm_args import VllmPodError, find_vllm_container
from dynawatt.api.group import CLAIM_ANNOTATION, DEFAULT_NAMESPACE, GROUP, LEASE_NAME, SHAPE_LABEL
from dynawatt.sandbox.install import AGENT_ACCOUNT, OPERATOR_ACCOUNT, access_documents, agent_pod
from dynawatt.sandbox.nodesim.nodes import requested_gpus

DOCUMENTS = access_documents()
POLICIES = {d["metadata"]["name"]: d["spec"] for d in DOCUMENTS if d["kind"] == "ValidatingAdmissionPolicy"}
ROLES = [d for d in DOCUMENTS if d["kind"] in {"Role", "ClusterRole"} and d["metadata"]["name"].startswith("dynawatt-")]


def test_every_policy_is_bound_everywhere_and_denies():
    bindings = [d["spec"] for d in DOCUMENTS if d["kind"] == "ValidatingAdmissionPolicyBinding"]
    assert sorted(binding.pop("policyName") for binding in bindings) == sorted(POLICIES)
    assert bindings == [{"validationActions": ["Deny"]}] * len(POLICIES)


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_a_policy_concerns_one_identity_and_explains_itself(policy):
    [condition] = policy["matchConditions"]
    users = [f"system:serviceaccount:{DEFAULT_NAMESPACE}:{account}" for account in (OPERATOR_ACCOUNT, AGENT_ACCOUNT)]
    assert condition["expression"] in [f'request.userInfo.username == "{user}"' for user in users]
    assert policy["failurePolicy"] == "Fail"
    for validation in policy["validations"]:
        assert validation["reason"] == "Forbidden"
        assert "message" in validation or "messageExpression" in validation


def test_policies_use_the_names_that_the_code_uses():
    names = set(re.findall(r'"([\w./-]*dynawatt[\w./-]*)"', yaml.safe_dump(POLICIES, width=10_000)))
    assert names == {SHAPE_LABEL, f"{GROUP}/", DEFAULT_NAMESPACE, LEASE_NAME}
    assert CLAIM_ANNOTATION.startswith(f"{GROUP}/")


@pytest.mark.parametrize("role", ROLES, ids=lambda role: f"{role['kind']} {role['metadata']['name']}")
def test_no_role_has_wildcards_or_touches_what_grants_rights(role):
    for rule in role["rules"]:
        granted = {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
        assert not granted & {
            *("*", "secrets", "serviceaccounts", "serviceaccounts/token", "pods/exec", "rbac.authorization.k8s.io"),
            *("admissionregistration.k8s.io", "impersonate", "escalate", "bind", "deletecollection"),
        }


def test_the_pod_of_an_agent_holds_no_gpu_and_serves_nothing():
    spec = agent_pod("gpu-node-7")["spec"]
    assert spec["nodeName"] == "gpu-node-7"
    assert requested_gpus(spec) == 0
    with pytest.raises(VllmPodError) as caught:
        find_vllm_container(spec)
    assert caught.value.reason == "NoVllmContainer"
    assert not any(container.get("ports") for container in spec["containers"])
