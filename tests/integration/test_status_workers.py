"""Several processes serve one VA's status port: one truth at all of them, whatever happens to one.

Each test leaves the topology as it was. The order of tests doesn't matter.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from tests.support.agents import AUTHORITY, Agent, Topology
from tests.support.openssl import make_csr
from tests.support.postgres import postgres_url
from tests.support.processes import ManagedProcess, free_address, wait_until
from tests.support.rest import http_request

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(300)

WORKERS = 3
CONNECTIONS = 32
LONG_LIFE_SECONDS = 10  # after which a worker's place stays open


@pytest.fixture(scope="module")
def topology(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Topology]:
    found = Topology(tmp_path_factory.mktemp("workers"), settings={"workers": WORKERS})
    found.va.listen["metrics"] = free_address()
    with found:
        yield found


@pytest.fixture
def certificate(topology: Topology, tmp_path: Path) -> Certificate:
    """Return a fresh certificate that the VA knows."""
    return issue(topology, tmp_path)


def issue(topology: Topology, tmp_path: Path) -> Certificate:
    status, issued = topology.rest().enroll(make_csr(tmp_path))
    assert status == 201
    pem = (issued["certificate"] + issued["chain"]).encode()
    found = Certificate(topology, *x509.load_pem_x509_certificates(pem)[:2])
    wait_until(lambda: found.ask() == "good", what="the VA knows the certificate")
    return found


class Certificate:
    """A certificate, its OCSP request, and its revocation."""

    def __init__(self, topology: Topology, leaf: x509.Certificate, issuer: x509.Certificate):
        self._topology = topology
        self._address = topology.va.listen["status"]
        self.serial = leaf.serial_number
        builder = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer, hashes.SHA1())
        self.request = builder.build().public_bytes(Encoding.DER)

    def connection(self) -> http.client.HTTPConnection:
        """Return one that is opened by its first question."""
        return http.client.HTTPConnection(self._address, timeout=10)

    def connect(self, number: int = CONNECTIONS) -> list[http.client.HTTPConnection]:
        """Return connections that the kernel has spread over the workers, each with an answer."""
        connections = [self.connection() for _ in range(number)]
        for connection in connections:
            assert self.ask(connection) == "good"
        return connections

    def ask(self, connection: http.client.HTTPConnection | None = None) -> str:
        """Return the status that is answered, or the word of an answer without one."""
        answer = self.answer(connection)
        if answer.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            return answer.response_status.name.lower()
        return answer.certificate_status.name.lower()

    def signer(self, connection: http.client.HTTPConnection) -> str:
        """Return the serial number of whom the answer was signed by; nothing without one."""
        answer = self.answer(connection)
        if answer.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            return ""
        return f"{answer.certificates[0].serial_number:x}"

    def answer(self, connection: http.client.HTTPConnection | None = None) -> ocsp.OCSPResponse:
        """Return what is answered."""
        used = connection or self.connection()
        try:
            used.request(
                "POST", "/ocsp", self.request, {"Content-Type": "application/ocsp-request"}
            )
            return ocsp.load_der_ocsp_response(used.getresponse().read())
        finally:
            if connection is None:
                used.close()

    def revoke(self) -> None:
        """Revoke at the RA; return once the VA has acknowledged it to the CA."""
        before = self._position()
        assert self._topology.rest().revoke(f"{self.serial:x}")[0] == 200
        wait_until(lambda: self._position() > before, what="the VA acknowledged the revocation")

    def _position(self) -> int:
        publishers = self._topology.ca.admin.get("/v1/status")["publishers"]
        (publisher,) = (item for item in publishers if item["name"] == "va1")
        return int(publisher["position"])


def workers(agent: Agent) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = agent.admin.get("/v1/status")["status_workers"]
    return found


def wait_for_all(agent: Agent) -> list[dict[str, Any]]:
    """Wait until every worker serves, and return them."""
    wait_until(
        lambda: [item["state"] for item in workers(agent)] == ["up"] * WORKERS,
        timeout_seconds=60,
        what=lambda: f"all workers are up: {workers(agent)}",
    )
    return workers(agent)


def lives(pid: int) -> bool:
    """Whether a process is there and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def age_seconds(pid: int) -> float:
    """Return for how long a process has been running."""
    started = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")


def close(connections: list[http.client.HTTPConnection]) -> None:
    for connection in connections:
        connection.close()


