"""Latency models that the operator will ask for, computed before the load begins: later runs find them on disk."""

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

from rich.console import Console

from dynawatt.adapters.surface_cache import SurfaceCache, default_surface_dir
from dynawatt.adapters.vllm_args import find_vllm_container, vllm_settings
from dynawatt.api.llmservice import LLMServiceSpec
from dynawatt.cli.demo.scenario import Scenario
from dynawatt.controller.shape_models import shape_models, surface_question
from dynawatt.simulation.surface_question import SurfaceQuestion
from dynawatt.simulation.surfaces import build_surface
from dynawatt.workload.mix import LengthMix


def warm_models(scenario: Scenario, gpu_product: str, console: Console) -> None:
    """Compute what is not on disk yet; half a minute at most."""
    directory = default_surface_dir()
    if directory is None:  # nowhere to keep them: the operator computes them as it goes
        return
    cache = SurfaceCache(directory)
    missing = [question for question in _questions(scenario, gpu_product) if cache.load(question.fingerprint()) is None]
    if not missing:
        return
    with console.status(f"Simulating what {len(missing)} shapes of the model carry and draw, once"):
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(max_workers=2, mp_context=context) as workers:
            for question, surface in zip(missing, workers.map(build_surface, missing), strict=True):
                cache.store(question.fingerprint(), surface)


def _questions(scenario: Scenario, gpu_product: str) -> Sequence[SurfaceQuestion]:
    deployment = next(manifest for manifest in scenario.manifests if manifest["kind"] == "Deployment")
    vllm = vllm_settings(find_vllm_container(deployment["spec"]["template"]["spec"]))
    spec = LLMServiceSpec.parse(scenario.llmservice["spec"])
    mix = LengthMix(scenario.trace.input_tokens, scenario.trace.output_tokens)
    return [
        surface_question(shape_models(replace(vllm, tensor_parallel_size=size), gpu_product), spec, mix)
        for size in spec.tensor_parallel_sizes or (vllm.tensor_parallel_size,)
    ]
