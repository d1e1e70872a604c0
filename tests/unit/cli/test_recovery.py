"""``peersys recover``: what is asked, and what is said of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.support.admin_stand_in import AdminStandIn
    from tests.unit.cli.conftest import CommandLine

REPORT: dict[str, Any] = {
    "dry_run": False,
    "position_before": 5,
    "position": 9,
    "peers": ["spiffe://pki.test/node/va1"],
    "authorities": [
        {
            "authority": "issuing",
            "certificates": 2,
            "statuses": 1,
            "crl_number": 7,
            "listed": ["abcd"],
        }
    ],
}


def test_the_agent_is_asked_and_its_report_shown(agent: AdminStandIn, peersys: CommandLine) -> None:
    agent.answer("POST", "/v1/recovery", REPORT)
    done = peersys("recover", "--position", 5000, "--crl-number", "issuing=120")
    assert done.status == 0
    assert "issuing" in done.out
    assert "abcd" in done.out
    assert "above 9" in done.out
    (asked,) = agent.requests
    assert asked[2] == {"dry_run": False, "position": 5000, "crl_numbers": {"issuing": 120}}


def test_a_store_that_nobody_knows_more_of_is_left_as_it_is(
    agent: AdminStandIn, peersys: CommandLine
) -> None:
    nothing = {**REPORT, "position": 5, "peers": [], "authorities": []}
    agent.answer("POST", "/v1/recovery", nothing)
    done = peersys("recover", "--dry-run")
    assert done.status == 0
    assert "Nothing to recover" in done.out


@pytest.mark.parametrize("text", ["issuing", "=5", "issuing=x"])
def test_what_is_no_crl_number_is_refused(
    agent: AdminStandIn, peersys: CommandLine, text: str
) -> None:
    done = peersys("recover", "--crl-number", text)
    assert done.status == 2
    assert "CA=NUMBER" in done.err
    assert agent.requests == []
