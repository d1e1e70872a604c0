"""An RA asks its CA for no name that its requester may not have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from node_agent.clock import SystemClock
from node_agent.errors import PolicyDenied
from node_agent.functions.registration import Registration
from node_agent.objects import AccessRule, RequesterSpec
from node_agent.policy import parse_roles
from node_agent.web.backends import EnrollCall, Requester
from node_agent.web.rate_limit import Rate
from tests.support.csrs import csr_der
from tests.support.event_loop import run

if TYPE_CHECKING:
    from node_agent.store.records import AuditRecord

SPEC = RequesterSpec(
    name="web",
    token_sha256="ab" * 32,
    rules=tuple(
        AccessRule(resource=path)
        for path in ("/ra/enroll", "/ca/issuing", "/profile/server", "/protocol/rest")
    ),
    names=("dns:www.example.org",),
)


class Nothing:
    """Links and objects: a denied request must not get as far as asking for more."""

    def specs(self, kind: str, of: type[Any]) -> list[RequesterSpec]:
        """Return the one requester."""
        return [SPEC]


def test_a_requester_is_denied_other_names_and_the_denial_is_audited() -> None:
    audited: list[AuditRecord] = []

    async def audit(record: AuditRecord) -> None:
        audited.append(record)

    async def scenario() -> None:
        nothing: Any = Nothing()
        registration = Registration(
            objects=nothing,
            roles=lambda: parse_roles([], [SPEC]),
            caller=nothing,
            upstreams=nothing,
            audit=audit,
            clock=SystemClock(),
        )
        call = EnrollCall(
            authority="issuing",
            profile="server",
            csr=csr_der(names=["dns:example.org"]),
            request_id=bytes(16),
        )
        with pytest.raises(PolicyDenied, match=r"requesters/web: names\[0\]"):
            await registration.enroll(Requester("web", Rate(300, 1000)), call)

    run(scenario())
    (record,) = audited
    assert (record.action, record.allowed, record.chain) == ("ra.enroll", False, "web")
    assert "dns:example.org" in record.reason
