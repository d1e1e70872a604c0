"""Kept OCSP answers: found by the very bytes of the request, dropped when a status changes.

Most clients ask for one certificate in one fixed form, so the request's bytes are the key and a hit
needs no parsing. The number of answers is bounded; the least recently *made* go first, which with
answers of equal lifetime are those that would expire first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from node_agent.web.backends import CachedResponse, OcspAnswer

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["ResponseCache"]

CertificateKey = tuple[str, int]
"""Authority id and serial number."""

# About 1.3 KiB an answer, with its HTTP form as much again: some 250 MiB when full.
_MOST_ANSWERS = 100_000


class ResponseCache:
    """Answers by request bytes, and which of them speak of a certificate."""

    def __init__(self, most_answers: int = _MOST_ANSWERS) -> None:
        self._most_answers = most_answers
        self._answers: dict[bytes, CachedResponse] = {}
        self._certificates: dict[bytes, tuple[CertificateKey, ...]] = {}
        self._requests: dict[CertificateKey, set[bytes]] = {}

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, request: bytes) -> CachedResponse | None:
        """Return the answer kept for exactly these bytes."""
        return self._answers.get(request)

    def put(
        self, request: bytes, answer: OcspAnswer, certificates: Iterable[CertificateKey]
    ) -> None:
        """Keep ``answer``, which speaks of ``certificates``."""
        self._drop(request)
        if len(self._answers) >= self._most_answers:
            self._drop(next(iter(self._answers)))
        self._answers[request] = CachedResponse(answer)
        self._certificates[request] = keys = tuple(certificates)
        for key in keys:
            self._requests.setdefault(key, set()).add(request)

    def drop_certificate(self, authority_id: str, serial: int) -> None:
        """Forget every answer that speaks of a certificate."""
        for request in tuple(self._requests.get((authority_id, serial), ())):
            self._drop(request)

    def clear(self) -> None:
        """Forget every answer."""
        self._answers.clear()
        self._certificates.clear()
        self._requests.clear()

    def _drop(self, request: bytes) -> None:
        if self._answers.pop(request, None) is None:
            return
        for key in self._certificates.pop(request):
            requests = self._requests[key]
            requests.discard(request)
            if not requests:
                del self._requests[key]
