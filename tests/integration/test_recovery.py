"""Nodes that die, freeze, start again or lose their rights: nothing lost, nothing issued twice.

Each test leaves the topology that it shares as it was.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.openssl import CertificateFiles, make_csr
from tests.support.processes import wait_until
from tests.support.stubborn_client import StubbornClient

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.support.agents import Topology

    Start = Callable[..., AbstractContextManager[Topology]]

pytestmark = pytest.mark.timeout(180)
on_sqlite = pytest.mark.parametrize("topology", ["sqlite"], indirect=True, scope="module")


def status_of(topology: Topology, directory: Path, certificate: str) -> str:
    path = "/v1/objects/certification_authorities/issuing"
    state = topology.ca.admin.get(path)["state"]
    judge = CertificateFiles(directory, certificate, state["certificate"], state["root"])
    return judge.ocsp(topology.va.listen["status"])


def begin(client: StubbornClient) -> threading.Thread:
    asking = threading.Thread(target=client.enroll, daemon=True)
    asking.start()
    return asking


@pytest.mark.parametrize("victim", ["ca", "ra"])
def test_a_killed_node_costs_no_request_and_doubles_none(
    topology: Topology, tmp_path: Path, victim: str
) -> None:
    wanted = [f"{number}.{victim}-killed.example.org" for number in range(12)]
    clients = [StubbornClient(topology, make_csr(tmp_path, name)) for name in wanted]
    asking = [begin(client) for client in clients[:6]]
    agent = getattr(topology, victim)
    agent.kill()
    asking += [begin(client) for client in clients[6:]]
    topology.start_agent(agent)
    for thread in asking:
        thread.join(95)
    assert all(len(client.certificates) == 1 for client in clients), clients[0].failures[-3:]
    issued = topology.ca.admin.get("/v1/certificates?authority=issuing&limit=1000")
    names = [item["names"][0] for item in issued if item["profile"] == "server"]
    assert sorted(name for name in names if name in wanted) == sorted(wanted)
    topology.wait_healthy()


@on_sqlite
def test_a_va_that_was_away_catches_up_by_itself(topology: Topology, tmp_path: Path) -> None:
    topology.va.stop()
    issued = [
        topology.rest().enroll(make_csr(tmp_path, f"{number}.example.org"))[1]
        for number in range(3)
    ]
    assert topology.rest().revoke(issued[0]["serial"])[0] == 200
    topology.start_agent(topology.va)
    topology.wait_healthy()

    def caught_up() -> bool:
        state = topology.ca.admin.get("/v1/objects/publishers/va1")["state"]
        return bool(state["state"] == "up" and state["lag_entries"] == 0)

    wait_until(
        caught_up,
        timeout_seconds=30,
        what="the publisher has caught up",
    )
    assert status_of(topology, tmp_path, issued[0]["certificate"]) == "revoked"
    assert status_of(topology, tmp_path, issued[2]["certificate"]) == "good"


@on_sqlite
def test_a_va_answers_without_its_ca(topology: Topology, tmp_path: Path) -> None:
    issued = topology.rest().enroll(make_csr(tmp_path))[1]
    path = "/v1/objects/certification_authorities/issuing"
    state = topology.ca.admin.get(path)["state"]
    judge = CertificateFiles(tmp_path, issued["certificate"], state["certificate"], state["root"])
    status = topology.va.listen["status"]
    wait_until(lambda: judge.ocsp(status) == "good", what="the VA says good")
    topology.ca.stop()
    assert judge.ocsp(status) == "good"
    assert ": OK" in judge.verify(status)
    topology.start_agent(topology.ca)
    topology.wait_healthy()


@on_sqlite
def test_a_frozen_ca_is_answered_for_and_work_flows_again(
    topology: Topology, tmp_path: Path
) -> None:
    topology.ca.pause()
    client = StubbornClient(topology, make_csr(tmp_path))
    asking = begin(client)
    topology.ca.resume()
    asking.join(95)
    assert len(client.certificates) == 1
    topology.wait_healthy()


def test_a_revoked_authenticator_loses_its_links_within_a_second(own_topology: Start) -> None:
    with own_topology() as topology:
        authenticator = topology.ra.admin.get("/v1/objects/authenticators/peer")["state"]
        serial = authenticator["certificate"]["serial"]
        topology.ca.admin.post(
            f"/v1/certificates/management/{serial}/revocation", {"reason": "keyCompromise"}
        )

        def link() -> dict[str, Any]:
            return next(p for p in topology.ca.admin.get("/v1/peers") if p["connector"] == "ra1")

        wait_until(
            lambda: link()["state"] != "up", timeout_seconds=1.5, what="the link to ra1 is closed"
        )
        assert "revoked" in link()["last_error"]

        def knows_the_new_crl() -> bool:
            authorities = topology.va.admin.get("/v1/status")["authorities"]
            return any(
                item["name"] == "management" and item["crl_number"] >= 2 for item in authorities
            )

        # The VA learns of it over its own link and wouldn't talk to ra1 either.
        wait_until(knows_the_new_crl, what="the VA has the Management CA's new CRL")


@on_sqlite
def test_a_role_that_is_taken_away_ends_the_link_and_the_next_request(
    topology: Topology, tmp_path: Path
) -> None:
    role = topology.ca.admin.get("/v1/objects/peer_roles/registration")["spec"]
    without = [rule for rule in role["rules"] if rule["resource"] != "/ra/enroll"]
    topology.ca.admin.put("/v1/objects/peer_roles/registration", {**role, "rules": without})
    status, problem = topology.rest().enroll(make_csr(tmp_path))
    assert status == 403, problem
    enrolments = [
        entry
        for entry in topology.ca.admin.get("/v1/audit?limit=10000")
        if entry["action"] == "ra.enroll"
    ]
    assert enrolments[-1]["allowed"] is False
    topology.ca.admin.put("/v1/objects/peer_roles/registration", {**role, "rules": []})
    wait_until(
        lambda: any(
            peer["connector"] == "ra1" and peer["state"] != "up"
            for peer in topology.ca.admin.get("/v1/peers")
        ),
        timeout_seconds=1.5,
        what="the link of a peer without /peer/incoming is closed",
    )
    topology.ca.admin.put("/v1/objects/peer_roles/registration", role)
    topology.wait_healthy()
    assert topology.rest().enroll(make_csr(tmp_path))[0] == 201


@on_sqlite
def test_everything_survives_a_restart(topology: Topology, tmp_path: Path) -> None:
    issued = topology.rest().enroll(make_csr(tmp_path))[1]
    before = topology.ca.admin.get("/v1/node")["objects"]
    for agent in topology.agents:
        agent.stop()
    for agent in topology.agents:
        topology.start_agent(agent)
    topology.wait_healthy()
    after = topology.ca.admin.get("/v1/node")["objects"]
    for kind, objects in before.items():
        specs = [item["spec"] for item in objects]
        assert [item["spec"] for item in after[kind]] == specs
    assert status_of(topology, tmp_path, issued["certificate"]) == "good"
    assert topology.rest().enroll(make_csr(tmp_path))[0] == 201
