import pytest

from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.catalog import UnknownProfileError, replica_models


@pytest.mark.parametrize(
    ("model", "tensor_parallel", "profile"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", 1, "llama-3.1-8b-h100-sxm-tp1"),
        ("meta-llama/Meta-Llama-3-8B", 2, "llama-3.1-8b-h100-sxm-tp2"),
        ("meta-llama/Llama-3.3-70B-Instruct", 4, "llama-3.1-70b-h100-sxm-tp4"),
        ("someone/llama-3.1-70b-finetune", 8, "llama-3.1-70b-h100-sxm-tp8"),
    ],
)
def test_models_are_found_by_family_and_size(model, tensor_parallel, profile):
    found = replica_models(model, "NVIDIA-H100-80GB-HBM3", tensor_parallel)
    assert (found.profile, found.tensor_parallel, found.gpu.name) == (profile, tensor_parallel, "h100-sxm")
    assert found.power.released_w == 70


@pytest.mark.parametrize(
    "model",
    [
        "",
        "Qwen/Qwen3-32B",
        "meta-llama/Llama-2-70b-hf",
        "meta-llama/Llama-3.1-405B",
        "x/Llama-3.1-80B",
        "x/llama-3-18b",
    ],
)
def test_an_unknown_model_is_refused_with_what_exists(model):
    with pytest.raises(UnknownProfileError, match=r"profiles exist for llama-3\.1-8b, llama-3\.1-70b") as caught:
        replica_models(model, "h100-sxm", 4)
    assert repr(model) in str(caught.value)


@pytest.mark.parametrize("tensor_parallel", [-1, 0, 3, 16])
def test_impossible_tensor_parallelism(tensor_parallel):
    with pytest.raises(UnknownProfileError, match=f"tensor parallelism {tensor_parallel}: must be 1, 2, 4 or 8"):
        replica_models("Llama-3.1-8B", "h100-sxm", tensor_parallel)


@pytest.mark.parametrize("tensor_parallel", [1, 2])
def test_weights_that_do_not_fit(tensor_parallel):
    with pytest.raises(UnknownProfileError, match=f"llama-3.1-70b does not fit on {tensor_parallel} x h100-sxm"):
        replica_models("Llama-3.1-70B", "h100-sxm", tensor_parallel)


def test_an_unknown_gpu():
    with pytest.raises(InvalidInputError, match="GPU 'a100' is not known"):
        replica_models("Llama-3.1-8B", "a100", 1)


@pytest.mark.parametrize(("model", "kv_bytes_per_token"), [("Llama-3.1-8B", 131_072), ("Llama-3.1-70B", 327_680)])
def test_the_kv_cache_gets_what_weights_leave(model, kv_bytes_per_token):
    smaller, larger = (replica_models(model, "h100-sxm", size).kv_capacity_tokens for size in (4, 8))
    assert (larger - smaller) * kv_bytes_per_token == pytest.approx(4 * (0.9 * 80e9 - 4e9), rel=1e-5)
    assert smaller * kv_bytes_per_token < 4 * 80e9
