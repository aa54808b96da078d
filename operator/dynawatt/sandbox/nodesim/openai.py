"""The OpenAI wire format as vLLM speaks it: requests in, responses and server-sent events out.

Simulated text is the same word over and over and never ends early: a request
gets exactly ``max_tokens`` tokens. A prompt given as text counts one token per
word; one given as token ids counts exactly.
"""

import json
import time
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

TOKEN_TEXT: Final = " token"
DONE_EVENT: Final = b"data: [DONE]\n\n"
_COMPLETION_MAX_TOKENS: Final = 16  # the API's default

Kind: TypeAlias = Literal["completion", "chat"]


class ApiError(Exception):
    """A request that is refused with an HTTP status and an OpenAI error object."""

    _TYPES: Final = {400: "BadRequestError", 404: "NotFoundError", 503: "ServiceUnavailableError"}

    def __init__(self, status: int, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status: Final = status
        self.param: Final = param

    def body(self) -> dict[str, Any]:
        """The error object."""
        kind = self._TYPES.get(self.status, "InternalServerError")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.status}}


@dataclass(frozen=True, slots=True)
class Generation:
    """A valid request for text."""

    kind: Kind
    model: str
    prompt_tokens: int
    max_tokens: int
    stream: bool
    include_usage: bool


def parse_generation(kind: Kind, body: bytes, *, models: Collection[str], max_model_len: int) -> Generation:
    """Read and check a request body. Raises ApiError."""
    try:
        fields = json.loads(body)
    except ValueError as error:
        raise ApiError(400, f"the request body is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise ApiError(400, "the request body must be a JSON object")
    model = fields.get("model") or next(iter(models))
    if model not in models:
        raise ApiError(404, f"The model `{model}` does not exist.", "model")
    if fields.get("n") not in (None, 1):
        raise ApiError(400, "`n` must be 1: simulated pods generate one choice", "n")
    prompt_tokens = _completion_prompt(fields) if kind == "completion" else _chat_prompt(fields)
    max_tokens = _max_tokens(kind, fields, max_model_len - prompt_tokens)
    if prompt_tokens + max_tokens > max_model_len:
        message = (
            f"This model's maximum context length is {max_model_len} tokens. However, you requested {max_tokens} "
            f"output tokens and your prompt contains {prompt_tokens} input tokens: reduce one of them."
        )
        raise ApiError(400, message, "max_tokens")
    options = fields.get("stream_options") or {}
    return Generation(
        kind=kind,
        model=model,
        prompt_tokens=prompt_tokens,
        max_tokens=max_tokens,
        stream=bool(fields.get("stream")),
        include_usage=isinstance(options, dict) and bool(options.get("include_usage")),
    )


def _completion_prompt(fields: Mapping[str, Any]) -> int:
    prompt = fields.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str | list):
        prompt = prompt[0]
    if isinstance(prompt, str):
        tokens = len(prompt.split())
    elif isinstance(prompt, list) and all(type(token) is int for token in prompt):
        tokens = len(prompt)
    else:
        raise ApiError(400, "`prompt` must be one text or one list of token ids", "prompt")
    if not tokens:
        raise ApiError(400, "`prompt` must hold at least one token", "prompt")
    return tokens


def _chat_prompt(fields: Mapping[str, Any]) -> int:
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        raise ApiError(400, "`messages` must be a list of at least one message", "messages")
    return max(1, sum(_words(message.get("content")) for message in messages))


def _words(content: object) -> int:
    """Words of a message: plain text, a list of parts of which those with text count, or nothing."""
    if content is None:
        return 0
    parts = [{"text": content}] if isinstance(content, str) else content
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise ApiError(400, "`content` must be text or a list of content parts", "messages")
    return sum(len(str(part.get("text") or "").split()) for part in parts)


def _max_tokens(kind: Kind, fields: Mapping[str, Any], room: int) -> int:
    name = "max_completion_tokens" if fields.get("max_completion_tokens") is not None else "max_tokens"
    wanted = fields.get(name)
    if wanted is None:
        wanted = _COMPLETION_MAX_TOKENS if kind == "completion" else max(1, room)
    if type(wanted) is not int or wanted < 1:
        raise ApiError(400, f"`{name}` must be at least 1, got {wanted!r}.", name)
    least = fields.get("min_tokens") or 0
    if type(least) is not int or least > wanted:
        raise ApiError(400, f"`min_tokens` must be at most `{name}`={wanted}, got {least!r}.", "min_tokens")
    return wanted


class Responder:
    """Renders the responses to one request."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        chat = generation.kind == "chat"
        self.request_id: Final = f"{'chatcmpl' if chat else 'cmpl'}-{uuid.uuid4().hex}"
        self._head = {"id": self.request_id, "created": int(time.time()), "model": generation.model}

    def first_event(self) -> bytes:
        """The event before the first token: chat streams open with the role."""
        if self._generation.kind == "completion":
            return b""
        return self._event({"role": "assistant", "content": ""}, None)

    def token_event(self) -> bytes:
        """The event of every token but the last."""
        return self._event(self._text(1), None)

    def last_events(self, reason: str, generated_tokens: int) -> bytes:
        """All that ends a stream: the last token or the abortion, usage when asked for, and the end mark."""
        events = self._event(self._text(1 if reason == "length" else 0), reason)
        if self._generation.include_usage:
            events += _sse({**self._stream_head(), "choices": [], "usage": self._usage(generated_tokens)})
        return events + DONE_EVENT

    def whole(self, reason: str, generated_tokens: int) -> dict[str, Any]:
        """The response to a request that does not stream."""
        chat = self._generation.kind == "chat"
        text = TOKEN_TEXT * generated_tokens
        content = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        choice = {"index": 0, **content, "logprobs": None, "finish_reason": reason, "stop_reason": None}
        kind = "chat.completion" if chat else "text_completion"
        return {**self._head, "object": kind, "choices": [choice], "usage": self._usage(generated_tokens)}

    def _text(self, tokens: int) -> Any:
        text = TOKEN_TEXT * tokens
        return {"content": text} if self._generation.kind == "chat" else text

    def _event(self, content: Any, reason: str | None) -> bytes:
        name = "delta" if self._generation.kind == "chat" else "text"
        choice = {"index": 0, name: content, "logprobs": None, "finish_reason": reason, "stop_reason": None}
        return _sse({**self._stream_head(), "choices": [choice]})

    def _stream_head(self) -> dict[str, Any]:
        chat = self._generation.kind == "chat"
        return {**self._head, "object": "chat.completion.chunk" if chat else "text_completion"}

    def _usage(self, generated_tokens: int) -> dict[str, int]:
        prompt_tokens = self._generation.prompt_tokens
        return {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": generated_tokens,
            "total_tokens": prompt_tokens + generated_tokens,
        }


def _sse(event: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n"


def http_chunk(data: bytes) -> bytes:
    """``data`` framed for chunked transfer encoding; nothing for no data, which would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""
