"""What a handler is given besides its arguments: the agent to ask, and where answers go."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console, RenderableType

    from node_agent.cli.admin_client import AdminClient, Json

__all__ = ["DEFAULT_SOCKET", "Session", "printable"]

DEFAULT_SOCKET = Path("/run/peersys/admin.sock")


class Session:
    """One run of one command."""

    def __init__(self, *, socket_path: Path, as_json: bool) -> None:
        self.socket_path = socket_path
        self.as_json = as_json
        self._console: Console | None = None

    @property
    def admin(self) -> AdminClient:
        """The admin API of the node that the command is about."""
        # Not at the top: a help text needs no HTTP client.
        from node_agent.cli.admin_client import AdminClient

        return AdminClient(self.socket_path)

    @property
    def console(self) -> Console:
        """The terminal. Plain, and as wide as its lines, where the output isn't a terminal."""
        if self._console is None:
            from node_agent.cli.look import make_console

            self._console = make_console()
        return self._console

    def show(self, document: Json, render: Callable[[], RenderableType]) -> None:
        """Print ``document`` as JSON where that was asked for, else what ``render`` makes.

        A plain string is printed as lines, never folded: it may hold what a reader copies.
        """
        if self.as_json:
            self.write(json.dumps(document, indent=2, ensure_ascii=False))
            return
        rendered = render()
        if isinstance(rendered, str):
            self.write("\n".join(map(printable, rendered.split("\n"))))
        else:
            self.console.print(rendered)

    def write(self, text: str) -> None:
        """Print a line as it is: no markup, no wrapping."""
        sys.stdout.write(text + "\n")


def printable(text: str) -> str:
    """Return one line of text with its control characters spelled out.

    What is shown came from outside (a subject from a CSR, an error from a peer), and a terminal
    obeys control characters.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
