import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.api.group import SHAPE_LABEL
from dynawatt.controller.shapes.shape import SHAPE_ANNOTATION, Shape, shape_of, sibling_name
from dynawatt.errors import InvalidInputError

numbers = st.none() | st.integers(1, 10**6)
shapes = st.builds(
    Shape,
    st.integers(1, 64),
    max_num_batched_tokens=numbers,
    long_prefill_token_threshold=st.none() | st.integers(0, 10**6),
    max_num_seqs=numbers,
    gpu_product=st.none() | st.from_regex(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", fullmatch=True),
)


@pytest.mark.parametrize(
    ("shape", "text", "digest"),
    [
        (Shape(4), "tensor-parallel-size=4", "1cd6bd"),
        (
            Shape(2, max_num_batched_tokens=1024, long_prefill_token_threshold=0, max_num_seqs=256, gpu_product="A"),
            "tensor-parallel-size=2 max-num-batched-tokens=1024 long-prefill-token-threshold=0 max-num-seqs=256 "
            "gpu-product=A",
            "2a3455",
        ),
    ],
)
def test_text_and_digest_are_those_of_every_version(shape, text, digest):
    assert (str(shape), shape.digest) == (text, digest)


@given(shapes)
def test_a_shape_is_read_back_from_its_sibling(shape):
    metadata = {"name": "x", "labels": shape.labels, "annotations": {SHAPE_ANNOTATION: str(shape)}}
    assert shape_of({"metadata": metadata}) == shape


def test_other_deployments_have_no_shape():
    assert shape_of({"metadata": {"name": "x", "labels": {"app": "x"}}}) is None
    assert shape_of({"metadata": {"name": "x"}}) is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "must name a tensor-parallel-size"),
        ("max-num-seqs=4", "must name a tensor-parallel-size"),
        ("tensor-parallel-size=4 kv-cache-dtype=fp8", "'kv-cache-dtype=fp8' is not known; update the operator"),
        ("tensor-parallel-size=four", "'tensor-parallel-size=four'"),
        ("tensor-parallel-size=0", "must be at least 1"),
        ("tensor-parallel-size=2", "the label is '1cd6bd': must be"),
    ],
)
def test_edited_siblings_are_refused_by_name(text, problem):
    annotations = {} if text is None else {SHAPE_ANNOTATION: text}
    deployment = {"metadata": {"name": "x", "labels": {SHAPE_LABEL: Shape(4).digest}, "annotations": annotations}}
    with pytest.raises(InvalidInputError, match=re.escape(problem)) as caught:
        shape_of(deployment)
    assert "Deployment 'x'" in str(caught.value)


@pytest.mark.parametrize("fields", [{"tensor_parallel_size": 0}, {"tensor_parallel_size": 1, "max_num_seqs": 0}])
def test_numbers_that_vllm_refuses(fields):
    with pytest.raises(InvalidInputError, match="must be at least 1"):
        Shape(**fields)


def test_flags():
    shape = Shape(4, max_num_seqs=64, long_prefill_token_threshold=0, gpu_product="NVIDIA-H100-80GB-HBM3")
    assert shape.flags == {
        "--tensor-parallel-size": 4,
        "--long-prefill-token-threshold": 0,
        "--max-num-seqs": 64,
    }


@pytest.mark.parametrize(
    ("deployment", "name"),
    [
        ("llama-70b", "llama-70b-1cd6bd"),
        ("llama-3.1", "llama-3.1-1cd6bd"),
        ("a" * 50, "a" * 50 + "-1cd6bd"),
        ("a" * 42 + "." + "b" * 20, "a" * 42 + "-c7e232-1cd6bd"),
    ],
)
def test_sibling_name(deployment, name):
    assert sibling_name(deployment, Shape(4)) == name


deployment_names = st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,250}[a-z0-9])?", fullmatch=True)


@given(deployment_names, shapes)
def test_sibling_names_are_valid_and_show_their_shape(deployment, shape):
    name = sibling_name(deployment, shape)
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", name)
    assert name.endswith(f"-{shape.digest}")
    assert len(name) <= 57


@given(st.from_regex(r"[a-z]{60}", fullmatch=True), st.from_regex(r"[a-z]{1,60}", fullmatch=True))
def test_long_names_that_begin_alike_stay_apart(common, rest):
    assert sibling_name(common, Shape(4)) != sibling_name(common + rest, Shape(4))
