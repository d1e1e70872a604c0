# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""Who listens on which TCP port of a host."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.peersys.pki.plugins.module_utils._host import run_command

# As ss shows a socket that takes connections of both families.
_BOTH = "*"
_ANY = ("0.0.0.0", "::")  # noqa: S104  what ss shows, not where we listen
_PROCESS = re.compile(r'"(?P<program>[^"]+)",pid=(?P<process>\d+)')


class Address(t.NamedTuple):
    """An address and a port to listen on."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``port``, ``address:port`` or ``[address]:port``. Raises ValueError."""
        host, _colon, port = text.rpartition(":")
        host = host.strip("[]").partition("%")[0]
        return cls(_ANY[0] if host in ("", _BOTH) else host, int(port))

    def is_taken_by(self, host: str) -> bool:
        """Return whether a socket on ``host``, with the same port, keeps others from this one."""
        if host == _BOTH:
            return True
        if (":" in host) != (":" in self.host):
            return False
        return host == self.host or host in _ANY or self.host in _ANY


class Listener(t.NamedTuple):
    """A socket, and the programs that hold it by their process."""

    host: str
    port: int
    programs: t.Dict[int, str]


def listeners() -> t.List[Listener]:
    """Return every TCP socket of the host that listens."""
    shown = run_command(
        *("ss", "--no-header", "--tcp", "--listening", "--numeric", "--processes"),
        remedy="install iproute2",
    )
    return [_read(line) for line in shown.splitlines() if line.strip()]


def _read(line: str) -> Listener:
    words = line.split(maxsplit=5)
    host, _colon, port = words[3].rpartition(":")
    found = _PROCESS.finditer(words[5]) if len(words) > 5 else ()
    programs = {int(one["process"]): one["program"] for one in found}
    return Listener(host.strip("[]").partition("%")[0], int(port), programs)
