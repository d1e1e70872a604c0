"""Every threat in the threat model names tests, and they are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_PAGE = _ROOT / "docs" / "why" / "threat-model.md"
_TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def _threats() -> dict[str, str]:
    """Return the last cell of every row by its first, in tables that have a column of tests."""
    threats: dict[str, str] = {}
    in_table = False
    for line in _PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if not line.startswith("|"):
            in_table = False
        elif cells[-1].rstrip(" |") == "test":
            in_table = True
        elif in_table and not line.startswith("|---"):
            threats[cells[0]] = cells[-1]
    return threats


THREATS = _threats()


def test_the_page_has_threats() -> None:
    assert len(THREATS) > 50


@pytest.mark.parametrize("threat", THREATS)
def test_every_threat_has_tests_that_exist(threat: str) -> None:
    named = _TEST.findall(THREATS[threat])
    assert named, f"no test for: {threat}"
    for path, function in named:
        source = (_ROOT / path).read_text(encoding="utf-8")
        functions = {
            node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)
        }
        assert any(name.startswith("test_") for name in functions), path
        if function:
            assert function in functions, f"{path} has no {function}"


def test_every_hostile_test_stands_for_a_threat() -> None:
    text = _PAGE.read_text(encoding="utf-8")
    hostile = sorted((_ROOT / "tests" / "hostile").glob("test_*.py"))
    assert [path.name for path in hostile if path.name not in text] == []
