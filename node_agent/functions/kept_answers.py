"""What the node tells whoever answers at its status port, in this process or in others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from node_agent.functions.receiving import Applied

__all__ = ["KeptAnswers"]


class KeptAnswers(Protocol):
    """Answers that are kept until they are dropped. After dropping, wait for ``settled`` before you
    say to anyone that a change is in force.
    """

    @property
    def answers(self) -> Mapping[str, int]:
        """How many OCSP answers there were of each kind."""
        ...

    def applied(self, change: Applied) -> None:
        """Drop every answer that ``change`` makes untrue."""
        ...

    def drop(self, authority_id: str, serial: int) -> None:
        """Drop every answer about one certificate; if it is a signer's, what was signed by it."""
        ...

    def drop_crl(self, authority_id: str) -> None:
        """Forget the CRLs of a CA: there is a newer one."""
        ...

    def reconsider(self, authority: str | None = None) -> None:
        """Signers or CAs have changed, or only the signer of the CA ``authority``: drop every
        answer that isn't right because of that.
        """
        ...

    def forget(self) -> None:
        """Drop every answer."""
        ...

    async def settled(self) -> None:
        """Return once nothing that was dropped is answered any more, anywhere."""
        ...
