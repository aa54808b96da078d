import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dynawatt.api.claims import ClaimTable, ClockClaim, InvalidClaimError, claim_schema

TABLE = {
    "attainment": 0.99,
    "drain": 0.5,
    "kv": 400.5,
    "prompt": 1000,
    "rows": [[800, 1.25, 8000, 20], [1980, 8, 20000, 140]],
    "tbt": 0.1,
    "ttft": False,
}
VALID = {
    "ceilingMegahertz": 1980,
    "floorMegahertz": 800,
    "lease": "dynawatt-system/dynawatt-operator",
    "metricsPort": 8000,
    "service": "prod/llama-3.1-70b",
    "table": TABLE,
    "version": 2,
}
NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)
NUMBERS = st.floats(0, 1e6) | st.integers(0, 10**6)
POSITIVE = st.floats(1e-3, 1e6) | st.integers(1, 10**6)
TABLES = st.builds(
    ClaimTable,
    attainment=st.floats(0.01, 0.999),
    tbt=POSITIVE,
    drain=POSITIVE,
    prompt=POSITIVE,
    kv=POSITIVE,
    ttft=st.booleans(),
    rows=st.lists(st.tuples(st.integers(100, 5000), NUMBERS, NUMBERS, st.integers(0, 1000)), min_size=1, max_size=16),
)
CLAIMS = st.builds(
    lambda clocks, names, port, ttft, table: ClockClaim(
        floor_megahertz=min(clocks),
        ceiling_megahertz=max(clocks),
        lease=f"{names[0]}/{names[1]}",
        service=f"{names[2]}/{names[3]}",
        metrics_port=port,
        ttft_milliseconds=ttft if table.ttft else None,
        table=table,
    ),
    st.tuples(st.integers(100, 5000), st.integers(100, 5000)),
    st.tuples(NAMES, NAMES, NAMES, NAMES),
    st.integers(1, 65535),
    st.integers(1, 10_000),
    TABLES,
)


@given(CLAIMS)
def test_round_trip(claim):
    text = claim.to_annotation()
    assert ClockClaim.from_annotation(text) == claim
    assert ClockClaim.from_annotation(text).to_annotation() == text


def test_text_is_compact_and_sorted():
    claim = ClockClaim.from_annotation(json.dumps(VALID, indent=2))
    assert claim.to_annotation() == json.dumps(VALID, sort_keys=True, separators=(",", ":"))


def test_a_full_table_is_a_few_hundred_bytes():
    rows = [[800 + 75 * index, 10.125 + index, 20000 + index, 200 + index] for index in range(16)]
    claim = ClockClaim.from_annotation(json.dumps(VALID | {"table": TABLE | {"rows": rows}}))
    assert len(claim.to_annotation()) < 700


