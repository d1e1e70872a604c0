"""Requests and answers signed end to end, so that no node on the way has to be believed.

The origin signs what it asks, of whom, and until when; the answering node signs what it answered
to exactly that request. A proxy carries both as they are: it can delay or drop, nothing else.

The signed bytes travel as they were signed and are never encoded again to be verified: two
encoders can differ, and what was checked must be what is used. A label before them keeps a
signature over one kind of message from being one over another kind, or over anything else that
the same key signs (TLS puts 64 spaces before its own, RFC 8446 section 4.4.3).

``docs/reference/protocol.md`` describes the encoding for another implementation.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from node_agent.errors import ConfigError, HandshakeError, PolicyDenied
from node_agent.identity import NodeIdentity, PeerIdentity
from node_agent.peers.codec import ENCODER, UNREADABLE
from node_agent.peers.signature import PeerCertificates, sign, verify

if TYPE_CHECKING:
    from collections.abc import Sequence

    from node_agent.net.tls import IdentityHolder

__all__ = [
    "CLOCK_SKEW_SECONDS",
    "MAX_LIFETIME_SECONDS",
    "MAX_VIAS",
    "OwnRequest",
    "VerifiedAnswer",
    "VerifiedRequest",
    "add_via",
    "body_digest_of",
    "check_depth",
    "claimed_origin_of",
    "read_answer",
    "read_request",
    "sign_answer",
    "sign_request",
]

VERSION: Final = 1
CLOCK_SKEW_SECONDS: Final = 60
"""Nodes keep time by NTP; Kerberos allows five minutes, but need not be exact to the second."""
MAX_LIFETIME_SECONDS: Final = 300
MAX_VIAS: Final = 10
"""As deep as nesting goes; what comes round a loop ends here."""

_REQUEST_LABEL: Final = b"peersys/1 request\x00"
_ANSWER_LABEL: Final = b"peersys/1 answer\x00"

# No spaces: "alice via ra9" must never be a requester's name, or the audit line would lie.
RequesterName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._@:+=,/-]{0,128}$")]
Certificate = Annotated[bytes, msgspec.Meta(max_length=16_384)]
Chain = Annotated[tuple[Certificate, ...], msgspec.Meta(min_length=1, max_length=5)]
Signature = Annotated[bytes, msgspec.Meta(max_length=1024)]
RequestId = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
Digest = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Hash = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]


class _Array(msgspec.Struct, array_like=True, frozen=True, gc=False):
    pass


class Via(_Array, frozen=True):
    """A node that a request passed, as the next one saw it on its own link.

    The next node states this; it doesn't prove it. It could as well leave it out, and gains
    nothing by either: another identity in the chain can only take rights away.
    """

    node: Annotated[str, msgspec.Meta(max_length=400)]
    issuer: Annotated[str, msgspec.Meta(max_length=1024)]
    serial: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{1,40}$")]
    fingerprint_sha256: Hash
    spki_sha256: Hash


class RequestBody(_Array, frozen=True):
    """What the origin signs. Times are whole seconds since the epoch, UTC."""

    version: int
    method: Annotated[str, msgspec.Meta(max_length=64)]
    request_id: RequestId
    audience: Annotated[str, msgspec.Meta(max_length=400)]
    issued_at: int
    expires_at: int
    requester: RequesterName
    payload: bytes


class SignedRequest(_Array, frozen=True):
    """A request on its way. ``via`` grows as it passes nodes and isn't signed."""

    body: bytes
    signature: Signature
    chain: Chain
    via: Annotated[tuple[Via, ...], msgspec.Meta(max_length=MAX_VIAS)] = ()


class AnswerBody(_Array, frozen=True):
    """What the answering node signs. ``request`` is SHA-256 of the request's signed body."""

    version: int
    request: Digest
    status: int
    payload: bytes


class SignedAnswer(_Array, frozen=True):
    """An answer on its way back."""

    body: bytes
    signature: Signature
    chain: Chain


