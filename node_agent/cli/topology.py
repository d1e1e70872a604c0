"""``peersys topology``: several nodes asked in turn and joined into one picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node_agent.cli.admin_client import AdminClient, Json
from node_agent.cli.failures import AdminRefused, AgentUnreachable, ExitStatus, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rich.console import RenderableType

    from node_agent.cli.session import Session

__all__ = ["find_sockets", "join_nodes", "show"]

_SOCKET_NAME = "admin.sock"
_RESTING = ("up", "disabled")
"""Link states that need nobody: a disabled connector is down on purpose."""


def show(namespace: argparse.Namespace, session: Session) -> int:
    """Show the nodes behind the sockets as one tree."""
    sockets = find_sockets(namespace.places)
    document = join_nodes([_ask(path) for path in sockets])
    session.show(document, lambda: _tree(document))
    if all(node["error"] for node in document["nodes"]):
        return ExitStatus.UNREACHABLE
    return ExitStatus.CHECK_FAILED if document["faults"] else ExitStatus.OK


def find_sockets(places: Sequence[Path]) -> list[Path]:
    """Return the named sockets and those below named directories. Raises UsageError on none."""
    found: list[Path] = []
    for place in places:
        if place.is_dir():
            below = sorted(path for path in place.rglob(_SOCKET_NAME) if path.is_socket())
            if not below:
                raise UsageError(
                    f"no admin socket below {place}",
                    remedy="start the nodes first, in the demo with: make demo",
                )
            found += below
        else:
            found.append(place)
    return list(dict.fromkeys(found))


def join_nodes(answers: Sequence[Json]) -> Json:
    """Return nodes, links (each once, seen from both ends) and what is wrong with them.

    ``answers`` holds per socket ``{"socket", "status", "error"}``; status None: it didn't answer.
    """
    nodes = sorted((_node(answer) for answer in answers), key=_reading_order)
    links = list(_links([answer["status"] for answer in answers if answer["status"]]))
    return {"nodes": nodes, "links": links, "faults": [*_node_faults(nodes), *_link_faults(links)]}


def _ask(path: Path) -> Json:
    answer: dict[str, Json] = {"socket": str(path), "status": None, "error": None}
    admin = AdminClient(path)
    try:
        answer["status"] = admin.get("status")
    except (AgentUnreachable, AdminRefused) as error:
        answer["error"] = str(error)
        return answer
    for peer in answer["status"]["peers"]:
        if peer["direction"] == "out" and peer["state"] == "up":
            _measure(admin, peer)
    return answer


def _measure(admin: AdminClient, peer: Json) -> None:
    """Take the round trip now: a link that nobody used may not have been measured for a while."""
    try:
        times = admin.post("peers", peer["peer"].rpartition("/")[2], "ping")["round_trip_ms"]
    except (AgentUnreachable, AdminRefused):
        # The link went down in between; its state as reported stands.
        return
    peer["round_trip_ms"] = min(times, default=peer["round_trip_ms"])


def _node(answer: Json) -> Json:
    status = answer["status"] or {}
    return {
        "identity": status.get("node", {}).get("identity"),
        "socket": answer["socket"],
        "error": answer["error"],
        "health": status.get("health", "unreachable"),
        "reasons": status.get("reasons", []),
        "authorities": status.get("authorities", []),
        "signers": status.get("signers", []),
        "urls": {name: url for name, url in (status.get("urls") or {}).items() if url},
        "accepts_peers": any(peer["direction"] == "in" for peer in status.get("peers", ())),
    }


def _reading_order(node: Json) -> tuple[bool, str]:
    # Nodes that nobody dials stand in the innermost zone: they come first.
    return node["accepts_peers"], node["identity"] or node["socket"]


def _links(statuses: Sequence[Json]) -> Iterator[Json]:
    incoming = {
        (peer["peer"], status["node"]["identity"]): peer
        for status in statuses
        for peer in status["peers"]
        if peer["direction"] == "in"
    }
    for status in statuses:
        here = status["node"]["identity"]
        for peer in status["peers"]:
            if peer["direction"] == "out":
                seen = incoming.pop((here, peer["peer"]), None)
                yield _link(here, peer, seen, _publishers_to(status, peer["peer"]))
    for (dialler, dialled), peer in incoming.items():
        yield {**_link(dialler, peer, peer, []), "dialled": dialled, "address": None}


def _publishers_to(status: Json, peer: str) -> list[Json]:
    return [entry for entry in status.get("publishers", ()) if entry["peer"] == peer]


def _link(dialler: str, peer: Json, seen: Json | None, publishers: list[Json]) -> Json:
    outgoing = peer["direction"] == "out"
    return {
        "dialler": dialler,
        "dialled": peer["peer"],
        "connector": peer.get("connector"),
        "address": peer.get("address"),
        "state": peer["state"],
        "connections": peer["connections"],
        "min": peer["min"] if outgoing else None,
        "max": peer["max"] if outgoing else None,
        "in_flight": peer["in_flight"],
        "round_trip_ms": peer["round_trip_ms"],
        "roles_of_dialled": list(peer["roles"]) if outgoing else [],
        "roles_of_dialler": list(seen["roles"]) if seen else [],
        "publishers": publishers,
        "last_error": peer["last_error"],
    }


def _node_faults(nodes: Sequence[Json]) -> Iterator[str]:
    for node in nodes:
        if node["error"]:
            yield str(node["error"])
        elif node["health"] != "ok":
            reasons = "; ".join(node["reasons"]) or "no reason given"
            yield f"{node['identity']} is {node['health']}: {reasons}"


def _link_faults(links: Sequence[Json]) -> Iterator[str]:
    for link in links:
        if link["state"] not in _RESTING:
            why = link["last_error"] or "no error recorded"
            yield f"{link['dialler']} to {link['dialled']} is {link['state']}: {why}"


def _tree(document: Json) -> RenderableType:
    from node_agent.cli.topology_view import topology_tree

    return topology_tree(document)
