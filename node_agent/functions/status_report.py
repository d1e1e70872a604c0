"""The node at a glance: what ``peersys status``, health checks and the demo's summary read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from node_agent.functions.node_objects import AuthorityState, NodeObjects, decode_state
from node_agent.identity import NodeIdentity
from node_agent.objects import CertificationAuthoritySpec, SignerSpec
from node_agent.web.backends import (
    AuthorityStatus,
    CryptoTokenStatus,
    PeerStatus,
    PublisherStatus,
    ServiceUrls,
    SignerStatus,
    StatusReport,
    StatusWorkerStatus,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence

    from node_agent.functions.crl_ends import CrlWatch
    from node_agent.functions.known_authorities import KnownAuthorities
    from node_agent.functions.publisher_lanes import PublisherLanes
    from node_agent.functions.publishing import PublisherSnapshot
    from node_agent.functions.signers import Signers
    from node_agent.metrics import Metrics
    from node_agent.store.api import Reader
    from node_agent.web.bodies import HealthWord, JsonObject

__all__ = ["StatusReporter"]

# A publisher that is this far behind makes the node degraded: statuses at its VA are old.
_LAG_SECONDS = 60.0


class StatusReporter:
    """Assemble reports from the running parts."""

    def __init__(
        self,
        *,
        node: JsonObject,
        objects: NodeObjects,
        known: KnownAuthorities,
        store: Reader,
        signers: Signers,
        crls: CrlWatch,
        publishers: Callable[[], Iterable[PublisherLanes]],
        peers: Callable[[], Sequence[PeerStatus]],
        urls: Callable[[], ServiceUrls],
        status_workers: Callable[[], Sequence[StatusWorkerStatus]],
        crypto_tokens: Callable[[], Iterable[CryptoTokenStatus]],
        undone: Callable[[], Iterable[str]],
    ) -> None:
        """``node`` is what doesn't change while the node runs: name, identity, version, start.
        ``undone`` says what else it doesn't do that it should.
        """
        self._node = node
        self._objects = objects
        self._known = known
        self._store = store
        self._signers = signers
        self._crls = crls
        self._publishers = publishers
        self._peers = peers
        self._urls = urls
        self._status_workers = status_workers
        self._crypto_tokens = crypto_tokens
        self._undone = undone

    async def report(self) -> StatusReport:
        """Return the whole node."""
        reasons = self._reasons()
        return StatusReport(
            node=self._node,
            health=self.health(),
            reasons=tuple(reasons),
            peers=tuple(self._peers()),
            publishers=tuple(self.publishers()),
            signers=tuple(self.signers()),
            authorities=tuple([item async for item in self._authorities()]),
            urls=self._urls(),
            status_workers=tuple(self._status_workers()),
            crypto_tokens=tuple(self._crypto_tokens()),
        )

    def health(self) -> HealthWord:
        """Return ``ok``; ``degraded`` when any part needs a look, ``failed`` when what the node
        serves can't be relied on: a signer has ended, or a CRL has.
        """
        if self._crls.overdue() or any(
            item.state in ("expired", "revoked") for item in self.signers()
        ):
            return "failed"
        return "degraded" if self._reasons() else "ok"

    def publishers(self) -> Iterable[PublisherStatus]:
        """Return how far each publisher is."""
        for publisher in self._publishers():
            yield PublisherStatus(**msgspec.structs.asdict(publisher.snapshot()))

    def signers(self) -> Iterable[SignerStatus]:
        """Return each signer's state."""
        for item in self._objects.all("signers"):
            spec = item.spec
            assert isinstance(spec, SignerSpec)
            certificate = self._signers.certificate(item.name)
            yield SignerStatus(
                name=item.name,
                authority=spec.authority,
                state=self._signers.state(item.name),
                not_after=None if certificate is None else certificate.not_after,
                serial=None if certificate is None else f"{certificate.serial:x}",
            )

    def measure(self, metrics: Metrics) -> None:
        """Set what is a state and not a count."""
        metrics.set_health(self.health() == "ok")
        metrics.set_publishers(
            (item.name, item.lag_entries, item.lag_seconds, item.state == "up", item.differences)
            for item in self.publishers()
        )
        metrics.set_links(
            (NodeIdentity.parse(peer.peer).name, peer.direction, peer.connections)
            for peer in self._peers()
        )
        metrics.set_signers(
            (item.name, item.not_after) for item in self.signers() if item.not_after is not None
        )
        metrics.set_crls(self._crls.ends())
        metrics.set_crypto_tokens(
            (token.name, token.state in ("unused", "open")) for token in self._crypto_tokens()
        )
        metrics.set_status_workers(
            (
                str(item.number),
                item.state == "up",
                item.restarts,
                item.kept_octets,
                item.memory_octets,
            )
            for item in self._status_workers()
        )

    def live_state(self, kind: str, name: str) -> dict[str, object]:
        """Return what the running part says of one object; of a kind without any, nothing."""
        match kind:
            case "peer_connectors":
                peers = (peer for peer in self._peers() if peer.connector == name)
                return next((_connector_state(peer) for peer in peers), {})
            case "publishers":
                found = (one for one in self._publishers() if one.spec.name == name)
                return next((_publisher_state(one.snapshot()) for one in found), {})
            case "signers":
                return {"state": self._signers.state(name)}
            case "crypto_tokens":
                tokens = (one for one in self._crypto_tokens() if one.name == name)
                return next((_token_state(one) for one in tokens if one.kind != "soft"), {})
            case _:
                return {}

    def _reasons(self) -> list[str]:
        return [
            *(
                f"connector {peer.connector}: {peer.last_error or peer.state}"
                for peer in self._peers()
                if peer.connector is not None and peer.state in ("connecting", "down")
            ),
            *(
                f"publisher {item.name}: {item.last_error or 'is behind'}"
                for item in self.publishers()
                if item.state not in ("up", "standby")
                or item.last_error
                or item.lag_seconds > _LAG_SECONDS
            ),
            *(
                f"publisher {item.name}: {item.differences} certificates or CRLs differ at its peer"
                for item in self.publishers()
                if item.differences
            ),
            *(
                f"signer {item.name}: {self._signers.last_error.get(item.name, item.state)}"
                for item in self.signers()
                if item.state != "active"
            ),
            *(
                f"signer {item.name}: {overdue}"
                for item in self.signers()
                if item.state == "active" and (overdue := self._signers.overdue(item.name))
            ),
            *(
                f"crypto token {token.name}: {token.last_error}"
                for token in self._crypto_tokens()
                if token.state in ("failed", "closed")
            ),
            *self._unsaid(),
            *(
                f"status worker {item.number}: is not up after {item.restarts} restarts"
                for item in self._status_workers()
                if item.state != "up"
            ),
            *self._undone(),
            *(f"CRL of {name}: {error}" for name, error in self._crls.errors()),
            *(f"CRL of {name}: ended at {end}" for name, end in self._crls.overdue()),
        ]

    def _unsaid(self) -> Iterator[str]:
        """Yield the signers for which somebody must say what silence about a serial means."""
        for spec in self._objects.specs("signers", SignerSpec):
            authority = self._known.named(spec.authority)
            if authority is not None and authority.is_partial and spec.unknown_serial is None:
                yield (
                    f"signer {spec.name}: only revoked certificates of {spec.authority} are "
                    "published here, so choose its unknown_serial"
                )

    async def _authorities(self) -> AsyncIterator[AuthorityStatus]:
        own = {item.name: item for item in self._objects.all("certification_authorities")}
        # Two questions for all CAs: one for each would take a minute where there are thousands.
        counts = await self._store.certificate_counts()
        newest = await self._store.newest_crls()
        ends: dict[str, int] = {}
        for (identifier, _), head in newest.items():
            ends[identifier] = min(head.next_update, ends.get(identifier, head.next_update))
        for authority in sorted(self._known.all(), key=lambda known: known.name):
            item = own.get(authority.name)
            kind = "published"
            if item is not None and isinstance(item.spec, CertificationAuthoritySpec):
                if decode_state(item, AuthorityState).authority_id != authority.authority_id:
                    continue
                kind = item.spec.kind
            crl = newest.get((authority.authority_id, 0))
            yield AuthorityStatus(
                name=authority.name,
                kind=kind,
                subject=authority.subject,
                not_after=authority.outline.not_after,
                crl_number=crl.number if crl else None,
                crl_next_update=ends.get(authority.authority_id),
                certificates=counts.get(authority.authority_id, 0),
            )


def _connector_state(peer: PeerStatus) -> dict[str, object]:
    return {
        "state": peer.state,
        "connections": peer.connections,
        "round_trip_ms": peer.round_trip_ms,
        "last_error": peer.last_error,
    }


def _publisher_state(publisher: PublisherSnapshot) -> dict[str, object]:
    return {
        "position": publisher.position,
        "lag_entries": publisher.lag_entries,
        "lag_seconds": round(publisher.lag_seconds, 3),
        "verified_at": publisher.verified_at,
        "differences": publisher.differences,
        "state": publisher.state,
    }


def _token_state(token: CryptoTokenStatus) -> dict[str, object]:
    return {"state": token.state, "last_error": token.last_error}
