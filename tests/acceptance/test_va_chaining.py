"""A VA feeds two others, with a cache in front: what clients get, how soon, and no more."""

from __future__ import annotations

import re
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.x509.ocsp import OCSPCertStatus

from tests.acceptance.deployment import AUTHORITY, PROFILE
from tests.acceptance.dial import met_by_client, met_by_host, met_by_neighbour
from tests.acceptance.status import issuer_of, status_of
from tests.support.openssl import CertificateFiles, openssl
from tools.test_hosts import lab

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.acceptance.deployment import Deployment
    from tests.acceptance.requester import Enrolment, Requester

CA, FEEDER, FIRST, SECOND, CACHE = "ca1", "va1", "va-exposed1", "va-exposed2", "cache1"
CUT = ("service", "exposed")
SSH, CACHE_PORT, PEER_PORT, STATUS_PORT = 22, 80, 7443, 8080
# docs/reference/status.md and the role's page: nginx counts whole seconds.
SEEN_SECONDS = 2.0
# From the CA over one VA to another one.
PASSED_ON_SECONDS = 1.0
# DESIGN.md, "Bars": links and queued work flow again.
FLOWS_AGAIN_SECONDS = 2.0
KNOWN_SECONDS = 20
ANSWER_SECONDS = 3
# Between two looks.
LOOK_SECONDS = 0.02
# From 0 (safe) to 10, as systemd counts.
MAX_EXPOSURE = 1.5
UNIT = "peersys-status-cache"


@pytest.fixture
def cache(deployment: Deployment) -> str:
    """Return where clients ask."""
    return f"http://{deployment.variables[CACHE]['ansible_host']}"


def enrol(requester: Requester) -> Enrolment:
    deadline = time.monotonic() + 30
    name = f"{uuid4().hex}.example.org"
    return requester.enrol(name, authority=AUTHORITY, profile=PROFILE, deadline=deadline)


def wait_for(is_so: Callable[[], bool], what: str, seconds: float = KNOWN_SECONDS) -> float:
    """Return after how many seconds it was so."""
    began = time.monotonic()
    while not is_so():
        assert time.monotonic() < began + seconds, f"not {what} after {seconds} s"
        time.sleep(LOOK_SECONDS)
    return time.monotonic() - began


def files_of(deployment: Deployment, directory: Path, certificate: str) -> CertificateFiles:
    """Return what openssl judges by. Root and issuer are the CA's own words, not a VA's."""
    issuer, root = (
        deployment.agent(CA, "ca", "show", name)["state"]["certificate"]
        for name in (AUTHORITY, "root")
    )
    return CertificateFiles(directory, certificate, issuer, root)


def test_openssl_takes_what_the_cache_says_from_good_to_revoked(
    deployment: Deployment, requester: Requester, cache: str, tmp_path: Path
) -> None:
    enrolled = enrol(requester)
    address, issuer = cache.removeprefix("http://"), issuer_of(cache, AUTHORITY)
    wait_for(lambda: status_of(cache, enrolled.serial, issuer) is OCSPCertStatus.GOOD, "good")
    files = files_of(deployment, tmp_path, enrolled.certificate)
    named = openssl("x509", "-in", files.certificate, "-noout", "-ocsp_uri").strip()
    assert named.startswith(cache), "certificates name another place than the cache"
    assert files.ocsp(address, "-no_nonce") == "good"
    assert files.verify(address).strip() == f"{files.certificate}: OK"
    requester.revoke(AUTHORITY, enrolled.serial)
    seconds = wait_for(
        lambda: status_of(cache, enrolled.serial, issuer) is OCSPCertStatus.REVOKED, "revoked"
    )
    assert files.ocsp(address, "-no_nonce") == "revoked"
    print(f"revoked over two VAs and through the cache after {seconds:.2f} s")
    assert seconds <= PASSED_ON_SECONDS + SEEN_SECONDS


def test_a_crl_is_kept_by_the_cache_and_not_sent_twice(cache: str) -> None:
    issuer = issuer_of(cache, AUTHORITY)
    with urllib.request.urlopen(f"{cache}/crl/{AUTHORITY}.crl", timeout=ANSWER_SECONDS) as answer:
        first, crl = answer.headers, answer.read()
    assert x509.load_der_x509_crl(crl).issuer == issuer.subject
    assert "max-age=" in first["Cache-Control"]
    again = urllib.request.Request(
        f"{cache}/crl/{AUTHORITY}.crl", headers={"If-None-Match": first["ETag"]}
    )
    with pytest.raises(HTTPError) as refused:
        urllib.request.urlopen(again, timeout=ANSWER_SECONDS)
    refused.value.close()
    assert refused.value.code == 304
    wait_for(lambda: kept_by(f"{cache}/crl/{AUTHORITY}.crl") == "peersys; hit", "kept")


def kept_by(url: str) -> str:
    with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as answer:
        return str(answer.headers["Cache-Status"])


