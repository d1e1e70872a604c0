"""The parts that change objects: management, and what follows the other nodes of a shared store."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from node_agent.functions.audit_checkpoints import AuditCheckpoints
from node_agent.functions.audit_journal import AuditJournal
from node_agent.functions.certification import Certification
from node_agent.functions.creation import Creation
from node_agent.functions.following import StoreFollower
from node_agent.functions.kept_state import KeptState
from node_agent.functions.management import Management
from node_agent.functions.object_views import ObjectViews
from node_agent.functions.refreshing import ObjectRefresh

if TYPE_CHECKING:
    from node_agent.functions.management import Runtime
    from node_agent.functions.status_report import StatusReporter
    from node_agent.service.crl_news import CrlNews
    from node_agent.service.foundation import Foundation
    from node_agent.service.issuing import IssuingParts
    from node_agent.service.links import LinkParts
    from node_agent.service.validation import ValidationParts

__all__ = ["AdministrationParts"]


class AdministrationParts:
    """``runtime`` is the running node: it is told what has changed, and asked how it is."""

    def __init__(
        self,
        base: Foundation,
        links: LinkParts,
        issuing: IssuingParts,
        *,
        reporter: StatusReporter,
        runtime: Runtime,
    ) -> None:
        self._base = base
        self._issuing = issuing
        self.checkpoints = AuditCheckpoints(
            base.settings.state_directory / "audit-checkpoints.jsonl",
            store=base.store,
            identities=links.identities,
            clock=base.clock,
        )
        self.journal = self._journal()
        self.management = Management(
            node=base.settings.identity,
            version=version("peersys"),
            objects=base.objects,
            store=base.store,
            creation=self._creation(),
            certification=self._certification(),
            authorities=issuing.service,
            views=ObjectViews(
                tokens=base.tokens,
                store=base.reader,
                known=base.known,
                live=reporter.live_state,
            ),
            refresh=self._refresh(),
            runtime=runtime,
            checkpoints=self.checkpoints,
            clock=base.clock,
        )

    async def close_log(self) -> None:
        """Sign where the audit log ends, and send the rest of it to the journal."""
        await self.checkpoints.write()
        if self.journal is not None:
            await self.journal.catch_up()

    def follower(self, validation: ValidationParts, news: CrlNews) -> StoreFollower:
        """Return what follows the other nodes of the store."""
        base = self._base
        return StoreFollower(
            base.reader,
            follower=KeptState(
                objects=base.objects,
                known=base.known,
                kept=validation.kept,
                signers=validation.signers,
                crls=self._issuing.crls,
                learn_crl=news.learn_newest,
            ),
            refresh=self.management.refresh,
            changed=base.changed,
            clock=base.clock,
            begin=base.heads,
        )

    def _journal(self) -> AuditJournal | None:
        base = self._base
        if not base.settings.audit_journal:
            return None
        return AuditJournal(
            base.store,
            position_path=base.settings.state_directory / "audit-journal.position",
            node=base.settings.identity.uri,
            clock=base.clock,
        )

    def _creation(self) -> Creation:
        base = self._base
        return Creation(
            node=base.settings.identity,
            objects=base.objects,
            tokens=base.tokens,
            authorities=self._issuing.authorities,
            pool=base.pool,
            clock=base.clock,
        )

    def _certification(self) -> Certification:
        base = self._base
        return Certification(
            node=base.settings.identity,
            store=base.store,
            authorities=self._issuing.authorities,
            changed=base.changed,
            clock=base.clock,
        )

    def _refresh(self) -> ObjectRefresh:
        base = self._base
        return ObjectRefresh(
            store=base.store,
            objects=base.objects,
            tokens=base.tokens,
            known=base.known,
            revision=base.heads.revision,
        )
