from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from dynawatt.api.base import ClockRange
from dynawatt.api.gpunode import ClockControl, GPUNodeStatus, GPUStatus
from dynawatt.api.llmservice import Knob
from dynawatt.api.llmservice_status import (
    Adopted,
    Change,
    Decision,
    LLMServiceStatus,
    OperatingPoint,
    RunnerUp,
    ShapeStatus,
    add_change,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def shape(**fields):
    return ShapeStatus(
        **{"gpu_product": "NVIDIA-H100", "tensor_parallel_size": 4, "desired_replicas": 4, "ready_replicas": 3} | fields
    )


def change(to="4", reason="load rises"):
    return Change(time=NOW, knob=Knob.REPLICAS, from_="3", to=to, reason=reason)


def test_status_in_the_words_of_the_api():
    decision = Decision(
        time=NOW,
        reason="LoadRises",
        message="4 replicas at 1410 MHz",
        chosen=OperatingPoint(replicas=4, clock_megahertz=1410, predicted_watts=5200),
        runners_up=[RunnerUp(replicas=3, clock_megahertz=1980, predicted_watts=5900, why_not="700 W more")],
    )
    status = LLMServiceStatus(
        observed_generation=2,
        adopted=Adopted(replicas=6),
        shapes=[shape(clock=ClockRange(min_megahertz=800, max_megahertz=1410))],
        last_decision=decision,
        last_changes=[change()],
    )
    written = status.to_dict()
    assert written == {
        "observedGeneration": 2,
        "conditions": [],
        "engineAdvice": [],
        "backOffs": [],
        "adopted": {"replicas": 6},
        "shapes": [
            {
                "gpuProduct": "NVIDIA-H100",
                "tensorParallelSize": 4,
                "desiredReplicas": 4,
                "readyReplicas": 3,
                "clock": {"minMegahertz": 800, "maxMegahertz": 1410},
            }
        ],
        "lastDecision": {
            "time": "2026-01-01T00:00:00Z",
            "reason": "LoadRises",
            "message": "4 replicas at 1410 MHz",
            "chosen": {"replicas": 4, "clockMegahertz": 1410, "predictedWatts": 5200},
            "runnersUp": [{"replicas": 3, "clockMegahertz": 1980, "predictedWatts": 5900, "whyNot": "700 W more"}],
        },
        "lastChanges": [
            {"time": "2026-01-01T00:00:00Z", "knob": "Replicas", "from": "3", "to": "4", "reason": "load rises"}
        ],
        "summary": {"replicas": "3/4", "tensorParallelSize": "4", "clockMegahertz": "800-1410"},
    }
    assert LLMServiceStatus.model_validate(written) == status


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ([], None),
        ([shape()], ("3/4", "4", "default")),
        ([shape(clock=ClockRange(min_megahertz=800, max_megahertz=800))], ("3/4", "4", "800")),
        ([shape(), shape(tensor_parallel_size=8, desired_replicas=1, ready_replicas=1)], ("4/5", "4,8", "default")),
    ],
)
def test_summary_of_shapes(shapes, expected):
    summary = LLMServiceStatus(shapes=shapes).summary
    assert (summary and tuple(summary.model_dump().values())) == expected


def test_status_of_a_newer_version_is_read():
    assert LLMServiceStatus.model_validate({"engineAdvice": [], "summary": {"pools": "2"}}) == LLMServiceStatus()


def test_long_text_is_shortened():
    assert len(change(reason="x" * 5000).reason) == 1024


def test_last_changes_are_the_newest_ten():
    changes = []
    for number in range(12):
        changes = add_change(changes, change(to=str(number)))
    assert [entry.to for entry in changes] == [str(number) for number in range(11, 1, -1)]
    assert LLMServiceStatus(last_changes=changes).last_changes == changes


def test_more_than_the_listed_number_is_refused():
    with pytest.raises(ValidationError):
        LLMServiceStatus(last_changes=[change()] * 11)


def gpu(uuid, **fields):
    return GPUStatus(**{"uuid": uuid, "product": "H100", "clock_control": ClockControl.SUPPORTED} | fields)


def test_node_summary():
    status = GPUNodeStatus(
        gpus=[
            gpu("GPU-0", allocated_to="prod/a", claim=ClockRange(min_megahertz=800, max_megahertz=1980)),
            gpu("GPU-1", allocated_to="prod/b", product="A100", clock_control="Unsupported"),
            gpu("GPU-2", min_clock_megahertz=345, max_clock_megahertz=1980),
        ]
    )
    assert status.to_dict()["summary"] == {
        "product": "H100,A100",
        "gpuCount": 3,
        "allocated": 2,
        "claimed": 1,
        "energyOnly": 0,
    }
    assert GPUNodeStatus.model_validate(status.to_dict()) == status
