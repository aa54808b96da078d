"""A shape of a Deployment's replicas, its name, and how a sibling tells which shape it has.

A shape is written out as the vLLM flags it sets, in fixed order. That text is the
annotation from which it is read back, and its hash is the label by which
siblings are selected: neither may change between versions, or siblings of an
older operator would no longer be recognised.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from dynawatt.adapters.kubernetes.client import KubernetesObject
from dynawatt.api.group import GROUP, SHAPE_LABEL
from dynawatt.errors import InvalidInputError

SHAPE_ANNOTATION: Final = SHAPE_LABEL
"""The shape in full, beside the label of the same name that holds its digest."""
TENSOR_PARALLEL_LABEL: Final = f"{GROUP}/tensor-parallel-size"
"""For people: on siblings and their pods, not part of any selector."""

DIGEST_DIGITS: Final = 6
_LONGEST_NAME: Final = 57
"""Pods are named after their ReplicaSet, cut off after 58 characters: the digest stays in their names."""

_FIELDS: Final = {
    "tensor-parallel-size": "tensor_parallel_size",
    "max-num-batched-tokens": "max_num_batched_tokens",
    "long-prefill-token-threshold": "long_prefill_token_threshold",
    "max-num-seqs": "max_num_seqs",
    "gpu-product": "gpu_product",
}
_LEAST: Final = {"long_prefill_token_threshold": 0}


@dataclass(frozen=True, slots=True)
class Shape:
    """What all replicas of one Deployment have in common; None leaves a setting to the template, which may change it.

    Raises InvalidInputError for numbers that vLLM would refuse.
    """

    tensor_parallel_size: int
    max_num_batched_tokens: int | None = None
    long_prefill_token_threshold: int | None = None
    """Most tokens of one prompt per iteration; 0 is no limit."""
    max_num_seqs: int | None = None
    gpu_product: str | None = None
    """As the node label ``nvidia.com/gpu.product`` names it; None for whatever the template's pods run on."""

    def __post_init__(self) -> None:
        """Check every number."""
        for written, name in _FIELDS.items():
            value, least = getattr(self, name), _LEAST.get(name, 1)
            if isinstance(value, int) and value < least:
                raise InvalidInputError(f"shape: {written} is {value}: must be at least {least}")

    def __str__(self) -> str:
        """As ``tensor-parallel-size=4 max-num-batched-tokens=1024``."""
        given = ((written, getattr(self, name)) for written, name in _FIELDS.items())
        return " ".join(f"{written}={value}" for written, value in given if value is not None)

    @property
    def digest(self) -> str:
        """Six hexadecimal digits that tell the shapes of a Deployment apart."""
        return hashlib.sha256(str(self).encode()).hexdigest()[:DIGEST_DIGITS]

    @property
    def flags(self) -> Mapping[str, int]:
        """The vLLM flags that make a replica of it."""
        given = ((f"--{written}", getattr(self, name)) for written, name in _FIELDS.items() if name != "gpu_product")
        return {flag: value for flag, value in given if value is not None}

    @property
    def labels(self) -> Mapping[str, str]:
        """What a sibling and its pods are labelled with; SHAPE_LABEL alone also stands in its selector."""
        return {SHAPE_LABEL: self.digest, TENSOR_PARALLEL_LABEL: str(self.tensor_parallel_size)}

    @classmethod
    def parse(cls, text: str) -> "Shape":
        """Read what ``str`` gave. Raises InvalidInputError."""
        fields: dict[str, int | str] = {}
        for word in text.split():
            written, _, value = word.partition("=")
            name = _FIELDS.get(written)
            if name is None or not value or (name != "gpu_product" and not value.isdecimal()):
                raise InvalidInputError(f"shape {text!r}: {word!r} is not known; update the operator")
            fields[name] = value if name == "gpu_product" else int(value)
        if "tensor_parallel_size" not in fields:
            raise InvalidInputError(f"shape {text!r}: must name a tensor-parallel-size")
        return cls(**fields)  # type: ignore[arg-type]


def shape_of(deployment: KubernetesObject) -> Shape | None:
    """The shape of a sibling; None for any other Deployment. Raises InvalidInputError if it was edited."""
    metadata = deployment["metadata"]
    digest = (metadata.get("labels") or {}).get(SHAPE_LABEL)
    if digest is None:
        return None
    text = (metadata.get("annotations") or {}).get(SHAPE_ANNOTATION, "")
    where = f"Deployment {metadata['name']!r}: annotation {SHAPE_ANNOTATION}"
    try:
        shape = Shape.parse(text)
    except InvalidInputError as error:
        raise InvalidInputError(f"{where}: {error}") from error
    if shape.digest != digest:
        raise InvalidInputError(f"{where} is {text!r}, but the label is {digest!r}: must be {shape.digest!r}")
    return shape


def sibling_name(deployment: str, shape: Shape) -> str:
    """Name of the Deployment that runs a shape of another one: with its digest, and short enough for pod names."""
    name = f"{deployment}-{shape.digest}"
    if len(name) <= _LONGEST_NAME:
        return name
    whole = hashlib.sha256(deployment.encode()).hexdigest()[:DIGEST_DIGITS]
    kept = deployment[: _LONGEST_NAME - 2 * (DIGEST_DIGITS + 1)].rstrip("-.")
    return f"{kept}-{whole}-{shape.digest}"
