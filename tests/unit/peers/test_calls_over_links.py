"""A signed call over a real link: decided, audited, handled, signed, believed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from node_agent.errors import (
    AcquireTimeout,
    CallTimeout,
    Conflict,
    CsrRefused,
    LintFailed,
    NotFound,
    PolicyDenied,
    ProfileViolation,
    RemoteError,
    RequestRefused,
    Unavailable,
)
from node_agent.peers.operations import (
    CATALOGUE,
    ENROLL,
    PUBLISH,
    PUBLISH_CONTENT,
    PUBLISH_POSITION,
    STATUS,
    CatalogueAnswer,
    CatalogueRequest,
    CertificateAnswer,
    ContentAnswer,
    ContentRequest,
    EnrollRequest,
    PositionRequest,
    PublishAnswer,
    PublishRequest,
    StatusRequest,
)
from tests.support.event_loop import run
from tests.support.peer_nodes import Meadow, PeerNode, until

if TYPE_CHECKING:
    from node_agent.peers.context import Context

ENROLMENT = EnrollRequest(authority="issuing", profile="server", csr=b"csr")
RA_GRANTS = ["/peer/incoming", "/ra/*", "/ca/issuing", "/profile/server", "/protocol/rest"]
CA_GRANTS = ["/peer/incoming", "/peer/upstream", "/ca/issuing"]


async def answer_enrolment(context: Context, request: EnrollRequest) -> CertificateAnswer:
    return CertificateAnswer(chain=(request.csr, context.requester.encode()))


async def a_pair(meadow: Meadow) -> tuple[PeerNode, PeerNode]:
    """Return a CA that dialled an RA, with enrolment served."""
    ca = meadow.node("ca1", {"ra1": RA_GRANTS})
    ra = meadow.node("ra1", {"ca1": CA_GRANTS})
    ca.held.add("ca/issuing")
    ca.dispatcher.register(ENROLL, answer_enrolment)
    await meadow.link(ca, ra)
    return ca, ra


async def enroll(ra: PeerNode, ca: PeerNode, **options: object) -> CertificateAnswer:
    chosen: dict[str, object] = {"timeout_seconds": 5.0, "peers": [ca.node], **options}
    return await ra.caller.call(ENROLL, ENROLMENT, **chosen)  # type: ignore[arg-type]


def test_a_downstream_request_goes_up_the_link_that_upstream_dialled() -> None:
    async def scene() -> None:
        async with Meadow() as meadow:
            ca, ra = await a_pair(meadow)
            answer = await enroll(ra, ca, requester="alice")
            assert answer.chain == (b"csr", b"alice")

    run(scene())


def test_the_handler_learns_who_asks_and_the_audit_line_says_it() -> None:
    async def scene() -> None:
        async with Meadow() as meadow:
            ca, ra = await a_pair(meadow)
            seen: list[Context] = []

            async def handler(context: Context, request: EnrollRequest) -> CertificateAnswer:
                seen.append(context)
                return CertificateAnswer(chain=())

            ca.dispatcher.register(ENROLL, handler)
            for _ in range(2):
                await enroll(ra, ca, requester="alice", request_id=b"r" * 16)
            first, again = seen
            assert first.origin.node == first.peer.node == ra.node
            assert first.via == ()
            assert first.requester == "alice"
            assert first.request_id == b"r" * 16
            assert first.request_digest == again.request_digest
            assert first.audit_record.chain == "alice via ra1"
            assert first.audit_record.resources == ENROLL.resources(ENROLMENT)
            assert first.decision.allowed
            assert first.permits("/ca/issuing")
            assert not first.permits("/ca/issuing", "/ca/other")
            await enroll(ra, ca, requester="bob", request_id=b"r" * 16)
            assert seen[-1].request_digest != first.request_digest

    run(scene())


@pytest.mark.parametrize("missing", ["/ra/*", "/ca/issuing", "/profile/server", "/protocol/rest"])
def test_a_missing_grant_denies_and_audits_before_any_handler(missing: str) -> None:
    async def scene() -> None:
        async with Meadow() as meadow:
            ca, ra = await a_pair(meadow)
            reached: list[str] = []

            async def handler(context: Context, request: EnrollRequest) -> CertificateAnswer:
                reached.append("handler")
                return CertificateAnswer(chain=())

            ca.dispatcher.register(ENROLL, handler)
            ca.grant({"ra1": [grant for grant in RA_GRANTS if grant != missing]})
            with pytest.raises(PolicyDenied) as denied:
                await enroll(ra, ca, requester="alice")
            assert str(denied.value) == "ca1 denied it"  # not which grant, not whether it exists
            assert reached == []
            (record,) = ca.audited
            assert not record.allowed
            assert record.action == "ra.enroll"
            assert record.chain == "alice via ra1"
            assert "is not granted" in record.reason

    run(scene())


def test_an_unknown_ca_and_a_ca_that_isnt_granted_look_the_same() -> None:
    async def scene() -> None:
        async with Meadow() as meadow:
            ca, ra = await a_pair(meadow)
            ca.held.add("ca/secret")
            answers = []
            for authority in ("secret", "nowhere"):
                request = msgspec.structs.replace(ENROLMENT, authority=authority)
                with pytest.raises(PolicyDenied) as denied:
                    await ra.caller.call(ENROLL, request, peers=[ca.node], timeout_seconds=5)
                answers.append(str(denied.value))
            assert answers[0] == answers[1]

    run(scene())


def test_an_operation_without_a_handler_here_is_unavailable_only_to_whom_it_is_granted() -> None:
    async def scene() -> None:
        async with Meadow() as meadow:
            ca, ra = await a_pair(meadow)
            request = StatusRequest(authority="issuing", serial=b"\x01")
            with pytest.raises(Unavailable):
                await ra.caller.call(STATUS, request, peers=[ca.node], timeout_seconds=5)
            ca.grant({"ra1": ["/peer/incoming"]})
            with pytest.raises(PolicyDenied):
                await ra.caller.call(STATUS, request, peers=[ca.node], timeout_seconds=5)

    run(scene())


@pytest.mark.parametrize(
    ("raised", "expected", "text"),
    [
        (CsrRefused("weak key", field="csr", remedy="use P-256"), CsrRefused, "weak key"),
        (ProfileViolation("no such name", field="san"), ProfileViolation, "no such name"),
        (LintFailed(["e_one", "e_two"]), LintFailed, "e_one; e_two"),
        (RequestRefused("odd"), RequestRefused, "odd"),
        (NotFound("no certificate"), NotFound, "no certificate"),
        (Conflict("other content"), Conflict, "other content"),
        (Unavailable("locked", retry_after_seconds=7), Unavailable, "served now"),
        (PolicyDenied("secret reason", rule="r"), PolicyDenied, "ca1 denied it"),
        (TimeoutError(), CallTimeout, "not done in time"),
        (ValueError("secret detail"), RemoteError, "status 7"),
    ],
)
def test_what_a_handler_raises_is_raised_again_at_the_caller(
    raised: Exception, expected: type[Exception], text: str
) -> None:
    async def scene() -> None:
        async with Meadow() as meadow:
            ca, ra = await a_pair(meadow)

            async def handler(context: Context, request: EnrollRequest) -> CertificateAnswer:
                raise raised

            ca.dispatcher.register(ENROLL, handler)
            with pytest.raises(expected, match=text) as caught:
                await enroll(ra, ca)
            assert "secret" not in str(caught.value)
            for name in ("field", "remedy", "retry_after_seconds"):
                if hasattr(raised, name):
                    assert getattr(caught.value, name) == getattr(raised, name)
            (record,) = ca.audited
            assert record.allowed == (not isinstance(raised, PolicyDenied))

    run(scene())


def test_reads_are_audited_by_the_dispatcher_and_writes_by_their_own_transaction() -> None:
    async def scene() -> None:
        async with Meadow() as meadow:
            ca, ra = await a_pair(meadow)
            await enroll(ra, ca)
            assert ca.audited == []  # this handler commits nothing, and it is its record to commit

            async def status(context: Context, request: StatusRequest) -> object:
                raise NotFound("none")

            ca.dispatcher.register(STATUS, status)  # type: ignore[arg-type]
            with pytest.raises(NotFound):
                await ra.caller.call(
                    STATUS,
                    StatusRequest(authority="issuing", serial=b"\x01"),
                    peers=[ca.node],
                    timeout_seconds=5,
                )
            (record,) = ca.audited
            assert record.allowed
            assert record.detail["outcome"] == "not-found"

    run(scene())


def test_without_an_audit_entry_there_is_no_answer() -> None:
    async def scene() -> None:
        async with Meadow() as meadow:
            ca, ra = await a_pair(meadow)
            ca.audit_fails = True
            ca.grant({"ra1": ["/peer/incoming"]})
            with pytest.raises(Unavailable):
                await enroll(ra, ca)

    run(scene())


def test_publishing_is_audited_only_when_denied() -> None:
    async def scene() -> None:
        async with Meadow() as meadow:
            ca = meadow.node("ca1", {"va1": ["/peer/incoming"]})
            va = meadow.node("va1", {"ca1": ["/peer/incoming", "/peer/publish/crl", "/ca/issuing"]})

            async def publish(context: Context, request: PublishRequest) -> PublishAnswer:
                return PublishAnswer(position=request.position)

            va.dispatcher.register(PUBLISH, publish)
            await meadow.link(ca, va)
            batch = PublishRequest(
                source=ca.node.uri, after=0, position=9, authorities=("issuing",), entries=()
            )
            answer = await ca.caller.call(PUBLISH, batch, peers=[va.node], timeout_seconds=5)
            assert answer.position == 9
            assert va.audited == []
            foreign = msgspec.structs.replace(batch, authorities=("issuing", "other"))
            with pytest.raises(PolicyDenied):
                await ca.caller.call(PUBLISH, foreign, peers=[va.node], timeout_seconds=5)
            assert [record.action for record in va.denials] == ["publish.batch"]

    run(scene())


@pytest.mark.parametrize("authorities", [(), ("issuing",)])
def test_who_may_publish_nothing_has_no_position_either(authorities: tuple[str, ...]) -> None:
    """An empty batch says no kind, and would leave a row all the same; an RA is granted its CA."""

    async def scene() -> None:
        async with Meadow() as meadow:
            ca = meadow.node("ca1", {"ra1": RA_GRANTS})
            ra = meadow.node("ra1", {"ca1": CA_GRANTS})
            await meadow.link(ca, ra)
            source = ra.node.uri
            requests: list[tuple[Any, Any]] = [
                (PUBLISH, PublishRequest(source, 0, 9, authorities, ())),
                (PUBLISH_POSITION, PositionRequest(source, authorities)),
            ]
            for operation, request in requests:
                with pytest.raises(PolicyDenied):
                    await ra.caller.call(operation, request, peers=[ca.node], timeout_seconds=5)
            assert [record.action for record in ca.denials] == ["publish.batch", "publish.position"]
            assert "is granted none of /peer/publish/" in ca.denials[0].reason

    run(scene())


def test_long_bodies_keep_no_place_from_what_else_their_peer_asks() -> None:
    async def scene() -> None:
        async with Meadow() as meadow:
            grants = ["/peer/incoming", "/peer/publish/crl", "/ca/issuing"]
            va = meadow.node("va1", {"ca1": grants, "ca2": grants})
            cas = [meadow.node(name, {"va1": CA_GRANTS}) for name in ("ca1", "ca2")]
            for ca in cas:
                await meadow.link(ca, va)
            begun, all_came = list[str](), asyncio.Event()

            async def take(context: Context, request: ContentRequest) -> ContentAnswer:
                begun.append(context.peer.node.name)
                await all_came.wait()
                return ContentAnswer(held=0)

            async def catalogue(context: Context, request: CatalogueRequest) -> CatalogueAnswer:
                return CatalogueAnswer(authorities=())

            va.dispatcher.register(PUBLISH_CONTENT, take)
            va.dispatcher.register(CATALOGUE, catalogue)

            async def ask(ca: PeerNode, operation: Any, request: msgspec.Struct) -> object:
                return await ca.caller.call(operation, request, peers=[va.node], timeout_seconds=5)

            content = ContentRequest(
                authority="issuing",
                authority_id="a" * 32,
                number=1,
                is_delta=False,
                sha256=bytes(32),
                octets=1,
                offset=0,
            )
            # The other one is here, too: nobody has all places.
            await ask(cas[1], CATALOGUE, CatalogueRequest())
            sending = [
                asyncio.create_task(ask(cas[0], PUBLISH_CONTENT, content)) for _ in range(20)
            ]
            await until(lambda: len(begun) == 20)
            await ask(cas[0], CATALOGUE, CatalogueRequest())
            all_came.set()
            await asyncio.gather(*sending)

    run(scene())


def test_an_operation_that_needs_only_the_link_is_open_to_whoever_may_be_linked() -> None:
    async def scene() -> None:
        async with Meadow() as meadow:
            ca, ra = await a_pair(meadow)

            async def catalogue(context: Context, request: CatalogueRequest) -> CatalogueAnswer:
                return CatalogueAnswer(authorities=())

            ca.dispatcher.register(CATALOGUE, catalogue)
            call = ra.caller.call(CATALOGUE, CatalogueRequest(), peers=[ca.node], timeout_seconds=5)
            assert (await call).authorities == ()

    run(scene())


def test_losing_the_role_closes_the_links_and_refuses_new_ones() -> None:
    async def scene() -> None:
        async with Meadow() as meadow:
            ca, ra = await a_pair(meadow)
            (link,) = ca.directory.links(ra.node)
            ca.grant({"ra1": ["/ra/*"]})
            await asyncio.wait_for(link.wait_closed(), 1)
            await until(lambda: not ra.directory.links())
            again = await meadow.dial(ca, ra)
            assert not ca.directory.add(again)
            await asyncio.wait_for(again.wait_closed(), 1)
            with pytest.raises(AcquireTimeout):
                await enroll(ra, ca, timeout_seconds=0.1)

    run(scene())


def test_a_role_change_counts_for_the_next_request_on_the_same_link() -> None:
    async def scene() -> None:
        async with Meadow() as meadow:
            ca, ra = await a_pair(meadow)
            await enroll(ra, ca)
            ca.grant({"ra1": [*RA_GRANTS, "!/profile/server"]})
            with pytest.raises(PolicyDenied):
                await enroll(ra, ca)
            ca.grant({"ra1": RA_GRANTS})
            await enroll(ra, ca)
            assert len(ca.directory.links()) == 1

    run(scene())
