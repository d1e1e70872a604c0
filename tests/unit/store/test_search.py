"""Searches: every filter, the order, and how a search continues."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from node_agent.store import Store, open_store
from node_agent.store.records import CertificateQuery, CertificateStatus, NameMatch
from node_agent.store.search import search_statement
from tests.support.event_loop import run
from tests.support.store_records import AUTHORITY, audit, certificate, status

OTHER = "b" * 32
RECORDS = [
    certificate(1, names=("www.example.org", "example.org")),
    certificate(2, names=("mail.example.org",), requester="bob"),
    certificate(3, names=("WWW.Example.NET",), profile="client"),
    certificate(4, names=("100%_safe.example.com",), authority_id=OTHER),
    certificate(5, names=(), subject="CN=Jörg M\\, Esq,O=Example", not_after=1_700_000_100),
]


async def fill(store: Store) -> None:
    await asyncio.gather(*(store.record_issuance(record, b"", audit()) for record in RECORDS))
    await store.record_status(status(2), b"", audit())


async def numbers(store: Store, **fields: Any) -> list[int]:
    found = await store.search(CertificateQuery(**fields))
    serials = {record.serial: index for index, record in enumerate(RECORDS, 1)}
    return [serials[record.serial] for record in found]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [5, 4, 3, 2, 1]),
        ({"limit": 2}, [5, 4]),
        ({"limit": 0}, []),
        ({"authority_ids": (AUTHORITY,)}, [5, 3, 2, 1]),
        ({"authority_ids": (AUTHORITY, OTHER), "limit": 2}, [5, 4]),
        ({"authority_ids": ()}, []),
        ({"serial": RECORDS[2].serial}, [3]),
        ({"serial": 2**200}, []),
        ({"status": CertificateStatus.REVOKED}, [2]),
        ({"status": CertificateStatus.GOOD, "authority_ids": (AUTHORITY,)}, [5, 3, 1]),
        ({"profile": "client"}, [3]),
        ({"requester": "bob"}, [2]),
        ({"expires_before": 1_700_000_101}, [5]),
        ({"name": "example.org"}, [4, 3, 2, 1]),
        ({"name": "l.example.org"}, [2]),
        ({"name": "www"}, [3, 1]),
        ({"name": "WWW.EXAMPLE.net"}, [3]),
        ({"name": "o=example"}, [5, 4, 3, 2, 1]),
        ({"name": "%_"}, [4]),
        ({"name": "' OR 1=1 --"}, []),
        ({"name": "example.org", "name_match": NameMatch.EXACT}, [1]),
        ({"name": "www.", "name_match": NameMatch.PREFIX}, [3, 1]),
        ({"name": "example", "name_match": NameMatch.PREFIX}, [1]),
        ({"name": "Jörg M\\, Esq", "name_match": NameMatch.EXACT}, [5]),
        ({"name": "jörg", "name_match": NameMatch.PREFIX}, [5]),
        ({"name": "www", "profile": "client"}, [3]),
    ],
)
def test_search_finds_what_its_filters_say(
    store_url: str, fields: dict[str, Any], expected: list[int]
) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            await fill(store)
            assert await numbers(store, **fields) == expected

    run(scenario())


def test_search_continues_behind_its_last_result(store_url: str) -> None:
    async def scenario() -> None:
        records = [certificate(n, issued_at=1_700_000_000 + n // 4) for n in range(17)]
        async with open_store(store_url) as store:
            await asyncio.gather(*(store.record_issuance(r, b"", audit()) for r in records))
            found, after = [], None
            while page := await store.search(CertificateQuery(limit=3, after=after)):
                found += page
                after = (page[-1].issued_at, page[-1].authority_id, page[-1].serial)
            order = [(record.issued_at, record.authority_id, record.serial) for record in found]
            assert order == sorted(order, reverse=True)
            assert len(set(order)) == 17

    run(scenario())


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (CertificateQuery(), "certificates_by_age"),
        (CertificateQuery(authority_ids=(AUTHORITY,)), "certificates_by_authority_age"),
        (CertificateQuery(authority_ids=(AUTHORITY, OTHER)), "certificates_by_age"),
        (CertificateQuery(authority_ids=(AUTHORITY,), serial=5), "certificates_by_serial"),
        (CertificateQuery(authority_ids=(AUTHORITY, OTHER), serial=5), "certificates_by_serial"),
        (
            CertificateQuery(name="a", name_match=NameMatch.EXACT),
            "SEARCH certificate_names USING PRIMARY KEY (name=?)",
        ),
        (
            CertificateQuery(name="a", name_match=NameMatch.PREFIX),
            "SEARCH certificate_names USING PRIMARY KEY (name>? AND name<?)",
        ),
    ],
)
def test_search_uses_an_index(sqlite_url: str, query: CertificateQuery, index: str) -> None:
    async def scenario() -> str:
        async with open_store(sqlite_url) as store:
            statement = search_statement(query)
            with store._writing.connect() as connection:
                compiled = statement.compile(
                    connection, compile_kwargs={"render_postcompile": True}
                )
                values = tuple(compiled.params[name] for name in compiled.positiontup)
                rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", values).all()
        return "\n".join(row[-1] for row in rows)

    plan = run(scenario())
    assert index in plan
    assert "SCAN certificate_names" not in plan
