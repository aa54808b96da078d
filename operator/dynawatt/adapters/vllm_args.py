"""Reads a pod spec's vLLM container: which one it is and with what settings vLLM starts.

Pure: pod specs are plain dictionaries. Knows ``vllm serve MODEL``, ``python -m
vllm.entrypoints.openai.api_server --model M``, images whose entrypoint is vLLM,
and a single plain command inside ``sh -c``. As in vLLM's own parser the last
occurrence of a flag wins and underscores in flag names count as dashes. What
cannot be read for certain is refused with a reason, never guessed.
"""

import itertools
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final, Literal, TypeAlias

from dynawatt.perfmodel.gpus import GpuSpec

Reason: TypeAlias = Literal[
    "ContainerNotFound", "NoVllmContainer", "AmbiguousContainer", "ShellCommand", "ConfigFile", "InvalidArguments"
]

DEFAULT_PORT: Final = 8000
_LARGE_GPU_BYTES: Final = 70 * 2**30

_MODULE: Final = "vllm.entrypoints.openai.api_server"
_SHELLS: Final = frozenset({"sh", "bash", "dash", "ash", "zsh"})
_SHORT_FLAGS: Final = {
    "-tp": "--tensor-parallel-size",
    "-pp": "--pipeline-parallel-size",
    "-dp": "--data-parallel-size",
    "-q": "--quantization",
}
_VARIABLE: Final = re.compile(r"\$\$|\$\(([A-Za-z_][-.\w]*)\)")
_HUMAN_INTEGER: Final = re.compile(r"(\d+(?:\.\d+)?)([kKmMgG]?)")
_MULTIPLIERS: Final = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "K": 2**10, "M": 2**20, "G": 2**30}


class VllmPodError(ValueError):
    """A pod spec that cannot be read as vLLM; ``reason`` is for conditions, the message for people."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Final = reason


@dataclass(frozen=True, slots=True)
class VllmSettings:
    """What vLLM was started with; None where the flag is absent and vLLM's default depends on model or GPU."""

    model: str
    served_model_names: tuple[str, ...]
    """Every name that requests may use; metrics carry the first."""
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    data_parallel_size: int = 1
    max_num_batched_tokens: int | None = None
    max_num_seqs: int | None = None
    max_model_len: int | None = None
    long_prefill_token_threshold: int = 0
    """Most tokens of one prompt per iteration; 0 is no limit."""
    scheduling_policy: str = "fcfs"
    shutdown_timeout_s: float = 0.0
    """How long in-flight requests may run on after SIGTERM; 0 aborts them."""
    port: int = DEFAULT_PORT
    dtype: str | None = None
    quantization: str | None = None
    kv_cache_dtype: str | None = None
    """None where the cache has the model's own, which ``auto`` asks for."""
    gpu_memory_utilization: float | None = None
    """Fraction of a GPU's memory that vLLM may fill."""
    load_format: str | None = None
    nodes: int = 1
    """Over which one replica is spread."""
    in_shell: bool = False
    """Whether the arguments stand inside a ``sh -c`` string, where nothing can be appended to them."""

    @property
    def served_model_name(self) -> str:
        """The name in metrics and responses."""
        return self.served_model_names[0]


def default_max_num_batched_tokens(gpu: GpuSpec) -> int:
    """Tokens per iteration that vLLM's API server takes where ``--max-num-batched-tokens`` is absent."""
    if gpu.name.startswith("b200"):
        return 16384
    return 8192 if _is_large(gpu) else 2048


def default_max_num_seqs(gpu: GpuSpec, max_num_batched_tokens: int) -> int:
    """Running requests that vLLM's API server takes where ``--max-num-seqs`` is absent."""
    return min(1024 if _is_large(gpu) else 256, max_num_batched_tokens)


def _is_large(gpu: GpuSpec) -> bool:
    """As in ``EngineArgs.get_batch_defaults``, which keeps A100s out: large chunks made them slower (PR #17885)."""
    return gpu.memory_bytes >= _LARGE_GPU_BYTES and not gpu.name.startswith("a100")


def find_vllm_container(pod_spec: Mapping[str, Any], name: str | None = None) -> Mapping[str, Any]:
    """The container called ``name``, or the only one that runs vLLM. Raises VllmPodError."""
    containers: Sequence[Mapping[str, Any]] = pod_spec.get("containers") or ()
    names = ", ".join(container["name"] for container in containers)
    if name is not None:
        found = next((container for container in containers if container["name"] == name), None)
        if found is None:
            raise VllmPodError("ContainerNotFound", f"container {name!r} does not exist: must be one of {names}")
        return found
    candidates = [container for container in containers if _runs_vllm(container)]
    if not candidates:
        raise VllmPodError("NoVllmContainer", f"no container runs vLLM (containers: {names}): name the one that does")
    if len(candidates) > 1:
        several = ", ".join(container["name"] for container in candidates)
        raise VllmPodError("AmbiguousContainer", f"several containers run vLLM ({several}): name the one to use")
    return candidates[0]


