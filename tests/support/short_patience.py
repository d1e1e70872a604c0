"""``python -m tests.support.short_patience run``: an agent that soon loses patience with a peer,
and as an RA with a CA that nobody can reach.

What the times are without this, tests/unit/wire/test_connection.py says. Keys are cheap, too.
"""

from __future__ import annotations

import sys
from unittest import mock

from node_agent.net import NetSettings
from node_agent.wire.settings import WireSettings
from tests.support.cheap_scrypt import cheap_scrypt

__all__ = ["IMPATIENT", "REQUEST_SECONDS"]

# Of a request at an RA: an honest CA on a busy machine has to answer within it.
REQUEST_SECONDS = 8.0

# An honest node of a busy machine has to answer a ping within the stall.
IMPATIENT = WireSettings(keep_alive_seconds=1, write_stall_seconds=4, message_timeout_seconds=2)


def main() -> int:
    """Run ``peersys`` with the arguments of this process."""
    from node_agent.cli import main as peersys

    settings = NetSettings(wire=IMPATIENT)
    with (
        cheap_scrypt(),
        mock.patch("node_agent.functions.linking.NetSettings", return_value=settings),
        mock.patch("node_agent.functions.registration._REQUEST_SECONDS", REQUEST_SECONDS),
    ):
        return peersys(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
