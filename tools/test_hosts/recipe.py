"""What is in the tree that all hosts share: packages, files, and what doesn't start."""

from __future__ import annotations

import hashlib
import json

RELEASE = "bookworm"
LOGIN = "operator"

FIRST_PACKAGES = (
    "ca-certificates",
    "dbus",
    "iproute2",
    "nftables",
    "openssh-server",
    "python3",
    "python3-venv",
    "sudo",
    "systemd",
    "systemd-sysv",
)
# Their installation asks for settings that have to be there before.
LATER_PACKAGES = ("curl", "nginx", "openssl", "postgresql", "procps")

FILES_BEFORE_LATER_PACKAGES = {
    # The package is there, as on a host prepared by its owner; clusters are made by the playbooks.
    # This file takes the place of Debian's, so it says again what holds there.
    "etc/postgresql-common/createcluster.conf": (
        "create_main_cluster = false\nadd_include_dir = 'conf.d'\n"
    ),
    "usr/sbin/policy-rc.d": "#!/bin/sh\nexit 101\n",
}
FILES = {
    "etc/ssh/sshd_config.d/test-host.conf": (
        "HostKey /etc/ssh/ssh_host_ed25519_key\nPasswordAuthentication no\nPermitRootLogin no\n"
    ),
    # Until sessions are permitted, sshd lets only root in.
    "etc/systemd/system/ssh.service.d/test-host.conf": (
        "[Unit]\nAfter=systemd-user-sessions.service\n"
    ),
    "etc/fstab": "# made by the kernel of the machine that runs the test hosts\n",
}
# On timers, and nothing that a host of minutes needs. They would move the measured times.
MASKED = (
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "systemd-tmpfiles-clean.timer",
)
ENABLED = ("systemd-networkd.service",)
# Its package is there for the role status_cache, as on a host prepared by its owner.
DISABLED = ("nginx.service",)
# Each host gets its own of these, or none.
REMOVED = (
    "etc/machine-id",
    "etc/resolv.conf",
    "etc/ssh/ssh_host_*",
    "usr/sbin/policy-rc.d",
    "var/cache/apt/*.bin",
    "var/cache/apt/archives/*.deb",
    "var/lib/apt/lists/*_*",
    "var/lib/dbus/machine-id",
    "var/log/*.log",
)


def recipe_hash(release: str) -> str:
    """Return the name under which a tree of this content is cached."""
    content = [
        release,
        LOGIN,
        FIRST_PACKAGES,
        LATER_PACKAGES,
        FILES_BEFORE_LATER_PACKAGES,
        FILES,
        MASKED,
        ENABLED,
        DISABLED,
        REMOVED,
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
