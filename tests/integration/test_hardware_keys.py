"""A CA and an OCSP signer with their keys in SoftHSM2: used over peer links, judged by OpenSSL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.test_enrolment import enrol, files
from tests.support.agents import AdminError, Topology
from tests.support.openssl import make_csr, openssl
from tests.support.processes import wait_until
from tests.support.softhsm import SoftHsm, make_softhsm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.agents import Agent


def token_spec(hsm: SoftHsm, **changes: Any) -> dict[str, Any]:
    """Return the specification of the token of these tests."""
    return {
        "name": "hsm",
        "kind": "pkcs11",
        "module": hsm.module,
        "token_label": "peersys",
        "pin_file": str(hsm.directory / "pin"),
        **changes,
    }


@pytest.fixture(scope="module")
def hsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftHsm]:
    made = make_softhsm(tmp_path_factory.mktemp("softhsm"))
    made.add_token("peersys")
    made.write_pin()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", made.environment["SOFTHSM2_CONF"])
        yield made


@pytest.fixture(scope="module")
def topology(hsm: SoftHsm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Topology]:
    """Yield ca1, ra1 and va1; the issuing CA's and the signer's keys are in the token."""
    settings = {"pkcs11_modules": [hsm.module, "/nonexistent/module.so"]}
    directory = tmp_path_factory.mktemp("nodes")
    with Topology(directory, settings=settings, crypto_token=token_spec(hsm)) as running:
        yield running


def workers_of(agent: Agent) -> list[int]:
    """Return the process ids of an agent's signing workers."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
            arguments = (status.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == agent.running.pid and b"signing_worker" in arguments:
            found.append(int(status.parent.name))
    return found


def token_of(agent: Agent) -> dict[str, Any]:
    """Return what an agent says of its token."""
    tokens = agent.admin.get("/v1/status")["crypto_tokens"]
    found: dict[str, Any] = next(token for token in tokens if token["name"] == "hsm")
    return found


def peersys(agent: Agent, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "node_agent", "--socket", str(agent.admin.socket_path), *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_certificate_crl_and_ocsp_are_signed_in_the_token(
    topology: Topology, tmp_path: Path
) -> None:
    status = topology.va.listen["status"]
    issued = enrol(topology, make_csr(tmp_path))
    certificate = files(topology, tmp_path, issued["certificate"])
    wait_until(lambda: certificate.ocsp(status) == "good", what="the VA says good")
    assert ": OK" in certificate.verify(status)
    topology.rest().revoke(issued["serial"])
    wait_until(lambda: certificate.ocsp(status) == "revoked", what="OCSP: revoked")
    wait_until(lambda: "revoked" in certificate.verify(status), what="the CRL lists it")
    shown = openssl("x509", "-in", certificate.certificate, "-noout", "-text")
    assert "ecdsa-with-SHA384" in shown
    stored = topology.ca.admin.get("/v1/objects/crypto_tokens/hsm")
    assert stored["state"] == {"keys": ["authority-issuing"], "state": "open", "last_error": None}
    assert token_of(topology.va)["keys"] == 1


def test_worker_that_dies_with_its_session_is_replaced(topology: Topology, tmp_path: Path) -> None:
    victims = workers_of(topology.ca)
    assert victims
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    enrol(topology, make_csr(tmp_path))


def test_token_that_was_away_is_named_and_used_again(
    topology: Topology, hsm: SoftHsm, tmp_path: Path
) -> None:
    away = hsm.directory / "away"
    hsm.tokens.rename(away)
    try:
        code, problem = topology.rest().enroll(make_csr(tmp_path))
        assert code == 503, problem
        assert "hsm" not in str(problem)
        report = topology.ca.admin.get("/v1/status")
        assert report["health"] == "degraded"
        assert any(reason.startswith("crypto token hsm: ") for reason in report["reasons"])
    finally:
        away.rename(hsm.tokens)
    done = peersys(topology.ca, "crypto-token", "open", "hsm")
    assert done.returncode == 0, done.stderr
    enrol(topology, make_csr(tmp_path))
    topology.wait_healthy()
    assert "hsm" in peersys(topology.ca, "crypto-token", "list").stdout


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pin_file": "/nonexistent/pin"}, "/nonexistent/pin"),
        ({"module": "/nonexistent/module.so"}, "/nonexistent/module.so"),
        ({"module": "/usr/lib/other.so"}, "pkcs11_modules"),
        ({"token_label": "nobody"}, "'peersys'"),
    ],
)
def test_token_that_can_not_be_opened_is_not_made(
    topology: Topology, hsm: SoftHsm, changes: dict[str, Any], said: str
) -> None:
    spec = token_spec(hsm, **{"name": "second", **changes})
    with pytest.raises(AdminError) as refused:
        topology.ca.admin.put("/v1/objects/crypto_tokens/second", spec)
    assert said in str(refused.value)
    assert "crypto token 'second'" in str(refused.value)
    names = [item["spec"]["name"] for item in topology.ca.admin.get("/v1/objects/crypto_tokens")]
    assert "second" not in names


