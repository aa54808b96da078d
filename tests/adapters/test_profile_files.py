import json
from dataclasses import replace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.adapters.profile_files import (
    ProfileDirectory,
    find_replica,
    read_model_config,
    read_profile,
    shipped_profiles,
    write_profile,
)
from dynawatt.adapters.vllm_args import default_max_num_batched_tokens, default_max_num_seqs
from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.architectures import ARCHITECTURES, UnknownModelError
from dynawatt.perfmodel.catalog import UnknownProfileError, check_engine_range, profile_name
from dynawatt.perfmodel.gpus import H100_SXM
from dynawatt.perfmodel.profile import (
    ModelProfile,
    PowerCoefficients,
    Residual,
    ShapeCoefficients,
    StepCoefficients,
    WorkCoefficients,
)

TOKENS = (1, 64, 4096)
REQUESTS = (0, 1, 256)


def values(low, high, count=3):
    return st.tuples(*[st.floats(low, high) for _ in range(count)])


STEPS = st.builds(
    StepCoefficients,
    reference_clock_mhz=st.sampled_from([1980, 1005]),
    overlap_norm=st.floats(1, 100),
    tokens=st.just(TOKENS),
    memory_s=values(1e-6, 10),
    compute_s=values(0, 10),
    communication_s=values(0, 1),
    requests=st.just(REQUESTS),
    attention_s=values(0, 1),
    attention_context_s=values(0, 1e-6),
    attention_compute_share=st.floats(0, 1),
    pair_s=st.floats(0, 1e-6),
    iteration_overhead_s=st.floats(0, 1),
    request_overhead_s=st.floats(0, 1e-3),
)
WORK = st.builds(
    WorkCoefficients,
    flops=values(0, 1e18),
    bytes=values(0, 1e15),
    link_bytes=values(0, 1e12),
    context_bytes=st.floats(0, 1e7),
    context_flops=st.floats(0, 1e9),
    pair_flops=st.floats(0, 1e9),
)
# Control characters are no words, and PyYAML does not read back the line breaks of Unicode that it writes.
LINE = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=20)
PROFILES = st.builds(
    ModelProfile,
    name=st.just("some-model"),
    architecture=st.sampled_from([*ARCHITECTURES.values()]),
    precision=st.sampled_from(["bf16", "fp8", "mxfp4"]),
    gpu=st.just(H100_SXM),
    weight_bytes=st.floats(1, 1e13),
    power=st.builds(
        PowerCoefficients,
        j_per_byte=st.floats(0, 1e-9),
        j_per_context_byte=st.floats(0, 1e-9),
        byte_core_share=st.floats(0, 1),
        j_per_flop=st.floats(0, 1e-11),
        j_per_link_byte=st.floats(0, 1e-9),
        j_per_logit=st.floats(0, 1e-6),
        active_static_w=st.floats(0, 500),
        active_clocked_w=st.floats(0, 500),
        clock_band=st.floats(0, 1),
    ),
    shapes=st.dictionaries(
        st.sampled_from([1, 2, 4, 8]), st.builds(ShapeCoefficients, step=STEPS, work=WORK), min_size=1
    ),
    startup_s=st.floats(1, 1000),
    provenance=st.lists(st.text("abc: -#", min_size=1), min_size=1, max_size=3).map(tuple),
    residuals=st.lists(
        st.builds(
            Residual,
            dataset=LINE,
            quantity=st.sampled_from(["decode_step", "power"]),
            points=st.integers(1, 1000),
            median_abs_error=st.floats(0, 10),
            p90_abs_error=st.floats(0, 10),
            mean_abs_error=st.floats(0, 10),
            held_out=st.booleans(),
        ),
        max_size=2,
    ).map(tuple),
)
PLAIN = ModelProfile(
    name="plain",
    architecture=ARCHITECTURES["llama-3.1-8b"],
    precision="bf16",
    gpu=H100_SXM,
    weight_bytes=16e9,
    power=PowerCoefficients(1e-10, 2e-10, 0.5, 1e-12, 1e-10, 4e-8, 60.0, 40.0, 0.3),
    shapes={
        1: ShapeCoefficients(
            StepCoefficients(
                1980, 1.6, TOKENS, (5e-3,) * 3, (1e-5, 1e-3, 0.1), (0.0,) * 3, REQUESTS, (0.0, 1e-4, 1e-3),
                (0.0, 1e-8, 1e-8), 0.1, 1e-10, 1e-3, 1e-5,
            ),
            WorkCoefficients((1e10, 1e12, 1e14), (16e9,) * 3, (0.0,) * 3, 131072.0, 5e5, 5e5),
        )
    },
    startup_s=120.0,
    provenance=("made for a test",),
    residuals=(),
)  # fmt: skip


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("profiles")


