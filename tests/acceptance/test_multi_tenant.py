"""A tenant is added under the load of another, neither sees the other, and one is taken over."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from tests.acceptance.deployment import ROOT, Deployment
from tests.acceptance.enrolment_load import EnrolmentLoad
from tests.acceptance.requester import Requester, signing_request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FIRST, ADDED = "alpha", "beta"
RUNNING = ("ca1", "proxy1", "va1", "ra-alpha")
CHANGED = re.compile(r"^([\w-]+) +: ok=\d+ +changed=(\d+)", re.MULTILINE)
# Each test goes on where the one before it ended, as an operator would.
PLAY_SECONDS = 180


@pytest.fixture
def play(deployment: Deployment) -> Callable[..., tuple[int, str]]:
    """Run a shipped playbook; return its status and what it says."""

    def run(playbook: str, **variables: str) -> tuple[int, str]:
        options = [f"--extra-vars={name}={value}" for name, value in variables.items()]
        done = subprocess.run(
            [*deployment.play(playbook), *options],
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PLAY_SECONDS,
            check=False,
        )
        return done.returncode, done.stdout

    return run


@pytest.fixture
def beside(deployment: Deployment) -> Iterator[EnrolmentLoad]:
    """The first tenant's requesters, at work until the end; none of them is ever told no."""
    traffic = EnrolmentLoad(
        [url_of(deployment, FIRST)],
        token=token_of(deployment, FIRST),
        trust_anchors=deployment.trust_anchors(f"ra-{FIRST}"),
        label=uuid4().hex[:12],
        authority=FIRST,
        profile=f"{FIRST}_server",
        parallel=2,
    )
    with traffic:
        traffic.wait_for(10, seconds=60)
        yield traffic
        traffic.wait_for(len(traffic.done) + 10, seconds=60)
    assert not traffic.failures
    assert {one.attempts for one in traffic.done} == {1}
    print(f"{FIRST} enrolled {len(traffic.done)} times beside it, each at the first attempt")


def url_of(deployment: Deployment, tenant: str) -> str:
    return str(deployment.variables[f"ra-{tenant}"]["registration_authority_url"])


def token_of(deployment: Deployment, tenant: str) -> str:
    return str(deployment.variables[f"ra-{tenant}"]["verification_token"])


def changes(said: str) -> dict[str, int]:
    return {name: int(count) for name, count in CHANGED.findall(said)}


def processes(deployment: Deployment) -> dict[str, str]:
    """Return the process number of each agent that ran before."""
    show = "systemctl show --property=MainPID --value peersys"
    return {name: deployment.host(name).check_output(show) for name in RUNNING}


def links_at(deployment: Deployment) -> set[str]:
    """Return both ends of each link that the proxy has."""
    listed = deployment.host("proxy1").check_output("ss -Htn state established '( sport = :7443 )'")
    return {" ".join(line.split()[-2:]) for line in listed.splitlines()}


def file_of(deployment: Deployment, tenant: str) -> Path:
    return deployment.inventory / f"tenants/{tenant}.yml"


def test_a_tenant_that_clashes_is_refused_with_file_and_line(
    deployment: Deployment, play: Callable[..., tuple[int, str]]
) -> None:
    shipped = (ROOT / f"inventories/multi_tenant/tenants/{ADDED}.yml").read_text(encoding="utf-8")
    own = file_of(deployment, ADDED)
    own.write_text(shipped.replace(f"ra-{ADDED}:", f"ra-{FIRST}:"), encoding="utf-8")
    try:
        status, said = play("add_tenant.yml", tenant=ADDED)
    finally:
        own.unlink()
    assert status != 0
    told = " ".join(said.split())
    assert f"{ADDED}.yml:14: nodes.ra-{FIRST}: ra-{FIRST} is written already at " in told, told
    status, said = play("add_tenant.yml", tenant=ADDED)
    assert status != 0
    assert f"has no tenant {ADDED}. Write tenants/{ADDED}.yml" in " ".join(said.split())


@pytest.mark.usefixtures("beside")
def test_a_tenant_is_added_under_load_and_nothing_restarts_or_breaks(
    deployment: Deployment, play: Callable[..., tuple[int, str]]
) -> None:
    agents, links = processes(deployment), links_at(deployment)
    assert links
    shutil.copy(ROOT / f"inventories/multi_tenant/tenants/{ADDED}.yml", file_of(deployment, ADDED))
    began = time.monotonic()
    status, said = play("add_tenant.yml", tenant=ADDED)
    assert status == 0, said
    print(f"{ADDED} was added in {time.monotonic() - began:.0f} s")
    assert processes(deployment) == agents
    assert links <= links_at(deployment)
    status, said = play("add_tenant.yml", tenant=ADDED)
    assert status == 0, said
    assert set(changes(said).values()) == {0}, said


