"""Run ansible-test on the collection, and try its artifact, wholly inside the repository.

ansible-test keeps caches below $HOME, forgets the caller's pip settings, and bootstraps pip with a
script from a host that need not be reachable. So it is given a home of its own below ``.ansible``,
with a bootstrap script that uses the pip inside Python, and with the caller's pip settings.

``integration`` runs each target below ``tests/integration`` against agents of its own, started with
the ``peersys`` of the environment that runs this. It does so in a copy of the collection, with a
home of its own, so that several can run at once: ``integration 1/2`` and ``integration 2/2`` share
the targets between them. ``galaxy`` builds the artifact that users take, installs it into an empty
directory, and runs one of those targets from there.
"""

from __future__ import annotations

import configparser
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
COLLECTION = ROOT / "collections/ansible_collections/peersys/pki"
TARGETS = "tests/integration/targets"
HOME = ROOT / ".ansible/home"
_GET_PIP = """\
import ensurepip
ensurepip.bootstrap(upgrade=True, default_pip=True)
"""
# Makes, changes and removes an object of a real agent.
_ARTIFACT_TARGET = "peer_role"
# A share of the targets, as 1/2.
_SHARE = re.compile(r"(?P<number>[1-9])/(?P<of>[1-9])\Z")
_SETTING = re.compile(r"(?:global|install|:env:)\.(?P<name>[a-z-]+)='(?P<value>.*)'\Z")


def main() -> int:
    """Prepare the home and run one of the commands; arguments go through to ansible-test."""
    if len(sys.argv) < 2:
        name = Path(sys.argv[0]).name
        sys.exit(f"usage: {name} galaxy | sanity|units|integration [ansible-test arguments]")
    command, *rest = sys.argv[1:]
    if command == "galaxy":
        return _try_artifact()
    if command == "integration":
        return _run_targets(rest)
    if command == "sanity":
        _write(HOME / f".ansible/test/cache/{_bootstrap_name()}", _GET_PIP)
        _write_pip_settings()
    return _run_ansible_test(command, rest, COLLECTION, HOME)


def _run_ansible_test(command: str, arguments: list[str], collection: Path, home: Path) -> int:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return subprocess.run(
        ["ansible-test", command, "--python", version, *arguments],
        cwd=collection,
        env=_environment(home),
        check=False,
    ).returncode


def _run_targets(arguments: list[str]) -> int:
    """Run integration targets in a copy of the collection: all, those named, or a share."""
    share = _SHARE.match(arguments[0]) if arguments else None
    if share is not None:
        arguments = [*_shared_targets(int(share["number"]), int(share["of"])), *arguments[1:]]
    with tempfile.TemporaryDirectory(prefix="peersys-targets.") as work:
        copy = Path(work) / "ansible_collections/peersys/pki"
        shutil.copytree(COLLECTION, copy, ignore=shutil.ignore_patterns("output", "__pycache__"))
        return _run_ansible_test("integration", arguments, copy, Path(work))


def _shared_targets(number: int, of: int) -> list[str]:
    """Return one share of the targets. Those that need a whole PKI take longest: all get some."""
    # ansible-test runs what is called setup_… only for others.
    targets = [path for path in (COLLECTION / TARGETS).iterdir() if path.name[:6] != "setup_"]
    targets.sort(key=lambda path: ("setup_pki" not in _dependencies(path), path.name))
    return [path.name for path in targets[number - 1 :: of]]


def _dependencies(target: Path) -> str:
    return (target / "meta/main.yml").read_text(encoding="utf-8")


def _environment(home: Path) -> dict[str, str]:
    environment = {
        **os.environ,
        "HOME": str(home),
        "ANSIBLE_HOME": str(home / ".ansible"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    }
    # ansible-test's own checks forbid any setting from outside.
    environment.pop("ANSIBLE_CONFIG", None)
    return environment


def _try_artifact() -> int:
    """Build the artifact, install it into an empty directory, run a playbook with nothing else."""
    with tempfile.TemporaryDirectory(prefix="peersys-artifact.") as work:
        directory = Path(work)
        collections = directory / "installed"
        environment = {**_environment(directory), "ANSIBLE_COLLECTIONS_PATH": str(collections)}
        installed = collections / "ansible_collections/peersys/pki"
        targets = installed / TARGETS
        # What ansible-test does for a target: its hosts, its variables, its handlers in any case.
        play = {
            "hosts": "localhost",
            "gather_facts": False,
            "vars": {"output_dir": work, "ansible_python_interpreter": sys.executable},
            "roles": [_ARTIFACT_TARGET],
        }
        _write(directory / "play.yml", json.dumps([play]))
        environment |= {
            "ANSIBLE_CONFIG": str(targets.parent / "integration.cfg"),
            "ANSIBLE_ROLES_PATH": str(targets),
            "ANSIBLE_FORCE_HANDLERS": "true",
        }
        galaxy = ["ansible-galaxy", "collection"]

        def run(*command: str) -> int:
            return subprocess.run(command, cwd=work, env=environment, check=False).returncode

        return (
            run(*galaxy, "build", str(COLLECTION), "--output-path", work)
            or run(*galaxy, "install", "--offline", "-p", "installed", _artifact_name())
            # Before the play: the controller compiles action plugins where they lie.
            or _complain_of_strays(installed)
            or run("ansible-playbook", "-i", "localhost,", "-c", "local", "play.yml")
        )


def _artifact_name() -> str:
    galaxy = yaml.safe_load((COLLECTION / "galaxy.yml").read_text(encoding="utf-8"))
    return f"{galaxy['namespace']}-{galaxy['name']}-{galaxy['version']}.tar.gz"


def _complain_of_strays(installed: Path) -> int:
    """Return 1 and name what no user has a use for, when the artifact carries any."""
    made_by_tests = [installed / "tests/output", installed / "tests/integration/inventory"]
    made_by_tests += installed.rglob("__pycache__")
    strays = sorted(str(path) for path in made_by_tests if path.exists())
    if strays:
        print("the artifact carries what tests left:", *strays, sep="\n", file=sys.stderr)
    return int(bool(strays))


def _bootstrap_name() -> str:
    """Return the file name under which this ansible-test looks for its pip bootstrap script."""
    package = importlib.util.find_spec("ansible_test")
    if package is None or package.origin is None:
        sys.exit("ansible-test is missing: run 'make venv'")
    source = Path(package.origin).parent / "_internal/python_requirements.py"
    version = re.search(r"\bpip='([0-9.]+)'", source.read_text(encoding="utf-8"))
    if version is None:
        sys.exit(f"{source} no longer names its pip version: adapt {__file__}")
    return f"get_pip_{version[1].replace('.', '_')}.py"


def _write_pip_settings() -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    settings = configparser.RawConfigParser()
    settings["global"] = {
        match["name"]: match["value"]
        # What stands in the environment wins, as it does for pip: it comes last.
        for line in sorted(listed.splitlines(), key=lambda line: line.startswith(":env:"))
        if (match := _SETTING.match(line))
    }
    path = HOME / ".config/pip/pip.conf"
    path.parent.mkdir(parents=True, exist_ok=True)
    # An index URL may carry a password.
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        settings.write(file)


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
