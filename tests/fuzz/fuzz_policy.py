"""Fuzz roles and requests: a role parses or is refused by ConfigError; a decision never raises.

Run for as long as you like: ``python tests/fuzz/fuzz_policy.py -max_total_time=60``.
``tests/fuzz/test_short_runs.py`` runs it for a moment.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["node_agent.policy"]):
    from node_agent.policy import AccessRequest, decide, grants, parse_roles

from node_agent.errors import ConfigError
from node_agent.identity import NodeIdentity, PeerIdentity
from node_agent.objects import AccessRule, PeerRoleSpec

_PEER = PeerIdentity(NodeIdentity("t.example", "ra1"), "CN=Root", 15, "a" * 64, "b" * 64)
_PLACES = ("/ca/", "/profile/", "/signer/", "/*/")
_ALPHABET = "ab-_*/"
_MEMBERS = ("spiffe://t.example/node/ra1", f"spki:{'b' * 64}", "serial:f@CN=Root")


def check(data: bytes) -> None:
    """Parse a role out of ``data`` and decide a request on it."""
    source = atheris.FuzzedDataProvider(data)
    members = [_MEMBERS[source.ConsumeIntInRange(0, 2)], source.ConsumeUnicodeNoSurrogates(40)]
    rules = tuple(
        AccessRule(
            resource=_resource(source),
            effect="allow" if source.ConsumeBool() else "deny",
        )
        for _ in range(source.ConsumeIntInRange(0, 4))
    )
    wanted = _resource(source)
    for member_count in (1, 2):
        spec = PeerRoleSpec(name="r", members=tuple(members[:member_count]), rules=rules)
        try:
            roles = parse_roles([spec])
        except ConfigError as error:
            if not error.where.startswith("peer_roles/r"):
                raise
            continue
        decision = decide(AccessRequest("op", (wanted,), (_PEER,)), roles)
        assert decision.allowed == grants(roles.roles[0].rules, wanted)


def _resource(source: atheris.FuzzedDataProvider) -> str:
    """Return anything, or what looks like a pattern of names."""
    if source.ConsumeBool():
        return source.ConsumeUnicodeNoSurrogates(30)
    letters = (_ALPHABET[byte % len(_ALPHABET)] for byte in source.ConsumeBytes(12))
    return _PLACES[source.ConsumeIntInRange(0, len(_PLACES) - 1)] + "".join(letters)


def main() -> None:
    """Hand over to libFuzzer."""
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
