import pytest

from dynawatt.errors import InvalidInputError
from dynawatt.load.options import parse_objectives
from dynawatt.workload.objectives import LatencyObjectives


@pytest.mark.parametrize(
    ("text", "ttft"),
    [
        ("256:250,1024:400,2000", ((256, 0.25), (1024, 0.4), (None, 2.0))),
        ("500", ((None, 0.5),)),
        ("100:0.5, 2000", ((100, 0.0005), (None, 2.0))),
    ],
)
def test_objectives(text, ttft):
    assert parse_objectives(text, 100) == LatencyObjectives(ttft, 0.1)


@pytest.mark.parametrize(
    ("ttft", "tbt_ms", "message"),
    [
        ("", 100, "--ttft : '' must be MAX_INPUT_TOKENS:MILLISECONDS"),
        ("256:fast,2000", 100, "'256:fast' must be"),
        ("1:2:3", 100, "'1:2:3' must be"),
        ("256:250", 100, "--ttft 256:250 --tbt-ms 100: .* only the last entry must have none"),
        ("250,2000", 100, "only the last entry"),
        ("0", 100, "above 0"),
        ("250", 0, "TBT objective 0.0 s: must be above 0"),
    ],
)
def test_impossible_objectives(ttft, tbt_ms, message):
    with pytest.raises(InvalidInputError, match=message):
        parse_objectives(ttft, tbt_ms)
