"""Requests that people approve: real agents, over REST, with a CA that restarts in between."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.agents import AUTHORITY, Topology, allow, requester_rules, server_profile
from tests.support.openssl import make_csr
from tests.support.postgres import postgres_url
from tests.support.processes import wait_until
from tests.support.rest import RestClient
from tests.support.shared_store import SharedTopology

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.agents import Agent

pytestmark = pytest.mark.timeout(180)

PROFILE = "approved"
APPROVERS = ("bob", "carol")
ANYWHERE = ("/ca/issuing", f"/profile/{PROFILE}", "/protocol/rest")


class Desk:
    """A PKI whose profile ``approved`` asks for two approvals; ``tester`` asks."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.tokens = {name: secrets.token_hex(24) for name in APPROVERS}
        self.csr = ""
        self._allow()

    def ask(self, request_id: uuid.UUID) -> tuple[int, Any]:
        return self.topology.rest().enroll(self.csr, profile=PROFILE, request_id=request_id)

    def rest(self, who: str) -> RestClient:
        topology = self.topology
        return RestClient(
            topology.ra.listen["rest"],
            token=self.tokens.get(who, topology.token),
            trust_anchors=topology.trust_anchors,
        )

    def decide(
        self, who: str, approval: str, verdict: str = "approve", **more: str
    ) -> tuple[int, Any]:
        path = f"/v1/approvals/{AUTHORITY}/{approval}/verdict"
        order = {"verdict": verdict, "profile": PROFILE, **more}
        return self.rest(who).request("POST", path, order)

    def open(self, directory: Path) -> tuple[uuid.UUID, str]:
        """Ask for a certificate; return request id and what it waits for."""
        self.csr, request_id = make_csr(directory), uuid.uuid4()
        said: list[tuple[int, Any]] = []

        def is_open() -> bool:
            # The other CA node may hear of profile and role a second later.
            said.append(self.ask(request_id))
            return said[-1][0] == 202

        wait_until(is_open, what=lambda: f"the request is open: {said[-1]}")
        return request_id, said[-1][1]["approval"]

    def waiting(self) -> list[str]:
        status, page = self.rest("bob").request("GET", f"/v1/approvals?authority={AUTHORITY}")
        assert status == 200, page
        return [item["approval"] for item in page["requests"]]

    def issued(self) -> int:
        path = f"/v1/certificates?authority={AUTHORITY}&profile={PROFILE}"
        return len(self.topology.ca.admin.get(path))

    def _allow(self) -> None:
        ca, ra = self.topology.ca.admin, self.topology.ra.admin
        path = f"/v1/objects/certification_authorities/{AUTHORITY}"
        authority = ca.get(path)["spec"]
        ca.apply(
            certificate_profiles=[{**server_profile(), "name": PROFILE, "approvals": 2}],
            certification_authorities=[
                {**authority, "profiles": [*authority["profiles"], PROFILE]}
            ],
        )
        role = ca.get("/v1/objects/peer_roles/registration")["spec"]
        more = allow("/ra/approve", f"/profile/{PROFILE}")
        ca.apply(peer_roles=[{**role, "rules": [*role["rules"], *more]}])
        tester = ra.get("/v1/objects/requesters/tester")["spec"]
        ra.apply(
            requesters=[
                # The requester may approve, too: only never its own.
                {**tester, "rules": [*requester_rules(), *more]},
                *(
                    {
                        "name": name,
                        "token_sha256": hashlib.sha256(token.encode()).hexdigest(),
                        "rules": allow("/ra/approve", *ANYWHERE),
                    }
                    for name, token in self.tokens.items()
                ),
            ]
        )


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def desk(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Desk]:
    """Yield one CA node on SQLite, and two on one PostgreSQL store."""
    directory = tmp_path_factory.mktemp(request.param)
    with contextlib.ExitStack() as stack:
        if request.param == "sqlite":
            yield Desk(stack.enter_context(Topology(directory)))
        else:
            url = stack.enter_context(postgres_url())
            yield Desk(stack.enter_context(SharedTopology(directory, url)))


def nodes(desk: Desk) -> tuple[Agent, ...]:
    topology = desk.topology
    return topology.authorities if isinstance(topology, SharedTopology) else (topology.ca,)


def restart(desk: Desk) -> None:
    """Stop and start the CA: all of its nodes."""
    for agent in nodes(desk):
        agent.stop()
    for agent in nodes(desk):
        desk.topology.start_agent(agent)
    desk.topology.wait_healthy(timeout_seconds=60)


