"""The parts of a VA: what it is published, its signers, and who answers from both."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node_agent.functions.compared import ComparedStore
from node_agent.functions.provenance import KnownProvenance
from node_agent.functions.publishing import own_log_name
from node_agent.functions.range_digests import LeafKeeper
from node_agent.functions.receiving import PublicationReceiver
from node_agent.functions.responder import Responder
from node_agent.functions.signers import Signers
from node_agent.objects import SignerSpec
from node_agent.peers.operations import (
    PUBLISH,
    PUBLISH_CONTENT,
    PUBLISH_DIGESTS,
    PUBLISH_ENTRIES,
    PUBLISH_POSITION,
    PUBLISH_REPAIR,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from node_agent.functions.receiving import Applied
    from node_agent.service.foundation import Foundation
    from node_agent.service.links import LinkParts
    from node_agent.store.records import CrlRecord
    from node_agent.web.bodies import HealthWord

__all__ = ["ValidationParts"]


class ValidationParts:
    """``on_crl`` is called for each CRL that was received; ``health`` is the whole node's."""

    def __init__(
        self,
        base: Foundation,
        links: LinkParts,
        *,
        on_crl: Callable[[CrlRecord], None],
        health: Callable[[], HealthWord],
    ) -> None:
        self._base = base
        self._on_crl = on_crl
        self.signers = Signers(
            objects=base.objects,
            tokens=base.tokens,
            store=base.store,
            caller=links.linking,
            upstreams=links.upstreams,
            clock=base.clock,
            on_change=lambda: self.responder.forget(),
        )
        self.responder = Responder(
            store=base.reader,
            known=base.known,
            signers=self.signers,
            pool=base.pool,
            clock=base.clock,
            health=health,
            lag_seconds=self._lag_seconds,
        )
        self._receiver = PublicationReceiver(
            base.store,
            base.known,
            clock=base.clock,
            changed=base.changed,
            on_applied=self._applied,
            own_log=own_log_name(
                base.settings.identity.uri, base.heads.log_id, is_shared=base.is_shared
            ),
        )
        self.provenance = KnownProvenance(base.known, self._receiver.feeds, base.clock)
        self.keeper = LeafKeeper(base.store)
        self._compared = ComparedStore(
            base.store, base.known, self.keeper, on_applied=self._applied
        )
        self._register(links)

    def _register(self, links: LinkParts) -> None:
        register = links.linking.register
        register(PUBLISH, self._receiver.publish)
        register(PUBLISH_CONTENT, self._receiver.content)
        register(PUBLISH_POSITION, self._receiver.position)
        register(PUBLISH_DIGESTS, self._compared.digests)
        register(PUBLISH_ENTRIES, self._compared.entries)
        register(PUBLISH_REPAIR, self._compared.repair)

    def status_changed(self, authority_id: str, serial: int) -> None:
        """Answer no more what was true of a certificate until now."""
        self.responder.drop(authority_id, serial)

    def _applied(self, applied: Applied) -> None:
        if applied.authorities:
            self.responder.forget()
        self.responder.applied(applied)
        for crl in applied.crls:
            self._on_crl(crl)

    def _lag_seconds(self) -> float | None:
        """Return how old what is known of the CAs with a signer here may be."""
        objects = self._base.objects
        names = {spec.authority for spec in objects.specs("signers", SignerSpec)}
        names -= {item.name for item in objects.all("certification_authorities")}
        fresh_at = self._receiver.feeds.fresh_at
        if not names <= fresh_at.keys():
            return None
        now = self._base.clock.now()
        return max((now - fresh_at[name] for name in names), default=0.0)
