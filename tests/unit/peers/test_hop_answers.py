"""What a node on the way says in its own name ends nothing while another one can be asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from node_agent.errors import CallTimeout, NodeAgentError, PolicyDenied, RemoteError, Unavailable
from node_agent.net import IncomingCall, RawAnswer
from node_agent.peers.answers import Problem, encode_problem
from node_agent.peers.envelope import body_digest_of, sign_answer
from node_agent.peers.operations import ENROLL, CertificateAnswer, EnrollRequest
from node_agent.wire.codes import Status
from tests.support.event_loop import run
from tests.support.peer_nodes import Meadow, PeerNode
from tests.unit.peers.test_calls_over_links import CA_GRANTS, ENROLMENT, RA_GRANTS
from tests.unit.peers.test_relay import CA_TO_PROXY, PROXY_GRANTS

if TYPE_CHECKING:
    from node_agent.peers.context import Context

LIE = Problem("quota-exceeded", "call 555-0100", "csr", "pay", retry_after_seconds=7)
REFUSALS = [
    pytest.param(status, is_signed, id=f"{status.name} {'signed' if is_signed else 'unsigned'}")
    for status, is_signed in (
        (Status.DENIED, True),
        (Status.INVALID, True),
        (Status.UNAVAILABLE, True),
        (Status.DEADLINE, True),
        (Status.INTERNAL, True),
        (Status.UNAVAILABLE, False),
        (Status.DEADLINE, False),
        (Status.INTERNAL, False),
    )
]


class Fork:
    """A tenant with two proxies before one CA. ``refusing`` proxies don't pass anything on."""

    def __init__(self, meadow: Meadow) -> None:
        self.meadow = meadow
        self.refused: list[str] = []
        names = ("proxy1", "proxy2")
        self.ca = meadow.node(
            "ca1", {"tenant1": RA_GRANTS[1:], **dict.fromkeys(names, CA_TO_PROXY)}
        )
        self.ca.held.add("ca/issuing")
        self.proxies = [
            meadow.node(name, {"tenant1": RA_GRANTS, "ca1": CA_GRANTS}) for name in names
        ]
        self.tenant = meadow.node(
            "tenant1", {**dict.fromkeys(names, PROXY_GRANTS), "ca1": CA_GRANTS[1:]}
        )
        for proxy in self.proxies:
            proxy.relay_to(self.ca)

        async def handler(context: Context, request: EnrollRequest) -> CertificateAnswer:
            return CertificateAnswer(chain=(b"certificate",))

        self.ca.dispatcher.register(ENROLL, handler)

    async def connect(self) -> None:
        for proxy in self.proxies:
            await self.meadow.link(self.ca, proxy)
            await self.meadow.link(self.tenant, proxy)

    def refuse(self, proxy: PeerNode, status: Status, *, is_signed: bool) -> None:
        async def refuse(call: IncomingCall) -> RawAnswer:
            self.refused.append(proxy.node.name)
            if not is_signed:
                return RawAnswer(status)
            answer = sign_answer(
                proxy.holder,
                body_digest=body_digest_of(call.payload),
                status=status,
                payload=encode_problem(LIE),
            )
            return RawAnswer(status, answer)

        proxy.dispatcher.handle = refuse  # type: ignore[method-assign]

    async def ask(self) -> CertificateAnswer:
        return await self.tenant.caller.call(
            ENROLL, ENROLMENT, peers=[self.ca.node], requester="alice", timeout_seconds=5
        )


@pytest.mark.parametrize(("status", "is_signed"), REFUSALS)
def test_the_honest_one_of_two_proxies_is_asked_as_well(status: Status, is_signed: bool) -> None:
    async def scene() -> None:
        async with Meadow() as meadow:
            fork = Fork(meadow)
            await fork.connect()
            fork.refuse(fork.proxies[0], status, is_signed=is_signed)
            for _ in range(3):
                fork.tenant.directory.avoid(fork.proxies[1].node, 60)  # the hostile one first
                assert (await fork.ask()).chain == (b"certificate",)
                fork.tenant.directory._avoided.forget(fork.proxies[0].node)
            assert fork.refused == ["proxy1"] * 3

    run(scene())


@pytest.mark.parametrize(("status", "is_signed"), REFUSALS)
def test_when_nobody_is_left_it_counts_but_what_was_written_in_it_does_not(
    status: Status, is_signed: bool
) -> None:
    expected: dict[Status, type[NodeAgentError]] = {
        Status.DENIED: PolicyDenied,
        Status.UNAVAILABLE: Unavailable,
        Status.DEADLINE: CallTimeout,
    }

    async def scene() -> None:
        async with Meadow() as meadow:
            fork = Fork(meadow)
            await fork.connect()
            for proxy in fork.proxies:
                fork.refuse(proxy, status, is_signed=is_signed)
            with pytest.raises(expected.get(status, RemoteError)) as caught:
                await fork.ask()
            assert sorted(fork.refused) == ["proxy1", "proxy2"]
            said = f"{caught.value} {vars(caught.value)}"
            assert not any(word in said for word in ("555", "pay", "quota", "csr"))

    run(scene())


@pytest.mark.parametrize(("status", "is_signed"), REFUSALS)
def test_a_proxy_asks_the_honest_one_of_two_nearer_ones_as_well(
    status: Status, is_signed: bool
) -> None:
    async def scene() -> None:
        async with Meadow() as meadow:
            fork = Fork(meadow)
            outer = meadow.node(
                "outer",
                {
                    "tenant1": RA_GRANTS,
                    **dict.fromkeys(("proxy1", "proxy2"), PROXY_GRANTS),
                    "ca1": CA_GRANTS[1:],
                },
            )
            outer.relay_to(*fork.proxies)
            fork.tenant.grant({"outer": PROXY_GRANTS, "ca1": CA_GRANTS[1:]})
            fork.ca.grant(
                {
                    "tenant1": RA_GRANTS[1:],
                    **dict.fromkeys(("proxy1", "proxy2", "outer"), CA_TO_PROXY),
                }
            )
            for proxy in fork.proxies:
                proxy.grant({"tenant1": RA_GRANTS, "outer": CA_TO_PROXY, "ca1": CA_GRANTS})
                await meadow.link(fork.ca, proxy)
                await meadow.link(proxy, outer)
            await meadow.link(fork.tenant, outer)
            fork.refuse(fork.proxies[0], status, is_signed=is_signed)
            outer.directory.avoid(fork.proxies[1].node, 60)
            assert (await fork.ask()).chain == (b"certificate",)
            assert fork.refused == ["proxy1"]

    run(scene())


def test_what_the_ca_itself_refuses_is_asked_of_no_other_proxy() -> None:
    async def scene() -> None:
        async with Meadow() as meadow:
            fork = Fork(meadow)
            await fork.connect()
            fork.ca.grant(dict.fromkeys(("proxy1", "proxy2"), CA_TO_PROXY))
            with pytest.raises(PolicyDenied, match="denied it"):
                await fork.ask()
            assert len(fork.ca.denials) == 1

    run(scene())
