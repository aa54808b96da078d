from dataclasses import replace

import pytest

from dynawatt.adapters.engine_settings import changed_flags, engine_settings
from dynawatt.adapters.profile_files import find_replica
from dynawatt.adapters.vllm_args import VllmSettings, default_max_num_batched_tokens, default_max_num_seqs
from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.gpus import GPUS
from dynawatt.simulation.settings import EngineSettings

REPLICA = find_replica("meta-llama/Llama-3.1-8B", "h100-sxm", 1)


def settings(**flags):
    return engine_settings(VllmSettings(REPLICA.model.name, (REPLICA.model.name,), **flags), REPLICA)


@pytest.mark.parametrize(
    ("gpu", "tokens", "requests"),
    [
        ("h100-sxm", 8192, 1024),
        ("h200-sxm", 8192, 1024),
        ("b200-sxm", 16384, 1024),
        ("a100-sxm", 2048, 256),
        ("l40s", 2048, 256),
    ],
)
def test_defaults_of_vllm_by_gpu(gpu, tokens, requests):
    assert default_max_num_batched_tokens(GPUS[gpu]) == tokens
    assert default_max_num_seqs(GPUS[gpu], tokens) == requests


def test_defaults_where_flags_are_absent():
    found = settings()
    assert (found.max_num_batched_tokens, found.max_num_seqs) == (8192, 1024)
    assert found.kv_capacity_tokens == REPLICA.kv_capacity_tokens


def test_flags_win():
    found = settings(max_num_batched_tokens=2048, max_num_seqs=64)
    assert (found.max_num_batched_tokens, found.max_num_seqs) == (2048, 64)


def test_no_more_requests_than_tokens_by_default():
    assert settings(max_num_batched_tokens=512).max_num_seqs == 512


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ({"max_num_batched_tokens": 512, "max_num_seqs": 513}, "must be at least --max-num-seqs, 513"),
        ({"max_num_batched_tokens": 10**6}, "--max-num-batched-tokens is 1000000: profile"),
        ({"max_num_seqs": 8000}, "--max-num-seqs is 8000: profile"),
    ],
)
def test_settings_that_cannot_be_modelled(flags, problem):
    with pytest.raises(InvalidInputError, match=problem):
        settings(**flags)


def test_long_prefills_are_capped_as_flagged():
    assert settings().long_prefill_token_threshold == 0
    assert settings(long_prefill_token_threshold=512).long_prefill_token_threshold == 512


def test_priorities_that_nobody_sends_order_nothing():
    assert settings(scheduling_policy="priority") == settings()


def test_an_unknown_scheduling_policy_is_refused():
    with pytest.raises(InvalidInputError, match="--scheduling-policy is 'sjf': must be fcfs or priority"):
        settings(scheduling_policy="sjf")


def test_flags_that_lead_from_settings_to_others_are_those_that_differ():
    old = EngineSettings(8192, 1024, 100_000, long_prefill_token_threshold=256)
    new = replace(old, max_num_batched_tokens=512, long_prefill_token_threshold=0)
    assert changed_flags(new, old) == ["--max-num-batched-tokens=512", "--long-prefill-token-threshold=0"]
    assert changed_flags(old, old) == []
