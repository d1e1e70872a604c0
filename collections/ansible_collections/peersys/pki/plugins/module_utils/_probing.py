# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""Many TCP connection attempts at once: what answers, what refuses, what stays silent."""

from __future__ import annotations

import errno
import selectors
import socket
import time
import typing as t

# Well below the usual limit of 1024 open files.
_AT_ONCE = 200
_STATES = {
    0: "open",
    errno.ECONNREFUSED: "refused",
    errno.ETIMEDOUT: "silent",
    # A firewall on the way, or this host's own, that says no.
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
    errno.ECONNRESET: "refused",
    errno.EACCES: "unreachable",
    errno.EPERM: "unreachable",
}
Target = tuple[str, int]


def probe_ports(targets: t.Sequence[Target], seconds: float) -> list[str]:
    """Return for each address and port ``open``, or how it is closed, within about ``seconds``.

    Closed is ``refused``, ``unreachable``, ``silent``, or ``unknown`` for a name that isn't known
    here. Raises OSError when this host can't even try.
    """
    found: list[str] = []
    for start in range(0, len(targets), _AT_ONCE):
        found += _probe(targets[start : start + _AT_ONCE], seconds)
    return found


def _probe(targets: t.Sequence[Target], seconds: float) -> list[str]:
    states = ["silent"] * len(targets)
    sockets: list[socket.socket] = []
    with selectors.DefaultSelector() as selector:
        try:
            for index, (address, port) in enumerate(targets):
                family, place = _resolved(address, port)
                if place is None:
                    states[index] = "unknown"
                    continue
                sockets.append(socket.socket(family, socket.SOCK_STREAM))
                states[index] = _begun(sockets[-1], place)
                if states[index] == "silent":
                    selector.register(sockets[-1], selectors.EVENT_WRITE, index)
            _await(selector, states, time.monotonic() + seconds)
        finally:
            for one in sockets:
                one.close()
    return states


def _resolved(address: str, port: int) -> tuple[int, t.Any]:
    try:
        (first, *_others) = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)
    except socket.gaierror:
        return socket.AF_INET, None
    return first[0], first[4]


def _begun(one: socket.socket, place: t.Any) -> str:
    one.setblocking(False)
    number = one.connect_ex(place)
    return "silent" if number in (errno.EINPROGRESS, errno.EAGAIN) else _state(number)


def _await(selector: selectors.BaseSelector, states: list[str], deadline: float) -> None:
    while selector.get_map():
        ready = selector.select(max(0.0, deadline - time.monotonic()))
        for key, _events in ready:
            selector.unregister(key.fileobj)
            connection = t.cast(socket.socket, key.fileobj)
            states[key.data] = _state(connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        if not ready and time.monotonic() >= deadline:
            return


def _state(number: int) -> str:
    if number not in _STATES:
        raise OSError(number, errno.errorcode.get(number, "unknown error"))
    return _STATES[number]
