"""The admin API over a real Unix socket, before an honest in-memory backend."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from node_agent.errors import ConfigError, Conflict, PolicyDenied
from node_agent.web.admin import admin_app
from node_agent.web.admin_bodies import LocalCaller
from node_agent.web.serve import HttpServer
from node_agent.web.unix_socket import AdminGate, bind_admin_socket, group_id
from tests.support.event_loop import run
from tests.unit.web.http_client import Answer, Client
from tests.unit.web.management_double import MemoryManagement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROLE = {"name": "ras", "members": ["spiffe://test.example/node/ra1"], "rules": []}


@contextlib.asynccontextmanager
async def admin(
    tmp_path: Path, backend: MemoryManagement | None = None
) -> AsyncIterator[tuple[Client, MemoryManagement]]:
    """An admin API and a client connected to it."""
    backend = backend or MemoryManagement()
    path = tmp_path / "admin.sock"
    listener = bind_admin_socket(path)
    server = HttpServer(admin_app(backend), [listener], inspect=AdminGate().inspect)
    async with server, await Client.unix(path) as client:
        yield client, backend


def exchange(tmp_path: Path, method: str, target: str, body: Any = None) -> Answer:
    """One request to a fresh admin API."""

    async def main() -> Answer:
        async with admin(tmp_path) as (client, _):
            return await client.request(method, target, body)

    return run(main())


def test_health_names_node_and_version(tmp_path: Path) -> None:
    answer = exchange(tmp_path, "GET", "/v1/health")
    assert answer.status == 200
    assert answer.json == {
        "status": "ok",
        "node": "spiffe://test.example/node/ca1",
        "version": "0.1.0",
    }
    assert answer.headers["content-type"] == "application/json"


def test_put_object_creates_then_repeats_unchanged_and_knows_the_caller(tmp_path: Path) -> None:
    async def main() -> None:
        async with admin(tmp_path) as (client, backend):
            first = await client.request("PUT", "/v1/objects/peer_roles/ras", ROLE)
            again = await client.request("PUT", "/v1/objects/peer_roles/ras", ROLE)
            assert first.json["changed"] is True
            assert first.json["steps"][0]["action"] == "create"
            assert first.json["steps"][0]["before"] is None
            assert first.json["objects"]["peer_roles"]["ras"]["state"] == {}
            assert again.json == {"changed": False, "steps": [], "objects": {}}
            assert backend.callers[0] == LocalCaller(os.getuid(), os.getgid(), os.getpid())

    run(main())


def test_dry_run_plans_without_storing_and_without_state(tmp_path: Path) -> None:
    async def main() -> None:
        async with admin(tmp_path) as (client, backend):
            target = "/v1/objects/peer_roles/ras?dry_run=true"
            answer = await client.request("PUT", target, ROLE)
            assert answer.json["changed"] is True
            assert "state" not in answer.json["objects"]["peer_roles"]["ras"]
            assert backend.stored == {}

    run(main())


def test_name_may_be_left_out_of_the_body_but_not_contradict_the_path(tmp_path: Path) -> None:
    async def main() -> None:
        async with admin(tmp_path) as (client, backend):
            answer = await client.request("PUT", "/v1/objects/crypto_tokens/default", {})
            assert answer.status == 200
            assert backend.stored["crypto_tokens", "default"]["name"] == "default"
            body = {"name": "other"}
            answer = await client.request("PUT", "/v1/objects/crypto_tokens/default", body)
            assert answer.status == 400
            assert answer.json["field"] == "name"

    run(main())


def test_put_node_then_get_node_shows_every_kind(tmp_path: Path) -> None:
    async def main() -> None:
        async with admin(tmp_path) as (client, _):
            body = {"peer_roles": [ROLE], "crypto_tokens": [{"name": "default"}]}
            assert (await client.request("PUT", "/v1/node", body)).json["changed"] is True
            objects = (await client.request("GET", "/v1/node")).json["objects"]
            assert objects["peer_roles"][0]["spec"]["name"] == "ras"
            assert objects["publishers"] == []
            listed = await client.request("GET", "/v1/objects/peer_roles")
            assert listed.json == objects["peer_roles"]

    run(main())


def test_delete_object_tells_absence_as_no_change(tmp_path: Path) -> None:
    async def main() -> None:
        async with admin(tmp_path) as (client, backend):
            await client.request("PUT", "/v1/objects/peer_roles/ras", ROLE)
            target = "/v1/objects/peer_roles/ras"
            dry = await client.request("DELETE", target + "?dry_run=true")
            assert dry.json["changed"] is True
            assert ("peer_roles", "ras") in backend.stored
            assert (await client.request("DELETE", target)).json["changed"] is True
            assert (await client.request("DELETE", target)).json["changed"] is False

    run(main())


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "field"),
    [
        ("GET", "/v1/objects/typos", None, 404, "kind"),
        ("GET", "/v1/objects/peer_roles/none", None, 404, ""),
        ("GET", "/v1/nothing", None, 404, ""),
        ("DELETE", "/v1/node", None, 405, ""),
        ("PUT", "/v1/objects/peer_roles/r", {"rulez": []}, 400, ""),
        (
            "PUT",
            "/v1/objects/peer_roles/r",
            {"rules": [{"effect": "x"}]},
            400,
            "rules[0].effect",
        ),
        ("PUT", "/v1/objects/peer_roles/r", [], 400, ""),
        ("PUT", "/v1/objects/peer_roles/UPPER", {}, 400, "name"),
        ("PUT", "/v1/node", b"{", 400, ""),
        ("PUT", "/v1/node", b"\xff", 400, ""),
        ("PUT", "/v1/node?dry_run=maybe", {}, 400, "dry_run"),
        ("PUT", "/v1/node?dryrun=true", {}, 400, ""),
        ("PUT", "/v1/node?dry_run=true&dry_run=false", {}, 400, ""),
        ("POST", "/v1/certificates/ca/0A/revocation", {}, 400, "serial"),
        ("POST", "/v1/certificates/ca/" + "a" * 41 + "/revocation", {}, 400, "serial"),
        ("POST", "/v1/certificates/ca/0a/revocation", {"reason": "whim"}, 400, "reason"),
        ("GET", "/v1/certificates?limit=0", None, 400, "limit"),
        ("GET", "/v1/certificates?expires_before=null", None, 400, "expires_before"),
        ("GET", "/v1/certificates?expires_before=" + "9" * 30, None, 400, "expires_before"),
        (
            "POST",
            "/v1/certificates/ca/0a/revocation",
            {"invalidity_at": 10**17},
            400,
            "invalidity_at",
        ),
        ("GET", "/v1/certificates?limit=1001", None, 400, "limit"),
        ("POST", "/v1/peers/down/ping", None, 503, ""),
    ],
)
def test_wrong_request_is_a_problem_document(
    tmp_path: Path, method: str, target: str, body: Any, status: int, field: str
) -> None:
    answer = exchange(tmp_path, method, target, body)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == status
    assert answer.json["type"].startswith("urn:peersys:problem:")
    assert answer.json.get("field", "") == field


def test_wrong_method_says_which_are_right(tmp_path: Path) -> None:
    answer = exchange(tmp_path, "POST", "/v1/objects/peer_roles/r", {})
    assert answer.status == 405
    assert answer.headers["allow"] == "DELETE, GET, OPTIONS, PUT"


def test_not_json_is_refused_by_media_type(tmp_path: Path) -> None:
    async def main() -> Answer:
        async with admin(tmp_path) as (client, _):
            headers = {"Content-Type": "application/xml"}
            return await client.request("PUT", "/v1/node", b"<a/>", headers=headers)

    assert run(main()).status == 415


def test_node_uri_stands_in_one_path_segment(tmp_path: Path) -> None:
    target = "/v1/peers/spiffe%3A%2F%2Ftest.example%2Fnode%2Fra1/ping"
    assert exchange(tmp_path, "POST", target).json == {"round_trip_ms": [0.5]}


def test_unavailable_peer_says_when_to_come_back(tmp_path: Path) -> None:
    answer = exchange(tmp_path, "POST", "/v1/peers/down/ping")
    assert answer.headers["retry-after"] == "7"
    assert answer.json["detail"] == "no live link"


@pytest.mark.parametrize(
    ("fault", "status", "detail"),
    [
        (ConfigError("can't", where="x", remedy="do y"), 422, "x: can't. do y"),
        (Conflict("in use by z"), 409, "in use by z"),
        (PolicyDenied("no grant", rule="/ca/x"), 403, "no grant (rule: /ca/x)"),
        (RuntimeError("a bug with a secret"), 500, ""),
    ],
)
def test_backend_errors_reach_the_operator_whole_but_bugs_say_nothing(
    tmp_path: Path, fault: Exception, status: int, detail: str
) -> None:
    backend = MemoryManagement()
    backend.fault = fault

    async def main() -> Answer:
        async with admin(tmp_path, backend) as (client, _):
            return await client.request("GET", "/v1/status")

    answer = run(main())
    assert answer.status == status
    assert answer.json.get("detail", "") == detail
    assert b"secret" not in answer.body


def test_lists_and_limits_reach_the_backend(tmp_path: Path) -> None:
    assert len(exchange(tmp_path, "GET", "/v1/certificates?limit=2").json) == 2
    entries = exchange(tmp_path, "GET", "/v1/audit?after=5&limit=2").json
    assert [entry["sequence"] for entry in entries] == [6, 7]


def test_one_certificate_and_a_crl_are_shown(tmp_path: Path) -> None:
    assert exchange(tmp_path, "GET", "/v1/certificates/issuing/a").json["serial"] == "a"
    assert exchange(tmp_path, "GET", "/v1/certificates/issuing/b").status == 404
    assert exchange(tmp_path, "GET", "/v1/crls/issuing").json["base_number"] is None
    assert exchange(tmp_path, "GET", "/v1/crls/issuing?delta=true").json["base_number"] == 6


def test_actions_without_a_body_and_with_defaults_work(tmp_path: Path) -> None:
    async def main() -> None:
        async with admin(tmp_path) as (client, backend):
            assert (await client.request("POST", "/v1/audit/verify")).json["ok"] is True
            assert (await client.request("GET", "/v1/peers")).json == []
            assert (await client.request("GET", "/v1/status")).json["health"] == "ok"
            order = {"csr": "PEM", "identity": "spiffe://test.example/node/ra1"}
            answer = await client.request("POST", "/v1/management-certificates", order)
            assert answer.json["serial"] == "0a"
            target = "/v1/certificates/management/0a/revocation"
            answer = await client.request("POST", target, {"reason": "keyCompromise"})
            assert answer.json["status"] == "revoked"
            assert backend.revoked == [("management", 10, "keyCompromise")]
            question = {"identity": "alice", "operation": "ra.enroll", "authority": "issuing"}
            answer = await client.request("POST", "/v1/access/explain", question)
            assert answer.json["trace"][0]["resource"] == "/ca/issuing"

    run(main())


def test_socket_is_closed_to_others_and_replaced_after_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    first = bind_admin_socket(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    first.listen()
    with pytest.raises(ConfigError, match="another agent answers"):
        bind_admin_socket(path)
    first.close()
    bind_admin_socket(path).close()


def test_directory_that_is_missing_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be used"):
        bind_admin_socket(tmp_path / "none" / "admin.sock")


def test_application_on_a_server_without_the_gate_serves_nobody(tmp_path: Path) -> None:
    async def main() -> Answer:
        listener = bind_admin_socket(tmp_path / "admin.sock")
        async with (
            HttpServer(admin_app(MemoryManagement()), [listener]),
            await Client.unix(tmp_path / "admin.sock") as client,
        ):
            return await client.request("GET", "/v1/health")

    assert run(main()).status == 403


def test_something_else_in_the_way_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    path.write_text("precious")
    with pytest.raises(ConfigError, match="no socket"):
        bind_admin_socket(path)
    assert path.read_text() == "precious"


def test_socket_below_a_long_path_is_reached_through_its_directory(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)

    async def main() -> int:
        listener = bind_admin_socket(deep / "admin.sock")
        gate = AdminGate()
        async with HttpServer(admin_app(MemoryManagement()), [listener], inspect=gate.inspect):
            handle = os.open(deep, os.O_PATH)
            try:
                path = Path(f"/proc/self/fd/{handle}/admin.sock")
                async with await Client.unix(path) as client:
                    return (await client.request("GET", "/v1/health")).status
            finally:
                os.close(handle)

    assert run(main()) == 200


@pytest.mark.parametrize(
    ("caller", "groups", "admitted"),
    [
        (LocalCaller(0, 0, 1), set(), True),
        (LocalCaller(900, 900, 1), set(), True),
        (LocalCaller(1000, 50, 1), set(), True),
        (LocalCaller(1000, 1000, 1), {50}, True),
        (LocalCaller(1000, 1000, 1), {51}, False),
    ],
)
def test_gate_admits_root_itself_and_the_admin_group(
    caller: LocalCaller, groups: set[int], admitted: bool
) -> None:
    gate = AdminGate(admin_gid=50, own_uid=900)
    assert gate.admits(caller, frozenset(groups)) is admitted


def test_gate_without_a_group_admits_no_group() -> None:
    assert not AdminGate(own_uid=900).admits(LocalCaller(1, 0, 1), frozenset({0}))


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become another user")
def test_kernel_credentials_of_another_user_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"

    async def main() -> str:
        listener = bind_admin_socket(path)
        path.chmod(0o777)  # as if someone had opened the file's mode by hand
        for directory in (tmp_path, *tmp_path.parents[:3]):
            directory.chmod(0o755)
        gate = AdminGate(admin_gid=4242)
        async with HttpServer(admin_app(MemoryManagement()), [listener], inspect=gate.inspect):
            command = ["curl", "-s", "-i", "--unix-socket", str(path), "http://localhost/v1/health"]
            refused = await _output(command, user=65534, group=65534, extra_groups=[])
            admitted = await _output(command, user=65534, group=65534, extra_groups=[4242])
            assert admitted.startswith("HTTP/1.1 200")
            return refused

    answer = run(main())
    assert answer.startswith("HTTP/1.1 403")
    assert (
        json.loads(answer.partition("\r\n\r\n")[2])["detail"]
        == "uid 65534 may not manage this node"
    )


async def _output(command: list[str], **options: Any) -> str:
    # In a thread, because uvloop starts no process as another user.
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, **options)
    return str(done.stdout.decode())


def test_unknown_group_is_a_config_error() -> None:
    assert group_id(None) is None
    assert group_id("root") == 0
    with pytest.raises(ConfigError, match="no group"):
        group_id("no-such-group-here")
