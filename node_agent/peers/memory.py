"""Answers that were given already, for operations where asking twice must not act twice.

Enrolment has its own memory in the store, for ever. This one is for the rest and lasts as long as
a signed request can be valid: after that, a replay is refused for its age.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from node_agent.errors import Conflict
from node_agent.peers.envelope import CLOCK_SKEW_SECONDS, MAX_LIFETIME_SECONDS

if TYPE_CHECKING:
    from node_agent.clock import Clock
    from node_agent.peers.envelope import VerifiedRequest

__all__ = ["AnswerMemory"]

_KEEP_SECONDS: Final = MAX_LIFETIME_SECONDS + 2 * CLOCK_SKEW_SECONDS
# 200 revocations a second for six minutes; an answer is about 100 bytes.
_MAX_ANSWERS: Final = 100_000


@dataclass(frozen=True, slots=True)
class _Remembered:
    content_digest: bytes
    payload: bytes
    forget_at: float


class AnswerMemory:
    """OK answers by origin and request id, oldest first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._answers: OrderedDict[tuple[str, bytes], _Remembered] = OrderedDict()

    def recall(self, request: VerifiedRequest) -> bytes | None:
        """Return the payload that this request was answered with, None when it is new.

        Raises Conflict when the request id was used for something else.
        """
        known = self._answers.get(_key(request))
        if known is None or known.forget_at < self._clock.monotonic():
            return None
        if known.content_digest != request.content_digest:
            raise Conflict("the request id was used for another request")
        return known.payload

    def remember(self, request: VerifiedRequest, payload: bytes) -> None:
        """Keep an answer for as long as its request could be sent again."""
        now = self._clock.monotonic()
        self._forget(now)
        self._answers[_key(request)] = _Remembered(
            request.content_digest, payload, now + _KEEP_SECONDS
        )

    def _forget(self, now: float) -> None:
        while self._answers:
            key, oldest = next(iter(self._answers.items()))
            if oldest.forget_at >= now and len(self._answers) < _MAX_ANSWERS:
                return
            del self._answers[key]


def _key(request: VerifiedRequest) -> tuple[str, bytes]:
    return request.origin.node.uri, request.body.request_id
