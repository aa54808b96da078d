"""Replays a load through vidur where it is installed, and prints how long the simulation takes.

Arguments: CSV of arrival_s,input_tokens,output_tokens; replicas; seconds of an iteration. vidur's own step times need
profiling data that its package does not carry, so every iteration takes the same time here: vidur at its fastest.
"""

import csv
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version

from vidur import config as settings
from vidur._native.entities import ExecutionTime
from vidur.entities import Request
from vidur.execution_time_predictor import ExecutionTimePredictorRegistry
from vidur.request_generator import RequestGeneratorRegistry
from vidur.request_generator.base_request_generator import BaseRequestGenerator
from vidur.simulator import Simulator
from vidur.types import ExecutionTimePredictorType, RequestGeneratorType


@dataclass
class SameTimeConfig(settings.BaseExecutionTimePredictorConfig):
    iteration_s: float = 0.0

    @staticmethod
    def get_type():
        return ExecutionTimePredictorType.DUMMY


class SameTime:
    def __init__(self, predictor_config, replica_config, cache_config):
        layers_ms = 1000 * predictor_config.iteration_s / replica_config.num_layers_per_pipeline_stage
        self._time = ExecutionTime(replica_config.num_layers_per_pipeline_stage, layers_ms, *[0.0] * 13)

    def get_execution_time(self, batch, pipeline_stage):
        return self._time


@dataclass
class LoadConfig(settings.BaseRequestGeneratorConfig):
    load: str = ""

    @staticmethod
    def get_type():
        return RequestGeneratorType.TRACE_REPLAY


class Load(BaseRequestGenerator):
    def generate_requests(self):
        with open(self.config.load) as rows:
            return [
                Request(float(row["arrival_s"]), int(row["input_tokens"]), max(1, int(row["output_tokens"])))
                for row in csv.DictReader(rows)
            ]


def main(load: str, replicas: str, iteration_s: str) -> None:
    ExecutionTimePredictorRegistry.register(ExecutionTimePredictorType.DUMMY, SameTime)
    RequestGeneratorRegistry.unregister(RequestGeneratorType.TRACE_REPLAY)
    RequestGeneratorRegistry.register(RequestGeneratorType.TRACE_REPLAY, Load)
    with tempfile.TemporaryDirectory() as out:
        simulator = Simulator(
            settings.SimulationConfig(
                log_level="warning",
                cluster_config=settings.ClusterConfig(
                    num_replicas=int(replicas),
                    replica_config=settings.ReplicaConfig(
                        model_name="meta-llama/Llama-2-70b-hf", num_pipeline_stages=1, tensor_parallel_size=8
                    ),
                    cache_config=settings.CacheConfig(num_blocks=50_000),
                    global_scheduler_config=settings.LORGlobalSchedulerConfig(),
                    replica_scheduler_config=settings.SarathiSchedulerConfig(batch_size_cap=256, chunk_size=1024),
                ),
                request_generator_config=LoadConfig(load=load, max_tokens=16_384),
                execution_time_predictor_config=SameTimeConfig(iteration_s=float(iteration_s)),
                metrics_config=settings.MetricsConfig(
                    write_metrics=False, enable_chrome_trace=False, store_plots=False, output_dir=out
                ),
            )
        )
        started_s = time.process_time()
        simulator.run()
        cpu_s = time.process_time() - started_s
    print(json.dumps({"version": version("vidur"), "cpu_s": {"our_step_times": cpu_s}}))


if __name__ == "__main__":
    main(*sys.argv[1:])
