#!/usr/bin/python
# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_server
short_description: Run a PostgreSQL cluster for nodes that share a store
description:
  - Installs PostgreSQL if it is missing, and makes a cluster of its own on a Debian host, in one step.
  - The server listens on one address only. It accepts the named clients only, over TLS only, with the password only.
  - Key and certificate are made on the host. The certificate is returned, so that clients can verify the server by it.
  - The password is in no command line, no statement and no log. What is sent is the verifier that the server keeps.
version_added: 0.1.0
author:
  - Peersys contributors (@peersys)
extends_documentation_fragment:
  - peersys.pki._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
  action_group:
    support: none
    membership: []
options:
  address:
    description: The address to listen on, and the name in the certificate.
    type: str
    required: true
  port:
    description: The port to listen on.
    type: int
    default: 5432
  clients:
    description: Addresses or networks of those who may connect.
    type: list
    elements: str
    required: true
  database:
    description: The database.
    type: str
    default: peersys
  role:
    description: The role that owns the database, and that the clients connect as.
    type: str
    default: peersys
  password:
    description: The role's password, in printable ASCII.
    type: str
    required: true
  cluster:
    description: Name of the cluster among those of the host.
    type: str
    default: peersys
  owner:
    description:
      - Whose host this is. It is marked as theirs, and refused when it is marked as somebody else's.
      - The mark stays as long as nobody deletes it, as does the database.
    type: dict
    suboptions:
      name:
        description: The host's name in its topology.
        type: str
        required: true
      trust_domain:
        description: The topology's trust domain.
        type: str
        required: true
seealso:
  - module: peersys.pki.node
"""

EXAMPLES = r"""
- name: Run the database server
  peersys.pki.postgresql_server:
    address: 192.0.2.21
    clients: [192.0.2.11, 192.0.2.12]
    password: "{{ node_store_password }}"
"""

RETURN = r"""
changes:
  description: What was done, or in check mode would be.
  returned: always
  type: list
  elements: str
  sample: [cluster created, certificate made]
ansible_facts:
  description: Facts about the server.
  returned: always
  type: dict
  contains:
    postgresql_store_trust_anchors:
      description: The server's certificate in PEM. Empty in check mode before there is one.
      type: str
"""

import os
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.peersys.pki.plugins.module_utils._claim import CLAIM_PATH, Claim
from ansible_collections.peersys.pki.plugins.module_utils._host import HostError, explain
from ansible_collections.peersys.pki.plugins.module_utils._postgresql import (
    Cluster,
    CommandFailed,
    Place,
    Server,
    find_place,
)

_INSTALL = ["apt-get", "install", "--yes", "--no-install-recommends", "postgresql"]


def main() -> None:
    """Run the module."""
    owner = {name: {"type": "str", "required": True} for name in ("name", "trust_domain")}
    module = AnsibleModule(
        argument_spec={
            "address": {"type": "str", "required": True},
            "port": {"type": "int", "default": 5432},
            "clients": {"type": "list", "elements": "str", "required": True},
            "database": {"type": "str", "default": "peersys"},
            "role": {"type": "str", "default": "peersys"},
            "password": {"type": "str", "required": True, "no_log": True},
            "cluster": {"type": "str", "default": "peersys"},
            "owner": {"type": "dict", "options": owner},
        },
        supports_check_mode=True,
    )
    params = dict(module.params)
    claim = claim_of(params.pop("owner"))
    server = Server(**params)
    try:
        server.check()
        is_new = claim is not None and take(claim, dry_run=module.check_mode)
        result = make(module, server)
    except OSError as error:
        module.fail_json(msg=str(explain(error, "/etc/postgresql")))
    except (HostError, ValueError, LookupError) as error:
        module.fail_json(msg=str(error))
    if is_new:
        result.update(changed=True, changes=["host claimed", *result["changes"]])
    module.exit_json(**result)


def claim_of(owner: t.Optional[t.Mapping[str, str]]) -> t.Optional[Claim]:
    """Return the mark that the host should bear."""
    return Claim(CLAIM_PATH, owner["trust_domain"], owner["name"]) if owner else None


def take(claim: Claim, *, dry_run: bool) -> bool:
    """Mark the host before anything else is done there. Returns whether it wasn't yet.

    Raises HostError when it is somebody else's.
    """
    claim.check()
    if claim.is_made():
        return False
    if not dry_run:
        claim.make()
    return True


def make(module: AnsibleModule, server: Server) -> dict[str, t.Any]:
    """Make the server what it is to be. Returns what the module answers."""
    place, installed = find_place(server.cluster), False
    if place is None:
        if module.check_mode:
            return answer(["PostgreSQL installed", "cluster created"], [], "")
        place, installed = install(module, server.cluster), True
    cluster = Cluster(place, server, runner(module), dry_run=module.check_mode)
    cluster.make()
    changes = ["PostgreSQL installed", *cluster.changes] if installed else cluster.changes
    return answer(changes, cluster.differences, cluster.trust_anchors())


def answer(changes: list[str], differences: list[dict[str, str]], anchors: str) -> dict[str, t.Any]:
    """Return what the module answers."""
    facts = {"postgresql_store_trust_anchors": anchors}
    return {
        "changed": bool(changes),
        "changes": changes,
        "diff": differences,
        "ansible_facts": facts,
    }


def install(module: AnsibleModule, cluster: str) -> Place:
    """Install PostgreSQL. Returns where the cluster is to be."""
    code, _output, error = module.run_command(
        _INSTALL, environ_update={"DEBIAN_FRONTEND": "noninteractive"}
    )
    place = find_place(cluster)
    if code or place is None:
        said = error.strip().splitlines()[-1:] or ["no reason given"]
        raise LookupError(
            f"PostgreSQL is not installed, and apt-get can't install it: {said[0]}. "
            "Install the package postgresql on this host, or give the host a package index"
        )
    return place


def runner(module: AnsibleModule) -> t.Callable[..., str]:
    """Return what runs the host's programs."""

    def run(command: list[str], *, stdin: str | None = None, as_user: str | None = None) -> str:
        program = command[0]
        if as_user is not None:
            command = ["runuser", "-u", as_user, "--", *command]
        path = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"
        code, output, error = module.run_command(
            command,
            data=stdin,
            binary_data=True,
            cwd="/",
            environ_update={"LC_ALL": "C.UTF-8", "PATH": path},
        )
        if code:
            raise CommandFailed(program, (error or output).strip() or f"status {code}")
        return str(output)

    return run


if __name__ == "__main__":
    main()
