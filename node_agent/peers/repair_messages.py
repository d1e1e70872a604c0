"""Messages by which one store says to another what its rows are: to repair, and to be recovered."""

from __future__ import annotations

from typing import Annotated

import msgspec

from node_agent.peers.fields import Serial  # noqa: TC001  # msgspec resolves the annotation

__all__ = [
    "HeldList",
    "RecordsAnswer",
    "RecordsRequest",
    "RepairAnswer",
    "RepairRequest",
    "RepairedEntry",
]


# A CA goes on counting above what a peer says it had reached: there must be room.
_Counted = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]


class _Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class RepairedEntry(_Message, frozen=True):
    """What a certificate's row says: payloads as in ``functions/change_payloads.py``."""

    serial: Serial
    certificate: bytes
    status: bytes


class RepairRequest(_Message, frozen=True):
    """Rows of ``authority`` that must be made what its CA says, and serials it never issued.

    Without ``takes_back`` no revocation is taken back and nothing removed: what a node may ask for
    that isn't believed as much as the CA.
    """

    authority: str
    authority_id: str
    content: tuple[str, ...]
    entries: tuple[RepairedEntry, ...]
    surplus: tuple[Serial, ...]
    takes_back: bool = False


class RepairAnswer(_Message, frozen=True):
    """How many rows are as they must be now."""

    repaired: int


class RecordsRequest(_Message, frozen=True):
    """Ask for the rows of some serials, for a CA that was restored, and for the newest CRLs.

    Without serials the CRLs are looked at first: one that isn't what its CA signed counts for none.
    """

    authority: str
    authority_id: str
    serials: Annotated[tuple[Serial, ...], msgspec.Meta(max_length=200)] = ()


class HeldList(_Message, frozen=True, array_like=True):
    """The number of the newest full or delta CRL of a shard."""

    shard: _Counted
    is_delta: bool
    number: _Counted


class RecordsAnswer(_Message, frozen=True):
    """What is here of that. ``certificate`` payloads lack the certificate where it isn't here."""

    entries: tuple[RepairedEntry, ...]
    lists: tuple[HeldList, ...]
