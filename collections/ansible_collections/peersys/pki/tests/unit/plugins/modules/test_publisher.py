# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A publisher's receiver is compared and repaired when a play says so."""

from __future__ import annotations

import pytest

DIFFERENT = {"missing": 1, "changed": 2, "surplus": 0, "crls": 1}


@pytest.fixture
def run(run_module, admin_socket):
    """Run the module on the publisher va1."""

    def act(**more):
        return run_module(
            "publisher",
            admin_socket=admin_socket,
            name="va1",
            peer="spiffe://t/node/va1",
            authorities=["issuing"],
            **more,
        )

    return act


def test_what_differs_is_repaired_once_and_foreseen_before(run, backend):
    run()
    backend.verifications["va1"] = DIFFERENT
    foreseen = run(verify="repair", check_mode=True)
    assert foreseen["changed"]
    assert backend.verifications["va1"] == DIFFERENT
    repaired = run(verify="repair")
    assert repaired["changed"]
    assert repaired["verification"][0]["repaired"] == 4
    again = run(verify="repair")
    assert not again["changed"]
    assert again["verification"][0]["entries"] == 9


def test_comparing_changes_nothing(run, backend):
    run()
    backend.verifications["va1"] = DIFFERENT
    found = run(verify="compare")
    assert not found["changed"]
    assert found["verification"][0]["changed"] == 2
    assert backend.verifications["va1"] == DIFFERENT


def test_check_mode_compares_nothing_for_a_publisher_that_it_would_make(run, backend):
    foreseen = run(verify="repair", check_mode=True)
    assert foreseen["changed"]
    assert "verification" not in foreseen
    assert not [asked for asked in backend.asked if "verification" in asked[1]]


def test_a_receiver_that_is_not_reached_is_waited_for_then_named(run):
    found = run(verify="compare", start_timeout_seconds=0.2)
    assert found["failed"]
    assert "va1 isn't reached now" in found["msg"]
    assert "0.2 s" in found["msg"]
