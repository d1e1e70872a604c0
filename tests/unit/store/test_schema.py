"""The schema: serial numbers that sort as numbers, and a reference page that leaves nothing out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_agent.errors import StoreError
from node_agent.store.schema import APPEND_ONLY, metadata, pack_serial, unpack_serial

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "store.md"
serials = st.integers(0, 2**160 - 1)


@given(serials, serials)
def test_packed_serial_numbers_sort_as_numbers(left: int, right: int) -> None:
    assert (pack_serial(left) < pack_serial(right)) == (left < right)
    assert unpack_serial(pack_serial(left)) == left


@pytest.mark.parametrize("serial", [-1, 2**160])
def test_serial_number_of_another_size_is_refused(serial: int) -> None:
    with pytest.raises(StoreError, match="serial number"):
        pack_serial(serial)


@pytest.mark.parametrize("table", metadata.sorted_tables, ids=lambda table: table.name)
def test_reference_names_every_column(table: object) -> None:
    sections = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (section,) = [text for text in sections if table.name in text.splitlines()[0].split(", ")]
    missing = [column.name for column in table.columns if f"`{column.name}`" not in section]
    assert missing == []
    assert ("Append-only" in section) == (table.name in APPEND_ONLY)
