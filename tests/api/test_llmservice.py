import math
import runpy
from pathlib import Path

import pytest
from pydantic import ValidationError

from dynawatt.api.llmservice import Knob, LLMServiceSpec, Mode
from dynawatt.errors import InvalidInputError

CASES = runpy.run_path(str(Path(__file__).with_name("llmservice_cases.py")))
BASE, with_changes = CASES["BASE"], CASES["with_changes"]


@pytest.mark.parametrize("spec", CASES["ACCEPTED"])
def test_accepted_spec_survives_a_round_trip(spec):
    parsed = LLMServiceSpec.parse(spec)
    assert LLMServiceSpec.parse(parsed.to_dict()) == parsed


@pytest.mark.parametrize(("spec", "at", "says", "is_rule"), CASES["REFUSED"])
def test_refused_spec_names_field_and_rule(spec, at, says, is_rule):
    with pytest.raises(InvalidInputError) as refusal:
        LLMServiceSpec.parse(spec)
    message = str(refusal.value)
    assert message.startswith(f"spec.{at}: " if at else "spec: ")
    assert "\n" not in message
    if is_rule:
        assert says in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"slo.percentile": 100}, "spec.slo.percentile: 100: must be less than or equal to 99"),
        ({"mode": False}, "spec.mode: False: must be 'Off', 'Recommend' or 'Auto'"),
        ({"maxGpus": 8}, "spec.maxGpus: is not a known field; remove it or correct its name"),
        ({"knobs": ["Clock", "Clock"]}, "spec.knobs: ['Clock', 'Clock']: must not hold a value twice"),
        ({"paused": "x" * 500}, f"spec.paused: '{'x' * 78}…: must be a valid boolean"),
    ],
)
def test_refusal_reads_as_one_sentence(change, message):
    with pytest.raises(InvalidInputError) as refusal:
        LLMServiceSpec.parse(with_changes(change))
    assert str(refusal.value) == message


def test_defaults():
    spec = LLMServiceSpec.parse(BASE)
    assert spec.mode is Mode.RECOMMEND
    assert spec.knobs == (Knob.CLOCK,)
    assert spec.slo.percentile == 99
    assert (spec.replicas.min, spec.replicas.max) == (1, 40)
    assert spec.gpu_clock.min_megahertz == 800
    assert spec.container is None
    assert not spec.paused


@pytest.mark.parametrize(
    ("input_tokens", "objective_s"), [(1, 0.25), (256, 0.25), (257, 0.4), (1024, 0.4), (1025, 2.0), (9_000_000, 2.0)]
)
def test_ttft_objective_by_input_length(input_tokens, objective_s):
    assert LLMServiceSpec.parse(BASE).slo.ttft_objective_s(input_tokens) == objective_s


def test_objectives_in_seconds():
    slo = LLMServiceSpec.parse(BASE).slo
    assert slo.ttft_objectives_s == ((256, 0.25), (1024, 0.4), (math.inf, 2.0))
    assert slo.tbt_objective_s == 0.1
    assert slo.attainment_target == 0.99


def test_spec_cannot_be_changed_in_place():
    with pytest.raises(ValidationError):
        LLMServiceSpec.parse(BASE).paused = True