def vllm_settings(container: Mapping[str, Any]) -> VllmSettings:
    """Parse a container's command, args and env. Raises VllmPodError."""
    words, in_shell = _engine_words(container)
    flags = _Flags(dict(_flag_values(words)))
    if (config := flags.text("--config")) is not None:
        message = f"`--config {config}` cannot be read from outside: give the settings as arguments"
        raise VllmPodError("ConfigFile", message)
    model = words[0] if words and not words[0].startswith("-") else flags.text("--model")
    if not model:
        raise VllmPodError("InvalidArguments", "no model is named: put it right after `vllm serve` or use `--model`")
    return VllmSettings(
        model=model,
        served_model_names=tuple(flags.values.get("--served-model-name") or (model,)),
        tensor_parallel_size=flags.integer("--tensor-parallel-size") or 1,
        pipeline_parallel_size=flags.integer("--pipeline-parallel-size") or 1,
        data_parallel_size=flags.integer("--data-parallel-size") or 1,
        max_num_batched_tokens=flags.integer("--max-num-batched-tokens"),
        max_num_seqs=flags.integer("--max-num-seqs"),
        max_model_len=flags.integer("--max-model-len"),
        long_prefill_token_threshold=flags.integer("--long-prefill-token-threshold", least=0) or 0,
        scheduling_policy=flags.text("--scheduling-policy") or "fcfs",
        shutdown_timeout_s=flags.seconds("--shutdown-timeout") or 0.0,
        port=flags.integer("--port") or DEFAULT_PORT,
        dtype=flags.text("--dtype"),
        quantization=flags.text("--quantization"),
        kv_cache_dtype=_unless_auto(flags.text("--kv-cache-dtype")),
        gpu_memory_utilization=flags.fraction("--gpu-memory-utilization"),
        load_format=_unless_auto(flags.text("--load-format")),
        nodes=flags.integer("--nnodes") or 1,
        in_shell=in_shell,
    )


def with_flags(container: Mapping[str, Any], flags: Mapping[str, int | str]) -> dict[str, Any]:
    """A container whose vLLM has these flags as well; they overrule the same ones among its own arguments.

    They come last, and of a flag given twice vLLM takes the last (with a line in its log). Raises VllmPodError where
    nothing can be put after the arguments.
    """
    words, in_shell = _engine_words(container)
    if in_shell:
        raise VllmPodError(
            "ShellCommand", "nothing can be added to arguments inside `sh -c`: give vLLM's arguments as a list instead"
        )
    if "--" in words:
        raise VllmPodError("InvalidArguments", "flags after `--` are not read as flags: remove it from the arguments")
    added = [f"{flag}={value}" for flag, value in flags.items()]
    if not container.get("args") and not container.get("command"):
        raise VllmPodError("InvalidArguments", "the image's own arguments cannot be added to: give them under `args`")
    field = "args" if container.get("args") else "command"  # the kubelet runs one after the other
    return {**container, field: [*container[field], *added]}


@dataclass(frozen=True, slots=True)
class _Flags:
    """The last values of every flag; readers give None for an absent flag and refuse one that cannot be read."""

    values: Mapping[str, Sequence[str]]

    def text(self, flag: str) -> str | None:
        if flag not in self.values:
            return None
        if not self.values[flag]:
            raise VllmPodError("InvalidArguments", f"`{flag}` has no value: give one")
        return self.values[flag][0]

    def integer(self, flag: str, *, least: int = 1) -> int | None:
        """A positive integer, also as vLLM's 8k (8,000) or 8K (8,192); ``auto`` is as good as absent."""
        text = self.text(flag)
        if text in (None, "auto", "-1", "None"):
            return None
        match = _HUMAN_INTEGER.fullmatch(text)
        value = float(match[1]) * _MULTIPLIERS[match[2]] if match else -1.0
        if value < least or value != int(value):
            raise _unreadable(flag, text, "a positive whole number")
        return int(value)

    def fraction(self, flag: str) -> float | None:
        text = self.text(flag)
        if text is None:
            return None
        if not re.fullmatch(r"\d*\.?\d+|\d+\.", text) or not 0 < float(text) <= 1:
            raise _unreadable(flag, text, "above 0 and at most 1")
        return float(text)

    def seconds(self, flag: str) -> float | None:
        text = self.text(flag)
        if text is None:
            return None
        if not re.fullmatch(r"\d+(\.\d+)?", text):
            raise _unreadable(flag, text, "a number of seconds")
        return float(text)


