"""``peersys role``, ``issuer`` and ``requester``: who is who, who may do what, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node_agent.cli.failures import ExitStatus

if TYPE_CHECKING:
    import argparse

    from rich.console import RenderableType
    from rich.text import Text

    from node_agent.cli.admin_client import Json
    from node_agent.cli.session import Session

__all__ = ["explain", "show_issuers", "show_requesters", "show_role", "show_roles"]


def show_roles(namespace: argparse.Namespace, session: Session) -> int:
    """List peer roles."""
    views = session.admin.get("objects", "peer_roles")

    def render() -> RenderableType:
        from node_agent.cli import look

        rows = [
            [
                view["spec"]["name"],
                ", ".join(look.short_node(member) for member in view["spec"].get("members", ())),
                _rules(view["spec"]),
            ]
            for view in views
        ]
        return look.table(["role", "members", "rules"], rows)

    session.show(views, render)
    return ExitStatus.OK


def show_role(namespace: argparse.Namespace, session: Session) -> int:
    """Show one role, a member and a rule a line."""
    view = session.admin.get("objects", "peer_roles", namespace.name)

    def render() -> RenderableType:
        from node_agent.cli import look

        spec = view["spec"]
        return look.fields(
            [
                ("role", spec["name"]),
                ("tenant", spec.get("tenant") or spec["name"]),
                ("sees certificates of", _seen(spec)),
                ("quota", _quota(spec)),
                *(("member", member) for member in spec.get("members", ())),
                *(("may ask for", name) for name in spec.get("names", ())),
                *(
                    (rule.get("effect", "allow"), rule["resource"])
                    for rule in spec.get("rules", ())
                ),
            ]
        )

    session.show(view, render)
    return ExitStatus.OK


def show_issuers(namespace: argparse.Namespace, session: Session) -> int:
    """List the issuers of other trust domains with what they may vouch for."""
    views = session.admin.get("objects", "peer_issuers")

    def render() -> RenderableType:
        from node_agent.cli import look

        if not views:
            return look.message("The node's own Management CA vouches for every peer.")
        rows = [
            [
                view["spec"]["name"],
                f"spiffe://{view['spec']['trust_domain']}/",
                look.lines(anchor["subject"] for anchor in view["state"]["trust_anchors"]),
                look.until(min(item["not_after"] for item in view["state"]["trust_anchors"])),
                sum(crl["revoked"] for crl in view["state"]["crls"]),
            ]
            for view in views
        ]
        return look.table(["issuer", "vouches for", "trust anchors", "ends", "revoked"], rows)

    session.show(views, render)
    return ExitStatus.OK


def show_requesters(namespace: argparse.Namespace, session: Session) -> int:
    """List requesters. What they authenticate with is named, never shown."""
    views = session.admin.get("objects", "requesters")

    def render() -> RenderableType:
        from node_agent.cli import look

        rows = [
            [view["spec"]["name"], _credential(view["spec"]), _rules(view["spec"])]
            for view in views
        ]
        return look.table(["requester", "authenticates by", "rules"], rows)

    session.show(views, render)
    return ExitStatus.OK


def explain(namespace: argparse.Namespace, session: Session) -> int:
    """Ask the decision point without doing anything."""
    question = {
        "identity": _full_identity(namespace.identity, session),
        "operation": namespace.operation,
        "via": [_full_identity(node, session) for node in namespace.via],
        "authority": namespace.authority,
        "profile": namespace.profile,
        "protocol": namespace.protocol,
        "names": [name if ":" in name else f"dns:{name}" for name in namespace.names],
    }
    answer = session.admin.post("access", "explain", body=question)
    session.show(answer, lambda: _explanation(answer))
    return ExitStatus.OK if answer["allowed"] else ExitStatus.CHECK_FAILED


def _full_identity(identity: str, session: Session) -> str:
    """A bare node name is a node of this node's own trust domain."""
    if "/" in identity:
        return identity
    kind, _, requester = identity.partition(":")
    if kind == "requester" and requester:
        return requester
    own = str(session.admin.get("health")["node"])
    return f"{own.rpartition('/')[0]}/{identity}"


def _explanation(answer: Json) -> RenderableType:
    from rich.console import Group

    from node_agent.cli import look

    rows = [
        [
            look.state("allowed" if step["allowed"] else "denied"),
            step["link"],
            look.short_node(step["identity"]),
            step["resource"] or "some role",
            step["rule"] or step["reason"],
        ]
        for step in answer["trace"]
    ]
    verdict = look.fields(
        [
            ("decision", look.state("allowed" if answer["allowed"] else "denied")),
            ("decided by", _decider(answer)),
            ("because", answer["reason"]),
            ("rule", answer["rule"] or "none matches"),
        ]
    )
    return Group(verdict, "", look.table(["", "link", "identity", "needs", "by rule"], rows))


def _decider(answer: Json) -> str:
    step = answer["decided_by"]
    return "all of them" if step is None else f"{step['link']}, {step['identity']}"


def _rules(spec: Json) -> Text:
    from node_agent.cli import look

    return look.lines(
        ("" if rule.get("effect", "allow") == "allow" else "NOT ") + rule["resource"]
        for rule in spec.get("rules", ())
    )


def _seen(spec: Json) -> str:
    return "every tenant" if spec.get("certificate_scope") == "all" else "its tenant"


def _quota(spec: Json) -> str:
    bounds = []
    if spec.get("max_issued_certificates"):
        hours = spec.get("issued_period_seconds", 86400) // 3600
        bounds.append(f"{spec['max_issued_certificates']} issued in {hours} h")
    if spec.get("max_valid_certificates"):
        bounds.append(f"{spec['max_valid_certificates']} valid at one time")
    return ", ".join(bounds) or "none"


def _credential(spec: Json) -> str:
    kinds = (("token_sha256", "API token"), ("certificate_sha256", "client certificate"))
    return ", ".join(words for key, words in kinds if spec.get(key))
