"""One host: its disk, its files, its start."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from typing import TYPE_CHECKING

from tools.test_hosts.cgroups import enter_cgroups
from tools.test_hosts.keys import host_key_files
from tools.test_hosts.model import router_address
from tools.test_hosts.mounts import mount_overlay, mounts_below, unmount_below
from tools.test_hosts.places import MARKER
from tools.test_hosts.recipe import LOGIN

if TYPE_CHECKING:
    from pathlib import Path

    from tools.test_hosts.model import Host, Lab
    from tools.test_hosts.places import Places

_NETWORK = """\
[Match]
Name=host0

[Network]
Address={address}/{length}
Gateway={gateway}
LinkLocalAddressing=no
IPv6AcceptRA=no
"""


def prepare(host: Host, lab: Lab, places: Places) -> None:
    """Mount the host's disk; a new one gets the host's name, address and keys."""
    own = places.host(host.name)
    root, disk = own / "root", own / "disk"
    is_new = not (disk / "upper/etc/machine-id").exists()
    if not mounts_below(root):
        mount_overlay(places.tree(host.release).readlink(), disk, root)
    if is_new:
        _write_files(host, lab, places, root)


def start(host: Host, lab: Lab, places: Places) -> None:
    """Boot the host. It goes on when this process ends."""
    own = places.host(host.name)
    mark = f"{MARKER}={own}"
    command = [
        *("setsid", "--fork"),
        *enter_cgroups(places, host.name),
        *places.into_controller_namespace,
        "systemd-nspawn",
        "--quiet",
        "--boot",
        f"--directory={own / 'root'}",
        f"--machine={host.name}",
        f"--network-bridge={lab.zone(host.zone).interface}",
        f"--setenv={mark}",
        "--register=no",
        "--keep-unit",
        "--link-journal=no",
        "--resolv-conf=off",
        "--timezone=off",
    ]
    with places.console(host.name).open("ab") as console:
        subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            env={"PATH": os.environ["PATH"], **dict([mark.split("=", 1)])},
            check=True,
        )


def unmount(name: str, places: Places) -> None:
    """Unmount the host's disk; the host must be without power."""
    unmount_below(places.host(name))


def wipe(name: str, places: Places) -> None:
    """Throw the host's disk away; the host must be without power."""
    unmount(name, places)
    disk = places.host(name) / "disk"
    if disk.exists():
        shutil.rmtree(disk)


def _write_files(host: Host, lab: Lab, places: Places, root: Path) -> None:
    network = lab.network_of(host)
    unit = _NETWORK.format(
        address=host.address, length=network.prefixlen, gateway=router_address(network)
    )
    _write(root / "etc/systemd/network/10-host0.network", unit)
    _write(root / "etc/hostname", f"{host.name}\n")
    _write(root / "etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {host.name}\n")
    private, public = host_key_files(places.host(host.name))
    _write(root / "etc/ssh/ssh_host_ed25519_key", private, mode=0o600)
    _write(root / "etc/ssh/ssh_host_ed25519_key.pub", public)
    _let_in(places, root)
    # The last: with it the disk is complete. Without it systemd would also begin a "first boot".
    _write(root / "etc/machine-id", f"{uuid.uuid4().hex}\n")


def _let_in(places: Places, root: Path) -> None:
    """Give the login user the lab's key, and sudo with or without a password."""
    home = root / "home" / LOGIN
    owner = home.stat()
    keys = home / ".ssh/authorized_keys"
    keys.parent.mkdir(mode=0o700, exist_ok=True)
    _write(keys, places.login_key.with_suffix(".pub").read_text(encoding="ascii"), mode=0o600)
    for path in (keys.parent, keys):
        os.chown(path, owner.st_uid, owner.st_gid)
    asks = places.sudo_password.exists()
    rule = f"{LOGIN} ALL=(ALL:ALL) {'' if asks else 'NOPASSWD: '}ALL\n"
    _write(root / "etc/sudoers.d" / LOGIN, rule, mode=0o440)
    if asks:
        password = places.sudo_password.read_text(encoding="ascii").strip()
        subprocess.run(
            ["chpasswd", "--root", str(root)],
            input=f"{LOGIN}:{password}\n",
            text=True,
            check=True,
            capture_output=True,
        )


def _write(path: Path, content: str, *, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
