from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.admin_stand_in import AdminStandIn
    from tests.unit.cli.conftest import CommandLine

ROLE = {"name": "ra", "members": ["spiffe://pki.test/node/ra1"], "rules": []}
NODE = {
    "identity": "spiffe://pki.test/node/ca1",
    "version": "0.1.0",
    "started_at": 1.0,
    "objects": {"peer_roles": [{"spec": ROLE}], "publishers": []},
}


def plan(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"changed": bool(steps), "steps": list(steps), "objects": {}}


def update() -> dict[str, Any]:
    after = {**ROLE, "members": [*ROLE["members"], "spiffe://pki.test/node/ra2"]}
    return {
        "action": "update",
        "kind": "peer_roles",
        "name": "ra",
        "before": ROLE,
        "after": after,
    }


def test_apply_sends_the_file_and_prints_the_difference(
    peersys: CommandLine, agent: AdminStandIn, tmp_path: Path
) -> None:
    agent.answer("PUT", "/v1/node", plan(update()))
    file = tmp_path / "node.yaml"
    file.write_text("peer_roles:\n- name: ra\n")
    run = peersys("node", "apply", file)
    assert run.status == 0
    expected = {"peer_roles": [{"name": "ra"}]}
    assert agent.requests == [("PUT", "/v1/node?dry_run=false", expected)]
    assert "~ update peer roles: ra" in run.out
    assert "+- spiffe://pki.test/node/ra2" in run.out
    assert "1 object changed." in run.out


def test_dry_run_says_that_nothing_was_done(
    peersys: CommandLine, agent: AdminStandIn, tmp_path: Path
) -> None:
    agent.answer("PUT", "/v1/node", plan(update(), update()))
    file = tmp_path / "node.json"
    file.write_text(json.dumps({"peer_roles": [ROLE]}))
    run = peersys("node", "apply", file, "--dry-run")
    assert agent.requests[0][1] == "/v1/node?dry_run=true"
    assert "2 objects would change; nothing was done." in run.out


def test_apply_without_effect_says_so(
    peersys: CommandLine, agent: AdminStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.answer("PUT", "/v1/node", plan())
    monkeypatch.setattr("sys.stdin", io.StringIO("peer_roles: []"))
    assert "Nothing to change" in peersys("node", "apply", "-").out


def test_apply_in_json_is_the_plan(
    peersys: CommandLine, agent: AdminStandIn, tmp_path: Path
) -> None:
    agent.answer("PUT", "/v1/node", plan(update()))
    file = tmp_path / "node.yaml"
    file.write_text("purge: false")
    assert json.loads(peersys("node", "apply", file, "--json").out) == plan(update())


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "neither YAML nor JSON"),
        ("a: [", "neither YAML nor JSON"),
        ("- 1", "is not a node specification"),
        ("", "is not a node specification"),
    ],
)
def test_file_that_is_no_specification_is_refused_before_anything_is_sent(
    peersys: CommandLine, agent: AdminStandIn, tmp_path: Path, content: str, complaint: str
) -> None:
    file = tmp_path / "node.yaml"
    file.write_text(content)
    run = peersys("node", "apply", file)
    assert run.status == 2
    assert complaint in run.err
    assert agent.requests == []


def test_missing_file_is_named(peersys: CommandLine, tmp_path: Path) -> None:
    run = peersys("node", "apply", tmp_path / "absent.yaml")
    assert run.status == 2
    assert f"{tmp_path / 'absent.yaml'} can't be read: No such file" in run.err


def test_shown_specification_is_what_apply_reads(
    peersys: CommandLine, agent: AdminStandIn, tmp_path: Path
) -> None:
    agent.answer("GET", "/v1/node", NODE)
    agent.answer("PUT", "/v1/node", plan())
    file = tmp_path / "node.yaml"
    file.write_text(peersys("node", "show", "--spec").out)
    assert yaml.safe_load(file.read_text()) == {"peer_roles": [ROLE]}
    peersys("node", "apply", file)
    assert agent.requests[-1][2] == {"peer_roles": [ROLE]}


def test_show_lists_objects_with_what_tells_them_apart(
    peersys: CommandLine, agent: AdminStandIn
) -> None:
    agent.answer("GET", "/v1/node", NODE)
    out = peersys("node", "show").out
    assert "spiffe://pki.test/node/ca1" in out
    assert "members: spiffe://pki.test/node/ra1" in out
    assert "publishers" not in out
