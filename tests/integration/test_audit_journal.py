"""What systemd's own journal makes of the entries that it is sent."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

JOURNALD = Path("/lib/systemd/systemd-journald")
# Its own /run, seen by nobody else, so that a journal of this machine isn't touched.
SCENE = """
set -eu
mount --make-rprivate / && mount -t tmpfs none /run
mkdir -p /run/systemd/journal /run/log/journal
"$1" 2> /dev/null & journald=$!
trap 'kill $journald' EXIT
for _ in $(seq 100); do [ -S /run/systemd/journal/socket ] && break; sleep 0.1; done
"$2" -c "$3" "$4"
journalctl --sync || true
journalctl -D /run/log/journal SYSLOG_IDENTIFIER=peersys-audit -o json --all --no-pager
"""
SENDER = """
import asyncio, sys
from pathlib import Path
from node_agent.clock import SystemClock
from node_agent.functions.audit_journal import AuditJournal
from node_agent.store import open_store
from tests.support.store_records import audit

async def send(directory):
    async with open_store(f"sqlite:///{directory / 'store.sqlite3'}") as store:
        await store.append_audit([
            audit(),
            audit(allowed=False, reason="two\\nlines"),
            audit(allowed=False, reason="x" * 300_000),
        ])
        await AuditJournal(
            store, position_path=directory / "position", node="ca1", clock=SystemClock()
        ).catch_up()

asyncio.run(send(Path(sys.argv[1])))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a /run of its own")
@pytest.mark.skipif(not JOURNALD.exists(), reason="systemd-journald isn't installed")
@pytest.mark.skipif(not shutil.which("journalctl"), reason="journalctl isn't installed")
def test_the_journal_has_every_entry_in_fields(tmp_path: Path) -> None:
    scene = ("bash", "-c", SCENE, "-", str(JOURNALD), sys.executable, SENDER, str(tmp_path))
    done = subprocess.run(
        ["unshare", "--mount", "--fork", *scene],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    if "unshare failed" in done.stderr or "mount:" in done.stderr:
        pytest.skip("mounting isn't allowed here")
    assert done.returncode == 0, done.stderr
    allowed, lines, long = (json.loads(line) for line in done.stdout.splitlines())
    assert allowed["PEERSYS_AUDIT_VERDICT"] == "allowed"
    assert allowed["PEERSYS_AUDIT_RESOURCE"][0] == "/ra/enroll"
    assert (allowed["PRIORITY"], lines["PRIORITY"]) == ("6", "4")
    assert lines["PEERSYS_AUDIT_REASON"] == "two\nlines"
    assert long["PEERSYS_AUDIT_REASON"] == "x" * 300_000
    assert [one["PEERSYS_AUDIT_SEQUENCE"] for one in (allowed, lines, long)] == ["1", "2", "3"]
    assert (tmp_path / "position").read_text() == "3\n"
