"""``peersys crypto-token``: where the node's keys live, and whether they can be used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node_agent.cli import look
from node_agent.cli.failures import ExitStatus
from node_agent.cli.status_view import crypto_token_table

if TYPE_CHECKING:
    import argparse

    from node_agent.cli.session import Session

__all__ = ["open_one", "show_all"]


def show_all(namespace: argparse.Namespace, session: Session) -> int:
    """List the node's crypto tokens with their state."""
    tokens = session.admin.get("status")["crypto_tokens"]
    session.show(tokens, lambda: crypto_token_table(tokens))
    return ExitStatus.OK


def open_one(namespace: argparse.Namespace, session: Session) -> int:
    """Have the agent open a token now."""
    token = session.admin.post("crypto_tokens", namespace.name, "opening")
    fields = ("name", "kind", "state", "keys")
    session.show(token, lambda: look.fields([(field, token[field]) for field in fields]))
    return ExitStatus.OK
