"""`dynawatt doctor` and `dynawatt explain` on a real control plane, with things broken on purpose."""

import json
import signal

import pytest
import yaml
from typer.testing import CliRunner

from dynawatt.api.crd import crd_documents
from dynawatt.cli import main
from dynawatt.cli.doctor import metrics

pytestmark = pytest.mark.integration

WAIT_S = 90.0
HPA = {
    "apiVersion": "autoscaling/v2",
    "kind": "HorizontalPodAutoscaler",
    "spec": {
        "maxReplicas": 4,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization",
                                                                               "averageUtilization": 80}}}],
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """The sandbox's Prometheus scrapes every 2 s, and its pods are young."""
    monkeypatch.setattr(metrics, "_YOUNG_S", 5.0)
    monkeypatch.setattr(metrics, "_WINDOW_S", 10)


def run(*words):
    result = CliRunner().invoke(main.build_app(words), list(map(str, words)))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def doctor(dynawatt_sandbox):
    """Its checks, by what they are about and their name, and its exit code."""

    def ask(*words, kubeconfig=dynawatt_sandbox.kubeconfig, prometheus=dynawatt_sandbox.prometheus_url):
        asked = [] if prometheus is None else [f"--prometheus-url={prometheus}"]
        result = run("doctor", f"--kubeconfig={kubeconfig}", *asked, *words, "--json")
        checks = json.loads(result.output)["checks"]
        return {(check["about"], check["name"]): check for check in checks}, result.exit_code

    return ask


@pytest.fixture(scope="module")
def service(managed):
    service = managed("examined")
    service.deploy(replicas=2)
    load = service.load()
    service.manage(mode="Recommend")
    yield service
    load.stop()


def wrong(checks, about):
    """What is not in order about something."""
    return {
        name: check["outcome"] for (its, name), check in checks.items() if its == about and check["outcome"] != "ok"
    }


def test_nothing_fails_where_all_is_in_order(dynawatt_sandbox, doctor, service, until):
    service.until("Ready", "True", "Recommending")
    until(lambda: not wrong(doctor()[0], f"default/{service.name}"), within_s=WAIT_S)
    checks, code = doctor()
    assert code == 0
    for about in ("cluster", "operator", "agents", "metrics"):
        assert not wrong(checks, about), checks
    name = f"default/{service.name}"
    assert checks[name, "metrics"]["message"] == "all 7 families of vLLM that plans need, of 2 pods"
    assert checks[name, "scraping"]["message"] == "about every 2 s"
    assert checks["agents", "nodes"]["message"] == "every GPU node has a GPUNode (2)"
    text = run("doctor", f"--kubeconfig={dynawatt_sandbox.kubeconfig}").output
    assert "  skipped   Prometheus: not asked" in text


def test_the_operator_itself_sees_its_rights(dynawatt_sandbox, doctor, service):
    checks, _ = doctor(kubeconfig=dynawatt_sandbox.operator_kubeconfig(), prometheus=None)
    assert checks["operator", "rights"]["outcome"] == "ok"
    assert checks["operator", "Lease"]["outcome"] == "ok"
    assert checks["agents", "rights"]["outcome"] == "skipped"  # it may ask for nobody else
    assert checks["cluster", "policies"]["outcome"] == "skipped"
    assert checks[f"default/{service.name}", "Deployment"]["outcome"] == "ok"


def test_rights_and_policies_that_were_taken_away(dynawatt_kubectl, doctor):
    role = dynawatt_kubectl.get("clusterrole", "dynawatt-operator")
    binding = dynawatt_kubectl.get("validatingadmissionpolicybinding", "dynawatt-operator-pods")
    less = [rule for rule in role["rules"] if rule["resources"] != ["poddisruptionbudgets"]]
    assert less != role["rules"]
    try:
        dynawatt_kubectl("replace", "--filename=-", stdin=json.dumps(role | {"rules": less}))
        dynawatt_kubectl("delete", "validatingadmissionpolicybinding", "dynawatt-operator-pods")
        checks, code = doctor(prometheus=None)
    finally:
        role["metadata"].pop("resourceVersion")
        binding["metadata"].pop("resourceVersion")
        dynawatt_kubectl("replace", "--filename=-", stdin=json.dumps(role))
        dynawatt_kubectl("apply", "--filename=-", stdin=json.dumps(binding))
    assert code == 1
    assert checks["operator", "rights"]["message"].endswith(
        "may not list poddisruptionbudgets, watch poddisruptionbudgets"
    )
    assert "dynawatt-operator-pods" in checks["cluster", "policies"]["message"]


