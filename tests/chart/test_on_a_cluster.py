"""The chart on a real API server, with operator, agents, hooks and `helm test` running from it. In this order."""

import json
import urllib.request

import pytest
import yaml

from ..definitions.of_others import served

pytestmark = pytest.mark.integration

RELEASE = "dynawatt"
NAMESPACE = "dynawatt-system"
WAIT_S = 180.0
GOVERNED = "dynawatt.dev/clocks=governed"
QUICK = [
    "operator.observeIntervalSeconds=1",
    "operator.planIntervalSeconds=5",
    "operator.leaseDurationSeconds=9",
    "operator.extraArgs={--rate-window-s=10,--peak-window-s=10}",
    # Compiled code from where other tests leave it: to compile it anew takes a minute.
    "operator.extraEnv[0].name=NUMBA_CACHE_DIR",
    "operator.extraEnv[0].value=",
]


@pytest.fixture(scope="module")
def chart(request):
    return request.path.parents[2] / "charts" / "dynawatt"


@pytest.fixture(scope="module")
def quick(dynawatt_sandbox):
    values = [*QUICK, f"prometheus.url={dynawatt_sandbox.prometheus_url}"]
    return [word for value in values for word in ("--set", value)]


@pytest.fixture(scope="module")
def running(helm, kubectl, chart, quick, until):
    """The chart installed, on nodes whose clocks may not be governed."""
    helm("install", RELEASE, chart, "-n", NAMESPACE, "--create-namespace", "--wait", "--timeout=90s", *quick)
    until(lambda: len(kubectl.get("gpunodes")["items"]) == 2, within_s=WAIT_S)


@pytest.fixture(scope="module")
def pods(kubectl):
    """Ready pods of dynawatt's own by component."""

    def found():
        by_component = {}
        for pod in kubectl.get("pods", "-n", NAMESPACE)["items"]:
            conditions = {each["type"]: each["status"] for each in pod["status"].get("conditions", [])}
            if conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]:
                by_component.setdefault(pod["metadata"]["labels"]["app.kubernetes.io/component"], []).append(pod)
        return by_component

    return found


@pytest.mark.parametrize("everything", [False, True], ids=["defaults", "everything switched on"])
def test_the_api_server_takes_all_of_it(kubectl, render, all_values, everything):
    """Before the installation, so that it is about creation."""
    documents = render(*(all_values if everything else ()), namespace="default")
    # Pods need their account, which a dry run does not make; the lifecycle below has them.
    documents = [document for document in documents if document["kind"] != "Pod"]
    kubectl("apply", "--dry-run=server", "--filename=-", stdin=yaml.safe_dump_all(documents))


def test_all_but_the_agents_may_run_where_pod_security_is_restricted(kubectl, render):
    level = "pod-security.kubernetes.io/enforce=restricted"
    kubectl("create", "namespace", "strict")
    kubectl("label", "namespace", "strict", level)
    refused = set()
    try:
        for document in render(namespace="strict"):
            template = document if document["kind"] == "Pod" else document.get("spec", {}).get("template")
            if not template:
                continue
            account = template["spec"]["serviceAccountName"]
            kubectl.attempt("create", "serviceaccount", account, "--namespace=strict")
            name = document["metadata"]["name"]
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "strict"}}
            pod["spec"] = template["spec"]
            done = kubectl.attempt("create", "--dry-run=server", "--filename=-", stdin=json.dumps(pod))
            assert done.returncode == 0 or "violates PodSecurity" in done.stderr, done.stderr
            if done.returncode:
                refused.add(name)
    finally:
        kubectl("delete", "namespace", "strict", "--wait=false")
    assert refused == {"dynawatt-agent", "dynawatt-agent-clocks"}


def test_operator_and_agents_run(running, kubectl, pods):
    assert {component: len(found) for component, found in pods().items()} == {"operator": 1, "agent": 2}
    lease = kubectl.get("lease", "dynawatt-operator", "-n", NAMESPACE)
    assert lease["spec"]["holderIdentity"]


