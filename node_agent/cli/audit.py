"""``peersys audit``: read, check and take away the node's log of decisions."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, TextIO

from node_agent.cli.failures import ExitStatus, UsageError
from node_agent.cli.moments import moment_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from pathlib import Path

    from rich.console import RenderableType

    from node_agent.cli.admin_client import AdminClient, Json
    from node_agent.cli.session import Session

__all__ = ["export", "show_all", "verify"]

_PAGE = 5000


def show_all(namespace: argparse.Namespace, session: Session) -> int:
    """Show the newest entries, oldest of them first."""
    entries = _newest(namespace, session.admin)
    session.show(entries, lambda: _table(entries))
    return ExitStatus.OK


def verify(namespace: argparse.Namespace, session: Session) -> int:
    """Have the agent recompute the whole hash chain and hold it against its signed checkpoints."""
    answer = session.admin.post("audit", "verify")
    session.show(answer, lambda: _verdict(answer))
    return ExitStatus.OK if answer["ok"] else ExitStatus.CHECK_FAILED


def export(namespace: argparse.Namespace, session: Session) -> int:
    """Write every entry that is asked for as a JSON line; a long log is never held at once."""
    span: dict[str, str] = {}
    if namespace.since is not None:
        span["since"] = repr(moment_of(namespace.since))
    if namespace.until is not None:
        span["until"] = repr(moment_of(namespace.until))
    entries = _pages(session.admin, after=namespace.after, **span)
    if namespace.output is None:
        _write_lines(entries, sys.stdout)
        return ExitStatus.OK
    count = _export_to(namespace.output, entries)
    session.show(
        {"entries": count, "file": str(namespace.output)},
        lambda: f"{count} entries written to {namespace.output}",
    )
    return ExitStatus.OK


def _newest(namespace: argparse.Namespace, admin: AdminClient) -> list[Json]:
    """Ask for the newest entries only: a log holds every request there ever was."""
    selection = {"after": namespace.after or 0, "limit": namespace.limit, "last": "true"}
    if namespace.denied:
        selection["denied"] = "true"
    if namespace.peer:
        selection["peer"] = namespace.peer
    entries: list[Json] = admin.get("audit", **selection) if namespace.limit > 0 else []
    return entries


def _pages(admin: AdminClient, *, after: int, **span: str) -> Iterator[Json]:
    while page := admin.get("audit", after=after, limit=_PAGE, **span):
        yield from page
        after = page[-1]["sequence"]


def _write_lines(entries: Iterator[Json], file: TextIO) -> int:
    count = 0
    for count, entry in enumerate(entries, 1):  # noqa: B007  # the last one counts
        file.write(json.dumps(entry, ensure_ascii=False, sort_keys=True) + "\n")
    return count


def _export_to(path: Path, entries: Iterator[Json]) -> int:
    try:
        with path.open("w", encoding="utf-8") as file:
            return _write_lines(entries, file)
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror}") from error


def _verdict(answer: Json) -> str:
    if answer["ok"]:
        return (
            f"The audit log is whole: {answer['entries']} entries, one unbroken chain.\n"
            f"{_checkpoints(answer)}"
        )
    where = "" if answer["first_bad"] is None else f" at entry {answer['first_bad']}"
    return f"The audit log is BROKEN{where}: {answer['reason']}"


def _checkpoints(answer: Json) -> str:
    if not answer.get("checkpoints"):
        return "No signed checkpoint covers it yet: a log that was cut off would look the same."
    return f"Signed checkpoints agree up to entry {answer['checkpoint']}."


def _table(entries: list[Json]) -> RenderableType:
    from node_agent.cli import look

    rows = [
        [
            entry["sequence"],
            look.moment(entry["at"]),
            look.state("allowed" if entry["allowed"] else "denied"),
            entry["action"],
            entry["chain"],
            " ".join(entry.get("resources", ())),
            entry.get("reason"),
        ]
        for entry in entries
    ]
    return look.table(["#entry", "time", "verdict", "action", "who", "resources", "reason"], rows)
