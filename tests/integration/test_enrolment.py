"""Enrol, ask, revoke: over the RA's REST interface, judged by OpenSSL at the VA."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.admin import AdminError
from tests.support.openssl import CertificateFiles, make_csr, openssl
from tests.support.processes import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.agents import Topology

KEYS = {
    "ec-p256": ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
    "ec-p384": ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"),
    "rsa-2048": ("-newkey", "rsa:2048"),
    "ed25519": ("-newkey", "ed25519"),
}


def enrol(topology: Topology, csr: str, **options: Any) -> dict[str, Any]:
    """Return a new certificate, or fail with the problem."""
    status, answer = topology.rest().enroll(csr, **options)
    assert status in (200, 201), answer
    result: dict[str, Any] = answer
    return result


def files(topology: Topology, directory: Path, certificate: str) -> CertificateFiles:
    """Return the certificate with its chain as openssl wants it."""
    path = "/v1/objects/certification_authorities/issuing"
    state = topology.ca.admin.get(path)["state"]
    return CertificateFiles(directory, certificate, state["certificate"], state["root"])


@pytest.mark.parametrize("kind", KEYS)
def test_a_certificate_lives_from_csr_to_revocation(
    topology: Topology, tmp_path: Path, kind: str
) -> None:
    status = topology.va.listen["status"]
    csr = make_csr(tmp_path, f"{kind}.example.org", algorithm=KEYS[kind])
    issued = enrol(topology, csr)
    certificate = files(topology, tmp_path, issued["certificate"])
    wait_until(lambda: certificate.ocsp(status) == "good", what="the VA says good")
    assert certificate.ocsp(status, "-no_nonce") == "good"
    assert ": OK" in certificate.verify(status)

    code, answer = topology.rest().revoke(issued["serial"])
    assert (code, answer["status"]) == (200, "revoked")
    # The bar: a second. Every ask takes openssl some 50 ms of it.
    wait_until(
        lambda: certificate.ocsp(status) == "revoked", timeout_seconds=1, what="OCSP: revoked"
    )
    assert certificate.ocsp(status, "-no_nonce") == "revoked"
    wait_until(lambda: "revoked" in certificate.verify(status), what="the CRL lists it")


def test_the_same_request_id_returns_the_same_certificate(
    topology: Topology, tmp_path: Path
) -> None:
    csr, request_id = make_csr(tmp_path), uuid.uuid4()
    first = enrol(topology, csr, request_id=request_id)
    again = enrol(topology, csr, request_id=request_id)
    assert (first["repeated"], again["repeated"]) == (False, True)
    assert again["certificate"] == first["certificate"]


def test_the_same_request_id_for_something_else_is_a_conflict(
    topology: Topology, tmp_path: Path
) -> None:
    request_id = uuid.uuid4()
    enrol(topology, make_csr(tmp_path, "one.example.org"), request_id=request_id)
    status, problem = topology.rest().enroll(
        make_csr(tmp_path, "two.example.org"), request_id=request_id
    )
    assert status == 409, problem


def test_one_request_id_sent_many_times_at_once_is_one_certificate(
    topology: Topology, tmp_path: Path
) -> None:
    csr, request_id = make_csr(tmp_path), uuid.uuid4()
    with ThreadPoolExecutor(8) as threads:
        answers = list(
            threads.map(lambda _: enrol(topology, csr, request_id=request_id), range(16))
        )
    assert len({answer["certificate"] for answer in answers}) == 1
    assert sum(not answer["repeated"] for answer in answers) == 1


def test_a_hold_can_be_released_and_a_revocation_can_not(
    topology: Topology, tmp_path: Path
) -> None:
    status = topology.va.listen["status"]
    issued = enrol(topology, make_csr(tmp_path))
    certificate = files(topology, tmp_path, issued["certificate"])
    rest = topology.rest()
    assert rest.revoke(issued["serial"], reason="certificateHold")[1]["status"] == "on_hold"
    wait_until(lambda: certificate.ocsp(status) == "revoked", what="the hold is seen")
    assert rest.revoke(issued["serial"], reason="removeFromCRL")[1]["status"] == "good"
    wait_until(lambda: certificate.ocsp(status) == "good", what="the release is seen")
    assert rest.revoke(issued["serial"])[1]["changed"] is True
    assert rest.revoke(issued["serial"])[1]["changed"] is False
    assert rest.revoke(issued["serial"], reason="removeFromCRL")[0] == 409


def test_status_search_and_catalogue_show_what_was_issued(
    topology: Topology, tmp_path: Path
) -> None:
    name = f"{uuid.uuid4().hex}.example.org"
    issued = enrol(topology, make_csr(tmp_path, name))
    rest = topology.rest()
    code, info = rest.request("GET", f"/v1/certificates/issuing/{issued['serial']}")
    assert (code, info["names"], info["requester"]) == (200, [name], "tester")
    code, page = rest.request("GET", f"/v1/certificates?authority=issuing&name={name}")
    assert [item["serial"] for item in page["certificates"]] == [issued["serial"]]
    code, catalogue = rest.request("GET", "/v1/catalogue")
    assert [(item["name"], item["profiles"]) for item in catalogue["authorities"]] == [
        ("issuing", ["server"])
    ]


def test_search_pages_without_gap_or_repeat(topology: Topology, tmp_path: Path) -> None:
    marker = uuid.uuid4().hex[:12]
    serials = {
        enrol(topology, make_csr(tmp_path, f"{number}.{marker}.example.org"))["serial"]
        for number in range(5)
    }
    found: list[str] = []
    after = ""
    while True:
        path = f"/v1/certificates?authority=issuing&name={marker}&limit=2{after}"
        _, page = topology.rest().request("GET", path)
        found += [item["serial"] for item in page["certificates"]]
        if page.get("next") is None:
            break
        after = f"&after={page['next']}"
    assert sorted(found) == sorted(serials)


BAD_REQUESTS: dict[str, tuple[dict[str, Any], int, str]] = {
    "a CSR that is none": ({"csr": "bm8="}, 422, "csr"),
    "an unknown profile": ({"profile": "nothing"}, 403, ""),
    "an unknown CA": ({"authority": "nothing"}, 403, ""),
    "the Management CA": ({"authority": "management"}, 403, ""),
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_a_bad_request_gets_a_plain_problem_and_leaves_nothing(
    topology: Topology, tmp_path: Path, case: str
) -> None:
    change, expected, field = BAD_REQUESTS[case]
    body = {
        "authority": "issuing",
        "profile": "server",
        "csr": make_csr(tmp_path),
        **change,
    }
    before = topology.ca.admin.get("/v1/certificates")
    status, problem = topology.rest().request("POST", "/v1/certificates", body)
    assert status == expected, problem
    assert problem["detail"]
    assert problem.get("field", "") == field
    assert topology.ca.admin.get("/v1/certificates") == before


def test_a_name_outside_the_profile_is_refused_naming_it(
    topology: Topology, tmp_path: Path
) -> None:
    status, problem = topology.rest().enroll(make_csr(tmp_path, "UNDER_SCORE"))
    assert status == 422, problem
    assert problem["remedy"]


def test_a_weak_key_is_refused(topology: Topology, tmp_path: Path) -> None:
    csr = make_csr(tmp_path, algorithm=("-newkey", "rsa:1024"))
    status, problem = topology.rest().enroll(csr)
    assert status == 422, problem
    assert "1024" in problem["detail"]


def test_without_a_credential_nothing_is_told(topology: Topology) -> None:
    rest = topology.rest()
    wrong = {"Authorization": "Bearer wrong"}
    assert rest.request("GET", "/v1/catalogue", headers=wrong)[0] == 401


UNKNOWN = "there is no CA 'nosuch'; there are: issuing, management, root"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/certificates/nosuch/12"),
        ("POST", "/v1/certificates/nosuch/12/revocation"),
        ("GET", "/v1/crls/nosuch"),
        ("GET", "/v1/approvals?authority=nosuch"),
    ],
)
def test_the_operator_is_told_which_cas_there_are(
    topology: Topology, method: str, path: str
) -> None:
    body = {"reason": "superseded"} if method == "POST" else None
    with pytest.raises(AdminError) as refusal:
        topology.ca.admin.request(method, path, body)
    assert (refusal.value.status, refusal.value.problem["detail"]) == (404, UNKNOWN)


def test_a_requester_can_t_tell_an_absent_ca_from_one_that_isn_t_granted(
    topology: Topology, tmp_path: Path
) -> None:
    csr, rest = make_csr(tmp_path), topology.rest()
    asked = [
        lambda name: rest.enroll(csr, authority=name),
        lambda name: rest.revoke("12", authority=name),
        lambda name: rest.request("GET", f"/v1/certificates/{name}/12"),
    ]
    for ask in asked:
        absent, forbidden = ask("nosuch"), ask("root")
        assert absent == forbidden
        assert absent[0] == 403
        assert "issuing" not in str(absent)


def test_every_certificate_passes_pkilint(topology: Topology, tmp_path: Path) -> None:
    from node_agent.pki.sample_lint import lint_certificate

    issued = enrol(topology, make_csr(tmp_path))
    der = tmp_path / "leaf.der"
    (tmp_path / "leaf.pem").write_text(issued["certificate"])
    openssl("x509", "-in", tmp_path / "leaf.pem", "-outform", "DER", "-out", der)
    assert lint_certificate(der.read_bytes()) == []


def test_the_audit_log_names_requester_and_ra_and_holds(topology: Topology, tmp_path: Path) -> None:
    issued = enrol(topology, make_csr(tmp_path))
    topology.rest().request("GET", "/v1/certificates/management/01")
    entries = topology.ca.admin.get("/v1/audit?limit=10000")
    entry = next(item for item in entries if item["detail"].get("serial") == issued["serial"])
    assert (entry["allowed"], entry["chain"]) == (True, "tester via ra1")
    denied = topology.ra.admin.get("/v1/audit?limit=10000")[-1]
    assert (denied["allowed"], denied["chain"]) == (False, "tester")
    for agent in topology.agents:
        assert agent.admin.post("/v1/audit/verify", {})["ok"] is True
