from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from node_agent.cli.topology import find_sockets, join_nodes
from tests.support.admin_documents import ca_status, identity, peer, ra_status, va_status
from tests.support.admin_stand_in import serve_admin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.unit.cli.conftest import CommandLine


@contextlib.contextmanager
def serving(directory: Path, statuses: dict[str, dict[str, Any]]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for name, status in statuses.items():
            stand_in = stack.enter_context(serve_admin(directory / name / "admin.sock"))
            stand_in.answer("GET", "/v1/status", status)
        yield


def joined(*statuses: dict[str, Any]) -> dict[str, Any]:
    answers = [{"socket": "s", "status": status, "error": None} for status in statuses]
    document: dict[str, Any] = join_nodes(answers)
    return document


def test_each_link_stands_once_with_what_both_ends_say() -> None:
    document = joined(va_status(), ra_status(), ca_status())
    assert [link["dialled"] for link in document["links"]] == [identity("ra1"), identity("va1")]
    to_ra = document["links"][0]
    assert to_ra["dialler"] == identity("ca1")
    assert to_ra["roles_of_dialled"] == ["ra"]
    assert to_ra["roles_of_dialler"] == ["upstream"]
    assert (to_ra["connections"], to_ra["max"], to_ra["round_trip_ms"]) == (1, 4, 0.61)
    assert document["faults"] == []


def test_publisher_stands_with_the_link_that_carries_it() -> None:
    links = joined(ca_status(), va_status())["links"]
    assert [[entry["lag_entries"] for entry in link["publishers"]] for link in links] == [[], [2]]


def test_the_node_that_nobody_dials_comes_first() -> None:
    document = joined(va_status(), ra_status(), ca_status())
    assert [node["identity"] for node in document["nodes"]] == [
        identity("ca1"),
        identity("ra1"),
        identity("va1"),
    ]


def test_link_of_a_dialler_that_was_not_asked_is_seen_from_its_other_end() -> None:
    (link,) = joined(ra_status())["links"]
    assert (link["dialler"], link["dialled"]) == (identity("ca1"), identity("ra1"))
    assert link["roles_of_dialler"] == ["upstream"]


def test_link_that_is_down_is_a_fault_and_a_disabled_one_is_not() -> None:
    peers = [
        peer("ra1", "out", state="down", last_error="connection refused"),
        peer("va1", "out", state="disabled"),
    ]
    (fault,) = joined(ca_status(peers=peers))["faults"]
    assert fault == f"{identity('ca1')} to {identity('ra1')} is down: connection refused"


def test_tree_shows_nodes_links_roles_and_lag(peersys: CommandLine, tmp_path: Path) -> None:
    statuses = {"ca1": ca_status(), "ra1": ra_status(), "va1": va_status()}
    with serving(tmp_path, statuses):
        run = peersys.without_socket("topology", tmp_path)
    assert run.status == 0
    assert "pki.test  3 nodes, 2 links, 2 up" in run.out
    assert "dials ra1  up  pool 1 of 1-4  round trip 0.61 ms" in run.out
    assert "role of ra1 at ca1: ra" in run.out
    assert "role of ca1 at ra1: upstream" in run.out
    assert "position 12 of 14, lag 2 entries, 0.4 s" in run.out
    assert "rest URL https://127.0.0.12:8443" in run.out
    assert "OCSP signer issuing for issuing  active" in run.out


def test_stopped_node_is_shown_and_fails_the_check(peersys: CommandLine, tmp_path: Path) -> None:
    with serving(tmp_path, {"ca1": ca_status()}):
        gone = tmp_path / "ra1" / "admin.sock"
        run = peersys.without_socket("topology", tmp_path / "ca1", gone)
    assert run.status == 1
    assert f"! no agent at {gone}" in run.out


def test_no_node_answering_at_all_is_unreachable(peersys: CommandLine, tmp_path: Path) -> None:
    assert peersys.without_socket("topology", tmp_path / "admin.sock", "--json").status == 3


def test_json_has_nodes_links_and_faults(peersys: CommandLine, tmp_path: Path) -> None:
    with serving(tmp_path, {"ca1": ca_status()}):
        run = peersys.without_socket("topology", tmp_path, "--json")
    assert set(json.loads(run.out)) == {"nodes", "links", "faults"}


def test_directory_without_a_socket_is_refused_with_the_way_to_start(
    peersys: CommandLine, tmp_path: Path
) -> None:
    (tmp_path / "admin.sock").touch()
    run = peersys.without_socket("topology", tmp_path)
    assert run.status == 2
    assert "make demo" in run.err


def test_socket_named_twice_is_asked_once(tmp_path: Path) -> None:
    with serve_admin(tmp_path / "admin.sock"):
        assert find_sockets([tmp_path, tmp_path / "admin.sock"]) == [tmp_path / "admin.sock"]


@pytest.mark.parametrize("health", ["degraded", "failed"])
def test_unwell_node_fails_the_check(peersys: CommandLine, tmp_path: Path, health: str) -> None:
    with serving(tmp_path, {"ca1": ca_status(health=health, reasons=["CRL is overdue"])}):
        run = peersys.without_socket("topology", tmp_path)
    assert run.status == 1
    assert f"! {identity('ca1')} is {health}: CRL is overdue" in run.out
