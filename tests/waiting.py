"""Waiting for what other processes bring about."""

import time
from collections.abc import Callable
from typing import Any


def until(check: Callable[[], Any], *, within_s: float = 20.0) -> Any:
    """The first true answer."""
    deadline_s = time.monotonic() + within_s
    while not (answer := check()):
        assert time.monotonic() < deadline_s, f"not true within {within_s} s"
        time.sleep(0.1)
    return answer
