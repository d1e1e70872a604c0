"""Kept OCSP answers: found by the very bytes of the request, dropped when a status changes.

Most clients ask for one certificate in one fixed form, so the request's bytes are the key and a hit
needs no parsing. The memory of answers is bounded; the least recently *made* go first, which with
answers of equal lifetime are those that would expire first.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from node_agent.web.backends import CachedResponse, OcspAnswer

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["DEFAULT_OCTETS", "ResponseCache"]

CertificateKey = tuple[str, int]
"""Authority id and serial number."""

DEFAULT_OCTETS: Final = 256 * 1024 * 1024

_ANSWER_OCTETS: Final = 700
"""What an answer takes besides the bytes of request and response: objects and entries of the two
dictionaries. tests/unit/functions/test_response_cache.py measures that it is neither too little nor
far too much.
"""

_CERTIFICATE_OCTETS: Final = 250
"""The same for each further certificate that an answer speaks of."""


class _Kept(CachedResponse):
    """An answer, and what it speaks of."""

    __slots__ = ("certificates",)

    def __init__(self, answer: OcspAnswer, certificates: tuple[CertificateKey, ...]) -> None:
        super().__init__(answer)
        self.certificates = certificates


class ResponseCache:
    """Answers by request bytes, and which of them speak of a certificate.

    ``most_octets`` bounds the memory of all answers together.
    """

    def __init__(self, most_octets: int = DEFAULT_OCTETS) -> None:
        self._most_octets = most_octets
        # Finding the first entry of a plain dict whose first thousands were deleted is slow.
        self._answers: OrderedDict[bytes, _Kept] = OrderedDict()
        # Nearly always one request asks for a certificate, and a set takes 216 octets.
        self._requests: dict[CertificateKey, bytes | set[bytes]] = {}
        self.octets = 0
        """What all answers take, as counted: within some percent of what they take."""

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, request: bytes) -> CachedResponse | None:
        """Return the answer kept for exactly these bytes."""
        return self._answers.get(request)

    def put(
        self, request: bytes, answer: OcspAnswer, certificates: Iterable[CertificateKey]
    ) -> None:
        """Keep ``answer``, which speaks of ``certificates``, and drop the oldest beyond the bound.

        An answer that is larger than the bound by itself is not kept.
        """
        self._drop(request)
        kept = _Kept(answer, tuple(certificates))
        octets = _octets_of(request, kept)
        if octets > self._most_octets:
            return
        while self.octets + octets > self._most_octets:
            self._drop(next(iter(self._answers)))
        self._answers[request] = kept
        self.octets += octets
        for key in kept.certificates:
            self._note(key, request)

    def drop_certificate(self, authority_id: str, serial: int) -> None:
        """Forget every answer that speaks of a certificate."""
        found = self._requests.get((authority_id, serial))
        if found is not None:
            for request in (found,) if isinstance(found, bytes) else tuple(found):
                self._drop(request)

    def clear(self) -> None:
        """Forget every answer."""
        self._answers.clear()
        self._requests.clear()
        self.octets = 0

    def _note(self, key: CertificateKey, request: bytes) -> None:
        found = self._requests.setdefault(key, request)
        if isinstance(found, set):
            found.add(request)
        elif found != request:
            self._requests[key] = {found, request}

    def _drop(self, request: bytes) -> None:
        kept = self._answers.pop(request, None)
        if kept is None:
            return
        self.octets -= _octets_of(request, kept)
        for key in kept.certificates:
            found = self._requests.get(key)
            if isinstance(found, set):
                found.discard(request)
            if not found or isinstance(found, bytes):
                self._requests.pop(key, None)


def _octets_of(request: bytes, kept: _Kept) -> int:
    further = max(0, len(kept.certificates) - 1)
    return len(request) + len(kept.answer.der) + _ANSWER_OCTETS + further * _CERTIFICATE_OCTETS
