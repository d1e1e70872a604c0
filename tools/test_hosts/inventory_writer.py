"""Write how to log in: the second inventory, SSH's configuration and the hosts' known keys."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tools.test_hosts.keys import host_key_files
from tools.test_hosts.recipe import LOGIN

if TYPE_CHECKING:
    from tools.test_hosts.model import Lab
    from tools.test_hosts.places import Places

GROUP = "test_hosts"
_CONNECT = Path(__file__).with_name("connect.py")


def write_inventory(lab: Lab, places: Places) -> None:
    """Write everything that a login needs. Nothing in it changes what is deployed."""
    places.known_hosts.write_text(_known_hosts(lab, places), encoding="ascii")
    places.ssh_configuration.write_text(_ssh_configuration(lab, places), encoding="ascii")
    places.inventory.mkdir(exist_ok=True)
    places.control_sockets.mkdir(mode=0o700, exist_ok=True)
    content = json.dumps(_inventory(lab, places), indent=1)
    # Every JSON document is a YAML document too.
    (places.inventory / "hosts.yaml").write_text(f"---\n{content}\n", encoding="ascii")


def _inventory(lab: Lab, places: Places) -> dict[str, object]:
    variables: dict[str, object] = {
        "ansible_user": LOGIN,
        "ansible_ssh_common_args": f"-F {places.ssh_configuration}",
        # Doubled for Ansible, which replaces %(directory)s in it; the address is SSH's to fill in.
        "ansible_control_path": f"{places.control_sockets}/%%h",
    }
    if places.sudo_password.exists():
        lookup = f"lookup('ansible.builtin.file', '{places.sudo_password}')"
        variables["ansible_become_password"] = f"{{{{ {lookup} }}}}"
    hosts: dict[str, object] = {host.name: {} for host in lab.hosts}
    return {GROUP: {"hosts": hosts, "vars": variables}}


def _known_hosts(lab: Lab, places: Places) -> str:
    return "".join(
        f"{host.name},{host.address} {host_key_files(places.host(host.name))[1]}"
        for host in lab.hosts
    )


def _ssh_configuration(lab: Lab, places: Places) -> str:
    enter = " ".join(places.into_controller_namespace)
    names = "".join(
        f"Host {host.name}\n  HostName {host.address}\n  HostKeyAlias {host.address}\n"
        for host in lab.hosts
    )
    return f"""{names}
Host *
  User {LOGIN}
  IdentityFile {places.login_key}
  IdentitiesOnly yes
  UserKnownHostsFile {places.known_hosts}
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  ProxyUseFdpass yes
  ProxyCommand {enter} {sys.executable} -IS {_CONNECT} %h %p
  ServerAliveInterval 5
  ServerAliveCountMax 3
"""
