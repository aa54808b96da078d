"""Reads vLLM's stream of server-sent events, cheaply: thousands of them arrive per second.

A read that holds nothing but whole events in the middle of a stream is only
counted. Everything else (the ends of streams, events cut by the network, other
servers' spelling) is taken apart and parsed.
"""

import json
from typing import Any, Final

_END: Final = b"\n\n"
_UNFINISHED: Final = b'"finish_reason":null'  # cannot occur inside a JSON string, where quotes are escaped
_DATA: Final = b"data:"
_DONE: Final = b"[DONE]"


class EventReader:
    """State of one response."""

    __slots__ = ("_rest", "counted", "error", "finish_reason", "usage_tokens")

    def __init__(self) -> None:
        self._rest = b""
        self.counted = 0
        """Events so far that carry tokens."""
        self.usage_tokens: int | None = None
        """Generated tokens by the server's own count: one event may carry several."""
        self.finish_reason: str | None = None
        self.error: str | None = None
        """What the server said when it broke the stream off."""

    @property
    def tokens(self) -> int:
        """Generated tokens as far as known."""
        return self.counted if self.usage_tokens is None else self.usage_tokens

    def feed(self, data: bytes) -> int:
        """Take in what was received; returns how many events in it carry tokens."""
        if not self._rest and data.endswith(_END):
            events = data.count(_END)
            if data.count(_UNFINISHED) == events:
                self.counted += events
                return events
        *complete, self._rest = (self._rest + data).split(_END)
        events = sum(self._take(event) for event in complete)
        self.counted += events
        return events

    def _take(self, event: bytes) -> bool:
        """Parse one event; whether it carries a token."""
        payload = event.strip().removeprefix(_DATA).strip()
        if not payload or payload == _DONE or payload.startswith(b":"):
            return False
        try:
            fields = json.loads(payload)
            return self._take_fields(fields)
        except (ValueError, TypeError, KeyError, AttributeError, IndexError):
            self.error = f"event cannot be read: {payload[:100].decode(errors='replace')}"
            return False

    def _take_fields(self, fields: dict[str, Any]) -> bool:
        if "error" in fields:
            error = fields["error"]
            self.error = str(error.get("message", error) if isinstance(error, dict) else error)
            return False
        if usage := fields.get("usage"):
            self.usage_tokens = int(usage["completion_tokens"])
        if not fields["choices"]:
            return False
        choice = fields["choices"][0]
        reason = choice.get("finish_reason")
        if reason is None:
            return True
        self.finish_reason = reason
        # The last token comes with the reason; an aborted request may end without another one.
        return reason != "abort" or bool(choice.get("text"))
