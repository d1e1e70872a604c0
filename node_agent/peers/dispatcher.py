"""The one place where a peer's request is decided. No handler can be reached another way.

In order: may the link's peer be linked at all; does the envelope hold; is the operation known and
the request readable; is everyone in the chain granted everything; is it for us, or to be passed
on. Whatever fails on the way is a denial: audited, with the reason, and answered with the same
four words, so that asking teaches nothing. An operation that doesn't exist takes the same path.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import structlog

from node_agent.asker import ASKER
from node_agent.errors import (
    ConfigError,
    NodeAgentError,
    PolicyDenied,
    RequestRefused,
    Unavailable,
)
from node_agent.identity import NodeIdentity, PeerIdentity
from node_agent.net.calls import RawAnswer
from node_agent.peers.answers import DENIED, Problem, encode_problem, problem_of, sign_anew
from node_agent.peers.case import AuditTrail, Case
from node_agent.peers.chain_policy import decide_chain
from node_agent.peers.codec import ENCODER, UNREADABLE
from node_agent.peers.context import Context
from node_agent.peers.envelope import (
    VerifiedRequest,
    check_depth,
    claimed_origin_of,
    read_request,
    sign_answer,
)
from node_agent.peers.operations import OPERATIONS, Operation
from node_agent.peers.repeats import Repeats
from node_agent.peers.restraint import Restraint
from node_agent.peers.served_reads import ReadNotFresh, ServedReads
from node_agent.peers.turns import Turn, Turns
from node_agent.policy import Decision, RoleSet, share_a_name
from node_agent.wire.codes import Status

if TYPE_CHECKING:
    from node_agent.net.calls import IncomingCall
    from node_agent.net.tls import IdentityHolder
    from node_agent.peers.directory import Directory
    from node_agent.peers.relay import Relay
    from node_agent.peers.signature import PeerCertificates
    from node_agent.store.records import AuditRecord

__all__ = ["Context", "Dispatcher"]

log = structlog.get_logger(__name__)

RequestT = TypeVar("RequestT", bound=msgspec.Struct)
AnswerT = TypeVar("AnswerT", bound=msgspec.Struct)
Handler = Callable[[Context, Any], Awaitable[msgspec.Struct]]


@dataclass(slots=True)
class _Registered:
    operation: Operation[Any, Any]
    handler: Handler
    decoder: msgspec.msgpack.Decoder[Any]

    @classmethod
    def of(cls, operation: Operation[Any, Any], handler: Handler) -> _Registered:
        return cls(operation, handler, msgspec.msgpack.Decoder(operation.request_type))


class Dispatcher:
    """Decide, audit, handle, sign. ``handle`` is the CallHandler that every link is given.

    ``holds_audience`` tells whether ``ca/<name>`` is here. ``audit`` returns once the record is
    committed; when it raises, nothing is answered but that it can't be served now. An operation
    that isn't registered here but exists (the ones a proxy passes on) is decided all the same.
    """

    def __init__(
        self,
        *,
        identity: IdentityHolder,
        certificates: PeerCertificates,
        directory: Directory,
        audit: Callable[[AuditRecord], Awaitable[None]],
        roles: RoleSet | None = None,
        holds_audience: Callable[[str], bool] = lambda audience: False,
    ) -> None:
        self.relay: Relay | None = None
        self._identity = identity
        self._certificates = certificates
        self._directory = directory
        self._trail = AuditTrail(audit)
        self._roles = roles or RoleSet()
        self._holds_audience = holds_audience
        self._restraint = Restraint(identity.clock)
        self._repeats = Repeats(identity.clock)
        self._reads = ServedReads(identity.clock)
        self._turns = Turns(identity.clock)
        self._registered: dict[str, _Registered] = {
            method: _Registered.of(operation, _not_here) for method, operation in OPERATIONS.items()
        }
        directory.admits = self.admits

    @property
    def roles(self) -> RoleSet:
        """The roles in force."""
        return self._roles

    @roles.setter
    def roles(self, roles: RoleSet) -> None:
        self.replace_roles(roles)

    def replace_roles(self, roles: RoleSet) -> None:
        """Put ``roles`` in force: for the next request, and for links that they no longer allow."""
        self._roles = roles
        self._directory.readmit()

    def admits(self, peer: PeerIdentity) -> bool:
        """Tell whether ``peer`` may be linked with us at all."""
        return self._roles.permits(peer, "/peer/incoming")

    def register(
        self,
        operation: Operation[RequestT, AnswerT],
        handler: Callable[[Context, RequestT], Awaitable[AnswerT]],
    ) -> None:
        """Serve ``operation`` with ``handler``."""
        self._registered[operation.method] = _Registered.of(operation, handler)

    async def handle(self, call: IncomingCall) -> RawAnswer:
        """Serve one request of a peer: the root of its task, so nothing is raised but the end."""
        asker = (call.link.peer.node, claimed_origin_of(call.payload))
        turn = await self._turns.take(*asker)
        ASKER.set(asker)
        try:
            return await self._handle(call, turn)
        finally:
            turn.end()

    async def _handle(self, call: IncomingCall, turn: Turn) -> RawAnswer:
        identity = self._identity
        at, home = identity.clock.now(), identity.node.trust_domain
        case = Case(call, self._roles, turn, at=at, home=home)
        try:
            return await self._serve(case)
        except PolicyDenied as denial:
            status, problem = await self._deny(case, denial)
        except Exception as error:
            status, problem = problem_of(error)
            peer = case.peer.node.uri
            if not isinstance(error, (NodeAgentError, TimeoutError)):
                log.exception("handler failed", method=case.method, peer=peer)
            elif status == Status.UNAVAILABLE:
                log.info("not served now", method=case.method, peer=peer, reason=str(error))
        return self._signed(case, status, encode_problem(problem))

    async def _serve(self, case: Case) -> RawAnswer:
        self._check_link(case)
        verified = case.request = self._verify(case)
        check_depth(case.chain)
        registered = self._registered.get(verified.body.method)
        if registered is None:
            raise PolicyDenied("there is no such operation")
        operation = registered.operation
        request = _decode(registered, verified.body.payload)
        case.resources = operation.resources(request)
        decision = self._decide(case, operation)
        if self._is_ours(operation, request, verified):
            case.is_permitted = True
            if operation.may_be_replayed:
                self._reads.add(verified)
            if operation.reads_body:
                case.turn.end()
            payload = await self._run(registered, case.context(decision), request)
            return self._signed(case, Status.OK, payload)
        return await self._pass_on(case, operation, decision)

    def _check_link(self, case: Case) -> None:
        verdict = case.roles.verdict(case.peer, "/peer/incoming")
        if not verdict.allowed:
            raise PolicyDenied(verdict.reason, rule=verdict.rule)

    def _verify(self, case: Case) -> VerifiedRequest:
        return read_request(
            case.call.payload,
            certificates=self._certificates,
            method=case.call.method,
            request_id=case.call.request_id,
            now=case.at,
        )

    def _decide(self, case: Case, operation: Operation[Any, Any]) -> Decision:
        decision = decide_chain(operation, case.resources, case.chain, case.roles)
        if not decision.allowed:
            raise PolicyDenied(decision.reason, rule=decision.rule)
        return decision

    def _is_ours(
        self, operation: Operation[Any, Any], request: msgspec.Struct, verified: VerifiedRequest
    ) -> bool:
        """Tell whether to serve it here. Raises PolicyDenied when it is meant for someone else."""
        own, given = self._identity.node.uri, verified.body.audience
        audience = operation.audience(request)
        if operation.is_for_one_node and _is_node(given):
            return given == own
        if given != (own if audience is None else audience):
            raise PolicyDenied("the request is signed for another audience", rule="envelope")
        return audience is None or self._holds_audience(audience)

    async def _pass_on(
        self, case: Case, operation: Operation[Any, Any], decision: Decision
    ) -> RawAnswer:
        assert case.request is not None
        if operation.is_for_one_node:
            self._check_node(case, NodeIdentity.parse(case.request.body.audience))
        if operation.audits_allowed:
            await self._trail.add(
                case.record(allowed=True, reason=decision.reason, outcome="passed on")
            )
        if self.relay is None:
            raise Unavailable("there is no way to it from here", retry_after_seconds=5)
        case.turn.end()
        return await self.relay.forward(case.request, case.call)

    def _check_node(self, case: Case, node: NodeIdentity) -> None:
        """See to it that what names no CA goes only to a node of which the askers know one.

        Anybody else would learn here which CA nodes there are, and which of them are linked.
        Raises PolicyDenied, the same for a node that doesn't exist.
        """
        linked = (peer for peer in self._directory.connected_peers() if peer.node == node)
        peer = next(linked, None) or PeerIdentity.named(node)
        if not (
            case.roles.permits(peer, "/peer/upstream")
            and share_a_name("ca", (peer, *case.chain), case.roles)
        ):
            raise PolicyDenied(f"{node} serves no CA that everyone in the chain is granted")

    async def _run(
        self,
        registered: _Registered,
        context: Context,
        request: msgspec.Struct,
    ) -> bytes:
        """Run the handler and see to it that an audit entry is committed before the answer."""
        operation = registered.operation
        record = context.audit_record
        try:
            payload = ENCODER.encode(await registered.handler(context, request))
        except PolicyDenied:
            raise
        except RequestRefused as refusal:
            if operation.audits_allowed:
                await self._trail.add_failure(record, refusal)
            else:
                await self._note_refusal(context, refusal)
            raise
        except Exception as error:
            if operation.audits_allowed:
                await self._trail.add_failure(record, error)
            raise
        if operation.audits_allowed and not operation.changes_state:
            await self._trail.add(record)
        return payload

    async def _note_refusal(self, context: Context, refusal: RequestRefused) -> None:
        """Record what was permitted, isn't audited when it succeeds, and was no good: a forged CRL.

        A peer may send any number of them, so once a minute.
        """
        peer = context.peer.node
        log.warning("refused", method=context.operation, peer=peer.uri, reason=str(refusal))
        times = self._repeats.unwritten(peer, f"{context.operation} {refusal.code}")
        if times is None:
            return
        record = context.audit_record
        if times:
            detail = {**record.detail, "unwritten_before": str(times)}
            record = dataclasses.replace(record, detail=detail)
        await self._trail.add_failure(record, refusal)

    async def _deny(self, case: Case, denial: PolicyDenied) -> tuple[Status, Problem]:
        log.warning(
            "request denied", method=case.method, peer=case.peer.node.uri, reason=denial.reason
        )
        record = case.record(allowed=False, reason=denial.reason, rule=denial.rule)
        try:
            await self._trail.add(record)
        except NodeAgentError as error:
            return problem_of(error)
        # What only a handler can tell, which names are asked for, an honest proxy can't deny first.
        if len(case.chain) == 1 or not case.is_permitted:
            case.turn.end()
            held_back = self._restraint.after_denial(case.peer.node, case.chain[0].node)
            await self._identity.clock.sleep(held_back)
        return sign_anew(denial) if isinstance(denial, ReadNotFresh) else DENIED

    def _signed(self, case: Case, status: Status, payload: bytes) -> RawAnswer:
        message = sign_answer(
            self._identity, body_digest=case.body_digest, status=status, payload=payload
        )
        return RawAnswer(status, message)


def _decode(registered: _Registered, payload: bytes) -> Any:
    try:
        return registered.decoder.decode(payload)
    except UNREADABLE as error:
        raise PolicyDenied(f"the request can't be read: {error}", rule="schema") from error


def _is_node(audience: str) -> bool:
    try:
        NodeIdentity.parse(audience)
    except ConfigError:
        return False
    return True


async def _not_here(context: Context, request: msgspec.Struct) -> msgspec.Struct:
    raise Unavailable("this node doesn't serve it", retry_after_seconds=5)