def significant(value):
    """Rounded as in a file."""
    if isinstance(value, float):
        return float(f"{value:.6e}")
    if isinstance(value, tuple):
        return tuple(significant(each) for each in value)
    if isinstance(value, dict):
        return {key: significant(each) for key, each in value.items()}
    if hasattr(value, "__dataclass_fields__") and value is not H100_SXM:
        return type(value)(**{name: significant(getattr(value, name)) for name in value.__dataclass_fields__})
    return value


@given(PROFILES)
def test_what_is_written_is_read_again(directory, profile):
    path = directory / "profile.yaml"
    write_profile(path, profile)
    found = read_profile(path)
    assert found == significant(profile)
    text = path.read_text()
    write_profile(path, found)
    assert path.read_text() == text


def document_with(path, *keys, value):
    """A file like PLAIN's, with one value changed, or removed where ``value`` is ...."""
    write_profile(path, PLAIN)
    document = yaml.safe_load(path.read_text())
    *parents, last = keys
    place = document
    for key in parents:
        place = place[key]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    path.write_text(yaml.safe_dump(document))
    return path


STEP = ("spec", "shapes", 0, "step")
WORK_OF_SHAPE = ("spec", "shapes", 0, "work")


@pytest.mark.parametrize(
    ("keys", "value", "problem"),
    [
        ((*STEP, "memorySeconds", 1), float("nan"), r"memorySeconds\[1\]: nan: must be a finite number"),
        ((*STEP, "memorySeconds", 1), float("inf"), r"memorySeconds\[1\]: inf: must be a finite number"),
        ((*STEP, "memorySeconds", 1), "nan", r"memorySeconds\[1\]: 'nan': must be a finite number"),
        ((*STEP, "memorySeconds", 1), -1e-9, r"memorySeconds\[1\]: -1e-09: must be greater than or equal to 0"),
        ((*STEP, "memorySeconds", 1), 3601, r"must be less than or equal to 3600"),
        ((*STEP, "memorySeconds", 1), True, r"memorySeconds\[1\]: True: must be a number"),
        ((*STEP, "memorySeconds", 1), "fast", r"memorySeconds\[1\]: 'fast': must be a valid number"),
        ((*STEP, "memorySeconds"), [1.0, 1.0], "`memorySeconds` has 2 values: must have as many as `tokens`, 3"),
        ((*STEP, "computeSeconds"), [1.0] * 4, "`computeSeconds` has 4 values: must have as many as `tokens`, 3"),
        ((*STEP, "communicationSeconds"), [1.0] * 4, "`communicationSeconds` has 4 values"),
        ((*STEP, "attentionSeconds"), [1.0] * 4, "`attentionSeconds` has 4 values: must have as many as `requests`"),
        ((*STEP, "attentionSecondsPerContextToken"), [0.0] * 4, "`attentionSecondsPerContextToken` has 4 values"),
        ((*WORK_OF_SHAPE, "flops"), [0.0] * 4, "`work.flops` has 4 values: must have as many as `step.tokens`, 3"),
        ((*WORK_OF_SHAPE, "bytes"), [0.0] * 4, "`work.bytes` has 4 values"),
        ((*WORK_OF_SHAPE, "linkBytes"), [0.0] * 4, "`work.linkBytes` has 4 values"),
        ((*STEP, "tokens"), [1, 64, 64], r"spec.shapes\[0\].step.tokens: .*must be ascending: 64 follows 64"),
        ((*STEP, "tokens"), [2, 64, 128], "`tokens` must begin with 1, not 2"),
        ((*STEP, "requests"), [1, 2, 3], "`requests` must begin with 0, not 1"),
        ((*STEP, "referenceClockMegahertz"), 2000, "`referenceClockMegahertz` 2000 must be within the clocks of `gpu`"),
        ((*STEP, "overlapNorm"), 0.9, "overlapNorm: 0.9: must be greater than or equal to 1"),
        ((*STEP, "attentionComputeShare"), 1.1, "must be less than or equal to 1"),
        ((*STEP, "pairSeconds"), 1, "pairSeconds: is not a known field"),
        ((*STEP, "secondsPerPair"), ..., "secondsPerPair: must be given"),
        (("spec", "power", "clockBand"), -0.1, "spec.power.clockBand: -0.1: must be greater than or equal to 0"),
        (("spec", "precision"), "int4", "spec.precision: 'int4': must be 'bf16', 'fp8' or 'mxfp4'"),
        (("spec", "gpu", "name"), "h100", "GPU 'h100' is not known"),
        (("spec", "gpu", "maxMegahertz"), 2100, "derive the profile again"),
        (("spec", "gpu", "minMegahertz"), 1995, "`minMegahertz` must be at most `maxMegahertz`"),
        (("spec", "architecture", "kvHeads"), 7, "`kvHeads` 7 must divide `heads` 32"),
        (("spec", "architecture", "expertsPerToken"), 2, "`expertsPerToken` 2 must be at most `experts` 1"),
        (("spec", "architecture", "layers"), 0, "spec.architecture.layers: 0: must be greater than or equal to 1"),
        (("spec", "weightBytes"), 0, "spec.weightBytes: 0: must be greater than 0"),
        (("spec", "shapes"), [], "spec.shapes"),
        (("spec", "shapes", 0, "tensorParallelSize"), 3, "`tensorParallelSize` 3 must divide `heads` 32"),
        (("kind",), "LLMService", "kind: 'LLMService': must be 'ModelProfile'"),
        (("apiVersion",), ..., "apiVersion: must be given"),
        (("metadata", "name"), "A_b", "metadata.name: 'A_b': must be a DNS-1123 name"),
    ],
)
def test_a_malformed_profile_is_refused_with_file_field_and_bound(tmp_path, keys, value, problem):
    path = document_with(tmp_path / "bad.yaml", *keys, value=value)
    with pytest.raises(InvalidInputError, match=problem) as caught:
        read_profile(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_an_iteration_takes_time(tmp_path):
    path = document_with(tmp_path / "bad.yaml", *STEP, "memorySeconds", value=[0.0, 1.0, 1.0])
    document = yaml.safe_load(path.read_text())
    document["spec"]["shapes"][0]["step"]["computeSeconds"][0] = 0.0
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(InvalidInputError, match="must not both be 0"):
        read_profile(path)


def test_shapes_stand_once_and_in_order(tmp_path):
    path = tmp_path / "bad.yaml"
    write_profile(path, replace(PLAIN, shapes=dict.fromkeys((1, 2), PLAIN.shapes[1])))
    document = yaml.safe_load(path.read_text())
    document["spec"]["shapes"].reverse()
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(InvalidInputError, match=r"`shapes` must be ascending in `tensorParallelSize`.*\[2, 1\]"):
        read_profile(path)


def test_numbers_as_go_writes_them(tmp_path):
    path = tmp_path / "profile.yaml"
    write_profile(path, PLAIN)
    path.write_text(path.read_text().replace("1.0e-05", "1e-05"))
    assert read_profile(path) == PLAIN


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"spec: [", "is not YAML"),
        (b"\xff\xfe\xff", "is not YAML"),
        (b"", "must be"),
        (b"- 1", "must be"),
        (None, "No such file"),
    ],
)
def test_files_that_are_no_profile(tmp_path, content, problem):
    path = tmp_path / "profile.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=problem) as caught:
        read_profile(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"weight_bytes": float("nan")}, "weight_bytes: nan: must be a finite number"),
        ({"startup_s": -1.0}, "start_up_seconds: -1.0: must be greater than 0"),
        ({"precision": "int4"}, "precision"),
        ({"provenance": ()}, "provenance"),
    ],
)
def test_what_could_not_be_read_is_not_written(tmp_path, change, problem):
    with pytest.raises(InvalidInputError, match=f"profile plain: {problem}"):
        write_profile(tmp_path / "profile.yaml", replace(PLAIN, **change))
    assert not (tmp_path / "profile.yaml").exists()


