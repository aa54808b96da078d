import re

import pytest
from pydantic import BaseModel, ValidationError

from dynawatt.api.base import first_problem
from dynawatt.api.crd import crd_documents
from dynawatt.api.group import MODELPROFILE_KIND
from dynawatt.api.model_profile import (
    ArchitectureSpec,
    ModelProfileDocument,
    ModelProfileSpec,
    PowerSpec,
    ProfileMetadata,
    ResidualSpec,
    StepSpec,
    WorkSpec,
)

STEP = {
    "referenceClockMegahertz": 1980,
    "overlapNorm": 1.6,
    "tokens": [1, 8],
    "memorySeconds": [0.005, 0.005],
    "computeSeconds": [0, "1e-05"],
    "communicationSeconds": [0, 0],
    "requests": [0, 8],
    "attentionSeconds": [0, 1e-4],
    "attentionSecondsPerContextToken": [0, 1e-8],
    "attentionComputeShare": 0.1,
    "secondsPerPair": 1e-10,
    "iterationOverheadSeconds": 0.001,
    "requestOverheadSeconds": 0,
}


def numbers(model, path=()):
    """Every number of a model's schema, with its path."""
    for name, field in model.model_json_schema()["properties"].items():
        yield from _numbers(field, model.model_json_schema().get("$defs", {}), (*path, name))


def _numbers(node, definitions, path):
    if "$ref" in node:
        node = definitions[node["$ref"].rsplit("/", 1)[-1]]
    if node.get("type") in ("number", "integer"):
        yield path, node
    for name, child in node.get("properties", {}).items():
        yield from _numbers(child, definitions, (*path, name))
    if "items" in node:
        yield from _numbers(node["items"], definitions, (*path, "[]"))


def test_every_number_has_bounds():
    found = dict(numbers(ModelProfileSpec))
    assert len(found) > 40
    for path, node in found.items():
        assert node.keys() & {"minimum", "exclusiveMinimum"}, path
        assert "maximum" in node, path


def test_every_list_has_bounds():
    def lists(node):
        if isinstance(node, dict):
            if node.get("type") == "array":
                yield node
            for child in node.values():
                yield from lists(child)

    found = list(lists(ModelProfileSpec.model_json_schema()))
    assert len(found) > 10
    assert all("maxItems" in node for node in found)


@pytest.mark.parametrize("model", [ModelProfileSpec, ArchitectureSpec, PowerSpec, StepSpec, WorkSpec, ResidualSpec])
def test_names_are_camel_case(model: type[BaseModel]):
    for name in model.model_json_schema()["properties"]:
        assert re.fullmatch(r"[a-z][a-zA-Z0-9]*", name)


def test_numbers_may_be_texts_but_not_truth_values():
    assert StepSpec.model_validate(STEP).compute_seconds == (0.0, 1e-5)
    with pytest.raises(ValidationError) as caught:
        StepSpec.model_validate(STEP | {"computeSeconds": [False, 1]})
    assert first_problem(caught.value) == "computeSeconds[0]: False: must be a number"


def test_what_clusters_add_to_metadata_does_no_harm():
    assert ProfileMetadata.model_validate({"name": "x", "uid": "1", "labels": {}}).name == "x"


def test_the_document_says_what_it_is():
    with pytest.raises(ValidationError) as caught:
        ModelProfileDocument.model_validate({"apiVersion": "dynawatt.dev/v2", "kind": MODELPROFILE_KIND})
    assert first_problem(caught.value) == "apiVersion: 'dynawatt.dev/v2': must be 'dynawatt.dev/v1alpha1'"


def test_no_cluster_is_promised_a_kind_that_nothing_reads():
    assert MODELPROFILE_KIND not in [document["spec"]["names"]["kind"] for document in crd_documents()]
