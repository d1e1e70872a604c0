"""Two tenants with a CA node each, behind two proxies of which one was taken over; and a taken-over
tenant at the honest one.
"""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from node_agent.errors import PolicyDenied
from node_agent.identity import NodeIdentity
from node_agent.net import RawAnswer
from node_agent.peers.answers import Problem, encode_problem
from node_agent.peers.envelope import body_digest_of, sign_answer
from node_agent.peers.operations import CATALOGUE, CatalogueRequest
from node_agent.wire import Status
from node_agent.wire.settings import WireSettings
from tests.support.chains import Chain
from tests.support.hostile_node import HostileNode, certified_holder
from tests.support.openssl import make_csr
from tests.support.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from node_agent.net import IncomingCall

pytestmark = pytest.mark.timeout(120)

LIE = Problem("quota-exceeded", "call 555-0100", "csr", "pay", retry_after_seconds=1)
LINKS = 20
_AT_ONCE = 4


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    with Chain(
        tmp_path_factory.mktemp("two-proxies"),
        cas={"ca1": ("issuing",), "ca2": ("other",)},
        proxies=["honest", "fallen"],
        behind={"alpha": ("issuing",), "beta": ("other",)},
        dials=[
            (dialler, proxy)
            for dialler in ("ca1", "ca2", "alpha", "beta")
            for proxy in ("honest", "fallen")
        ],
    ) as found:
        yield found


@pytest.fixture(scope="module")
def fallen(chain: Chain) -> Iterator[HostileNode]:
    """The second proxy's key in other hands."""
    agent = chain["fallen"]
    holder = certified_holder(chain["ca1"], agent.identity)
    agent.stop()
    with HostileNode(holder, listen=agent.listen["peer"]) as node:
        wait_until(
            lambda: all(node.is_linked(chain[name].identity) for name in ("alpha", "beta")),
            timeout_seconds=30,
            what="the tenants dialled the hostile proxy",
        )
        yield node


@pytest.fixture(scope="module")
def mallory(chain: Chain, fallen: HostileNode) -> Iterator[HostileNode]:
    """The tenant alpha's key in other hands; with its last link alpha's own tests are over."""
    holder = certified_holder(chain["ca1"], chain["alpha"].identity)
    chain["alpha"].stop()
    honest = chain["honest"]
    with HostileNode(holder) as node:
        node.dial(honest.listen["peer"], honest.identity)
        node.believe(chain["ca1"].identity)
        node.believe_relay(honest.identity)
        yield node


def enrol(chain: Chain, directory: Path, tenant: str, authority: str) -> tuple[int, Any]:
    csr = make_csr(directory, f"{uuid.uuid4().hex}.example.org")
    status, answer = chain.rest(tenant).enroll(csr, authority=authority)
    return status, answer


@pytest.mark.parametrize("is_signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize(
    "refusal", [Status.DENIED, Status.INVALID, Status.UNAVAILABLE, Status.DEADLINE, Status.INTERNAL]
)
def test_no_refusal_of_a_hostile_proxy_overrules_the_honest_one(
    chain: Chain, fallen: HostileNode, tmp_path: Path, refusal: Status, is_signed: bool
) -> None:
    asked: list[str] = []

    async def refuse(call: IncomingCall) -> RawAnswer:
        asked.append(call.method)
        if not is_signed:
            return RawAnswer(refusal)
        answer = sign_answer(
            fallen.holder,
            body_digest=body_digest_of(call.payload),
            status=refusal,
            payload=encode_problem(LIE),
        )
        return RawAnswer(refusal, answer)

    fallen.handler = refuse

    def ask() -> bool:
        """Several at once: a lone request keeps to the link that served the one before."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            answers = pool.map(
                lambda _: enrol(chain, tmp_path, "alpha", "issuing"), range(_AT_ONCE)
            )
            assert {status for status, _ in answers} == {201}
        return "ra.enroll" in asked

    wait_until(ask, timeout_seconds=30, what="the hostile proxy was asked too")


def test_a_kept_read_is_not_served_again(
    chain: Chain, fallen: HostileNode, since_now: Callable[..., Any], tmp_path: Path
) -> None:
    """Each is answered the same, whether the CA served it or only the hostile proxy knows it."""
    ca = chain["ca1"].identity
    kept: list[tuple[str, bytes, bytes]] = []

    async def pass_on(call: IncomingCall) -> RawAnswer:
        kept.append((call.method, call.payload, call.request_id))
        return await fallen.forward(call.method, call.payload, request_id=call.request_id, to=ca)

    fallen.handler = pass_on
    wait_until(lambda: fallen.is_linked(ca), timeout_seconds=30, what="the CA dialled it")

    def ask() -> bool:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            searches = pool.map(
                lambda _: chain.rest("alpha").request("GET", "/v1/certificates?authority=issuing"),
                range(_AT_ONCE),
            )
            assert {status for status, _ in searches} == {200}
        return any(method == "ra.search" for method, _, _ in kept)

    wait_until(ask, timeout_seconds=30, what="a search passed the hostile proxy")
    log = since_now(chain["ca1"])
    method, payload, request_id = next(item for item in kept if item[0] == "ra.search")
    for _ in range(2):
        answer = fallen.send(method, payload, request_id=request_id, to=ca)
        assert answer.status == Status.UNAVAILABLE
    assert [entry["reason"] for entry in log.denials()] == ["it was served before: replayed"] * 2


def _ask_catalogue(mallory: HostileNode, identity: str) -> str:
    with pytest.raises(PolicyDenied) as denied:
        mallory.ask(CATALOGUE, CatalogueRequest(), of=identity)
    return str(denied.value)


def test_a_tenant_cannot_tell_another_tenants_ca_node_from_none(
    chain: Chain, mallory: HostileNode, since_now: Callable[..., Any]
) -> None:
    at_proxy, at_ca = since_now(chain["honest"]), since_now(chain["ca2"])
    there = chain["ca2"].identity
    absent = there.replace("ca2", "ca9")
    tenant = chain["beta"].identity
    answers = [_ask_catalogue(mallory, who) for who in (there, absent, tenant)]
    assert len(set(answers)) == 1
    assert [entry["action"] for entry in at_proxy.denials()] == ["ra.catalogue"] * 3
    assert at_ca.entries() == []
    offers = mallory.ask(CATALOGUE, CatalogueRequest(), of=chain["ca1"].identity)
    assert [offer.name for offer in offers.authorities] == ["issuing"]


def test_more_links_are_no_more_requests_at_a_time(
    chain: Chain, mallory: HostileNode, tmp_path: Path
) -> None:
    honest = chain["honest"]
    for _ in range(LINKS):
        mallory.dial(honest.listen["peer"], honest.identity)
    links = mallory.directory.links(NodeIdentity.parse(honest.identity))
    assert len(links) > LINKS
    wait_until(
        lambda: sum(link.available_credits for link in links) <= WireSettings().credits,
        timeout_seconds=10,
        what="the links share the tenant's credits",
    )
    assert enrol(chain, tmp_path, "beta", "other")[0] == 201
