"""What the user runs now: from options, else from the Deployment, else from Prometheus, else assumed and said so."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from dynawatt.adapters.deployment_file import GPU_LABEL, RunningDeployment, read_deployment_file, running_deployment
from dynawatt.adapters.engine_settings import engine_settings
from dynawatt.adapters.profile_files import find_replica
from dynawatt.adapters.vllm_args import VllmSettings, default_max_num_batched_tokens, default_max_num_seqs
from dynawatt.errors import InvalidInputError, OperationError
from dynawatt.perfmodel.profile import ReplicaProfile
from dynawatt.simulation.fleet_core import ReplicaShape
from dynawatt.simulation.inventory import GPUS_PER_SERVER
from dynawatt.simulation.settings import EngineSettings, QueueOrder

_MODEL: Final = "llama-3.1-70b"
_GPU: Final = "h100-sxm"
_KUBECONFIG: Final = Path("~/.kube/config")
_KV_TOLERANCE: Final = 0.15
"""Relative difference between the KV cache that vLLM reports and that of a profile which may be the same."""


@dataclass(frozen=True, slots=True)
class PresentOptions:
    """What the user said; None is to be found out."""

    model: str | None = None
    gpu: str | None = None
    tensor_parallel: int | None = None
    replicas: int | None = None
    max_num_batched_tokens: int | None = None
    max_num_seqs: int | None = None
    long_prefill_token_threshold: int | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """What was found out elsewhere; None where nothing was."""

    deployment: RunningDeployment | None = None
    served_model: str | None = None
    """As Prometheus has it."""
    kv_cache_tokens: int | None = None
    prefix_hit_ratio: float = 0.0

    @property
    def is_real(self) -> bool:
        """Whether a service was named, of which nothing may be assumed that matters."""
        return self.deployment is not None or self.served_model is not None


@dataclass(frozen=True, slots=True, eq=False)
class Present:
    """The configuration as it is."""

    shape: ReplicaShape
    profiles: Mapping[int, ReplicaProfile]
    """By tensor-parallel degree, all that one server may hold."""
    replicas: int | None
    """None where nobody said."""
    prefix_hit_ratio: float
    vllm: VllmSettings
    assumed: tuple[str, ...] = field(default=())
    """Sentences on what was not known."""

    def settings(self, replica: ReplicaProfile, order: QueueOrder) -> EngineSettings:
        """VLLM's own flags for another shape; the user's limit of running requests stays."""
        return _flags(replace(self.vllm, max_num_batched_tokens=None), replica, order, self.prefix_hit_ratio)


def find_present(options: PresentOptions, known: Known) -> Present:
    """Put it together. Raises InvalidInputError for what cannot be known or is not covered by a profile."""
    deployment, assumed = known.deployment, list[str]()
    vllm = deployment.settings if deployment else None
    model = options.model or (vllm.model if vllm else known.served_model)
    if model is None:
        model = _MODEL
        assumed.append(f"model {_MODEL} (--model)")
    gpu = options.gpu or (deployment.gpu_product if deployment else None)
    if gpu is None:
        if known.is_real:
            raise InvalidInputError(
                f"--gpu: neither vLLM's metrics nor the Deployment name the GPU; give it, such as --gpu {_GPU}"
            )
        gpu = _GPU
        assumed.append(f"GPU {_GPU} (--gpu)")
    degree = options.tensor_parallel or (vllm.tensor_parallel_size if vllm else None)
    if degree is None:
        degree, how = _degree(model, gpu, known)
        assumed.append(f"{how} (--tensor-parallel)")
    quantization, dtype = (vllm.quantization, vllm.dtype) if vllm and options.model is None else (None, None)
    replica = find_replica(model, gpu, degree, quantization=quantization, dtype=dtype)
    given = vllm or VllmSettings(model, ())
    given = replace(
        given,
        max_num_batched_tokens=options.max_num_batched_tokens or given.max_num_batched_tokens,
        max_num_seqs=options.max_num_seqs or given.max_num_seqs,
        long_prefill_token_threshold=(
            given.long_prefill_token_threshold
            if options.long_prefill_token_threshold is None
            else options.long_prefill_token_threshold
        ),
    )
    settings = _flags(given, replica, QueueOrder.FCFS, known.prefix_hit_ratio)
    if vllm is None and options.max_num_batched_tokens is None:
        chunk = settings.max_num_batched_tokens
        assumed.append(f"vLLM's own prefill chunk on this GPU, {chunk} (--max-num-batched-tokens)")
    return Present(
        shape=ReplicaShape(replica, settings),
        profiles=_profiles(replica),
        replicas=options.replicas or (deployment.replicas or None if deployment else None),
        prefix_hit_ratio=known.prefix_hit_ratio,
        vllm=given,
        assumed=tuple(assumed),
    )


def find_deployment(file: Path | None, cluster: str | None, kubeconfig: Path | None) -> RunningDeployment | None:
    """From a file or a cluster, if one of them is given. Raises InvalidInputError and OperationError."""
    if file is not None and cluster is not None:
        raise InvalidInputError("--deployment and --from-cluster both say what runs: give one of them")
    if file is not None:
        return read_deployment_file(file)
    return None if cluster is None else _from_cluster(cluster, kubeconfig)


def _from_cluster(cluster: str, kubeconfig: Path | None) -> RunningDeployment:
    # Imported here: the client takes half a second to load, which most runs need not wait for.
    from dynawatt.adapters.kubernetes.client import API_ERRORS, api_client, describe_error  # noqa: PLC0415
    from dynawatt.adapters.kubernetes.reader import ClusterReader  # noqa: PLC0415

    namespace, slash, name = cluster.partition("/")
    if not (namespace and slash and name):
        raise InvalidInputError(f"--from-cluster {cluster}: must be NAMESPACE/NAME of a Deployment")
    try:
        default = _KUBECONFIG.expanduser()
        api = ClusterReader(api_client(kubeconfig or (default if default.exists() else None)))
        manifest = api.deployment(namespace, name)
        if manifest is None:
            raise InvalidInputError(f"--from-cluster {cluster}: there is no such Deployment")
        found = running_deployment(manifest)
        if found.gpu_product is None:
            nodes = {pod["spec"].get("nodeName") for pod in api.pods(namespace, manifest["spec"]["selector"])} - {None}
            labels = [(api.node(str(node)) or {}).get("metadata", {}).get("labels", {}) for node in sorted(nodes)]
            products = {label[GPU_LABEL] for label in labels if GPU_LABEL in label}
            found = replace(found, gpu_product=products.pop() if len(products) == 1 else None)
        return found
    except API_ERRORS as error:
        raise OperationError(f"--from-cluster {cluster}: {describe_error(error)}") from error


def _degree(model: str, gpu: str, known: Known) -> tuple[int, str]:
    """The tensor-parallel degree whose KV cache is of the size that vLLM reports, or a whole server's; and how."""
    candidates = {}
    for degree in (1, 2, 4, 8):
        try:
            candidates[degree] = find_replica(model, gpu, degree)
        except InvalidInputError as error:
            problem = error
    if not candidates:
        raise problem
    if not known.is_real:
        degree = max(candidates)
        return degree, f"{degree} GPUs per replica"
    tokens = known.kv_cache_tokens or 0
    off = {degree: abs(tokens / each.kv_capacity_tokens - 1) for degree, each in candidates.items()}
    degree = min(off, key=lambda each: off[each])
    if off[degree] > _KV_TOLERANCE:
        raise InvalidInputError(
            "--tensor-parallel: vLLM's metrics do not tell it; give it, or the Deployment with --deployment FILE"
        )
    return degree, f"{degree} GPUs per replica, after the size of the KV cache"


def _profiles(replica: ReplicaProfile) -> dict[int, ReplicaProfile]:
    """Degrees that hold the weights and fit a server, the present one in any case."""
    model = replica.model
    fitting = [degree for degree in model.tensor_parallel_sizes if degree <= GPUS_PER_SERVER]
    profiles = {degree: model.replica(degree) for degree in fitting}
    usable = {degree: each for degree, each in profiles.items() if each.kv_capacity_tokens > 0}
    return dict(sorted({**usable, replica.tensor_parallel: replica}.items()))


def _flags(vllm: VllmSettings, replica: ReplicaProfile, order: QueueOrder, hits: float) -> EngineSettings:
    """Settings with these flags; where ``--max-num-seqs`` is absent, vLLM's own or as high as the profile goes."""
    chunk = vllm.max_num_batched_tokens or default_max_num_batched_tokens(replica.gpu)
    seqs = vllm.max_num_seqs or min(default_max_num_seqs(replica.gpu, chunk), replica.max_decode_requests)
    settings = engine_settings(replace(vllm, max_num_batched_tokens=chunk, max_num_seqs=seqs), replica)
    return replace(settings, queue_order=order, prefix_hit_ratio=hits)
