"""Sends one completion request to vLLM and follows its stream.

Prompts are lists of token ids, so that they have exactly the wanted length. A
trace holds no text; the first ids differ from request to request, or a prefix
cache would make all prefills but the first free.
"""

import asyncio
import json
import resource
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import aiohttp

from dynawatt.errors import OperationError
from dynawatt.load.endpoints import Endpoint
from dynawatt.load.events import EventReader

_CONNECT_TIMEOUT_S: Final = 5.0
_MODELS_TIMEOUT_S: Final = 10.0
_DNS_CACHE_S: Final = 600
_UNIQUE_IDS: Final = 900  # ids 100 to 999 exist in every vocabulary and are no special tokens in the usual ones
_FIRST_ID: Final = 100
_UNIQUE_PLACES: Final = 3


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request failed."""

    reason: str
    """One of a few, to count by."""
    example: str
    refused: bool = False
    """The server took nothing of the request, so that another one may be asked."""


TokensArrived = Callable[[float, int], None]
"""Called with the event loop's time and how many events with tokens came at it."""


def completion_body(model_json: bytes, number: int, input_tokens: int, output_tokens: int) -> bytes:
    """Body of a completion request of exactly these lengths.

    ``model_json`` is the name as a JSON string; ``number`` tells the prompt from others.
    """
    unique, left = [], number
    for _ in range(min(_UNIQUE_PLACES, input_tokens)):
        left, digit = divmod(left, _UNIQUE_IDS)
        unique.append(b"%d" % (_FIRST_ID + digit))
    prompt = b",".join(unique) + b",%d" % _FIRST_ID * (input_tokens - len(unique))
    return (
        b'{"model":%b,"prompt":[%b],"max_tokens":%d,"min_tokens":%d,"ignore_eos":true,"temperature":0,'
        b'"stream":true,"stream_options":{"include_usage":true}}' % (model_json, prompt, output_tokens, output_tokens)
    )


class CompletionClient:
    """Connections to all servers; use it as an async context manager."""

    def __init__(self, *, request_timeout_s: float) -> None:
        """``request_timeout_s`` bounds a whole request; a server that falls silent must not hold it for ever."""
        self._timeout = aiohttp.ClientTimeout(total=request_timeout_s, sock_connect=_CONNECT_TIMEOUT_S)
        self._request_timeout_s = request_timeout_s

    async def __aenter__(self) -> Self:
        """Open."""
        _allow_many_connections()
        # A connection per request: one kept from before may be closed by the server in the moment it is used.
        connector = aiohttp.TCPConnector(limit=0, force_close=True, ttl_dns_cache=_DNS_CACHE_S)
        headers = {"Content-Type": "application/json"}
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=self._timeout, headers=headers, auto_decompress=False
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        await self._session.close()

    async def complete(
        self, endpoint: Endpoint, body: bytes, wanted_tokens: int, on_tokens: TokensArrived
    ) -> tuple[Failure | None, int]:
        """Send a request and read its stream to the end: the failure, if any, and the tokens generated."""
        reader = EventReader()
        try:
            return await self._stream(endpoint, body, wanted_tokens, on_tokens, reader), reader.tokens
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            return Failure("cannot connect", f"{endpoint.name}: {_describe(error)}", refused=True), 0
        except TimeoutError:
            example = f"{endpoint.name}: not finished after {self._request_timeout_s:g} s, {reader.counted} tokens"
            return Failure("timeout", example), reader.tokens
        except (aiohttp.ClientError, OSError) as error:
            example = f"{endpoint.name}: after {reader.counted} of {wanted_tokens} tokens: {_describe(error)}"
            return Failure("connection lost", example), reader.tokens

    async def _stream(
        self, endpoint: Endpoint, body: bytes, wanted_tokens: int, on_tokens: TokensArrived, reader: EventReader
    ) -> Failure | None:
        now_s = asyncio.get_running_loop().time
        async with self._session.post(f"{endpoint.base_url}/v1/completions", data=body) as response:
            if response.status != 200:
                text = (await response.content.read(2_000)).decode(errors="replace")
                refused = response.status == 503
                return Failure(f"HTTP {response.status}", f"{endpoint.name}: {_message(text)}", refused=refused)
            async for data in response.content.iter_any():
                if events := reader.feed(data):
                    on_tokens(now_s(), events)
        if reader.error is not None:
            return Failure("server error", f"{endpoint.name}: {reader.error}")
        got = f"{endpoint.name}: {reader.tokens} of {wanted_tokens} tokens"
        if reader.finish_reason == "abort":
            return Failure("abort", got)
        if reader.tokens < wanted_tokens:
            return Failure("too few tokens", f"{got}, finish_reason {reader.finish_reason}")
        return None

    async def served_model(self, endpoint: Endpoint) -> str:
        """Name of the first model that a server offers. Raises OperationError."""
        url = f"{endpoint.base_url}/v1/models"
        try:
            async with self._session.get(url, timeout=aiohttp.ClientTimeout(total=_MODELS_TIMEOUT_S)) as response:
                response.raise_for_status()
                answer = json.loads(await response.read())
            return str(answer["data"][0]["id"])
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise OperationError(f"{url}: {_describe(error)}; is a vLLM server there?") from error
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise OperationError(f"{url} names no model; give --model NAME") from error


def _describe(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _message(text: str) -> str:
    """The message of an OpenAI error object, or the text."""
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return " ".join(text.split())[:300] or "no message"


def _allow_many_connections() -> None:
    """Lift the soft limit on open files: each outstanding request holds one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
