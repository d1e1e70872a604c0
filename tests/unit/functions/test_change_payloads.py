"""What is published is what is applied."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_agent.clock import LAST_SECOND
from node_agent.functions import change_payloads
from node_agent.functions.change_payloads import CertificatePayload, StatusPayload
from node_agent.peers.codec import UNREADABLE
from node_agent.store.records import (
    CertificateRecord,
    CertificateStatus,
    CrlRecord,
    StatusChange,
)

TIMES = st.integers(0, LAST_SECOND)
RECORDS = st.builds(
    CertificateRecord,
    authority_id=st.just("a" * 32),
    serial=st.integers(1, 2**159),
    der=st.binary(),
    subject=st.text(),
    names=st.lists(st.text()).map(tuple),
    fingerprint_sha256=st.binary(min_size=32, max_size=32),
    not_before=TIMES,
    not_after=TIMES,
    profile=st.text(),
    issued_at=TIMES,
)


@given(RECORDS)
def test_a_certificate_arrives_as_it_was_recorded(record: CertificateRecord) -> None:
    payload = change_payloads.encode(change_payloads.certificate_payload(record))
    decoded = change_payloads.decode("certificate", payload)
    assert isinstance(decoded, CertificatePayload)
    arrived = change_payloads.certificate_record(record.authority_id, record.serial, decoded)
    assert arrived == record


@given(RECORDS)
def test_status_only_keeps_no_name_and_no_certificate(record: CertificateRecord) -> None:
    reduced = change_payloads.status_only(change_payloads.certificate_payload(record))
    assert (reduced.der, reduced.subject, reduced.names, reduced.profile) == (b"", "", (), "")
    assert reduced.not_after == record.not_after


@given(
    st.builds(
        StatusChange,
        authority_id=st.just("a" * 32),
        serial=st.integers(1, 2**159),
        status=st.sampled_from(CertificateStatus),
        at=TIMES,
        reason=st.none() | st.integers(0, 10),
        invalidity_at=st.none() | TIMES,
    )
)
def test_a_status_arrives_as_it_was_recorded(change: StatusChange) -> None:
    payload = change_payloads.encode(change_payloads.status_payload(change))
    decoded = change_payloads.decode("status", payload)
    assert isinstance(decoded, StatusPayload)
    assert change_payloads.status_change("a" * 32, change.serial, decoded) == change


def test_an_unknown_status_is_refused() -> None:
    with pytest.raises(ValueError, match="lost"):
        change_payloads.status_change("a", 1, StatusPayload("lost", 0, None, None))


@given(
    st.builds(
        CrlRecord,
        authority_id=st.just("a" * 32),
        number=TIMES,
        this_update=TIMES,
        next_update=TIMES,
        der=st.binary(),
        base_number=st.none() | TIMES,
    )
)
def test_a_crl_arrives_as_it_was_recorded(record: CrlRecord) -> None:
    payload = change_payloads.encode(change_payloads.crl_payload(record))
    decoded = change_payloads.decode("crl", payload)
    assert isinstance(decoded, change_payloads.CrlPayload)
    assert change_payloads.crl_record("a" * 32, decoded) == record


@given(kind=st.sampled_from(["authority", "certificate", "status", "crl"]), data=st.binary())
def test_anything_else_is_refused_as_undecodable(kind: str, data: bytes) -> None:
    try:
        change_payloads.decode(kind, data)
    except UNREADABLE:
        return
    assert msgspec.msgpack.decode(data)
