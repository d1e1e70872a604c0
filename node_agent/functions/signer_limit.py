"""How many OCSP signers of one CA a node may have: a taken-over VA could have any number made, each
of which signs good answers for a month, and each of which somebody would have to revoke.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from node_agent.errors import QuotaExceeded
from node_agent.store.records import CertificateQuery, CertificateStatus, NameMatch

if TYPE_CHECKING:
    from node_agent.clock import Clock
    from node_agent.store.api import Reader

__all__ = ["SignerLimit"]

# One in use and one that follows it; the others are for a VA that lost its keys now and then.
_MOST_VALID: Final = 8
# Other nodes may have the same name in other trust domains.
_MOST_LOOKED_AT: Final = 200


class SignerLimit:
    """``turn`` is held from the check to the certificate, or requests at once would overrun it."""

    def __init__(self, store: Reader, clock: Clock) -> None:
        self.turn = asyncio.Lock()
        self._store = store
        self._clock = clock

    async def check(self, authority_id: str, origin: str, common_name: str) -> None:
        """Raise QuotaExceeded when ``origin`` has as many valid ones as it may."""
        records = await self._store.search(
            CertificateQuery(
                authority_ids=(authority_id,),
                name=common_name,
                name_match=NameMatch.EXACT,
                status=CertificateStatus.GOOD,
                limit=_MOST_LOOKED_AT,
            )
        )
        now = self._clock.now()
        valid = sum(record.origin == origin and record.not_after > now for record in records)
        if valid >= _MOST_VALID:
            raise QuotaExceeded(
                f"{valid} OCSP signers of this node are valid, and no more may be",
                remedy="revoke those that aren't in use at the CA, or wait until some end",
            )
