"""The reader who laid the hosts out (first_walk) comes to the end of the pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.acceptance.reader import PAGES, Reader, commands_of, commands_until

if TYPE_CHECKING:
    from tests.acceptance.deployment import Deployment


def test_readme_says_what_the_page_says() -> None:
    """So that walking the page (first_walk) is walking the README."""
    in_readme = [text for text in commands_of("README.md") if "inventories/mine" in text]
    assert in_readme == [text for text in commands_of(PAGES[0]) if "ansible-inventory" not in text]


@pytest.mark.timeout(600)
def test_pages_work_as_written_to_the_last_command(deployment: Deployment) -> None:
    """The last of these tests: what the pages end with leaves nothing on the hosts."""
    reader, typed = Reader(deployment), commands_until("stop.yml", PAGES[1])
    for text in commands_of(PAGES[1])[len(typed) :]:
        reader.types(text)
    for name in deployment.nodes:
        host = deployment.host(name)
        for path in ("/opt/peersys", "/etc/peersys", "/var/lib/peersys"):
            assert not host.file(path).exists, f"{name}:{path}"
        assert not host.service("peersys").exists, name
        assert "inet peersys" not in host.check_output("nft list tables"), name
