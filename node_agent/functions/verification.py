"""The CA's side of a comparison: find out where a peer's rows differ from ours, and put them right.

From the root of the two trees downward, then entry by entry in the leaves that differ. What is
still on its way to the peer isn't a difference: whatever the change log says behind the peer's
position is left out.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
import structlog

from node_agent.errors import (
    Conflict,
    NodeAgentError,
    RemoteError,
    Unavailable,
    UnexpectedFailure,
)
from node_agent.functions.change_payloads import crl_payload, encode
from node_agent.functions.compared import repaired_entry
from node_agent.functions.compared_answers import TheirEntries, check_repair, digests_of
from node_agent.functions.containment import Containment
from node_agent.functions.provenance import CURRENT_SECONDS, OwnWork, Provenance
from node_agent.functions.range_digests import DEPTH, DIGEST_OCTETS, FANOUT, LeafKeeper, read_tree
from node_agent.functions.verification_schedule import VerificationSchedule
from node_agent.peers.operations import (
    PUBLISH_DIGESTS,
    PUBLISH_ENTRIES,
    PUBLISH_RECORDS,
    PUBLISH_REPAIR,
    ComparedEntry,
    DigestsRequest,
    EntriesRequest,
    RecordsRequest,
    RepairRequest,
    serial_octets,
)
from node_agent.store.records import ChangeKind
from node_agent.web.backends import AuthorityComparison, PublisherVerification
from node_agent.wire.codes import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from node_agent.clock import Clock
    from node_agent.functions.peer_calls import PeerCalls
    from node_agent.functions.publisher_lanes import PublisherLanes
    from node_agent.functions.signal import ChangeSignal
    from node_agent.identity import NodeIdentity
    from node_agent.peers.operations import Operation
    from node_agent.store.api import Writer

__all__ = ["Verification"]

log = structlog.get_logger(__name__)

AnswerT = TypeVar("AnswerT", bound=msgspec.Struct)

_LOOK_SECONDS: Final = 1.0
_CALL_SECONDS: Final = 240.0
# What was repaired by then stays so; the rest comes next time.
_TURN_SECONDS: Final = 1800.0
_PREFIXES_AT_ONCE: Final = 512
_BUCKETS_AT_ONCE: Final = 128
_ENTRIES_AT_ONCE: Final = 10_000
_REPAIRS_AT_ONCE: Final = 200
_CHANGES_AT_ONCE: Final = 1000
# A peer with more was fed by somebody else, or invents them; they are held in memory.
_MOST_SURPLUS: Final = 1_000_000


@dataclass(slots=True)
class _Differences:
    missing: list[int] = field(default_factory=list)
    changed: list[int] = field(default_factory=list)
    surplus: list[int] = field(default_factory=list)

    def without(self, serials: set[int]) -> _Differences:
        """Leave out what is on its way."""
        return _Differences(
            *(
                [serial for serial in found if serial not in serials]
                for found in (self.missing, self.changed, self.surplus)
            )
        )


class Verification:
    """Compares one publisher's peer with this node."""

    def __init__(
        self,
        *,
        store: Writer,
        caller: PeerCalls,
        keeper: LeafKeeper,
        authority_ids: Callable[[], Mapping[str, str]],
        clock: Clock,
        provenance: Provenance | None = None,
        changed: ChangeSignal,
        is_linked: Callable[[NodeIdentity], bool],
    ) -> None:
        """``changed`` is announced when the change log has grown."""
        self._changed = changed
        self._is_linked = is_linked
        self._provenance = provenance or OwnWork()
        self._store = store
        self._caller = caller
        self._keeper = keeper
        self._authority_ids = authority_ids
        self._clock = clock
        self._locks: dict[str, asyncio.Lock] = {}
        self._contained = Containment("comparison", clock=clock)
        self._exchanges: Counter[str] = Counter()

    async def verify(
        self, publisher: PublisherLanes, *, repair: bool, recompute: bool = False
    ) -> PublisherVerification:
        """Compare, and with ``repair`` put right what differs.

        Raises Unavailable while the peer isn't followed, and for a repair while this node isn't
        up to date itself; Conflict while the peer knows more than this node.
        """
        spec = publisher.spec
        if repair and await publisher.is_peer_ahead():
            # Ours is an old copy: a repair would take back what was revoked since.
            raise Conflict(
                f"{spec.peer} knows a newer change log than this node has: see `peersys recover`"
            )
        if publisher.snapshot().state != "up":
            raise Unavailable(f"{spec.peer} isn't reached now", retry_after_seconds=5)
        if not self._is_linked(publisher.peer):
            # Its publisher learns of that with the next that there is to say.
            raise Unavailable(
                f"no link to {spec.peer} is up: `peersys status` says why", retry_after_seconds=5
            )
        if repair and not self._is_current(spec.authorities):
            raise Unavailable(
                f"this node isn't up to date with {', '.join(spec.authorities)} itself, so it "
                "can't put others right; see who publishes to it",
                retry_after_seconds=10,
            )
        async with self._locks.setdefault(spec.name, asyncio.Lock()):
            began, self._exchanges[spec.name] = self._clock.monotonic(), 0
            if recompute:
                await self._keeper.forget()
            await self._keeper.refresh()
            ids = self._authority_ids()
            found = [
                await self._verify_one(publisher, name, ids[name], repair, recompute)
                for name in spec.authorities
                if name in ids
            ]
            result = PublisherVerification(
                publisher=spec.name,
                peer=spec.peer,
                authorities=tuple(found),
                seconds=round(self._clock.monotonic() - began, 3),
                exchanges=self._exchanges[spec.name],
                at=int(self._clock.now()),
            )
        left = sum(
            one.missing + one.changed + one.surplus + one.crls - one.repaired for one in found
        )
        publisher.verified(result.at, left)
        return result

    async def _verify_one(
        self, publisher: PublisherLanes, name: str, identifier: str, repair: bool, recompute: bool
    ) -> AuthorityComparison:
        found = AuthorityComparison(
            authority=name, entries=0, missing=0, changed=0, surplus=0, repaired=0
        )
        if content := _content_of_rows(publisher):
            entries = _Comparison(self, publisher, name, identifier, content, recompute)
            found = await entries.run(repair)
        if "crl" not in publisher.spec.content:
            return found
        lost = await self._lost_lists(publisher, name, identifier)
        told = await self._announce(identifier, lost) if repair else 0
        return msgspec.structs.replace(found, crls=len(lost), repaired=found.repaired + told)

    async def _lost_lists(
        self, publisher: PublisherLanes, name: str, authority_id: str
    ) -> list[tuple[int, bool]]:
        """Return the CRLs, by shard and whether it is a delta CRL, that the peer has lost: none is
        on its way to it, and what it has is older than ours.
        """
        ours = await self._store.crl_numbers(authority_id)
        position = publisher.snapshot().position
        request = RecordsRequest(authority=name, authority_id=authority_id, serials=())
        answer = await self.ask(publisher, PUBLISH_RECORDS, request)
        theirs = {(one.shard, one.is_delta): one.number for one in answer.lists}
        lacking = [
            (shard, is_delta)
            for (shard, is_delta), number in sorted(ours.items())
            if theirs.get((shard, is_delta), 0) < number
            # The full one has taken an older delta's place.
            and not (is_delta and number < ours.get((shard, False), 0))
        ]
        if not lacking or await self._store.changes(
            position, limit=1, authority_ids=[authority_id], kinds=[ChangeKind.CRL]
        ):
            return []
        peer = publisher.spec.name
        log.warning("peer lacks a CRL", publisher=peer, authority=name, lists=len(lacking))
        return lacking

    async def _announce(self, authority_id: str, lists: Iterable[tuple[int, bool]]) -> int:
        """Put CRLs into the change log again; return how many there still were. They reach the
        peer as every CRL does, and who has them takes no notice.
        """
        told = 0
        for shard, is_delta in lists:
            crl = await self._store.latest_crl(authority_id, shard=shard, delta=is_delta)
            if crl is not None:
                await self._store.announce_crl(crl, encode(crl_payload(crl)))
                told += 1
        if told:
            self._changed.announce()
        return told

    async def differences(
        self, publisher: PublisherLanes, name: str
    ) -> tuple[list[int], list[int]]:
        """Return the serials of a CA that differ, and those that only the peer has."""
        content = _content_of_rows(publisher)
        if not content:
            return [], []
        await self._keeper.refresh()
        identifier = self._authority_ids()[name]
        comparison = _Comparison(self, publisher, name, identifier, content, recompute=False)
        found, _ = await comparison.find()
        return found.changed, found.surplus

    async def run(self, publishers: Callable[[], Iterable[PublisherLanes]]) -> None:
        """Compare and repair every publisher's peer as often as its specification says."""
        schedule = VerificationSchedule()
        while True:
            await self._clock.sleep(_LOOK_SECONDS)
            for publisher in publishers():
                if self._contained.pause_seconds(publisher.spec.name) > 0:
                    continue
                is_up, now = publisher.snapshot().state == "up", self._clock.monotonic()
                if schedule.is_due(publisher.spec, is_up=is_up, now=now):
                    await self._verify_in_turn(publisher)

    async def _verify_in_turn(self, publisher: PublisherLanes) -> None:
        """Compare one of all: whatever it answers, and however slowly, others have their turn."""
        name = publisher.spec.name
        try:
            with self._contained.around(name):
                async with asyncio.timeout(_TURN_SECONDS):
                    await self.verify(publisher, repair=True)
        except (NodeAgentError, TimeoutError) as error:
            log.warning("peer not compared", publisher=name, reason=str(error))
            if isinstance(error, (RemoteError, UnexpectedFailure)):
                publisher.not_compared(str(error))

    def _is_current(self, names: Sequence[str]) -> bool:
        age = self._provenance.age_seconds(names)
        return age is not None and age <= CURRENT_SECONDS

    async def on_its_way(self, authority_id: str, position: int) -> set[int]:
        """Return the serials of which the log speaks behind ``position``."""
        serials: set[int] = set()
        while True:
            entries = await self._store.changes(
                position, limit=_CHANGES_AT_ONCE, authority_ids=[authority_id]
            )
            serials.update(entry.serial for entry in entries if entry.serial is not None)
            if len(entries) < _CHANGES_AT_ONCE:
                return serials
            position = entries[-1].position

    @property
    def store(self) -> Writer:
        """The CA's store."""
        return self._store

    async def ask(
        self, publisher: PublisherLanes, operation: Operation[Any, AnswerT], request: msgspec.Struct
    ) -> AnswerT:
        """Ask the publisher's peer."""
        self._exchanges[publisher.spec.name] += 1
        return await self._caller.call(
            operation, request, peers=[publisher.peer], timeout_seconds=_CALL_SECONDS
        )


