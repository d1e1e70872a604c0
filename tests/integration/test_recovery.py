"""Nodes that die, freeze, start again or lose their rights: nothing lost, nothing issued twice.

Each test leaves the topology that it shares as it was.
"""

from __future__ import annotations

import threading
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.openssl import CertificateFiles, make_csr
from tests.support.processes import wait_until

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


class Client(threading.Thread):
    """Enrols one CSR under one request id until it has a certificate, whatever happens."""

    def __init__(self, topology: Topology, csr: str) -> None:
        super().__init__(daemon=True)
        self._topology = topology
        self._csr = csr
        self.request_id = uuid.uuid4()
        self.certificates: set[str] = set()
        self.failures: list[Any] = []

    def run(self) -> None:
        wait_until(self._has_certificate, timeout_seconds=60, what="a certificate")

    def _has_certificate(self) -> bool:
        try:
            status, answer = self._topology.rest().enroll(self._csr, request_id=self.request_id)
        except OSError as error:
            self.failures.append(str(error))
            return False
        if status not in (200, 201):
            self.failures.append(answer)
            return False
        self.certificates.add(answer["certificate"])
        return True


@pytest.mark.parametrize("victim", ["ca", "ra"])
def test_a_killed_node_costs_no_request_and_doubles_none(
    topology: Topology, tmp_path: Path, victim: str
) -> None:
    wanted = [f"{number}.{victim}-killed.example.org" for number in range(12)]
    clients = [Client(topology, make_csr(tmp_path, name)) for name in wanted]
    for client in clients[:6]:
        client.start()
    agent = getattr(topology, victim)
    agent.kill()
    for client in clients[6:]:
        client.start()
    topology.start_agent(agent)
    for client in clients:
        client.join(65)
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
    client = Client(topology, make_csr(tmp_path))
    client.start()
    topology.ca.resume()
    client.join(65)
    assert len(client.certificates) == 1
    topology.wait_healthy()


def test_a_revoked_authenticator_loses_its_links_within_a_second(own_topology: Start) -> None:
    with own_topology() as topology:
        authenticator = topology.ra.admin.get("/v1/objects/authenticators/peer")["state"]
        serial = authenticator["certificate"]["serial"]
        topology.ca.admin.post(
            f"/v1/certificates/management/{serial}/revocation", {"reason": "keyCompromise"}
        )

        def is_cut_off() -> bool:
            peers = topology.ca.admin.get("/v1/peers")
            return any(
                peer["connector"] == "ra1"
                and peer["state"] != "up"
                and "revoked" in (peer["last_error"] or "")
                for peer in peers
            )

        wait_until(is_cut_off, timeout_seconds=1.5, what="the link to ra1 is closed")

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
