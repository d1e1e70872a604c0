"""A program that issues into a store and says on stdout what was acknowledged, for fault tests.

``python -m tests.support.store_load issue URL FIRST COUNT`` prints a line
``<number> <serial> <repeated>`` per acknowledged issuance, as soon as it is acknowledged.
``python -m tests.support.store_load fill URL`` issues until the disk is full (a file-size limit
that it sets itself), then makes room and goes on; it prints a JSON summary.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
from pathlib import Path

import sqlalchemy as sa

from node_agent.errors import StoreError
from node_agent.store import Store, open_store
from tests.support.store_records import audit, certificate

CALLERS = 20
ROOM_OCTETS = 300_000
PAYLOAD = bytes(700)


async def issue(url: str, first: int, count: int) -> None:
    """Issue ``count`` certificates with ``CALLERS`` at a time, one line per acknowledgement."""
    numbers = iter(range(first, first + count))

    async def worker(store: Store) -> None:
        for number in numbers:
            record = certificate(number, serial=_own_serial(number))
            outcome = await store.record_issuance(record, PAYLOAD, audit())
            line = f"{number} {outcome.certificate.serial:x} {int(outcome.repeated)}\n"
            os.write(sys.stdout.fileno(), line.encode())

    async with open_store(url) as store, asyncio.TaskGroup() as group:
        for _ in range(CALLERS):
            group.create_task(worker(store))


async def fill(url: str) -> None:
    """Issue into a full disk, then into one with room again."""
    async with open_store(url) as store:
        await store.record_issuance(certificate(0), PAYLOAD, audit())
        path = sa.make_url(url).database or ""
        _limit_files(_largest_file(path) + ROOM_OCTETS)
        stored, errors = await _issue_until_full(store)
        refused = certificate(stored)
        absent = await store.certificate(refused.authority_id, refused.serial)
        _limit_files(resource.RLIM_INFINITY)
        again = await store.record_issuance(refused, PAYLOAD, audit())
        verdict = await store.verify_audit()
        summary = {
            "stored": stored,
            "errors": errors,
            "half_stored": absent is not None,
            "position_after": again.position,
            "audit_ok": verdict.ok,
            "audit_entries": verdict.entries,
        }
    sys.stdout.write(json.dumps(summary))


async def _issue_until_full(store: Store) -> tuple[int, list[str]]:
    number = 1
    while True:
        try:
            await store.record_issuance(certificate(number), PAYLOAD, audit())
        except StoreError as error:
            return number, [str(error)]
        number += 1


def _own_serial(number: int) -> int:
    """Two processes that answer one request id would sign with different serial numbers."""
    return (os.getpid() << 64) + number


def _largest_file(path: str) -> int:
    return max(file.stat().st_size for file in Path(path).parent.iterdir())


def _limit_files(octets: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (octets, hard))


if __name__ == "__main__":
    if sys.argv[1] == "issue":
        asyncio.run(issue(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
    else:
        asyncio.run(fill(sys.argv[2]))
