# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""The PostgreSQL stores of nodes, and the names of the secrets that hosts need."""

from __future__ import annotations

import typing as t

from ansible_collections.peersys.pki.plugins.plugin_utils._topology_model import (
    Node,
    Store,
    Topology,
    tenant_group,
)

Variables = dict[str, t.Any]
_STORE_ROLE = "peersys"


def store_variables(topology: Topology, store: Store) -> Variables:
    """Return the variables of a store's host."""
    owner = {"name": store.host, "trust_domain": topology.trust_domain}
    return {
        "postgresql_store_owner": owner,
        "firewall_owner": owner,
        "postgresql_store_address": store.address,
        "postgresql_store_port": store.port,
        "postgresql_store_database": store.database,
        "postgresql_store_role": _STORE_ROLE,
        "postgresql_store_clients": [node.address for node in topology.on_store(store.name)],
        "peersys_secrets": [_secrets("group_vars", store.group, "node_store_password")],
    }


def store_url(store: Store) -> str:
    """Return a store's URL, without password. The server proves by SCRAM, bound to the TLS channel, that it knows it."""
    host = f"[{store.address}]" if ":" in store.address else store.address
    place = f"{_STORE_ROLE}@{host}:{store.port}/{store.database}"
    return f"postgresql+psycopg://{place}?sslmode=require&channel_binding=require"


def _secrets(folder: str, name: str, *variables: str) -> Variables:
    """Name what a vault must hold, and which file of the inventory it is thought for."""
    return {"file": f"{folder}/{name}/vault.yml", "variables": list(variables)}


def secrets_of(topology: Topology, node: Node) -> list[Variables]:
    """Return which secrets a node needs, and where a playbook would put them."""
    found = [_secrets("host_vars", node.name, "node_passphrase")]
    if node.has("registration_authority"):
        tenant = topology.tenant_of(("nodes", node.name))
        group = "registration_authority" if tenant is None else tenant_group(tenant)
        found.append(_secrets("group_vars", group, "verification_token"))
    if node.store is not None:
        group = topology.stores[node.store].group
        found.append(_secrets("group_vars", group, "node_store_password", "node_shared_passphrase"))
    return found
