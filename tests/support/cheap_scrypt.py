"""Keys at a scrypt cost that guards nothing, where a test is of something else: the real cost takes
64 MiB and a third of a second for each token of each process, twice in the parts of one CA.

``python -m tests.support.cheap_scrypt run --config …`` is an agent that does so. What the cost is
without this, tests/unit/pki/test_soft_token.py says; agents that bear it run in the tests of
playbooks and documentation, in those of the collection, and on test hosts.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING
from unittest import mock

from node_agent.pki.pkcs8 import ScryptCost

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FAST", "cheap_scrypt"]

FAST = ScryptCost(n=2**10, r=8, p=1)


@contextlib.contextmanager
def cheap_scrypt() -> Iterator[None]:
    """Have every token that names no cost take ``FAST``."""
    with mock.patch("node_agent.pki.soft_token.ScryptCost", return_value=FAST):
        yield


def main() -> int:
    """Run ``peersys`` with the arguments of this process."""
    from node_agent.cli import main as peersys

    with cheap_scrypt():
        return peersys(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
