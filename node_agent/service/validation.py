"""The parts of a VA: what it is published, its signers, and who answers from both."""

from __future__ import annotations

from contextlib import asynccontextmanager
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
    PUBLISH_RECORDS,
    PUBLISH_REPAIR,
)
from node_agent.status_workers import StatusWorkers
from node_agent.web.listen import bind_tcp
from node_agent.web.status_server import StatusServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from node_agent.config import Address
    from node_agent.functions.kept_answers import KeptAnswers
    from node_agent.functions.receiving import Applied
    from node_agent.service.foundation import Foundation
    from node_agent.service.links import LinkParts
    from node_agent.store.records import CrlRecord
    from node_agent.web.backends import StatusWorkerStatus
    from node_agent.web.bodies import HealthWord

__all__ = ["ValidationParts"]


class ValidationParts:
    """``on_crl`` is called for each CRL that was received; ``health`` is the whole node's,
    ``overdue_seconds`` how long ago the first of its CRLs ended.
    """

    def __init__(
        self,
        base: Foundation,
        links: LinkParts,
        *,
        on_crl: Callable[[CrlRecord], None],
        health: Callable[[], HealthWord],
        overdue_seconds: Callable[[], float],
    ) -> None:
        self._base = base
        self._overdue_seconds = overdue_seconds
        self._on_crl = on_crl
        self.signers = Signers(
            objects=base.objects,
            tokens=base.tokens,
            pool=base.pool,
            known=base.known,
            store=base.store,
            caller=links.linking,
            upstreams=links.upstreams,
            clock=base.clock,
            on_change=lambda authority: self.kept.reconsider(authority),
        )
        self._workers: StatusWorkers | None = None
        self.kept: KeptAnswers
        self._serve: Callable[[Address], AbstractAsyncContextManager[object]]
        if base.settings.workers > 1 and base.settings.status_address is not None:
            self._serve_by_workers(health)
        else:
            self._serve_here(health)
        self._receiver = PublicationReceiver(
            base.store,
            base.known,
            clock=base.clock,
            changed=base.changed,
            on_applied=self._applied,
            settled=lambda: self.kept.settled(),
            own_log=own_log_name(
                base.settings.identity.uri, base.heads.log_id, is_shared=base.is_shared
            ),
        )
        self.provenance = KnownProvenance(base.known, self._receiver.feeds)
        self.keeper = LeafKeeper(base.store)
        self._compared = ComparedStore(
            base.store,
            base.known,
            self.keeper,
            on_applied=self._applied,
            settled=lambda: self.kept.settled(),
        )
        self._register(links)

    def _register(self, links: LinkParts) -> None:
        register = links.linking.register
        register(PUBLISH, self._receiver.publish)
        register(PUBLISH_CONTENT, self._receiver.content)
        register(PUBLISH_POSITION, self._receiver.position)
        register(PUBLISH_DIGESTS, self._compared.digests)
        register(PUBLISH_ENTRIES, self._compared.entries)
        register(PUBLISH_RECORDS, self._compared.records)
        register(PUBLISH_REPAIR, self._compared.repair)

    def serve_status(self, address: Address) -> AbstractAsyncContextManager[object]:
        """Return what serves the status port while it is entered."""
        return self._serve(address)

    def status_workers(self) -> list[StatusWorkerStatus]:
        """Return how each status worker is; none where this process serves the port."""
        return [] if self._workers is None else self._workers.workers()

    async def status_changed(self, authority_id: str, serial: int) -> None:
        """Answer no more what was true of a certificate until now."""
        self.kept.drop(authority_id, serial)
        self.signers.status_changed(serial)
        await self.kept.settled()

    def _serve_here(self, health: Callable[[], HealthWord]) -> None:
        base = self._base
        responder = Responder(
            store=base.reader,
            known=base.known,
            signers=self.signers,
            pool=base.pool,
            clock=base.clock,
            health=health,
            lag_seconds=self._lag_seconds,
            cache_octets=base.settings.status_cache_octets,
        )
        self.kept = responder
        self._serve = lambda address: _served(responder, address)

    def _serve_by_workers(self, health: Callable[[], HealthWord]) -> None:
        base = self._base
        workers = StatusWorkers(
            settings=base.settings,
            known=base.known,
            signers=self.signers,
            pool=base.pool,
            health=health,
            lag_seconds=self._lag_seconds,
        )
        self.kept = self._workers = workers
        self._serve = lambda address: workers

    def _applied(self, applied: Applied) -> None:
        if applied.authorities:
            self.kept.reconsider()
        self.kept.applied(applied)
        for status in applied.statuses:
            self.signers.status_changed(status.serial)
        for certificate in applied.certificates:
            self.signers.status_changed(certificate.serial)
        for crl in applied.crls:
            self._on_crl(crl)

    def _lag_seconds(self) -> float | None:
        """Return how old what is known of the CAs with a signer here may be; where CRLs are all
        that is published, how long ago the first ended.
        """
        objects = self._base.objects
        names = {spec.authority for spec in objects.specs("signers", SignerSpec)}
        names -= {item.name for item in objects.all("certification_authorities")}
        ages = [self._receiver.feeds.age_seconds(name) for name in names]
        if None in ages:
            return None
        return max((age for age in ages if age is not None), default=self._overdue_seconds())


@asynccontextmanager
async def _served(responder: Responder, address: Address) -> AsyncIterator[object]:
    try:
        async with StatusServer(responder, bind_tcp(address)) as server:
            yield server
    finally:
        await responder.close()
