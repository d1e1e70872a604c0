"""Asking a peer: sign, find a link, send, try again while there is time, check the answer.

A request keeps its id and its signature over all its attempts, so however often it has to be sent
it happens once. Only a read is signed anew each time, for a node serves none twice. The answer is
believed for who signed it, not for which link it came over.

What a node on the way says in its own name is no answer: it could as well have dropped the request.
The others are asked then, and it counts only when nobody is left.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
import structlog

from node_agent.errors import (
    CallTimeout,
    HandshakeError,
    LinkClosed,
    LocalProtocolError,
    NodeAgentError,
    RemoteError,
    RequestRefused,
    Unavailable,
)
from node_agent.peers.answers import (
    SIGN_ANEW,
    decode_problem,
    not_passed_on,
    raise_problem,
)
from node_agent.peers.codec import ENCODER, UNREADABLE
from node_agent.peers.envelope import OwnRequest, read_answer, sign_request
from node_agent.peers.relays import may_answer, relays_upstream
from node_agent.wire.codes import Status

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Sequence

    from node_agent.identity import NodeIdentity, PeerIdentity
    from node_agent.net.calls import RawAnswer
    from node_agent.net.tls import IdentityHolder
    from node_agent.peers.directory import Directory, Lease
    from node_agent.peers.operations import Operation
    from node_agent.peers.signature import PeerCertificates
    from node_agent.policy import RoleSet

    BodySource = Callable[[], AsyncIterable[bytes]]

__all__ = ["PeerCaller"]

log = structlog.get_logger(__name__)

RequestT = TypeVar("RequestT", bound=msgspec.Struct)
AnswerT = TypeVar("AnswerT", bound=msgspec.Struct)

_MAX_ATTEMPTS: Final = 8
# A link that refuses at once must not be asked in a tight loop.
_RETRY_PAUSE_SECONDS: Final = 0.02
_AVOID_SECONDS: Final = 2.0
# A node that has just started serves what was signed since, and clocks differ a little.
_LONGEST_PAUSE_SECONDS: Final = 5

# What any node on the way may say in its own name.
_HOP_STATUSES: Final = frozenset(
    {Status.DENIED, Status.INVALID, Status.UNAVAILABLE, Status.DEADLINE, Status.INTERNAL}
)
# What a link itself answers without a signature, when no handler could or would.
_UNSIGNED_STATUSES: Final = frozenset({Status.UNAVAILABLE, Status.DEADLINE, Status.INTERNAL})
# These are about the request; with any other, the node is better left alone for a while.
_ABOUT_THE_REQUEST: Final = frozenset({Status.DENIED, Status.INVALID})


class _NotFresh(Exception):
    """A read has to be signed again, after a pause."""

    def __init__(self, pause_seconds: float) -> None:
        super().__init__("the read wasn't fresh")
        self.pause_seconds = pause_seconds


class _NotPassedOn(Exception):
    """A node on the way said no in its own name; ``meaning`` is what that comes to."""

    def __init__(self, meaning: NodeAgentError) -> None:
        super().__init__(str(meaning))
        self.meaning = meaning


@dataclass(frozen=True, slots=True)
class _Read:
    """An answer that may be read. ``is_final``: its signer may speak for whom was asked."""

    status: int
    payload: bytes
    is_final: bool


@dataclass(slots=True, eq=False)
class _Ask:
    """One request over all its attempts. ``unable`` are peers that aren't worth asking again."""

    operation: Operation[Any, Any]
    audience: str | None
    request_id: bytes
    requester: str
    payload: bytes
    deadline: float
    peers: tuple[NodeIdentity, ...]
    body: BodySource | None = None
    unable: set[NodeIdentity] = field(default_factory=set)
    signed: dict[str, OwnRequest] = field(default_factory=dict)

    @property
    def left_seconds(self) -> float:
        return self.deadline - asyncio.get_running_loop().time()


