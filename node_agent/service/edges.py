"""The parts at the node's edge: its ports, what requesters may ask, and its report of itself."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from node_agent.functions.crl_ends import CrlWatch
from node_agent.functions.ports import Ports
from node_agent.functions.registration import Registration
from node_agent.functions.status_report import StatusReporter
from node_agent.functions.token_watch import TokenWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from node_agent.functions.crl_ends import CrlEnds
    from node_agent.service.foundation import Foundation
    from node_agent.service.issuing import IssuingParts
    from node_agent.service.links import LinkParts
    from node_agent.service.validation import ValidationParts

__all__ = ["EdgeParts"]


class EdgeParts:
    """``crl_ends`` says when CRLs end, ``undone`` what else this node doesn't do that it should."""

    def __init__(
        self,
        base: Foundation,
        links: LinkParts,
        validation: ValidationParts,
        issuing: IssuingParts,
        *,
        crl_ends: CrlEnds,
        undone: Callable[[], Iterable[str]],
    ) -> None:
        self._base = base
        self._identities = links.identities
        self.ports = Ports(base.settings, base.clock)
        self.registration = Registration(
            objects=base.objects,
            roles=lambda: links.linking.roles,
            caller=links.linking,
            upstreams=links.upstreams,
            audit=base.audit,
            clock=base.clock,
        )
        self.token_watch = TokenWatch(objects=base.objects, tokens=base.tokens, pool=base.pool)
        self.crl_watch = CrlWatch(
            crl_ends,
            objects=base.objects,
            known=base.known,
            failed=issuing.crls.last_error,
            clock=base.clock,
        )
        self.reporter = StatusReporter(
            node={
                "name": base.settings.identity.name,
                "identity": base.settings.identity.uri,
                "version": version("peersys"),
                "started_at": base.clock.now(),
            },
            objects=base.objects,
            known=base.known,
            store=base.reader,
            signers=validation.signers,
            crls=self.crl_watch,
            publishers=issuing.publishers.all,
            peers=links.linking.peers,
            urls=self.ports.urls,
            status_workers=validation.status_workers,
            crypto_tokens=self.token_watch.statuses,
            undone=undone,
        )

    async def follow_rest(self) -> None:
        """Open the REST port, or put its certificate and trust as they now are in force."""
        context = self._identities.rest_context(self._base.objects)
        await self.ports.open_rest(self.registration, context)
