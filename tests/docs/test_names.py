"""Commands, options, fields, conditions, metrics and values that pages name exist."""

import fnmatch
import json
import re

import pytest
import yaml

from dynawatt.api.conditions import ConditionType, Reason
from dynawatt.api.crd import crd_documents
from dynawatt.api.llmservice import LLMServiceSpec
from dynawatt.dashboards.inventory import known_series

from .command_tree import all_options, problem_of
from .reading import ROOT, blocks, pages, spans

# The changelog names what there was.
PAGES = [pytest.param(page, id=str(page.relative_to(ROOT))) for page in pages() if page.name != "CHANGELOG.md"]
DYNAWATT = re.compile(r"(?:^|[;&|(] ?)(?:kubectl )?(dynawatt(?: [^;&|#)]*)?)")
KUBERNETES_KINDS = {
    "ConfigMap", "DaemonSet", "HorizontalPodAutoscaler", "PodDisruptionBudget", "PodMonitor", "ScaledObject",
    "ServiceAccount", "ServiceMonitor", "StatefulSet", "VerticalPodAutoscaler", "ValidatingAdmissionPolicy",
}  # fmt: skip
OWN_KINDS = {document["spec"]["names"]["kind"] for document in crd_documents()}


def commands(page):
    inside = [line for block in blocks(page) if block.language in ("sh", "console") for line in block.commands]
    return [found.strip() for line in (*inside, *spans(page)) for found in DYNAWATT.findall(line)]


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_their_options_exist(page):
    problems = {line: problem for line in commands(page) if (problem := problem_of(line))}
    assert not problems


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("dynawatt explian a/b", "no command 'explian' in dynawatt"),
        ("dynawatt sandbox start", "no command 'start' in dynawatt sandbox"),
        ("dynawatt simulate --trase trace.csv", "no option --trase"),
        ("dynawatt simulate --trace=trace.csv", None),
        ("dynawatt sandbox helm -- list --nonsense", None),
    ],
)
def test_a_wrong_command_is_found(line, says):
    assert problem_of(line) == says


OF_OTHERS = {
    # vLLM's
    "--long-prefill-token-threshold", "--max-num-batched-tokens", "--model", "--shutdown-timeout",
    "--tensor-parallel-size", "--scheduling-policy", "--scheduler-cls",
    # of helm, make, nvidia-smi and python -m dynawatt.*
    "--timeout", "--check", "--write", "--thorough", "--growth",
}  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
def test_options_that_stand_alone_exist(page):
    alone = {span.split()[0].partition("=")[0] for span in spans(page) if span.startswith("--")}
    known = all_options() | OF_OTHERS
    assert not {each for each in alone if not fnmatch.filter(known, each)}


def schema_has(path):
    """Whether some resource has this field; of a list, the entries'."""
    for document in crd_documents():
        node = document["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        for name in path.split("."):
            node = node.get("items", node).get("properties", {}).get(name)
            if node is None:
                break
        else:
            return True
    return False


@pytest.mark.parametrize("page", PAGES)
def test_fields_exist(page):
    named = {span.split(":")[0] for span in spans(page) if re.match(r"(spec|status)\.\w", span)}
    of_pods = {"spec.nodeName"}
    assert not {path for path in named - of_pods if not schema_has(path.replace("[]", ""))}


@pytest.mark.parametrize("page", PAGES)
def test_llmservices_are_valid(page):
    for block in blocks(page):
        for document in yaml.safe_load_all(block.text) if block.language == "yaml" else ():
            if document.get("kind") == "LLMService":
                LLMServiceSpec.parse(document["spec"])


@pytest.mark.parametrize("page", PAGES)
def test_patches_of_llmservices_name_fields(page):
    for block in blocks(page):
        for line in block.commands if block.language == "sh" else ():
            if "patch llmsvc" in line:
                patch = json.loads(re.search(r"--patch\s+'(.*)'", line)[1])["spec"]
                whole = {"deploymentRef": {"name": "x"}, "slo": SLO}
                LLMServiceSpec.parse(whole | patch)


SLO = {"interTokenMilliseconds": 100, "timeToFirstToken": [{"milliseconds": 1000}]}


@pytest.mark.parametrize("page", PAGES)
def test_conditions_and_reasons_exist(page):
    named = {span for span in spans(page) if re.fullmatch(r"[A-Z]+[a-z]+([A-Z]+[a-z]*)+", span)}
    known = set(ConditionType) | set(Reason) | KUBERNETES_KINDS | OWN_KINDS
    assert not named - known - {"InvalidInputError", "OperationError"}


@pytest.mark.parametrize("page", PAGES)
def test_metrics_exist(page):
    if page.name == "metrics.md":  # is the inventory
        return
    named = {name for span in spans(page) for name in re.findall(r"(?<![:\w.])dynawatt_[a-z_]+", span)}
    assert not named - known_series()


def chart_has(path):
    node = yaml.safe_load((ROOT / "charts/dynawatt/values.yaml").read_text())
    for name in path.split("."):
        if not isinstance(node, dict) or name not in node:
            return False
        node = node[name]
    return True


@pytest.mark.parametrize("page", PAGES)
def test_values_of_the_chart_exist(page):
    tops = yaml.safe_load((ROOT / "charts/dynawatt/values.yaml").read_text())
    named = {span for span in spans(page) if re.fullmatch(r"[a-zA-Z]+(\.[a-zA-Z]+)+", span)}
    assert not {path for path in named if path.split(".")[0] in tops and not chart_has(path)}
