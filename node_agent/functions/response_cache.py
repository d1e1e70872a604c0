"""Kept OCSP answers: found by the very bytes of the request, dropped when a status changes.

An answer speaks of certificates of one CA, and one of this CA's signers has signed it. It outlives
a renewal of the signer, and goes when the signer's certificate of then is revoked.

Most clients ask for one certificate in one fixed form, so the request's bytes are the key and a hit
needs no parsing. The memory of answers is bounded; the least recently *made* go first, which with
answers of equal lifetime are those that would expire first.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, Final

from node_agent.web.backends import CachedResponse, OcspAnswer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["DEFAULT_OCTETS", "KeptResponse", "ResponseCache"]

CertificateKey = tuple[str, int]
"""Authority id and serial number."""

DEFAULT_OCTETS: Final = 256 * 1024 * 1024

_ANSWER_OCTETS: Final = 780
"""What an answer takes besides the bytes of request and response: objects and entries of the two
dictionaries. Where old answers make room for new ones these tables grow to twice their size, and
gaps stay between what is freed: 900 then, measured with `python -m benchmarks --only ocsp-memory`;
700 before. tests/unit/functions/test_response_cache.py holds both sides.
"""

_CERTIFICATE_OCTETS: Final = 250
"""The same for each further certificate that an answer speaks of."""


class KeptResponse(CachedResponse):
    """An answer, what it speaks of, and the serial number of its signer's certificate."""

    __slots__ = ("certificates", "renew_at", "signer")

    def __init__(
        self, answer: OcspAnswer, certificates: tuple[CertificateKey, ...], signer: int
    ) -> None:
        super().__init__(answer)
        self.certificates = certificates
        self.signer = signer
        self.renew_at: float = 0
        """Monotonic seconds: earlier nobody begins to make it anew."""

    @property
    def signed_by(self) -> CertificateKey:
        """The signer's certificate: of the same CA."""
        return self.certificates[0][0], self.signer


class ResponseCache:
    """Answers by request bytes, and which of them speak of a certificate.

    ``most_octets`` bounds the memory of all answers together.
    """

    def __init__(self, most_octets: int = DEFAULT_OCTETS) -> None:
        self._most_octets = most_octets
        # Finding the first entry of a plain dict whose first thousands were deleted is slow.
        self._answers: OrderedDict[bytes, KeptResponse] = OrderedDict()
        # Nearly always one request asks for a certificate, and a set takes 216 octets.
        self._requests: dict[CertificateKey, bytes | set[bytes]] = {}
        # How many answers each signer's certificate has signed. Which ones, is found by looking
        # through all: that is needed about never, and an index would cost each answer memory.
        self._signed: Counter[CertificateKey] = Counter()
        self.octets = 0
        """What all answers take, as counted: within some percent of what they take."""

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, request: bytes) -> KeptResponse | None:
        """Return the answer kept for exactly these bytes."""
        return self._answers.get(request)

    def put(
        self,
        request: bytes,
        answer: OcspAnswer,
        certificates: Iterable[CertificateKey],
        *,
        signer: int,
    ) -> None:
        """Keep ``answer``, which speaks of ``certificates`` (of one CA, one at least), and drop the
        oldest beyond the bound. ``signer`` is the serial number of the signer's certificate.

        An answer that is larger than the bound by itself is not kept.
        """
        self._drop(request)
        kept = KeptResponse(answer, tuple(certificates), signer)
        octets = _octets_of(request, kept)
        if octets > self._most_octets:
            return
        while self.octets + octets > self._most_octets:
            self._drop(next(iter(self._answers)))
        self._answers[request] = kept
        self.octets += octets
        self._signed[kept.signed_by] += 1
        for key in kept.certificates:
            self._note(key, request)

    def drop(self, request: bytes) -> None:
        """Forget the answer kept for exactly these bytes."""
        self._drop(request)

    def drop_certificate(self, authority_id: str, serial: int) -> None:
        """Forget every answer that speaks of a certificate."""
        found = self._requests.get((authority_id, serial))
        if found is not None:
            for request in (found,) if isinstance(found, bytes) else tuple(found):
                self._drop(request)

    def drop_signed_by(self, authority_id: str, serial: int) -> None:
        """Forget every answer that was signed under a signer's certificate."""
        signer = (authority_id, serial)
        if signer in self._signed:
            self._drop_all(lambda kept: kept.signed_by == signer)

    def drop_authority(self, authority_id: str) -> None:
        """Forget every answer about certificates of a CA."""
        has_answers = {identifier for identifier, _ in self._signed}
        if has_answers == {authority_id}:
            self.clear()
        elif authority_id in has_answers:
            self._drop_all(lambda kept: kept.signed_by[0] == authority_id)

    def clear(self) -> None:
        """Forget every answer."""
        self._answers.clear()
        self._requests.clear()
        self._signed.clear()
        self.octets = 0

    def _drop_all(self, is_meant: Callable[[KeptResponse], bool]) -> None:
        for request in [key for key, kept in self._answers.items() if is_meant(kept)]:
            self._drop(request)

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
        self._signed[kept.signed_by] -= 1
        if not self._signed[kept.signed_by]:
            del self._signed[kept.signed_by]
        for key in kept.certificates:
            found = self._requests.get(key)
            if isinstance(found, set):
                found.discard(request)
            if not found or isinstance(found, bytes):
                self._requests.pop(key, None)


def _octets_of(request: bytes, kept: KeptResponse) -> int:
    further = max(0, len(kept.certificates) - 1)
    return len(request) + len(kept.answer.der) + _ANSWER_OCTETS + further * _CERTIFICATE_OCTETS
