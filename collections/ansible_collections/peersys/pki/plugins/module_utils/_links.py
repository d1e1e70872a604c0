# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""What a node says of its links, read with the names that people use."""

from __future__ import annotations

import typing as t

from ansible_collections.peersys.pki.plugins.module_utils._client import AdminClient

Peer = dict[str, t.Any]


def node_name(identity: str) -> str:
    """Return the node's name in ``spiffe://<trust domain>/node/<name>``; a name stays as it is."""
    return identity.rsplit("/", 1)[-1]


def selected(peers: t.Sequence[Peer], names: t.Sequence[str] | None) -> list[Peer]:
    """Return the entries of the peers in ``names``, all of them when it is None."""
    if names is None:
        return list(peers)
    wanted = {node_name(name) for name in names}
    return [peer for peer in peers if node_name(peer["peer"]) in wanted]


def without_link(peers: t.Sequence[Peer], names: t.Sequence[str] | None) -> str:
    """Return which peers have no standing link and why, nothing when each has one."""
    up = {node_name(peer["peer"]) for peer in peers if peer["state"] == "up"}
    wanted = names if names is not None else [peer["peer"] for peer in peers]
    lost = sorted({node_name(name) for name in wanted} - up)
    return "; ".join(f"no link with {name}: {_reason(name, peers)}" for name in lost)


def ping_each(client: AdminClient, names: t.Sequence[str], *, here: str) -> dict[str, list[float]]:
    """Return the round-trip milliseconds per link of each peer. Raises AgentRefused for one down."""
    pings = {}
    for name in map(node_name, names):
        answer = client.post("peers", name, "ping", body={}, about=f"ping from {here} to {name}")
        pings[name] = answer["round_trip_ms"]
    return pings


def _reason(name: str, peers: t.Sequence[Peer]) -> str:
    entries = [peer for peer in peers if node_name(peer["peer"]) == name]
    if not entries:
        return "it never connected, and no connector dials it"
    errors = [peer["last_error"] for peer in entries if peer.get("last_error")]
    return errors[0] if errors else f"{entries[0]['state']}, without an error so far"