def test_their_pods_are_scraped(running, dynawatt_sandbox, until):
    def jobs():
        with urllib.request.urlopen(f"{dynawatt_sandbox.prometheus_url}/api/v1/targets?state=active") as answer:
            targets = json.load(answer)["data"]["activeTargets"]
        return [one["health"] for one in targets if one["labels"]["job"] == "dynawatt-pods"]

    until(lambda: jobs() == ["up"] * 3, within_s=WAIT_S)


def test_helm_test_asks_the_doctor(running, helm, kubectl):
    helm("test", RELEASE, "-n", NAMESPACE)
    assert kubectl.get("pod", "dynawatt-doctor", "-n", NAMESPACE)["status"]["phase"] == "Succeeded"


def test_helm_test_fails_when_the_doctor_finds_something(running, helm, kubectl):
    kubectl("delete", "clusterrolebinding", "dynawatt-agent")
    done = helm.attempt("test", RELEASE, "-n", NAMESPACE)
    assert done.returncode == 1
    [status] = kubectl.get("pod", "dynawatt-doctor", "-n", NAMESPACE)["status"]["containerStatuses"]
    assert status["state"]["terminated"]["exitCode"] == 1
    assert "failed" in status["state"]["terminated"]["message"]


def test_an_upgrade_changes_what_runs_and_mends_what_is_missing(running, helm, kubectl, chart, quick, pods):
    more = ["--set", "operator.logLevel=debug", "--set", "operator.shapeNamespaces={default}"]
    helm("upgrade", RELEASE, chart, "-n", NAMESPACE, "--wait", "--timeout=90s", *quick, *more)
    [operator] = pods()["operator"]
    assert "--log-level=debug" in operator["spec"]["containers"][0]["args"]
    kubectl("get", "clusterrolebinding", "dynawatt-agent")
    kubectl("get", "rolebinding", "dynawatt-operator-siblings", "-n", "default")


def test_a_rollback_brings_the_former_back(running, helm, kubectl, pods):
    helm("rollback", RELEASE, 1, "-n", NAMESPACE, "--wait", "--timeout=90s")
    [operator] = pods()["operator"]
    assert "--log-level=info" in operator["spec"]["containers"][0]["args"]
    assert kubectl.attempt("get", "rolebinding", "dynawatt-operator-siblings", "-n", "default").returncode == 1


@pytest.fixture(scope="module")
def monitored(running, helm, kubectl, chart, quick):
    """The same release, upgraded once the kinds of the Prometheus operator are known."""
    with served(kubectl, "ServiceMonitor", "PodMonitor", "PrometheusRule"):
        helm("upgrade", RELEASE, chart, "-n", NAMESPACE, "--wait", "--timeout=90s", *quick)
        yield


@pytest.fixture(scope="module")
def monitors(monitored, kubectl):
    """What the API server stores of them, by kind and name."""
    found = kubectl.get("servicemonitors,podmonitors,prometheusrules", "-n", NAMESPACE)["items"]
    return {(one["kind"], one["metadata"]["name"]): one for one in found}


def test_monitors_and_rules_come_by_themselves_and_whole(monitors, helm):
    rendered = yaml.safe_load_all(helm("get", "manifest", RELEASE, "-n", NAMESPACE))
    ours = [one for one in rendered if one["apiVersion"] == "monitoring.coreos.com/v1"]
    assert {(one["kind"], one["metadata"]["name"]): one["spec"] for one in ours} == {
        each: stored["spec"] for each, stored in monitors.items()
    }
    assert sorted(monitors) == [
        ("PodMonitor", "dynawatt-agent"),
        ("PrometheusRule", "dynawatt-alerts"),
        ("PrometheusRule", "dynawatt-recording"),
        ("ServiceMonitor", "dynawatt-operator"),
    ]


def test_they_have_no_field_that_the_prometheus_operator_does_not_know(monitored, helm, kubectl):
    text = helm("get", "manifest", RELEASE, "-n", NAMESPACE)
    strictly = ["replace", "-n", NAMESPACE, "--dry-run=server", "--validate=strict", "--filename=-"]
    ours = [one for one in yaml.safe_load_all(text) if one["apiVersion"] == "monitoring.coreos.com/v1"]
    kubectl(*strictly, stdin=yaml.safe_dump_all(ours))
    [operator] = [one for one in ours if one["kind"] == "ServiceMonitor"]
    operator["spec"]["endpoints"][0]["honourLabels"] = True
    done = kubectl.attempt(*strictly, stdin=yaml.safe_dump(operator))
    assert done.returncode == 1
    assert 'unknown field "spec.endpoints[0].honourLabels"' in done.stderr


