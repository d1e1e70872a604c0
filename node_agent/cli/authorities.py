"""``peersys ca``: the node's certification authorities."""

from __future__ import annotations

import binascii
from typing import TYPE_CHECKING

from node_agent.cli.failures import ExitStatus, UsageError

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from rich.console import RenderableType

    from node_agent.cli.admin_client import Json
    from node_agent.cli.session import Session

__all__ = ["export_certificate", "export_crl", "pem_body", "show", "show_all"]

_KIND = "certification_authorities"


def show_all(namespace: argparse.Namespace, session: Session) -> int:
    """List the node's CAs, a page at a time."""
    views = session.admin.get("objects", _KIND, limit=namespace.limit, after=namespace.after)

    def render() -> RenderableType:
        from rich.console import Group

        from node_agent.cli import look

        rows = [
            [
                view["spec"]["name"],
                view["spec"]["kind"],
                view["spec"]["subject"],
                view["spec"].get("issuer"),
                view["spec"].get("key_kind"),
                look.until(_state(view).get("not_after")),
                ", ".join(view["spec"].get("profiles", ())),
            ]
            for view in views
        ]
        heads = ["CA", "kind", "subject", "issuer", "key", "CA ends", "profiles"]
        table = look.table(heads, rows)
        if len(views) < namespace.limit:
            return table
        return Group(table, f"for more: peersys ca list --after {views[-1]['spec']['name']}")

    session.show(views, render)
    return ExitStatus.OK


def show(namespace: argparse.Namespace, session: Session) -> int:
    """Show one CA."""
    view = session.admin.get("objects", _KIND, namespace.name)
    session.show(view, lambda: _page(view))
    return ExitStatus.OK


def export_certificate(namespace: argparse.Namespace, session: Session) -> int:
    """Write a CA's certificate, or its chain, as PEM."""
    state = _state(session.admin.get("objects", _KIND, namespace.name))
    pem = str(state["chain" if namespace.chain else "certificate"])
    _write(pem.encode(), namespace.output, session)
    return ExitStatus.OK


def export_crl(namespace: argparse.Namespace, session: Session) -> int:
    """Write a CA's newest CRL as PEM or DER."""
    delta = "true" if namespace.delta else None
    answer = session.admin.get("crls", namespace.name, delta=delta, shard=namespace.shard)
    if namespace.as_der and namespace.output is None:
        raise UsageError("--der needs --output FILE", remedy="DER doesn't belong on a terminal")
    content = pem_body(answer["crl"]) if namespace.as_der else answer["crl"].encode()
    _write(content, namespace.output, session)
    return ExitStatus.OK


def pem_body(pem: str) -> bytes:
    """Return the DER inside one PEM block."""
    lines = [line for line in pem.splitlines() if line and not line.startswith("-----")]
    return binascii.a2b_base64("".join(lines))


def _write(content: bytes, path: Path | None, session: Session) -> None:
    if path is None:
        session.write(content.decode().rstrip())
        return
    try:
        path.write_bytes(content)
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror}") from error


def _state(view: Json) -> Json:
    return view.get("state") or {}


def _page(view: Json) -> RenderableType:
    from rich.console import Group

    from node_agent.cli import look

    spec, state = view["spec"], _state(view)
    pairs = [
        ("name", spec["name"]),
        ("kind", spec["kind"]),
        ("subject", spec["subject"]),
        ("issuer", spec.get("issuer") or "itself"),
        ("key", f"{spec.get('key_kind')} in token {spec.get('crypto_token')}"),
        ("ends", look.until(state.get("not_after"))),
        ("identifier", state.get("authority_id")),
        ("profiles", ", ".join(spec.get("profiles", ()))),
        ("CRL number", state.get("crl_number")),
        *(("OCSP", url) for url in spec.get("ocsp_urls", ())),
        *(("CRL", url) for url in spec.get("crl_urls", ())),
    ]
    return Group(look.fields(pairs), "", str(state.get("certificate") or "").rstrip())