def test_a_revocation_is_in_force_at_every_worker_once_acknowledged(
    topology: Topology, certificate: Certificate
) -> None:
    wait_for_all(topology.va)
    connections = certificate.connect()
    wait_until(
        lambda: all(
            item["connections"] and item["memory_octets"] > item["kept_octets"] > 0
            for item in workers(topology.va)
        ),
        what="every worker has connections and keeps the answer",
    )
    certificate.revoke()
    assert {certificate.ask(connection) for connection in connections} == {"revoked"}
    close(connections)


def test_a_stopped_worker_is_killed_before_a_revocation_is_acknowledged(
    topology: Topology, certificate: Certificate
) -> None:
    stopped = wait_for_all(topology.va)[0]["pid"]
    connections = certificate.connect()
    os.kill(stopped, signal.SIGSTOP)
    certificate.revoke()
    assert not lives(stopped)
    answers = set()
    for connection in connections:
        with contextlib.suppress(OSError, http.client.HTTPException):
            answers.add(certificate.ask(connection))
    assert answers == {"revoked"}
    close(connections)
    assert stopped not in [item["pid"] for item in wait_for_all(topology.va)]
    assert certificate.ask() == "revoked"


def test_a_stopped_worker_is_replaced_though_nothing_happens(
    topology: Topology, certificate: Certificate
) -> None:
    stopped = wait_for_all(topology.va)[1]["pid"]
    os.kill(stopped, signal.SIGSTOP)
    wait_until(lambda: not lives(stopped), what="the stopped worker is taken out")
    assert stopped not in [item["pid"] for item in wait_for_all(topology.va)]
    close(certificate.connect())


def test_a_worker_killed_under_load_costs_its_connections_and_nothing_else(
    topology: Topology, certificate: Certificate
) -> None:
    before = wait_for_all(topology.va)[-1]
    # After a shorter life its place closes, which loses who waits there for the next one, too.
    wait_until(
        lambda: age_seconds(before["pid"]) > LONG_LIFE_SECONDS,
        timeout_seconds=2 * LONG_LIFE_SECONDS,
        what="its life was a long one",
    )
    ended, answers, losers = threading.Event(), list[str](), list[int]()

    def ask_on() -> None:
        while not ended.is_set():
            try:
                with contextlib.closing(certificate.connection()) as connection:
                    while not ended.is_set():
                        answers.append(certificate.ask(connection))
            except (OSError, http.client.HTTPException):
                losers.append(threading.get_ident())

    threads = [threading.Thread(target=ask_on) for _ in range(24)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(answers) > 100, what="requests are answered")
        os.kill(before["pid"], signal.SIGKILL)
        wait_until(
            lambda: workers(topology.va)[-1]["restarts"] > before["restarts"],
            what="the death was seen",
        )
        wait_for_all(topology.va)
    finally:
        ended.set()
        for thread in threads:
            thread.join(20)
    assert set(answers) == {"good"}
    # The agent holds the sockets, too: who comes while there is no worker waits for the next one.
    assert len(losers) == len(set(losers)), "somebody lost a second connection"


def test_a_changed_signer_is_in_force_at_every_worker(
    topology: Topology, certificate: Certificate
) -> None:
    wait_for_all(topology.va)
    connections = certificate.connect()
    builder = ocsp.OCSPRequestBuilder().add_certificate_by_hash(
        *_issuer_of(certificate), 4711, hashes.SHA1()
    )
    strange = Certificate.__new__(Certificate)
    strange.request = builder.build().public_bytes(Encoding.DER)
    for policy in ("unauthorized", "revoked", "unknown"):
        signer = {"name": AUTHORITY, "authority": AUTHORITY, "unknown_serial": policy}
        topology.va.admin.put(f"/v1/objects/signers/{AUTHORITY}", signer)
        wait_until(
            lambda policy=policy: {strange.ask(item) for item in connections} == {policy},
            what=f"every worker answers {policy}",
        )
        assert [strange.ask(item) for item in connections] == [policy] * CONNECTIONS
    close(connections)


def test_a_revoked_signer_is_believed_nowhere_and_replaced_with_another_key(
    topology: Topology, certificate: Certificate
) -> None:
    wait_for_all(topology.va)
    connections = certificate.connect()
    (revoked,) = {certificate.signer(item) for item in connections}
    key = certificate.answer().certificates[0].public_key()
    topology.ca.admin.post(
        f"/v1/certificates/{AUTHORITY}/{revoked}/revocation", {"reason": "keyCompromise"}
    )

    def others() -> set[str]:
        return {certificate.signer(item) for item in connections}

    wait_until(
        lambda: len(found := others()) == 1 and not found & {"", revoked},
        what="another signer answers at every worker",
    )
    assert {certificate.ask(item) for item in connections} == {"good"}
    assert certificate.answer().certificates[0].public_key() != key
    topology.wait_healthy()
    close(connections)


