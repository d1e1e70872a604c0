"""CRLs that a VA has lost, or has spoilt, are found by a comparison, counted, and sent again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from node_agent.functions import crl_content, crl_transfer
from tests.support.event_loop import run
from tests.unit.functions.test_crl_shards import authorities
from tests.unit.functions.test_verification import Pair, pair

if TYPE_CHECKING:
    from pathlib import Path

FULL, DELTA = (0, False), (0, True)


async def with_crls(it: Pair, **crl: int) -> dict[tuple[int, bool], int]:
    """Have the CA make its CRLs and the VA get them; return their numbers."""
    if crl:
        await it.own.apply(**authorities(crl.pop("shards", 0), **crl))
    await it.own.crls.make_if_due("issuing")
    await it.caught_up()
    return await it.va.crl_numbers(it.own.authority_id())


async def assert_healed(it: Pair, numbers: dict[tuple[int, bool], int]) -> None:
    """Assert that the VA has the CRLs of ``numbers``, and that the CA made no others."""
    await it.caught_up()
    assert await it.va.crl_numbers(it.own.authority_id()) == numbers
    assert await it.own.store.crl_numbers(it.own.authority_id()) == numbers
    found = await it.compare(repair=True)
    assert (found.crls, found.repaired) == (0, 0)
    assert it.publisher.snapshot().differences == 0


def test_a_crl_that_a_va_has_lost_is_counted_and_sent_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair(tmp_path) as it:
            numbers = await with_crls(it)
            await it.settled()
            it.by_hand("DELETE FROM crls")
            found = await it.compare(repair=False)
            assert (found.crls, found.repaired) == (1, 0)
            assert it.publisher.snapshot().differences == 1
            found = await it.compare(repair=True)
            assert (found.crls, found.repaired) == (1, 1)
            await assert_healed(it, numbers)

    run(scenario())


def test_of_a_divided_crl_only_the_lost_shards_are_sent_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair(tmp_path) as it:
            numbers = await with_crls(it, shards=2)
            assert sorted(numbers) == [(0, False), (1, False), (2, False)]
            it.by_hand("DELETE FROM crls WHERE shard = 1")
            found = await it.compare(repair=True)
            assert (found.crls, found.repaired) == (1, 1)
            await assert_healed(it, numbers)

    run(scenario())


@pytest.mark.parametrize(("is_delta", "lost"), [(0, FULL), (1, DELTA)])
def test_a_full_and_a_delta_crl_are_missed_one_without_the_other(
    tmp_path: Path, is_delta: int, lost: tuple[int, bool]
) -> None:
    async def scenario() -> None:
        async with pair(tmp_path) as it:
            numbers = await with_crls(it, delta_validity_seconds=600)
            assert sorted(numbers) == [FULL, DELTA]
            it.by_hand(f"DELETE FROM crls WHERE is_delta = {is_delta}")
            assert lost not in await it.va.crl_numbers(it.own.authority_id())
            assert (await it.compare(repair=True)).repaired == 1
            await assert_healed(it, numbers)

    run(scenario())


def test_a_delta_crl_that_a_newer_full_one_replaced_is_not_missed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair(tmp_path) as it:
            await with_crls(it, delta_validity_seconds=600)
            await it.own.crls.make("issuing")
            await it.caught_up()
            it.by_hand("DELETE FROM crls WHERE is_delta = 1")
            assert (await it.compare()).crls == 0

    run(scenario())


def test_a_publisher_of_crls_alone_is_compared_by_them(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair(tmp_path, content=("crl",)) as it:
            numbers = await with_crls(it)
            assert (await it.compare()).crls == 0
            it.by_hand("DELETE FROM crls")
            found = await it.compare(repair=True)
            assert (found.entries, found.crls, found.repaired) == (0, 1, 1)
            await assert_healed(it, numbers)

    run(scenario())


SPOILT = {
    "an octet of the list": (
        "UPDATE crls SET der = CAST(substr(der, 1, 80) || x'00' || substr(der, 82) AS BLOB)"
    ),
    "another list's number": "UPDATE crls SET number = number + 7",
    "a later end": "UPDATE crls SET next_update = next_update + 86400",
    "no list at all": "UPDATE crls SET der = x''",
}


@pytest.mark.parametrize("statement", SPOILT.values(), ids=SPOILT)
def test_a_crl_that_its_ca_did_not_sign_counts_as_lost(tmp_path: Path, statement: str) -> None:
    async def scenario() -> None:
        async with pair(tmp_path) as it:
            numbers = await with_crls(it)
            crl = await it.va.latest_crl(it.own.authority_id())
            it.by_hand(statement)
            found = await it.compare(repair=True)
            assert (found.crls, found.repaired) == (1, 1)
            await assert_healed(it, numbers)
            assert await it.va.latest_crl(it.own.authority_id()) == crl

    run(scenario())


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE crl_chunks SET data = zeroblob(length(data)) WHERE ordinal = 1",
        "DELETE FROM crl_chunks WHERE ordinal = 1",
        "DELETE FROM crl_chunks",
    ],
)
def test_the_pieces_of_a_long_crl_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    # Pieces are what they always are; only what counts as long is less than usual.
    monkeypatch.setattr(crl_content, "INLINE_OCTETS", 100)
    monkeypatch.setattr(crl_transfer, "INLINE_OCTETS", 100)
    for module in (crl_content, crl_transfer):
        monkeypatch.setattr(module, "CHUNK_OCTETS", 128)
    monkeypatch.setattr("node_agent.store.contents.CHUNK_OCTETS", 128)

    async def scenario() -> None:
        async with pair(tmp_path) as it:
            numbers = await with_crls(it)
            crl = await it.va.latest_crl(it.own.authority_id())
            assert crl is not None
            whole = await it.va.crl_der(crl)
            assert len(whole) > 2 * 128
            it.by_hand(statement)
            found = await it.compare(repair=True)
            assert (found.crls, found.repaired) == (1, 1)
            await assert_healed(it, numbers)
            assert await it.va.crl_der(crl) == whole

    run(scenario())


def test_what_is_left_is_served_instead_of_a_spoilt_crl(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair(tmp_path) as it:
            before = await with_crls(it)
            await it.own.crls.make("issuing")
            await it.caught_up()
            it.by_hand("UPDATE crls SET der = x'3000' WHERE number = ?", before[FULL] + 1)
            del it.applied[:]
            assert (await it.compare()).crls == 1
            assert await it.va.crl_numbers(it.own.authority_id()) == before
            assert [crl.number for one in it.applied for crl in one.crls] == [before[FULL]]

    run(scenario())


def test_who_has_a_crl_that_is_sent_again_takes_no_notice(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair(tmp_path) as it:
            numbers = await with_crls(it)
            position = await it.va.last_position()
            crl = await it.own.store.latest_crl(it.own.authority_id())
            assert crl is not None
            assert await it.verification._announce(it.own.authority_id(), [FULL]) == 1
            await it.caught_up()
            assert await it.va.last_position() == position
            assert await it.va.crl_numbers(it.own.authority_id()) == numbers

    run(scenario())