def _unreadable(flag: str, text: str, wanted: str) -> VllmPodError:
    hint = ", and `$(...)` must name a variable that this container sets to a plain value" if "$(" in text else ""
    return VllmPodError("InvalidArguments", f"`{flag}` is {text!r}: must be {wanted}{hint}")


def _unless_auto(text: str | None) -> str | None:
    return None if text == "auto" else text


def _runs_vllm(container: Mapping[str, Any]) -> bool:
    command = container.get("command") or ()
    words = [*command, *(container.get("args") or ())]
    if _after_program(words) is not None:
        return True
    if command:
        return _is_shell(command) and any(re.search(rf"\bvllm\s+serve\b|{re.escape(_MODULE)}", word) for word in words)
    image = str(container.get("image") or "").split("@")[0]
    return "vllm" in PurePosixPath(image).name.split(":")[0]


def _engine_words(container: Mapping[str, Any]) -> tuple[list[str], bool]:
    """The arguments of vLLM itself, and whether they came out of a shell string."""
    variables = _variables(container)
    command = [_expand(word, variables) for word in container.get("command") or ()]
    args = [_expand(word, variables) for word in container.get("args") or ()]
    in_shell = _is_shell(command)
    words = _shell_words([*command, *args]) if in_shell else [*command, *args]
    engine_words = _after_program(words)
    if engine_words is None:
        if command:
            message = f"container {container['name']!r} runs {shlex.join(words)[:80]!r}, which is not `vllm serve`"
            raise VllmPodError("NoVllmContainer", message)
        engine_words = words[1:] if words[:1] == ["serve"] else words
    return engine_words, in_shell


def _after_program(words: Sequence[str]) -> list[str] | None:
    """What follows ``vllm serve`` or ``-m vllm.entrypoints.openai.api_server``; wrappers before it do not matter."""
    for index, (word, following) in enumerate(itertools.pairwise(words)):
        if (PurePosixPath(word).name, following) == ("vllm", "serve") or (word, following) == ("-m", _MODULE):
            return list(words[index + 2 :])
    return None


def _is_shell(command: Sequence[str]) -> bool:
    return bool(command) and PurePosixPath(command[0]).name in _SHELLS


def _shell_words(words: Sequence[str]) -> list[str]:
    option = next((i for i, word in enumerate(words) if re.fullmatch(r"-[a-z]*c", word)), None)
    if option is None or option + 1 >= len(words):
        raise VllmPodError("ShellCommand", f"{shlex.join(words)[:80]!r} runs a script that cannot be read from outside")
    script = words[option + 1].replace("\\\n", " ").strip()
    try:
        lexer = shlex.shlex(script, posix=True, punctuation_chars=True)
        lexer.commenters = ""
        found = list(lexer)
    except ValueError as error:
        raise VllmPodError("ShellCommand", f"the shell command cannot be read: {error}") from error
    punctuation = any(word and set(word) <= set(lexer.punctuation_chars) for word in found)
    if punctuation or any(character in script for character in "$`\n"):
        message = "only one plain command can be read inside `sh -c`: give vLLM's arguments as a list instead"
        raise VllmPodError("ShellCommand", message)
    return found


def _variables(container: Mapping[str, Any]) -> dict[str, str]:
    variables: dict[str, str] = {}
    for entry in container.get("env") or ():
        if "value" in entry:
            variables[entry["name"]] = _expand(entry["value"], variables)
    return variables


def _expand(word: str, variables: Mapping[str, str]) -> str:
    """Replace ``$(NAME)`` as the kubelet does: unknown names stay, ``$$`` is a dollar sign."""

    def replacement(match: re.Match[str]) -> str:
        return "$" if match[0] == "$$" else variables.get(match[1], match[0])

    return _VARIABLE.sub(replacement, word)


def _flag_values(words: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Every flag in order with the words up to the next flag."""
    index = 0
    while index < len(words):
        word = words[index]
        index += 1
        if not _is_flag(word):
            continue
        flag, equals, value = word.partition("=")
        flag = "--" + flag[2:].replace("_", "-") if flag.startswith("--") else _SHORT_FLAGS.get(flag, flag)
        values = [value] if equals else []
        while not equals and index < len(words) and not _is_flag(words[index]):
            values.append(words[index])
            index += 1
        yield flag, values


def _is_flag(word: str) -> bool:
    return word.startswith("-") and not re.fullmatch(r"-\d.*", word)
