"""What a node keeps in memory of its store, and drops when another node of the store changes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from node_agent.functions.crl_issuing import CrlIssuing
    from node_agent.functions.kept_answers import KeptAnswers
    from node_agent.functions.known_authorities import KnownAuthorities
    from node_agent.functions.node_objects import NodeObjects
    from node_agent.functions.signers import Signers

__all__ = ["KeptState"]


class KeptState:
    """Implements ``following.Follower``. ``learn_crl`` puts a CA's newest CRL in force here."""

    def __init__(
        self,
        *,
        objects: NodeObjects,
        known: KnownAuthorities,
        kept: KeptAnswers,
        signers: Signers,
        crls: CrlIssuing,
        learn_crl: Callable[[str], Awaitable[None]],
    ) -> None:
        self._objects = objects
        self._known = known
        self._kept = kept
        self._signers = signers
        self._crls = crls
        self._learn_crl = learn_crl

    def status_changed(self, authority_id: str, serial: int) -> None:
        """Drop what is kept about a certificate: some node has changed its status."""
        self._kept.drop(authority_id, serial)
        self._signers.status_changed(serial)

    def status_listed(self, authority_id: str) -> None:
        """See to it that a CA's next CRL is made, should the node that is about to do it end."""
        name = self._own_name(authority_id)
        if name is not None:
            self._crls.revoked_elsewhere(name)

    async def crl_changed(self, authority_id: str) -> None:
        """Take over a CRL that some node has made or received."""
        self._kept.drop_crl(authority_id)
        name = self._own_name(authority_id)
        if name is not None:
            self._crls.made_elsewhere(name)
        await self._learn_crl(authority_id)

    async def everything_changed(self) -> None:
        """Drop all that is kept of what the store holds."""
        self._kept.forget()
        self._signers.statuses_changed()
        for authority in tuple(self._known.all()):
            self.status_listed(authority.authority_id)
            await self.crl_changed(authority.authority_id)

    async def settled(self) -> None:
        """Return once no answer of before is given any more."""
        await self._kept.settled()

    def _own_name(self, authority_id: str) -> str | None:
        known = self._known.get(authority_id)
        if known is None or self._objects.find("certification_authorities", known.name) is None:
            return None
        return known.name
