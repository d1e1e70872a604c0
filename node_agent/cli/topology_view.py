"""The tree of nodes and links, drawn with rich."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from node_agent.cli import look
from node_agent.cli.status_view import pool_size

if TYPE_CHECKING:
    from node_agent.cli.admin_client import Json

__all__ = ["topology_tree"]


def topology_tree(document: Json) -> RenderableType:
    """Return nodes as branches, each with the links it dials and what it serves."""
    nodes, links, faults = document["nodes"], document["links"], document["faults"]
    tree = Tree(_heading(nodes, links), guide_style="dim")
    for node in nodes:
        _add_node(tree, node, links)
    if not faults:
        return tree
    return Group(tree, *(look.message(f"! {fault}") for fault in faults))


def _heading(nodes: Json, links: Json) -> Text:
    domains = sorted({_trust_domain(node["identity"]) for node in nodes if node["identity"]})
    up = sum(link["state"] == "up" for link in links)
    return Text.assemble(
        (", ".join(domains) or "Peersys", "bold"),
        f"  {_count(len(nodes), 'node')}, {_count(len(links), 'link')}, {up} up",
    )


def _add_node(tree: Tree, node: Json, links: Json) -> None:
    name = look.short_node(node["identity"] or node["socket"])
    branch = tree.add(Text.assemble((name, "bold"), "  ", look.state(node["health"])))
    for name, is_published in (("CAs", False), ("publishes", True)):
        held = [
            entry["name"]
            for entry in node["authorities"]
            if (entry["kind"] == "published") is is_published
        ]
        if held and not (is_published and node["urls"].get("status") is None):
            branch.add(_pair(name, ", ".join(held)))
    for link in links:
        if link["dialler"] == node["identity"]:
            _add_link(branch, link)
    for signer in node["signers"]:
        branch.add(
            Text.assemble(
                _pair("OCSP signer", f"{signer['name']} for {signer['authority']}  "),
                look.state(signer["state"]),
                "  ends ",
                look.until(signer["not_after"]),
            )
        )
    for kind, url in sorted(node["urls"].items()):
        branch.add(_pair(f"{kind} URL", url))
    for link in links:
        if link["dialled"] == node["identity"]:
            branch.add(_pair("dialled by", look.short_node(link["dialler"])))


def _add_link(branch: Tree, link: Json) -> None:
    pool = {**link, "direction": "out"}
    leaf = branch.add(
        Text.assemble(
            _pair("dials", f"{look.short_node(link['dialled'])}  "),
            look.state(link["state"]),
            f"  pool {pool_size(pool)}",
            "  round trip ",
            look.milliseconds(link["round_trip_ms"]),
            (f"  {link['address']}" if link["address"] else "", "dim"),
        )
    )
    for holder, roles, where in (
        (link["dialled"], link["roles_of_dialled"], link["dialler"]),
        (link["dialler"], link["roles_of_dialler"], link["dialled"]),
    ):
        if roles:
            held = f"{look.short_node(holder)} at {look.short_node(where)}: {', '.join(roles)}"
            leaf.add(_pair("role of", held))
    for publisher in link["publishers"]:
        leaf.add(
            Text.assemble(
                _pair("publisher", f"{publisher['name']}  "),
                look.state(publisher["state"]),
                f"  position {publisher['position']} of {publisher['last_position']},"
                f" lag {_count(publisher['lag_entries'], 'entry', 'entries')},"
                f" {look.duration(publisher.get('lag_seconds') or 0.0)}",
            )
        )


def _pair(name: str, value: object) -> Text:
    return Text.assemble((f"{name} ", "dim"), look.plain(value))


def _trust_domain(identity: str) -> str:
    return identity.removeprefix("spiffe://").partition("/")[0]


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
