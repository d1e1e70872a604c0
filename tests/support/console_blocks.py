"""Console blocks of Markdown pages: what a page tells a reader to type, and what it shows then.

A block is fenced by ``console``. A line that begins with ``$`` and a space is a command, lines that
begin with ``>`` and a space continue it, every other line is shown output, in which ``...`` stands
for anything. A word behind ``console`` is the reason why the block can't be run by a test.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["NOT_RUN", "Block", "Command", "blocks_of", "matches"]

NOT_RUN = {
    "needs-hosts": "it reaches hosts that the reader has",
    "needs-root": "it changes the system of the reader's host",
    "takes-long": "it runs this very suite, or the benchmarks",
    "ends-the-demo": "it removes what the other pages use; test_ansible_site.py runs it",
    "never-ends": "it shows something until it is interrupted",
}
"""Every accepted reason."""

_FENCE = re.compile(
    r"^(?P<indent> *)```console *(?P<reason>[^\n]*)\n(?P<body>.*?)^ *```$", re.M | re.S
)


@dataclass
class Command:
    """A shell command and the output lines that the page shows for it."""

    line: int
    text: str
    shown: list[str] = field(default_factory=list)


@dataclass
class Block:
    """One fenced block."""

    line: int
    reason: str
    commands: list[Command]


def blocks_of(page: Path) -> list[Block]:
    """Return the console blocks of ``page`` in order. Raises ValueError for a malformed one."""
    text = page.read_text(encoding="utf-8")
    blocks = []
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        body = [part[len(match["indent"]) :] for part in match["body"].splitlines()]
        blocks.append(Block(line, match["reason"].strip(), _commands(body, first_line=line + 1)))
    return blocks


def _commands(body: list[str], *, first_line: int) -> list[Command]:
    commands: list[Command] = []
    for number, line in enumerate(body, first_line):
        if line.startswith("$ "):
            commands.append(Command(number, line[2:]))
        elif not commands:
            raise ValueError(f"line {number}: a console block begins with a command")
        elif line.startswith("> "):
            commands[-1].text += "\n" + line[2:]
        elif line.strip():
            commands[-1].shown.append(line)
    return commands


def matches(shown: list[str], printed: str) -> str:
    """Return the first shown line that ``printed`` lacks, in order; an empty text when none."""
    lines = iter(printed.splitlines())
    for wanted in shown:
        # Runs of blanks differ with the widths of columns.
        parts = [re.escape(part) for part in wanted.split("...")]
        pattern = re.sub(r"(?:\\ )+", r"\\s+", ".*".join(parts))
        if not any(re.search(pattern, line) for line in lines):
            return wanted
    return ""
