from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from node_agent.cli.admin_client import COMPARING_SECONDS, AdminClient
from node_agent.cli.failures import AdminRefused, AgentUnreachable
from tests.support.admin_stand_in import serve_admin

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.admin_stand_in import AdminStandIn
    from tests.unit.cli.conftest import CommandLine


def test_get_returns_the_decoded_answer(agent: AdminStandIn, tmp_path: Path) -> None:
    agent.answer("GET", "/v1/health", {"status": "ok"})
    assert AdminClient(tmp_path / "run" / "admin.sock").get("health") == {"status": "ok"}


def test_absent_query_values_are_left_out(agent: AdminStandIn, tmp_path: Path) -> None:
    agent.answer("GET", "/v1/certificates", [])
    AdminClient(tmp_path / "run" / "admin.sock").get("certificates", name="a b", status=None)
    assert agent.requests == [("GET", "/v1/certificates?name=a+b", None)]


def test_path_segments_are_quoted_so_that_a_name_cannot_reach_another_resource(
    agent: AdminStandIn, tmp_path: Path
) -> None:
    with pytest.raises(AdminRefused):
        AdminClient(tmp_path / "run" / "admin.sock").get("objects", "peer_roles", "../../node?x")
    assert agent.requests[0][1] == "/v1/objects/peer_roles/..%2F..%2Fnode%3Fx"


def test_socket_path_longer_than_the_kernel_takes_is_reached(tmp_path: Path) -> None:
    path = tmp_path / ("d" * 120) / "admin.sock"
    with serve_admin(path) as stand_in:
        stand_in.answer("GET", "/v1/health", {"status": "ok"})
        assert AdminClient(path).get("health") == {"status": "ok"}


def test_problem_document_becomes_an_error_with_its_parts(
    agent: AdminStandIn, tmp_path: Path
) -> None:
    problem = {
        "title": "Wrong",
        "status": 422,
        "detail": "no such CA",
        "field": "publishers.va1.authorities",
        "remedy": "name a CA of this node",
    }
    agent.answer("PUT", "/v1/node", problem, status=422)
    with pytest.raises(AdminRefused) as caught:
        AdminClient(tmp_path / "run" / "admin.sock").put("node", body={})
    assert caught.value.status == 422
    assert str(caught.value) == "publishers.va1.authorities: no such CA"
    assert caught.value.remedy == "name a CA of this node"


def test_error_answer_without_a_problem_document_names_its_status(
    agent: AdminStandIn, tmp_path: Path
) -> None:
    agent.answer("GET", "/v1/node", b"<html>", status=500)
    with pytest.raises(AdminRefused, match="HTTP status 500"):
        AdminClient(tmp_path / "run" / "admin.sock").get("node")


def test_missing_socket_says_how_to_start_or_name_an_agent(tmp_path: Path) -> None:
    with pytest.raises(AgentUnreachable, match="no such file") as caught:
        AdminClient(tmp_path / "admin.sock").get("health")
    assert "PEERSYS_SOCKET" in caught.value.remedy


def test_socket_that_its_agent_left_behind_is_told_from_a_missing_one(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    with pytest.raises(AgentUnreachable, match="refused") as caught:
        AdminClient(path).get("health")
    assert "start it again" in caught.value.remedy


@pytest.mark.parametrize(
    ("said", "complaint"),
    [(b"", "ended before an answer"), (b"220 mail.example\r\n", "ended before an answer")],
)
def test_peer_that_does_not_speak_http_is_unreachable(
    tmp_path: Path, said: bytes, complaint: str
) -> None:
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(1)
        thread = threading.Thread(target=_accept_and_say, args=(server, said))
        thread.start()
        with pytest.raises(AgentUnreachable, match=complaint):
            AdminClient(path).get("health")
        thread.join(timeout=5)


def test_silent_agent_ends_in_a_timeout(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(1)
        with pytest.raises(AgentUnreachable, match=r"no answer within 0\.1 s"):
            AdminClient(path, timeout_seconds=0.1).get("health")


def test_answer_that_is_not_json_is_not_an_agent(agent: AdminStandIn, tmp_path: Path) -> None:
    agent.answer("GET", "/v1/health", b"hello")
    with pytest.raises(AgentUnreachable, match="isn't a Peersys agent"):
        AdminClient(tmp_path / "run" / "admin.sock").get("health")


def _accept_and_say(server: socket.socket, said: bytes) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(said)


def answer_late(agent: AdminStandIn, path: str, document: Any) -> None:
    """Answer once the client's usual time is over."""

    def late(asked: str, body: Any) -> tuple[int, Any]:
        threading.Event().wait(0.5)
        return 200, document

    agent.answers["POST", path] = late


@pytest.mark.parametrize(
    ("arguments", "path", "document"),
    [
        (("publisher", "verify", "va1"), "/v1/publishers/va1/verification", {"authorities": []}),
        (
            ("recover",),
            "/v1/recovery",
            {"authorities": [], "position": 5, "position_before": 5, "dry_run": False},
        ),
    ],
)
def test_what_reads_through_stores_is_given_longer_than_other_calls(
    agent: AdminStandIn,
    peersys: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    path: str,
    document: Any,
) -> None:
    usual = AdminClient.__init__.__kwdefaults__ or {}
    assert usual["timeout_seconds"] < COMPARING_SECONDS
    monkeypatch.setitem(usual, "timeout_seconds", 0.1)
    answer_late(agent, path, document)
    assert peersys(*arguments).status == 0
    answer_late(agent, "/v1/audit/verify", {})
    refused = peersys("audit", "verify")
    assert refused.status != 0
    assert "no answer within 0.1 s" in refused.err
