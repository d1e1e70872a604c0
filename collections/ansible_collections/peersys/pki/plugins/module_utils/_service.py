# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""A systemd service and the system user that it runs as."""

from __future__ import annotations

import os
import pwd
import time
import typing as t

from ansible_collections.peersys.pki.plugins.module_utils._host import (
    CommandError,
    HostError,
    run_command,
)

UNIT_DIRECTORY = "/etc/systemd/system"
_LOG_LINES = "15"


class Service:
    """A unit by its full name."""

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self.path = os.path.join(UNIT_DIRECTORY, unit)

    def state(self) -> t.Dict[str, str]:
        """Return ActiveState, UnitFileState and NeedDaemonReload."""
        shown = run_command(
            *("systemctl", "show", self.unit),
            "--property=ActiveState,UnitFileState,NeedDaemonReload",
        )
        return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)

    def is_as_wanted(self) -> bool:
        """Return whether the service runs as its files say, now and after the next boot."""
        wanted = {"ActiveState": "active", "UnitFileState": "enabled", "NeedDaemonReload": "no"}
        return self.state() == wanted

    def restart(self) -> None:
        """Start the service, again if it runs. Raises HostError with the end of its log."""
        # Each reload lets every generator of the host run again: one does for both.
        run_command("systemctl", "--quiet", "--no-reload", "enable", self.unit)
        run_command("systemctl", "daemon-reload")
        began = int(time.time())
        try:
            run_command("systemctl", "restart", self.unit)
        except CommandError as error:
            raise HostError(
                f"{self.unit} doesn't start; it says: {self.said_since(began)}",
                "clear the cause that it names",
            ) from error

    def reload(self) -> None:
        """Have the running service read its files again."""
        run_command("systemctl", "reload", self.unit)

    def main_process(self) -> int:
        """Return the number of the service's main process, 0 when it doesn't run."""
        return int(run_command("systemctl", "show", self.unit, "--property=MainPID", "--value"))

    def said_since(self, seconds: int) -> str:
        """Return the end of what the service has logged since a time, on one line."""
        said = run_command(
            *("journalctl", f"--unit={self.unit}", f"--since=@{seconds}", "--no-pager"),
            *("--output=cat", f"--lines={_LOG_LINES}"),
        )
        return " | ".join(said.splitlines())

    def stop(self) -> None:
        """Stop the service, and keep it from starting at the next boot."""
        run_command("systemctl", "--quiet", "disable", "--now", self.unit)

    def remove(self) -> None:
        """Forget the unit."""
        os.unlink(self.path)
        run_command("systemctl", "daemon-reload")


def has_user(name: str) -> bool:
    """Return whether the host knows the user."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def make_user(name: str, home: str) -> None:
    """Make a system user that nobody can log in as."""
    run_command(
        *("useradd", "--system", "--user-group", "--no-create-home", "--home-dir", home),
        *("--shell", "/usr/sbin/nologin", name),
    )


def remove_user(name: str) -> None:
    """Remove the user; root would be a mistake."""
    if pwd.getpwnam(name).pw_uid == 0:
        raise HostError(f"{name} is root and not removed", "correct node_user")
    run_command("userdel", name)
