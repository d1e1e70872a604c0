from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from node_agent.cli.command import Command, Group
from node_agent.cli.commands import COMMANDS, REASONS
from node_agent.cli.program import build_parser, resolve
from node_agent.web.bodies import REASON_NUMBERS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.admin_stand_in import AdminStandIn
    from tests.unit.cli.conftest import CommandLine


def every_command() -> Iterator[tuple[str, Command]]:
    for entry in COMMANDS:
        if isinstance(entry, Group):
            yield from ((f"{entry.name} {command.name}", command) for command in entry.commands)
        else:
            yield entry.name, entry


@pytest.mark.parametrize(("name", "command"), list(every_command()))
def test_every_command_has_a_handler_and_help(
    name: str, command: Command, peersys: CommandLine
) -> None:
    assert callable(resolve(command))
    shown = peersys.without_socket(*name.split(), "--help")
    assert shown.status == 0
    for example in command.examples:
        assert example in shown.out


@pytest.mark.parametrize(
    "example", [example for _, command in every_command() for example in command.examples]
)
def test_every_example_is_a_command_line_that_parses(example: str) -> None:
    words = example.removeprefix('eval "$(').removesuffix(')"').partition(" > ")[0].split()
    assert words[0] == "peersys"
    build_parser().parse_args(words[1:])


def test_no_command_takes_a_secret_as_an_argument() -> None:
    secrets = ("pass", "secret", "pin", "key", "token")
    for name, command in every_command():
        parser = build_parser()
        shown = _options(parser, name)
        assert not [option for option in shown if any(word in option for word in secrets)], name
        assert command.name


def test_revocation_reasons_are_those_of_the_admin_api() -> None:
    assert set(REASONS) == set(REASON_NUMBERS)


def test_no_command_at_all_is_a_usage_error(peersys: CommandLine) -> None:
    assert peersys.without_socket().status == 2


def test_unknown_command_is_answered_with_all_commands(peersys: CommandLine) -> None:
    run = peersys.without_socket("--socket", "status", "frobnicate")
    assert run.status == 2
    for entry in COMMANDS:
        assert repr(entry.name) in run.err or entry.name in run.err


def test_value_of_an_option_is_not_taken_for_the_command(
    peersys: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = peersys.without_socket("--socket", "status", "peer", "list")
    assert (run.status, run.err[:29]) == (3, "peersys: no agent at status: ")


def test_unreachable_agent_exits_with_3_and_a_remedy(peersys: CommandLine) -> None:
    run = peersys("status")
    assert (run.status, run.out) == (3, "")
    assert run.err.startswith(f"peersys: no agent at {peersys.socket}: no such file")
    assert "remedy: start it with: peersys run" in run.err


def test_errors_are_json_where_json_was_asked_for(peersys: CommandLine) -> None:
    run = peersys("--json", "status")
    problem = json.loads(run.err)
    assert problem["kind"] == "AgentUnreachable"
    assert str(peersys.socket) in problem["error"]
    assert problem["remedy"]


def test_socket_comes_from_the_environment_when_no_option_names_it(
    peersys: CommandLine, agent: AdminStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.answer("GET", "/v1/peers", [])
    monkeypatch.setenv("PEERSYS_SOCKET", str(peersys.socket))
    assert peersys.without_socket("peer", "list").status == 0


def test_options_are_taken_before_and_behind_the_command(
    peersys: CommandLine, agent: AdminStandIn
) -> None:
    agent.answer("GET", "/v1/peers", [])
    before = peersys.without_socket("--socket", peersys.socket, "--json", "peer", "list")
    behind = peersys.without_socket("peer", "list", "--json", "--socket", peersys.socket)
    assert before == behind
    assert json.loads(before.out) == []


def test_refusal_by_the_agent_exits_with_2_and_its_remedy(
    peersys: CommandLine, agent: AdminStandIn
) -> None:
    problem = {"detail": "no role 'x'", "remedy": "list them with: peersys role list"}
    agent.answer("GET", "/v1/objects/peer_roles/x", problem, status=404)
    run = peersys("role", "show", "x")
    assert run.status == 2
    assert run.err == "peersys: no role 'x'\n  remedy: list them with: peersys role list\n"


def test_control_characters_in_an_error_never_reach_the_terminal(
    peersys: CommandLine, agent: AdminStandIn
) -> None:
    agent.answer("GET", "/v1/peers", {"detail": "\x1b[2Jgone"}, status=409)
    assert peersys("peer", "list").err == "peersys: \\x1b[2Jgone\n"


def test_trouble_inside_the_agent_exits_with_1(peersys: CommandLine, agent: AdminStandIn) -> None:
    agent.answer("GET", "/v1/peers", {"detail": "the store is gone"}, status=500)
    assert peersys("peer", "list").status == 1


def test_reader_that_has_enough_is_no_error(tmp_path: Path) -> None:
    script = f"{sys.executable} -m node_agent completion bash | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("arguments", [["status", "--json"], ["status"], ["peer", "list"]])
def test_client_commands_never_import_the_agents_libraries(
    arguments: list[str], peersys: CommandLine, agent: AdminStandIn
) -> None:
    """Start-up time is mostly imports; these take longer than everything else together."""
    from tests.support.admin_documents import ca_status

    agent.answer("GET", "/v1/status", ca_status())
    agent.answer("GET", "/v1/peers", ca_status()["peers"])
    script = (
        "import sys; from node_agent.cli import main; status = main(sys.argv[1:]);"
        "print(sorted({n.partition('.')[0] for n in sys.modules}), file=sys.stderr);"
        "sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments, "--socket", str(peersys.socket)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": ""},
    )
    assert done.returncode == 0, done.stderr
    heavy = {"litestar", "sqlalchemy", "cryptography", "msgspec", "yaml", "asyncio", "structlog"}
    assert not heavy & set(eval(done.stderr))
    if "--json" in arguments:
        assert "rich" not in eval(done.stderr)


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_every_command(shell: str, peersys: CommandLine) -> None:
    script = peersys.without_socket("completion", shell).out
    for name, _ in every_command():
        for word in name.split():
            assert word in script


def _options(parser: object, name: str) -> list[str]:
    import argparse

    for word in name.split():
        assert isinstance(parser, argparse.ArgumentParser)
        subparsers = next(
            action for action in parser._actions if isinstance(action, argparse._SubParsersAction)
        )
        parser = subparsers.choices[word]
    assert isinstance(parser, argparse.ArgumentParser)
    return [
        option for action in parser._actions for option in [*action.option_strings, action.dest]
    ]
