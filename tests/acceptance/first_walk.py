"""Lay hosts out by typing what the pages say, from the shipped inventory to an unchanged rerun.

``python -m tests.acceptance.first_walk``; how the pages end, with ``stop`` and ``decommission``, is
a test's, after all others. ``.wheelhouse`` is the checkout's: it saves the download, nothing else.
"""

from __future__ import annotations

import re
import sys
import time

from tests.acceptance.deployment import Deployment
from tests.acceptance.reader import PAGES, Reader, commands_of


def main() -> int:
    """Walk, and leave the inventory that came of it to the acceptance tests."""
    deployment = Deployment.from_environment()
    reader = Reader(deployment)
    reader.begin()
    for text in commands_of(PAGES[0]):
        _type(reader, text)
    reader.keep_vault_password()
    for text in until_stop(commands_of(PAGES[1])):
        said = _type(reader, text)
        if "site.yml" in text:
            assert set(re.findall(r"changed=(\d+)", said)) == {"0"}, said
    reader.hand_over(deployment.inventory)
    return 0


def until_stop(commands: list[str]) -> list[str]:
    """Return what the page says before it takes the nodes down again."""
    first = next(number for number, text in enumerate(commands) if "stop.yml" in text)
    return commands[:first]


def _type(reader: Reader, text: str) -> str:
    began = time.monotonic()
    said = reader.types(text)
    print(f"{time.monotonic() - began:4.0f} s  {text}", flush=True)
    return said


if __name__ == "__main__":
    sys.exit(main())