class _Comparison:
    """One CA of one publisher."""

    def __init__(
        self,
        whole: Verification,
        publisher: PublisherLanes,
        name: str,
        authority_id: str,
        content: tuple[str, ...],
        recompute: bool,
    ) -> None:
        self._whole = whole
        self._store = whole.store
        self._publisher = publisher
        self._name = name
        self._id = authority_id
        self._content = content
        self._recompute = recompute
        self._only_changed = publisher.spec.only_revoked
        self._peer = publisher.spec.peer
        self._may_take_back = False

    async def find(self) -> tuple[_Differences, int]:
        """Return what differs, and how many entries we have."""
        position = self._publisher.snapshot().position
        tree = await read_tree(
            self._store, self._id, self._content, only_changed=self._only_changed
        )
        prefixes = [""]
        for level in range(DEPTH):
            prefixes = await self._differing(tree.children, prefixes, begins=level == 0)
            if not prefixes:
                break
        found = _Differences()
        buckets = [int(prefix, 16) for prefix in prefixes]
        for start in range(0, len(buckets), _BUCKETS_AT_ONCE):
            await self._compare(buckets[start : start + _BUCKETS_AT_ONCE], found)
        if buckets:
            found = found.without(await self._whole.on_its_way(self._id, position))
        return found, tree.entries

    async def run(self, repair: bool) -> AuthorityComparison:
        found, entries = await self.find()
        repaired = await self._repair(found) if repair else 0
        if found.missing or found.changed or found.surplus:
            log.warning(
                "peer differs",
                publisher=self._publisher.spec.name,
                authority=self._name,
                missing=len(found.missing),
                changed=len(found.changed),
                surplus=len(found.surplus),
                repaired=repaired,
            )
        return AuthorityComparison(
            authority=self._name,
            entries=entries,
            missing=len(found.missing),
            changed=len(found.changed),
            surplus=len(found.surplus),
            repaired=repaired,
        )

    async def _differing(
        self, ours: Callable[[str], bytes], prefixes: Sequence[str], *, begins: bool
    ) -> list[str]:
        """Return the children that differ, of nodes that do."""
        differing: list[str] = []
        for start in range(0, len(prefixes), _PREFIXES_AT_ONCE):
            some = tuple(prefixes[start : start + _PREFIXES_AT_ONCE])
            request = DigestsRequest(
                authority=self._name,
                authority_id=self._id,
                content=self._content,
                prefixes=some,
                begins=begins,
                recomputes=begins and self._recompute,
            )
            answer = await self._whole.ask(self._publisher, PUBLISH_DIGESTS, request)
            self._may_take_back = answer.may_take_back
            digests = digests_of(self._peer, some, answer)
            for prefix, theirs in zip(some, digests, strict=True):
                differing += (
                    f"{prefix}{child:x}"
                    for child in range(FANOUT)
                    if _part(ours(prefix), child) != _part(theirs, child)
                )
        return differing

    async def _compare(self, buckets: Sequence[int], found: _Differences) -> None:
        """Add what differs in some leaves to ``found``."""
        theirs = await self._their_entries(buckets)
        after = 0
        while True:
            ours = await self._store.entry_digests(
                self._id,
                buckets,
                after=after,
                limit=_ENTRIES_AT_ONCE,
                only_changed=self._only_changed,
            )
            for entry in ours:
                other = theirs.pop(entry.serial, None)
                if other is None:
                    found.missing.append(entry.serial)
                elif self._is_other(entry.statuses, entry.certificate, other):
                    found.changed.append(entry.serial)
            if len(ours) < _ENTRIES_AT_ONCE:
                break
            after = ours[-1].serial
        found.surplus += theirs
        if len(found.surplus) > _MOST_SURPLUS:
            raise RemoteError(
                f"{self._peer} has more than {_MOST_SURPLUS} certificates that {self._name!r} "
                "never issued: somebody has to look at it",
                status=Status.INTERNAL,
                problem="bad-answer",
            )

    def _is_other(self, statuses: bytes, certificate: bytes, other: ComparedEntry) -> bool:
        if "status" in self._content and statuses != other.statuses:
            return True
        return "certificate" in self._content and certificate != other.certificate

    async def _their_entries(self, buckets: Sequence[int]) -> dict[int, ComparedEntry]:
        theirs = TheirEntries(self._peer, buckets)
        while True:
            request = EntriesRequest(
                authority=self._name,
                authority_id=self._id,
                buckets=tuple(buckets),
                after=theirs.after,
            )
            answer = await self._whole.ask(self._publisher, PUBLISH_ENTRIES, request)
            theirs.add(answer)
            if not answer.has_more:
                return theirs.found

    async def _repair(self, found: _Differences) -> int:
        repaired = 0
        wrong = [*found.missing, *found.changed]
        surplus = found.surplus if self._may_take_back else []
        while wrong or surplus:
            some, wrong = wrong[:_REPAIRS_AT_ONCE], wrong[_REPAIRS_AT_ONCE:]
            gone, surplus = surplus[:_REPAIRS_AT_ONCE], surplus[_REPAIRS_AT_ONCE:]
            request = RepairRequest(
                authority=self._name,
                authority_id=self._id,
                content=self._content,
                entries=tuple([entry async for entry in self._entries(some)]),
                surplus=tuple(serial_octets(serial) for serial in gone),
                takes_back=self._may_take_back,
            )
            answer = await self._whole.ask(self._publisher, PUBLISH_REPAIR, request)
            repaired += check_repair(self._peer, request, answer)
        return repaired

    async def _entries(self, serials: Iterable[int]) -> Any:
        for serial in serials:
            record = await self._store.certificate(self._id, serial)
            if record is not None:
                yield repaired_entry(record, has_certificate="certificate" in self._content)


def _part(digests: bytes, child: int) -> bytes:
    return digests[child * DIGEST_OCTETS : (child + 1) * DIGEST_OCTETS]


def _content_of_rows(publisher: PublisherLanes) -> tuple[str, ...]:
    """Return what is published of certificates: nothing by a publisher of CRLs alone."""
    return tuple(kind for kind in publisher.spec.content if kind != "crl")
