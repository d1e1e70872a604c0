# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Revoking by serial number, against an RA in memory."""

from __future__ import annotations

import pytest
from ansible_collections.peersys.pki.plugins.modules import revocation


class Registration:
    """Knows one certificate."""

    def __init__(self):
        self.status = "good"
        self.orders = []

    def get(self, path):
        assert path == "/v1/certificates/issuing%2Fx/2a7f"
        return {"status": self.status}

    def post(self, path, body):
        assert path == "/v1/certificates/issuing%2Fx/2a7f/revocation"
        words = {"certificateHold": "on_hold", "removeFromCRL": "good"}
        self.status = words.get(body["reason"], "revoked")
        self.orders.append(body["reason"])
        return {"status": self.status}

    def close(self):
        pass


@pytest.fixture
def registration(monkeypatch):
    found = Registration()
    monkeypatch.setattr(revocation, "client_from", lambda params: found)
    return found


@pytest.fixture
def order(run_module, registration):
    def run(**arguments):
        asked = {"url": "https://ra1", "token": "secret", "trust_anchors": ["PEM"]}
        asked |= {"authority": "issuing/x", "serial": "00:2A:7F"}
        return run_module("revocation", **{**asked, **arguments})

    return run


@pytest.mark.parametrize(
    ("before", "arguments", "reason"),
    [
        ("good", {}, "unspecified"),
        ("good", {"reason": "keyCompromise"}, "keyCompromise"),
        ("on_hold", {"reason": "superseded"}, "superseded"),
        ("good", {"state": "on_hold"}, "certificateHold"),
        ("on_hold", {"state": "good"}, "removeFromCRL"),
    ],
)
def test_check_run_check_run(order, registration, before, arguments, reason):
    registration.status = before
    foreseen = order(check_mode=True, **arguments)
    assert registration.orders == []
    done = order(**arguments)
    assert registration.orders == [reason]
    assert foreseen["changed"]
    assert foreseen["diff"] == done["diff"]
    assert not order(check_mode=True, **arguments)["changed"]
    assert not order(**arguments)["changed"]


def test_revoked_stays_whatever_the_reason(order, registration):
    registration.status = "revoked"
    assert not order(reason="superseded")["changed"]


@pytest.mark.parametrize("check", [True, False])
def test_nothing_releases_what_is_revoked(order, registration, check):
    registration.status = "revoked"
    result = order(state="good", check_mode=check)
    assert "a revocation is final" in result["msg"]


def test_zeros_in_front_are_no_digits(order):
    assert order(serial=f"{'00:' * 20}2a:7f")["changed"]


@pytest.mark.parametrize("serial", ["", "0x2a", "web", "1" * 41, "2a/7f"])
def test_serial_number_that_is_none_is_refused(order, registration, serial):
    assert order(serial=serial)["msg"].startswith("serial: ")
    assert registration.orders == []
