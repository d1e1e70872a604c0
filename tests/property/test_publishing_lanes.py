"""Whatever is cut, and wherever: statuses arrive in their order, and so do CRLs, in two lanes."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node_agent.errors import Conflict
from node_agent.functions import publishing as publishing_module
from node_agent.functions.change_payloads import CrlPayload, StatusPayload, decode
from node_agent.web.backends import RevocationOrder
from tests.support.event_loop import run
from tests.unit.functions.test_publishing import Publishing, publishing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from node_agent.store.records import ChangeEntry

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SERIALS = 3
STEPS = st.one_of(
    st.tuples(
        st.sampled_from(["certificateHold", "removeFromCRL", "superseded"]),
        st.integers(0, SERIALS - 1),
    ),
    st.tuples(st.sampled_from(["crl", "cut", "pass"]), st.integers(1, 4)),
)


async def take(it: Publishing, serials: Sequence[int], step: tuple[str, int]) -> None:
    what, number = step
    if what == "crl":
        await it.own.crls.make("issuing")
    elif what == "cut":
        it.calls.cut += number
    elif what == "pass":
        for _ in range(number):
            await asyncio.sleep(0.003)
    else:
        order = RevocationOrder(reason=what)
        try:
            await it.own.service.revoke_locally("issuing", serials[number], order, caller="test")
        except Conflict:
            return


def told(entries: Iterable[ChangeEntry]) -> tuple[dict[int, list[str]], list[int]]:
    """Return the statuses of each serial, and the numbers of CRLs, in the order of a log."""
    statuses: dict[int, list[str]] = {}
    numbers = []
    for entry in entries:
        payload = decode(entry.kind, entry.payload)
        if isinstance(payload, StatusPayload):
            assert entry.serial is not None
            statuses.setdefault(entry.serial, []).append(payload.status)
        elif isinstance(payload, CrlPayload):
            numbers.append(payload.number)
    return statuses, numbers


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(st.lists(STEPS, max_size=20))
def test_each_lane_is_in_order_and_complete(
    monkeypatch: pytest.MonkeyPatch, steps: list[tuple[str, int]]
) -> None:
    monkeypatch.setattr(publishing_module, "_RETRY_SECONDS", 0.001)
    monkeypatch.setattr(publishing_module, "_RETRY_CAP_SECONDS", 0.002)

    async def scenario(directory: Path) -> None:
        async with publishing(directory) as it:
            serials = [await it.issue(number) for number in range(SERIALS)]
            for step in steps:
                await take(it, serials, step)
            it.calls.cut = 0
            await it.caught_up()
            ids = [it.own.authority_id()]
            # The VA's own log says what it applied, and in which order.
            applied = told(await it.va.changes(0, limit=1000))
            assert applied == told(await it.own.store.changes(0, limit=1000, authority_ids=ids))

    with tempfile.TemporaryDirectory() as directory:
        run(scenario(Path(directory)))
