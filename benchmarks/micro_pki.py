"""Steps of issuing: a CSR read and proven, a certificate assembled and signed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benchmarks.fixtures import make_csrs
from node_agent.objects import CertificateProfileSpec, SanRule, SubjectRule
from node_agent.pki.authorities import prepare_self_signed_ca
from node_agent.pki.csr import parse_csr
from node_agent.pki.issue import issue, prepare
from node_agent.pki.issuer import Issuer
from node_agent.pki.keys import LocalKey, generate_key
from node_agent.pki.names import parse_name
from node_agent.pki.profile import Profile

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PKI_STEPS"]

PROFILE = CertificateProfileSpec(
    name="server",
    subject=(SubjectRule(attribute="common_name", pattern="[a-z0-9.-]{1,64}"),),
    san=(SanRule(kind="dns", pattern="[a-z0-9.-]+", minimum=1),),
)


def _issuer() -> Issuer:
    key = LocalKey.of(generate_key("ec-p256"))
    prepared = prepare_self_signed_ca(
        key, parse_name("CN=Bench"), kind="root", now=int(time.time()), validity_days=365
    )
    certificate = prepared.complete(key.sign(prepared.der))
    return Issuer.load(key, [certificate.der], ocsp_urls=["http://va.example.org/ocsp"])


def _parse_csr() -> Callable[[], object]:
    csr = make_csrs(1)[0].encode()
    return lambda: parse_csr(csr)


def _admit() -> Callable[[], object]:
    profile = Profile.from_spec(PROFILE)
    csr = parse_csr(make_csrs(1)[0].encode())
    return lambda: profile.admit(csr)


def _prepare() -> Callable[[], object]:
    issuer, now = _issuer(), int(time.time())
    request = Profile.from_spec(PROFILE).admit(parse_csr(make_csrs(1)[0].encode()))
    return lambda: prepare(issuer, request, now=now)


def _issue() -> Callable[[], object]:
    issuer, now = _issuer(), int(time.time())
    request = Profile.from_spec(PROFILE).admit(parse_csr(make_csrs(1)[0].encode()))
    return lambda: issue(issuer, request, now=now)


def _sign() -> Callable[[], object]:
    key, data = LocalKey.of(generate_key("ec-p256")), bytes(600)
    return lambda: key.sign(data)


PKI_STEPS = {
    "pki: read a P-256 CSR and verify its signature": _parse_csr,
    "pki: admit a CSR under a profile": _admit,
    "pki: assemble what is signed": _prepare,
    "pki: sign 600 bytes with P-256": _sign,
    "pki: assemble, check, sign and encode a certificate": _issue,
}
