from typing import Annotated

import pytest
import yaml
from pydantic import Field

from dynawatt.api.base import ApiModel
from dynawatt.api.crd import crd_documents, crd_files, render_yaml
from dynawatt.api.schema import structural_schema


def root_schema(document):
    return document["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def nodes(schema, path=""):
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")


ALL_NODES = [
    pytest.param(node, id=document["spec"]["names"]["kind"] + path)
    for document in crd_documents()
    for path, node in nodes(root_schema(document))
]
BOUNDS = {
    "string": [{"maxLength"}, {"enum"}, {"format"}],
    "integer": [{"minimum"}],
    "array": [{"maxItems", "items", "x-kubernetes-list-type"}],
    "object": [{"properties"}],
    "boolean": [set()],
}


@pytest.mark.parametrize("node", ALL_NODES)
def test_every_field_is_typed_and_bounded(node):
    assert any(keys <= node.keys() for keys in BOUNDS[node["type"]])


@pytest.mark.parametrize("node", ALL_NODES)
def test_every_field_explains_itself(node):
    for name, child in node.get("properties", {}).items():
        assert child.get("description", "").rstrip()[-1:] == ".", name


@pytest.mark.parametrize("node", ALL_NODES)
def test_rules_say_what_must_be(node):
    for rule in node.get("x-kubernetes-validations", []):
        assert "must" in rule["message"]


def test_status_has_no_defaults():
    for document in crd_documents():
        for path, node in nodes(root_schema(document)["properties"]["status"]):
            assert "default" not in node, path


def test_kinds():
    found = {
        document["metadata"]["name"]: (document["spec"]["scope"], root_schema(document).get("required"))
        for document in crd_documents()
    }
    assert found == {"llmservices.dynawatt.dev": ("Namespaced", ["spec"]), "gpunodes.dynawatt.dev": ("Cluster", None)}


def test_yaml_holds_the_documents_and_switch_words_stay_text():
    text = render_yaml(crd_documents())
    assert list(yaml.safe_load_all(text)) == crd_documents()
    assert [yaml.safe_load(file) for file in crd_files().values()] == crd_documents()
    mode = root_schema(crd_documents()[0])["properties"]["spec"]["properties"]["mode"]
    assert mode["enum"] == ["Off", "Recommend", "Auto"]
    assert "'Off'" in text


class Strange(ApiModel):
    above: Annotated[int, Field(gt=0)]


class Union(ApiModel):
    either: int | str


@pytest.mark.parametrize("model", [Strange, Union])
def test_constraint_without_equivalent_is_an_error(model):
    with pytest.raises(ValueError):  # noqa: PT011 - which keyword it is depends on pydantic
        structural_schema(model, with_defaults=True)
