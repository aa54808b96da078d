import itertools
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.load.events import EventReader


def sse(**fields) -> bytes:
    return b"data: " + json.dumps(fields, separators=(",", ":")).encode() + b"\n\n"


def token(text=" token", finish_reason=None) -> bytes:
    return sse(id="cmpl-1", choices=[{"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason}])


USAGE = sse(choices=[], usage={"prompt_tokens": 5, "completion_tokens": 4})
DONE = b"data: [DONE]\n\n"
TRICKY = ['"finish_reason":null', "data: x\n\n", "[DONE]", "\n\n", "\\", "é\u2028"]


def read(*parts: bytes) -> EventReader:
    reader = EventReader()
    for part in parts:
        reader.feed(part)
    return reader


@pytest.mark.parametrize(
    ("stream", "tokens", "finish_reason"),
    [
        (token() * 3 + token(finish_reason="length") + USAGE + DONE, 4, "length"),
        (token() * 2 + token(finish_reason="length") + DONE, 3, "length"),
        (token() * 2 + token("", finish_reason="abort") + DONE, 2, "abort"),
        (token() * 2 + token(" x", finish_reason="abort") + DONE, 3, "abort"),
        (token() + b": ping\n\n" + token(finish_reason="stop") + DONE, 2, "stop"),
        (token() * 2 + token(finish_reason="length") + USAGE, 4, "length"),
        (b'data: {"choices": [{"text": "spaced", "finish_reason": null}]}\n\n' + DONE, 1, None),
        (b"", 0, None),
    ],
)
def test_whole_streams(stream, tokens, finish_reason):
    for parts in ([stream], [stream[i : i + 1] for i in range(len(stream))]):
        reader = read(*parts)
        assert (reader.tokens, reader.finish_reason, reader.error) == (tokens, finish_reason, None)


@given(st.lists(st.sampled_from([" token", "", *TRICKY]), max_size=12), st.lists(st.integers(0, 2000), max_size=6))
def test_neither_text_nor_cuts_matter(texts, cuts):
    stream = b"".join(map(token, texts)) + token(finish_reason="length") + DONE
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    reader = EventReader()
    counts = [reader.feed(stream[a:b]) for a, b in itertools.pairwise(places)]
    assert reader.tokens == sum(counts) == len(texts) + 1
    assert reader.finish_reason == "length"
    assert reader.error is None


@pytest.mark.parametrize(
    ("stream", "error"),
    [
        (token() + sse(error={"message": "out of memory", "code": 500}) + DONE, "out of memory"),
        (token() + sse(error="broken") + DONE, "broken"),
        (b"data: {not json}\n\n", "event cannot be read: {not json}"),
        (b"data: []\n\n", r"event cannot be read: \[\]"),
        (b'data: {"no": "choices"}\n\n', "event cannot be read"),
        (b"<html>gateway</html>\n\n", "event cannot be read: <html>"),
    ],
)
def test_errors(stream, error):
    found = read(stream).error
    assert found is not None
    assert re.match(error, found)
