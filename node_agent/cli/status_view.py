"""The status page of one node, drawn with rich."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType

from node_agent.cli import look

if TYPE_CHECKING:
    from collections.abc import Iterator

    from node_agent.cli.admin_client import Json

__all__ = ["crypto_token_table", "peer_table", "pool_size", "publisher_table", "status_page"]


def status_page(answer: Json) -> RenderableType:
    """Return everything ``GET /v1/status`` says, most urgent first."""
    return Group(*_parts(answer))


def _parts(answer: Json) -> Iterator[RenderableType]:
    node = answer["node"]
    yield look.fields(
        [
            ("node", node.get("identity")),
            ("health", look.state(answer["health"])),
            *(("because", reason) for reason in answer.get("reasons", ())),
            ("version", node.get("version")),
            ("started", look.moment(node.get("started_at"))),
            *(
                (f"{name} URL", url)
                for name, url in sorted((answer.get("urls") or {}).items())
                if url
            ),
        ]
    )
    for heading, rows, draw in (
        ("Peers", answer.get("peers"), peer_table),
        ("Publishers", answer.get("publishers"), publisher_table),
        ("OCSP signers", answer.get("signers"), _signer_table),
        ("Certification authorities", answer.get("authorities"), _authority_table),
        ("Crypto tokens", _notable(answer.get("crypto_tokens")), crypto_token_table),
        ("Status workers", answer.get("status_workers"), _worker_table),
    ):
        if rows:
            yield look.title(f"\n{heading}")
            yield draw(rows)


def pool_size(peer: Json) -> str:
    """Return ``2 of 1-4`` for a dialled pool, the number of links for an accepted one."""
    count = peer.get("connections", 0)
    if peer.get("max") is None or peer.get("direction") == "in":
        return str(count)
    return f"{count} of {peer.get('min')}-{peer.get('max')}"


def peer_table(peers: Json) -> RenderableType:
    """Return peers with their live links."""
    columns = ["peer", "link", "address", "state", "#pool", "#in flight", "#queued", "#round trip"]
    rows = [
        [
            look.short_node(peer["peer"]),
            "we dial" if peer["direction"] == "out" else "dials us",
            peer.get("address"),
            look.state(peer["state"]),
            pool_size(peer),
            peer.get("in_flight"),
            peer.get("queued"),
            look.milliseconds(peer.get("round_trip_ms")),
            ", ".join(peer.get("roles", ())),
            _trouble(peer),
        ]
        for peer in peers
    ]
    return look.table([*columns, "roles", "last error"], rows)


def publisher_table(publishers: Json) -> RenderableType:
    """Return how far each publisher's reader is behind."""
    columns = ["publisher", "peer", "state", "#position", "#lag entries", "#lag", "last error"]
    rows = [
        [
            publisher["name"],
            look.short_node(publisher["peer"]),
            look.state(publisher["state"]),
            f"{publisher['position']}/{publisher['last_position']}",
            publisher["lag_entries"],
            look.duration(publisher.get("lag_seconds") or 0.0),
            publisher.get("last_error"),
        ]
        for publisher in publishers
    ]
    return look.table(columns, rows)


def _signer_table(signers: Json) -> RenderableType:
    rows = [
        [
            signer["name"],
            signer["authority"],
            look.state(signer["state"]),
            look.until(signer.get("not_after")),
            signer.get("serial"),
        ]
        for signer in signers
    ]
    return look.table(["signer", "CA", "state", "certificate ends", "!serial"], rows)


def crypto_token_table(tokens: Json) -> RenderableType:
    """Return crypto tokens with what is wrong with them."""
    rows = [
        [
            token["name"],
            token["kind"],
            look.state(token["state"]),
            token["keys"],
            token.get("last_error"),
        ]
        for token in tokens
    ]
    return look.table(["crypto token", "kind", "state", "#keys", "last error"], rows)


def _notable(tokens: Json) -> Json:
    """Return the tokens that have a state of their own: a soft one is open, or nothing runs."""
    return [token for token in tokens or () if token["kind"] != "soft"]


def _worker_table(workers: Json) -> RenderableType:
    columns = ["!worker", "state", "#process", "#restarts", "#connections", "#answers kept"]
    rows = [
        [
            worker["number"],
            look.state(worker["state"]),
            worker.get("pid"),
            worker["restarts"],
            worker["connections"],
            worker["kept_answers"],
            f"{worker['memory_octets'] / 2**20:.0f} MiB",
        ]
        for worker in workers
    ]
    return look.table([*columns, "#memory"], rows)


def _authority_table(authorities: Json) -> RenderableType:
    columns = ["CA", "kind", "subject", "#certificates", "CA ends", "#CRL", "next CRL due"]
    rows = [
        [
            authority["name"],
            authority["kind"],
            authority.get("subject"),
            authority.get("certificates"),
            look.until(authority.get("not_after")),
            authority.get("crl_number"),
            look.until(authority.get("crl_next_update")),
        ]
        for authority in authorities
    ]
    return look.table(columns, rows)


def _trouble(peer: Json) -> object:
    # An old error of a link that works again would only alarm.
    return None if peer["state"] in ("up", "disabled") else peer.get("last_error")
