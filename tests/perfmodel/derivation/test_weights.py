import pytest

from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.architectures import ARCHITECTURES
from dynawatt.perfmodel.derivation.weights import active_parameters, weight_bytes


@pytest.mark.parametrize(
    ("model", "precision", "published"),
    [
        # Sizes of the checkpoints on Hugging Face: meta-llama, neuralmagic's FP8, mistralai, openai.
        ("llama-3.1-8b", "bf16", 16.06e9),
        ("llama-3.1-70b", "fp8", 72.7e9),
        ("mixtral-8x7b", "bf16", 93.4e9),
        ("gpt-oss-120b", "mxfp4", 65.2e9),
    ],
)
def test_bytes_are_those_of_the_published_checkpoint(model, precision, published):
    assert weight_bytes(ARCHITECTURES[model], precision) == pytest.approx(published, rel=0.02)


@pytest.mark.parametrize(
    ("model", "published"), [("mixtral-8x7b", 12.9e9), ("gpt-oss-120b", 5.1e9), ("llama-3.1-70b", 70.6e9)]
)
def test_active_parameters_are_the_published_ones(model, published):
    architecture = ARCHITECTURES[model]
    embeddings = 2 * architecture.vocabulary * architecture.hidden
    # Published counts have one or both of embedding and LM head.
    assert published - embeddings - 0.1e9 <= active_parameters(architecture) <= published


def test_unknown_precisions_are_refused():
    with pytest.raises(InvalidInputError, match=r"precision 'int3': must be one of bf16, fp8, mxfp4"):
        weight_bytes(ARCHITECTURES["llama-3.1-8b"], "int3")
