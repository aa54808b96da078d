import contextlib
import dataclasses
import itertools
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.adapters.vllm_args import VllmPodError, VllmSettings, find_vllm_container, vllm_settings, with_flags

MODEL = "meta-llama/Llama-3.1-70B-Instruct"
MODULE = "vllm.entrypoints.openai.api_server"


def container(**fields):
    return {"name": "vllm", "image": "vllm/vllm-openai:v0.32.0", **fields}


@pytest.mark.parametrize(
    "fields",
    [
        {"command": ["vllm", "serve", MODEL, "-tp", "4"]},
        {"command": ["/usr/local/bin/vllm", "serve"], "args": [MODEL, "--tensor-parallel-size=4"]},
        {"command": ["vllm"], "args": ["serve", MODEL, "--tensor_parallel_size", "4"]},
        {"command": ["python3", "-m", MODULE], "args": ["--model", MODEL, "-tp=4"]},
        {"command": ["python3", "-m", MODULE, f"--model={MODEL}", "--tensor_parallel_size=4"]},
        {"command": ["tini", "--", "vllm", "serve", MODEL, "-tp", "4"]},
        {"args": [MODEL, "--tensor-parallel-size", "4"]},
        {"args": ["--model", MODEL, "--tensor-parallel-size", "4"]},
        {"args": ["serve", MODEL, "--tensor-parallel-size", "4"]},
        {"args": ["--enforce-eager", "--tensor-parallel-size", "4", "--model", MODEL]},
        {"args": [MODEL, "-tp", "2", "--seed", "-1", "--tensor-parallel-size", "4"]},
        {
            "args": ["$(MODEL)", "-tp", "$(TP)"],
            "env": [{"name": "MODEL", "value": MODEL}, {"name": "TP", "value": "4"}],
        },
        {"command": ["sh", "-c", f"exec vllm serve {MODEL} -tp 4"]},
        {"command": ["/bin/bash", "-lc"], "args": [f"vllm serve {MODEL} \\\n  --tensor-parallel-size 4\n"]},
    ],
)
def test_model_and_tensor_parallelism_in_every_form(fields):
    settings = vllm_settings(container(**fields))
    assert (settings.model, settings.tensor_parallel_size) == (MODEL, 4)
    assert settings.served_model_name == MODEL
    assert settings.in_shell == (fields.get("command", [""])[0] in ("sh", "/bin/bash"))
    assert find_vllm_container({"containers": [container(**fields)]})["name"] == "vllm"


def test_all_settings():
    text = (
        f"{MODEL} --served-model-name big large --port 9000 --shutdown-timeout 45 --max-num-batched-tokens 2K "
        "--max-num-seqs 128 --max-model-len 8k --dtype bfloat16 -q fp8 -pp 2 --data-parallel-size 3 "
        "--long-prefill-token-threshold 1k --scheduling-policy priority --kv-cache-dtype fp8 "
        "--gpu_memory_utilization .95 --load-format runai_streamer --nnodes 2"
    )
    assert vllm_settings(container(args=text.split())) == VllmSettings(
        model=MODEL,
        served_model_names=("big", "large"),
        tensor_parallel_size=1,
        pipeline_parallel_size=2,
        data_parallel_size=3,
        max_num_batched_tokens=2048,
        max_num_seqs=128,
        max_model_len=8000,
        long_prefill_token_threshold=1000,
        scheduling_policy="priority",
        shutdown_timeout_s=45.0,
        port=9000,
        dtype="bfloat16",
        quantization="fp8",
        kv_cache_dtype="fp8",
        gpu_memory_utilization=0.95,
        load_format="runai_streamer",
        nodes=2,
    )


def test_defaults():
    text = "--max-model-len auto --long-prefill-token-threshold 0 --kv-cache-dtype auto --load-format=auto"
    settings = vllm_settings(container(args=[MODEL, *text.split()]))
    assert settings == VllmSettings(model=MODEL, served_model_names=(MODEL,))
    assert (settings.port, settings.shutdown_timeout_s, settings.max_model_len) == (8000, 0.0, None)


@pytest.mark.parametrize(
    ("fields", "reason", "message"),
    [
        ({"command": ["sh", "-c", f"sleep 1; vllm serve {MODEL}"]}, "ShellCommand", "only one plain command"),
        ({"command": ["sh", "-c", f"vllm serve {MODEL} -tp $TP"]}, "ShellCommand", "only one plain command"),
        ({"command": ["sh", "-c", f"vllm serve {MODEL}\nrm x"]}, "ShellCommand", "only one plain command"),
        ({"command": ["sh", "-c", f"vllm serve '{MODEL}"]}, "ShellCommand", "quotation"),
        ({"command": ["bash", "/start.sh"]}, "ShellCommand", "script"),
        ({"command": ["sleep", "infinity"]}, "NoVllmContainer", "sleep infinity"),
        ({"args": ["--config", "/etc/vllm.yaml"]}, "ConfigFile", "/etc/vllm.yaml"),
        ({"args": ["--port", "8000"]}, "InvalidArguments", "no model"),
        ({"args": [MODEL, "-tp", "two"]}, "InvalidArguments", "'two': must be a positive whole number"),
        ({"args": [MODEL, "-tp", "0"]}, "InvalidArguments", "'0'"),
        ({"args": [MODEL, "--max-num-seqs"]}, "InvalidArguments", "no value"),
        ({"args": [MODEL, "-tp", "$(TP)"]}, "InvalidArguments", "variable"),
        ({"args": [MODEL, "--shutdown-timeout", "-5"]}, "InvalidArguments", "'-5': must be a number of seconds"),
        (
            {"args": [MODEL, "--gpu-memory-utilization", "90"]},
            "InvalidArguments",
            "'90': must be above 0 and at most 1",
        ),
        ({"args": [MODEL, "--gpu-memory-utilization", "0.0"]}, "InvalidArguments", "'0.0'"),
        ({"args": [MODEL, "--gpu-memory-utilization", "high"]}, "InvalidArguments", "'high'"),
        ({"args": [MODEL, "--long-prefill-token-threshold=half"]}, "InvalidArguments", "'half'"),
    ],
)
def test_refusals_name_the_reason(fields, reason, message):
    with pytest.raises(VllmPodError) as caught:
        vllm_settings(container(**fields))
    assert caught.value.reason == reason
    assert message.lower() in str(caught.value).lower()


