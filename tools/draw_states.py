"""Draw the state tables of the peer protocol into ``docs/reference/protocol.md``.

``python tools/draw_states.py`` rewrites the parts between the markers; a test compares them.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from node_agent.wire.states import CONNECTION_TABLE, STREAM_TABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

StateT = TypeVar("StateT", bound=enum.Enum)
InputT = TypeVar("InputT", bound=enum.Enum)
Table = list[tuple[str, str, str]]
"""State, input and next state by name."""

PAGE = Path(__file__).resolve().parent.parent / "docs/reference/protocol.md"


def named(table: Mapping[tuple[StateT, InputT], StateT]) -> Table:
    """Return a transition table by its names."""
    return [(state.name, what.name, after.name) for (state, what), after in table.items()]


TABLES = {"connection": named(CONNECTION_TABLE), "stream": named(STREAM_TABLE)}


def draw_table(table: Table) -> str:
    """Return a state's inputs and what follows, one row per pair."""
    rows = ["| state | input | next |", "|---|---|---|"]
    rows += [f"| {state} | {what} | {after} |" for state, what, after in table]
    return "\n".join(rows)


def draw_diagram(table: Table) -> str:
    """Return a Mermaid diagram; inputs that lead from and to the same states share an arrow."""
    arrows: dict[tuple[str, str], list[str]] = defaultdict(list)
    for state, what, after in table:
        arrows[state, after].append(what)
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> IDLE"]
    for (begin, end), inputs in arrows.items():
        if begin != end:
            lines.append(f"    {begin} --> {end}: {', '.join(inputs)}")
    return "\n".join([*lines, "    CLOSED --> [*]", "```"])


def drawn(page: str) -> str:
    """Return the page with both tables drawn anew."""
    for name, table in TABLES.items():
        start, end = f"<!-- {name} table: begin -->", f"<!-- {name} table: end -->"
        head, rest = page.split(start)
        _, tail = rest.split(end)
        page = f"{head}{start}\n{draw_diagram(table)}\n\n{draw_table(table)}\n{end}{tail}"
    return page


if __name__ == "__main__":
    PAGE.write_text(drawn(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
