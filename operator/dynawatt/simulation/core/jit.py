"""Compiles functions with numba, and keeps the machine code of entry points on disk.

Only what Python calls is cached: it holds the code of all that it calls itself,
so a second start loads a few files and compiles nothing. numba looks only at an
entry point's own file to see whether its cache is stale; here the cache key also
holds the code of every compiled function, wherever it stands.

Compiled functions neither make nor keep arrays, so numba need not count references
to them: with counting, two thirds of the time went there.
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from types import CodeType
from typing import Any, Final, TypeVar, cast

from numba import njit
from numba.core.caching import FunctionCache

Function = TypeVar("Function", bound=Callable[..., Any])

_OPTIONS: Final[dict[str, Any]] = {"_nrt": False}
_compiled: list[Callable[..., Any]] = []


def compiled(function: Function) -> Function:
    """A function that only compiled functions call."""
    _compiled.append(function)
    return cast(Function, njit(**_OPTIONS)(function))


def entry_point(function: Function) -> Function:
    """A function that Python calls; compiled once per machine, where a cache folder is writable."""
    _compiled.append(function)
    dispatcher: Any = njit(**_OPTIONS)(function)
    # Nowhere to write, as in a container with a read-only file system, is no reason not to run.
    with suppress(RuntimeError):
        dispatcher._cache = _Cache(function)  # type: ignore[no-untyped-call]
    return cast(Function, dispatcher)


class _Cache(FunctionCache):
    """numba's cache with a key that covers all compiled functions."""

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return (*super()._index_key(sig, codegen), _fingerprint())  # type: ignore[no-untyped-call]


def _fingerprint() -> str:
    digest = hashlib.sha256(repr(_OPTIONS).encode())
    for function in _compiled:
        _digest_code(digest, function.__code__)
        known = ((name, function.__globals__.get(name)) for name in function.__code__.co_names)
        digest.update(repr([(name, value) for name, value in known if isinstance(value, int | float)]).encode())
    return digest.hexdigest()


def _digest_code(digest: Any, code: CodeType) -> None:
    digest.update(code.co_code)
    digest.update(repr((code.co_names, code.co_varnames, code.co_freevars)).encode())
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _digest_code(digest, constant)
        else:
            digest.update(repr(constant).encode())
