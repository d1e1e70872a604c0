"""What goes wrong on hosts ends in a message with host, cause and remedy, and a rerun after the
repair completes.

A run costs seconds. So each lets the hosts have different faults that the same task finds, and the
repairs of several faults are proven by one run that completes.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tools.test_hosts import lab

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from testinfra.host import Host

    from tests.acceptance.deployment import Deployment

CA, RA, VA = "ca1", "ra1", "va1"
NOWHERE = "198.51.100.99"
PASSWORD = "right"
TOMORROW = """\
set -e
mkdir -p /srv/tomorrow
printf 'import time\\nnow = time.time\\ntime.time = lambda: now() + 86400\\n' \
    > /srv/tomorrow/sitecustomize.py
printf '#!/bin/sh\\nPYTHONPATH=/srv/tomorrow exec /usr/bin/python3 "$@"\\n' > /srv/tomorrow/python
chmod 755 /srv/tomorrow/python
"""
OLD_PYTHON = """\
printf '#!/bin/sh\\necho %s\\n' "'$1'" > /srv/old-python
chmod 755 /srv/old-python
"""
OLD_DESCRIBED = json.dumps(
    {"implementation": "CPython", "version": [3, 9], "machine": "x86_64", "libc": "glibc 2.31"}
)
SUDO_WITH_PASSWORD = f"""\
set -e
useradd --create-home --groups sudo cautious
echo cautious:{PASSWORD} | chpasswd
install -d -m 700 -o cautious ~cautious/.ssh
install -m 600 -o cautious ~operator/.ssh/authorized_keys ~cautious/.ssh/
"""
# A connection of its own: the kept one is the other user's.
CAUTIOUS = {"ansible_user": "cautious", "ansible_control_path": "none"}
HALF_INSTALLED = (
    "rm -r /opt/peersys/current/lib/python3*/site-packages/alembic "
    "&& mkdir /opt/peersys/versions/.making-other"
)

Faults = dict[str, dict[str, Any]]


class Site:
    """The playbook ``site``."""

    def __init__(self, deployment: Deployment, directory: Path) -> None:
        self._deployment = deployment
        self._faults = directory / "faults.yaml"

    def run(
        self, faults: Faults | None = None, *options: str, inventory: Path | None = None
    ) -> tuple[int, str]:
        """Return the status of a run with these variables, and what it says, on one line."""
        command = self._deployment.play("site.yml")
        if inventory is not None:
            own = f"--inventory={self._deployment.inventory}"
            command[command.index(own)] = f"--inventory={inventory}"
        # Every JSON document is a YAML document too. The last inventory's variables count.
        self._faults.write_text(json.dumps({"all": {"hosts": faults or {}}}), encoding="utf-8")
        faults_too = f"--inventory={self._faults}"
        status, said = self._deployment.run_playbook(command, faults_too, *options)
        return status, re.sub(r"\s+", " ", said)

    def refused(self, faults: Faults, *options: str, inventory: Path | None = None) -> str:
        """Run and return what is said. Fails if the run doesn't, or lacks a host or a remedy."""
        status, said = self.run(faults, *options, inventory=inventory)
        assert status != 0, said
        for name in faults:
            assert f"[{name}]" in said, said
        assert said.count("Remedy: ") >= len(faults), said
        return said

    def completes(self, faults: Faults | None = None) -> str:
        """Run and return what is said. Fails if the run does."""
        status, said = self.run(faults)
        assert status == 0, said
        return said


@pytest.fixture
def site(deployment: Deployment, tmp_path: Path) -> Site:
    """Return the playbook."""
    return Site(deployment, tmp_path)


@contextmanager
def user_with_password(host: Host) -> Iterator[None]:
    """Have a login user who needs a password for sudo."""
    host.check_output(SUDO_WITH_PASSWORD)
    try:
        yield
    finally:
        host.check_output("loginctl terminate-user cautious; userdel --force --remove cautious")


def test_hosts_that_cannot_be_worked_on_are_told(site: Site, deployment: Deployment) -> None:
    """A wrong sudo password, an address that changed, a firewall that would shut us out."""
    va, table = deployment.host(VA), table_of(deployment.host(VA))
    with user_with_password(deployment.host(CA)):
        said = site.refused(
            {
                CA: {**CAUTIOUS, "ansible_become_password": "wrong"},
                RA: {"ansible_host": NOWHERE},
                VA: {"firewall_ssh_ports": [2222], "firewall_trial_seconds": 15},
            }
        )
        assert f"{CA}: Incorrect sudo password" in said
        assert f"[{RA}]: UNREACHABLE" in said
        assert f"{RA} can't be reached at {NOWHERE}" in said
        assert "goes back to the one before it" in said
        deadline = time.monotonic() + 60
        while table_of(va) != table:
            assert time.monotonic() < deadline
        assert f"{CA}: Missing sudo password" in site.refused({CA: CAUTIOUS})
        site.completes({CA: {**CAUTIOUS, "ansible_become_password": PASSWORD}})


