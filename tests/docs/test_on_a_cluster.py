"""Commands that need a cluster run in the order of the pages, on one bare sandbox that they install the chart on."""

import json
import re

import pytest
import yaml

from dynawatt.sandbox.build import ensure_built, ensure_helm

from ..definitions.of_others import definition_of, served
from ..sandboxes import kubectl_of, running_bare
from .reading import ROOT, blocks, pages
from .running import Reader

pytestmark = pytest.mark.integration

RUNBOOKS = sorted(f"docs/runbooks/{path.name}" for path in (ROOT / "docs" / "runbooks").glob("*.md"))
USE = ["README.md", "docs/cli.md", "docs/adoption.md", "docs/autoscalers.md", "docs/gitops.md"]
ORDER = [*USE, *RUNBOOKS, "docs/install.md"]
"""As a user goes through them; the last one ends with the way out."""
PROMETHEUS = "http://prometheus.monitoring:9090"


@pytest.fixture(scope="module")
def own_sandbox():
    with running_bare("docs") as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def kubectl(own_sandbox):
    return kubectl_of(own_sandbox)


@pytest.fixture(scope="module")
def run(own_sandbox, tmp_path_factory):
    programs = {"kubectl": ensure_built()["kubectl"], "helm": ensure_helm()["helm"]}
    reader = Reader(tmp_path_factory.mktemp("reader"), programs)

    def ran(block):
        known = {PROMETHEUS: own_sandbox.prometheus_url}
        return reader.run(block, replaced=known, timeout_s=240, KUBECONFIG=str(own_sandbox.kubeconfig))

    return ran


def runs_on_a_cluster(page):
    return [block for block in blocks(ROOT / page) if block.mark == "cluster" or block.file]


def commands_of_runbook(page):
    """Each by itself, about what is there instead of what an alert would name."""
    there = {"NAMESPACE": "default", "NAME": "llama-8b", "NODE": "gpu-node-0", "URL": PROMETHEUS}
    for block in runs_on_a_cluster(page):
        for command in block.commands:
            text = re.sub(rf"\b({'|'.join(there)})\b", lambda found: there[found[0]], command)
            yield block._replace(text=text)


def test_all_pages_with_such_commands_are_in_the_order():
    marked = {page for page in pages() if any(block.mark == "cluster" for block in blocks(page))}
    assert {str(page.relative_to(ROOT)) for page in marked} == set(ORDER)


@pytest.mark.parametrize("kind", ["ScaledObject"])
def test_objects_for_other_projects_are_such_as_these_take(kubectl, kind):
    version = definition_of(kind)["spec"]
    texts = [block.text for page in pages() for block in blocks(page) if block.language == "yaml"]
    documents = [one for text in texts for one in yaml.safe_load_all(text) if one.get("kind") == kind]
    assert documents
    with served(kubectl, kind):
        for document in documents:
            assert document["apiVersion"].startswith(f"{version['group']}/")
            kubectl("create", "--dry-run=server", "--validate=strict", "--filename=-", stdin=json.dumps(document))


@pytest.mark.parametrize("handed_over", [True, False])
def test_replicas_that_flux_lets_go_of_stay_once_they_are_handed_over(kubectl, run, handed_over, tmp_path):
    """What docs/gitops.md says of server-side apply."""
    name = f"flux-{handed_over}".lower()
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "one", "image": "one"}]}}
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": name}}, "template": template},
    }

    def apply():
        manager = "--field-manager=kustomize-controller"
        kubectl("apply", "--server-side", manager, "--filename=-", stdin=json.dumps(body))

    apply()
    if handed_over:
        [block, *_] = [block for block in blocks(ROOT / "docs" / "gitops.md") if block.mark == "cluster"]
        run(block._replace(text=block.text.replace("llama-8b", name)))
    del body["spec"]["replicas"]
    apply()
    assert kubectl("get", "deployment", name, "--output=jsonpath={.spec.replicas}") == ("3" if handed_over else "1")
    kubectl("delete", "deployment", name)


def test_from_the_installation_to_the_way_out(own_sandbox, kubectl, run, until):
    kubectl("apply", f"--filename={ROOT / 'examples' / 'vllm.yaml'}")  # what a reader has
    kubectl("wait", "deployment/llama-8b", "--for=condition=Available", "--timeout=60s")
    printed = {page: [run(block) for block in runs_on_a_cluster(page)] for page in USE}
    assert "LLMService default/llama-8b" in printed["README.md"][-1]
    assert "LLMService default/llama-8b" in printed["docs/cli.md"][0]  # of kubectl's plug-in

    in_runbooks = {page: list(commands_of_runbook(page)) for page in RUNBOOKS}
    named = set(re.findall(r'@\.type=="(\w+)"', repr(in_runbooks)))

    def conditions():
        return {one["type"] for one in kubectl.get("llmservice", "llama-8b").get("status", {}).get("conditions", [])}

    until(lambda: named <= conditions(), within_s=60.0)  # the last page switched it off and on
    for page, commands in in_runbooks.items():
        for command in commands:
            assert run(command), page  # a path that leads nowhere prints nothing

    for block in runs_on_a_cluster("docs/install.md"):
        run(block)
    left = kubectl("get", "crd,namespace,clusterrole,clusterrolebinding,validatingadmissionpolicy", "--output=name")
    assert "dynawatt" not in left
    assert kubectl("get", "deployment", "llama-8b", "--output=jsonpath={.spec.replicas}") == "1"
