"""What README and docs tell a reader to type is typed here, against a demo of this test's own."""

from __future__ import annotations

import re
import secrets
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.console_blocks import NOT_RUN, Command, blocks_of, matches
from tests.support.judges import require_program

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
# The tutorial begins with a demo of its own, the README ends with taking it down: in this order one
# demo serves all pages.
PAGES = sorted(
    (
        page
        for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
        if "```console" in page.read_text(encoding="utf-8")
    ),
    key=lambda page: ("tutorial" not in page.parts, page.parent == ROOT, page),
)
# Each block of the others says why it can't be run; the first test below looks at those, too.
RUNNABLE = [page for page in PAGES if "```console\n" in page.read_text(encoding="utf-8")]
_CHECKOUT = (
    "Makefile",
    "ansible.cfg",
    "pyproject.toml",
    ".venv",
    "collections",
    "docs",
    "inventories",
    "node_agent",
    "playbooks",
    "tests",
    "tools",
)
_LIMIT_SECONDS = 500


def shown(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


class Checkout:
    """A directory that looks like a clone and has a demo of its own, on a network of its own."""

    def __init__(self, directory: Path, network: str) -> None:
        self.directory = directory
        self.network = network
        for name in _CHECKOUT:
            (directory / name).symlink_to(ROOT / name)
        home = directory / "home"
        home.mkdir()
        self.environment = {
            "HOME": str(home),
            "LC_ALL": "C.UTF-8",
            # The environment is the one that runs this test. Made anew from here, its programs
            # would begin with the path of this directory.
            "MAKEFLAGS": " -- DEMO= DEV=",
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "PEERSYS_LOCAL_NETWORK": network,
            "PEERSYS_LOCAL_ROOT": str(directory / ".local"),
        }

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", script],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_LIMIT_SECONDS,
            check=False,
        )

    def bring_up(self) -> None:
        if not (self.directory / ".local/verification.json").exists():
            done = self.run("make demo")
            assert done.returncode == 0, done.stdout

    def here(self, text: str) -> str:
        return text.replace("127.0.0.", f"{self.network}.")


def lone_network() -> str:
    """Return the beginning of loopback addresses that hardly any other suite uses at this time."""
    return f"127.{64 + secrets.randbelow(63)}.{secrets.randbelow(256)}"


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    checkout = Checkout(tmp_path_factory.mktemp("checkout"), lone_network())
    try:
        yield checkout
    finally:
        checkout.run("make demo-down")


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_blocks_are_well_formed_and_say_why_they_are_not_run(page: Path) -> None:
    for block in blocks_of(page):
        where = f"{shown(page)}:{block.line}"
        assert block.commands, where
        assert block.reason == "" or block.reason in NOT_RUN, f"{where}: {block.reason}"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", RUNNABLE, ids=shown)
def test_every_command_of_a_page_works_and_prints_what_the_page_shows(
    page: Path, checkout: Checkout
) -> None:
    commands = [
        command for block in blocks_of(page) if not block.reason for command in block.commands
    ]
    assert commands, f"{shown(page)} has no command that can be run"
    for program, package in (("curl", "curl"), ("softhsm2-util", "softhsm2")):
        if any(f"{program} " in command.text for command in commands):
            require_program(program, package)
    if commands[0].text != "make demo":
        checkout.bring_up()
    printed = _run_all(checkout, page, commands)
    for command, output in zip(commands, printed, strict=True):
        missing = matches([checkout.here(line) for line in command.shown], output)
        where = f"{shown(page)}:{command.line}: {command.text}"
        assert not missing, f"{where}\nlacks: {missing}\nprinted:\n{output}"


def _run_all(checkout: Checkout, page: Path, commands: list[Command]) -> list[str]:
    """Run a page's commands in one shell, as its reader does; return what each printed."""
    marked = [
        f"printf '\\n@@@ %d\\n' {number}\n{checkout.here(command.text)}"
        for number, command in enumerate(commands)
    ]
    done = checkout.run("\n".join(["set -eo pipefail", *marked]))
    printed = re.split(r"^@@@ \d+\n", done.stdout, flags=re.MULTILINE)[1:]
    if done.returncode:
        failed = commands[len(printed) - 1]
        where = f"{shown(page)}:{failed.line}: {failed.text}"
        pytest.fail(f"{where}\nended with {done.returncode}:\n{done.stdout[-6000:]}")
    return printed
