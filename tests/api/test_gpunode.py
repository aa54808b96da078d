import pytest
from pydantic import ValidationError

from dynawatt.api.gpunode import EnergyOnly, GPUNodeStatus, GPUStatus

BARE = {"uuid": "GPU-0", "product": "H100", "clockControl": "Unknown"}


def test_status_of_an_older_agent_is_read():
    gpu = GPUStatus.model_validate(BARE)
    assert gpu.to_dict() == BARE | {"health": "Unknown", "xids": []}


def test_energy_only_is_counted_and_explained():
    refused = EnergyOnly(reason="MIGEnabled", message="x" * 5000)
    status = GPUNodeStatus(gpus=[GPUStatus.model_validate(BARE), GPUStatus(**BARE, energy_only=refused)])
    written = status.to_dict()
    assert written["summary"]["energyOnly"] == 1
    assert written["gpus"][1]["energyOnly"]["reason"] == "MIGEnabled"
    assert len(written["gpus"][1]["energyOnly"]["message"]) == 1024
    assert GPUNodeStatus.model_validate(written) == status


@pytest.mark.parametrize(
    "changes",
    [
        {"health": "Fine"},
        {"clockMethod": "None"},
        {"energySource": "counter"},
        {"persistenceMode": True},
        {"xids": [79.5]},
        {"xids": [-1]},
        {"xids": list(range(33))},
    ],
)
def test_what_is_not_in_the_schema_is_refused(changes):
    with pytest.raises(ValidationError):
        GPUStatus.model_validate(BARE | changes)
