"""What peers are told: enough to come back later, and nothing of what others do here."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import node_agent
from node_agent.errors import Unavailable
from node_agent.peers.answers import Problem, problem_of
from node_agent.wire.codes import Status

ROOT = Path(node_agent.__file__).parent


def reasons() -> list[str]:
    """Return the message of every Unavailable that the agent makes, placeholders as written."""
    return [
        f"{path.relative_to(ROOT)}: {ast.unparse(node.args[0])}"
        for path in sorted(ROOT.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "Unavailable"
        and node.args
    ]


def test_the_walk_finds_the_reasons_that_name_others() -> None:
    found = reasons()
    assert any("functions/recovery.py" in reason and "peer" in reason for reason in found)
    assert any("peers/directory.py" in reason and "wait already" in reason for reason in found)
    assert len(found) > 15


@pytest.mark.parametrize("reason", reasons())
def test_no_reason_for_not_now_reaches_a_peer(reason: str) -> None:
    status, problem = problem_of(Unavailable(reason, retry_after_seconds=7))
    assert status == Status.UNAVAILABLE
    assert problem == Problem("unavailable", "it can't be served now", retry_after_seconds=7)
