"""Keys are renewed while a request passes a proxy: nothing is lost, nothing issued twice."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from node_agent.errors import NodeAgentError
from node_agent.net import RawAnswer
from node_agent.peers.operations import ENROLL, EnrollRequest
from node_agent.wire import Status
from tests.support.chains import Chain
from tests.support.hostile_node import HostileNode, certified_holder
from tests.support.hostile_requests import CSR
from tests.support.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from node_agent.net import IncomingCall

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    with Chain(
        tmp_path_factory.mktemp("renewal"),
        cas={"ca1": ("issuing",)},
        proxies=["inner"],
        behind={"alpha": ("issuing",)},
        dials=[("ca1", "inner"), ("alpha", "inner")],
    ) as found:
        yield found


@pytest.fixture(scope="module")
def proxy(chain: Chain) -> Iterator[HostileNode]:
    """The proxy's place, to act while a request is there."""
    holder = certified_holder(chain["ca1"], chain["inner"].identity)
    chain["inner"].stop()
    with HostileNode(holder, listen=chain["inner"].listen["peer"]) as node:
        wait_until(
            lambda: node.is_linked(chain["ca1"].identity),
            timeout_seconds=30,
            what="the CA dialled the proxy",
        )
        yield node


@pytest.fixture(scope="module")
def tenant(chain: Chain, proxy: HostileNode) -> Iterator[HostileNode]:
    chain["alpha"].stop()
    with HostileNode(certified_holder(chain["ca1"], chain["alpha"].identity)) as node:
        node.believe(chain["ca1"].identity)
        node.believe_relay(chain["inner"].identity)
        node.dial(chain["inner"].listen["peer"], chain["inner"].identity)
        yield node


def enrol(chain: Chain, tenant: HostileNode, request_id: bytes) -> tuple[bytes, ...]:
    request = EnrollRequest(authority="issuing", profile="server", csr=CSR)
    answer = tenant.ask(ENROLL, request, of=chain["ca1"].identity, request_id=request_id)
    issued: tuple[bytes, ...] = answer.chain
    return issued


def issued(chain: Chain) -> int:
    return len(chain["ca1"].admin.get("/v1/certificates?authority=issuing&limit=1000"))


def test_an_origin_that_renewed_its_key_gets_the_certificate_of_its_first_try(
    chain: Chain, proxy: HostileNode, tenant: HostileNode
) -> None:
    """The first answer is lost on its way, and the second try is signed by the next key."""
    ca, answers = chain["ca1"].identity, list[RawAnswer]()

    async def lose_the_first(call: IncomingCall) -> RawAnswer:
        answers.append(
            await proxy.forward(call.method, call.payload, request_id=call.request_id, to=ca)
        )
        return RawAnswer(Status.INTERNAL) if len(answers) == 1 else answers[-1]

    proxy.handler = lose_the_first
    before, request_id = issued(chain), secrets.token_bytes(16)
    with pytest.raises(NodeAgentError):
        enrol(chain, tenant, request_id)
    tenant.holder.replace(certified_holder(chain["ca1"], chain["alpha"].identity).current)
    assert enrol(chain, tenant, request_id)
    assert [answer.status for answer in answers] == [Status.OK, Status.OK]
    assert issued(chain) == before + 1


@pytest.mark.parametrize("when", ["before it gets the request", "after it has answered"])
def test_a_ca_node_that_is_certified_anew_meanwhile_is_believed(
    chain: Chain, proxy: HostileNode, tenant: HostileNode, when: str
) -> None:
    ca = chain["ca1"]
    forward = proxy.forward

    async def renewing(call: IncomingCall) -> RawAnswer:
        """The admin API is asked from here: nothing else of this node has to go on meanwhile."""
        if when.startswith("before"):
            ca.certify(ca)
        answer = await forward(
            call.method, call.payload, request_id=call.request_id, to=ca.identity
        )
        if when.startswith("after"):
            ca.certify(ca)
        return answer

    proxy.handler = renewing
    before = issued(chain)
    assert enrol(chain, tenant, secrets.token_bytes(16))
    assert issued(chain) == before + 1
