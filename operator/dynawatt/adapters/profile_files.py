"""Profiles in files: those that the package ships, and the user's own."""

import functools
import json
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from dynawatt.adapters.profile_mapping import document_of, profile_of
from dynawatt.api.base import first_problem
from dynawatt.api.model_profile import ModelProfileDocument
from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.architecture import ServedModel
from dynawatt.perfmodel.architectures import UnknownModelError, model_of
from dynawatt.perfmodel.catalog import UnknownProfileError, pick_profile, replica_of
from dynawatt.perfmodel.gpus import GpuSpec, gpu_by_name
from dynawatt.perfmodel.model_names import model_by_name
from dynawatt.perfmodel.profile import ModelProfile, ReplicaProfile

# The C parser reads a profile ten times faster; PyYAML's wheels have it, a build from source may not.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SHIPPED = Path(str(files("dynawatt") / "profiles"))


def read_profile(path: Path) -> ModelProfile:
    """Read one profile. Raises InvalidInputError with file, field and bound."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # a safe loader
        document = ModelProfileDocument.model_validate(content, by_name=False)
        return profile_of(document)
    except OSError as error:
        raise InvalidInputError(f"{path}: {error.strerror}; give a ModelProfile file that can be read") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problem = " ".join(str(error).split())
        raise InvalidInputError(f"{path}: is not YAML: {problem}") from error
    except ValidationError as error:
        raise InvalidInputError(f"{path}: {first_problem(error)}") from error
    except InvalidInputError as error:
        raise InvalidInputError(f"{path}: {error}") from error


def write_profile(path: Path, profile: ModelProfile) -> None:
    """Write one profile, floats rounded to seven digits. Raises InvalidInputError for values out of bounds."""
    try:
        document = document_of(profile)
    except ValidationError as error:
        raise InvalidInputError(f"profile {profile.name}: {first_problem(error)}") from error
    # default_flow_style=None: every list of numbers on few lines.
    text = yaml.safe_dump(document.to_dict(), sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidInputError(f"{path}: {error.strerror}; give a file that can be written") from error


class ProfileDirectory(Mapping[str, ModelProfile]):
    """Profiles by name, each read from ``NAME.yaml`` when it is first wanted."""

    def __init__(self, directory: Path) -> None:
        """A directory that does not exist has no profiles."""
        self._directory = directory
        self._names = sorted(path.stem for path in directory.glob("*.yaml"))
        self._read: dict[str, ModelProfile] = {}

    def __getitem__(self, name: str) -> ModelProfile:
        """Raises KeyError for a name without a file, InvalidInputError for one that cannot be used."""
        if name not in self._names:
            raise KeyError(name)
        if name not in self._read:
            path = self._directory / f"{name}.yaml"
            profile = read_profile(path)
            if profile.name != name:
                raise InvalidInputError(f"{path}: metadata.name: {profile.name!r}: must be {name!r}, as the file")
            self._read[name] = profile
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        """Names, ascending."""
        return iter(self._names)

    def __len__(self) -> int:
        """How many files there are."""
        return len(self._names)


@functools.cache
def shipped_profiles() -> Mapping[str, ModelProfile]:
    """The package's own profiles by name, read one by one as they are wanted."""
    return ProfileDirectory(_SHIPPED)


def find_replica(
    model: str | ServedModel,
    gpu: str,
    tensor_parallel: int,
    *,
    quantization: str | None = None,
    dtype: str | None = None,
) -> ReplicaProfile:
    """The models of a replica, out of the shipped profiles.

    Args:
        model: What ``vllm serve`` is given, the name of a profile, or a model read from its config.json.
        gpu: Short name or product name of the GPU.
        tensor_parallel: GPUs of the replica.
        quantization: Value of vLLM's ``--quantization``; None where the flag is absent.
        dtype: Value of vLLM's ``--dtype``; None where the flag is absent.

    Raises:
        InvalidInputError: The GPU or the format of the weights is not known, or the profile does not cover the degree.
        UnknownModelError: The model is of no known architecture.
        UnknownProfileError: There is no profile for the model on this GPU, or the weights do not fit its memory.
    """
    profiles, spec = shipped_profiles(), gpu_by_name(gpu)
    if isinstance(model, str):
        if model in profiles:
            return replica_of(_on(spec, profiles[model]), tensor_parallel)
        model = model_by_name(model, quantization=quantization, dtype=dtype)
    return replica_of(pick_profile(profiles, model, spec), tensor_parallel)


def _on(gpu: GpuSpec, profile: ModelProfile) -> ModelProfile:
    if profile.gpu != gpu:
        raise UnknownProfileError(f"profile {profile.name} is of {profile.gpu.name}, not of {gpu.name}: name that GPU")
    return profile


def read_model_config(path: Path) -> ServedModel:
    """The model that a Hugging Face config.json describes. Raises InvalidInputError."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInputError(f"{path}: {error.strerror}; give a config.json that can be read") from error
    except ValueError as error:
        raise InvalidInputError(f"{path}: is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise InvalidInputError(f"{path}: must be a JSON object, not {type(config).__name__}")
    try:
        return model_of(config)
    except UnknownModelError as error:
        raise UnknownModelError(f"{path}: {error}") from error
    except InvalidInputError as error:
        raise InvalidInputError(f"{path}: {str(error).removeprefix('config.json: ')}") from error
