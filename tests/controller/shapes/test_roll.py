import copy

import pytest

from dynawatt.controller.shapes.roll import is_behind, rolled
from dynawatt.controller.shapes.shape import Shape
from dynawatt.controller.shapes.sibling import Rollout, sibling_of, template_digest
from dynawatt.errors import InvalidInputError

from .manifests import changed_vllm, pod_spec, production_stack, vllm

SERVICE = "prod/llama-70b"


@pytest.fixture
def sibling():
    """As the API server sends it: scaled, with what others wrote."""
    made = sibling_of(production_stack(), Shape(8), service=SERVICE)
    made["metadata"] |= {"resourceVersion": "77", "uid": "u", "managedFields": [{"manager": "dynawatt"}]}
    made["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "1"
    made["spec"]["replicas"] = 5
    made["status"] = {"readyReplicas": 5}
    return made


def edited():
    template = changed_vllm(production_stack(), image="vllm/vllm-openai:v0.33.0", env=None)
    del template["spec"]["template"]["metadata"]["annotations"]
    return template


def test_only_edits_of_the_pod_template_leave_a_sibling_behind(sibling):
    template = production_stack()
    template["spec"]["replicas"] = 0
    template["metadata"]["generation"] = 9
    assert not is_behind(template, sibling)
    assert is_behind(edited(), sibling)


def test_a_paused_rollout_is_waited_for(sibling):
    template = edited()
    template["spec"]["paused"] = True
    assert not is_behind(template, sibling)


def test_a_sibling_is_rolled_with_its_replicas(sibling):
    before = copy.deepcopy(sibling)
    made = rolled(edited(), sibling, service=SERVICE, rollout=Rollout.within(1), startup_s=500.0)
    assert sibling == before
    assert vllm(made)["image"] == "vllm/vllm-openai:v0.33.0"
    assert "env" not in vllm(made)
    assert "annotations" not in made["spec"]["template"]["metadata"]
    assert made["spec"]["replicas"] == 5
    assert made["spec"]["selector"] == before["spec"]["selector"]
    assert made["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert vllm(made)["startupProbe"]["failureThreshold"] == 149
    assert made["metadata"]["resourceVersion"] == "77"
    assert made["metadata"]["annotations"] == before["metadata"]["annotations"] | {
        "dynawatt.dev/template-digest": template_digest(edited())
    }
    assert not made.keys() & {"status"}
    assert "managedFields" not in made["metadata"]
    assert not is_behind(edited(), made)


def test_a_rolled_sibling_is_as_if_made_from_the_edited_template(sibling):
    made = rolled(edited(), sibling, service=SERVICE)
    fresh = sibling_of(edited(), Shape(8), service=SERVICE)
    assert pod_spec(made) == pod_spec(fresh)
    assert made["spec"].keys() - fresh["spec"].keys() == {"minReadySeconds"}


def test_a_template_made_anew_with_another_selector(sibling):
    template = production_stack()
    template["spec"]["selector"] = {"matchLabels": {"model": "llama70b"}}
    with pytest.raises(InvalidInputError, match="selectors cannot change: delete it"):
        rolled(template, sibling, service=SERVICE)


def test_the_template_is_no_sibling():
    with pytest.raises(InvalidInputError, match="is no sibling"):
        rolled(edited(), production_stack(), service=SERVICE)
