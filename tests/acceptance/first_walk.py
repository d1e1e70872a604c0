"""Lay hosts out by typing what the pages say, from the shipped inventory to an unchanged rerun.

``python -m tests.acceptance.first_walk three_tier``, or another scenario that has pages. What comes
later on them is typed by tests. ``.wheelhouse`` is the checkout's: it saves the download, nothing
else.
"""

from __future__ import annotations

import re
import sys
import time

from tests.acceptance.deployment import Deployment
from tests.acceptance.reader import (
    CACHE_PAGE,
    PAGES,
    PROXY_PAGE,
    TENANTS_PAGE,
    Reader,
    commands_of,
    commands_until,
)

# The page begins where somebody has an inventory already.
_OWN_VA_CHAINING = (
    "cp -r inventories/va_chaining inventories/mine",
    "ansible-playbook -i inventories/mine playbooks/secrets.yml",
    "ansible-vault encrypt inventories/mine/*_vars/*/vault.yml",
)


def main() -> int:
    """Walk, and leave the inventory that came of it to the acceptance tests."""
    deployment = Deployment.from_environment()
    reader = Reader(deployment)
    reader.begin()
    _WALKS[sys.argv[1]](reader)
    reader.hand_over(deployment.inventory)
    return 0


def _three_tier(reader: Reader) -> None:
    _lay_out(reader, commands_of(PAGES[0]))
    reader.keep_vault_password()
    for text in commands_until("stop.yml", PAGES[1]):
        said = _type(reader, text)
        if "site.yml" in text:
            _assert_unchanged(said)


def _va_chaining(reader: Reader) -> None:
    _lay_out_twice(reader, [*_OWN_VA_CHAINING, *commands_of(CACHE_PAGE)])


def _ra_chaining(reader: Reader) -> None:
    _lay_out_twice(reader, commands_of(PROXY_PAGE))


def _multi_tenant(reader: Reader) -> None:
    _lay_out_twice(reader, commands_until("tenants/gamma.yml", TENANTS_PAGE))


_WALKS = {
    "three_tier": _three_tier,
    "va_chaining": _va_chaining,
    "ra_chaining": _ra_chaining,
    "multi_tenant": _multi_tenant,
}


def _lay_out(reader: Reader, commands: list[str]) -> None:
    for text in commands:
        _type(reader, text)


def _lay_out_twice(reader: Reader, commands: list[str]) -> None:
    """Type all, and the command that lays out once more: it has nothing left to do."""
    _lay_out(reader, commands)
    _assert_unchanged(_type(reader, next(text for text in commands if "site.yml" in text)))


def _assert_unchanged(said: str) -> None:
    assert set(re.findall(r"changed=(\d+)", said)) == {"0"}, said


def _type(reader: Reader, text: str) -> str:
    began = time.monotonic()
    said = reader.types(text)
    print(f"{time.monotonic() - began:4.0f} s  {text}", flush=True)
    return said


if __name__ == "__main__":
    sys.exit(main())
