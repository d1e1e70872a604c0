"""Check a CRL that is too long to hold: its signature and its head and tail, in one pass.

What lies between is the CA's own word once the signature holds, and isn't looked at. Memory stays
flat, except for Ed25519, which hashes its message twice and needs the whole list (as it does to
sign it).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, mldsa, padding, rsa, utils

from node_agent.pki import der
from node_agent.pki.keys import (
    algorithm_identifier,
    digest_hash,
    key_kind_of,
    load_spki,
    start_digest,
    verify,
)

if TYPE_CHECKING:
    from node_agent.pki.keys import Digest

__all__ = ["CrlCheck", "CrlFacts"]

# Issuer name, times and extensions are some hundred octets; nothing of ours comes near this.
_MOST_OCTETS = 64 * 1024
_VERSION_2 = der.integer(1)
_CRL_NUMBER = der.oid("2.5.29.20")
_DELTA_CRL_INDICATOR = der.oid("2.5.29.27")
_TIMES = (der.UTC_TIME, der.GENERALIZED_TIME)


@dataclass(frozen=True, slots=True, kw_only=True)
class CrlFacts:
    """What a CRL says of itself."""

    number: int
    base_number: int | None
    this_update: int
    next_update: int


class CrlCheck:
    """Feed it a CRL in pieces of any size, then ask ``finish``.

    ``issuer`` is the CA's subject name (DER), ``spki`` its key. Every method raises DerError for
    what isn't such a CRL, and RequestRefused for a key that isn't supported.
    """

    def __init__(self, issuer: bytes, spki: bytes) -> None:
        self._issuer = issuer
        self._spki = spki
        self._kind = key_kind_of(load_spki(spki))
        self._digest: Digest | None = start_digest(self._kind, spki)
        self._whole = bytearray()
        self._head = bytearray()
        self._tail = bytearray()
        self._position = 0
        self._tbs = (0, 0)
        self._tail_at = -1
        self._end = 0
        self._times = (0, 0)

    def feed(self, data: bytes) -> None:
        """Take the next piece."""
        if self._tail_at < 0:
            self._head += data
            if not self._read_head():
                if len(self._head) > _MOST_OCTETS:
                    raise der.DerError("the CRL's head is too long")
                return
            data = bytes(self._head)
            self._head.clear()
        self._take(data)

    def finish(self) -> CrlFacts:
        """Return what the list says of itself, once its signature is found to hold."""
        if self._tail_at < 0 or self._position != self._end:
            raise der.DerError("the CRL is cut off")
        extensions_end = self._tbs[1] - self._tail_at
        (tag, _, encoded), (signature_tag, signature, _) = _pair(bytes(self._tail[extensions_end:]))
        if tag != der.SEQUENCE or encoded != algorithm_identifier(self._kind):
            raise der.DerError("the signature's algorithm isn't that of the CA's key")
        if signature_tag != der.BIT_STRING or signature[:1] != b"\x00":
            raise der.DerError("the signature isn't a whole number of octets")
        if not self._is_signed(signature[1:]):
            raise der.DerError("the CRL isn't signed by its CA")
        return self._facts(bytes(self._tail[:extensions_end]))

    def _read_head(self) -> bool:
        """Find out where what is; False while too little of the list is there."""
        head = bytes(self._head)
        try:
            outer = _header(head, 0, der.SEQUENCE)
            tbs = _header(head, outer[0], der.SEQUENCE)
            offset = self._read_fields(head, tbs[0])
            tag = head[offset] if offset < tbs[1] else -1
            self._tail_at = (
                _header(head, offset, der.SEQUENCE)[1] if tag == der.SEQUENCE else offset
            )
        except IndexError:
            return False
        self._tbs = (outer[0], tbs[1])
        self._end = outer[1]
        if not self._tail_at <= tbs[1] < self._end:
            raise der.DerError("the CRL's parts don't fit into it")
        return True

    def _read_fields(self, head: bytes, offset: int) -> int:
        """Check what stands before the entries; return where they begin."""
        for expected in (_VERSION_2, algorithm_identifier(self._kind), self._issuer):
            found = head[offset : offset + len(expected)]
            if found != expected[: len(found)]:
                raise der.DerError("the CRL is of another version, algorithm or CA")
            offset += len(expected)
        times = []
        for _ in range(2):
            if head[offset] not in _TIMES:
                raise der.DerError("the CRL lacks thisUpdate or nextUpdate")
            start, end = _header(head, offset, head[offset])
            if end > len(head):
                raise IndexError
            times.append(der.decode_time(head[offset], head[start:end]))
            offset = end
        self._times = (times[0], times[1])
        return offset

    def _take(self, data: bytes) -> None:
        start, end = self._tbs
        first, last = self._position, self._position + len(data)
        if last > self._end:
            raise der.DerError("bytes follow the CRL")
        signed = data[max(start - first, 0) : max(end - first, 0)]
        if self._digest is None:
            self._whole += signed
        elif signed:
            self._digest.update(signed)
        if last > self._tail_at:
            self._tail += data[max(self._tail_at - first, 0) :]
            if len(self._tail) > _MOST_OCTETS:
                raise der.DerError("the CRL's tail is too long")
        self._position = last

    def _is_signed(self, signature: bytes) -> bool:
        if self._digest is None:
            return verify(self._spki, signature, bytes(self._whole))
        digest, key = self._digest.finalize(), load_spki(self._spki)
        try:
            if isinstance(key, ec.EllipticCurvePublicKey):
                key.verify(signature, digest, ec.ECDSA(utils.Prehashed(digest_hash(self._kind))))
            elif isinstance(key, rsa.RSAPublicKey):
                hashed = utils.Prehashed(digest_hash(self._kind))
                key.verify(signature, digest, padding.PKCS1v15(), hashed)
            else:
                assert isinstance(
                    key, mldsa.MLDSA44PublicKey | mldsa.MLDSA65PublicKey | mldsa.MLDSA87PublicKey
                )
                key.verify_mu(signature, digest)
        except InvalidSignature:
            return False
        return True

    def _facts(self, encoded: bytes) -> CrlFacts:
        extensions = der.read_all(der.read_all(encoded, 0xA0), der.SEQUENCE)
        numbers: dict[bytes, int] = {}
        for _, content, _ in der.children(extensions):
            parts = der.children(content)
            if parts[0][2] in (_CRL_NUMBER, _DELTA_CRL_INDICATOR):
                value = der.read_all(parts[-1][1], der.INTEGER)
                numbers[parts[0][2]] = der.decode_integer(value)
        if _CRL_NUMBER not in numbers:
            raise der.DerError("the CRL has no number")
        return CrlFacts(
            number=numbers[_CRL_NUMBER],
            base_number=numbers.get(_DELTA_CRL_INDICATOR),
            this_update=self._times[0],
            next_update=self._times[1],
        )


def _header(data: bytes, offset: int, tag: int) -> tuple[int, int]:
    """Return where the element's content begins and ends; it may end behind ``data``.

    Raises IndexError when more of the data is needed.
    """
    if data[offset] != tag:
        raise der.DerError(f"expected an element with tag 0x{tag:02x}")
    length, start = data[offset + 1], offset + 2
    if length >= 0x80:
        count = length & 0x7F
        if start + count > len(data):
            raise IndexError
        length = int.from_bytes(data[start : start + count], "big")
        if not 1 <= count <= 4 or length < 0x80 or length >> (8 * (count - 1)) == 0:
            raise der.DerError("a length isn't encoded in the fewest octets")
        start += count
    return start, start + length


def _pair(encoded: bytes) -> tuple[tuple[int, bytes, bytes], tuple[int, bytes, bytes]]:
    parts = der.children(encoded)
    if len(parts) != 2:
        raise der.DerError("the CRL doesn't end with algorithm and signature")
    return parts[0], parts[1]
