"""The node's own requests: made without taking the key out of its token."""

from __future__ import annotations

import pytest

from node_agent.pki.csr import parse_csr
from node_agent.pki.keys import KEY_KINDS, LocalKey
from node_agent.pki.own_csr import prepare_csr
from tests.support.csrs import key_of_kind, openssl


def own_csr(key):
    prepared = prepare_csr(key, "ra1")
    return prepared.complete(key.sign(prepared.info))


@pytest.mark.parametrize("kind", KEY_KINDS)
def test_own_request_proves_its_key(kind):
    key = LocalKey.of(key_of_kind(kind))
    csr = parse_csr(own_csr(key))
    assert (csr.spki, csr.key_kind) == (key.spki, kind)
    assert csr.subject == (("common_name", "ra1"),)
    assert csr.alternative_names == ()


def test_openssl_accepts_the_own_request(tmp_path):
    (tmp_path / "own.der").write_bytes(own_csr(LocalKey.of(key_of_kind())))
    said = openssl("req", "-inform", "DER", "-in", tmp_path / "own.der", "-verify", "-noout")
    assert "verify OK" in said
