"""Taking a node out: what the agent is told, in which order, and a link that stays up."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from tests.support.admin_stand_in import AdminStandIn
    from tests.unit.cli.conftest import CommandLine

OWN, NODE = "spiffe://pki.test/node/ca1", "spiffe://pki.test/node/ra1"


def an_agent(agent: AdminStandIn, *, connections: int) -> None:
    spec: dict[str, Any] = {"name": "ra1", "peer": NODE, "address": "x:1"}
    agent.answer("GET", "/v1/health", {"status": "ok", "node": OWN})
    agent.answer("GET", "/v1/objects/peer_connectors", [{"spec": spec}])
    publishers = [{"name": "p1", "peer": NODE}, {"name": "p2", "peer": OWN}]
    agent.answer("GET", "/v1/objects/publishers", [{"spec": item} for item in publishers])
    kinds = ({"name": "issuing", "kind": "issuing"}, {"name": "mgmt", "kind": "management"})
    agent.answer("GET", "/v1/objects/certification_authorities", [{"spec": k} for k in kinds])
    found = [
        {"serial": "a1", "names": [NODE], "status": "good"},
        {"serial": "a2", "names": [NODE], "status": "revoked"},
        {"serial": "a3", "names": [NODE + "0"], "status": "good"},
    ]
    agent.answer("GET", "/v1/certificates", found)
    agent.answer("GET", "/v1/peers", [{"peer": NODE, "connections": connections}])
    agent.answer("GET", "/v1/audit", [])
    agent.answer("PUT", "/v1/objects/peer_roles/isolated-ra1", {"changed": True})
    agent.answer("PUT", "/v1/objects/peer_connectors/ra1", {"changed": True})
    agent.answer("POST", "/v1/certificates/mgmt/a1/revocation", {"changed": True})
    agent.answer("DELETE", "/v1/objects/publishers/p1", {"changed": True})


def written(agent: AdminStandIn) -> list[tuple[str, str]]:
    return [(method, path) for method, path, _ in agent.requests if method != "GET"]


def test_the_role_comes_first_and_nothing_of_other_nodes_is_touched(
    peersys: CommandLine, agent: AdminStandIn
) -> None:
    an_agent(agent, connections=0)
    run = peersys("peer", "isolate", "ra1")
    assert run.status == 0
    assert "mgmt a1" in run.out
    assert written(agent) == [
        ("PUT", "/v1/objects/peer_roles/isolated-ra1"),
        ("POST", "/v1/certificates/mgmt/a1/revocation"),
        ("PUT", "/v1/objects/peer_connectors/ra1"),
        ("DELETE", "/v1/objects/publishers/p1"),
    ]
    bodies = {path: body for _, path, body in agent.requests}
    role = bodies["/v1/objects/peer_roles/isolated-ra1"]
    assert role == {"members": [NODE], "rules": [{"resource": "/**", "effect": "deny"}]}
    assert bodies["/v1/objects/peer_connectors/ra1"]["enabled"] is False


def test_nodes_of_one_name_in_two_trust_domains_are_isolated_apart(
    peersys: CommandLine, agent: AdminStandIn
) -> None:
    an_agent(agent, connections=0)
    roles = set()
    for domain in ("acme.example", "beta.example"):
        run = peersys("peer", "isolate", f"spiffe://{domain}/node/ra1", "--dry-run", "--json")
        roles.add(json.loads(run.out)["role"])
    assert len(roles) == 2
    assert "isolated-ra1" not in roles
    assert all(len(role) <= 63 for role in roles)


def test_a_link_that_stays_up_is_a_failed_check(peersys: CommandLine, agent: AdminStandIn) -> None:
    an_agent(agent, connections=1)
    run = peersys("peer", "isolate", "ra1")
    assert run.status == 1
    assert "STILL UP" in run.out


def test_a_dry_run_writes_nothing(peersys: CommandLine, agent: AdminStandIn) -> None:
    an_agent(agent, connections=1)
    run = peersys("peer", "isolate", NODE, "--dry-run")
    assert run.status == 0
    assert "would isolate" in run.out
    assert written(agent) == []


def test_a_second_time_nothing_changes(peersys: CommandLine, agent: AdminStandIn) -> None:
    """A publisher that a node on the same store has removed meanwhile is no fault."""
    an_agent(agent, connections=0)
    agent.answer("PUT", "/v1/objects/peer_roles/isolated-ra1", {"changed": False})
    agent.answer("PUT", "/v1/objects/peer_connectors/ra1", {"changed": False})
    agent.answer("POST", "/v1/certificates/mgmt/a1/revocation", {"changed": False})
    problem = {"title": "Not found", "status": 404}
    agent.answer("DELETE", "/v1/objects/publishers/p1", problem, status=404)
    run = peersys("--json", "peer", "isolate", "ra1")
    assert run.status == 0
    told = json.loads(run.out)
    assert told["changed"] is False
    assert told["closed_after_seconds"] < 1


def test_all_that_it_asked_for_is_reported_however_much_that_is(
    peersys: CommandLine, agent: AdminStandIn
) -> None:
    an_agent(agent, connections=0)
    log = [
        {
            "sequence": number,
            "at": 1_790_000_000,
            "allowed": False,
            "action": "ra.search",
            "chain": f"x{number} via ra1",
            "resources": [],
            "detail": {},
        }
        for number in range(1, 10_500)
    ]

    def page(path: str, body: Any) -> tuple[int, Any]:
        asked = {key: value[0] for key, value in parse_qs(urlsplit(path).query).items()}
        after, limit = int(asked["after"]), min(int(asked["limit"]), 10_000)
        assert asked["peer"] == NODE
        return 200, log[after : after + limit]

    agent.answers["GET", "/v1/audit"] = page
    run = peersys("peer", "isolate", "ra1", "--json")
    assert json.loads(run.out)["asked"] == log
    shown = peersys("peer", "isolate", "ra1").out
    assert "x10499 via ra1" in shown
    assert "x9500 via ra1" in shown
    assert "x9499 via ra1" not in shown
    assert "and 9499 more" in shown
