import json
from dataclasses import replace
from math import inf

import numpy as np
import pytest

from dynawatt.adapters.profile_files import find_replica
from dynawatt.adapters.vllm_args import VllmSettings
from dynawatt.adapters.vllm_load.buckets import FLAG, TBT_BOUNDS_S, TTFT_BOUNDS_S
from dynawatt.adapters.vllm_load.source import LoadObservation
from dynawatt.api.llmservice import SLO
from dynawatt.api.llmservice_status import EngineAdvice
from dynawatt.controller.engine_advice import AdviceBook, bucket_advice
from dynawatt.simulation.advice.engine import BetterFlags, EngineFindings
from dynawatt.simulation.energy_tuning import EnergyTuned
from dynawatt.simulation.settings import EngineSettings, QueueOrder
from dynawatt.simulation.surface_question import SurfaceQuestion
from dynawatt.workload.mix import LengthMix
from dynawatt.workload.objectives import LatencyObjectives

REPLICA = find_replica("meta-llama/Llama-3.1-70B-Instruct", "h100-sxm", 4)
PRESENT = EngineSettings(8192, 1024, REPLICA.kv_capacity_tokens)
VLLM = VllmSettings("meta-llama/Llama-3.1-70B-Instruct", ("llama",), tensor_parallel_size=4)


def mix(inputs):
    return LengthMix(np.full(50, inputs), np.full(50, 20))


QUESTION = SurfaceQuestion(
    replica=REPLICA,
    settings=PRESENT,
    mix=mix(1000),
    cv=1.0,
    objectives=LatencyObjectives(((None, 1.0),), 0.1),
    attainments=(0.99,),
    clocks_mhz=(1590, 1980),
)


def tuned(request_j, capacity_rps, **changes):
    return EnergyTuned(replace(PRESENT, **changes), request_j, capacity_rps)


BETTER = BetterFlags(tuned(245.4, 5.968, max_num_batched_tokens=512, max_num_seqs=512), 0.494, 0.494)
PRIORITY = BetterFlags(tuned(210.0, 6.5, queue_order=QueueOrder.PRIORITY), 0.53, 0.09)
DEADLINE = BetterFlags(tuned(194.5, 7.62, queue_order=QueueOrder.DEADLINE), 0.559, 0.173)
FINDINGS = EngineFindings(tuned(628.8, 1.9), BETTER, (PRIORITY, DEADLINE))
SOMETHING = EngineAdvice(flags=["--max-num-batched-tokens=512"], saves_percent=12, message="on record")
BUCKETS = EngineAdvice(flags=[f"{FLAG}={{}}"], message="on record")


def told(findings, vllm=VLLM, question=QUESTION):
    book = AdviceBook()
    book.take(question, findings)
    return book.advice(question, vllm, [SOMETHING])


def test_each_entry_alone_leads_to_what_it_saves():
    flags, priority, deadline = told(FINDINGS)
    assert flags.flags == ["--max-num-batched-tokens=512", "--max-num-seqs=512"]
    assert (flags.saves_percent, flags.needs_plug_in) == (49, False)
    assert flags.message == (
        "a replica of TP4 then carries 5.97 requests/s within the SLO instead of 1.9, for 245 J each beyond what idle "
        "GPUs draw instead of 629; saved where clocks and replicas follow the load"
    )
    assert (priority.flags, priority.saves_percent, priority.needs_plug_in) == (
        ["--scheduling-policy=priority"],
        53,
        True,
    )
    assert priority.message.endswith("for 210 J each beyond what idle GPUs draw: 9% less energy than with the best "
                                     "flags for the present order")  # fmt: skip
    assert (deadline.flags, deadline.saves_percent, deadline.needs_plug_in) == ([], 56, True)
    assert "--scheduler-cls" in deadline.message
    assert "--scheduler-cls" not in priority.message


def test_flags_that_make_the_slo_possible_save_nothing_that_could_be_told():
    lost = replace(FINDINGS, present=tuned(inf, 0.0), flags=replace(BETTER, saving=None, added_saving=None), orders=())
    [advice] = told(lost)
    assert advice.saves_percent is None
    assert advice.message == (
        "a replica of TP4 misses the SLO under any load; then it carries 5.97 requests/s, for 245 J each beyond what "
        "idle GPUs draw"
    )