def test_an_hpa_hurts_in_auto_and_warns_before(dynawatt_kubectl, doctor, service):
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": service.name}
    hpa = HPA | {"metadata": {"name": service.name}, "spec": HPA["spec"] | {"scaleTargetRef": target}}
    dynawatt_kubectl("apply", "--filename=-", stdin=json.dumps(hpa))
    try:
        warned, code = doctor(prometheus=None)
        assert code == 0
        service.manage(mode="Auto", paused=True)
        failed, code = doctor(prometheus=None)
        assert code == 1
    finally:
        service.delete("hpa")
        service.manage(mode="Recommend")
    name = f"default/{service.name}"
    assert warned[name, "autoscaler"]["outcome"] == "warning"
    assert failed[name, "autoscaler"]["outcome"] == "failed"
    assert failed[name, "autoscaler"]["message"] == f"HorizontalPodAutoscaler {service.name} changes the Deployment"


def test_no_drain_and_no_deployment(managed, doctor):
    hasty = managed("hasty")
    hasty.deploy(replicas=1, drain=False)
    hasty.manage()
    checks, code = doctor(prometheus=None)
    assert code == 1
    assert checks["default/hasty", "drain"]["outcome"] == "failed"
    assert "--shutdown-timeout 60" in checks["default/hasty", "drain"]["message"]
    hasty.delete("deployment")
    checks, _ = doctor(prometheus=None)
    assert checks["default/hasty", "Deployment"]["message"] == "hasty does not exist in default"
    hasty.delete("llmservice")


def test_explain_tells_the_plan_and_what_agents_do(dynawatt_sandbox, service, until):
    def explained():
        result = run("explain", service.name, f"--kubeconfig={dynawatt_sandbox.kubeconfig}", "--json")
        return json.loads(result.output)

    until(lambda: explained()["last_decision"], within_s=WAIT_S)
    recommended = explained()
    assert recommended["unread"] == {}
    assert recommended["not_understood"] == []
    assert recommended["next"][-1]["command"].endswith('-p \'{"spec":{"mode":"Auto","knobs":["Clock"]}}\'')
    service.manage(knobs=["Clock"])
    until(lambda: all(group["claim_mhz"] and group["as_claimed"] for group in explained()["clocks"]), within_s=WAIT_S)
    acting = explained()
    assert acting["mode"] == "Auto"
    assert sum(group["gpus"] for group in acting["clocks"]) == 2
    page = run("explain", f"default/{service.name}", f"--kubeconfig={dynawatt_sandbox.kubeconfig}").output
    assert "Last decision" in page
    assert "Clock claims, and what the agents report" in page
    service.manage(mode="Recommend")


def test_an_operator_that_was_killed(dynawatt_sandbox, doctor, service, until):
    dynawatt_sandbox.stop_operator(signal.SIGKILL)
    try:
        until(lambda: doctor(prometheus=None)[0]["operator", "Lease"]["outcome"] == "failed", within_s=WAIT_S)
        checks, code = doctor(prometheus=None)
        words = ("explain", service.name, f"--kubeconfig={dynawatt_sandbox.kubeconfig}")
        assert "Nothing happens without an operator" in run(*words).output
    finally:
        dynawatt_sandbox.start_operator()
    assert code == 1
    assert "has not renewed it for" in checks["operator", "Lease"]["message"]
    until(lambda: doctor(prometheus=None)[0]["operator", "Lease"]["outcome"] == "ok", within_s=WAIT_S)


def test_resource_types_that_are_missing_or_old(sandbox, sandbox_kubectl, doctor, until):
    def asked():
        return doctor(kubeconfig=sandbox.kubeconfig, prometheus=None)[0]

    [document] = [each for each in crd_documents() if each["spec"]["names"]["plural"] == "gpunodes"]
    name = document["metadata"]["name"]
    old = json.loads(json.dumps(document))
    gpu = old["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]["gpus"]
    del gpu["items"]["properties"]["xids"]
    try:
        sandbox_kubectl("delete", "crd", name)
        missing = asked()
        sandbox_kubectl("apply", "--server-side", "--filename=-", stdin=yaml.safe_dump(old))
        until(lambda: "xids" in asked()["cluster", "CRD GPUNode"]["message"])
    finally:
        apply = ("apply", "--server-side", "--force-conflicts", "--filename=-")
        sandbox_kubectl(*apply, stdin=yaml.safe_dump(document))
        sandbox_kubectl("wait", "--for=condition=Established", f"crd/{name}")
    assert missing["cluster", "CRD GPUNode"]["message"] == "is not installed"
    assert missing["cluster", "CRD GPUNode"]["command"].startswith("dynawatt crds |")
    assert missing["operator", "Lease"]["outcome"] == "failed"
    assert asked()["cluster", "CRD GPUNode"]["outcome"] == "ok"
