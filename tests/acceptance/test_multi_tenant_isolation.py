"""A tenant's RA is taken over, then the proxy of all: each is out at once, and given back.

Each test goes on where the one before it ended.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.x509.ocsp import OCSPCertStatus

from tests.acceptance.deployment import Deployment
from tests.acceptance.dial import met_by_client, met_by_host, met_by_neighbour
from tests.acceptance.reader import ISOLATION_PAGE, Reader, commands_of
from tests.acceptance.requester import WORTH_A_RETRY, Requester, signing_request
from tests.acceptance.status import issuer_of, status_of
from tests.acceptance.tenants import (
    ADDED,
    FIRST,
    PROXY,
    SECOND,
    Asker,
    changes,
    links_at_proxy,
    play,
    requesters_of,
    token_of,
    url_of,
)
from tools.test_hosts import lab

if TYPE_CHECKING:
    from pathlib import Path

# The page takes this one for an example.
VICTIM = f"ra-{SECOND}"
CA, VA = "ca1", "va1"
OTHERS = (f"ra-{FIRST}", f"ra-{ADDED}")
SSH, PEER, REST = 22, 7443, 8443
CLOSED_SECONDS = 1.0
ANSWERS_WITHOUT_PROXY = (
    "urn:peersys:problem:unavailable",
    "urn:peersys:problem:deadline-exceeded",
)
PUBLISHED_SECONDS = 10
LOOK_SECONDS = 0.05


@pytest.fixture
def laid_out() -> Deployment:
    """Return the deployment with the tenant that was added."""
    return Deployment.from_environment()


def enrol(deployment: Deployment, tenant: str, name: str) -> str:
    """Return the serial number of a tenant's new certificate."""
    anchors = deployment.trust_anchors(f"ra-{tenant}")
    asker = Requester([url_of(deployment, tenant)], token_of(deployment, tenant), anchors)
    deadline, profile = time.monotonic() + 30, f"{tenant}_server"
    with closing(asker):
        return asker.enrol(name, authority=tenant, profile=profile, deadline=deadline).serial


def read_report(file: Path, nodes: set[str]) -> dict[str, Any]:
    """Return what isolating told, of these nodes: each has closed its links in time."""
    report: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    assert report["firewalled"] is True
    assert set(report["nodes"]) == nodes
    for name, told in report["nodes"].items():
        assert told["links_closed"], name
        assert told["closed_after_seconds"] <= CLOSED_SECONDS, name
        print(f"{name} was without {report['node']} after {told['closed_after_seconds']:.2f} s")
    # Its authenticator: the Management CA's node revoked it.
    revoked = report["nodes"][CA]["certificates"]
    assert {one["authority"] for one in revoked} == {"management"}
    return report


def decision_over_proxy(deployment: Deployment) -> dict[str, Any]:
    """Return what the CA would say to a tenant's RA that asks through the proxy."""
    asked = (f"ra-{FIRST}", "ra.enroll", "--via", PROXY, "--authority", FIRST)
    granted: dict[str, Any] = deployment.agent(
        CA, "role", "explain", *asked, "--profile", f"{FIRST}_server", "--protocol", "rest"
    )
    return granted


def assert_denied_everything(deployment: Deployment, name: str, victim: str) -> None:
    """A node has the role that takes all of the victim's rights, whatever other roles grant."""
    role = deployment.agent(name, "role", "show", f"isolated-{victim}")["spec"]
    identity = f"spiffe://{deployment.variables[victim]['node_trust_domain']}/node/{victim}"
    assert role["members"] == [identity], name
    assert [(one["resource"], one["effect"]) for one in role["rules"]] == [("/**", "deny")], name


def test_a_taken_over_ra_is_out_within_a_second_as_the_page_says(
    laid_out: Deployment, tmp_path: Path
) -> None:
    file, reader = tmp_path / "isolation.json", Reader(laid_out)
    reader.sets("isolation_report_file", str(file))
    enrolled = enrol(laid_out, SECOND, "taken-over.example.org")
    with requesters_of(laid_out, FIRST) as beside:
        before, began = len(beside.done), time.monotonic()
        said = reader.types(commands_of(ISOLATION_PAGE)[0])
        print(f"isolated in {time.monotonic() - began:.0f} s")
        assert len(beside.done) > before
    report = read_report(file, {CA, PROXY, VA, *OTHERS})
    asked = [one for one in report["nodes"][CA]["asked"] if one["action"] == "ra.enroll"]
    assert enrolled in {one["detail"].get("serial") for one in asked}
    assert f"{PROXY}    closed in " in said
    victims = str(laid_out.variables[VICTIM]["ansible_host"])
    assert not {line for line in links_at_proxy(laid_out) if victims in line}
    # SSH from the controller is what is left of it, in both directions.
    assert met_by_client(laid_out, VICTIM, REST) == "silent"
    assert met_by_neighbour(laid_out, VICTIM, SSH) == "open"
    assert met_by_host(laid_out, VICTIM, PROXY, PEER) != "open"
    status, said = play(laid_out, "isolate.yml", isolation_node=VICTIM)
    assert status == 0, said
    assert set(changes(said).values()) == {0}, said