class Asker:
    """Asks one RA, and takes whatever it says."""

    def __init__(self, deployment: Deployment, tenant: str) -> None:
        self._url = urlsplit(url_of(deployment, tenant))
        self._anchors = deployment.trust_anchors(f"ra-{tenant}")
        self.token = token_of(deployment, tenant)

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
        """Return status and document, without what differs in every answer."""
        assert self._url.hostname is not None
        connection = http.client.HTTPSConnection(
            self._url.hostname,
            self._url.port,
            timeout=10,
            context=ssl.create_default_context(cadata=self._anchors),
        )
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        with closing(connection):
            connection.request(method, path, json.dumps(body) if body else None, headers)
            answer = connection.getresponse()
            document = json.loads(answer.read())
        return answer.status, {k: v for k, v in document.items() if k != "request_id"}


def test_tenants_do_not_see_each_other() -> None:
    """What is another tenant's, and what nobody has, get the same answers."""
    deployment = Deployment.from_environment()
    first, added = Asker(deployment, FIRST), Asker(deployment, ADDED)
    order = {"authority": FIRST, "profile": f"{FIRST}_server", "csr": signing_request("a.test")}
    status, issued = first.ask("POST", "/v1/certificates", order)
    assert status == 201, issued
    status, own = added.ask("GET", "/v1/catalogue")
    assert status == 200
    assert [one["name"] for one in own["authorities"]] == [ADDED]
    serial = issued["serial"]
    for method, path, body in (
        ("POST", "/v1/certificates", order),
        ("GET", f"/v1/certificates/{FIRST}/{serial}", None),
        ("GET", f"/v1/certificates?authority={FIRST}", None),
        ("POST", f"/v1/certificates/{FIRST}/{serial}/revocation", {"reason": "superseded"}),
    ):
        there = added.ask(method, path, body)
        nowhere = {**body, "authority": "none"} if body is order else body
        # The RA has no CA above that serves either; it may repeat what it was asked for.
        status, said = added.ask(method, path.replace(FIRST, "none"), nowhere)
        assert status in (403, 503)
        assert there == (status, json.loads(json.dumps(said).replace("none", FIRST)))
    added.token = first.token
    assert added.ask("GET", "/v1/catalogue")[0] == 401


def test_a_taken_over_ra_is_out_within_a_second_and_the_other_tenant_goes_on(
    beside: EnrolmentLoad, play: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    deployment = Deployment.from_environment()
    victim, file = f"ra-{ADDED}", tmp_path / "isolation.json"
    enrolled = enrol_at_added(deployment)
    began, before = time.monotonic(), len(beside.done)
    options = {"isolation_node": victim, "isolation_report_file": str(file)}
    status, said = play("isolate.yml", **options)
    assert status == 0, said
    print(f"isolated in {time.monotonic() - began:.0f} s")
    report = json.loads(file.read_text(encoding="utf-8"))
    assert report["firewalled"] is True
    assert set(report["nodes"]) == {*RUNNING}
    for name, told in report["nodes"].items():
        assert told["links_closed"], name
        assert told["closed_after_seconds"] <= 1.0, name
        print(f"{name} closed its links with {victim} in {told['closed_after_seconds']:.2f} s")
    assert report["nodes"]["ca1"]["certificates"][0]["authority"] == "management"
    asked = [one for one in report["nodes"]["ca1"]["asked"] if one["action"] == "ra.enroll"]
    assert enrolled in {one["detail"].get("serial") for one in asked}
    assert "proxy1    closed in " in said
    victims = str(deployment.variables[victim]["ansible_host"])
    assert not {line for line in links_at(deployment) if victims in line}
    assert len(beside.done) > before
    # SSH from the controller is what is left of it, in both directions.
    assert not reaches(victims, 8443)
    outwards = "timeout 3 bash -c '</dev/tcp/{}/7443'"
    proxy = deployment.variables["proxy1"]["ansible_host"]
    assert deployment.host(victim).run(outwards.format(proxy)).rc != 0
    status, said = play("isolate.yml", **options)
    assert status == 0, said
    assert set(changes(said).values()) == {0}, said


def test_an_isolated_host_is_not_opened_by_laying_out_again(
    play: Callable[..., tuple[int, str]],
) -> None:
    status, said = play("site.yml")
    assert status != 0
    assert "was taken over, and is isolated" in " ".join(said.split())


def enrol_at_added(deployment: Deployment) -> str:
    """Return the serial number of a new certificate of the added tenant."""
    anchors = deployment.trust_anchors(f"ra-{ADDED}")
    asker = Requester([url_of(deployment, ADDED)], token_of(deployment, ADDED), anchors)
    with closing(asker):
        deadline = time.monotonic() + 30
        profile = f"{ADDED}_server"
        return asker.enrol(
            "b.example.org", authority=ADDED, profile=profile, deadline=deadline
        ).serial


def reaches(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=2):
            return True
    except OSError:
        return False
