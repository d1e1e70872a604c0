# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""What must hold on a host before anything is changed there."""

from __future__ import annotations

import errno
import grp
import ipaddress
import json
import os
import shutil
import socket
import time
import typing as t

from ansible_collections.peersys.pki.plugins.module_utils._host import (
    CommandError,
    HostError,
    run_command,
)

_OLDEST_PYTHON = (3, 11)
# Those for which the agent's dependencies publish wheels.
_MACHINES = ("x86_64", "aarch64")
_DESCRIBE = """\
import json, os, platform, sys
libc = os.confstr("CS_GNU_LIBC_VERSION") if hasattr(os, "confstr") else None
print(json.dumps({
    "implementation": platform.python_implementation(),
    "version": list(sys.version_info[:2]),
    "machine": platform.machine(),
    "libc": libc,
}))
"""


def target_of(python: str) -> t.Dict[str, str]:
    """Return python, machine and glibc of the Python that the agent is to run on."""
    try:
        found = json.loads(run_command(python, "-c", _DESCRIBE))
    except (CommandError, ValueError, OSError) as error:
        raise HostError(
            f"{python} can't be run here ({error})", "install Python 3.11 or name it in node_python"
        ) from error
    version = ".".join(map(str, found["version"]))
    if tuple(found["version"]) < _OLDEST_PYTHON or found["implementation"] != "CPython":
        raise HostError(
            f"{python} is {found['implementation']} {version}; the agent needs CPython 3.11 or newer",
            "upgrade the host (Debian 12 has 3.11), or name a newer Python in node_python",
        )
    name, _space, glibc = (found["libc"] or "").partition(" ")
    if found["machine"] not in _MACHINES or name != "glibc":
        raise HostError(
            f"there are no wheels for {found['machine']} with {found['libc'] or 'no GNU C library'}",
            f"use a host with {' or '.join(_MACHINES)} and the GNU C library",
        )
    return {"python": version, "machine": found["machine"], "glibc": glibc}


def check_systemd() -> None:
    """Raise HostError unless root asks, on a host that systemd runs."""
    if os.geteuid() != 0:
        raise HostError("this needs root", "set ansible_become for this host")
    if not os.path.isdir("/run/systemd/system"):
        raise HostError(
            "this host wasn't booted with systemd",
            "use a host that was, or set node_supervision to process for a node",
        )


def check_service_manager() -> None:
    """Raise HostError unless root asks and systemd with encrypted credentials answers."""
    check_systemd()
    if shutil.which("systemd-creds", path="/usr/bin:/bin") is None:
        raise HostError(
            "this host's systemd has no encrypted credentials", "upgrade to systemd 250 or newer"
        )


def check_clock(controller_seconds: float, tolerance_seconds: float) -> None:
    """Raise HostError when the host's clock and the controller's are too far apart."""
    ahead = time.time() - controller_seconds
    if abs(ahead) > tolerance_seconds:
        raise HostError(
            f"the clock of this host is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} "
            f"the controller's (at most {tolerance_seconds:.0f} s are allowed): certificates would "
            "be not yet or no longer valid",
            "set the wrong one of the two (timedatectl set-ntp true, or date --set)",
        )


def check_addresses(hosts: t.Iterable[str]) -> None:
    """Raise HostError for an address to listen on that the host doesn't have."""
    for host in hosts:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            continue
        family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            try:
                probe.bind((host, 0))
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL:
                    raise
                raise HostError(
                    f"this host doesn't have the address {host} that it is to listen on",
                    "correct the node's address in topology.yml, or the network of the host",
                ) from error


def check_group(name: str) -> None:
    """Raise HostError when the group isn't known to the host."""
    if name:
        try:
            grp.getgrnam(name)
        except KeyError as error:
            raise HostError(
                f"this host has no group {name}", f"groupadd {name}, or change node_admin_group"
            ) from error
