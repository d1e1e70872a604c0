from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from node_agent.cli.program import main
from tests.support.admin_stand_in import AdminStandIn, serve_admin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass
class Run:
    status: int
    out: str
    err: str


class CommandLine:
    """Runs ``peersys`` in this process against the stand-in's socket."""

    def __init__(self, socket: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.socket = socket
        self._capture = capture

    def __call__(self, *arguments: Any) -> Run:
        return self.without_socket("--socket", self.socket, *arguments)

    def without_socket(self, *arguments: Any) -> Run:
        self._capture.readouterr()
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as exit_request:
            status = int(exit_request.code or 0)
        captured = self._capture.readouterr()
        return Run(int(status), captured.out, captured.err)


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have set the width of a terminal."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AdminStandIn]:
    with serve_admin(tmp_path / "run" / "admin.sock") as stand_in:
        yield stand_in


@pytest.fixture
def peersys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path / "run" / "admin.sock", capsys)
