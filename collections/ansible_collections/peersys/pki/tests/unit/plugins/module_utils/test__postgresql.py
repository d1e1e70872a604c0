# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import dataclasses

import pytest
from ansible_collections.peersys.pki.plugins.module_utils._postgresql import Place, Server
from ansible_collections.peersys.pki.plugins.module_utils._scram import (
    is_verifier_of,
    make_verifier,
)

SERVER = Server(
    address="192.0.2.21",
    port=5432,
    clients=["192.0.2.12", "192.0.2.11"],
    database="peersys",
    role="peersys",
    cluster="peersys",
    password="a password of the tests",  # noqa: S106
)


def test_verifier_is_that_of_the_rfc() -> None:
    """RFC 7677 section 3: the server's signature in its example follows from the same salted password."""
    verifier = make_verifier("pencil", salt=base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="))
    assert verifier == (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
        "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )


def test_verifier_tells_the_password_from_others() -> None:
    verifier = make_verifier("right")
    assert verifier != make_verifier("right")
    assert is_verifier_of(verifier, "right")
    assert not is_verifier_of(verifier, "wrong")
    assert not is_verifier_of("", "right")
    assert not is_verifier_of("md5abc", "right")


@pytest.mark.parametrize("password", ["", "naïve", "two\nlines"])
def test_password_that_can_be_written_in_two_ways_is_refused(password: str) -> None:
    with pytest.raises(ValueError, match="ASCII"):
        make_verifier(password)


def test_only_the_named_clients_may_connect_and_only_over_tls() -> None:
    lines = [line for line in SERVER.host_rules().splitlines() if not line.startswith("#")]
    assert lines == [
        "local all postgres peer",
        "hostssl peersys peersys 192.0.2.11/32 scram-sha-256",
        "hostssl peersys peersys 192.0.2.12/32 scram-sha-256",
    ]


def test_settings_leave_durability_alone() -> None:
    settings = SERVER.settings(Place("15", "peersys"))
    assert "listen_addresses = '192.0.2.21'" in settings
    assert "ssl = 'on'" in settings
    for name in ("fsync", "synchronous_commit", "full_page_writes"):
        assert name not in settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clients": []}, "nobody could connect"),
        ({"clients": ["ca1.example.org"]}, "clients: 'ca1.example.org'"),
        ({"clients": ["192.0.2.11/24"]}, "host bits set"),
        ({"database": "x; DROP"}, "database: 'x; DROP' is not a name"),
        ({"role": "O'Hara"}, "is not a name"),
        ({"cluster": "../main"}, "is not a name"),
        ({"password": ""}, "ASCII"),
    ],
)
def test_value_that_cannot_be_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SERVER, **changes).check()


def test_password_is_not_in_the_text_of_a_server() -> None:
    assert "a password of the tests" not in repr(SERVER)
