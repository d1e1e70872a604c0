"""A host is ready when its login user can do something, and not before."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tools.test_hosts import readiness

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

BOOTING = '"System is booting up. Unprivileged users are not permitted to log in yet."'


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a program before the real ssh; return what gives it its script."""
    program = tmp_path / "bin/ssh"
    program.parent.mkdir()
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    def say(script: str) -> None:
        program.write_text(f"#!/bin/sh\n{script}\n")

    return say


@asynccontextmanager
async def greeting(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Have something on the port that greets as an SSH server does."""

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-test\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        monkeypatch.setattr(readiness, "_PORT", server.sockets[0].getsockname()[1])
        yield


def watch(seconds: float, *names: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Wait for hosts whose SSH greets."""

    async def watched() -> int:
        async with greeting(monkeypatch):
            hosts = [readiness.Host(name, "127.0.0.1", "/dev/null") for name in names]
            return await readiness.watch_all(seconds, hosts)

    return asyncio.run(watched())


def test_a_host_that_refuses_users_while_it_boots_is_asked_again(
    ssh: Callable[[str], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    refused = tmp_path / "refused"
    ssh(f"[ -e {refused} ] || {{ touch {refused}; echo {BOOTING} >&2; exit 255; }}")
    assert watch(10, "ra1", monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().out == "ready ra1\n"


def test_a_host_that_lets_nobody_in_is_named_with_what_it_says(
    ssh: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # The name is the last word but one.
    ssh(f'case "$*" in *" ra1 true") exit 0;; esac; echo {BOOTING} >&2; exit 255')
    assert watch(1, "ra1", "va1", monkeypatch=monkeypatch) == 1
    ready, late = capsys.readouterr().out.splitlines()
    assert ready == "ready ra1"
    assert late.startswith("late va1 System is booting up. ")


def test_a_login_that_never_ends_is_given_up(
    ssh: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ssh("exec sleep 60")
    monkeypatch.setattr(readiness, "_LOGIN_SECONDS", 0.2)
    assert watch(1, "va1", monkeypatch=monkeypatch) == 1
    assert capsys.readouterr().out == "late va1 a login takes longer than 0.2 s\n"


def test_a_host_that_does_not_answer_is_named_with_its_address(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(readiness, "_PORT", 1)
    assert asyncio.run(readiness.watch_all(0.2, [readiness.Host("va1", "127.0.0.1", "")])) == 1
    assert capsys.readouterr().out == "late va1 127.0.0.1 port 1 doesn't answer\n"
