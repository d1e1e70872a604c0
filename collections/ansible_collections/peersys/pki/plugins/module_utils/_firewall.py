# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""The firewall of a host: its table in the kernel, its file, and the unit that loads it at boot.

What the kernel holds is compared with what it would hold: the wanted rules are loaded in a network
namespace of their own and listed from there. So every drift is seen, and a rule that nft refuses
is refused before anything is changed.

A changed table is on trial first. Unless it is confirmed, which takes a new connection from the
controller, the host goes back to the table before it by itself.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import typing as t

from ansible_collections.peersys.pki.plugins.module_utils._file_set import WantedFile
from ansible_collections.peersys.pki.plugins.module_utils._host import (
    CommandError,
    HostError,
    run_command,
)
from ansible_collections.peersys.pki.plugins.module_utils._ruleset import ISOLATED, TABLE
from ansible_collections.peersys.pki.plugins.module_utils._service import Service

RULES_PATH = "/etc/peersys-firewall.nft"
UNIT = "peersys-firewall.service"
_TRIAL = "peersys-firewall-trial"
_BEFORE_PATH = "/run/peersys-firewall-before.nft"
_REMEDY = "install nftables (apt install nftables) and see that the kernel has nf_tables"
_NO_TABLE = f"table {TABLE} {{ }}\ndelete table {TABLE}\n"
# As early as Debian's own nftables.service. That one flushes every table when it starts, so ours
# starts after it and again with it.
UNIT_TEXT = f"""\
[Unit]
Description=Firewall of the Peersys node
DefaultDependencies=no
Wants=network-pre.target
Before=network-pre.target shutdown.target
After=nftables.service
PartOf=nftables.service
ReloadPropagatedFrom=nftables.service
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/nft -f {RULES_PATH}
ExecReload=/usr/sbin/nft -f {RULES_PATH}
ProtectSystem=full
ProtectHome=yes

[Install]
WantedBy=sysinit.target nftables.service
"""


class Firewall:
    """The table of this host."""

    def __init__(self, wanted: str) -> None:
        self._wanted = wanted
        self._service = Service(UNIT)
        self._files = [
            WantedFile(RULES_PATH, wanted.encode(), 0o644, secret=False),
            WantedFile(self._service.path, UNIT_TEXT.encode(), 0o644, secret=False),
        ]

    def difference(self) -> t.Optional[t.Dict[str, str]]:
        """Return the diff of the kernel's table, None when it is as wanted."""
        before, after = listed(), _foreseen(self._wanted)
        if before == after:
            return None
        header = f"table {TABLE}"
        return {
            "before_header": header,
            "after_header": header,
            "before": before,
            "after": after,
        }

    def is_persistent(self) -> bool:
        """Return whether the next boot brings the wanted table."""
        return all(file.is_written() for file in self._files) and self._service.is_as_wanted()

    def is_on_trial(self) -> bool:
        """Return whether a table was tried out, and neither kept nor replaced since."""
        return os.path.exists(_BEFORE_PATH)

    def try_out(self, seconds: int) -> None:
        """Load the wanted table for so long; ``keep`` makes it last."""
        end_trial()
        WantedFile(_BEFORE_PATH, (_NO_TABLE + listed()).encode(), 0o600, secret=False).write()
        run_command(
            *("systemd-run", "--quiet", f"--unit={_TRIAL}", f"--on-active={seconds}"),
            *("--timer-property=AccuracySec=1s", "--property=CollectMode=inactive-or-failed"),
            *("nft", "-f", _BEFORE_PATH),
            remedy=_REMEDY,
        )
        _load(self._wanted)

    def keep(self) -> None:
        """End the trial, if there is one, and bring the wanted table at each boot."""
        end_trial()
        for file in self._files:
            if not file.is_written():
                file.write()
        self._service.restart()

    def exists(self) -> bool:
        """Return whether there is anything to remove."""
        return os.path.exists(self._service.path) or os.path.exists(RULES_PATH) or bool(listed())

    def remove(self) -> None:
        """Remove table, unit and file."""
        end_trial()
        if os.path.exists(self._service.path):
            self._service.stop()
            self._service.remove()
        _load(_NO_TABLE)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(RULES_PATH)


def listed() -> str:
    """Return the table as the kernel holds it, nothing when it holds none."""
    if "peersys" not in run_command("nft", "list", "tables", "inet", remedy=_REMEDY):
        return ""
    return run_command("nft", "--stateless", "list", "table", *TABLE.split(), remedy=_REMEDY)


def is_isolated() -> bool:
    """Return whether the host was taken over and shut off, and nobody opened it again."""
    try:
        with open(RULES_PATH, encoding="utf-8") as file:
            return file.read(len(ISOLATED)) == ISOLATED
    except FileNotFoundError:
        return False


def controller_address() -> str:
    """Return where the SSH session comes from in which this runs. Raises HostError without one.

    That is what the host sees: the last of the machines between, where there are some. sudo keeps
    the variable from its command, so the processes above are asked.
    """
    process = os.getpid()
    while process > 1:
        for entry in _read(f"/proc/{process}/environ").split(b"\0"):
            if entry.startswith(b"SSH_CONNECTION="):
                return entry.partition(b"=")[2].split()[0].decode("ascii")
        parent = re.search(rb"^PPid:\s*(\d+)", _read(f"/proc/{process}/status"), re.MULTILINE)
        process = int(parent[1]) if parent else 0
    raise HostError("it isn't known where the controller is", "list its addresses in controllers")


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def ssh_ports_found() -> t.List[int]:
    """Return the ports that the SSH server is set up for."""
    try:
        settings = run_command("/usr/sbin/sshd", "-T")
    except CommandError:
        return [22]
    lines = (line.split() for line in settings.splitlines())
    return sorted({int(words[1]) for words in lines if words[0] == "port"})


def end_trial() -> None:
    """Stop the clock of a trial that may be running."""
    with contextlib.suppress(CommandError):
        run_command("systemctl", "stop", f"{_TRIAL}.timer")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_BEFORE_PATH)


def _foreseen(wanted: str) -> str:
    with tempfile.NamedTemporaryFile("w", suffix=".nft") as file:
        file.write(wanted)
        file.flush()
        script = 'nft -f "$0" && nft --stateless list table inet peersys'
        return run_command("unshare", "--net", "sh", "-c", script, file.name, remedy=_REMEDY)


def _load(text: str) -> None:
    run_command("nft", "-f", "-", given=text, remedy=_REMEDY)
