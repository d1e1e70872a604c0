"""The role status_cache's nginx, started from its own template by whoever runs the tests."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.judges import require_program
from tests.support.processes import ManagedProcess, free_address

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["running_status_cache"]

_ROLE = Path(__file__).parents[2] / "collections/ansible_collections/peersys/pki/roles/status_cache"


@contextlib.contextmanager
def running_status_cache(directory: Path, upstreams: Sequence[str]) -> Iterator[str]:
    """Yield the address of an nginx in front of VAs (``host:port``). Skips without nginx."""
    nginx, address = require_program("nginx", "nginx"), free_address()
    for name in ("cache", "run"):
        (directory / name).mkdir(parents=True)
    configuration = directory / "nginx.conf"
    _render(configuration, directory, [address], list(upstreams))
    command = [nginx, "-p", str(directory), "-c", str(configuration), "-e", "stderr"]
    if os.geteuid() == 0:
        # Its workers would become somebody who can't reach this directory.
        command += ["-g", "user root;"]
    process = ManagedProcess(command, log_path=directory / "nginx.log")
    process.start()
    try:
        process.wait_ready(lambda: _listens(address))
        yield address
    finally:
        process.stop()


def _render(path: Path, directory: Path, listen: list[str], upstreams: list[str]) -> None:
    """Write the configuration as Ansible would."""
    variables = {
        "status_cache_listen": listen,
        "status_cache_upstreams": upstreams,
        "status_cache_directory": str(directory / "cache"),
        "status_cache_runtime_directory": str(directory / "run"),
    }
    template = {"src": str(_ROLE / "templates/nginx.conf.j2"), "dest": str(path), "mode": "0600"}
    program = Path(sys.executable).parent / "ansible"
    subprocess.run(
        [
            *(program, "localhost", "--inventory=localhost,", "--connection=local"),
            *("--module-name=ansible.builtin.template", f"--args={json.dumps(template)}"),
            f"--extra-vars=@{_ROLE / 'defaults/main.yml'}",
            f"--extra-vars={json.dumps(variables)}",
            f"--extra-vars=ansible_python_interpreter={sys.executable}",
        ],
        env={**os.environ, "ANSIBLE_HOME": str(directory / "ansible")},
        capture_output=True,
        timeout=60,
        check=True,
    )


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True
