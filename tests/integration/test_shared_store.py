"""Two CA nodes on one PostgreSQL store: one CA to everybody else, whichever of them is up."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from node_agent.errors import TokenError
from node_agent.functions.encoding import pem
from node_agent.pki.soft_token import SoftToken
from node_agent.store import Ownership, open_store
from tests.support.csrs import csr_der
from tests.support.openssl import CertificateFiles, make_csr
from tests.support.postgres import PostgresCluster, postgres_url, require_postgres
from tests.support.processes import wait_until
from tests.support.shared_store import SharedTopology
from tests.support.stubborn_client import StubbornClient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.agents import Agent

pytestmark = pytest.mark.timeout(240)

CLIENTS = 200
CLIENTS_DOMAIN = ".load.example.org"
_WORKERS = 24


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedTopology]:
    with (
        postgres_url() as url,
        SharedTopology(tmp_path_factory.mktemp("shared"), url) as topology,
    ):
        yield topology


def links_to(agent: Agent, connector: str) -> dict[str, Any]:
    return next(p for p in agent.admin.get("/v1/peers") if p["connector"] == connector)


def ocsp_of(topology: SharedTopology, ca: Agent, directory: Path, certificate: str) -> str:
    state = ca.admin.state("certification_authorities", "issuing")
    judge = CertificateFiles(directory, certificate, state["certificate"], state["root"])
    return judge.ocsp(topology.va.listen["status"])


def crl_numbers(topology: SharedTopology) -> list[tuple[str, int]]:
    """Return CA and number of every CRL that was ever published, in order."""

    async def read() -> list[tuple[str, int]]:
        from node_agent.functions.change_payloads import CrlPayload, decode

        async with open_store(topology.ca.settings["store_url"]) as store:
            entries = await store.changes(0, limit=100_000)
        found = []
        for entry in entries:
            if entry.kind == "crl":
                payload = decode(entry.kind, entry.payload)
                assert isinstance(payload, CrlPayload)
                found.append((entry.authority_id, payload.number))
        return found

    return asyncio.run(read())


def assert_crl_numbers_only_grow(topology: SharedTopology) -> None:
    by_authority: dict[str, list[int]] = {}
    for authority, number in crl_numbers(topology):
        by_authority.setdefault(authority, []).append(number)
    assert by_authority
    for numbers in by_authority.values():
        assert numbers == sorted(set(numbers))


def test_both_nodes_are_the_same_ca_and_one_of_them_publishes(
    shared: SharedTopology, tmp_path: Path
) -> None:
    answers = [shared.rest().enroll(make_csr(tmp_path, f"{n}.both.example.org")) for n in range(6)]
    assert {status for status, _ in answers} <= {200, 201}
    lists = [
        agent.admin.get("/v1/certificates?authority=issuing&limit=100")
        for agent in shared.authorities
    ]
    assert lists[0] == lists[1]
    states = [
        agent.admin.state("certification_authorities", "issuing")["certificate"]
        for agent in shared.authorities
    ]
    assert states[0] == states[1]
    assert sorted(shared.publisher_states().values()) == ["standby", "up"]
    own = [
        agent.admin.state("authenticators", "peer")["public_key_sha256"]
        for agent in shared.authorities
    ]
    assert own[0] != own[1]


def test_a_role_that_is_changed_at_one_node_counts_at_the_other(shared: SharedTopology) -> None:
    path = "/v1/objects/peer_roles/registration"
    role = shared.ca.admin.get(path)["spec"]
    shared.ca.admin.put(path, {**role, "members": []})
    try:
        wait_until(
            lambda: links_to(shared.ca2, "ra1")["state"] != "up",
            timeout_seconds=2,
            what="ca2's link to ra1 is closed",
        )
        assert shared.ca2.admin.get(path)["spec"]["members"] == []
    finally:
        shared.ca2.admin.put(path, role)
        shared.wait_healthy()
    assert shared.ca.admin.get(path)["spec"] == role


def test_plans_made_at_both_nodes_at_once_are_made_one_after_the_other(
    shared: SharedTopology,
) -> None:
    def add(number: int) -> None:
        agent = shared.authorities[number % 2]
        agent.admin.put(
            f"/v1/objects/peer_roles/extra-{number}", {"name": f"extra-{number}", "members": []}
        )

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(add, range(12)))
    names = {f"extra-{number}" for number in range(12)}

    def has_all(agent: Agent) -> bool:
        return names <= {item["spec"]["name"] for item in agent.admin.get("/v1/objects/peer_roles")}

    wait_until(lambda: all(map(has_all, shared.authorities)), timeout_seconds=15, what="all roles")
    specs = [
        [item["spec"] for item in agent.admin.get("/v1/objects/peer_roles")]
        for agent in shared.authorities
    ]
    assert specs[0] == specs[1]


def test_a_revocation_at_one_node_is_on_every_crl_and_in_every_answer(
    shared: SharedTopology, tmp_path: Path
) -> None:
    issued = [
        shared.rest().enroll(make_csr(tmp_path, f"{n}.revoked.example.org"))[1] for n in range(8)
    ]

    def revoke(number: int) -> None:
        agent = shared.authorities[number % 2]
        serial = issued[number]["serial"]
        agent.admin.post(f"/v1/certificates/issuing/{serial}/revocation", {"reason": "superseded"})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(revoke, range(8)))

    def all_listed() -> bool:
        states = [
            agent.admin.state("certification_authorities", "issuing")["crl_number"]
            for agent in shared.authorities
        ]
        return states[0] == states[1] and all(
            ocsp_of(shared, shared.ca2, tmp_path, item["certificate"]) == "revoked"
            for item in issued
        )

    wait_until(all_listed, timeout_seconds=20, what="all are revoked everywhere")
    assert_crl_numbers_only_grow(shared)


def test_no_node_opens_the_keys_of_another(shared: SharedTopology) -> None:
    async def keys(owner: str) -> dict[tuple[str, str], Any]:
        store = open_store(shared.ca.settings["store_url"], owner=Ownership(node=owner))
        async with store:
            return {(key.node, key.label): key for key in await store.keys()}

    def opens(passphrase: Path, record: Any) -> bool:
        secret = passphrase.read_bytes().strip()
        token = SoftToken("default", secret, records=[record], node=record.node)
        try:
            token.verify()
        except TokenError:
            return False
        return True

    of_ca1, of_ca2 = asyncio.run(keys("ca1")), asyncio.run(keys("ca2"))
    own = of_ca1["ca1", "authenticator-peer"]
    assert not any(node == "ca1" for node, _ in of_ca2)
    assert opens(shared.ca.directory / "passphrase", own)
    assert not opens(shared.ca2.directory / "passphrase", own)
    assert not opens(shared.shared_passphrase, own)
    common = of_ca2["", "authority-issuing"]
    assert common == of_ca1["", "authority-issuing"]
    assert opens(shared.shared_passphrase, common)
    assert not opens(shared.ca.directory / "passphrase", common)


@pytest.mark.parametrize(
    ("shared_passphrase", "message"),
    [
        (None, "share this store"),
        ("another passphrase of the tests", "this node's shared passphrase opens none of the keys"),
    ],
)
def test_a_node_without_the_shared_passphrase_does_not_start(
    shared: SharedTopology, tmp_path: Path, shared_passphrase: str | None, message: str
) -> None:
    from tests.support.agents import Agent

    settings = shared.sharing(shared.ca.settings["store_url"])
    del settings["shared_passphrase_file"]
    if shared_passphrase is not None:
        path = tmp_path / "other"
        path.touch(mode=0o600)
        path.write_text(shared_passphrase)
        settings["shared_passphrase_file"] = str(path)
    stranger = Agent(tmp_path / "ca3", "ca3", settings=settings)
    stranger.launch()
    wait_until(lambda: not stranger.running.is_running, timeout_seconds=45, what="it ends")
    assert message in stranger.log_path.read_text()


class Client(StubbornClient):
    """One of many under load, with a name of its own."""

    def __init__(self, topology: SharedTopology, number: int) -> None:
        self.name = f"{number}{CLIENTS_DOMAIN}"
        csr = pem("CERTIFICATE REQUEST", csr_der(names=[f"dns:{self.name}"]))
        super().__init__(topology, csr)


def issued_names(agent: Agent) -> list[str]:
    """Return the names in the certificates that clients were issued, sorted."""
    found = agent.admin.get("/v1/certificates?authority=issuing&limit=1000")
    names = (item["names"][0] for item in found if item["profile"] == "server")
    return sorted(name for name in names if name.endswith(CLIENTS_DOMAIN))


def test_a_ca_that_is_killed_under_load_costs_nobody_a_certificate(
    shared: SharedTopology, tmp_path: Path
) -> None:
    states = shared.publisher_states()
    victim, survivor = sorted(shared.authorities, key=lambda ca: states[ca.name] != "up")
    clients = [Client(shared, number) for number in range(CLIENTS)]
    begun = threading.Semaphore(0)

    def work(client: Client) -> None:
        client.enroll()
        # Asked again, it must be the same one.
        client.enroll()
        begun.release()

    with ThreadPoolExecutor(_WORKERS) as pool:
        running = [pool.submit(work, client) for client in clients]
        for _ in range(CLIENTS // 5):
            assert begun.acquire(timeout=60)
        victim.kill()
        for future in running:
            future.result()
    assert [len(client.certificates) for client in clients] == [1] * CLIENTS
    assert issued_names(survivor) == sorted(client.name for client in clients)
    last = next(iter(clients[-1].certificates))
    wait_until(
        lambda: ocsp_of(shared, survivor, tmp_path, last) == "good",
        timeout_seconds=20,
        what="the survivor has published",
    )
    assert shared.publisher_states() == {survivor.name: "up"}
    shared.start_agent(victim)
    shared.wait_healthy()
    wait_until(
        lambda: shared.publisher_states() == {survivor.name: "up", victim.name: "standby"},
        what="the node that came back stands by",
    )
    assert_crl_numbers_only_grow(shared)
    assert survivor.admin.post("/v1/audit/verify")["ok"]


def test_a_revocation_whose_node_dies_is_on_a_crl_of_the_other(
    shared: SharedTopology, tmp_path: Path
) -> None:
    issued = shared.rest().enroll(make_csr(tmp_path))[1]
    before = shared.ca2.admin.state("certification_authorities", "issuing")["crl_number"]
    path = f"/v1/certificates/issuing/{issued['serial']}/revocation"
    shared.ca.admin.post(path, {"reason": "superseded"})
    shared.ca.kill()
    wait_until(
        lambda: (
            shared.ca2.admin.state("certification_authorities", "issuing")["crl_number"] > before
        ),
        timeout_seconds=20,
        what="a CRL with the revocation",
    )
    assert_crl_numbers_only_grow(shared)
    shared.start_agent(shared.ca)
    shared.wait_healthy()


def test_a_revoked_authenticator_loses_its_links_at_both_nodes(shared: SharedTopology) -> None:
    stranger = shared.va.admin.state("authenticators", "peer")["certificate"]["serial"]
    shared.ca2.admin.post(
        f"/v1/certificates/management/{stranger}/revocation", {"reason": "superseded"}
    )
    for agent in shared.authorities:
        wait_until(
            lambda agent=agent: links_to(agent, "va1")["state"] != "up",  # type: ignore[misc]
            timeout_seconds=5,
            what=f"{agent.name}'s link to va1 is closed",
        )
        assert "revoked" in links_to(agent, "va1")["last_error"]


def test_a_database_that_was_away_costs_nobody_a_certificate(tmp_path: Path) -> None:
    require_postgres()
    cluster = PostgresCluster(durable=True)
    cluster.start()
    try:
        with cluster.database() as url:
            nodes = SharedTopology(tmp_path / "nodes", url)
            nodes.ra.module = "tests.support.short_patience"
            with nodes as topology:
                cluster.stop()
                client = Client(topology, 1)
                worker = threading.Thread(target=client.enroll, daemon=True)
                worker.start()
                wait_until(lambda: client.failures, timeout_seconds=60, what="a refusal")
                assert client.failures[0]["status"] in (503, 504)
                cluster.start()
                worker.join(90)
                assert len(client.certificates) == 1
                topology.wait_healthy()
                assert issued_names(topology.ca2) == [client.name]
                topology.stop()
    finally:
        cluster.remove()