_REQUEST = msgspec.msgpack.Decoder(SignedRequest)
_REQUEST_BODY = msgspec.msgpack.Decoder(RequestBody)
_ANSWER = msgspec.msgpack.Decoder(SignedAnswer)
_ANSWER_BODY = msgspec.msgpack.Decoder(AnswerBody)


@dataclass(frozen=True, slots=True)
class OwnRequest:
    """A request that this node signed: the bytes to send and what its answer has to refer to."""

    message: bytes
    request_id: bytes
    body_digest: bytes
    expires_at: int


@dataclass(frozen=True, slots=True)
class VerifiedRequest:
    """A request whose signature holds. ``via`` are the nodes before the link peer, if any.

    ``body_digest`` identifies this very message, ``content_digest`` what is asked, whenever it is
    asked again: method, requester and payload, without times.
    """

    body: RequestBody
    origin: PeerIdentity
    via: tuple[PeerIdentity, ...]
    body_digest: bytes
    message: SignedRequest

    @property
    def content_digest(self) -> bytes:
        """SHA-256 over what makes two requests the same request."""
        what = ENCODER.encode((self.body.method, self.body.requester, self.body.payload))
        return hashlib.sha256(what).digest()


@dataclass(frozen=True, slots=True)
class VerifiedAnswer:
    """An answer whose signature holds, and who signed it."""

    status: int
    payload: bytes
    signer: PeerIdentity


def sign_request(
    identity: IdentityHolder,
    *,
    method: str,
    request_id: bytes,
    audience: str,
    requester: str,
    payload: bytes,
    lifetime_seconds: float = MAX_LIFETIME_SECONDS,
) -> OwnRequest:
    """Return the request signed with this node's authenticator."""
    issued_at = int(identity.clock.now())
    expires_at = issued_at + max(1, min(MAX_LIFETIME_SECONDS, round(lifetime_seconds + 0.5)))
    body = ENCODER.encode(
        RequestBody(
            VERSION, method, request_id, audience, issued_at, expires_at, requester, payload
        )
    )
    current = identity.current
    signature = sign(current.private_key, _REQUEST_LABEL + body)
    message = ENCODER.encode(SignedRequest(body, signature, current.chain_der))
    return OwnRequest(message, request_id, hashlib.sha256(body).digest(), expires_at)


def read_request(
    message: bytes,
    *,
    certificates: PeerCertificates,
    method: str,
    request_id: bytes,
    now: float,
) -> VerifiedRequest:
    """Verify a received request: signature, origin's certificate, time, frame against envelope.

    Whether it is meant for us is the dispatcher's question. Raises PolicyDenied saying what is
    wrong; the reason is for the audit log, not for the peer.
    """
    try:
        signed = _REQUEST.decode(message)
        body = _REQUEST_BODY.decode(signed.body)
        via = tuple(_peer_of(via) for via in signed.via)
    except (*UNREADABLE, ConfigError) as error:
        raise _refused(f"can't be read: {error}") from error
    try:
        origin = certificates.verify(signed.chain)
    except HandshakeError as error:
        raise _refused(f"the origin's certificate isn't valid: {error}") from error
    if not verify(origin.public_key, signed.signature, _REQUEST_LABEL + signed.body):
        raise _refused("the origin's signature isn't valid")
    _check_body(body, method, request_id, now)
    digest = hashlib.sha256(signed.body).digest()
    return VerifiedRequest(body, origin.identity, via, digest, signed)