def test_wrong_pin_closes_the_token_until_somebody_says_so(
    topology: Topology, hsm: SoftHsm, tmp_path: Path
) -> None:
    hsm.write_pin("not-the-pin")
    for pid in workers_of(topology.ca):
        os.kill(pid, signal.SIGKILL)
    csr = make_csr(tmp_path)
    assert topology.rest().enroll(csr)[0] == 503
    token = token_of(topology.ca)
    assert token["state"] == "closed"
    assert "peersys crypto-token open hsm" in token["last_error"]
    hsm.write_pin()
    assert topology.rest().enroll(csr)[0] == 503
    assert workers_of(topology.ca) == []
    done = peersys(topology.ca, "crypto-token", "open", "hsm")
    assert done.returncode == 0, done.stderr
    enrol(topology, csr)
    topology.wait_healthy()


def test_key_that_a_failed_plan_made_leaves_the_token(topology: Topology, hsm: SoftHsm) -> None:
    before = len(list(hsm.tokens.rglob("*.object")))
    with pytest.raises(AdminError):
        topology.ca.admin.apply(
            certification_authorities=[
                {
                    "name": "new",
                    "kind": "root",
                    "subject": "CN=New",
                    "crypto_token": "hsm",
                },
                {
                    "name": "below",
                    "kind": "issuing",
                    "issuer": "new",
                    "subject": "CN=New",
                    "crypto_token": "hsm",
                },
            ]
        )
    assert len(list(hsm.tokens.rglob("*.object"))) == before


@pytest.mark.parametrize(
    ("kind", "spec", "said"),
    [
        ("authenticators", {"name": "other", "crypto_token": "hsm"}, "soft token"),
        (
            "certification_authorities",
            {
                "name": "pq",
                "kind": "root",
                "subject": "CN=PQ",
                "crypto_token": "hsm",
                "key_kind": "ml-dsa-65",
            },
            "key_kind",
        ),
    ],
)
def test_keys_that_a_token_can_not_hold_are_refused(
    topology: Topology, kind: str, spec: dict[str, Any], said: str
) -> None:
    with pytest.raises(AdminError) as refused:
        topology.ca.admin.apply(**{kind: [spec]})
    assert said in str(refused.value)


def test_pin_is_in_no_log_audit_or_object(topology: Topology, hsm: SoftHsm) -> None:
    pin = (hsm.directory / "pin").read_text().strip()
    for agent in topology.agents:
        assert pin not in agent.log_path.read_text()
        assert pin not in str(agent.admin.get("/v1/node"))
        assert pin not in str(agent.admin.get("/v1/audit?limit=1000"))
        database = agent.directory / "state/store.sqlite3"
        assert pin.encode() not in database.read_bytes()


def test_status_workers_are_given_signatures_of_an_elliptic_curve_in_the_token(
    hsm: SoftHsm, tmp_path: Path
) -> None:
    settings = {"pkcs11_modules": [hsm.module], "workers": 2}
    with Topology(
        tmp_path / "nodes",
        settings=settings,
        crypto_token=token_spec(hsm),
        signer_kind="ec-p256",
    ) as running:
        issued = enrol(running, make_csr(tmp_path))
        certificate = files(running, tmp_path, issued["certificate"])
        status = running.va.listen["status"]
        wait_until(lambda: certificate.ocsp(status) == "good", what="the VA says good")
        assert token_of(running.va)["keys"] == 1