def test_the_schema_is_published():
    published = Path(__file__).parents[2] / "docs" / "clock-claim.schema.json"
    remedy = f"python -c 'from dynawatt.api.claims import *; print(claim_schema(), end=\"\")' > {published}"
    assert published.read_text(encoding="utf-8") == claim_schema(), remedy


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not valid JSON"),
        ("{", "is not valid JSON"),
        ("[" * 2000, "is not valid JSON"),
        ("[]", "must be a JSON object, not list"),
        ("null", "must be a JSON object, not NoneType"),
        ('{"version":2,"version":2}', "a key stands twice"),
        ("{}", "version None: must be 2"),
        (json.dumps(VALID | {"version": 1}), "version 1: must be 2"),
        (json.dumps(VALID | {"version": "2"}), "version '2': must be 2"),
        (json.dumps(VALID | {"version": True}), "version True: must be 2"),
        (json.dumps({"version": "x" * 2000}), "must be 2"),
        (json.dumps(VALID | {"governor": {}}), "governor: is not a known field"),
        (json.dumps(VALID | {"governor": None}), "governor: is not a known field"),
        (json.dumps(VALID | {"lease": None}), "lease: None: "),
        (json.dumps(VALID | {"floor_megahertz": 800}), "floor_megahertz: is not a known field"),
        (json.dumps({key: VALID[key] for key in VALID if key != "lease"}), "lease: must be given"),
        (json.dumps(VALID | {"floorMegahertz": "800"}), "floorMegahertz: '800': must be a valid integer"),
        (json.dumps(VALID | {"floorMegahertz": 800.0}), "floorMegahertz: 800.0: must be a valid integer"),
        (json.dumps(VALID | {"floorMegahertz": True}), "floorMegahertz: True: must be a valid integer"),
        (json.dumps(VALID | {"floorMegahertz": float("nan")}), "floorMegahertz: nan: must be a valid integer"),
        (json.dumps(VALID | {"ceilingMegahertz": 0}), "ceilingMegahertz: 0: must be greater than or equal to 100"),
        (json.dumps(VALID | {"ceilingMegahertz": 5001}), "ceilingMegahertz: 5001: must be less than or equal to 5000"),
        (json.dumps(VALID | {"floorMegahertz": 1981}), "floorMegahertz must be at most ceilingMegahertz"),
        (json.dumps(VALID | {"metricsPort": 65536}), "metricsPort: 65536: must be less than or equal to 65535"),
        (json.dumps(VALID | {"ttftMilliseconds": 400}), "must be given exactly when table.ttft is true"),
        (json.dumps(VALID | {"table": TABLE | {"ttft": True}}), "must be given exactly when table.ttft is true"),
        (json.dumps({key: VALID[key] for key in VALID if key != "table"}), "table: must be given"),
        (json.dumps(VALID | {"table": None}), "table: None: must be"),
        (json.dumps(VALID | {"table": TABLE | {"more": 1}}), "table.more: is not a known field"),
        (json.dumps(VALID | {"table": TABLE | {"attainment": 1}}), "table.attainment: 1: must be less than 1"),
        (json.dumps(VALID | {"table": TABLE | {"drain": "1"}}), "table.drain: '1': must be a valid number"),
        (json.dumps(VALID | {"table": TABLE | {"kv": float("nan")}}), "table.kv: nan: must be a finite number"),
        (json.dumps(VALID | {"table": TABLE | {"prompt": 0}}), "table.prompt: 0: must be greater than 0"),
        (json.dumps(VALID | {"table": TABLE | {"ttft": 0}}), "table.ttft: 0: must be a valid boolean"),
        (json.dumps(VALID | {"table": TABLE | {"rows": []}}), "table.rows: []: "),
        (json.dumps(VALID | {"table": TABLE | {"rows": [[800, 1, 1, 1]] * 17}}), "at most 16 items"),
        (json.dumps(VALID | {"table": TABLE | {"rows": [[800, 1, 1]]}}), "table.rows[0][3]: must be given"),
        (json.dumps(VALID | {"table": TABLE | {"rows": [[800, -1, 1, 1]]}}), "table.rows[0][1]: -1: must be"),
        (json.dumps(VALID | {"lease": "dynawatt-operator"}), "lease: 'dynawatt-operator': "),
        (json.dumps(VALID | {"service": "prod/llama\n"}), "service: "),
        (json.dumps(VALID | {"service": "prod/" + "x" * 3000}), "must have at most 2048"),
    ],
)
def test_anything_else_is_refused_in_one_line(text, reason):
    with pytest.raises(InvalidClaimError) as refusal:
        ClockClaim.from_annotation(text)
    assert reason in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 300


@given(
    st.text()
    | st.recursive(st.none() | st.integers() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)).map(
        json.dumps
    )
)
def test_no_text_raises_anything_else(text):
    with pytest.raises(InvalidClaimError):
        ClockClaim.from_annotation(text)


def test_claim_is_immutable_and_hashable():
    claim = ClockClaim.from_annotation(json.dumps(VALID))
    assert len({claim, claim.model_copy()}) == 1
    with pytest.raises(ValidationError):
        claim.floor_megahertz = 900
