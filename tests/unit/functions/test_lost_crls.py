"""CRLs that a VA has lost are found by a comparison, counted, and replaced by newer ones."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest.mock import AsyncMock

from node_agent.errors import Unavailable
from tests.support.event_loop import run
from tests.unit.functions.test_crl_shards import authorities
from tests.unit.functions.test_verification import pair

if TYPE_CHECKING:
    from pathlib import Path


def test_a_crl_that_a_va_has_lost_is_counted_and_replaced_by_a_newer_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair(tmp_path) as it:
            identifier = it.own.authority_id()
            await it.own.crls.make_if_due("issuing")
            await it.caught_up()
            before = await it.va.latest_crl(identifier)
            assert before is not None
            await it.settled()
            it.by_hand("DELETE FROM crls")
            found = await it.compare(repair=False)
            assert (found.crls, found.repaired) == (1, 0)
            assert it.publisher.snapshot().differences == 1
            assert await it.own.store.crl_numbers(identifier) == {0: before.number}
            found = await it.compare(repair=True)
            assert (found.crls, found.repaired) == (1, 1)
            assert it.publisher.snapshot().differences == 0
            await it.caught_up()
            after = await it.va.latest_crl(identifier)
            assert after is not None
            assert after.number == before.number + 1
            found = await it.compare(repair=True)
            assert (found.crls, found.repaired) == (0, 0)
            assert await it.own.store.crl_numbers(identifier) == {0: after.number}

    run(scenario())


def test_of_a_divided_crl_only_the_lost_shards_are_made_anew(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair(tmp_path) as it:
            await it.own.apply(**authorities(2))
            await it.own.crls.make_if_due("issuing")
            await it.caught_up()
            identifier = it.own.authority_id()
            before = await it.va.crl_numbers(identifier)
            assert sorted(before) == [0, 1, 2]
            it.by_hand("DELETE FROM crls WHERE shard = 1")
            found = await it.compare(repair=True)
            assert (found.crls, found.repaired) == (1, 1)
            await it.caught_up()
            after = await it.va.crl_numbers(identifier)
            assert after == {**before, 1: before[1] + 1}

    run(scenario())


def test_a_full_crl_is_made_for_a_va_that_lost_it_also_where_there_are_deltas(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with pair(tmp_path) as it:
            await it.own.apply(**authorities(0, delta_validity_seconds=600))
            await it.own.crls.make_if_due("issuing")
            await it.caught_up()
            it.by_hand("DELETE FROM crls")
            assert (await it.compare(repair=True)).repaired == 1
            await it.caught_up()
            assert await it.va.latest_crl(it.own.authority_id()) is not None

    run(scenario())


def test_a_crl_that_can_t_be_made_is_left_as_a_difference(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair(tmp_path) as it:
            await it.own.crls.make_if_due("issuing")
            await it.caught_up()
            it.by_hand("DELETE FROM crls")
            it.verification._renew_crl = AsyncMock(side_effect=Unavailable("the token is closed"))
            found = await it.compare(repair=True)
            assert (found.crls, found.repaired) == (1, 0)
            assert it.publisher.snapshot().differences == 1

    run(scenario())
