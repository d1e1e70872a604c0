"""``peersys approval``: what it asks, what it shows, and what it refuses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from tests.unit.web.management_double import approval_view

if TYPE_CHECKING:
    from tests.support.admin_stand_in import AdminStandIn
    from tests.unit.cli.conftest import CommandLine

NAME = "0" * 64
VIEW = approval_view("issuing", opened_at=1_700_000_000, expires_at=4_000_000_000)
REQUEST: dict[str, Any] = json.loads(msgspec.json.encode(VIEW))


def test_list_shows_who_asks_for_what_and_how_many_approved(
    agent: AdminStandIn, peersys: CommandLine
) -> None:
    agent.answer("GET", "/v1/approvals", [REQUEST])
    run = peersys("approval", "list", "--authority", "issuing", "--ended")
    assert run.status == 0
    for word in (NAME, "issuing", "alice", "www.example.org", "1/2", "waiting"):
        assert word in run.out
    assert agent.requests[-1][1] == "/v1/approvals?authority=issuing&limit=100&ended=true"
    assert json.loads(peersys("--json", "approval", "list").out) == [REQUEST]


def test_an_empty_list_says_so(agent: AdminStandIn, peersys: CommandLine) -> None:
    agent.answer("GET", "/v1/approvals", [])
    assert "No request waits" in peersys("approval", "list").out


def test_show_tells_which_approval_counts_no_more_and_why_it_ended(
    agent: AdminStandIn, peersys: CommandLine
) -> None:
    given = {**REQUEST["approvals"][0], "counts": False}
    more = {"state": "rejected", "ended_by": "carol", "reason": "not ours", "csr": "-----PEM"}
    agent.answer("GET", f"/v1/approvals/{NAME}", {**REQUEST, **more, "approvals": [given]})
    run = peersys("approval", "show", NAME)
    assert run.status == 0
    for words in ("0 of 2", "counts no more", "carol", "not ours", "-----PEM"):
        assert words in run.out


def test_what_is_no_name_of_a_request_is_refused_at_once(
    agent: AdminStandIn, peersys: CommandLine
) -> None:
    run = peersys("approval", "show", "3f2a")
    assert run.status == 2
    assert "peersys approval list" in run.err
    assert agent.requests == []
