"""The store against an in-memory model: any operations, alone or many at once, across restarts.

Operations that are started together are committed in the order in which they were started, so a
batch has to have the outcomes that the model has one after the other.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from node_agent.errors import StoreError
from node_agent.store import Store, open_store
from node_agent.store.records import CertificateQuery, CertificateStatus, ChangeEntry, ChangeKind
from tests.support.postgres import postgres_url
from tests.support.store_model import (
    AppendAudit,
    ApplyPlan,
    IssueCertificate,
    Model,
    NextCrlNumber,
    Operation,
    PublishBatch,
    RecordCrl,
    SetStatus,
)
from tests.support.store_records import certificate, crl, status

AUTHORITIES = ("a" * 32, "b" * 32)
SEQUENCE_TIMEOUT_SECONDS = 20

authorities = st.sampled_from(AUTHORITIES)
serials = st.integers(1, 6)
statuses = st.sampled_from(CertificateStatus)
issued = st.builds(
    lambda number, owner, serial, request, digest: certificate(
        number, authority_id=owner, serial=serial, request_id=request, request_digest=digest
    ),
    st.integers(0, 50),
    authorities,
    serials,
    st.sampled_from((b"", b"1" * 16, b"2" * 16, b"3" * 16)),
    st.sampled_from((b"x" * 32, b"y" * 32)),
)
status_changes = st.builds(
    lambda owner, serial, wanted, at: status(
        1, wanted, authority_id=owner, serial=serial, at=1_700_000_000 + at
    ),
    authorities,
    serials,
    statuses,
    st.integers(0, 1000),
)
entries = st.builds(
    lambda position, owner, serial: ChangeEntry(
        position=position,
        kind=ChangeKind.CERTIFICATE,
        authority_id=owner,
        serial=serial,
        at=5,
        payload=b"published",
    ),
    st.integers(1, 6),
    authorities,
    st.none() | serials,
)
operations: st.SearchStrategy[Operation] = st.one_of(
    st.builds(IssueCertificate, issued),
    st.builds(IssueCertificate, issued),
    st.builds(SetStatus, status_changes),
    st.builds(
        lambda number, owner, base: RecordCrl(crl(number, authority_id=owner, base_number=base)),
        st.integers(1, 8),
        authorities,
        st.none() | st.just(1),
    ),
    st.builds(NextCrlNumber, authorities),
    st.builds(
        ApplyPlan,
        st.lists(
            st.tuples(st.sampled_from("abc"), st.none() | st.sampled_from((b"1", b"2"))), max_size=3
        ).map(tuple),
    ),
    st.builds(AppendAudit, st.lists(st.sampled_from(("x", "y")), max_size=3).map(tuple)),
    st.builds(
        PublishBatch,
        st.sampled_from(("ca1", "ca2")),
        st.integers(1, 6),
        st.lists(issued, max_size=3).map(tuple),
        st.lists(status_changes, max_size=3).map(tuple),
        st.lists(entries, max_size=3).map(tuple),
    ),
)


class StoreMachine(RuleBasedStateMachine):
    """Runs on SQLite; the subclass below runs on PostgreSQL."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.cleanup = ExitStack()
        self.model = Model()
        self.store = open_store(self.new_database())

    def new_database(self) -> str:
        directory = tempfile.mkdtemp(prefix="peersys-store-")
        self.cleanup.callback(shutil.rmtree, directory)
        return f"sqlite:///{Path(directory) / 'store.sqlite3'}"

    def run(self, coroutine: Any) -> Any:
        async def bounded() -> Any:
            async with asyncio.timeout(SEQUENCE_TIMEOUT_SECONDS):
                return await coroutine

        return self.runner.run(bounded())

    @initialize()
    def start(self) -> None:
        self.run(self.store.start())

    @rule(batch=st.lists(operations, min_size=1, max_size=8))
    def perform(self, batch: list[Operation]) -> None:
        outcomes = self.run(_together(self.store, batch))
        expected = [_expected(operation, self.model) for operation in batch]
        assert [_comparable(outcome) for outcome in outcomes] == expected

    @rule()
    def restart(self) -> None:
        url = self.store._url
        self.run(self.store.close())
        self.store = open_store(url)
        self.run(self.store.start())

    @invariant()
    def store_holds_what_the_model_holds(self) -> None:
        if self.store._threads is not None:
            self.run(_compare(self.store, self.model))

    def teardown(self) -> None:
        self.run(self.store.close())
        self.runner.close()
        self.cleanup.close()


class PostgresqlStoreMachine(StoreMachine):
    """The same promises from the other database."""

    def new_database(self) -> str:
        return self.cleanup.enter_context(postgres_url())


async def _together(store: Store, batch: list[Operation]) -> list[Any]:
    return await asyncio.gather(
        *(operation.store(store) for operation in batch), return_exceptions=True
    )


def _expected(operation: Operation, model: Model) -> Any:
    try:
        return operation.expect(model)
    except StoreError as error:
        return type(error)


def _comparable(outcome: Any) -> Any:
    if isinstance(outcome, StoreError):
        return type(outcome)
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


async def _compare(store: Store, model: Model) -> None:
    stored = await store.search(CertificateQuery(limit=1000))
    assert {(record.authority_id, record.serial): record for record in stored} == model.certificates
    changes = await store.changes(0, limit=1000)
    assert [(c.kind, c.authority_id, c.serial, c.payload) for c in changes] == model.changes
    assert [change.position for change in changes] == list(range(1, len(changes) + 1))
    assert await store.last_position() == len(changes)
    assert [entry.record.action for entry in await store.audit_entries()] == model.audit
    assert (await store.verify_audit()).ok
    objects = {(r.kind, r.name): (r.spec, r.generation) for r in await store.objects()}
    assert objects == model.objects
    for source in ("ca1", "ca2"):
        assert await store.source_position(source) == model.sources.get(source, 0)
    for owner in AUTHORITIES:
        await _compare_authority(store, model, owner)


async def _compare_authority(store: Store, model: Model, owner: str) -> None:
    for is_delta in (False, True):
        newest = await store.latest_crl(owner, delta=is_delta)
        assert newest == model.crls.get((owner, is_delta))
    rows = [row async for chunk in store.revoked(owner, list) for row in chunk]
    listed = [int.from_bytes(row[0], "big") for row in rows]
    assert listed == sorted(
        serial
        for (authority, serial), record in model.certificates.items()
        if authority == owner and record.status is not CertificateStatus.GOOD
    )


pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
_QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large]

TestStoreOnSqlite = StoreMachine.TestCase
TestStoreOnSqlite.settings = settings(
    max_examples=30, stateful_step_count=12, deadline=None, suppress_health_check=_QUIET
)
TestStoreOnPostgresql = PostgresqlStoreMachine.TestCase
TestStoreOnPostgresql.settings = settings(
    max_examples=5, stateful_step_count=10, deadline=None, suppress_health_check=_QUIET
)
