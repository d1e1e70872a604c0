"""Certificates as issued, judged by openssl, pkilint and cryptography."""

from __future__ import annotations

from node_agent.pki.issue import issue
from tests.support.csrs import (
    NOW,
    issuing_ca,
    openssl,
    parsed_csr,
    pem,
    profile,
    root_ca,
)


def test_openssl_verifies_leaf_through_issuing_to_root(tmp_path):
    issued = issue(issuing_ca(), profile().admit(parsed_csr()), now=NOW)
    (tmp_path / "root.pem").write_bytes(pem("CERTIFICATE", root_ca().certificate))
    (tmp_path / "issuing.pem").write_bytes(pem("CERTIFICATE", issuing_ca().certificate))
    (tmp_path / "leaf.pem").write_bytes(pem("CERTIFICATE", issued.der))
    said = openssl(
        "verify", "-x509_strict", "-attime", str(NOW + 60), "-purpose", "sslserver",
        "-verify_hostname", "host.example.org",
        "-CAfile", tmp_path / "root.pem", "-untrusted", tmp_path / "issuing.pem",
        tmp_path / "leaf.pem",
    )  # fmt: skip
    assert "leaf.pem: OK" in said
