"""The parts of a CA: what signs and revokes, its CRLs, and who is told of all that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node_agent.functions.authorities import Authorities
from node_agent.functions.authority import AuthorityService
from node_agent.functions.counting import counted
from node_agent.functions.crl_issuing import CrlIssuing
from node_agent.functions.provenance import OwnLog
from node_agent.functions.publisher_lanes import PublisherLanes
from node_agent.functions.publishers import Publishers
from node_agent.functions.publishing import Publisher
from node_agent.functions.publishing_turn import SharedTurn
from node_agent.functions.recovery import Recovery
from node_agent.functions.verification import Verification
from node_agent.objects import PublisherSpec
from node_agent.peers.operations import (
    APPROVE,
    CATALOGUE,
    CERTIFY_SIGNER,
    ENROLL,
    PENDING,
    REJECT,
    REVOKE,
    SEARCH,
    STATUS,
    WITHDRAW,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from node_agent.functions.provenance import KnownProvenance
    from node_agent.functions.range_digests import LeafKeeper
    from node_agent.service.foundation import Foundation
    from node_agent.service.links import LinkParts
    from node_agent.store.records import CrlRecord

__all__ = ["IssuingParts"]


class IssuingParts:
    """``on_crl`` is called for each CRL made, ``on_status`` with each certificate whose status
    changed.
    """

    def __init__(
        self,
        base: Foundation,
        links: LinkParts,
        keeper: LeafKeeper,
        provenance: KnownProvenance,
        *,
        on_crl: Callable[[CrlRecord], None],
        on_status: Callable[[str, int], Awaitable[None]],
    ) -> None:
        self._base = base
        self._linking = links.linking
        self._provenance = provenance
        self.authorities = Authorities(
            objects=base.objects,
            tokens=base.tokens,
            known=base.known,
            pool=base.pool,
            check=lambda authority_id: self.recovery.check(authority_id),
        )
        self.authorities.announce()
        self.crls = CrlIssuing(
            store=base.store,
            authorities=self.authorities,
            changed=base.changed,
            on_crl=on_crl,
            clock=base.clock,
        )
        self.service = AuthorityService(
            store=base.store,
            authorities=self.authorities,
            changed=base.changed,
            on_revoked=self.crls.revoked,
            on_status=on_status,
            clock=base.clock,
        )
        # Of these the last process left a position at the peer, of later ones nobody knows.
        specs = base.objects.specs("publishers", PublisherSpec)
        self._unstarted = set() if base.is_shared else {spec.name for spec in specs}
        self.publishers = Publishers(self._make_lanes)
        self.verification = Verification(
            store=base.store,
            caller=links.linking,
            keeper=keeper,
            authority_ids=base.known.ids_by_name,
            clock=base.clock,
            provenance=provenance,
            changed=base.changed,
            is_linked=links.linking.directory.is_connected,
        )
        self.recovery = Recovery(
            store=base.store,
            authorities=self.authorities,
            known=base.known,
            verification=self.verification,
            publishers=self.publishers.all,
            crls=self.crls,
            changed=base.changed,
            clock=base.clock,
        )
        self._register()

    def _register(self) -> None:
        register, metrics, service = self._linking.register, self._base.metrics, self.service
        register(ENROLL, counted(metrics, ENROLL, service.enroll))
        register(PENDING, service.approvals.pending)
        register(APPROVE, counted(metrics, APPROVE, service.approvals.approve))
        register(REJECT, counted(metrics, REJECT, service.approvals.reject))
        register(WITHDRAW, counted(metrics, WITHDRAW, service.approvals.withdraw))
        register(REVOKE, counted(metrics, REVOKE, service.revoke))
        register(STATUS, service.status)
        register(SEARCH, service.search)
        register(CATALOGUE, service.catalogue)
        register(CERTIFY_SIGNER, counted(metrics, CERTIFY_SIGNER, service.certify_signer))

    def _make_lanes(self, spec: PublisherSpec) -> PublisherLanes:
        begin = self._base.heads.position if spec.name in self._unstarted else None
        self._unstarted.discard(spec.name)
        return PublisherLanes(spec, lambda part: self._make_publisher(part, begin))

    def _make_publisher(self, spec: PublisherSpec, begin: int | None) -> Publisher:
        base = self._base
        node = base.settings.identity
        return Publisher(
            spec,
            own_log=OwnLog(node.uri, self._provenance, begin),
            store=base.store,
            caller=self._linking,
            changed=base.changed,
            authority_ids=base.known.ids_by_name,
            clock=base.clock,
            turn=(
                SharedTurn(base.store, node=node.name, clock=base.clock) if base.is_shared else None
            ),
        )
