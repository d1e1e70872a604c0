"""Try a port of a host from somewhere, and say what is met there."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.acceptance.deployment import Deployment

_SECONDS = 2
_PROGRAM = """\
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=float(sys.argv[3])).close()
    print("open")
except TimeoutError:
    print("silent")
except OSError as error:
    print(error)
"""


def met_by_client(deployment: Deployment, name: str, port: int) -> str:
    """Return what a client meets at a host's port: these tests have a client's network."""
    command = _dial(deployment, name, port)
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def met_by_neighbour(deployment: Deployment, name: str, port: int) -> str:
    """Return what somebody in the host's own zone meets there; no router is between them."""
    return deployment.controller(*_dial(deployment, name, port)).stdout.strip()


def met_by_host(deployment: Deployment, source: str, name: str, port: int) -> str:
    """Return what another host meets there."""
    program, option, code, *where = _dial(deployment, name, port)
    said = deployment.host(source).check_output(f"{program} {option} %s {' '.join(where)}", code)
    return str(said)


def _dial(deployment: Deployment, name: str, port: int) -> tuple[str, ...]:
    address = str(deployment.variables[name]["ansible_host"])
    return ("python3", "-c", _PROGRAM, address, str(port), str(_SECONDS))