PROXY = {"name": "proxy", "image": "envoy:1.40"}
SLEEPER = {"name": "idle", "image": "vllm/vllm-openai", "command": ["sleep", "1"]}


@pytest.mark.parametrize(
    ("containers", "name", "found"),
    [
        ([PROXY, container()], None, "vllm"),
        ([PROXY, container(), SLEEPER], None, "vllm"),
        ([PROXY, container(), container(name="second")], "second", "second"),
        ([PROXY, container()], "proxy", "proxy"),
        ([PROXY, {"name": "custom", "image": "x/y@sha256:0", "command": ["vllm", "serve", MODEL]}], None, "custom"),
        ([PROXY, {"name": "shell", "image": "x", "command": ["sh", "-c", f"a; vllm serve {MODEL}"]}], None, "shell"),
    ],
)
def test_finds_the_vllm_container(containers, name, found):
    assert find_vllm_container({"containers": containers}, name)["name"] == found


@pytest.mark.parametrize(
    ("containers", "name", "reason"),
    [
        ([PROXY], None, "NoVllmContainer"),
        ([], None, "NoVllmContainer"),
        ([container(), container(name="second")], None, "AmbiguousContainer"),
        ([container()], "other", "ContainerNotFound"),
    ],
)
def test_refuses_what_is_missing_or_ambiguous(containers, name, reason):
    with pytest.raises(VllmPodError) as caught:
        find_vllm_container({"containers": containers}, name)
    assert caught.value.reason == reason


FLAGS = {
    "--tensor-parallel-size": "tensor_parallel_size",
    "--max-num-batched-tokens": "max_num_batched_tokens",
    "--max-num-seqs": "max_num_seqs",
    "--max-model-len": "max_model_len",
    "--port": "port",
}


@given(
    st.lists(st.tuples(st.sampled_from(sorted(FLAGS)), st.integers(1, 10**6), st.booleans(), st.booleans())),
    st.booleans(),
)
def test_last_occurrence_wins_in_any_spelling(given_flags, in_shell):
    args = [MODEL]
    for flag, value, joined, underscores in given_flags:
        spelled = "--" + flag[2:].replace("-", "_") if underscores else flag
        args += [f"{spelled}={value}"] if joined else [spelled, str(value)]
    command = ["sh", "-c", shlex.join(["vllm", "serve", *args])] if in_shell else ["vllm", "serve", *args]
    settings = vllm_settings(container(command=command))
    for flag, value in {flag: value for flag, value, *_ in given_flags}.items():
        assert getattr(settings, FLAGS[flag]) == value


@given(st.lists(st.text(max_size=20), max_size=6), st.lists(st.text(max_size=20), max_size=6))
def test_any_words_are_read_or_refused(command, args):
    with contextlib.suppress(VllmPodError):
        assert vllm_settings(container(command=command, args=args)).model


@given(
    st.lists(st.tuples(st.sampled_from(sorted(FLAGS)), st.integers(1, 10**6)), max_size=4),
    st.dictionaries(st.sampled_from(sorted(FLAGS)), st.integers(1, 10**6), min_size=1),
    st.sampled_from(["args", "command", "both"]),
)
def test_added_flags_overrule_and_nothing_else_changes(given_flags, added, place):
    words = [MODEL, *itertools.chain(*((flag, str(value)) for flag, value in given_flags)), "-tp", "3"]
    before = {
        "args": container(args=words),
        "command": container(command=["vllm", "serve", *words]),
        "both": container(command=["vllm", "serve"], args=words),
    }[place]
    after = with_flags(before, added)
    settings, expected = vllm_settings(after), dataclasses.asdict(vllm_settings(before))
    assert dataclasses.asdict(settings) == expected | {FLAGS[flag]: value for flag, value in added.items()}
    changed = "command" if place == "command" else "args"
    assert after | {changed: before[changed]} == before
    assert vllm_settings(before).tensor_parallel_size == 3


@pytest.mark.parametrize(
    ("fields", "reason", "message"),
    [
        ({"command": ["sh", "-c", f"exec vllm serve {MODEL}"]}, "ShellCommand", "as a list"),
        ({"command": ["bash", "/start.sh"]}, "ShellCommand", "script"),
        ({"args": [MODEL, "--", "x"]}, "InvalidArguments", "after `--`"),
        ({}, "InvalidArguments", "give them under `args`"),
    ],
)
def test_where_no_flag_can_be_added(fields, reason, message):
    with pytest.raises(VllmPodError) as caught:
        with_flags(container(**fields), {"--tensor-parallel-size": 2})
    assert caught.value.reason == reason
    assert message in str(caught.value)


def test_a_wrapper_before_vllm_may_have_its_own_dashes():
    wrapped = container(command=["tini", "--", "vllm", "serve", MODEL])
    assert with_flags(wrapped, {"-tp": 2})["command"] == ["tini", "--", "vllm", "serve", MODEL, "-tp=2"]
