"""A CA with its store, in this process: what the tests of ``functions/`` work on.

Everything is the real part; only the clock is moved by hand and peers are asked through a seam.
"""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from node_agent.clock import SystemClock
from node_agent.functions.authorities import Authorities
from node_agent.functions.authority import AuthorityService
from node_agent.functions.creation import Creation, PlanBatch
from node_agent.functions.crl_issuing import CrlIssuing
from node_agent.functions.known_authorities import KnownAuthorities
from node_agent.functions.node_objects import NodeObjects
from node_agent.functions.plan import check_objects, copy_objects, plan_node
from node_agent.functions.range_digests import LeafKeeper
from node_agent.functions.signal import ChangeSignal
from node_agent.functions.tokens import Tokens
from node_agent.functions.verification import Verification
from node_agent.identity import NodeIdentity, PeerIdentity
from node_agent.objects import AccessRule, CryptoTokenSpec, NodeSpecification, PeerRoleSpec
from node_agent.peers.context import Context
from node_agent.pki.signing import SigningPool
from node_agent.policy import Decision, RoleSet, parse_roles
from node_agent.store import Store, open_store
from node_agent.store.records import AuditRecord
from tests.support.cheap_scrypt import cheap_scrypt
from tests.support.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

__all__ = ["NODE", "OwnAuthority", "context", "own_authority", "peer"]

NODE = NodeIdentity("test.example", "ca1")
NOW = 1_800_000_000.0

AUTHORITIES: dict[str, Any] = {
    "crypto_tokens": [{"name": "offline", "activation": "on_demand"}],
    "certificate_profiles": [
        {"name": "server", "san": [{"kind": "dns", "minimum": 1}], "validity_days": 30}
    ],
    "certification_authorities": [
        {"name": "management", "kind": "management", "subject": "CN=Management"},
        {"name": "root", "kind": "root", "subject": "CN=Root", "crypto_token": "offline"},
        {
            "name": "issuing",
            "kind": "issuing",
            "issuer": "root",
            "subject": "CN=Issuing",
            "profiles": ["server"],
        },
    ],
}


class HurriedClock:
    """A manual clock that goes on by itself for who sleeps by it: a CRL waits for its second."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.now = clock.now
        self.monotonic = clock.monotonic

    async def sleep(self, seconds: float) -> None:
        """Let the time pass now."""
        self._clock.advance(seconds)


@dataclass
class OwnAuthority:
    """The parts of a CA node. ``revoked`` and ``statuses`` collect what the CA reports."""

    store: Store
    objects: NodeObjects
    tokens: Tokens
    known: KnownAuthorities
    authorities: Authorities
    creation: Creation
    pool: SigningPool
    clock: ManualClock
    changed: ChangeSignal
    service: AuthorityService
    crls: CrlIssuing
    made_crls: list[bytes] = field(default_factory=list)
    statuses: list[tuple[str, int]] = field(default_factory=list)

    async def apply(self, **kinds: Any) -> None:
        """Plan and commit a specification as management does."""
        steps = plan_node(self.objects.specifications(), msgspec.convert(kinds, NodeSpecification))
        check_objects(copy_objects(self.objects.specifications(), steps), steps)
        batch = PlanBatch(at=int(self.clock.now()))
        for step in steps:
            await self.creation.prepare(step, batch)
        await self.store.apply_plan(
            batch.changes,
            keys=batch.keys,
            entries=batch.entries,
            certificates=batch.certificates,
        )
        self.objects.apply(batch.changes)
        self.tokens.configure(self.objects.specs("crypto_tokens", CryptoTokenSpec))
        self.authorities.announce()

    def verification(self, caller: Any) -> Verification:
        """Return what compares peers with this CA and repairs them; ``caller`` reaches them."""
        return Verification(
            store=self.store,
            caller=caller,
            keeper=LeafKeeper(self.store),
            authority_ids=self.known.ids_by_name,
            clock=SystemClock(),
            changed=self.changed,
            is_linked=lambda peer: True,
        )

    def authority_id(self, name: str = "issuing") -> str:
        """Return a CA's authority id."""
        return self.authorities.get(name).authority_id


@contextlib.asynccontextmanager
async def own_authority(directory: Path, **kinds: Any) -> AsyncIterator[OwnAuthority]:
    """Yield a node with a Management CA, an offline root and an issuing CA."""
    clock = ManualClock(now=NOW)
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(cheap_scrypt())
        store = await stack.enter_async_context(
            open_store(f"sqlite:///{directory / 'store.sqlite3'}", clock=clock)
        )
        pool = await stack.enter_async_context(SigningPool())
        objects, known, changed = NodeObjects(), KnownAuthorities(), ChangeSignal()
        tokens = Tokens(b"a passphrase of the tests", ())
        tokens.configure([CryptoTokenSpec(name="default")])
        authorities = Authorities(objects=objects, tokens=tokens, known=known, pool=pool)
        creation = Creation(
            node=NODE,
            objects=objects,
            tokens=tokens,
            authorities=authorities,
            pool=pool,
            clock=clock,
        )
        made: list[bytes] = []
        statuses: list[tuple[str, int]] = []

        async def note_status(authority: str, serial: int) -> None:
            statuses.append((authority, serial))

        crls = CrlIssuing(
            store=store,
            authorities=authorities,
            changed=changed,
            on_crl=lambda crl: made.append(crl.der),
            clock=HurriedClock(clock),
        )
        service = AuthorityService(
            store=store,
            authorities=authorities,
            changed=changed,
            on_revoked=crls.revoked,
            on_status=note_status,
            clock=clock,
        )
        own = OwnAuthority(
            store=store,
            objects=objects,
            tokens=tokens,
            known=known,
            authorities=authorities,
            creation=creation,
            pool=pool,
            clock=clock,
            changed=changed,
            service=service,
            crls=crls,
            made_crls=made,
            statuses=statuses,
        )
        await own.apply(**(kinds or AUTHORITIES))
        yield own


def peer(name: str) -> PeerIdentity:
    """Return a peer as a link would know it."""
    return PeerIdentity(NodeIdentity("test.example", name), "CN=Management", 1, "f" * 64, "a" * 64)


def context(
    origin: str = "ra1",
    *,
    number: int | None = None,
    content: bytes = b"",
    requester: str = "tester",
    roles: RoleSet | None = None,
) -> Context:
    """Return what the dispatcher hands to a handler for an allowed request of ``origin``.

    ``number`` makes two requests the same; without it each is a new one.
    """
    who = peer(origin)
    return Context(
        operation="test",
        decision=Decision("test", True, "allowed"),
        origin=who,
        via=(),
        requester=requester,
        request_id=secrets.token_bytes(16) if number is None else number.to_bytes(16, "big"),
        request_digest=content.ljust(32, b"d"),
        issued_at=int(NOW),
        deadline=1e12,
        audit_record=AuditRecord(
            at=NOW, action="test", allowed=True, chain=f"{requester} via {origin}"
        ),
        roles=_registration(who) if roles is None else roles,
        body=_nothing(),
    )


def _registration(member: PeerIdentity) -> RoleSet:
    """Return the role of an RA. All RAs are one tenant."""
    role = PeerRoleSpec(
        name="registration",
        members=(member.node.uri,),
        rules=(AccessRule(resource="/ra/**"),),
    )
    return parse_roles([role])


async def _nothing() -> AsyncIterator[bytes]:
    chunks: tuple[bytes, ...] = ()
    for chunk in chunks:
        yield chunk
