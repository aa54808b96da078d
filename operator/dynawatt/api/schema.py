"""From pydantic models to structural schemas, the dialect of JSON Schema that CRDs are written in.

References are inlined, optional fields lose their ``null``, and everything the
API server needs in its own words (list types, CEL rules) comes from the
models' ``json_schema_extra``. A keyword without an equivalent is an error: no
constraint is ever dropped in silence.
"""

import json
import re
from typing import Any, Final

from pydantic import BaseModel

JsonSchema = dict[str, Any]

# In the order they are written in.
_KEPT: Final = (
    "description",
    "type",
    "format",
    "enum",
    "default",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-validations",
    "required",
    "properties",
    "items",
)
# Structural schemas forbid additionalProperties beside properties: the API server refuses unknown fields by itself.
_DROPPED: Final = frozenset({"title", "$defs", "readOnly", "additionalProperties"})


def structural_schema(model: type[BaseModel], *, with_defaults: bool) -> JsonSchema:
    """Schema of a model with camelCase names.

    A status is built without defaults, since the API server would fill them in where the writer left a field out.

    Raises:
        ValueError: A field has no structural equivalent.
    """
    document = model.model_json_schema(by_alias=True, mode="serialization")
    return _structural(document, document.get("$defs", {}), with_defaults=with_defaults)


def _structural(node: JsonSchema, definitions: JsonSchema, *, with_defaults: bool) -> JsonSchema:
    node = _resolved(node, definitions)
    if unknown := node.keys() - _DROPPED - set(_KEPT):
        raise ValueError(f"no structural equivalent of {sorted(unknown)} in {node}")

    def nested(child: JsonSchema) -> JsonSchema:
        return _structural(child, definitions, with_defaults=with_defaults)

    schema: JsonSchema = {key: node[key] for key in _KEPT if key in node}
    if not with_defaults or schema.get("default", "") is None:
        schema.pop("default", None)
    if "description" in schema:
        limits = _limits(schema) if with_defaults else ""
        schema["description"] = _flowing(schema["description"]) + limits
    if "properties" in schema:
        computed = {name for name, child in node["properties"].items() if child.get("readOnly")}
        schema["required"] = [name for name in schema.get("required", []) if name not in computed]
        schema["properties"] = {name: nested(child) for name, child in node["properties"].items()}
        if not schema["required"]:
            del schema["required"]
    if "items" in schema:
        schema["items"] = nested(node["items"])
        schema["items"].pop("description", None)  # kubectl explain would run it into the list's own
    return schema


def _resolved(node: JsonSchema, definitions: JsonSchema) -> JsonSchema:
    """Node with its reference and its ``or null`` replaced by what they stand for; the node's own keys win."""
    if "$ref" in node:
        target = definitions[node["$ref"].rsplit("/", 1)[-1]]
    elif "anyOf" in node:
        (target,) = (option for option in node["anyOf"] if option != {"type": "null"})
    else:
        return node
    own = {key: value for key, value in node.items() if key not in ("$ref", "anyOf")}
    target = _resolved(target, definitions)
    merged = {**target, **own}
    rules = target.get("x-kubernetes-validations", []) + own.get("x-kubernetes-validations", [])
    return {**merged, "x-kubernetes-validations": rules} if rules else merged


def _limits(schema: JsonSchema) -> str:
    """Sentence with range and default, which kubectl explain does not show."""
    parts = []
    if "minimum" in schema and "maximum" in schema:
        parts.append(f"from {schema['minimum']} to {schema['maximum']}")
    if "default" in schema and not isinstance(schema["default"], dict):
        parts.append(f"default {json.dumps(schema['default'])}")
    text = ", ".join(parts)
    return f" {text[0].upper()}{text[1:]}." if text else ""


def _flowing(text: str) -> str:
    """Paragraphs without line breaks inside, so that every reader wraps them as it likes."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text.strip()))
