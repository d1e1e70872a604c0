"""Look for root and for every program before anything is made, and name what is missing."""

from __future__ import annotations

import os
import shutil
import sys

from tools.test_hosts.errors import LabError

# program -> the Debian package that has it
PROGRAMS = {
    "systemd-nspawn": "systemd-container",
    "debootstrap": "debootstrap",
    "ip": "iproute2",
    "nft": "nftables",
    "ssh": "openssh-client",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "setsid": "util-linux",
    "unshare": "util-linux",
    "mount": "mount",
    "sysctl": "procps",
}
# A user's PATH often lacks these two, where half of the programs are.
_ALSO = ("/usr/sbin", "/sbin")


def check_requirements() -> None:
    """Raise LabError that names everything that is missing; make PATH find what is there."""
    path = os.environ.get("PATH", os.defpath)
    os.environ["PATH"] = os.pathsep.join([path, *(p for p in _ALSO if p not in path.split(":"))])
    missing = []
    if packages := missing_packages():
        become = "" if os.geteuid() == 0 else "sudo "
        missing.append(f"packages: {become}apt-get install {' '.join(packages)}")
    if os.geteuid() != 0:
        missing.append("root: hosts need mounts, network namespaces and addresses of their own")
    if missing:
        raise LabError("test hosts need\n" + "".join(f"  - {line}\n" for line in missing).rstrip())


def missing_packages() -> list[str]:
    """Return the Debian packages to install, in the order of their names."""
    return sorted({package for name, package in PROGRAMS.items() if shutil.which(name) is None})


if __name__ == "__main__":
    try:
        check_requirements()
    except LabError as error:
        sys.exit(f"error: {error}")
