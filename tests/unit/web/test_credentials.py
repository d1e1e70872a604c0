"""Credentials, rates and PEM: the small parts of the registration edge."""

from __future__ import annotations

import base64

import pytest

from node_agent.errors import CsrRefused
from node_agent.objects import RequesterSpec
from node_agent.web.credentials import CredentialTable
from node_agent.web.pem import decode_csr, pem_certificate, pem_chain
from node_agent.web.rate_limit import Rate, TokenBuckets
from node_agent.web.registration_bodies import Credential, CredentialKind, Requester
from tests.support.clock import ManualClock


def test_a_token_hash_is_no_certificate_hash() -> None:
    table = CredentialTable(
        [
            RequesterSpec(name="a", token_sha256="AB" * 32, requests_per_second=7),
            RequesterSpec(name="b", certificate_sha256="cd" * 32, burst_requests=9),
            RequesterSpec(name="nobody"),
        ]
    )
    token, certificate = CredentialKind.TOKEN, CredentialKind.CERTIFICATE
    assert table.find(Credential(token, "ab" * 32)) == Requester("a", Rate(7, 1000))
    assert table.find(Credential(certificate, "cd" * 32)) == Requester("b", Rate(300, 9))
    assert table.find(Credential(certificate, "ab" * 32)) is None
    assert table.find(Credential(token, "cd" * 32)) is None
    assert table.find(Credential(token, "0" * 64)) is None
    assert table.find(Credential(token, "")) is None


def test_bucket_gives_its_burst_then_its_rate() -> None:
    clock = ManualClock()
    buckets = TokenBuckets(clock)
    rate = Rate(per_second=2, burst=3)
    assert [buckets.take("a", rate) for _ in range(3)] == [0, 0, 0]
    assert buckets.take("a", rate) == pytest.approx(0.5)
    assert buckets.take("b", rate) == 0
    clock.advance(0.5)
    assert buckets.take("a", rate) == 0
    assert buckets.take("a", rate) > 0
    clock.advance(3600)
    assert [buckets.take("a", rate) for _ in range(4)] == [0, 0, 0, pytest.approx(0.5)]


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
        "-----BEGIN NEW CERTIFICATE REQUEST-----\r\n{}\r\n-----END NEW CERTIFICATE REQUEST-----",
        "Subject: CN=a\n-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----",
        " {} \n",
    ],
)
def test_csr_text_is_read_as_programs_write_it(text: str) -> None:
    der = bytes(range(150))
    assert decode_csr(text.format(base64.encodebytes(der).decode())) == der


@pytest.mark.parametrize("text", ["", "é", "a", "----- -----", "-----BEGIN CERTIFICATE-----"])
def test_other_text_is_refused_as_csr(text: str) -> None:
    with pytest.raises(CsrRefused) as refused:
        decode_csr(text)
    assert refused.value.field == "csr"


def test_pem_has_lines_of_64() -> None:
    lines = pem_certificate(bytes(100)).splitlines()
    assert lines[0] == "-----BEGIN CERTIFICATE-----"
    assert len(lines[1]) == 64
    assert pem_chain((bytes(1), bytes(2))) == pem_certificate(bytes(1)) + pem_certificate(bytes(2))