class PeerCaller:
    """Send operations to peers. ``roles`` returns the roles in force."""

    def __init__(
        self,
        *,
        identity: IdentityHolder,
        certificates: PeerCertificates,
        directory: Directory,
        roles: Callable[[], RoleSet],
    ) -> None:
        self._identity = identity
        self._certificates = certificates
        self._directory = directory
        self._roles = roles
        self._decoders: dict[str, msgspec.msgpack.Decoder[Any]] = {}

    async def call(
        self,
        operation: Operation[RequestT, AnswerT],
        request: RequestT,
        *,
        peers: Sequence[NodeIdentity],
        request_id: bytes | None = None,
        requester: str = "",
        timeout_seconds: float,
        body: BodySource | None = None,
    ) -> AnswerT:
        """Return the answer of whichever of ``peers`` is best placed to give it.

        What may pass relays is handed to a relay upstream of us when none of ``peers`` is linked
        with us; an operation for one node (the catalogue) then takes exactly one of them.
        ``request_id`` (16 bytes, random by default) makes a repeat the same request. Raises
        Unavailable, AcquireTimeout, CallTimeout, LinkClosed, and what
        the peer answered: PolicyDenied, RequestRefused and its kinds, NotFound, Conflict,
        RemoteError. ``body`` makes the request's body anew for each attempt; a relay passes none.
        """
        if not peers:
            raise Unavailable("no peer serves it")
        ask = _Ask(
            operation=operation,
            audience=_audience(operation, request, peers),
            request_id=request_id or secrets.token_bytes(16),
            requester=requester,
            payload=_encoded(request),
            deadline=asyncio.get_running_loop().time() + timeout_seconds,
            peers=tuple(peers),
            body=body,
        )
        payload = await self._ask(ask)
        return self._decode(operation, payload)

    async def _ask(self, ask: _Ask) -> bytes:
        failure: Exception | None = None
        for attempt in range(_MAX_ATTEMPTS):
            if attempt:
                await asyncio.sleep(min(_RETRY_PAUSE_SECONDS * attempt, max(0, ask.left_seconds)))
            left = ask.left_seconds
            if left <= 0:
                break
            targets = [peer for peer in self._targets(ask) if peer not in ask.unable]
            if ask.unable and not any(map(self._directory.is_connected, targets)):
                break  # who could be asked has answered; the others may stay away for long
            try:
                return await self._attempt(ask, targets, left)
            except (LinkClosed, HandshakeError, Unavailable) as error:
                reason = str(error)
                log.info("request goes out again", method=ask.operation.method, reason=reason)
                failure = error
            except _NotFresh as error:
                failure = Unavailable(str(error))
                await asyncio.sleep(min(error.pause_seconds, max(0, ask.left_seconds)))
            except _NotPassedOn as error:
                log.info("not passed on", method=ask.operation.method, reason=str(error))
                # That somebody can't now says more than that another one won't.
                failure = failure if isinstance(failure, Unavailable) else error.meaning
        raise self._final(failure)

    def _final(self, failure: Exception | None) -> Exception:
        if isinstance(failure, HandshakeError):
            return RemoteError(str(failure), status=Status.INTERNAL, problem="untrusted-answer")
        return failure or CallTimeout("the deadline has passed")

    async def _attempt(self, ask: _Ask, targets: Sequence[NodeIdentity], left: float) -> bytes:
        with await self._directory.acquire(targets, timeout_seconds=left) as lease:
            peer = lease.link.peer
            own = self._signed_for(ask, peer.node)
            raw = await self._send(ask, lease, own)
        try:
            answer = self._read(ask, own, raw, peer)
        except HandshakeError:
            self._give_up_on(ask, peer.node)
            raise
        if answer.status == Status.OK:
            return answer.payload
        problem = decode_problem(answer.payload)
        if not answer.is_final:
            self._pass_by(ask, peer.node, answer.status)
            raise _NotPassedOn(not_passed_on(answer.status, problem, peer=peer.node.name))
        if answer.status == Status.UNAVAILABLE:
            if problem.code == SIGN_ANEW:
                raise _NotFresh(min(problem.retry_after_seconds, _LONGEST_PAUSE_SECONDS))
            self._give_up_on(ask, peer.node)
        raise_problem(answer.status, problem, peer=peer.node.name)

    async def _send(self, ask: _Ask, lease: Lease, own: OwnRequest) -> RawAnswer:
        try:
            return await lease.call(
                ask.operation.method,
                own.message,
                request_id=own.request_id,
                timeout_seconds=max(0.001, ask.left_seconds),
                body=None if ask.body is None else ask.body(),
            )
        except LocalProtocolError as error:
            if lease.link.available_credits:
                raise RequestRefused(f"it can't be sent: {error}", field="payload") from error
            raise LinkClosed("the peer took its credit back") from error

    def _targets(self, ask: _Ask) -> Sequence[NodeIdentity]:
        """Return whom to send it to: directly if we can, through a relay if we must."""
        if ask.audience is None or any(map(self._directory.is_connected, ask.peers)):
            return ask.peers
        relays = relays_upstream(self._roles(), self._directory)
        return tuple(dict.fromkeys((*ask.peers, *relays)))

    def _signed_for(self, ask: _Ask, peer: NodeIdentity) -> OwnRequest:
        """Return the signed request; while they are valid the same bytes, unless it is a read."""
        audience = peer.uri if ask.audience is None else ask.audience
        known = ask.signed.get(audience)
        is_read = ask.operation.may_be_replayed
        if known is not None and not is_read and known.expires_at > self._identity.clock.now():
            return known
        own = ask.signed[audience] = sign_request(
            self._identity,
            method=ask.operation.method,
            request_id=secrets.token_bytes(16) if is_read and ask.signed else ask.request_id,
            audience=audience,
            requester=ask.requester,
            payload=ask.payload,
            lifetime_seconds=ask.left_seconds,
        )
        return own

    def _read(self, ask: _Ask, own: OwnRequest, raw: RawAnswer, peer: PeerIdentity) -> _Read:
        """Return what an answer says, when its signer may say that.

        Raises HandshakeError for any other.
        """
        if not raw.payload and raw.status in _UNSIGNED_STATUSES:
            return _Read(raw.status, b"", self._speaks_for(ask, peer, peer))
        answer = read_answer(
            raw.payload,
            certificates=self._certificates,
            body_digest=own.body_digest,
            status=raw.status,
        )
        is_final = self._speaks_for(ask, answer.signer, peer)
        if not is_final and (ask.audience is None or answer.status not in _HOP_STATUSES):
            raise HandshakeError(f"{answer.signer.node} may not answer for it")
        return _Read(answer.status, answer.payload, is_final)

    def _speaks_for(self, ask: _Ask, signer: PeerIdentity, peer: PeerIdentity) -> bool:
        """Tell whether ``signer`` may answer what was sent to ``peer``."""
        if ask.audience is None:
            return signer.node == peer.node
        return may_answer(self._roles(), signer, ask.audience)

    def _pass_by(self, ask: _Ask, peer: NodeIdentity, status: int) -> None:
        ask.unable.add(peer)
        if status not in _ABOUT_THE_REQUEST:
            self._directory.avoid(peer, _AVOID_SECONDS)

    def _give_up_on(self, ask: _Ask, peer: NodeIdentity) -> None:
        ask.unable.add(peer)
        self._directory.avoid(peer, _AVOID_SECONDS)

    def _decode(self, operation: Operation[Any, AnswerT], payload: bytes) -> AnswerT:
        decoder = self._decoders.get(operation.method)
        if decoder is None:
            decoder = msgspec.msgpack.Decoder(operation.answer_type)
            self._decoders[operation.method] = decoder
        try:
            answer: AnswerT = decoder.decode(payload)
        except UNREADABLE as error:
            raise RemoteError(
                f"the answer can't be read: {error}", status=Status.INTERNAL, problem="bad-answer"
            ) from error
        return answer


def _encoded(request: msgspec.Struct) -> bytes:
    """Return the request as octets. Raises RequestRefused for a number that MessagePack lacks."""
    try:
        return ENCODER.encode(request)
    except OverflowError as error:
        raise RequestRefused("a number in it is too large", field="payload") from error


def _audience(
    operation: Operation[Any, Any], request: msgspec.Struct, peers: Sequence[NodeIdentity]
) -> str | None:
    """Return whom the request is for; None for whichever peer takes it."""
    if operation.is_for_one_node:
        (peer,) = peers
        return peer.uri
    return operation.audience(request)