def test_a_policy_that_is_set_already_is_not_advised_again():
    [advice] = told(replace(FINDINGS, flags=None, orders=(PRIORITY,)), replace(VLLM, scheduling_policy="priority"))
    assert advice.flags == []
    assert advice.message.endswith("9% less energy than as it is")


def test_nothing_better_is_no_advice():
    assert told(replace(FINDINGS, flags=None, orders=())) == []


def test_a_mix_at_the_edge_of_a_bin_brings_no_new_advice():
    book = AdviceBook()
    assert not book.covers(QUESTION)
    book.take(QUESTION, FINDINGS)
    near, far = QUESTION.about(mix(1250)), QUESTION.about(mix(1900))
    assert near.mix_bin[0] == QUESTION.mix_bin[0] + 1
    assert far.mix_bin[0] == QUESTION.mix_bin[0] + 3
    assert (book.covers(near), book.covers(far)) == (True, False)
    # Until there is better advice, what was true of other requests is better than none.
    assert book.advice(far, VLLM, []) == book.advice(QUESTION, VLLM, [])


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": replace(PRESENT, max_num_batched_tokens=2048)},
        {"objectives": LatencyObjectives(((None, 1.0),), 0.05)},
        {"attainments": (0.95,)},
        {"replica": find_replica("meta-llama/Llama-3.1-70B-Instruct", "h100-sxm", 8)},
    ],
)
def test_advice_on_what_is_no_more_is_withdrawn(changes):
    book = AdviceBook()
    book.take(QUESTION, FINDINGS)
    other = replace(QUESTION, **changes)
    assert not book.covers(other)
    assert book.advice(other, VLLM, [SOMETHING]) == []


def test_what_is_learnt_of_the_profile_is_reason_to_look_again_but_not_to_withdraw():
    book = AdviceBook()
    book.take(QUESTION, FINDINGS)
    learnt = replace(QUESTION, replica=REPLICA.calibrated(time_factor=1.1))
    assert not book.covers(learnt)
    assert book.advice(learnt, VLLM, []) == book.advice(QUESTION, VLLM, [])


def test_a_new_operator_keeps_what_is_on_record_until_it_knows_or_something_changes():
    book = AdviceBook()
    assert book.advice(QUESTION, VLLM, [SOMETHING, BUCKETS]) == [SOMETHING]
    other = replace(QUESTION, settings=replace(PRESENT, max_num_batched_tokens=2048))
    assert book.advice(other, VLLM, [SOMETHING]) == []
    # Somebody followed it while no operator ran.
    followed = replace(QUESTION, settings=BETTER.tuned.settings)
    assert AdviceBook().advice(followed, VLLM, [SOMETHING]) == []


OBJECTIVES = SLO.model_validate(
    {
        "interTokenMilliseconds": 45,
        "timeToFirstToken": [{"maxInputTokens": 256, "milliseconds": 250}, {"milliseconds": 400}],
    }
)


def observed(ttft=TTFT_BOUNDS_S, tbt=TBT_BOUNDS_S):
    return LoadObservation(
        1.0, None, 0.0, [(each, 9.0) for each in (*ttft, inf)], [(each, 9.0) for each in (*tbt, inf)]
    )


def test_buckets_are_advised_until_the_objectives_end_some():
    [advice] = bucket_advice(OBJECTIVES, observed(), [])
    [flag] = advice.flags
    name, _, value = flag.partition("=")
    assert name == FLAG
    assert (advice.saves_percent, advice.needs_plug_in) == (None, False)
    assert "250, 400 ms to the first token and 45 ms between tokens" in advice.message
    bounds = json.loads(value)
    followed = observed(bounds["time_to_first_token"], bounds["inter_token_latency"])
    assert bucket_advice(OBJECTIVES, followed, [advice]) == []


def test_without_load_nothing_new_is_said_about_buckets():
    idle = LoadObservation(0.0, None, 0.0, [], [])
    assert bucket_advice(OBJECTIVES, idle, [SOMETHING, BUCKETS]) == [BUCKETS]


def test_a_flag_that_the_status_cannot_hold_is_left_out():
    hundreds = observed(ttft=np.linspace(0.001, 0.2, 300))
    assert bucket_advice(OBJECTIVES, hundreds, []) == []
