"""Parse the command line, run the one handler, and turn what went wrong into words and a status."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from node_agent.cli.command import Command, Group
from node_agent.cli.commands import COMMANDS
from node_agent.cli.failures import ExitStatus, exit_status_of
from node_agent.cli.session import DEFAULT_SOCKET, Session, printable
from node_agent.errors import NodeAgentError

__all__ = ["build_parser", "main", "resolve"]

Handler = Callable[[argparse.Namespace, Session], int]

_DESCRIPTION = "Runs a Peersys node and shows, checks and manages it over its local admin socket."
_EPILOG = """\
first steps:
  peersys status                       is this node well, and are its links up?
  peersys topology .local              the same for every node of the demo, as one tree
  peersys COMMAND --help               every command explains itself

The admin socket is --socket, else $PEERSYS_SOCKET, else /run/peersys/admin.sock.

exit status:
  0  done, or the check passed
  1  a check failed (unhealthy node, link down, broken audit chain, access denied)
  2  the command, a file or a name in it is wrong; nothing was changed
  3  no agent answers on the socket
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    namespace = build_parser(_entries_for(words)).parse_args(words)
    session = Session(
        socket_path=_socket_path(namespace), as_json=getattr(namespace, "json", False)
    )
    try:
        status = int(resolve(namespace.command)(namespace, session))
        sys.stdout.flush()
    except NodeAgentError as error:
        _report(error, as_json=session.as_json)
        return exit_status_of(error)
    except KeyboardInterrupt:
        return ExitStatus.INTERRUPTED
    except BrokenPipeError:
        # The reader (head, for example) has enough. Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitStatus.OK
    return status


def build_parser(entries: Sequence[Command | Group] = COMMANDS) -> argparse.ArgumentParser:
    """Return the parser of every command, or of the ones in ``entries``."""
    parser = argparse.ArgumentParser(
        prog="peersys",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="print the version")
    _add_shared(parser)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for entry in entries:
        if isinstance(entry, Group):
            _add_group(commands, entry)
        else:
            _add_command(commands, entry)
    return parser


def _entries_for(words: Sequence[str]) -> Sequence[Command | Group]:
    """Return the one entry that ``words`` begin with: to make all parsers takes some 20 ms.

    Where the first word is no command, or there is none, argparse needs all to explain itself.
    """
    rest = iter(words)
    for word in rest:
        if word == "--socket":
            next(rest, None)
        elif not word.startswith("-"):
            return [entry for entry in COMMANDS if entry.name == word] or COMMANDS
    return COMMANDS


def resolve(command: Command) -> Handler:
    """Import the handler of ``command``."""
    module, _, function = command.handler.partition(":")
    handler: Handler = getattr(importlib.import_module(f"node_agent.cli.{module}"), function)
    return handler


class _ShowVersion(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        # Reading package metadata takes longer than most commands: only on demand.
        from importlib.metadata import version

        print(f"peersys {version('peersys')}")  # noqa: T201  # what was asked for
        parser.exit()


def _add_group(commands: argparse._SubParsersAction[argparse.ArgumentParser], group: Group) -> None:
    parser = commands.add_parser(group.name, help=group.summary, description=f"{group.summary}.")
    inner = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in group.commands:
        _add_command(inner, command)


def _add_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], command: Command
) -> None:
    parser = commands.add_parser(
        command.name,
        help=command.summary,
        description=f"{_sentence(command.summary)} {command.description}".strip(),
        epilog=_examples(command),
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.description = _fill(parser.description or "")
    command.arguments(parser)
    _add_shared(parser)
    parser.set_defaults(command=command)


def _add_shared(parser: argparse.ArgumentParser) -> None:
    # SUPPRESS: an option given before the command isn't overwritten by its absence behind it.
    parser.add_argument(
        "--socket",
        type=Path,
        default=argparse.SUPPRESS,
        metavar="PATH",
        help="the agent's admin socket",
    )
    parser.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="print JSON for programs"
    )


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _fill(text: str) -> str:
    import textwrap

    return textwrap.fill(text, width=88, break_long_words=False, break_on_hyphens=False)


def _examples(command: Command) -> str:
    if not command.examples:
        return ""
    return "examples:\n" + "\n".join(f"  {example}" for example in command.examples)


def _socket_path(namespace: argparse.Namespace) -> Path:
    named: Path | None = getattr(namespace, "socket", None)
    return named or Path(os.environ.get("PEERSYS_SOCKET") or DEFAULT_SOCKET)


def _report(error: NodeAgentError, *, as_json: bool) -> None:
    remedy = str(getattr(error, "remedy", ""))
    if as_json:
        document = {"error": str(error), "remedy": remedy, "kind": type(error).__name__}
        sys.stderr.write(json.dumps(document) + "\n")
        return
    sys.stderr.write(f"peersys: {printable(str(error))}\n")
    if remedy and remedy not in str(error):
        sys.stderr.write(f"  remedy: {printable(remedy)}\n")
