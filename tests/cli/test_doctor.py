"""What the doctor says of the installation, the operator and the agents."""

import copy
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner

from dynawatt.api.conditions import Reason
from dynawatt.api.remedies import REMEDIES
from dynawatt.cli import main
from dynawatt.cli.doctor.check import About, Check, Outcome, counted, some
from dynawatt.cli.doctor.facts import gather, has_gpus
from dynawatt.cli.doctor.installation import check_crds, check_policies, check_version
from dynawatt.cli.doctor.page import page, to_json
from dynawatt.cli.doctor.rights import Reviewed, Right, check_rights, needed_rights
from dynawatt.cli.doctor.running import AGENTS, OPERATOR, check_agents, check_lease, check_switch
from dynawatt.cli.layout import WIDTH, coloured, plain
from dynawatt.errors import InvalidInputError
from dynawatt.sandbox.install import AGENT_ACCOUNT, OPERATOR_ACCOUNT, access_documents

from .doctoring import crds, documents, facts, node, only
from .objects import condition, deployment, gpu, gpu_node, lease, pod, service, switch
from .stored_api import StoredApi, serving

OK, WARNING, FAILED, SKIPPED = Outcome


def everything(**changes):
    known = facts(**changes)
    return [*check_crds(known), check_policies(known), check_lease(known), check_switch(known), *check_agents(known)]


def test_nothing_is_wrong_with_a_cluster_in_order():
    assert {check.outcome for check in everything()} == {OK}


@pytest.mark.parametrize(
    ("version", "outcome"),
    [("v1.36.3", OK), ("v1.30.0", OK), ("v1.29.9", FAILED), ("v1.31.2-eks-a1b2", OK), ("1.28+", FAILED), ("odd", OK)],
)
def test_version_of_kubernetes(version, outcome):
    assert check_version(version, "https://x").outcome is outcome


