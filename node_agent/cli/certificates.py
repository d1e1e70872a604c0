"""``peersys certificate``: what the node's CAs issued."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node_agent.cli.failures import ExitStatus, UsageError

if TYPE_CHECKING:
    import argparse

    from rich.console import RenderableType

    from node_agent.cli.admin_client import Json
    from node_agent.cli.session import Session

__all__ = ["revoke", "serial_hex", "show", "show_all"]


def show_all(namespace: argparse.Namespace, session: Session) -> int:
    """Search certificates."""
    found = session.admin.get(
        "certificates",
        authority=namespace.authority,
        name=namespace.name,
        status=namespace.status,
        limit=namespace.limit,
    )
    session.show(found, lambda: _table(found))
    return ExitStatus.OK


def show(namespace: argparse.Namespace, session: Session) -> int:
    """Show one certificate."""
    serial = serial_hex(namespace.serial)
    found = session.admin.get("certificates", namespace.authority, serial)
    session.show(found, lambda: _page(found))
    return ExitStatus.OK


def revoke(namespace: argparse.Namespace, session: Session) -> int:
    """Revoke, hold or release one certificate of a CA of this node."""
    serial = serial_hex(namespace.serial)
    answer = session.admin.post(
        "certificates",
        namespace.authority,
        serial,
        "revocation",
        body={"reason": namespace.reason},
    )
    change = "now" if answer["changed"] else "already"
    session.show(answer, lambda: f"Certificate {serial} is {change} {answer['status']}.")
    return ExitStatus.OK


def serial_hex(text: str) -> str:
    """Return a serial number as the API writes it, from any form that programs print it in.

    OpenSSL prints ``3F:2A``, others ``0x3f2a`` or ``3f2a``. Raises UsageError.
    """
    digits = text.lower().removeprefix("0x").replace(":", "").lstrip("0")
    if not digits or not set(digits) <= set("0123456789abcdef") or len(digits) > 40:
        raise UsageError(
            f"{text!r} is not a serial number", remedy="write it in hexadecimal, at most 20 bytes"
        )
    return digits


def _table(found: Json) -> RenderableType:
    from node_agent.cli import look

    rows = [
        [
            entry["serial"],
            entry["authority"],
            look.state(entry["status"]),
            entry["subject"] or ", ".join(entry["names"]),
            entry["profile"],
            entry["requester"],
            look.until(entry["not_after"]),
        ]
        for entry in found
    ]
    return look.table(["!serial", "CA", "status", "subject", "profile", "requester", "ends"], rows)


def _page(found: Json) -> RenderableType:
    from rich.console import Group

    from node_agent.cli import look

    pairs = [
        ("serial", found["serial"]),
        ("CA", found["authority"]),
        ("status", look.state(found["status"])),
        ("revoked", look.moment(found["revoked_at"]) if found.get("revoked_at") else None),
        ("reason", found.get("reason")),
        ("subject", found["subject"]),
        ("names", ", ".join(found["names"])),
        ("profile", found["profile"]),
        ("requester", found["requester"]),
        ("valid from", look.moment(found["not_before"])),
        ("valid until", look.until(found["not_after"])),
    ]
    shown = [(name, value) for name, value in pairs if value is not None]
    return Group(look.fields(shown), str(found.get("certificate") or "").rstrip())
