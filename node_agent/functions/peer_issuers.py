"""Peer issuers as objects: read once, and the rules that hold between all whom this node trusts.

Two tenants with one key, one certificate or one name of a CA would be one tenant with two names:
whoever holds that key could be a node of either. Such a plan is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from node_agent.errors import ConfigError
from node_agent.net.crls import crl_number
from node_agent.net.issuers import PeerIssuer
from node_agent.objects import AuthenticatorSpec, PeerIssuerSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from node_agent.functions.plan import Objects, Step
    from node_agent.identity import NodeIdentity

__all__ = ["check_peer_issuers", "read_issuer"]

KIND = "peer_issuers"
# Reading a certificate costs more than all the rest of a plan; a node with a thousand tenants
# would read a thousand for each small change.
_MAX_REMEMBERED = 4096


@lru_cache(maxsize=_MAX_REMEMBERED)
def read_issuer(spec: PeerIssuerSpec) -> PeerIssuer:
    """Return the issuer that ``spec`` describes. Raises ConfigError naming the field at fault."""
    return PeerIssuer.from_pem(
        spec.trust_domain, spec.trust_anchors, spec.crls, where=f"{KIND}.{spec.name}"
    )


def check_peer_issuers(objects: Objects, steps: Iterable[Step], node: NodeIdentity) -> None:
    """Raise ConfigError when ``objects``, the result of ``steps`` at ``node``, let a CA vouch for
    two trust domains or a trust domain have two issuers, or when a step goes back to an old CRL.
    """
    concerned = [step for step in steps if step.kind in (KIND, "authenticators")]
    if not concerned:
        return
    for step in concerned:
        _check_crls_grow(step)
    specs = [spec for spec in objects.get(KIND, {}).values() if isinstance(spec, PeerIssuerSpec)]
    _check_trust_domains(specs, node)
    owners: dict[bytes, str] = {}
    for mark in _own_marks(objects):
        owners[mark.value] = "this node's own Management CA"
    for spec in specs:
        for mark in _marks_of(spec):
            owner = owners.setdefault(mark.value, spec.name)
            if owner != spec.name:
                raise ConfigError(
                    f"has {mark.what} of {_called(owner)}",
                    where=f"{KIND}.{spec.name}.trust_anchors",
                    remedy="give each tenant a Management CA of its own: whoever holds its key "
                    "can name every node of its trust domain",
                )


def _called(owner: str) -> str:
    return owner if " " in owner else f"{KIND}.{owner}"


def _check_trust_domains(specs: Iterable[PeerIssuerSpec], node: NodeIdentity) -> None:
    owners = {node.trust_domain: "this node"}
    for spec in specs:
        where = f"{KIND}.{spec.name}.trust_domain"
        owner = owners.setdefault(spec.trust_domain, spec.name)
        if owner != spec.name:
            raise ConfigError(
                f"{spec.trust_domain} is the trust domain of {_called(owner)}",
                where=where,
                remedy="give each tenant a trust domain of its own",
            )


def _check_crls_grow(step: Step) -> None:
    if not isinstance(step.before, PeerIssuerSpec) or not isinstance(step.after, PeerIssuerSpec):
        return
    newest: dict[x509.Name, int] = {}
    for crl in read_issuer(step.before).crls:
        newest[crl.issuer] = max(crl_number(crl), newest.get(crl.issuer, 0))
    for crl in read_issuer(step.after).crls:
        if crl_number(crl) < newest.get(crl.issuer, 0):
            raise ConfigError(
                f"has number {crl_number(crl)} of {crl.issuer.rfc4514_string()}, which is older "
                f"than number {newest[crl.issuer]} in force: it would forget revocations",
                where=f"{KIND}.{step.name}.crls",
                remedy="leave crls out to keep what is in force",
            )


@dataclass(frozen=True, slots=True)
class _Mark:
    """Something that only one trust domain's CA may have."""

    what: str
    value: bytes


@lru_cache(maxsize=_MAX_REMEMBERED)
def _marks_of(spec: PeerIssuerSpec) -> tuple[_Mark, ...]:
    return tuple(mark for anchor in read_issuer(spec).trust_anchors for mark in _marks(anchor))


def _own_marks(objects: Objects) -> Iterator[_Mark]:
    """Yield the marks of every CA that our own peers' certificates may come from."""
    for spec in objects.get("authenticators", {}).values():
        if isinstance(spec, AuthenticatorSpec) and spec.purpose == "peer":
            chain = _read(spec.certificate) if spec.certificate else []
            for certificate in chain[1:]:
                yield from _marks(certificate)
            for text in spec.trust_anchors:
                for certificate in _read(text):
                    yield from _marks(certificate)


def _read(text: str) -> list[x509.Certificate]:
    """Return certificates; what can't be read is refused where the authenticator is checked."""
    try:
        return x509.load_pem_x509_certificates(text.encode())
    except ValueError:
        return []


def _marks(certificate: x509.Certificate) -> Iterator[_Mark]:
    key = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    yield _Mark("the certificate", b"c" + certificate.fingerprint(hashes.SHA256()))
    yield _Mark("the key", b"k" + key)
    yield _Mark("the subject", b"s" + certificate.subject.public_bytes())
