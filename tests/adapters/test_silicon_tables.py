import importlib.metadata
import socket

import pytest

from dynawatt.adapters.silicon_tables import REPOSITORIES, SiliconModel, package_version
from dynawatt.errors import InvalidInputError, OperationError
from dynawatt.perfmodel.derivation.measured import Kind

LLAMA = REPOSITORIES["llama-3.1-8b"]


def test_a_missing_package_says_how_to_install_it(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(OperationError, match=r"not installed: pip install 'dynawatt\[profiles\]'"):
        package_version()
    with pytest.raises(OperationError, match="not installed"):
        SiliconModel(LLAMA, "h100-sxm", "bf16", 1)


def test_an_unknown_precision_is_refused_before_anything_is_loaded():
    with pytest.raises(InvalidInputError, match="precision 'int3': must be one of bf16, fp8, mxfp4"):
        SiliconModel(LLAMA, "h100-sxm", "int3", 1)


class TestWithThePackage:
    @pytest.fixture(autouse=True)
    def _package(self, monkeypatch):
        pytest.importorskip("aiconfigurator_core")

        def no_network(*arguments):
            raise AssertionError("nothing here may reach for the network")

        monkeypatch.setattr(socket, "getaddrinfo", no_network)

    @pytest.fixture
    def engine(self):
        from aiconfigurator_core.sdk.engine import EngineHandle

        return EngineHandle.compile(
            LLAMA, "h100_sxm", "vllm", tp_size=2, kvcache_quant_mode="bfloat16", fmha_quant_mode="bfloat16"
        )

    def test_a_decode_step_is_what_the_package_adds_up(self, engine):
        model = SiliconModel(LLAMA, "h100-sxm", "bf16", 2)
        # The package counts the token that the step generates into the context.
        step_s = sum(op.seconds[0] for op in model.operations((64,))) + model.head_s(64)
        step_s += model.decode_attention_s(64, 1001)
        assert step_s == pytest.approx(engine.decode_step_latency(64, 1000, 2) * 1e-3, rel=1e-3)

    @pytest.mark.parametrize(("tokens", "context"), [(2048, 0), (512, 1024)])
    def test_a_prefill_is_what_the_package_adds_up(self, engine, tokens, context):
        model = SiliconModel(LLAMA, "h100-sxm", "bf16", 2)
        step_s = sum(op.seconds[0] for op in model.operations((tokens,))) + model.head_s(1)
        step_s += model.prefill_attention_s(tokens, context)
        assert step_s == pytest.approx(engine.predict_prefill_latency(1, tokens + context, context) * 1e-3, rel=1e-3)

    def test_operations_know_what_bounds_them(self):
        operations = {op.name: op for op in SiliconModel(LLAMA, "h100-sxm", "bf16", 2).operations((1, 4096))}
        assert operations["ffn2_gemm"].kind is Kind.MATRIX
        assert operations["ar_1"].kind is Kind.LINK
        assert operations["add_norm_1"].kind is Kind.MEMORY
        down = operations["ffn2_gemm"]
        # 32 layers of 7168 x 4096 weights of 2 bytes at 3.35 TB/s; 2 FLOPs for each and token at 989 TFLOP/s.
        weights = 32 * 7168 * 4096
        assert down.ideal_memory_s[0] == pytest.approx(2 * weights / 3.35e12, rel=0.01)
        assert down.ideal_compute_s[1] == pytest.approx(2 * weights * 4096 / 989e12, rel=0.01)
        assert all((down.seconds >= down.ideal_memory_s) & (down.seconds >= down.ideal_compute_s))

    def test_one_gpu_has_no_all_reduce(self):
        links = [op for op in SiliconModel(LLAMA, "h100-sxm", "bf16", 1).operations((64,)) if op.kind is Kind.LINK]
        assert sum(op.seconds[0] for op in links) == 0

    def test_says_what_was_modelled_rather_than_measured(self):
        model = SiliconModel(LLAMA, "h100-sxm", "bf16", 1)
        model.operations((16,))
        assert "add_norm_1" in model.modelled
        assert "qkv_gemm" not in model.modelled

    def test_fp8_streams_weights_in_half_the_time(self):
        def gemm_s(precision):
            operations = SiliconModel(REPOSITORIES["llama-3.1-70b"], "h100-sxm", precision, 4).operations((1,))
            return sum(op.seconds[0] for op in operations if op.name.endswith("_gemm"))

        assert 0.45 < gemm_s("fp8") / gemm_s("bf16") < 0.75

    def test_a_mixture_reads_more_experts_for_more_tokens(self):
        model = SiliconModel(REPOSITORIES["mixtral-8x7b"], "h100-sxm", "bf16", 2)
        (experts,) = (op for op in model.operations((1, 64)) if op.name == "moe")
        assert experts.ideal_memory_s[1] > 2 * experts.ideal_memory_s[0]

    def test_unknown_gpus_and_models_are_refused_in_one_line(self):
        with pytest.raises(InvalidInputError, match=r"no measured tables for .* on 1 x z80") as caught:
            SiliconModel(LLAMA, "z80", "bf16", 1)
        assert "\n" not in str(caught.value)
        with pytest.raises(InvalidInputError, match=r"'acme/model': aiconfigurator-core has no config\.json"):
            SiliconModel("acme/model", "h100-sxm", "bf16", 1)
