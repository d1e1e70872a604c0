"""What is done to the whole of the audit log is found by what the node signed about it before."""

from __future__ import annotations

import json
import sqlite3
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from node_agent.clock import SystemClock
from node_agent.functions.audit_checkpoints import AuditCheckpoints
from node_agent.store import open_store
from node_agent.store.audit_chain import GENESIS_HASH, entry_hash
from node_agent.store.records import AuditRecord
from tests.support.event_loop import run
from tests.support.pki import ThrowawayAuthority

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from node_agent.net.tls import IdentityHolder
    from node_agent.store import Store

AUTHORITY = ThrowawayAuthority()


def record(number: int) -> AuditRecord:
    return AuditRecord(
        at=float(number),
        action="ra.enroll",
        allowed=True,
        chain="alice via ra1",
        resources=("/ra/enroll",),
        reason=f"entry {number}",
        detail={},
    )


def checkpoints(path: Path, store: Store, holder: IdentityHolder | None) -> AuditCheckpoints:
    identities: Any = SimpleNamespace(first=holder)
    return AuditCheckpoints(path, store=store, identities=identities, clock=SystemClock())


async def a_log(directory: Path, holder: IdentityHolder) -> None:
    """Leave ten entries with a checkpoint at the sixth and at the last."""
    async with open_store(f"sqlite:///{directory}/store.db") as store:
        log = checkpoints(directory / "checkpoints", store, holder)
        await store.append_audit([record(number) for number in range(6)])
        await log.write()
        await store.append_audit([record(number) for number in range(6, 10)])
        await log.write()
        await log.write()


async def verdict(directory: Path, holder: IdentityHolder) -> tuple[bool, str]:
    async with open_store(f"sqlite:///{directory}/store.db") as store:
        known = await checkpoints(directory / "checkpoints", store, holder).read()
        result = await store.verify_audit(checkpoints=known.heads)
        return result.ok and not known.fault, result.reason or known.fault


def _rechain(rows: list[tuple[int, bytes]], base: sqlite3.Connection) -> None:
    """Write ``rows`` as a log that is whole in itself."""
    base.execute("DELETE FROM audit_log")
    previous = GENESIS_HASH
    for number, (_, body) in enumerate(rows, 1):
        own = entry_hash(previous, number, body)
        base.execute("INSERT INTO audit_log VALUES (?, ?, ?, ?)", (number, body, previous, own))
        previous = own
    base.execute("UPDATE log_heads SET audit_sequence = ?, audit_hash = ?", (len(rows), previous))


ATTACKS: dict[str, Callable[[list[tuple[int, bytes]]], list[tuple[int, bytes]]]] = {
    "cut off": lambda rows: rows[:7],
    "emptied": lambda rows: [],
    "an entry removed": lambda rows: [*rows[:3], *rows[4:]],
    "an entry changed": lambda rows: [
        *rows[:3],
        (4, rows[3][1].replace(b"alice", b"mally")),
        *rows[4:],
    ],
    "two entries exchanged": lambda rows: [*rows[:3], rows[4], rows[3], *rows[5:]],
    "an entry put in": lambda rows: [*rows[:3], rows[0], *rows[3:]],
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_log_that_was_made_again_is_found(tmp_path: Path, attack: str) -> None:
    holder = AUTHORITY.holder("ca1")
    run(a_log(tmp_path, holder))
    assert run(verdict(tmp_path, holder)) == (True, "")
    base = sqlite3.connect(tmp_path / "store.db")
    for (trigger,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'"):
        base.execute(f"DROP TRIGGER {trigger}")
    rows = base.execute("SELECT sequence, body FROM audit_log ORDER BY sequence").fetchall()
    _rechain(ATTACKS[attack](rows), base)
    base.commit()
    base.close()
    ok, reason = run(verdict(tmp_path, holder))
    assert not ok
    assert "checkpoint" in reason


def _change(line: str, **fields: Any) -> str:
    return json.dumps({**json.loads(line), **fields})


FORGERIES: dict[str, Callable[[list[str]], list[str]]] = {
    "another sequence": lambda lines: [*lines[:-1], _change(lines[-1], sequence=9)],
    "another hash": lambda lines: [*lines[:-1], _change(lines[-1], entry_hash="0" * 64)],
    "another time": lambda lines: [*lines[:-1], _change(lines[-1], at=1_800_000_001)],
    "another node": lambda lines: [*lines[:-1], _change(lines[-1], node="spiffe://x.org/node/y")],
    "no certificate": lambda lines: lines[1:],
    "half a line": lambda lines: [*lines[:-1], lines[-1][:50]],
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_checkpoint_that_the_node_did_not_sign_is_found(tmp_path: Path, forgery: str) -> None:
    holder = AUTHORITY.holder("ca1")
    run(a_log(tmp_path, holder))
    path = tmp_path / "checkpoints"
    lines = path.read_text().splitlines()
    assert len(lines) == 3
    path.write_text("\n".join(FORGERIES[forgery](lines)) + "\n")
    ok, reason = run(verdict(tmp_path, holder))
    assert not ok
    assert reason


def test_another_nodes_signature_is_not_this_nodes(tmp_path: Path) -> None:
    run(a_log(tmp_path, AUTHORITY.holder("ra1")))
    ok, reason = run(verdict(tmp_path, AUTHORITY.holder("ca1")))
    assert not ok
    assert "another node" in reason


def test_a_renewed_authenticator_does_not_make_old_checkpoints_worthless(tmp_path: Path) -> None:
    run(a_log(tmp_path, AUTHORITY.holder("ca1")))
    assert run(verdict(tmp_path, AUTHORITY.holder("ca1"))) == (True, "")


def test_without_an_authenticator_or_a_file_there_is_nothing_to_hold_it_against(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        async with open_store(f"sqlite:///{tmp_path}/store.db") as store:
            log = checkpoints(tmp_path / "none", store, None)
            await store.append_audit([record(1)])
            await log.write()
            assert not (tmp_path / "none").exists()
            known = await log.read()
            assert (known.heads, known.fault) == ((), "")

    run(scene())


def test_the_file_is_the_nodes_own(tmp_path: Path) -> None:
    run(a_log(tmp_path, AUTHORITY.holder("ca1")))
    assert (tmp_path / "checkpoints").stat().st_mode & 0o777 == 0o600
