"""The managed objects of this node as values in memory: a mirror of the store, replaced by kind.

Every part reads objects here and nowhere else. ``management.py`` changes them after the store has
committed the change, ``refreshing.py`` after another node has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import msgspec

from node_agent.errors import NotFound
from node_agent.functions.plan import BUILT_IN_TOKEN, Objects
from node_agent.objects import KINDS, ObjectSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from node_agent.store.records import ObjectChange, ObjectRecord

__all__ = [
    "AuthenticatorState",
    "AuthorityState",
    "ManagedObject",
    "NodeObjects",
    "SignerState",
    "decode_state",
    "encode_state",
    "load_object",
    "unknown",
]

_MOST_NAMED = 20
"""How many an error names of what there is: of thousands nobody reads all."""

SpecT = TypeVar("SpecT", bound=msgspec.Struct)
StateT = TypeVar("StateT", bound=msgspec.Struct)


class AuthenticatorState(msgspec.Struct, frozen=True):
    """The key of an authenticator and its CSR (DER)."""

    key_label: str
    csr: bytes


class AuthorityState(msgspec.Struct, frozen=True):
    """What a CA became: its key and chain (DER, its own certificate first, the root last)."""

    key_label: str
    authority_id: str
    chain: tuple[bytes, ...]


class SignerState(msgspec.Struct, frozen=True):
    """A signer's key and certificate chain; empty until the CA has certified it."""

    key_label: str
    chain: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class ManagedObject:
    """A specification with what the node made of it (``state``: MessagePack, may be empty)."""

    kind: str
    spec: ObjectSpec
    state: bytes
    generation: int

    @property
    def name(self) -> str:
        """The object's name, unique in its kind."""
        return self.spec.name


def unknown(what: str, names: Iterable[str]) -> NotFound:
    """Return the error for ``what`` (``CA 'issuing'``), with the ``names`` that there are.

    For the node's own operator alone: a peer or requester must not learn what there is.
    """
    there = sorted(names)
    more = len(there) - _MOST_NAMED
    told = ", ".join(there[:_MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")
    return NotFound(f"there is no {what}; there {f'are: {told}' if there else 'is none'}")


class NodeObjects:
    """All objects by kind and name."""

    def __init__(self, records: Iterable[ObjectRecord] = ()) -> None:
        self._objects: dict[str, dict[str, ManagedObject]] = {kind: {} for kind in KINDS}
        built_in = ManagedObject("crypto_tokens", BUILT_IN_TOKEN, b"", 1)
        self._objects["crypto_tokens"][BUILT_IN_TOKEN.name] = built_in
        for record in records:
            if record.kind in KINDS:
                self._objects[record.kind][record.name] = load_object(record)

    def get(self, kind: str, name: str) -> ManagedObject:
        """Return one object. Raises NotFound for an unknown kind or name."""
        found = self._objects.get(kind, {}).get(name)
        if found is None:
            raise NotFound(f"there is no object {name!r} among {kind}")
        return found

    def find(self, kind: str, name: str) -> ManagedObject | None:
        """Return one object or None."""
        return self._objects[kind].get(name)

    def all(self, kind: str) -> list[ManagedObject]:
        """Return the objects of ``kind`` by name. Raises NotFound for an unknown kind."""
        if kind not in self._objects:
            raise NotFound(f"{kind!r} is not a kind; kinds are {', '.join(KINDS)}")
        return [self._objects[kind][name] for name in sorted(self._objects[kind])]

    def specs(self, kind: str, spec_type: type[SpecT]) -> Iterator[SpecT]:
        """Yield the specifications of ``kind``, which must hold ``spec_type``."""
        for item in self.all(kind):
            assert isinstance(item.spec, spec_type)
            yield item.spec

    def specifications(self) -> Objects:
        """Return what ``plan.py`` compares: specifications by kind and name."""
        return {
            kind: {name: item.spec for name, item in items.items()}
            for kind, items in self._objects.items()
        }

    def apply(self, changes: Sequence[ObjectChange]) -> None:
        """Take over what the store has just committed."""
        for change in changes:
            if change.kind not in KINDS:
                continue
            if change.record is None:
                self._objects[change.kind].pop(change.name, None)
            else:
                self._objects[change.kind][change.name] = load_object(change.record)


def decode_state(item: ManagedObject, state_type: type[StateT]) -> StateT:
    """Return an object's state. Raises msgspec.DecodeError when the store holds something else."""
    return msgspec.msgpack.decode(item.state, type=state_type)


def encode_state(state: msgspec.Struct) -> bytes:
    """Return a state as the store keeps it."""
    return msgspec.msgpack.encode(state)


def load_object(record: ObjectRecord) -> ManagedObject:
    """Return a stored object of a managed kind."""
    spec: ObjectSpec = msgspec.json.decode(record.spec, type=KINDS[record.kind])
    return ManagedObject(record.kind, spec, record.state, record.generation)