def _issuer_of(certificate: Certificate) -> tuple[bytes, bytes]:
    request = ocsp.load_der_ocsp_request(certificate.request)
    return request.issuer_name_hash, request.issuer_key_hash


def test_counts_are_of_all_workers_and_never_go_back(
    topology: Topology, certificate: Certificate
) -> None:
    wait_for_all(topology.va)
    close(certificate.connect())

    def counted() -> float:
        status, _, text = http_request(topology.va.listen["metrics"], "GET", "/metrics")
        assert status == 200
        lines = [item for item in text.decode().splitlines() if item.startswith("peersys_ocsp_a")]
        return sum(float(line.split()[1]) for line in lines)

    wait_until(lambda: counted() >= CONNECTIONS, what="answers are counted")
    before = counted()
    os.kill(workers(topology.va)[0]["pid"], signal.SIGKILL)
    wait_until(lambda: len(_up(topology.va)) < WORKERS, what="the death was seen")
    assert counted() >= before
    wait_for_all(topology.va)
    assert counted() >= before


def _up(agent: Agent) -> list[dict[str, Any]]:
    return [item for item in workers(agent) if item["state"] == "up"]


def test_an_agent_that_stood_still_does_not_blame_its_workers(
    topology: Topology, certificate: Certificate
) -> None:
    before = wait_for_all(topology.va)
    # What a worker has kept it answers without the agent, which alone can sign.
    close(certificate.connect())
    agent = topology.va.running
    agent.signal(signal.SIGSTOP)
    try:
        wait_until(
            lambda: http_request(topology.va.listen["status"], "GET", "/health")[0] == 503,
            timeout_seconds=30,
            what="a worker that hears nothing calls itself failed",
        )
        assert certificate.ask() == "good"
    finally:
        agent.signal(signal.SIGCONT)
    topology.wait_healthy()
    after = wait_for_all(topology.va)
    assert [item["pid"] for item in after] == [item["pid"] for item in before]
    close(certificate.connect())


def test_no_worker_outlives_an_agent_that_was_killed(
    topology: Topology, certificate: Certificate
) -> None:
    pids = [item["pid"] for item in wait_for_all(topology.va)]
    os.kill(pids[0], signal.SIGSTOP)
    os.kill(topology.va.running.pid, signal.SIGKILL)
    wait_until(lambda: not any(map(lives, pids)), what="all workers are gone")
    assert topology.va.stop() == -signal.SIGKILL
    topology.va.start()
    wait_for_all(topology.va)
    wait_until(lambda: certificate.ask() == "good", what="the VA answers again")
    topology.wait_healthy()


def test_a_stopping_agent_takes_its_workers_along(
    topology: Topology, certificate: Certificate
) -> None:
    pids = [item["pid"] for item in wait_for_all(topology.va)]
    begun = time.monotonic()
    topology.va.running.signal(signal.SIGTERM)
    wait_until(lambda: not topology.va.running.is_running, what="the agent has stopped")
    assert topology.va.stop() == 0
    assert not any(map(lives, pids))
    assert time.monotonic() - begun < 8, "it waited for a worker that doesn't end"
    topology.va.start()
    assert certificate.ask() == "good"
    topology.wait_healthy()


def test_a_port_in_use_is_named_though_workers_could_share_it(
    topology: Topology, tmp_path: Path
) -> None:
    address = topology.va.listen["status"]
    other = Agent(tmp_path, "other", listen={"status": address}, settings={"workers": WORKERS})
    other.launch()
    process: ManagedProcess = other.running
    wait_until(lambda: not process.is_running, timeout_seconds=45, what="the other agent ends")
    assert process.returncode != 0
    assert address in process.log_tail()
    assert "can't be listened on" in process.log_tail()
    process.kill()


def test_workers_read_postgresql_as_well(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        urls = {name: stack.enter_context(postgres_url()) for name in ("ca1", "ra1", "va1")}
        topology = stack.enter_context(
            Topology(tmp_path, store_url=urls.__getitem__, settings={"workers": WORKERS})
        )
        certificate = issue(topology, tmp_path)
        connections = certificate.connect()
        certificate.revoke()
        assert {certificate.ask(connection) for connection in connections} == {"revoked"}
        close(connections)
