import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dynawatt.api.claims import ClockClaim, InvalidClaimError

VALID = {
    "lease": "dynawatt-system/dynawatt-operator",
    "maxMegahertz": 1980,
    "minMegahertz": 800,
    "service": "prod/llama-3.1-70b",
    "version": 1,
}
NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)
CLAIMS = st.builds(
    lambda clocks, names: ClockClaim(
        min_megahertz=min(clocks),
        max_megahertz=max(clocks),
        lease=f"{names[0]}/{names[1]}",
        service=f"{names[2]}/{names[3]}",
    ),
    st.tuples(st.integers(100, 5000), st.integers(100, 5000)),
    st.tuples(NAMES, NAMES, NAMES, NAMES),
)


@given(CLAIMS)
def test_round_trip(claim):
    text = claim.to_annotation()
    assert ClockClaim.from_annotation(text) == claim
    assert ClockClaim.from_annotation(text).to_annotation() == text


def test_text_is_compact_and_sorted():
    claim = ClockClaim.from_annotation(json.dumps(VALID, indent=2))
    assert claim.to_annotation() == (
        '{"lease":"dynawatt-system/dynawatt-operator","maxMegahertz":1980,"minMegahertz":800,'
        '"service":"prod/llama-3.1-70b","version":1}'
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not valid JSON"),
        ("{", "is not valid JSON"),
        ("[" * 2000, "is not valid JSON"),
        ("[]", "must be a JSON object, not list"),
        ("null", "must be a JSON object, not NoneType"),
        ('{"version":1,"version":1}', "a key stands twice"),
        ("{}", "version None: must be 1"),
        (json.dumps(VALID | {"version": 2}), "version 2: must be 1"),
        (json.dumps(VALID | {"version": "1"}), "version '1': must be 1"),
        (json.dumps(VALID | {"version": True}), "version True: must be 1"),
        (json.dumps({"version": "x" * 2000}), "must be 1"),
        (json.dumps(VALID | {"governor": {}}), "governor: is not a known field"),
        (json.dumps(VALID | {"governor": None}), "governor: is not a known field"),
        (json.dumps(VALID | {"lease": None}), "lease: None: "),
        (json.dumps(VALID | {"min_megahertz": 800}), "min_megahertz: is not a known field"),
        (json.dumps({key: VALID[key] for key in VALID if key != "lease"}), "lease: must be given"),
        (json.dumps(VALID | {"minMegahertz": "800"}), "minMegahertz: '800': must be a valid integer"),
        (json.dumps(VALID | {"minMegahertz": 800.0}), "minMegahertz: 800.0: must be a valid integer"),
        (json.dumps(VALID | {"minMegahertz": True}), "minMegahertz: True: must be a valid integer"),
        (json.dumps(VALID | {"minMegahertz": float("nan")}), "minMegahertz: nan: must be a valid integer"),
        (json.dumps(VALID | {"maxMegahertz": 0}), "maxMegahertz: 0: must be greater than or equal to 100"),
        (json.dumps(VALID | {"maxMegahertz": 5001}), "maxMegahertz: 5001: must be less than or equal to 5000"),
        (json.dumps(VALID | {"minMegahertz": 1981}), "minMegahertz must be at most maxMegahertz"),
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
        claim.min_megahertz = 900