def test_a_request_survives_a_restart_between_approvals_and_is_issued_once(
    desk: Desk, tmp_path: Path
) -> None:
    before = desk.issued()
    request_id, approval = desk.open(tmp_path)
    status, answer = desk.decide("bob", approval)
    assert (status, answer["approvals_given"]) == (200, 1)
    restart(desk)
    status, answer = desk.ask(request_id)
    assert (status, answer["approvals_given"]) == (202, 1)
    status, answer = desk.decide("carol", approval)
    assert (status, answer["approvals_given"]) == (200, 2)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: desk.ask(request_id), range(8)))
    assert sorted(status for status, _ in answers) == [200] * 7 + [201]
    assert len({answer["certificate"] for _, answer in answers}) == 1
    assert desk.issued() == before + 1
    assert approval not in desk.waiting()


def test_approvals_at_the_same_instant_all_count(desk: Desk, tmp_path: Path) -> None:
    request_id, approval = desk.open(tmp_path)
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda who: desk.decide(who, approval), APPROVERS * 3))
    assert {status for status, _ in answers} == {200}
    assert sum(answer["changed"] for _, answer in answers) >= 2
    assert desk.ask(request_id)[0] == 201


def test_nobody_approves_their_own_request_and_it_is_logged(desk: Desk, tmp_path: Path) -> None:
    _, approval = desk.open(tmp_path)
    status, problem = desk.decide("tester", approval)
    assert (status, problem["type"]) == (422, "urn:peersys:problem:self-approval")
    assert "somebody else" in problem["remedy"]
    entries = [
        e for node in nodes(desk)[:1] for e in node.admin.get("/v1/audit?last=true&limit=50")
    ]
    (entry,) = [
        e
        for e in entries
        if e["action"] == "ra.approve" and e["detail"].get("outcome") == "self-approval"
    ]
    assert entry["chain"] == "tester via ra1"


def test_a_rejected_request_tells_its_requester_why(desk: Desk, tmp_path: Path) -> None:
    request_id, approval = desk.open(tmp_path)
    assert desk.decide("bob", approval, "reject", reason="wrong host")[1]["state"] == "rejected"
    status, problem = desk.ask(request_id)
    assert (status, problem["type"]) == (422, "urn:peersys:problem:approval-ended")
    assert "wrong host" in problem["detail"]
    assert desk.decide("carol", approval)[0] == 409


def test_a_requester_withdraws_its_own_request_and_no_other(desk: Desk, tmp_path: Path) -> None:
    _, approval = desk.open(tmp_path)
    assert desk.decide("bob", approval, "withdraw")[0] == 403
    assert desk.decide("tester", approval, "withdraw")[1]["state"] == "withdrawn"
    assert approval not in desk.waiting()


def test_who_may_not_approve_learns_nothing(desk: Desk, tmp_path: Path) -> None:
    _, approval = desk.open(tmp_path)
    ra = desk.topology.ra.admin
    carol = ra.get("/v1/objects/requesters/carol")["spec"]
    ra.apply(requesters=[{**carol, "rules": allow("/ra/enroll", *ANYWHERE)}])
    try:
        answers = [desk.decide("carol", wanted) for wanted in (approval, "0" * 64)] + [
            desk.rest("carol").request("GET", f"/v1/approvals/{AUTHORITY}/{wanted}")
            for wanted in (approval, "0" * 64)
        ]
    finally:
        ra.apply(requesters=[carol])
    assert {status for status, _ in answers} == {403}
    assert len({str(answer) for _, answer in answers}) == 1


def test_what_an_ra_brought_counts_no_longer_than_its_role(desk: Desk, tmp_path: Path) -> None:
    """One approval of two: a node that hasn't heard of the role yet must not issue meanwhile."""
    request_id, approval = desk.open(tmp_path)
    assert desk.decide("bob", approval)[0] == 200

    def given() -> object:
        return desk.ask(request_id)[1].get("approvals_given")

    ca, path = desk.topology.ca.admin, "/v1/objects/peer_roles/registration"
    role = ca.get(path)["spec"]
    deny = {"resource": "/ra/approve", "effect": "deny"}
    ca.put(path, {**role, "rules": [*role["rules"], deny]})
    try:
        wait_until(lambda: given() == 0, what="it doesn't count")
    finally:
        ca.put(path, role)
    wait_until(lambda: given() == 1, what="it counts again")
