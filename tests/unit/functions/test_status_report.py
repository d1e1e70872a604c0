"""The node in one word: ok, degraded, or failed where what it serves can't be relied on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from cryptography import x509

from node_agent.functions.crl_ends import CrlEnds, CrlWatch
from node_agent.functions.node_objects import SignerState, encode_state
from node_agent.functions.status_report import StatusReporter
from node_agent.metrics import Metrics
from node_agent.objects import SignerSpec
from node_agent.store.records import ObjectChange, ObjectRecord
from node_agent.web.backends import ServiceUrls
from tests.support.event_loop import run
from tests.support.own_authority import OwnAuthority, own_authority

if TYPE_CHECKING:
    from pathlib import Path

    from node_agent.pki.outline import CertificateOutline


@dataclass
class SignersThatAre:
    """Stands for ``Signers``: each is in one state."""

    word: str = "active"
    last_error: dict[str, str] = field(default_factory=dict)

    def state(self, name: str) -> str:
        """Return the state."""
        return self.word

    def certificate(self, name: str) -> CertificateOutline | None:
        """There is none to look at."""
        return None

    def overdue(self, name: str) -> str | None:
        """Nothing is."""
        return None


def watch(own: OwnAuthority, ends: CrlEnds) -> CrlWatch:
    """Return who watches a CA's lists."""
    failed = own.crls.last_error
    return CrlWatch(ends, objects=own.objects, known=own.known, failed=failed, clock=own.clock)


def reporter(own: OwnAuthority, signers: SignersThatAre, ends: CrlEnds) -> StatusReporter:
    """Return who reports of a CA's parts."""
    parts: dict[str, Any] = {
        "node": {"name": "ca1"},
        "objects": own.objects,
        "known": own.known,
        "store": own.store,
        "signers": signers,
        "crls": watch(own, ends),
        "urls": ServiceUrls,
        "undone": lambda: (),
    }
    nothing = ("publishers", "peers", "status_workers", "crypto_tokens")
    return StatusReporter(**parts, **dict.fromkeys(nothing, lambda: ()))


def add_signer(own: OwnAuthority) -> None:
    """Add a signer for the CA ``issuing``."""
    record = ObjectRecord(
        kind="signers",
        name="s",
        spec=msgspec.json.encode(SignerSpec(name="s", authority="issuing")),
        state=encode_state(SignerState("signer-s", ())),
        generation=1,
        updated_at=0,
    )
    own.objects.apply([ObjectChange(kind="signers", name="s", record=record)])


@pytest.mark.parametrize(
    ("state", "expected"),
    [("active", "ok"), ("waiting", "degraded"), ("expired", "failed"), ("revoked", "failed")],
)
def test_a_signer_that_ended_or_was_revoked_is_a_failure(
    tmp_path: Path, state: str, expected: str
) -> None:
    async def scenario() -> None:
        async with own_authority(tmp_path) as own:
            add_signer(own)
            assert reporter(own, SignersThatAre(state), CrlEnds()).health() == expected

    run(scenario())


def test_a_crl_that_is_overdue_is_a_failure_until_there_is_a_newer_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with own_authority(tmp_path) as own:
            crl = await own.crls.make("issuing")
            ends = CrlEnds()
            ends.load(await own.store.newest_crls())
            watched = reporter(own, SignersThatAre(), ends)
            assert watched.health() == "ok"
            own.clock.advance(crl.next_update - own.clock.now() + 60)
            assert watched.health() == "failed"
            assert watch(own, ends).overdue_seconds() == 60
            report = await watched.report()
            assert report.reasons == (f"CRL of issuing: ended at {crl.next_update}",)
            ends.made(await own.crls.make("issuing"))
            assert watched.health() == "ok"

    run(scenario())


def test_a_ca_that_has_ended_owes_no_crl(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with own_authority(tmp_path) as own:
            ends = CrlEnds()
            ends.made(await own.crls.make("issuing"))
            chain = own.authorities.get("issuing").chain
            end = x509.load_der_x509_certificate(chain[0]).not_valid_after_utc.timestamp()
            own.clock.advance(end - own.clock.now() + 1)
            assert watch(own, ends).overdue() == []

    run(scenario())


def test_the_end_of_each_crl_is_a_metric(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with own_authority(tmp_path) as own:
            ends, metrics = CrlEnds(), Metrics()
            crl = await own.crls.make("issuing")
            ends.made(crl)
            reporter(own, SignersThatAre(), ends).measure(metrics)
            start = 'peersys_crl_next_update_seconds{authority="issuing"} '
            lines = metrics.text().decode().splitlines()
            values = [line.removeprefix(start) for line in lines if line.startswith(start)]
            assert [float(value) for value in values] == [crl.next_update]

    run(scenario())


def test_the_first_end_is_known_whatever_order_lists_come_in() -> None:
    ends = CrlEnds()
    ends.note("a", 0, 5, 100)
    ends.note("b", 0, 1, 50)
    ends.note("a", 0, 4, 10)
    assert ends.overdue(49) == []
    assert ends.overdue(50) == [("b", 50)]
    ends.note("b", 0, 2, 200)
    assert ends.overdue(99) == []
    assert ends.overdue(100) == [("a", 100)]
    assert (ends.get("b"), ends.get("c")) == (200, None)


def test_of_a_divided_list_the_shard_that_ends_first_is_watched() -> None:
    ends = CrlEnds()
    ends.note("a", 0, 7, 300)
    ends.note("a", 1, 3, 100)
    ends.note("a", 2, 5, 200)
    assert (ends.get("a"), ends.overdue(99)) == (100, [])
    assert ends.overdue(250) == [("a", 100)]
    ends.note("a", 1, 4, 400)
    assert (ends.get("a"), ends.overdue(199)) == (200, [])
    assert ends.overdue(200) == [("a", 200)]
