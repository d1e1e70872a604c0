"""How things look on a terminal: colours of states, times, tables. The only importer of rich but
for the views.

Everything shown came from outside (a subject from a CSR, an error from a peer), so text passes
``plain``: no markup is read in it, and no control character reaches the terminal.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from node_agent.cli.session import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "duration",
    "fields",
    "lines",
    "message",
    "make_console",
    "milliseconds",
    "moment",
    "plain",
    "short_node",
    "state",
    "table",
    "title",
    "until",
]

_WIDTH_WITHOUT_TERMINAL = 200
"""Output that goes to a file or a log keeps its columns instead of being folded at 80."""

_STYLES = {
    "ok": "green",
    "up": "green",
    "good": "green",
    "active": "green",
    "current": "green",
    "allowed": "green",
    "streaming": "green",
    "idle": "green",
    "open": "green",
    "connecting": "yellow",
    "degraded": "yellow",
    "waiting": "yellow",
    "renewing": "yellow",
    "pending": "yellow",
    "on_hold": "yellow",
    "disabled": "dim",
    "down": "bold red",
    "closed": "bold red",
    "failed": "bold red",
    "revoked": "bold red",
    "expired": "bold red",
    "denied": "bold red",
    "unreachable": "bold red",
}
_UNITS = ((86400 * 365, "years"), (86400, "days"), (3600, "hours"), (60, "minutes"))


def make_console() -> Console:
    """Return the console for standard output."""
    width = None
    if not sys.stdout.isatty() and "COLUMNS" not in os.environ:
        width = _WIDTH_WITHOUT_TERMINAL
    return Console(markup=False, highlight=False, emoji=False, width=width)


def plain(value: object) -> Text:
    """Return ``value`` as text that does nothing but be read; None is a dash."""
    if value is None or value == "":
        return Text("-", style="dim")
    return Text(printable(str(value)))


def lines(values: Iterable[object]) -> Text:
    """Return one value a line."""
    return Text("\n").join(plain(value) for value in values)


def state(value: object) -> Text:
    """Return a state word in its colour."""
    text = plain(value)
    text.stylize(_STYLES.get(str(value), ""))
    return text


def title(text: str) -> Text:
    """Return a heading."""
    return Text(text, style="bold")


def short_node(identity: object) -> str:
    """Return the node name of ``spiffe://<trust domain>/node/<name>``; other text as it is."""
    text = str(identity)
    return text.rpartition("/")[2] if text.startswith("spiffe://") else text


def milliseconds(value: object) -> Text:
    """Return a time in milliseconds with its unit, or a dash."""
    return plain(f"{float(value):.2f} ms" if isinstance(value, int | float) else None)


def moment(epoch: object) -> Text:
    """Return a time as UTC text to the second, or a dash."""
    if not isinstance(epoch, int | float):
        return plain(None)
    return plain(time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(epoch)))


def until(epoch: object, *, now: float | None = None) -> Text:
    """Return a time with how far off it is, red once it has passed."""
    text = moment(epoch)
    if not isinstance(epoch, int | float):
        return text
    left = epoch - (time.time() if now is None else now)
    if left <= 0:
        text.append(f"  {duration(-left)} ago", style="bold red")
    else:
        text.append(f"  in {duration(left)}", style="dim")
    return text


def duration(seconds: float) -> str:
    """Return a length of time in its largest fitting unit, rounded down."""
    for size, unit in _UNITS:
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Return a table. Columns whose heading starts with ``#`` hold numbers, those with ``!`` what
    a reader copies: they are never folded. A column that says nothing isn't shown.
    """
    filled = list(rows)
    telling = [i for i in range(len(columns)) if any(_says(row[i]) for row in filled)]
    grid = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False, show_edge=False)
    for column in (columns[i] for i in telling):
        mark = column[:1]
        grid.add_column(
            column.lstrip("#!"),
            justify="right" if mark == "#" else "left",
            no_wrap=mark in "#!",
            overflow="fold",
        )
    for row in filled:
        cells = (row[i] for i in telling)
        grid.add_row(*(cell if isinstance(cell, Text) else plain(cell) for cell in cells))
    return grid


def _says(cell: object) -> bool:
    return str(cell) not in ("", "-", "None")


def message(text: str) -> Text:
    """Return a line that is never folded: it may name a path that a reader copies."""
    return Text(printable(text), no_wrap=True, overflow="ignore")


def fields(pairs: Iterable[tuple[str, object]]) -> Table:
    """Return names and values, one pair a line."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in pairs:
        grid.add_row(name, value if isinstance(value, Text) else plain(value))
    return grid
