"""Whatever a peer answers, as long as it can be read, whoever asked has an error of the tree or a
result: nothing else comes out, nothing goes on for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node_agent.errors import NodeAgentError, UnexpectedFailure
from node_agent.objects import PublisherSpec
from node_agent.peers.approval_messages import Waiting
from node_agent.peers.operations import (
    PUBLISH_DIGESTS,
    PUBLISH_ENTRIES,
    PUBLISH_RECORDS,
    PUBLISH_REPAIR,
    CertificateAnswer,
    ComparedEntry,
    DigestsAnswer,
    EntriesAnswer,
    Operation,
    RecordsAnswer,
    RepairAnswer,
    serial_octets,
)
from node_agent.peers.repair_messages import HeldList
from tests.support.csrs import csr_der
from tests.support.own_authority import NODE, OwnAuthority, context, own_authority
from tests.unit.functions.test_signers import ToCa, signers_of
from tests.unit.functions.test_verification import as_decoded

if TYPE_CHECKING:
    from collections.abc import Iterator

    import msgspec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

_EXAMPLES = settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
_INTEGERS = st.one_of(st.integers(-2, 12), st.integers(-(1 << 63), (1 << 64) - 1))
_SERIALS = st.one_of(
    st.binary(max_size=22), st.integers(0, (1 << 160) - 1).map(serial_octets), st.just(b"\xff" * 20)
)
_ENTRIES = st.lists(
    st.builds(
        ComparedEntry,
        serial=_SERIALS,
        statuses=st.sampled_from([b"", b"\1" * 32, b"\1" * 33]),
        certificate=st.sampled_from([b"", b"\1" * 32]),
    ),
    max_size=4,
)
_PART = st.sampled_from([b"", bytes(512), b"\1" * 512, bytes(480) + b"\1" * 32, b"\1" * 511])


@dataclass
class Answers:
    """What comes back, drawn one by one; the last of each kind is given again and again."""

    digests: list[tuple[list[bytes], int]]
    fits: bool
    entries: list[tuple[list[ComparedEntry], bool]]
    repaired: list[int]
    taken: dict[str, int] = field(default_factory=dict)

    def answer(self, operation: Operation[Any, Any], request: Any) -> msgspec.Struct:
        """Return the next answer to what is asked."""
        number = self.taken[operation.method] = self.taken.get(operation.method, -1) + 1
        if operation is PUBLISH_DIGESTS:
            parts, count = self.digests[min(number, len(self.digests) - 1)]
            if self.fits:
                parts = (parts * len(request.prefixes) or [bytes(512)])[: len(request.prefixes)]
            return DigestsAnswer(digests=tuple(parts), entries=count, may_take_back=True)
        if operation is PUBLISH_ENTRIES:
            found, has_more = self.entries[min(number, len(self.entries) - 1)]
            return EntriesAnswer(entries=tuple(found), has_more=has_more)
        if operation is PUBLISH_RECORDS:
            lists = tuple(
                HeldList(shard=one % 3, is_delta=one % 2 == 1, number=one) for one in self.repaired
            )
            return RecordsAnswer(entries=(), lists=lists)
        assert operation is PUBLISH_REPAIR
        return RepairAnswer(repaired=self.repaired[min(number, len(self.repaired) - 1)])


_ANSWERS = st.builds(
    Answers,
    digests=st.lists(st.tuples(st.lists(_PART, max_size=3), _INTEGERS), min_size=1, max_size=4),
    fits=st.booleans(),
    entries=st.lists(st.tuples(_ENTRIES, st.booleans()), min_size=1, max_size=3),
    repaired=st.lists(_INTEGERS, min_size=1, max_size=2),
)


@dataclass
class OneOfTheSort:
    """Stands for the publisher and for the links to its peer."""

    spec: PublisherSpec
    peer: Any = NODE
    position: int = 0
    state: str = "up"
    answers: Answers | None = None

    async def call(self, operation: Operation[Any, Any], request: Any, **_: Any) -> Any:
        assert self.answers is not None
        return as_decoded(operation, self.answers.answer(operation, request))

    def snapshot(self) -> OneOfTheSort:
        """Return itself: it has what is looked at."""
        return self

    async def is_peer_ahead(self) -> bool:
        return False

    def verified(self, at: int, differences: int) -> None:
        assert at > 0


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def own(loop: asyncio.Runner) -> Iterator[OwnAuthority]:
    """Yield a CA that has issued some certificates, and has a signer at itself."""
    stack = contextlib.AsyncExitStack()
    # Each example has one certified.
    patch = stack.enter_context(pytest.MonkeyPatch.context())
    patch.setattr("node_agent.functions.signer_limit._MOST_VALID", 1_000_000)

    async def open_it() -> OwnAuthority:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        found = await stack.enter_async_context(own_authority(Path(directory)))
        for number in range(3):
            csr = csr_der(names=[f"dns:{number}.example.org"])
            await found.service.enroll(context(), enrolment(csr))
        await found.apply(signers=[{"name": "s", "authority": "issuing"}])
        return found

    yield loop.run(open_it())
    loop.run(stack.aclose())


def enrolment(csr: bytes) -> Any:
    from node_agent.peers.operations import EnrollRequest

    return EnrollRequest(authority="issuing", profile="server", csr=csr)


@_EXAMPLES
@given(answers=_ANSWERS)
def test_a_comparison_ends_in_a_result_or_an_error_of_the_tree(
    loop: asyncio.Runner, own: OwnAuthority, answers: Answers
) -> None:
    spec = PublisherSpec(name="va1", peer=NODE.uri, authorities=("issuing",))
    peer = OneOfTheSort(spec, answers=answers)
    verification = own.verification(peer)
    try:
        result = loop.run(verification.verify(peer, repair=True))  # type: ignore[arg-type]
    except NodeAgentError:
        return
    (one,) = result.authorities
    assert 0 <= one.repaired <= one.missing + one.changed + one.surplus + one.crls


_WAITING = st.builds(
    Waiting,
    approval=st.binary(max_size=40),
    given=_INTEGERS,
    needed=_INTEGERS,
    expires_at=_INTEGERS,
)


# One changed bit may make a serial number negative, which the library only warns of.
@pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")
@_EXAMPLES
@given(
    chain=st.lists(st.one_of(st.binary(max_size=64), st.just(b"true"), st.just(b"bent"))),
    waiting=st.one_of(st.none(), _WAITING),
    flipped=st.integers(0, 4000),
)
def test_a_signer_is_certified_or_asks_again(
    loop: asyncio.Runner,
    own: OwnAuthority,
    chain: list[bytes],
    waiting: Waiting | None,
    flipped: int,
) -> None:
    """``true`` is the certificate that the CA made, ``bent`` that one with one bit changed."""
    calls, changes = ToCa(own), list[str]()
    signers = signers_of(own, calls, changes)
    signers._active.clear()

    signed = list[bytes]()

    async def instead(true: CertificateAnswer) -> CertificateAnswer:
        signed.append(true.chain[0])
        bent = bytearray(true.chain[0])
        bent[flipped // 8 % len(bent)] ^= 1 << flipped % 8
        known = {b"true": true.chain[0], b"bent": bytes(bent)}
        found = tuple(known.get(der, der) for der in chain)
        return CertificateAnswer(chain=found, waiting=waiting)

    async def certify() -> None:
        (item,) = own.objects.all("signers")
        await signers._certify(item)

    calls.instead = instead
    try:
        loop.run(certify())
    except UnexpectedFailure:
        raise
    except NodeAgentError:
        assert chain[:1] != [b"true"]
        assert signers.active("issuing") is None
    else:
        # No bit may be another, not even around what the CA signed. What remains is ECDSA's own:
        # whoever has the signature (r, s) can write (r, n - s), which is as valid. n is odd, so
        # that this is more than one bit but for one pair of s in 2^255.
        (found,) = signers._active.values()
        assert chain[0] == b"true"
        assert found.certificate == signed[0]
        assert changes[-1:] == ["changed"]
