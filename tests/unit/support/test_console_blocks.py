from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.console_blocks import blocks_of, matches

if TYPE_CHECKING:
    from pathlib import Path


def write(directory: Path, text: str) -> Path:
    page = directory / "page.md"
    page.write_text(text)
    return page


def test_commands_continuations_and_output_are_told_apart(tmp_path: Path) -> None:
    page = write(tmp_path, "# T\n\n```console\n$ a \\\n> b\nout\n$ c\n```\n")
    (block,) = blocks_of(page)
    assert (block.line, block.reason) == (3, "")
    assert [(c.line, c.text, c.shown) for c in block.commands] == [
        (4, "a \\\nb", ["out"]),
        (7, "c", []),
    ]


def test_reason_stands_behind_the_word_console(tmp_path: Path) -> None:
    page = write(tmp_path, "```console needs-hosts\n$ ssh ca1\n```\n```text\n$ not ours\n```\n")
    assert [block.reason for block in blocks_of(page)] == ["needs-hosts"]


def test_block_in_a_list_loses_its_indentation(tmp_path: Path) -> None:
    page = write(tmp_path, "1. x\n\n   ```console\n   $ a\n   b\n   ```\n")
    assert blocks_of(page)[0].commands[0].shown == ["b"]


def test_output_before_any_command_is_malformed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="line 2"):
        blocks_of(write(tmp_path, "```console\nout\n```\n"))


@pytest.mark.parametrize(
    ("shown", "missing"),
    [
        (["serial=...", "good"], ""),
        (["good", "serial=..."], "serial=..."),
        (["serial=3F  x"], ""),
        (["serial=40"], "serial=40"),
        (["s.rial"], "s.rial"),
    ],
)
def test_shown_lines_are_found_in_order_with_gaps(shown: list[str], missing: str) -> None:
    assert matches(shown, "first\nserial=3F x\nwww.pem: good\n") == missing
