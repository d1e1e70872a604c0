"""A decision in words, for ``peersys access explain`` and the audit log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node_agent.identity import PeerIdentity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from node_agent.policy.model import Decision, Subject, Verdict

__all__ = ["describe_chain", "explain", "explain_document"]


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


def explain(decision: Decision) -> str:
    """Return the decision and each verdict, one a line, what denied first."""
    head = f"{decision.operation}: {'allowed' if decision.allowed else 'denied'}: {decision.reason}"
    verdicts = sorted(decision.trace, key=lambda verdict: verdict.allowed)
    return "\n".join([head, *(f"  {_line(verdict)}" for verdict in verdicts)])


def explain_document(decision: Decision) -> dict[str, object]:
    """Return the decision as plain data for the admin API."""
    return {
        "operation": decision.operation,
        "allowed": decision.allowed,
        "reason": decision.reason,
        "rule": decision.rule,
        "trace": [
            {
                "subject": _name(verdict.subject),
                "resource": verdict.resource,
                "allowed": verdict.allowed,
                "rule": verdict.rule,
                "reason": verdict.reason,
            }
            for verdict in decision.trace
        ],
    }


def _line(verdict: Verdict) -> str:
    mark = "allow" if verdict.allowed else "deny "
    return f"{mark} {verdict.resource} for {_name(verdict.subject)}: {verdict.reason}"


def _name(subject: Subject) -> str:
    return subject.node.uri if isinstance(subject, PeerIdentity) else f"requester:{subject.name}"
