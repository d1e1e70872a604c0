"""Which denials of what a proxy brings are held back, when there is no end of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from node_agent.errors import PolicyDenied
from node_agent.peers.operations import ENROLL, CertificateAnswer, EnrollRequest
from tests.unit.peers.test_relay import CA_TO_PROXY, Chain, scene

if TYPE_CHECKING:
    from node_agent.peers.context import Context


def test_what_a_proxy_brings_of_a_tenant_that_is_denied_without_end_is_held_back() -> None:
    async def play(chain: Chain) -> None:
        chain.ca.grant({"proxy1": CA_TO_PROXY})
        denials = chain.ca.dispatcher._restraint
        for _ in range(300):
            denials.after_denial(chain.proxy.node, chain.tenant.node)
        began = time.monotonic()
        with pytest.raises(PolicyDenied):
            await chain.ask()
        assert time.monotonic() - began > 0.5

    scene(play)


def test_what_no_proxy_could_have_denied_is_not_held_back() -> None:
    """Which names a tenant may ask for the handler tells: others would wait with it."""

    async def play(chain: Chain) -> None:
        async def deny(context: Context, request: EnrollRequest) -> CertificateAnswer:
            raise PolicyDenied("no such name", rule="names")

        chain.ca.dispatcher.register(ENROLL, deny)
        for _ in range(300):
            chain.ca.dispatcher._restraint.after_denial(chain.proxy.node, chain.tenant.node)
        began = time.monotonic()
        with pytest.raises(PolicyDenied):
            await chain.ask()
        assert time.monotonic() - began < 0.5
        assert [record.action for record in chain.ca.denials] == ["ra.enroll"]

    scene(play)
