from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec
import pytest

from node_agent.web.admin_bodies import AuditItem, StatusReport
from tests.support.admin_documents import audit_entries, ca_status, peer, ra_status, va_status

if TYPE_CHECKING:
    from tests.support.admin_stand_in import AdminStandIn
    from tests.unit.cli.conftest import CommandLine


@pytest.mark.parametrize("document", [ca_status(), ra_status(), va_status()])
def test_documents_of_the_tests_are_those_of_the_admin_api(document: object) -> None:
    assert msgspec.convert(document, StatusReport).health
    assert len(msgspec.convert(audit_entries(3), list[AuditItem])) == 3


def test_healthy_node_exits_with_0_and_shows_its_links(
    peersys: CommandLine, agent: AdminStandIn
) -> None:
    agent.answer("GET", "/v1/status", ca_status())
    run = peersys("status")
    assert run.status == 0
    lines = {line.split()[0]: line for line in run.out.splitlines() if line.strip()}
    assert "up" in lines["ra1"]
    assert "1 of 1-4" in lines["ra1"]
    assert "0.61 ms" in lines["ra1"]
    assert "12/14" in run.out
    assert "CN=Issuing CA" in run.out


def test_degraded_node_exits_with_1_and_says_why(peersys: CommandLine, agent: AdminStandIn) -> None:
    agent.answer("GET", "/v1/status", ca_status(health="degraded", reasons=["va1 is down"]))
    run = peersys("status")
    assert run.status == 1
    assert "va1 is down" in run.out


def test_json_is_the_answer_itself(peersys: CommandLine, agent: AdminStandIn) -> None:
    agent.answer("GET", "/v1/status", va_status())
    assert json.loads(peersys("status", "--json").out) == va_status()


def test_status_workers_are_listed_where_there_are_some(
    peersys: CommandLine, agent: AdminStandIn
) -> None:
    worker = {
        **{"number": 1, "state": "up", "pid": 4711, "restarts": 3, "connections": 12},
        **{"kept_answers": 5000, "kept_octets": 2**23, "memory_octets": 80 * 2**20},
    }
    agent.answer("GET", "/v1/status", {**va_status(), "status_workers": [worker]})
    out = peersys("status").out
    assert out.splitlines()[-1].split() == ["1", "up", "4711", "3", "12", "5000", "80", "MiB"]
    agent.answer("GET", "/v1/status", va_status())
    assert "Status workers" not in peersys("status").out


def test_error_of_a_link_is_shown_only_while_it_is_not_up(
    peersys: CommandLine, agent: AdminStandIn
) -> None:
    peers = [
        peer("ra1", "out", state="up", last_error="an old story"),
        peer("va1", "out", state="down", last_error="connection refused"),
    ]
    agent.answer("GET", "/v1/status", ca_status(peers=peers))
    out = peersys("status").out
    assert "connection refused" in out
    assert "an old story" not in out


def test_control_characters_from_a_peer_never_reach_the_terminal(
    peersys: CommandLine, agent: AdminStandIn
) -> None:
    hostile = "\x1b]0;owned\x07 [red]no markup[/red]"
    agent.answer(
        "GET", "/v1/status", ca_status(peers=[peer("x", "out", state="down", last_error=hostile)])
    )
    out = peersys("status").out
    assert "\x1b" not in out
    assert "\\x1b]0;owned\\x07 [red]no markup[/red]" in out


def test_watching_too_often_is_refused(peersys: CommandLine, agent: AdminStandIn) -> None:
    assert peersys("status", "--watch", "0.01").status == 2


def test_watch_shows_the_status_again_and_survives_a_restart(
    peersys: CommandLine, agent: AdminStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.answer("GET", "/v1/status", ca_status())
    sleeps: list[float] = []

    def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        if len(sleeps) == 1:
            peersys.socket.unlink()
        else:
            raise KeyboardInterrupt

    monkeypatch.setattr("node_agent.cli.status.time.sleep", sleep)
    run = peersys("status", "--watch", "3")
    assert run.status == 130
    assert sleeps == [3.0, 3.0]
    assert "no agent at" in run.out


def test_page_of_a_narrow_terminal_keeps_numbers_and_states_whole(
    peersys: CommandLine, agent: AdminStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    agent.answer("GET", "/v1/status", ca_status())
    lines = peersys("status").out.splitlines()
    assert max(map(len, lines)) <= 80
    assert any("1 of 1-4" in line for line in lines)
    assert not any("last error" in line for line in lines), "nothing to say, nothing shown"
