"""A VA whose answers are well-formed and answer something else than was asked.

``LIES`` by what is wrong with them. ``LyingVa`` answers whatever its CA publishes or asks, and lies
where it is told to; ``as_handler`` makes it a node's handler.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from node_agent.net import RawAnswer
from node_agent.peers.codec import ENCODER
from node_agent.peers.envelope import RequestBody, SignedRequest, body_digest_of, sign_answer
from node_agent.peers.operations import (
    OPERATIONS,
    PUBLISH,
    PUBLISH_CONTENT,
    PUBLISH_DIGESTS,
    PUBLISH_ENTRIES,
    PUBLISH_POSITION,
    PUBLISH_REPAIR,
    ComparedEntry,
    ContentAnswer,
    ContentRequest,
    DigestsAnswer,
    DigestsRequest,
    EntriesAnswer,
    EntriesRequest,
    PositionAnswer,
    PositionRequest,
    PublishAnswer,
    PublishRequest,
    RepairAnswer,
    RepairRequest,
    serial_number,
    serial_octets,
)
from node_agent.wire import Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from node_agent.net import IncomingCall
    from node_agent.net.calls import CallHandler
    from tests.support.hostile_node import HostileNode

    Lie = Callable[[Any], msgspec.Struct]

__all__ = ["LIES", "LyingVa", "as_handler"]

_OCTETS = 16 * 32


def _entry(serial: bytes) -> ComparedEntry:
    return ComparedEntry(serial=serial, statuses=b"\1" * 32, certificate=b"\1" * 32)


def _first_of(request: EntriesRequest) -> int:
    """Return the first serial number in the leaves, or the one behind what is known."""
    return max(min(request.buckets) << 144, serial_number(request.after)) + 1


def _digests(*digests: bytes) -> Lie:
    return lambda request: DigestsAnswer(digests=digests, entries=1, may_take_back=True)


def _entries(*serials: bytes, has_more: bool = False) -> Lie:
    entries = tuple(map(_entry, serials))
    return lambda request: EntriesAnswer(entries=entries, has_more=has_more)


def _entry_without_end(request: EntriesRequest) -> EntriesAnswer:
    return EntriesAnswer(entries=(_entry(serial_octets(_first_of(request))),), has_more=True)


def _same_entry_again(request: EntriesRequest) -> EntriesAnswer:
    serial = serial_octets((min(request.buckets) << 144) + 1)
    return EntriesAnswer(entries=(_entry(serial),), has_more=True)


def _backward(request: EntriesRequest) -> EntriesAnswer:
    first = _first_of(request)
    entries = tuple(_entry(serial_octets(serial)) for serial in (first + 1, first))
    return EntriesAnswer(entries=entries, has_more=False)


def _elsewhere(request: EntriesRequest) -> EntriesAnswer:
    bucket = next(number for number in range(1 << 16) if number not in request.buckets)
    return EntriesAnswer(entries=(_entry(serial_octets((bucket << 144) + 1)),), has_more=False)


LIES: dict[str, dict[Any, Lie]] = {
    "no digests": {PUBLISH_DIGESTS: _digests()},
    "too many digests": {
        PUBLISH_DIGESTS: lambda request: DigestsAnswer(
            digests=(b"\1" * _OCTETS,) * (len(request.prefixes) + 1), entries=1
        )
    },
    "short digests": {
        PUBLISH_DIGESTS: lambda request: DigestsAnswer(
            digests=(b"\1" * 31,) * len(request.prefixes), entries=1
        )
    },
    "more entries, but none": {PUBLISH_ENTRIES: _entries(has_more=True)},
    "a serial of no octets": {PUBLISH_ENTRIES: _entries(b"")},
    "a serial of 21 octets": {PUBLISH_ENTRIES: _entries(b"\1" * 21)},
    "the serial zero": {PUBLISH_ENTRIES: _entries(b"\0")},
    "the same entry for ever": {PUBLISH_ENTRIES: _same_entry_again},
    "entries backward": {PUBLISH_ENTRIES: _backward},
    "entries of other leaves": {PUBLISH_ENTRIES: _elsewhere},
    "entries without end": {PUBLISH_ENTRIES: _entry_without_end},
    "more repaired than asked": {PUBLISH_REPAIR: lambda request: RepairAnswer(repaired=1 << 40)},
    "fewer than none repaired": {PUBLISH_REPAIR: lambda request: RepairAnswer(repaired=-1)},
}


@dataclass
class LyingVa:
    """``lies`` in place of what it answers otherwise: that it has applied everything, and knows
    nothing. ``asked`` lists the methods.
    """

    lies: dict[Any, Lie] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    positions: dict[str, int] = field(default_factory=dict)

    def answer(self, method: str, request: Any) -> msgspec.Struct:
        """Return the answer to one request."""
        self.asked.append(method)
        for operation, lie in self.lies.items():
            if operation.method == method:
                return lie(request)
        return self._plausible(request)

    def _plausible(self, request: Any) -> msgspec.Struct:
        match request:
            case PositionRequest():
                return PositionAnswer(position=self.positions.get(request.source, 0))
            case PublishRequest():
                self.positions[request.source] = request.position
                return PublishAnswer(position=request.position)
            case ContentRequest():
                return ContentAnswer(held=request.octets)
            case DigestsRequest():
                digests = (bytes(_OCTETS),) * len(request.prefixes)
                return DigestsAnswer(digests=digests, entries=1, may_take_back=True)
            case EntriesRequest():
                return EntriesAnswer(entries=(), has_more=False)
            case RepairRequest():
                repaired = len(request.entries) + len(request.surplus)
                return RepairAnswer(repaired=repaired)
        raise AssertionError(request)


_KNOWN = {
    operation.method
    for operation in (
        *(PUBLISH, PUBLISH_CONTENT, PUBLISH_DIGESTS),
        *(PUBLISH_ENTRIES, PUBLISH_POSITION, PUBLISH_REPAIR),
    )
}


def as_handler(node: HostileNode, va: LyingVa) -> CallHandler:
    """Return what answers in ``node``'s name, signed as it must be."""

    async def handle(call: IncomingCall) -> RawAnswer:
        if call.method not in _KNOWN | {operation.method for operation in va.lies}:
            return RawAnswer(Status.UNAVAILABLE, b"")
        async for _ in call.body:
            pass
        signed = msgspec.msgpack.decode(call.payload, type=SignedRequest)
        body = msgspec.msgpack.decode(signed.body, type=RequestBody)
        kind = OPERATIONS[call.method].request_type
        answer = va.answer(call.method, msgspec.msgpack.decode(body.payload, type=kind))
        message = sign_answer(
            node.holder,
            body_digest=body_digest_of(call.payload),
            status=Status.OK,
            payload=ENCODER.encode(answer),
        )
        return RawAnswer(Status.OK, message)

    return handle
