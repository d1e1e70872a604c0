"""The node's own requests: made without taking the key out of its token."""

from __future__ import annotations

import pytest

from node_agent.pki.csr import parse_csr
from node_agent.pki.keys import KEY_KINDS, LocalKey
from node_agent.pki.own_csr import build_csr
from tests.support.csrs import key_of_kind, openssl


@pytest.mark.parametrize("kind", KEY_KINDS)
def test_own_request_proves_its_key(kind):
    key = LocalKey.of(key_of_kind(kind))
    csr = parse_csr(build_csr(key, "ra1"))
    assert (csr.spki, csr.key_kind) == (key.spki, kind)
    assert csr.subject == (("common_name", "ra1"),)
    assert csr.alternative_names == ()


def test_openssl_accepts_the_own_request(tmp_path):
    (tmp_path / "own.der").write_bytes(build_csr(LocalKey.of(key_of_kind()), "ra1"))
    said = openssl("req", "-inform", "DER", "-in", tmp_path / "own.der", "-verify", "-noout")
    assert "verify OK" in said
