"""Write ``docs/reference/cli.md`` from the declarations of the commands themselves."""

from __future__ import annotations

import argparse
from pathlib import Path

from node_agent.cli.command import Command, Group
from node_agent.cli.commands import COMMANDS
from node_agent.cli.program import build_parser

PAGE = Path(__file__).resolve().parent.parent / "docs/reference/cli.md"
_INTRODUCTION = """\
# Reference: the command `peersys`

Made by `make docs` from `node_agent/cli/commands.py`; a test compares the two.

`peersys` asks one node over its admin socket: `--socket`, else `$PEERSYS_SOCKET`, else
`/run/peersys/admin.sock`. `--socket` and `--json` may stand before or behind the command. With
`--json` answers are JSON on standard output and errors are JSON on standard error.

| exit status | meaning |
|---|---|
| 0 | done, or the check passed |
| 1 | a check failed: unhealthy node, link down, broken audit chain, access denied |
| 2 | the command, a file or a name in it is wrong; nothing was changed |
| 3 | no agent answers on the socket |

No command takes a passphrase or another secret as an argument: arguments can be read by every
process of a host.
"""


def reference() -> str:
    """Return the page."""
    parser = build_parser()
    parts = [_INTRODUCTION]
    for entry in COMMANDS:
        if isinstance(entry, Group):
            parts.append(f"## peersys {entry.name}: {entry.summary}\n")
            parts += [_section(parser, command, entry.name) for command in entry.commands]
        else:
            parts.append(_section(parser, entry))
    return "\n".join(parts)


def _section(parser: argparse.ArgumentParser, command: Command, group: str = "") -> str:
    words = [group, command.name] if group else [command.name]
    name = " ".join(["peersys", *words])
    actions = _own_actions(_parser_of(parser, words))
    lines = [f"{'###' if group else '##'} {name}\n", f"{_sentence(command.summary)}"]
    lines += [command.description] if command.description else []
    lines += ["", f"    {' '.join([name, *map(_synopsis, actions)])}", ""]
    if actions:
        lines += ["| argument | |", "|---|---|"]
        lines += [f"| `{_label(action)}` | {_help(action)} |" for action in actions] + [""]
    if command.examples:
        lines += ["```text", *command.examples, "```", ""]
    return "\n".join(lines)


def _own_actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    shared = {"help", "socket", "json"}
    return [action for action in parser._actions if action.dest not in shared]


def _label(action: argparse.Action) -> str:
    value = _value(action)
    if not action.option_strings:
        return value
    takes_value = action.nargs != 0
    return f"{action.option_strings[-1]} {value}" if takes_value else action.option_strings[-1]


def _synopsis(action: argparse.Action) -> str:
    label = _label(action)
    if action.nargs == "+":
        return f"{label}..."
    required = action.required or not action.option_strings
    return label if required else f"[{label}]"


def _value(action: argparse.Action) -> str:
    if action.metavar is None and action.choices:
        return "{" + ",".join(map(str, action.choices)) + "}"
    return str(action.metavar or action.dest)


def _help(action: argparse.Action) -> str:
    if not action.help:
        raise SystemExit(f"{_label(action)} has no help text")
    return action.help


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _parser_of(parser: argparse.ArgumentParser, words: list[str]) -> argparse.ArgumentParser:
    for word in words:
        commands = next(
            action for action in parser._actions if isinstance(action, argparse._SubParsersAction)
        )
        parser = commands.choices[word]
    return parser


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