def test_an_isolated_host_is_not_opened_by_laying_out_again(laid_out: Deployment) -> None:
    status, said = play(laid_out, "site.yml")
    assert status != 0
    assert "was taken over, and is isolated" in " ".join(said.split())


@pytest.mark.timeout(600)
def test_an_ra_is_given_back_as_the_page_says(laid_out: Deployment) -> None:
    give_back(laid_out, VICTIM)


def test_a_taken_over_proxy_is_out_within_a_second_and_tenants_are_told(
    laid_out: Deployment, tmp_path: Path
) -> None:
    file = tmp_path / "isolation.json"
    known = enrol(laid_out, FIRST, "known.example.org")
    assert decision_over_proxy(laid_out)["allowed"] is True
    options = {"isolation_node": PROXY, "isolation_report_file": str(file)}
    status, said = play(laid_out, "isolate.yml", **options)
    assert status == 0, said
    with ThreadPoolExecutor() as pool:
        # Each RA waits whether there is a link again; what follows needn't wait for them.
        told = [pool.submit(ask_in_vain, laid_out, tenant) for tenant in (FIRST, SECOND, ADDED)]
        report = read_report(file, {CA, VA, *(f"ra-{one}" for one in (FIRST, SECOND, ADDED))})
        for name in report["nodes"]:
            assert f"{name} " in said
            assert_denied_everything(laid_out, name, PROXY)
        assert decision_over_proxy(laid_out)["allowed"] is False
        # It passed on what the tenants asked for.
        assert known in json.dumps(report["nodes"][CA]["asked"])
        assert links_at_proxy(laid_out) == set()
        assert met_by_neighbour(laid_out, PROXY, SSH) == "open"
        assert met_by_neighbour(laid_out, PROXY, PEER) == "silent"
        assert met_by_host(laid_out, PROXY, f"ra-{FIRST}", REST) != "open"
        assert_the_rest_works(laid_out, known)
        status, said = play(laid_out, "isolate.yml", **options)
        assert status == 0, said
        assert set(changes(said).values()) == {0}, said
    for answer in told:
        status, problem = answer.result()
        # No link came in time: to be asked again with the same id, as the remedy says.
        assert status in WORTH_A_RETRY, problem
        assert problem["type"] in ANSWERS_WITHOUT_PROXY, problem
        assert "same request id" in problem["remedy"], problem


def ask_in_vain(deployment: Deployment, tenant: str) -> tuple[int, dict[str, Any]]:
    csr = signing_request("nobody.example.org")
    order = {"authority": tenant, "profile": f"{tenant}_server", "csr": csr}
    return Asker(deployment, tenant).ask("POST", "/v1/certificates", order)


def assert_the_rest_works(deployment: Deployment, serial: str) -> None:
    """What the CA revokes, the VA says: neither needs the proxy."""
    va = f"http://{deployment.variables[VA]['ansible_host']}"
    issuer = issuer_of(va, FIRST)
    assert status_of(va, serial, issuer) is OCSPCertStatus.GOOD
    deployment.agent(CA, "certificate", "revoke", FIRST, serial)
    deadline = time.monotonic() + PUBLISHED_SECONDS
    while status_of(va, serial, issuer) is not OCSPCertStatus.REVOKED:
        assert time.monotonic() < deadline, f"good still after {PUBLISHED_SECONDS} s"
        time.sleep(LOOK_SECONDS)
    assert deployment.agent(VA, "status")["health"] == "ok"


@pytest.mark.timeout(600)
def test_a_proxy_is_given_back_and_serves_every_tenant(laid_out: Deployment) -> None:
    give_back(laid_out, PROXY)


def give_back(deployment: Deployment, name: str) -> None:
    """Make a host anew and type what the page says then; every tenant is served afterwards."""
    reader, (_, *commands) = Reader(deployment), commands_of(ISOLATION_PAGE)
    reader.hang_up()
    lab.reset([name], deployment.places)
    for text in commands:
        began = time.monotonic()
        # The page gives back the RA; another node by the same commands, but for its name.
        reader.types(text.replace(VICTIM, name))
        print(f"{time.monotonic() - began:4.0f} s  {text}")
    for tenant in (FIRST, SECOND, ADDED):
        assert enrol(deployment, tenant, "given-back.example.org"), tenant
