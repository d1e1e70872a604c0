# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import errno
import socket
import time

import pytest
from ansible_collections.peersys.pki.plugins.module_utils import _probing


@pytest.fixture
def listening():
    """The port of a socket that accepts connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def refusing():
    """A port that is taken, so nobody else opens it, and that nothing listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
def silent():
    """A port whose queue of connections is full, so that further ones get no answer."""
    with socket.socket() as server, socket.socket() as first:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        first.connect(server.getsockname())
        yield server.getsockname()[1]


def entry(port, expect, **more):
    return {"host": "ca1", "address": "127.0.0.1", "port": port, "expect": expect, **more}


def probe(run_module, *entries, seconds=5.0):
    return run_module("port_probe", source="va1", probes=list(entries), timeout_seconds=seconds)


def test_ports_as_expected(run_module, listening, refusing):
    done = probe(run_module, entry(listening, "open"), entry(refusing, "closed"))
    assert [one["state"] for one in done["probes"]] == ["open", "refused"]
    assert not done["changed"]


def test_open_port_that_must_be_closed_is_named_with_both_hosts(run_module, listening):
    done = probe(run_module, entry(listening, "closed", purpose="peer port"))
    assert done["failed"]
    assert done["msg"] == (
        f"va1 reaches the peer port of ca1 (127.0.0.1 port {listening}), which must be closed to it"
    )


def test_closed_port_that_must_be_open_is_named(run_module, refusing):
    done = probe(run_module, entry(refusing, "open"))
    assert done["msg"] == (
        f"va1 doesn't reach the port of ca1 (127.0.0.1 port {refusing}): refused"
    )


def test_every_port_that_is_wrong_is_told(run_module, listening, refusing):
    done = probe(run_module, entry(listening, "closed"), entry(refusing, "open"))
    assert done["msg"].count("; ") == 1


def test_silent_ports_are_waited_for_together(run_module, silent):
    start = time.monotonic()
    done = probe(run_module, *[entry(silent, "closed")] * 10, seconds=0.3)
    assert {one["state"] for one in done["probes"]} == {"silent"}
    assert time.monotonic() - start < 2


def test_name_that_nobody_knows_is_no_open_port(run_module, monkeypatch):
    def unknown(*arguments, **more):
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(_probing.socket, "getaddrinfo", unknown)
    assert probe(run_module, entry(1, "closed"))["probes"][0]["state"] == "unknown"
    assert probe(run_module, entry(1, "open"))["failed"]


@pytest.mark.parametrize("number", [errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EPERM])
def test_firewall_that_says_no_is_a_closed_port(run_module, monkeypatch, number):
    monkeypatch.setattr(socket.socket, "connect_ex", lambda *arguments: number)
    assert probe(run_module, entry(1, "closed"))["probes"][0]["state"] == "unreachable"


def test_host_that_can_not_even_try_proves_nothing(run_module, monkeypatch):
    monkeypatch.setattr(socket.socket, "connect_ex", lambda *arguments: errno.EADDRNOTAVAIL)
    assert "va1 can't try to connect" in probe(run_module, entry(1, "closed"))["msg"]


def test_only_so_many_ports_are_tried_at_once(monkeypatch, listening, refusing):
    monkeypatch.setattr(_probing, "_AT_ONCE", 2)
    targets = [("127.0.0.1", port) for port in (listening, listening, refusing, listening)]
    assert _probing.probe_ports(targets, 5.0) == ["open", "open", "refused", "open"]
    assert _probing.probe_ports([], 5.0) == []
