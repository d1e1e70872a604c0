"""Audit entries in the journal: what is sent, nothing twice without need, and nothing left out."""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import socket
import struct
from typing import TYPE_CHECKING

import pytest

from node_agent.errors import StoreError
from node_agent.functions.audit_journal import MESSAGE_ID, AuditJournal
from node_agent.store.audit_chain import AuditHead
from node_agent.store.records import AuditEntry
from tests.support.clock import ManualClock
from tests.support.event_loop import run
from tests.support.store_records import audit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Log:
    """An audit log in memory."""

    def __init__(self, *entries: AuditEntry) -> None:
        self.entries = list(entries)
        self.fault: Exception | None = None

    async def audit_entries(self, *, after: int = 0, limit: int = 1000) -> list[AuditEntry]:
        if self.fault is not None:
            raise self.fault
        return [entry for entry in self.entries if entry.sequence > after][:limit]

    async def audit_head(self) -> AuditHead:
        return AuditHead(len(self.entries), b"")


class Journal:
    """The journal's socket; reads datagrams, and files that come instead."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)

    def close(self) -> None:
        self._socket.close()
        self.path.unlink()

    def read(self) -> list[list[tuple[str, str]]]:
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                data, ancillary, _, _ = self._socket.recvmsg(1 << 20, socket.CMSG_SPACE(4))
                for _, _, payload in ancillary:
                    (descriptor,) = array.array("i", payload)
                    data = os.pread(descriptor, 1 << 24, 0)
                    with pytest.raises(PermissionError):
                        os.ftruncate(descriptor, 0)
                    os.close(descriptor)
                found.append(parsed(data))
        return found


def parsed(data: bytes) -> list[tuple[str, str]]:
    fields = []
    while data:
        line, _, rest = data.partition(b"\n")
        name, is_plain, value = line.partition(b"=")
        if not is_plain:
            (length,) = struct.unpack("<Q", rest[:8])
            value, rest = rest[8 : 8 + length], rest[9 + length :]
        fields.append((name.decode(), value.decode()))
        data = rest
    return fields


def entry(sequence: int, **fields: object) -> AuditEntry:
    return AuditEntry(
        sequence=sequence, record=audit(**fields), previous_hash=b"p" * 32, entry_hash=b"h" * 32
    )


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    found = Journal(tmp_path / "socket")
    yield found
    if found.path.exists():
        found.close()


def follower(log: Log, journal: Journal) -> AuditJournal:
    return AuditJournal(
        log,
        position_path=journal.path.parent / "position",
        node="spiffe://example.org/node/ca1",
        clock=ManualClock(),
        journal=journal.path,
    )


def test_an_entry_has_fields_of_its_own(journal: Journal) -> None:
    denied = entry(
        7,
        allowed=False,
        reason="nothing grants it\nPRIORITY=0",
        detail={"request-id": "0a", "outcome": "x"},
    )
    run(follower(Log(denied), journal).catch_up())
    (fields,) = journal.read()
    known = dict(fields)
    assert known["MESSAGE_ID"] == MESSAGE_ID
    assert (known["PRIORITY"], known["PEERSYS_AUDIT_VERDICT"]) == ("4", "denied")
    assert known["PEERSYS_AUDIT_SEQUENCE"] == "7"
    assert known["PEERSYS_AUDIT_REASON"] == "nothing grants it\nPRIORITY=0"
    assert known["PEERSYS_AUDIT_HASH"] == b"h".hex() * 32
    assert known["PEERSYS_DETAIL_REQUEST_ID"] == "0a"
    assert known["PEERSYS_NODE"] == "spiffe://example.org/node/ca1"
    assert [text for name, text in fields if name == "PEERSYS_AUDIT_RESOURCE"] == [
        "/ra/enroll",
        "/ca/issuing",
        "/profile/server",
        "/protocol/rest",
    ]


def test_what_is_too_large_for_a_datagram_goes_in_a_sealed_file(journal: Journal) -> None:
    reason = "x" * 2_000_000
    run(follower(Log(entry(1, allowed=False, reason=reason)), journal).catch_up())
    (fields,) = journal.read()
    assert dict(fields)["PEERSYS_AUDIT_REASON"] == reason


def test_a_restart_goes_on_where_it_was(journal: Journal) -> None:
    log = Log(*(entry(number) for number in range(1, 4)))
    run(follower(log, journal).catch_up())
    assert len(journal.read()) == 3
    log.entries.append(entry(4))
    run(follower(log, journal).catch_up())
    (fields,) = journal.read()
    assert dict(fields)["PEERSYS_AUDIT_SEQUENCE"] == "4"


def test_what_could_not_be_sent_comes_later(journal: Journal, tmp_path: Path) -> None:
    log = Log(entry(1))
    sender = follower(log, journal)
    journal.close()
    run(sender.catch_up())
    again = Journal(tmp_path / "socket")
    try:
        log.fault = StoreError("the database is gone")
        run(sender.catch_up())
        assert again.read() == []
        log.fault = None
        run(sender.catch_up())
        assert len(again.read()) == 1
    finally:
        again.close()


def test_an_entry_that_nobody_thought_of_does_not_end_the_task(
    journal: Journal, tmp_path: Path
) -> None:
    async def scenario() -> None:
        log, clock = Log(), ManualClock()
        log.fault = KeyError("nobody thought of it")
        sent = AuditJournal(
            log, position_path=tmp_path / "p", node="ca1", clock=clock, journal=journal.path
        )
        sending = asyncio.create_task(sent.run())
        while not clock.sleepers:  # noqa: ASYNC110  # nothing announces it
            await asyncio.sleep(0)
        log.fault = None
        log.entries.append(entry(1))
        clock.advance(2)
        while not (found := journal.read()):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert len(found) == 1
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)

    run(scenario())


def test_a_place_that_cannot_be_read_sends_nothing(journal: Journal, tmp_path: Path) -> None:
    (tmp_path / "position").write_text("not a number")
    run(follower(Log(entry(1)), journal).catch_up())
    assert journal.read() == []
