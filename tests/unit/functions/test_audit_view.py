"""The newest entries are found from the end, and among them what a node did since some time."""

from __future__ import annotations

from dataclasses import replace

from node_agent.functions.audit_view import select_entries
from node_agent.store.audit_chain import AuditHead
from node_agent.store.records import AuditEntry, AuditRecord
from node_agent.web.backends import AuditSelection
from tests.support.event_loop import run


class Log:
    """A log of ``count`` entries, one a second, every tenth of them a denial of ra2's."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.read: list[int] = []

    async def audit_head(self) -> AuditHead:
        return AuditHead(self.count, b"")

    async def audit_entries(self, *, after: int = 0, limit: int = 1000) -> list[AuditEntry]:
        numbers = range(after + 1, min(after + limit, self.count) + 1)
        self.read += numbers
        return [_entry(number) for number in numbers]


def _entry(number: int) -> AuditEntry:
    is_denial = number % 10 == 0
    name = "ra2" if is_denial else "ra1"
    record = AuditRecord(
        at=1000.0 + number,
        action="ra.enroll",
        allowed=not is_denial,
        chain=f"alice via {name} via proxy1",
        resources=(),
        reason="",
        detail={"origin": f"spiffe://pki.example.org/node/{name}"},
    )
    return AuditEntry(sequence=number, record=record, previous_hash=b"", entry_hash=b"")


def select(log: Log, **wanted: object) -> list[int]:
    found = run(select_entries(log, AuditSelection(**wanted)))  # type: ignore[arg-type]
    return [entry.sequence for entry in found]


def test_the_newest_are_read_and_no_more() -> None:
    log = Log(100_000)
    assert select(log, last=True, limit=3) == [99_998, 99_999, 100_000]
    assert len(log.read) == 2000


def test_denials_are_looked_for_until_there_are_enough() -> None:
    log = Log(100_000)
    assert select(log, last=True, limit=250, denied=True)[0] == 97_510
    assert len(log.read) == 4000


def test_what_a_node_did_since_a_time() -> None:
    log = Log(100_000)
    uri = "spiffe://pki.example.org/node/ra2"
    assert select(log, last=True, peer=uri, since=1000.0 + 99_975) == [99_980, 99_990, 100_000]
    assert len(log.read) == 2000
    assert len(select(log, last=True, peer="proxy1", limit=5)) == 5
    assert select(log, last=True, peer="proxy2", since=99_000.0) == []


def test_a_span_is_found_without_reading_what_is_before_it() -> None:
    log = Log(1_000_000)
    begin, end = 1000.0 + 700_000, 1000.0 + 700_009
    assert select(log, since=begin, until=end) == list(range(700_000, 700_010))
    assert len(log.read) < 6000
    assert select(log, since=begin, until=end, after=700_004, denied=True) == []
    assert select(log, since=begin, until=end, after=700_009) == []
    assert select(log, last=True, since=begin, until=begin + 1) == [700_000, 700_001]
    assert select(Log(10), since=5000.0) == []


def test_an_entry_whose_clock_was_behind_is_in_the_span_that_it_says() -> None:
    log = Log(10_000)
    times = {5000: 1000.0 + 4100}

    async def entries(*, after: int = 0, limit: int = 1000) -> list[AuditEntry]:
        page = [_entry(n) for n in range(after + 1, min(after + limit, 10_000) + 1)]
        return [
            replace(one, record=replace(one.record, at=times.get(one.sequence, one.record.at)))
            for one in page
        ]

    log.audit_entries = entries  # type: ignore[method-assign]
    found, after = [], 0
    while page := select(log, since=1000.0 + 4100, until=1000.0 + 4101, after=after):
        found += page
        after = page[-1]
    assert found == [4100, 4101, 5000]


def test_from_the_beginning_it_pages() -> None:
    assert select(Log(10), after=3, limit=4) == [4, 5, 6, 7]
    assert select(Log(10), last=True, after=8) == [9, 10]
    assert select(Log(0), last=True) == []
