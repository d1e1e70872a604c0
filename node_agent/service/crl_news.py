"""A new CRL, made here or received: it is served, and it is in force for the node's own links."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

from node_agent.errors import NodeAgentError
from node_agent.functions.containment import Containment
from node_agent.functions.crl_ends import CrlEnds

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from node_agent.functions.identities import Identities
    from node_agent.functions.kept_answers import KeptAnswers
    from node_agent.service.foundation import Foundation
    from node_agent.store.records import CrlRecord

__all__ = ["CrlNews"]

log = structlog.get_logger(__name__)


class CrlNews:
    """``spawn`` runs a coroutine beside the others, under a name."""

    def __init__(
        self,
        base: Foundation,
        *,
        identities: Identities,
        kept: KeptAnswers,
        spawn: Callable[[Coroutine[Any, Any, None], str], None],
    ) -> None:
        self._base = base
        self._identities = identities
        self._kept = kept
        self._spawn = spawn
        self._contained = Containment("CRL for links", clock=base.clock)
        self.ends = CrlEnds()

    async def load(self) -> None:
        """Take up the newest CRLs of our trust anchors: what a peer told us survives a restart."""
        self._identities.configure(self._base.objects)
        self.ends.load(await self._base.store.newest_crls())
        # A tenant's CA is seldom among the CAs that this node knows: nothing is read for it.
        for authority in tuple(self._base.known.all()):
            await self._learn_newest(authority.authority_id)

    async def learn_newest(self, authority_id: str) -> None:
        """Take up the newest CRLs of a CA that the store has: another node has put them there."""
        self.ends.load(await self._base.store.newest_crls(authority_id))
        await self._learn_newest(authority_id)

    async def _learn_newest(self, authority_id: str) -> None:
        if not self._is_ours(authority_id):
            return
        crl = await self._base.store.latest_crl(authority_id)
        if crl is not None:
            await self._learn(crl)

    def made(self, crl: CrlRecord) -> None:
        """There is a newer CRL of a CA."""
        self.ends.made(crl)
        self._kept.drop_crl(crl.authority_id)
        if not self._is_ours(crl.authority_id):
            return
        if crl.content is None:
            self._identities.learn_crl(crl.der, self._base.objects)
        else:
            self._spawn(self._learn(crl), "learn-crl")

    def _is_ours(self, authority_id: str) -> bool:
        """Tell whether a CA is a trust anchor of our links: the lists of others aren't even read,
        however many CAs the node has.
        """
        return authority_id in self._identities.anchor_ids

    async def _learn(self, crl: CrlRecord) -> None:
        base = self._base
        try:
            with self._contained.around(crl.authority_id):
                self._identities.learn_crl(await base.store.crl_der(crl), base.objects)
        except NodeAgentError as error:
            log.warning("CRL not in force for links", reason=str(error))
