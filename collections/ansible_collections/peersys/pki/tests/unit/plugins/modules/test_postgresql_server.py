# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A store's host belongs to one topology, and what goes wrong there is said with its remedy."""

from __future__ import annotations

import errno
import os

import pytest
from ansible_collections.peersys.pki.plugins.module_utils._postgresql import CommandFailed
from ansible_collections.peersys.pki.plugins.modules import postgresql_server


@pytest.fixture
def claimed(monkeypatch, tmp_path):
    """Marks are made below a temporary directory; returns where."""
    path = tmp_path / "peersys" / "claim.json"
    monkeypatch.setattr(postgresql_server, "CLAIM_PATH", str(path))
    made = {"changed": False, "changes": []}
    monkeypatch.setattr(postgresql_server, "make", lambda module, server: dict(made))
    return path


@pytest.fixture
def run(run_module):
    """Run the module for a topology."""

    def act(trust_domain, **more):
        return run_module(
            "postgresql_server",
            address="192.0.2.21",
            clients=["192.0.2.11"],
            password="x" * 20,
            owner={"name": "db1", "trust_domain": trust_domain},
            **more,
        )

    return act


def test_a_host_is_claimed_once(run, claimed):
    assert run("one.example.org", check_mode=True)["changes"] == ["host claimed"]
    assert not claimed.exists()
    assert run("one.example.org")["changed"]
    assert claimed.exists()
    assert not run("one.example.org")["changed"]


def test_a_host_of_another_topology_is_refused(run, claimed):
    run("one.example.org")
    refused = run("two.example.org")
    assert refused["failed"]
    assert "db1 of one.example.org" in refused["msg"]
    assert "drop its cluster" in refused["msg"]


class Refusing:
    """A host whose programs fail."""

    def __init__(self, said):
        self.said = said

    def run_command(self, command, **more):
        return 1, "", self.said


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            "FATAL: could not extend file: No space left on device\n",
            "could not extend file: No space left on device. Remedy: free some space",
        ),
        ("FATAL: port 5432 is taken", "port 5432 is taken. Remedy: clear the cause that it names"),
        ("", "psql failed: status 1. Remedy: "),
    ],
)
def test_program_that_fails_is_named_with_a_remedy(said, expected):
    run = postgresql_server.runner(Refusing(said))
    with pytest.raises(CommandFailed) as caught:
        run(["psql", "--version"], as_user="postgres")
    assert str(caught.value).startswith("psql failed: ")
    assert expected in str(caught.value)


def test_full_disk_is_told_with_what_is_free(run, claimed, monkeypatch, tmp_path):
    def fill(module, server):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "postgresql.conf"))

    monkeypatch.setattr(postgresql_server, "make", fill)
    said = run("one.example.org")["msg"]
    assert f"no space is left for {tmp_path}" in said
    assert f"Remedy: free some space on the file system of {tmp_path}" in said
