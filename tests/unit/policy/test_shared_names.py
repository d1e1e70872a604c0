"""Whether there is one name that everyone is granted, whatever their patterns look like."""

from __future__ import annotations

import pytest

from node_agent.identity import PeerIdentity
from node_agent.policy import share_a_name
from tests.support.peer_nodes import identity_of, roles_of


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("/ca/issuing", "/ca/issuing", True),
        ("/ca/issuing", "/ca/other", False),
        ("/ca/issuing", "/ca/*", True),
        ("/ca/issuing", "/ca/iss*", True),
        ("/ca/issuing", "/ca/acme-*", False),
        ("/ca/acme-*", "/ca/*", True),
        ("/ca/acme-*", "/ca/*-eu", True),
        ("/ca/acme-*", "/ca/else-*", False),
        ("/ca/**", "/ca/*", True),
        ("/**", "/ca/issuing", True),
        ("/*/issuing", "/ca/issuing", True),
        ("/profile/issuing", "/ca/issuing", False),
        ("/peer/incoming", "/peer/incoming", False),
    ],
)
def test_grants_that_overlap_share_a_name(first: str, second: str, expected: bool) -> None:
    subjects = [PeerIdentity.named(identity_of(name)) for name in ("one", "two")]
    for a, b in ((first, second), (second, first)):
        assert share_a_name("ca", subjects, roles_of({"one": [a], "two": [b]})) is expected


def test_what_is_denied_is_not_shared() -> None:
    subjects = [PeerIdentity.named(identity_of(name)) for name in ("one", "two")]
    roles = roles_of({"one": ["/ca/issuing", "!/ca/issuing"], "two": ["/ca/issuing"]})
    assert not share_a_name("ca", subjects, roles)


def test_who_has_no_role_shares_nothing() -> None:
    subjects = [PeerIdentity.named(identity_of(name)) for name in ("one", "two")]
    assert not share_a_name("ca", subjects, roles_of({"one": ["/ca/**"]}))
