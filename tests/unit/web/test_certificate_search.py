"""Queries of RFC 4387: exactly one attribute with one search key, in any escaping; else refused."""

from __future__ import annotations

import base64
import hashlib

import pytest

from node_agent.errors import RequestRefused
from node_agent.web.backends import FoundCertificates
from node_agent.web.certificate_search import (
    CERTIFICATE_ATTRIBUTES,
    CRL_ATTRIBUTES,
    parse_search,
)
from node_agent.web.found_certificates import MOST_CERTIFICATES, found_download

DIGEST = bytes.fromhex("fbefbeffefbefbff0102030405060708090a0b0c")
KEY = base64.b64encode(DIGEST).decode().rstrip("=")


HASHES = [name for name in CERTIFICATE_ATTRIBUTES if name not in ("name", "uri")]


@pytest.mark.parametrize("attribute", HASHES)
def test_every_attribute_is_read_escaped_or_not(attribute: str) -> None:
    escaped = KEY.replace("+", "%2B").replace("/", "%2f")
    assert escaped != KEY
    for text in (KEY, escaped):
        found = parse_search(f"{attribute}={text}".encode(), CERTIFICATE_ATTRIBUTES)
        assert found == (attribute, DIGEST)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "certHash",
        f"certHash={KEY}=",
        f"certHash={KEY[:-1]}",
        f"certHash={KEY}A",
        f"certHash={KEY[:-1]}N",
        f"certhash={KEY}",
        f"sname={KEY}",
        f"certHash=%2{KEY}",
        f"certHash={KEY}&sHash={KEY}",
        "certHash&name",
        f"certHash={KEY}&certHash={KEY}",
        f"certHash={KEY}#",
        f"certHash={KEY[:5]}-{KEY[6:]}",
        f"certHash={KEY[:5]}%00{KEY[6:]}",
        f"certHash={KEY[:5]} {KEY[6:]}",
        "certHash=" + "%2B" * 100,
        f"certHash={KEY}&x=" + "y" * 1024,
    ],
)
def test_anything_else_is_refused(query: str) -> None:
    with pytest.raises(RequestRefused, match="certificate store"):
        parse_search(query.encode(), CERTIFICATE_ATTRIBUTES)


def test_the_example_of_the_standard_is_read() -> None:
    digest = bytes.fromhex("964C70C41EC908E5CA452510D6C8283A1AC1DFE2")
    found = parse_search(b"sHash=lkxwxB7JCOXKRSUQ1sgoOhrB3%2BI", CERTIFICATE_ATTRIBUTES)
    assert found == ("sHash", digest)


@pytest.mark.parametrize("query", ["delta=&sHash={}", "sHash={}&partition=12", "a&sHash={}&x=%26"])
def test_attributes_that_mean_nothing_here_are_ignored(query: str) -> None:
    found = parse_search(query.format(KEY).encode(), CERTIFICATE_ATTRIBUTES)
    assert found == ("sHash", DIGEST)


@pytest.mark.parametrize("query", ["name=Caf%C3%A9+CA", "name=Caf%c3%a9%20%43A&x=1"])
def test_a_common_name_is_asked_for_as_it_is(query: str) -> None:
    found = parse_search(query.encode(), CERTIFICATE_ATTRIBUTES)
    assert found == ("name", hashlib.sha1("Caf\u00e9 CA".encode()).digest())


def test_crls_are_found_by_their_issuer_only() -> None:
    assert parse_search(f"iHash={KEY}".encode(), CRL_ATTRIBUTES).attribute == "iHash"
    with pytest.raises(RequestRefused):
        parse_search(f"certHash={KEY}".encode(), CRL_ATTRIBUTES)


def test_one_certificate_is_itself_and_several_are_parts() -> None:
    assert found_download(FoundCertificates((), 1), names_content=True) is None
    one = found_download(FoundCertificates((b"one",), 1), names_content=True)
    assert one is not None
    assert (one.data, one.content_type, one.is_immutable) == (b"one", "application/pkix-cert", True)
    many = tuple(hashlib.sha256(b"%d" % number).digest() for number in range(200))
    several = found_download(FoundCertificates(many, 1), names_content=False)
    assert several is not None
    kind, _, boundary = several.content_type.partition("; boundary=")
    assert kind == "multipart/mixed"
    parts = several.data.split(f"--{boundary}".encode())
    assert len(parts) == MOST_CERTIFICATES + 2
    assert parts[1] == b"\r\nContent-Type: application/pkix-cert\r\n\r\n" + many[0] + b"\r\n"
    assert parts[-1] == b"--\r\n"
