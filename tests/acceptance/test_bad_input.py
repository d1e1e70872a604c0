"""What goes wrong on a host ends in a message with host, cause and remedy, and a rerun after the
repair completes.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.deployment import PLAIN, ROOT
from tools.test_hosts import lab

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from testinfra.host import Host

    from tests.acceptance.deployment import Deployment

VICTIM = "ra1"
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


class Site:
    """The playbook ``site`` on the victim alone."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    def run(self, *options: str, inventory: Path | None = None) -> tuple[int, str]:
        """Return the status of a run and what it says, on one line."""
        command = self._deployment.play("site.yml")
        if inventory is not None:
            own = f"--inventory={self._deployment.inventory}"
            command[command.index(own)] = f"--inventory={inventory}"
        done = subprocess.run(
            [*command, f"--limit={VICTIM}:localhost", *options],
            cwd=ROOT,
            env=PLAIN,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, re.sub(r"\s+", " ", done.stdout)

    def refused(self, *options: str, inventory: Path | None = None) -> str:
        """Run and return what is said. Fails if the run doesn't, or names no host or remedy."""
        status, said = self.run(*options, inventory=inventory)
        assert status != 0, said
        assert f"[{VICTIM}]" in said
        assert "Remedy: " in said, said
        return said

    def completes(self) -> str:
        """Run and return what is said. Fails if the run does."""
        status, said = self.run()
        assert status == 0, said
        return said


@pytest.fixture
def site(deployment: Deployment) -> Iterator[Site]:
    """The playbook; whatever a test did, a run completes afterwards."""
    site = Site(deployment)
    yield site
    site.completes()


@pytest.fixture
def victim(deployment: Deployment) -> Host:
    """The host that has bad luck."""
    return deployment.host(VICTIM)


def test_host_whose_address_changed_is_named_with_the_old_one(site: Site) -> None:
    said = site.refused("--extra-vars=ansible_host=198.51.100.99")
    assert f"[{VICTIM}]: UNREACHABLE" in said
    assert f"{VICTIM} can't be reached at 198.51.100.99" in said


def test_wrong_sudo_password_is_told(site: Site, victim: Host) -> None:
    victim.check_output(SUDO_WITH_PASSWORD)
    try:
        # A connection of its own: the kept one is the other user's.
        login = '--extra-vars={"ansible_user": "cautious", "ansible_control_path": "none"}'
        wrong = site.refused(login, "--extra-vars=ansible_become_password=wrong")
        assert f"{VICTIM}: Incorrect sudo password" in wrong
        assert f"{VICTIM}: Missing sudo password" in site.refused(login)
        status, said = site.run(login, f"--extra-vars=ansible_become_password={PASSWORD}")
        assert status == 0, said
    finally:
        victim.check_output("loginctl terminate-user cautious; userdel --force --remove cautious")


def test_clock_off_by_a_day_is_told(site: Site, victim: Host) -> None:
    victim.check_output(TOMORROW)
    said = site.refused("--extra-vars=ansible_python_interpreter=/srv/tomorrow/python")
    assert re.search(r"the clock of this host is 86(3\d\d|4\d\d) s ahead of the controller's", said)


def test_old_python_is_told(site: Site, victim: Host) -> None:
    victim.check_output(f"set -- '{OLD_DESCRIBED}'\n{OLD_PYTHON}")
    said = site.refused("--extra-vars=node_python=/srv/old-python")
    assert "is CPython 3.9; the agent needs CPython 3.11 or newer" in said


def test_full_disk_is_told(site: Site, victim: Host, deployment: Deployment) -> None:
    lab.limit_disk(VICTIM, "/opt", "64m", deployment.places)
    try:
        said = site.refused()
    finally:
        victim.check_output("umount /opt")
    assert "no space is left for /opt/peersys/versions" in said


def test_half_installed_version_is_replaced(site: Site, victim: Host) -> None:
    victim.check_output(
        "rm -r /opt/peersys/current/lib/python3*/site-packages/alembic "
        "&& mkdir /opt/peersys/versions/.making-other"
    )
    said = site.completes()
    assert "half installed: it is replaced" in said
    assert ".making-other" not in victim.check_output("ls -A /opt/peersys/versions")


def test_host_of_another_topology_is_left_alone(
    site: Site, victim: Host, deployment: Deployment, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(deployment.inventory, other)
    document = (other / "topology.yml").read_text(encoding="utf-8")
    document = re.sub(r"^trust_domain:.*", "trust_domain: other.example.org", document, flags=re.M)
    (other / "topology.yml").write_text(document, encoding="utf-8")
    table = victim.check_output("nft list table inet peersys")
    said = site.refused(inventory=other)
    assert f"this host belongs to node {VICTIM} of " in said
    assert f"not to node {VICTIM} of other.example.org" in said
    assert victim.service("peersys").is_running
    assert victim.check_output("nft list table inet peersys") == table


def test_address_that_the_host_does_not_have_is_told(site: Site) -> None:
    listening = json.dumps({"node_listen": {"peer": "198.51.100.99:7443"}})
    said = site.refused(f"--extra-vars={listening}")
    assert "doesn't have the address 198.51.100.99 that it is to listen on" in said


def test_firewall_that_would_shut_the_controller_out_is_taken_back(
    site: Site, victim: Host
) -> None:
    table = victim.check_output("nft list table inet peersys")
    wrong = json.dumps({"firewall_ssh_ports": [2222], "firewall_trial_seconds": 15})
    assert "goes back to the one before it" in site.refused(f"--extra-vars={wrong}")
    deadline = time.monotonic() + 60
    while _listed(victim) != table:
        assert time.monotonic() < deadline


def _listed(victim: Host) -> str | None:
    """Return the host's table; None while it is shut, as it is to be for the trial's seconds."""
    try:
        listing: str = victim.run("nft list table inet peersys").stdout
    except RuntimeError:
        return None
    return listing.rstrip()


def test_nothing_is_left_to_change(deployment: Deployment) -> None:
    said = Site(deployment).completes()
    assert re.search(rf"{VICTIM} : ok=\d+ changed=0 unreachable=0 failed=0", said), said
