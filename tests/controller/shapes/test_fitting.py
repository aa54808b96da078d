import pytest

from dynawatt.adapters.vllm_args import VllmSettings
from dynawatt.controller.shapes.fitting import ShapeLimits, shape_refusals
from dynawatt.controller.shapes.shape import Shape

from .manifests import changed, one_gpu

H100, H200 = "NVIDIA-H100-80GB-HBM3", "NVIDIA-H200"
LLAMA_70B = ShapeLimits(
    largest_node_gpus=8, attention_heads=64, kv_heads=8, context_tokens=131072, kv_capacity_tokens=200_000
)


def reasons(shape, limits=LLAMA_70B, deployment=None, **settings):
    values = {"model": "m", "served_model_names": ("m",), **settings}
    found = shape_refusals(deployment or one_gpu(), VllmSettings(**values), shape, limits)
    return {str(refusal.reason): refusal.message for refusal in found}


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_sizes_that_fit(size):
    assert reasons(Shape(size)) == {}


def test_nothing_known_bounds_nothing():
    assert reasons(Shape(48, gpu_product=H100), ShapeLimits()) == {}


@pytest.mark.parametrize(
    ("shape", "limits", "settings", "reason", "message"),
    [
        (Shape(16), {}, {}, "LargerThanAnyNode", "may run on has 8: take 16 out of `tensorParallelSizes`"),
        (Shape(3), {}, {}, "HeadsNotDivisible", "does not divide the model's 64 attention heads"),
        (Shape(8), {"attention_heads": 24, "kv_heads": 3}, {}, "HeadsNotDivisible", "3 key-value heads"),
        (Shape(8), {"attention_heads": 64, "kv_heads": 4}, {}, None, ""),  # copied twice
        (Shape(2), {"kv_capacity_tokens": 90_000}, {}, "ContextDoesNotFit", "the model's context"),
        (Shape(2), {"kv_capacity_tokens": 131072}, {}, None, ""),
        (Shape(2), {"kv_capacity_tokens": 90_000}, {"max_model_len": 90_000}, None, ""),
        (
            Shape(2),
            {"kv_capacity_tokens": 90_000},
            {"max_model_len": 90_001},
            "ContextDoesNotFit",
            "`--max-model-len` is 90001 tokens, and the KV cache at tensor-parallel size 2 holds 90000: set "
            "`--max-model-len` to at most 90000",
        ),
        (Shape(2), {"kv_capacity_tokens": 9, "context_tokens": None}, {}, None, ""),
        (Shape(2, max_num_batched_tokens=128), {}, {"max_num_seqs": 256}, "BatchTooSmall", "128 is below"),
        (Shape(2, max_num_batched_tokens=128, max_num_seqs=128), {}, {"max_num_seqs": 256}, None, ""),
        (Shape(2, max_num_seqs=4096), {}, {"max_num_batched_tokens": 2048}, "BatchTooSmall", "`--max-num-seqs` 4096"),
    ],
)
def test_what_does_not_fit(shape, limits, settings, reason, message):
    found = reasons(shape, LLAMA_70B._replace(**limits), **settings)
    assert list(found) == ([reason] if reason else [])
    assert message in "".join(found.values())


def affinity(*terms):
    required = {"nodeSelectorTerms": [{"matchExpressions": [term]} for term in terms]}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}}


def product(operator, *values):
    return {"key": "nvidia.com/gpu.product", "operator": operator} | ({"values": list(values)} if values else {})


@pytest.mark.parametrize(
    ("pod_fields", "admitted"),
    [
        ({}, True),
        ({"nodeSelector": {"nvidia.com/gpu.product": H100, "pool": "a"}}, True),
        ({"nodeSelector": {"nvidia.com/gpu.product": H200}}, False),
        (affinity(product("In", H200, H100)), True),
        (affinity(product("In", H200)), False),
        (affinity(product("In", H200), product("Exists")), True),
        (affinity(product("NotIn", H100)), False),
        (affinity(product("NotIn", H200)), True),
        (affinity(product("DoesNotExist")), False),
        (affinity({"key": "pool", "operator": "In", "values": ["a"]}), True),
    ],
)
def test_nodes_that_the_template_keeps_pods_from(pod_fields, admitted):
    found = reasons(Shape(2, gpu_product=H100), deployment=changed(one_gpu(), **pod_fields))
    assert list(found) == ([] if admitted else ["GPUNotAdmitted"])
    assert reasons(Shape(2), deployment=changed(one_gpu(), **pod_fields)) == {}