def test_nothing_is_open_but_the_cache_to_clients_and_the_vas_to_the_cache(
    deployment: Deployment,
) -> None:
    asked = {CACHE: CACHE_PORT, FIRST: STATUS_PORT, SECOND: STATUS_PORT}
    closed = dict.fromkeys(asked, "silent")

    def met(by: Callable[[Deployment, str, int], str]) -> dict[str, str]:
        # All at once: each silence takes its time.
        with ThreadPoolExecutor() as pool:
            said = pool.map(lambda name: by(deployment, name, asked[name]), asked)
            return dict(zip(asked, said, strict=True))

    assert met(met_by_client) == {**closed, CACHE: "open"}
    assert met(met_by_neighbour) == closed
    assert met_by_neighbour(deployment, CACHE, SSH) == "open"
    for name in (FIRST, SECOND):
        assert met_by_host(deployment, CACHE, name, STATUS_PORT) == "open"
    table = deployment.host(CACHE).check_output("nft --stateless list table inet peersys")
    assert set(re.findall(r"tcp dport (\d+)", table)) == {str(SSH), str(CACHE_PORT)}, table
    assert listening(deployment, CACHE) == {SSH, CACHE_PORT}
    # It feeds others and answers nobody.
    assert listening(deployment, FEEDER) == {SSH, PEER_PORT}


def listening(deployment: Deployment, name: str) -> set[int]:
    sockets = deployment.host(name).socket.get_listening_sockets()
    return {int(one.rpartition(":")[2]) for one in sockets if one.startswith("tcp")}


def test_the_cache_runs_hardened_as_a_user_of_its_own(deployment: Deployment) -> None:
    host = deployment.host(CACHE)
    assert host.service(UNIT).is_running
    assert host.service(UNIT).is_enabled
    assert not host.service("nginx").is_running
    shown = host.check_output(f"systemctl show --property=MainPID --value {UNIT}")
    assert host.process.get(pid=int(shown)).user not in ("root", "www-data")
    said = host.check_output(f"systemd-analyze security --no-pager {UNIT}")
    exposure = re.search(rf"Overall exposure level for {UNIT}\.service: ([0-9.]+)", said)
    assert exposure is not None, said
    assert float(exposure[1]) <= MAX_EXPOSURE


def test_a_cache_whose_port_is_taken_says_so_to_whoever_starts_it(deployment: Deployment) -> None:
    host = deployment.host(CACHE)
    # The service that the package brings.
    host.check_output(f"systemctl stop {UNIT} && systemctl start nginx")
    try:
        assert host.run(f"systemctl start {UNIT}").rc != 0
        said = host.check_output(f"journalctl --no-pager --output=cat --lines=50 --unit={UNIT}")
        assert "Address already in use" in said, said
    finally:
        host.check_output(f"systemctl stop nginx && systemctl restart {UNIT}")


@pytest.mark.usefixtures("healed_after")
def test_vas_behind_another_one_catch_up_after_a_partition(
    deployment: Deployment, requester: Requester, cache: str
) -> None:
    enrolled, issuer = enrol(requester), issuer_of(cache, AUTHORITY)

    def says(wanted: OCSPCertStatus) -> bool:
        return status_of(cache, enrolled.serial, issuer) is wanted

    wait_for(lambda: says(OCSPCertStatus.GOOD), "good")
    lab.cut(CUT, deployment.places)
    requester.revoke(AUTHORITY, enrolled.serial)
    wait_for(lambda: is_revoked_at(deployment, FEEDER, enrolled.serial), "known to the first VA")
    publishers = deployment.agent(FEEDER, "status")["publishers"]
    behind = {one["name"] for one in publishers if one["lag_entries"] > 0}
    assert {FIRST, SECOND} <= behind, publishers
    assert says(OCSPCertStatus.GOOD)
    lab.heal(deployment.places)
    seconds = wait_for(lambda: says(OCSPCertStatus.REVOKED), "revoked")
    print(f"after healing: those who ask the cache know {seconds:.2f} s")
    assert seconds <= FLOWS_AGAIN_SECONDS + SEEN_SECONDS


def is_revoked_at(deployment: Deployment, name: str, serial: str) -> bool:
    """Return whether a node that answers nobody knows of a revocation."""
    known = deployment.agent(name, "certificate", "show", AUTHORITY, serial)
    return bool(known.get("status") == "revoked")


def test_the_cache_asks_the_second_va_while_the_first_is_down(
    deployment: Deployment, requester: Requester, cache: str
) -> None:
    issuer = issuer_of(cache, AUTHORITY)
    host = deployment.host(FIRST)
    host.check_output("systemctl stop peersys")
    try:
        # Nobody asked for it before: no kept answer helps.
        serial = enrol(requester).serial
        wait_for(lambda: status_of(cache, serial, issuer) is OCSPCertStatus.GOOD, "good")
    finally:
        host.check_output("systemctl start peersys")
    wait_for(lambda: deployment.agent(FIRST, "status").get("health") == "ok", "well again", 60)


def test_a_decommissioned_cache_leaves_nothing(deployment: Deployment) -> None:
    """The last of these tests."""
    command = deployment.play("decommission.yml")
    status, said = deployment.run_playbook(command, f"--limit={CACHE}")
    assert status == 0, said
    host = deployment.host(CACHE)
    assert not host.service(UNIT).exists
    for path in (f"/etc/{UNIT}", f"/var/cache/{UNIT}", f"/var/cache/private/{UNIT}"):
        assert not host.file(path).exists, path
    assert listening(deployment, CACHE) == {SSH}
    assert "inet peersys" not in host.check_output("nft list tables")
