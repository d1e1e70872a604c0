"""tenant RA -> proxy -> CA, where everybody dials a proxy and nobody dials a CA or a tenant."""

from __future__ import annotations

import os
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.agents import allow
from tests.support.chains import Chain, role, tenant_rules
from tests.support.openssl import CertificateFiles, make_csr
from tests.support.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.node_process import Agent

pytestmark = pytest.mark.timeout(180)

VIA = {"near": "tester via near via inner", "far": "tester via far via outer via inner"}


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """Two CA nodes behind one proxy, another proxy before that one, a tenant at each."""
    with Chain(
        tmp_path_factory.mktemp("chain"),
        cas={"ca1": ("issuing",), "ca2": ("other",)},
        proxies=["inner", "outer"],
        behind={"near": ("issuing", "other"), "far": ("issuing",)},
        dials=[
            ("ca1", "inner"),
            ("ca2", "inner"),
            ("inner", "outer"),
            ("near", "inner"),
            ("far", "outer"),
        ],
    ) as found:
        yield found


def enrol(chain: Chain, tenant: str, csr: str, **options: Any) -> dict[str, Any]:
    """Return a new certificate, or fail with the problem."""
    status, answer = chain.rest(tenant).enroll(csr, **options)
    assert status in (200, 201), answer
    result: dict[str, Any] = answer
    return result


@pytest.mark.parametrize("tenant", VIA)
def test_an_ra_behind_proxies_can_do_all_that_an_ra_does(
    chain: Chain, tmp_path: Path, tenant: str
) -> None:
    rest, name = chain.rest(tenant), f"{uuid.uuid4().hex}.example.org"
    issued = enrol(chain, tenant, make_csr(tmp_path, name))
    state = chain["ca1"].admin.state("certification_authorities", "issuing")
    files = CertificateFiles(tmp_path, issued["certificate"], state["certificate"], state["root"])
    assert ": OK" in files.verify_chain()

    path = f"/v1/certificates/issuing/{issued['serial']}"
    assert rest.request("GET", path)[1]["status"] == "good"
    page = rest.request("GET", f"/v1/certificates?authority=issuing&name={name}")[1]
    assert [item["serial"] for item in page["certificates"]] == [issued["serial"]]
    assert rest.revoke(issued["serial"], reason="certificateHold")[1]["status"] == "on_hold"
    assert rest.revoke(issued["serial"], reason="removeFromCRL")[1]["status"] == "good"
    assert rest.revoke(issued["serial"])[1]["changed"] is True
    assert rest.request("GET", path)[1]["status"] == "revoked"
    entries = [e for e in chain.audited("ca1") if e["detail"].get("serial") == issued["serial"]]
    assert {entry["chain"] for entry in entries} == {VIA[tenant]}


@pytest.mark.parametrize("tenant", VIA)
def test_the_same_request_id_is_one_certificate(chain: Chain, tmp_path: Path, tenant: str) -> None:
    csr, request_id = make_csr(tmp_path), uuid.uuid4()
    first, again = (enrol(chain, tenant, csr, request_id=request_id) for _ in range(2))
    assert (first["repeated"], again["repeated"]) == (False, True)
    assert again["certificate"] == first["certificate"]


def test_several_cas_are_behind_one_proxy(chain: Chain, tmp_path: Path) -> None:
    issued = enrol(chain, "near", make_csr(tmp_path), authority="other")
    found = chain.rest("near").request("GET", f"/v1/certificates/other/{issued['serial']}")
    assert found[0] == 200
    catalogue = chain.rest("near").request("GET", "/v1/catalogue")[1]["authorities"]
    assert [(item["name"], item["profiles"]) for item in catalogue] == [
        ("issuing", ["server"]),
        ("other", ["server"]),
    ]
    root = chain["ca2"].admin.state("certification_authorities", "other")["root"]
    assert catalogue[1]["chain"].strip().endswith(root.strip())


def test_problems_come_back_as_the_cas(chain: Chain, tmp_path: Path) -> None:
    status, problem = chain.rest("far").enroll(make_csr(tmp_path, "UNDER_SCORE"))
    assert status == 422, problem
    assert problem["remedy"]
    request_id = uuid.uuid4()
    enrol(chain, "far", make_csr(tmp_path, "one.example.org"), request_id=request_id)
    csr = make_csr(tmp_path, "two.example.org")
    assert chain.rest("far").enroll(csr, request_id=request_id)[0] == 409


