"""Commands that need a cluster run in the order of the pages, on one bare sandbox that they install the chart on."""

import json
import os
import secrets
import subprocess

import pytest

from dynawatt.sandbox.build import ensure_built, ensure_helm
from dynawatt.sandbox.cluster import Sandbox
from dynawatt.sandbox.options import SandboxOptions

from .reading import ROOT, blocks, pages
from .running import Reader

pytestmark = pytest.mark.integration

ORDER = ["README.md", "docs/cli.md", "docs/adoption.md", "docs/autoscalers.md", "docs/gitops.md", "docs/install.md"]
"""As a user goes through them; the last one ends with the way out."""
PROMETHEUS = "http://prometheus.monitoring:9090"


@pytest.fixture(scope="module")
def own_sandbox():
    name = f"test-docs-{os.getpid()}-{secrets.token_hex(2)}"
    sandbox = Sandbox.up(SandboxOptions(name=name, nodes=2, startup_s=1, dynawatt=False, bare=True))
    try:
        yield sandbox
    finally:
        sandbox.down()


@pytest.fixture(scope="module")
def kubectl(own_sandbox):
    def run(*arguments):
        command = [ensure_built()["kubectl"], f"--kubeconfig={own_sandbox.kubeconfig}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

    return run


@pytest.fixture(scope="module")
def run(own_sandbox, tmp_path_factory):
    programs = {"kubectl": ensure_built()["kubectl"], "helm": ensure_helm()["helm"]}
    reader = Reader(tmp_path_factory.mktemp("reader"), programs)

    def ran(block):
        known = {PROMETHEUS: own_sandbox.prometheus_url}
        return reader.run(block, replaced=known, timeout_s=240, KUBECONFIG=str(own_sandbox.kubeconfig))

    return ran


def test_all_pages_with_such_commands_are_in_the_order():
    marked = {page for page in pages() if any(block.mark == "cluster" for block in blocks(page))}
    assert {str(page.relative_to(ROOT)) for page in marked} == set(ORDER)


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
    manifest = tmp_path / "manifest.json"

    def apply():
        manifest.write_text(json.dumps(body))
        kubectl("apply", "--server-side", "--field-manager=kustomize-controller", f"--filename={manifest}")

    apply()
    if handed_over:
        [block, *_] = [block for block in blocks(ROOT / "docs" / "gitops.md") if block.mark == "cluster"]
        run(block._replace(text=block.text.replace("llama-8b", name)))
    del body["spec"]["replicas"]
    apply()
    assert kubectl("get", "deployment", name, "--output=jsonpath={.spec.replicas}") == ("3" if handed_over else "1")
    kubectl("delete", "deployment", name)


def test_from_the_installation_to_the_way_out(own_sandbox, kubectl, run):
    kubectl("apply", f"--filename={ROOT / 'examples' / 'vllm.yaml'}")  # what a reader has
    kubectl("wait", "deployment/llama-8b", "--for=condition=Available", "--timeout=60s")
    printed = {}
    for name in ORDER:
        for block in blocks(ROOT / name):
            if block.mark == "cluster" or block.file:
                printed.setdefault(name, []).append(run(block))
    assert "LLMService default/llama-8b" in printed["README.md"][-1]
    assert "LLMService default/llama-8b" in printed["docs/cli.md"][0]  # of kubectl's plug-in
    left = kubectl("get", "crd,namespace,clusterrole,clusterrolebinding,validatingadmissionpolicy", "--output=name")
    assert "dynawatt" not in left
    assert kubectl("get", "deployment", "llama-8b", "--output=jsonpath={.spec.replicas}") == "1"
