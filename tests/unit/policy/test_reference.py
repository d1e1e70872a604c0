"""The reference page names every resource there is, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from node_agent.policy import RESOURCES

_PAGE = Path(__file__).parents[3] / "docs" / "reference" / "policy.md"


def test_the_reference_lists_exactly_the_resources_that_exist() -> None:
    table = re.findall(r"^\| `(/[^`]+)` \|", _PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert table == list(RESOURCES)