def test_only_the_wanted_file_is_read(tmp_path):
    write_profile(tmp_path / "plain.yaml", PLAIN)
    (tmp_path / "broken.yaml").write_text("spec: [")
    profiles = ProfileDirectory(tmp_path)
    assert list(profiles) == ["broken", "plain"]
    assert profiles["plain"] == PLAIN
    (tmp_path / "plain.yaml").unlink()
    assert profiles["plain"] == PLAIN
    with pytest.raises(InvalidInputError, match=r"broken\.yaml: is not YAML"):
        profiles["broken"]
    with pytest.raises(KeyError):
        profiles["../plain"]


def test_a_file_is_named_as_its_profile(tmp_path):
    write_profile(tmp_path / "other.yaml", PLAIN)
    with pytest.raises(InvalidInputError, match=r"metadata\.name: 'plain': must be 'other'"):
        ProfileDirectory(tmp_path)["other"]


@pytest.mark.parametrize("name", [*shipped_profiles()])
def test_shipped_profiles_are_whole(name):
    profile = shipped_profiles()[name]
    assert profile.architecture == ARCHITECTURES[profile.architecture.name]
    for size in profile.tensor_parallel_sizes:
        replica = profile.replica(size)
        assert replica.kv_capacity_tokens > 0
        if name == profile_name(profile.architecture.name, profile.precision, profile.gpu.name):
            tokens = default_max_num_batched_tokens(profile.gpu)
            requests = default_max_num_seqs(profile.gpu, tokens)
            check_engine_range(replica, max_num_batched_tokens=tokens, max_num_seqs=requests)