def test_a_tenant_does_not_learn_of_another_tenants_ca(chain: Chain, tmp_path: Path) -> None:
    """``far`` may use one of the two CAs. Its RA is set up to let its requesters try the other."""
    chain["far"].admin.put(
        "/v1/objects/requesters/tester",
        {
            **chain["far"].admin.get("/v1/objects/requesters/tester")["spec"],
            "rules": allow("/ra/*", "/ca/**", "/profile/**", "/protocol/rest"),
        },
    )
    chain["far"].admin.apply(
        peer_roles=[
            *(item for item in chain.roles_at("far") if item["name"] != "ca1"),
            role("ca1", chain["ca1"], "/peer/incoming", "/peer/upstream", "/ca/**"),
        ]
    )
    csr, rest = make_csr(tmp_path), chain.rest("far")
    for known, unknown in (
        (rest.enroll(csr, authority="other"), rest.enroll(csr, authority="nowhere")),
        (rest.revoke("1", authority="other"), rest.revoke("1", authority="nowhere")),
        *(
            tuple(rest.request("GET", f"/v1/certificates{path}{name}") for name in names)
            for path, names in (
                ("/", ("other/1", "nowhere/1")),
                ("?authority=", ("other", "nowhere")),
            )
        ),
    ):
        assert known == unknown
        assert known[0] == 403
    assert chain.seen_by("far") == ["issuing"]


def test_a_tenant_is_added_to_a_running_proxy_and_no_link_breaks(
    chain: Chain, tmp_path: Path
) -> None:
    sockets = _lasting_sockets(chain["inner"])
    failures: list[Any] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            status, answer = chain.rest("near").request("GET", "/v1/certificates?authority=issuing")
            if status != 200:
                failures.append(answer)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for name in ("inner", "ca1"):
            chain[name].admin.put(
                "/v1/objects/peer_roles/newcomer",
                {
                    "members": ["spiffe://pki.example.org/node/newcomer"],
                    "rules": allow("/peer/incoming", *tenant_rules("issuing")),
                },
            )
    finally:
        done.set()
        asking.join()
    assert failures == []
    assert sockets <= _sockets(chain["inner"])
    enrol(chain, "near", make_csr(tmp_path))


def test_every_log_is_whole_after_all_of_it(chain: Chain) -> None:
    for agent in chain.agents.values():
        assert agent.admin.post("/v1/audit/verify", {})["ok"] is True


def test_without_a_ca_the_proxy_says_so_and_a_loop_of_proxies_ends(tmp_path: Path) -> None:
    """Each proxy takes the other for nearer to the CA, and the CA is gone."""
    with Chain(
        tmp_path / "nodes",
        cas={"ca1": ("issuing",)},
        proxies=["inner", "outer"],
        behind={"near": ("issuing",)},
        dials=[("ca1", "inner"), ("inner", "outer"), ("near", "inner")],
    ) as chain:
        relay = ("/peer/incoming", "/peer/upstream", "/peer/relay", *tenant_rules("issuing"))
        for one, other in (("inner", "outer"), ("outer", "inner")):
            chain[one].admin.apply(peer_roles=[role(other, chain[other], *relay)])
        enrol(chain, "near", make_csr(tmp_path))
        chain["ca1"].stop()
        status, problem = chain.rest("near").enroll(make_csr(tmp_path))
        assert (status, problem["type"]) == (503, "urn:peersys:problem:unavailable")
        assert problem["remedy"]
        (looped,) = (e for e in chain.audited("outer") if e["action"] == "ra.enroll")
        assert looped["chain"] == "tester via near via inner"
        chain["ca1"].start()
        # What it signed about its log when it stopped still holds.
        verified = chain["ca1"].admin.post("/v1/audit/verify", {})
        assert verified["ok"]
        assert verified["checkpoint"] > 0
        wait_until(
            lambda: chain.rest("near").enroll(make_csr(tmp_path))[0] == 201,
            timeout_seconds=15,
            what="requests flow again",
        )


def test_a_tenant_with_two_proxies_does_not_feel_the_loss_of_one(tmp_path: Path) -> None:
    with Chain(
        tmp_path / "nodes",
        cas={"ca1": ("issuing",)},
        proxies=["east", "west"],
        behind={"near": ("issuing",)},
        dials=[("ca1", "east"), ("ca1", "west"), ("near", "east"), ("near", "west")],
    ) as chain:
        csrs = iter([make_csr(tmp_path, f"{number}.example.org") for number in range(12)])
        enrol(chain, "near", next(csrs))
        # One proxy lost its way up and is well otherwise.
        chain["ca1"].admin.delete("/v1/objects/peer_connectors/west")
        for _ in range(3):
            enrol(chain, "near", next(csrs))
        chain["ca1"].admin.put("/v1/objects/peer_connectors/west", chain.connector("ca1", "west"))
        chain.wait_linked()
        # One proxy is dead.
        chain["east"].kill()
        for _ in range(3):
            enrol(chain, "near", next(csrs))
        assert chain.audited("west")[-1]["detail"]["outcome"] == "passed on"
        # Without a role for the CA there is nobody whose answer could be believed.
        chain["near"].admin.delete("/v1/objects/peer_roles/ca1")
        assert chain.rest("near").enroll(next(csrs))[0] == 503


def _sockets(agent: Agent) -> set[str]:
    folder = Path(f"/proc/{agent.running.pid}/fd")
    found = set()
    for entry in folder.iterdir():
        try:
            target = os.readlink(entry)
        except OSError:
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


def _lasting_sockets(agent: Agent) -> set[str]:
    """Return the sockets that are no passing admin connection."""
    first = _sockets(agent)
    agent.admin.get("/v1/health")
    return first & _sockets(agent)
