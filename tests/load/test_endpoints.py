import random
from collections import Counter

import pytest

from dynawatt.errors import InvalidInputError
from dynawatt.load.endpoints import Endpoint, StaticEndpoints, least_outstanding


@pytest.mark.parametrize(
    ("url", "base_url"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("https://llm.example/prefix/", "https://llm.example/prefix"),
        ("http://[::1]:8000/v1", "http://[::1]:8000"),
    ],
)
def test_urls(url, base_url):
    fixed = StaticEndpoints([url])
    assert [endpoint.base_url for endpoint in fixed.current()] == [base_url]
    assert fixed.current()[0] is fixed.current()[0]


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8000", "ftp://x", "http://", "http://x:port", "http://x:99999", "http://x?a=b", "http://[::1"],
)
def test_impossible_urls(url):
    with pytest.raises(InvalidInputError, match="must be like http://host:8000"):
        StaticEndpoints([url])


def test_several_urls():
    urls = ["http://a:1", "http://b:1"]
    assert [endpoint.name for endpoint in StaticEndpoints(urls).current()] == urls
    with pytest.raises(InvalidInputError, match="--url http://a:1 http://a:1/v1: names a server twice"):
        StaticEndpoints(["http://a:1", "http://a:1/v1"])


def test_fewest_requests_win_and_ties_are_random():
    pods = [Endpoint(name, "", outstanding) for name, outstanding in (("a", 2), ("b", 1), ("c", 1))]
    rng = random.Random(1)
    chosen = Counter(least_outstanding(pods, rng).name for _ in range(200))
    assert chosen["a"] == 0
    assert chosen["b"] == pytest.approx(100, abs=30)
    assert least_outstanding([], rng) is None