def _check_body(body: RequestBody, method: str, request_id: bytes, now: float) -> None:
    if body.version != VERSION:
        raise _refused(f"version {body.version} is unknown")
    if body.method != method:
        raise _refused(f"the frame says {method!r}, the envelope {body.method!r}")
    if body.request_id != request_id:
        raise _refused("frame and envelope have different request ids")
    lifetime = body.expires_at - body.issued_at
    if not 0 < lifetime <= MAX_LIFETIME_SECONDS:
        raise _refused(f"a lifetime of {lifetime} s isn't allowed")
    if now > body.expires_at + CLOCK_SKEW_SECONDS:
        raise _refused(
            f"expired {now - body.expires_at:.0f} s ago: late, replayed, or clocks differ"
        )
    if now < body.issued_at - CLOCK_SKEW_SECONDS:
        raise _refused(f"issued {body.issued_at - now:.0f} s in the future: clocks differ")


def check_depth(chain: Sequence[PeerIdentity]) -> None:
    """See to it that behind the origin no more nodes stand in ``chain`` than may, our neighbour
    included, which isn't in via yet.

    Raises PolicyDenied.
    """
    if len(chain) - 1 > MAX_VIAS:
        raise _refused(f"has passed more than {MAX_VIAS} nodes")


def add_via(request: VerifiedRequest, peer: PeerIdentity) -> bytes:
    """Return the request's message for the next hop: ``peer``, its link peer here, is named.

    Raises PolicyDenied when it has passed too many nodes.
    """
    via = request.message.via
    if peer.node != request.origin.node:
        if len(via) >= MAX_VIAS:
            raise _refused(f"has passed {MAX_VIAS} nodes")
        via = (*via, _via_of(peer))
    return ENCODER.encode(msgspec.structs.replace(request.message, via=via))


def sign_answer(
    identity: IdentityHolder, *, body_digest: bytes, status: int, payload: bytes
) -> bytes:
    """Return the answer to the request with ``body_digest``, signed by this node."""
    body = ENCODER.encode(AnswerBody(VERSION, body_digest, status, payload))
    current = identity.current
    signature = sign(current.private_key, _ANSWER_LABEL + body)
    return ENCODER.encode(SignedAnswer(body, signature, current.chain_der))


def read_answer(
    message: bytes, *, certificates: PeerCertificates, body_digest: bytes, status: int
) -> VerifiedAnswer:
    """Verify a received answer to our request. ``status`` is what the frame says.

    Whether its signer may answer is the caller's question. Raises HandshakeError saying what is
    wrong.
    """
    try:
        signed = _ANSWER.decode(message)
        body = _ANSWER_BODY.decode(signed.body)
    except UNREADABLE as error:
        raise HandshakeError(f"the answer can't be read: {error}") from error
    signer = certificates.verify(signed.chain)
    if not verify(signer.public_key, signed.signature, _ANSWER_LABEL + signed.body):
        raise HandshakeError("the answer's signature isn't valid")
    if body.version != VERSION or body.request != body_digest:
        raise HandshakeError("the answer is to another request")
    if body.status != status:
        raise HandshakeError("frame and signed answer have different statuses")
    return VerifiedAnswer(body.status, body.payload, signer.identity)


def body_digest_of(message: bytes) -> bytes:
    """Return what an answer to ``message`` has to refer to, even when it doesn't hold."""
    try:
        return hashlib.sha256(_REQUEST.decode(message).body).digest()
    except UNREADABLE:
        return bytes(32)


def claimed_origin_of(message: bytes) -> bytes:
    """Return the certificate of whom ``message`` says to come from: nothing is verified."""
    try:
        return _REQUEST.decode(message).chain[0]
    except UNREADABLE:
        return b""


def _refused(reason: str) -> PolicyDenied:
    return PolicyDenied(f"the signed request is refused: {reason}", rule="envelope")


def _via_of(peer: PeerIdentity) -> Via:
    return Via(
        peer.node.uri, peer.issuer, f"{peer.serial:x}", peer.fingerprint_sha256, peer.spki_sha256
    )


def _peer_of(via: Via) -> PeerIdentity:
    return PeerIdentity(
        NodeIdentity.parse(via.node),
        via.issuer,
        int(via.serial, 16),
        via.fingerprint_sha256,
        via.spki_sha256,
    )