def test_shipped_files_are_below_100_kb():
    from importlib.resources import files

    sizes = {path.name: len(path.read_bytes()) for path in (files("dynawatt") / "profiles").iterdir()}
    assert max(sizes.values()) < 100_000


@pytest.mark.parametrize(
    ("model", "tensor_parallel", "profile"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", 1, "llama-3.1-8b-bf16-h100-sxm-tp1"),
        ("meta-llama/Llama-3.3-70B-Instruct", 4, "llama-3.1-70b-bf16-h100-sxm-tp4"),
        ("someone/llama-3.1-70b-finetune", 8, "llama-3.1-70b-bf16-h100-sxm-tp8"),
        ("llama-3.1-70b-bf16-h100-sxm", 8, "llama-3.1-70b-bf16-h100-sxm-tp8"),
    ],
)
def test_replicas_are_found(model, tensor_parallel, profile):
    found = find_replica(model, "NVIDIA-H100-80GB-HBM3", tensor_parallel)
    assert (found.name, found.tensor_parallel, found.gpu) == (profile, tensor_parallel, H100_SXM)


def test_a_quantised_model_gets_another_profile():
    plain, flagged, named = (
        find_replica("meta-llama/Llama-3.1-8B", "h100-sxm", 1),
        find_replica("meta-llama/Llama-3.1-8B", "h100-sxm", 1, quantization="fp8"),
        find_replica("RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8", "h100-sxm", 1),
    )
    assert flagged.name == named.name == "llama-3.1-8b-fp8-h100-sxm-tp1"
    assert plain.kv_capacity_tokens < flagged.kv_capacity_tokens


def test_the_context_is_the_models_own():
    contexts = [
        find_replica(model, "h100-sxm", 1).model.architecture.context_tokens
        for model in ("meta-llama/Meta-Llama-3-8B", "meta-llama/Llama-3.1-8B")
    ]
    assert contexts == [8192, 131072]


@pytest.mark.parametrize(
    ("model", "gpu", "tensor_parallel", "error", "problem"),
    [
        ("nobody/knows-1b", "h100-sxm", 1, UnknownModelError, "no profile for model 'nobody/knows-1b'"),
        ("Llama-3.1-8B-AWQ", "h100-sxm", 1, InvalidInputError, "no profile for weights in awq"),
        ("Llama-3.1-8B", "h1000", 1, InvalidInputError, "GPU 'h1000' is not known: nearest h100-sxm"),
        ("Llama-3.1-70B", "h100-sxm", 1, UnknownProfileError, "does not fit on 1 x h100-sxm: needs at least 2 GPUs"),
        ("Llama-3.1-8B", "h100-sxm", 3, InvalidInputError, "tensor parallelism 3 of llama-3.1-8b-bf16-h100-sxm"),
        ("Llama-3.1-8B", "h100-sxm", 0, InvalidInputError, "tensor parallelism 0"),
        ("llama-3.1-8b-bf16-h100-sxm", "h200-sxm", 1, UnknownProfileError, "is of h100-sxm, not of h200-sxm"),
    ],
)
def test_what_has_no_replica(model, gpu, tensor_parallel, error, problem):
    with pytest.raises(error, match=problem):
        find_replica(model, gpu, tensor_parallel)


def llama_8b_config(**changes):
    return {
        "hidden_size": 4096, "intermediate_size": 14336, "max_position_embeddings": 32768, "num_attention_heads": 32,
        "num_hidden_layers": 32, "num_key_value_heads": 8, "vocab_size": 128264, "torch_dtype": "bfloat16", **changes,
    }  # fmt: skip


def test_a_finetune_by_its_config(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(llama_8b_config()))
    found = find_replica(read_model_config(path), "h100-sxm", 2)
    assert found.name == "llama-3.1-8b-bf16-h100-sxm-tp2"
    assert found.model.architecture.context_tokens == 32768


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "is not JSON"),
        ("[]", "must be a JSON object, not list"),
        (json.dumps(llama_8b_config(num_hidden_layers=31)), "nearest is llama-3.1-8b, whose layers is 32, not 31"),
        (json.dumps(llama_8b_config(hidden_size=None)), "hidden_size must be given"),
    ],
)
def test_configs_that_tell_nothing(tmp_path, content, problem):
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(InvalidInputError, match=problem) as caught:
        read_model_config(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_config_without_a_field_is_named_once(tmp_path):
    path = tmp_path / "config.json"
    path.write_text("{}")
    with pytest.raises(InvalidInputError, match=r"config\.json: \w+ must be given") as raised:
        read_model_config(path)
    assert str(raised.value).count("config.json") == 1


def test_a_config_that_is_not_there(tmp_path):
    with pytest.raises(InvalidInputError, match="No such file"):
        read_model_config(tmp_path / "config.json")
