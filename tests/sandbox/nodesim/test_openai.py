import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.sandbox.nodesim.openai import ApiError, parse_generation

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("model", "prompt", "messages", "max_tokens", "max_completion_tokens", "min_tokens", "n", "stream_options")
MESSAGES = st.lists(st.fixed_dictionaries({"role": JSON}, optional={"content": JSON}), max_size=2)


def parse(kind="completion", **fields):
    return parse_generation(kind, json.dumps(fields).encode(), models=("m",), max_model_len=100)


@given(
    st.sampled_from(["completion", "chat"]),
    st.dictionaries(st.sampled_from(FIELDS), JSON),
    st.none() | MESSAGES,
)
def test_any_json_is_valid_or_refused(kind, fields, messages):
    fields = fields if messages is None else {**fields, "messages": messages}
    with contextlib.suppress(ApiError):
        generation = parse(kind, **fields)
        assert generation.prompt_tokens >= 1
        assert generation.prompt_tokens + generation.max_tokens <= 100


@pytest.mark.parametrize(
    ("kind", "fields", "tokens"),
    [
        ("completion", {"prompt": "a b c"}, (3, 16)),
        ("completion", {"prompt": ["a b c"], "max_tokens": 97}, (3, 97)),
        ("completion", {"prompt": [[5, 6]], "max_tokens": 1}, (2, 1)),
        ("chat", {"messages": [{"role": "user", "content": "a b"}]}, (2, 98)),
        ("chat", {"messages": [{"role": "user"}], "max_completion_tokens": 3, "max_tokens": 9}, (1, 3)),
    ],
)
def test_token_counts_and_defaults(kind, fields, tokens):
    generation = parse(kind, model="m", **fields)
    assert (generation.prompt_tokens, generation.max_tokens) == tokens