def table_of(host: Host) -> str | None:
    """Return the host's table; None while it is shut, as it is to be for the trial's seconds."""
    try:
        listing: str = host.run("nft list table inet peersys").stdout
    except RuntimeError:
        return None
    return listing.rstrip()


def test_hosts_on_which_the_agent_cannot_run_are_told(site: Site, deployment: Deployment) -> None:
    """A clock off by a day, a full disk, an address that isn't the host's."""
    deployment.host(CA).check_output(TOMORROW)
    lab.limit_disk(RA, "/opt", "64m", deployment.places)
    try:
        said = site.refused(
            {
                CA: {"ansible_python_interpreter": "/srv/tomorrow/python"},
                RA: {},
                VA: {"node_listen": {"peer": f"{NOWHERE}:7443"}},
            }
        )
    finally:
        deployment.host(RA).check_output("umount /opt")
    assert re.search(r"the clock of this host is 86(3\d\d|4\d\d) s ahead of the controller's", said)
    assert "no space is left for /opt/peersys/versions" in said
    assert f"doesn't have the address {NOWHERE} that it is to listen on" in said


def test_old_python_is_told_and_half_installed_version_is_replaced(
    site: Site, deployment: Deployment
) -> None:
    """In one run: what one host lacks doesn't keep the same task from completing on another."""
    ra = deployment.host(RA)
    deployment.host(VA).check_output(f"set -- '{OLD_DESCRIBED}'\n{OLD_PYTHON}")
    ra.check_output(HALF_INSTALLED)
    said = site.refused({VA: {"node_python": "/srv/old-python"}})
    assert "is CPython 3.9; the agent needs CPython 3.11 or newer" in said
    assert "half installed: it is replaced" in said
    assert ".making-other" not in ra.check_output("ls -A /opt/peersys/versions")


def test_host_of_another_topology_is_left_alone(
    site: Site, deployment: Deployment, tmp_path: Path
) -> None:
    other, victim = tmp_path / "other", deployment.host(RA)
    shutil.copytree(deployment.inventory, other)
    document = (other / "topology.yml").read_text(encoding="utf-8")
    document = re.sub(r"^trust_domain:.*", "trust_domain: other.example.org", document, flags=re.M)
    (other / "topology.yml").write_text(document, encoding="utf-8")
    table = table_of(victim)
    said = site.refused({RA: {}}, f"--limit={RA}:localhost", inventory=other)
    assert f"this host belongs to node {RA} of " in said
    assert f"not to node {RA} of other.example.org" in said
    assert victim.service("peersys").is_running
    assert table_of(victim) == table


def test_other_passphrase_is_refused_before_the_firewall_is_changed(
    site: Site, deployment: Deployment
) -> None:
    ra = deployment.host(RA)
    table = table_of(ra)
    more = {"firewall_additional_rules": [{"port": 9, "from": ["203.0.113.0/24"]}]}
    said = site.refused({CA: {}, RA: more, VA: {}}, passphrase("that of another inventory"))
    assert f"node {RA} of " in said
    assert "runs on this host with another node_passphrase" in said
    status, said = site.run({RA: more}, passphrase("fifteen letters"))
    assert status != 0
    assert f"{CA}, {RA}, {VA}: node_passphrase is shorter than 16 characters. Remedy: " in said
    assert table_of(ra) == table
    assert ra.service("peersys").is_running


def passphrase(text: str) -> str:
    """Return the option that lets every node have it; the vault's win over other inventories."""
    return f"--extra-vars={json.dumps({'node_passphrase': text})}"


def test_a_rerun_after_the_repairs_completes_and_another_changes_nothing(site: Site) -> None:
    repaired = changes(site.completes())
    assert set(repaired) >= {CA, RA, VA}
    assert set(changes(site.completes()).values()) == {"0"}


def changes(said: str) -> dict[str, str]:
    """Return how often each host was changed."""
    return dict(re.findall(r"([\w-]+) : ok=\d+ changed=(\d+) unreachable=0 failed=0", said))
