"""Read hosts, zones and addresses from shipped inventories, as Ansible itself sees them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import reduce
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import Any

from tools.test_hosts.errors import LabError
from tools.test_hosts.model import Host, Lab, zones_of

ROOT = Path(__file__).resolve().parent.parent.parent


def read_inventories(paths: list[str]) -> Lab:
    """Return one lab with the hosts of every inventory. Each is read by itself."""
    return reduce(Lab.merged, (_read(path) for path in paths))


def host_variables(path: str) -> dict[str, dict[str, Any]]:
    """Return the variables of every host of an inventory."""
    listed = json.loads(_listed(path), object_hook=_plain)
    variables: dict[str, dict[str, Any]] = listed["_meta"]["hostvars"]
    return variables


def _read(path: str) -> Lab:
    try:
        return lab_of(host_variables(path))
    except LabError as error:
        raise LabError(f"{path}: {error}") from None


def _plain(written: dict[str, Any]) -> Any:
    """Return a text as such that ansible-inventory marks as never to be a template."""
    return written["__ansible_unsafe"] if written.keys() == {"__ansible_unsafe"} else written


def _listed(path: str) -> str:
    if not Path(path).exists():
        raise LabError(f"there is no inventory {path}")
    program = Path(sys.executable).parent / "ansible-inventory"
    environment = {
        **os.environ,
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_HOME": str(ROOT / ".ansible"),
    }
    listed = subprocess.run(
        [str(program), "-i", path, "--list"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        raise LabError(f"ansible-inventory can't read {path}: {listed.stderr.strip()}")
    return listed.stdout


def lab_of(variables: dict[str, dict[str, Any]]) -> Lab:
    """Return the lab that the hosts' variables describe: topology_zone, topology_zones, address."""
    hosts = {name: own for name, own in variables.items() if "topology_zone" in own}
    for name, own in hosts.items():
        for variable in ("ansible_host", "topology_zones"):
            if variable not in own:
                raise LabError(f"the host {name} lacks the variable {variable}")
    zones: dict[str, dict[str, Any]] = next((own["topology_zones"] for own in hosts.values()), {})
    return Lab(
        zones_of(zones),
        tuple(
            Host(name, str(own["topology_zone"]), _address(name, own["ansible_host"]))
            for name, own in sorted(hosts.items())
        ),
    )


def _address(name: str, written: object) -> IPv4Address:
    try:
        return IPv4Address(str(written))
    except AddressValueError as error:
        raise LabError(f"the host {name} needs an IPv4 address as ansible_host: {error}") from None
