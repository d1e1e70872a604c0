"""What holds for the whole suite: the order of its files, and what the keys of its agents cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.node_process import Agent

if TYPE_CHECKING:
    import pytest

_HERE = Path(__file__).parent

# Whole files go to workers that are free. With files that boot agents or wait for programs first,
# no worker is left alone with one of them at the end; within a folder the order stays.
_SLOW_FIRST = ("contract", "integration", "hostile", "property", "cases")

Agent.module = "tests.support.cheap_scrypt"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have files that take long come first."""
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    folders = (_HERE / folder for folder in _SLOW_FIRST)
    numbers = (n for n, folder in enumerate(folders) if folder in item.path.parents)
    return next(numbers, len(_SLOW_FIRST))