def changed_crd(change):
    found = copy.deepcopy(crds())
    crd = found["llmservices.dynawatt.dev"]
    change(crd, crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"])
    return found


def less(crd, fields):
    del fields["spec"]["properties"]["slo"]["properties"]["percentile"]


def more(crd, fields):
    fields["status"]["properties"]["novelty"] = {"type": "string"}


def other_bound(crd, fields):
    fields["spec"]["properties"]["replicas"]["properties"]["max"]["maximum"] = 7


def other_text(crd, fields):
    fields["spec"]["properties"]["mode"]["description"] = "told otherwise"


def not_served(crd, fields):
    crd["status"] = {"conditions": [{"type": "Established", "status": "False", "message": "names clash"}]}


@pytest.mark.parametrize(
    ("change", "outcome", "message"),
    [
        (less, FAILED, "is not this version's: spec.slo.percentile missing or other"),
        (other_bound, FAILED, "is not this version's: spec.replicas.max.maximum missing or other"),
        (more, WARNING, "has what this version does not know: status.novelty"),
        (other_text, OK, "is installed as this version has it"),
        (not_served, FAILED, "is not served: names clash"),
    ],
)
def test_resource_types_are_compared_field_by_field(change, outcome, message):
    checks = list(check_crds(facts(crds=changed_crd(change))))
    found = only(checks, "CRD LLMService")
    assert (found.outcome, found.message) == (outcome, message)
    assert only(checks, "CRD GPUNode").outcome is OK


def test_resource_types_that_are_missing_come_with_the_command():
    checks = list(check_crds(facts(crds={})))
    assert [check.outcome for check in checks] == [FAILED, FAILED]
    assert {check.command for check in checks} == {"dynawatt crds | kubectl apply --server-side -f -"}


def without(kind, name):
    return {each: document for each, document in documents(kind).items() if each != name}


def test_admission_policies_must_be_there_bound_and_about_these_accounts():
    gone = check_policies(facts(policies=without("ValidatingAdmissionPolicy", "dynawatt-operator-pods")))
    unbound = check_policies(
        facts(policy_bindings=list(without("ValidatingAdmissionPolicyBinding", "dynawatt-agent-own-node").values()))
    )
    elsewhere = check_policies(facts(namespace="energy"))
    assert [check.outcome for check in (gone, unbound, elsewhere)] == [WARNING] * 3
    assert gone.message.endswith("missing or not bound are dynawatt-operator-pods")
    assert unbound.message.endswith("missing or not bound are dynawatt-agent-own-node")
    assert "another namespace than energy" in elsewhere.message


LEASES = {
    "fresh": ({}, OK, "held by dynawatt-operator-0, renewed 4 s ago"),
    "none": ({"lease": None}, FAILED, "there is none in dynawatt-system: no operator has ever run there"),
    "released": ({"lease": lease(holder="")}, FAILED, "nobody holds it: the last operator stopped and gave it back"),
    "stale": (
        {"lease": lease(minutes=5)},
        FAILED,
        "dynawatt-operator-0 has not renewed it for 5 min: claims hold for 30 s",
    ),
    "renewed by another clock": (
        {"lease": lease(minutes=5), "lease_moves": True},
        WARNING,
        "dynawatt-operator-0 renews it, but its clock and this machine's are 5 min apart",
    ),
    "from the future": (
        {"lease": lease(minutes=-5), "lease_moves": True},
        WARNING,
        "dynawatt-operator-0 renews it, but its clock and this machine's are 5 min apart",
    ),
    "not readable": ({"lease": None, "unread": {"lease": "403: no"}}, SKIPPED, "could not be read: 403: no"),
}


@pytest.mark.parametrize(("changes", "outcome", "message"), LEASES.values(), ids=LEASES)
def test_who_is_at_work(changes, outcome, message):
    check = check_lease(facts(**changes))
    assert (check.outcome, check.message) == (outcome, message)
    assert bool(check.remedy) is (outcome is not OK)


def test_switch():
    assert check_switch(facts(switch=switch("true"))).outcome is OK
    off = check_switch(facts(switch=switch("no")))
    assert off.outcome is WARNING
    assert "enabled: 'no'" in off.message
    assert check_switch(facts(unread={"switch": "403: no"})).outcome is SKIPPED


def test_gpu_nodes_without_an_agent():
    none = only(check_agents(facts(gpu_nodes={})), "nodes")
    some_ = only(check_agents(facts(nodes=[node(), node("gpu-2")])), "nodes")
    assert (none.outcome, none.message) == (FAILED, "1 of 1 GPU node without an agent's GPUNode: gpu-1")
    assert (some_.outcome, some_.message) == (WARNING, "1 of 2 GPU nodes without an agent's GPUNode: gpu-2")


def test_no_gpu_at_all_or_nodes_that_may_not_be_listed():
    assert [check.outcome for check in check_agents(facts(nodes=[]))] == [WARNING]
    assert [check.outcome for check in check_agents(facts(nodes=[], unread={"nodes": "403"}))] == [SKIPPED]


@pytest.mark.parametrize(
    ("reason", "status"),
    [(Reason.LEASE_STALE, "False"), (Reason.AGENT_STOPPED, "Unknown"), (Reason.PERSISTENCE_MODE_OFF, "True")],
)
def test_conditions_of_nodes_come_with_their_remedy(reason, status):
    conditions = [condition("ClocksGoverned", status, reason.value, "that is why")]
    nodes = {name: gpu_node(name, gpu(), conditions=conditions) for name in ("gpu-1", "gpu-2")}
    check = only(check_agents(facts(nodes=[node(), node("gpu-2")], gpu_nodes=nodes)), "ClocksGoverned")
    assert check.outcome is WARNING
    assert f"gpu-1, gpu-2: {reason.value}: that is why" in check.message
    assert check.message.startswith("not ClocksGoverned on") is (status != "True")
    assert check.remedy == REMEDIES[reason]


def test_an_agent_that_has_not_reported_yet():
    check = only(check_agents(facts(gpu_nodes={"gpu-1": {"metadata": {"name": "gpu-1"}}})), "conditions")
    assert (check.outcome, check.message) == (WARNING, "no agent has reported yet on gpu-1")


GPUS = {
    "cannot be set": (gpu(clockControl="Unsupported"), "clock control", "1 of 2 GPUs do not let their clock be set"),
    "shared": (
        gpu(energyOnly={"reason": "GPUShared", "message": "x"}),
        "clock control",
        "1 GPU left alone, GPUShared, on gpu-1",
    ),
    "unhealthy": (gpu(health="Unhealthy", healthMessage="XID 79"), "GPU health", "1 GPU unhealthy on gpu-1: XID 79"),
}


@pytest.mark.parametrize(("broken", "name", "message"), GPUS.values(), ids=GPUS)
def test_gpus_that_cannot_be_governed(broken, name, message):
    checks = [*check_agents(facts(gpu_nodes={"gpu-1": gpu_node("gpu-1", broken, gpu("GPU-2"))}))]
    assert [check.outcome for check in checks if check.name == name and check.message.startswith(message)] == [WARNING]


def test_gpus_are_found_by_label_or_by_what_the_node_offers():
    assert has_gpus({"metadata": {"labels": {"nvidia.com/gpu.present": "true"}}})
    assert has_gpus({"metadata": {}, "status": {"capacity": {"nvidia.com/gpu": "4"}}})
    assert not has_gpus({"metadata": {"labels": {"nvidia.com/gpu.present": "false"}}, "status": {}})


def test_rights_are_those_of_the_manifest_in_the_namespace_of_the_installation():
    rights = needed_rights(access_documents(), OPERATOR_ACCOUNT, namespace="energy")
    told = {(str(right), right.namespace) for right in rights}
    assert {("patch pods", ""), ("update deployments/scale", ""), ("get leases dynawatt-operator", "energy")} <= told
    agents = {str(right) for right in needed_rights(access_documents(), AGENT_ACCOUNT, namespace="energy")}
    assert "patch gpunodes/status" in agents
    assert "patch pods" not in agents


def test_a_subresource_is_asked_for_as_such():
    [right] = [
        each
        for each in needed_rights(access_documents(), OPERATOR_ACCOUNT, namespace="x")
        if each.resource == "deployments/scale"
    ]
    assert (right.attributes["resource"], right.attributes["subresource"]) == ("deployments", "scale")
    assert right.attributes["group"] == "apps"


SIBLINGS = Right("dynawatt-operator-siblings", "apps", "deployments", "create")
PODS = Right("dynawatt-operator", "", "pods", "patch")


@pytest.mark.parametrize(
    ("reviewed", "scales_shapes", "outcomes"),
    [
        (Reviewed("a", 3, []), True, [OK]),
        (Reviewed("a", 3, [PODS]), True, [FAILED]),
        (Reviewed("a", 3, [SIBLINGS]), True, [OK, WARNING]),
        (Reviewed("a", 3, [SIBLINGS]), False, [OK, OK]),
        (Reviewed("a", 0, [], "403: no"), True, [SKIPPED]),
    ],
)
def test_rights(reviewed, scales_shapes, outcomes):
    checks = list(check_rights(reviewed, about=OPERATOR, scales_shapes=scales_shapes))
    assert [check.outcome for check in checks] == outcomes
    if reviewed.missing == [PODS]:
        assert "may not patch pods" in checks[0].message


def test_page_and_json_say_the_same():
    checks = [
        AGENTS.ok("one", "is fine"),
        AGENTS.warning("two", "is not fine " * 12, "do this " * 20, "kubectl " + "x" * 90),
        About("prod/llama").failed("three", "is broken", "mend it"),
        About("prod/llama").skipped("four", "was not looked at"),
    ]
    text = page(checks, plain)
    assert text.splitlines()[0] == "agents"
    assert "  ok        one: is fine" in text
    assert text.endswith("\n1 ok, 1 warning, 1 failed, 1 skipped\n")
    for line in text.splitlines():
        assert len(line) <= WIDTH or line.strip().startswith("kubectl"), line
    data = to_json(checks)
    assert not data["healthy"]
    assert data["counts"] == {"ok": 1, "warning": 1, "failed": 1, "skipped": 1}
    assert data["checks"][2] == {
        "about": "prod/llama",
        "name": "three",
        "outcome": "failed",
        "message": "is broken",
        "remedy": "mend it",
        "command": None,
    }
    assert "\x1b[31mfailed  \x1b[0m" in page(checks, coloured)


def test_a_failure_only_where_it_hurts():
    assert AGENTS.bad("n", "m", "r", hurts=True) == Check("agents", "n", FAILED, "m", "r")
    assert AGENTS.bad("n", "m", "r", hurts=False).outcome is WARNING


def test_many_names_are_cut():
    assert some({"b", "a"}) == "a, b"
    assert some("edcba") == "a, b, c and 2 more"
    assert (counted(1, "pod"), counted(2, "pod")) == ("1 pod", "2 pods")


@pytest.fixture
def api(tmp_path):
    stored = StoredApi()
    with serving(stored, tmp_path) as kubeconfig:
        stored.kubeconfig = kubeconfig
        yield stored


def run(*words):
    words = ["doctor", *map(str, words)]
    result = CliRunner().invoke(main.build_app(words), words)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_an_api_server_that_is_away_is_all_there_is_to_say(tmp_path):
    with serving(StoredApi(), tmp_path) as kubeconfig:
        pass
    result = run("--kubeconfig", kubeconfig, "--json")
    [check] = json.loads(result.output)["checks"]
    assert result.exit_code == 1
    assert check["name"] == "API server"
    assert "does not answer" in check["message"]


def test_the_command_looks_at_everything_in_every_namespace(api):
    api.add("LLMService", service(), service("chat", metadata={"namespace": "team"}))
    api.add("Deployment", deployment())
    api.add("Pod", pod(), pod("llama-b"))
    api.add("Node", node())
    api.add("GPUNode", gpu_node("gpu-1", gpu()))
    api.add("Lease", lease(seconds=-(10**9)))
    api.refused = {"customresourcedefinitions": 403}
    result = run("--kubeconfig", api.kubeconfig, "--json")
    checks = {(check["about"], check["name"]): check for check in json.loads(result.output)["checks"]}
    assert result.exit_code == 1
    assert checks["cluster", "CRD GPUNode"]["outcome"] == "skipped"
    assert checks["agents", "nodes"]["outcome"] == "ok"
    assert checks["prod/llama", "Deployment"]["message"] == "llama, 2 of 2 replicas Ready"
    assert checks["team/chat", "Deployment"]["outcome"] == "failed"
    assert checks["metrics", "Prometheus"]["outcome"] == "skipped"
    assert checks["operator", "rights"]["outcome"] == "ok"


@pytest.fixture
def guarded(tmp_path):
    """A Prometheus that only answers those who bring the token, for the tenant."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            known = (self.headers["Authorization"], self.headers["X-Scope-OrgID"]) == ("Bearer secret", "team")
            body = json.dumps({"status": "success", "data": {"result": []}}).encode() if known else b""
            self.send_response(200 if known else 401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_guarded_prometheus_is_asked_as_the_operator_asks_it(api, guarded, tmp_path):
    (tmp_path / "token").write_text("secret\n")
    asked = ("--kubeconfig", api.kubeconfig, "--json", "--prometheus-url", guarded)
    for options, outcome in [
        ((), "failed"),
        (("--prometheus-token-file", tmp_path / "token"), "failed"),
        (("--prometheus-token-file", tmp_path / "token", "--prometheus-header", "X-Scope-OrgID: team"), "ok"),
    ]:
        checks = {
            (check["about"], check["name"]): check for check in json.loads(run(*asked, *options).output)["checks"]
        }
        assert checks["metrics", "Prometheus"]["outcome"] == outcome


def test_options_for_prometheus_that_contradict_each_other_are_refused(api):
    words = ["doctor", "--kubeconfig", str(api.kubeconfig), "--prometheus-username", "me"]
    refused = CliRunner().invoke(main.build_app(words), words).exception
    assert isinstance(refused, InvalidInputError)
    assert str(refused).startswith("--prometheus-username: must be given together with")


def test_a_lease_that_looks_stale_is_watched_before_it_is_called_so(api, monkeypatch):
    from dynawatt.adapters.kubernetes.client import api_client

    api.add("Lease", lease(days=10))
    slept = []

    def renew(pause_s):
        slept.append(pause_s)
        api.objects[0]["spec"]["renewTime"] = lease(days=10, seconds=-9)["spec"]["renewTime"]

    client = api_client(api.kubeconfig)
    assert gather(client, namespace="dynawatt-system", version="", sleep=renew).lease_moves
    assert not gather(client, namespace="dynawatt-system", version="", sleep=slept.append).lease_moves
    assert slept == [15.0, 15.0]


@pytest.mark.parametrize("url", ["prometheus:9090", "http://user:secret@prometheus"])
def test_an_address_that_cannot_be_asked(api, url):
    result = CliRunner().invoke(
        main.build_app(["doctor"]), ["doctor", "--kubeconfig", str(api.kubeconfig), "--prometheus-url", url]
    )
    assert "--prometheus-url" in str(result.exception)
    assert "secret" not in str(result.exception)