def test_expressions_and_templates_of_rules_survive(monitors, chart):
    for name in ("alerts", "recording"):
        file = chart / "files" / "dashboards" / "rules" / f"{name}.yaml"
        assert monitors["PrometheusRule", f"dynawatt-{name}"]["spec"] == yaml.safe_load(file.read_text())


def test_they_select_what_has_the_metrics(monitors, kubectl, pods):
    def selected(kind, selector):
        labels = [f"{key}={value}" for key, value in selector["matchLabels"].items()]
        labels += [f"{one['key']} in ({','.join(one['values'])})" for one in selector.get("matchExpressions", [])]
        return kubectl.get(kind, "-n", NAMESPACE, f"--selector={','.join(labels)}")["items"]

    [service] = selected("services", monitors["ServiceMonitor", "dynawatt-operator"]["spec"]["selector"])
    assert "metrics" in {port["name"] for port in service["spec"]["ports"]}
    agents = selected("pods", monitors["PodMonitor", "dynawatt-agent"]["spec"]["selector"])
    assert {pod["metadata"]["name"] for pod in agents} >= {pod["metadata"]["name"] for pod in pods()["agent"]}
    for pod in agents:
        assert "metrics" in {port["name"] for one in pod["spec"]["containers"] for port in one["ports"]}


def test_clocks_are_governed_on_nodes_with_the_label_alone(running, kubectl, pods, until):
    kubectl("label", "node", "gpu-node-0", GOVERNED)

    def nodes():
        return {
            component: {pod["spec"]["nodeName"] for pod in found}
            for component, found in pods().items()
            if component.startswith("agent")
        }

    until(lambda: nodes() == {"agent-clocks": {"gpu-node-0"}, "agent": {"gpu-node-1"}}, within_s=WAIT_S)


@pytest.fixture(scope="module")
def service(running, managed, until):
    """An LLMService whose clocks are claimed."""
    service = managed("charted")
    service.deploy(replicas=1)
    service.manage(knobs=["Clock"])
    load = service.load()
    until(service.claimed, within_s=WAIT_S)
    load.stop()
    return service


def test_an_uninstall_gives_everything_back_and_leaves_the_definitions(
    service, monitored, helm, kubectl, dynawatt_sandbox
):
    before = service.llmservice()["spec"]
    helm("uninstall", RELEASE, "-n", NAMESPACE, "--timeout=3m")
    assert service.claims() == [None]
    after = service.llmservice()
    assert after["spec"] == before
    assert "status" not in after
    assert "finalizers" not in after["metadata"]
    kept = {"customresourcedefinition.apiextensions.k8s.io/gpunodes.dynawatt.dev"}
    kept |= {"customresourcedefinition.apiextensions.k8s.io/llmservices.dynawatt.dev"}
    others = {"apiservice.apiregistration.k8s.io/v1alpha1.dynawatt.dev", f"namespace/{NAMESPACE}"}
    assert everything_named(kubectl, "dynawatt") == kept | others | {"llmservice.dynawatt.dev/charted"}
    selector = f"--selector=app.kubernetes.io/instance={RELEASE}"
    kinds = kubectl("api-resources", "--verbs=list", "--output=name").split()
    labelled = kubectl("get", ",".join(kinds), "--all-namespaces", selector, "--output=name").split()
    assert set(labelled) == kept


def test_an_llmservice_can_be_deleted_though_nobody_looks_after_it(service):
    service.delete("llmservice")


def everything_named(kubectl, word):
    """Names of all objects with the word in them, but for Events."""
    kinds = [kind for kind in kubectl("api-resources", "--verbs=list", "--output=name").split() if "event" not in kind]
    names = kubectl("get", ",".join(kinds), "--all-namespaces", "--output=name").split()
    return {name for name in names if word in name}
