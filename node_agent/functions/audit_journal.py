"""The audit log in systemd's journal, entry by entry, in fields of their own.

A follower of the log, so that nothing waits for the journal: what isn't there yet comes later, also
after a restart. The place in the log is kept in a file, written after the journal has taken what is
before it. So an entry may come twice, with the same PEERSYS_AUDIT_SEQUENCE, and none is left out.

The journal's own protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL) is a datagram for each entry; one
that is too large for that goes in a sealed memory file.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import re
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from node_agent.errors import NodeAgentError, UnexpectedFailure
from node_agent.functions.containment import Containment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from node_agent.clock import Clock
    from node_agent.functions.audit_view import AuditSource
    from node_agent.store.records import AuditEntry

__all__ = ["JOURNAL_SOCKET", "AuditJournal", "journal_fields", "send_to_journal"]

log = structlog.get_logger(__name__)

JOURNAL_SOCKET: Final = Path("/run/systemd/journal/socket")
MESSAGE_ID: Final = "6e1f5a2f3c0b4d4c9b0f2f1d8a7c5e34"
"""Finds these entries whatever they say: ``journalctl MESSAGE_ID=…``."""

_INTERVAL_SECONDS: Final = 1.0
_PAGE: Final = 500
_SEND_SECONDS: Final = 5.0
_INFORMATION, _WARNING = "6", "4"
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
_NO_FIELD_CHARACTER = re.compile(r"[^A-Z0-9_]")


class AuditJournal:
    """Send the log of ``source`` to the journal; ``run()`` does it until cancelled.

    A journal that isn't there is said once, and tried again.
    """

    def __init__(
        self,
        source: AuditSource,
        *,
        position_path: Path,
        node: str,
        clock: Clock,
        journal: Path = JOURNAL_SOCKET,
    ) -> None:
        self._source = source
        self._path = position_path
        self._node = node
        self._clock = clock
        self._journal = journal
        self._is_failing = False
        self._contained = Containment("audit journal", clock=clock)

    async def run(self) -> None:
        """Send what is new each second."""
        while True:
            with contextlib.suppress(UnexpectedFailure), self._contained.around("entries"):
                await self.catch_up()
            pause = self._contained.pause_seconds("entries")
            await self._clock.sleep(max(pause, _INTERVAL_SECONDS))

    async def catch_up(self) -> None:
        """Send everything that isn't sent yet, or log why it can't be."""
        try:
            position = await asyncio.to_thread(_read_position, self._path)
            while entries := await self._source.audit_entries(after=position, limit=_PAGE):
                await asyncio.to_thread(send_to_journal, self._journal, self._messages(entries))
                position = entries[-1].sequence
                await asyncio.to_thread(_write_position, self._path, position)
        except (NodeAgentError, OSError, ValueError) as error:
            if not self._is_failing:
                log.error("audit entries can't go to the journal", reason=str(error))
            self._is_failing = True
        else:
            self._is_failing = False

    def _messages(self, entries: Sequence[AuditEntry]) -> list[bytes]:
        return [_encode(journal_fields(entry, node=self._node)) for entry in entries]


def journal_fields(entry: AuditEntry, *, node: str) -> Iterator[tuple[str, str]]:
    """Yield the fields of an entry; a field may stand there several times."""
    record = entry.record
    verdict = "allowed" if record.allowed else "denied"
    why = "" if record.allowed else f": {record.reason}"
    yield "MESSAGE", f"{verdict} {record.action} of {record.chain}{why}"
    yield "MESSAGE_ID", MESSAGE_ID
    yield "PRIORITY", _INFORMATION if record.allowed else _WARNING
    yield "SYSLOG_IDENTIFIER", "peersys-audit"
    yield "PEERSYS_NODE", node
    yield "PEERSYS_AUDIT_SEQUENCE", str(entry.sequence)
    yield "PEERSYS_AUDIT_HASH", entry.entry_hash.hex()
    yield "PEERSYS_AUDIT_AT", f"{record.at:.6f}"
    yield "PEERSYS_AUDIT_ACTION", record.action
    yield "PEERSYS_AUDIT_VERDICT", verdict
    yield "PEERSYS_AUDIT_CHAIN", record.chain
    yield "PEERSYS_AUDIT_REASON", record.reason
    for resource in record.resources:
        yield "PEERSYS_AUDIT_RESOURCE", resource
    for name, text in record.detail.items():
        yield f"PEERSYS_DETAIL_{_NO_FIELD_CHARACTER.sub('_', name.upper())}"[:64], text


def send_to_journal(journal: Path, messages: Sequence[bytes]) -> None:
    """Send encoded entries; blocks while the journal is full. Raises OSError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.settimeout(_SEND_SECONDS)
        sender.connect(str(journal))
        for message in messages:
            try:
                sender.send(message)
            except OSError as error:
                if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                    raise
                _send_in_file(sender, message)


def _send_in_file(sender: socket.socket, message: bytes) -> None:
    """Send what is too large for a datagram, in a file that can't change any more."""
    descriptor = os.memfd_create("peersys-audit", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(message)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
        socket.send_fds(sender, [b""], [descriptor])
    finally:
        os.close(descriptor)


def _encode(fields: Iterator[tuple[str, str]]) -> bytes:
    """Return the fields as the journal reads them: text with a line end goes with its length."""
    parts = []
    for name, text in fields:
        value = text.encode("utf-8", "backslashreplace")
        if b"\n" in value:
            length = struct.pack("<Q", len(value))
            parts.append(b"%s\n%s%s\n" % (name.encode(), length, value))
        else:
            parts.append(b"%s=%s\n" % (name.encode(), value))
    return b"".join(parts)


def _read_position(path: Path) -> int:
    """Return up to where the log was sent; a file that was never written is the beginning."""
    with contextlib.suppress(FileNotFoundError):
        return int(path.read_text(encoding="ascii"))
    return 0


def _write_position(path: Path, position: int) -> None:
    """Replace the file as a whole; lost in a power cut, entries are sent again."""
    temporary = path.with_suffix(".new")
    temporary.write_text(f"{position}\n", encoding="ascii")
    temporary.replace(path)
