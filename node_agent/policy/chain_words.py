"""A chain in words, for the audit log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node_agent.identity import PeerIdentity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from node_agent.policy.model import Subject

__all__ = ["describe_chain"]


def describe_chain(chain: Sequence[Subject], *, requester: str = "", home: str = "") -> str:
    """Return ``requester via ra1 via proxy1``; ``requester`` is a name taken from the origin.

    A node outside of the trust domain ``home`` stands by its whole identity: a tenant calls its
    nodes what it likes, ``proxy1`` too.
    """
    names = [requester] if requester else []
    names += [_called(subject, home) for subject in chain]
    return " via ".join(names)


def _called(subject: Subject, home: str) -> str:
    if not isinstance(subject, PeerIdentity):
        return subject.name
    is_home = not home or subject.node.trust_domain == home
    return subject.node.name if is_home else subject.node.uri
