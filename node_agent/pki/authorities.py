"""Certificates that no enrolment reaches: CAs, authenticators, servers of a node, OCSP signers.

Each ``prepare_…`` returns a ToBeSigned, to be signed like any other. Their profile names begin
with ``builtin.``, which no configured profile can be called.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from node_agent.clock import LAST_SECOND
from node_agent.errors import ConfigError, RequestRefused
from node_agent.pki import extensions, usages
from node_agent.pki.issue import Contents, ToBeSigned, assemble, validity_within
from node_agent.pki.issuer import Issuer
from node_agent.pki.keys import SigningKey, algorithm_identifier
from node_agent.pki.names import (
    ATTRIBUTES,
    AlternativeName,
    DistinguishedName,
    NameAttribute,
    authority_id,
    encode_name,
    normalize,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from node_agent.identity import NodeIdentity

__all__ = [
    "BACKDATE_SECONDS",
    "prepare_authenticator",
    "prepare_issuing_ca",
    "prepare_ocsp_signer",
    "prepare_self_signed_ca",
    "prepare_server",
]

# Enough for clocks that nobody disciplines; what is issued in a CA's first minutes needs it too.
BACKDATE_SECONDS = 300
_SECONDS_PER_DAY = 86400
# RFC 5280 section 4.1.2.5 and X.509: GeneralizedTime has four digits for the year.
_DIGITAL_SIGNATURE = frozenset({0})


def prepare_self_signed_ca(
    key: SigningKey,
    subject: DistinguishedName,
    *,
    kind: Literal["root", "management"],
    now: int,
    validity_days: int,
    path_length: int | None = None,
) -> ToBeSigned:
    """Return the self-signed certificate of a root or Management CA, to be signed by ``key``.

    A Management CA has a path length of 0: it issues authenticators and nothing below.
    Raises ConfigError for an empty subject.
    """
    _require_subject(subject)
    if kind == "management":
        path_length = 0
    issuer = _own_issuer(key, subject, now=now, validity_days=validity_days)
    static = extensions.basic_constraints(
        ca=True, path_length=path_length
    ) + usages.key_usage_extension(usages.CA_BITS)
    # The issuer's own key is exactly right here and nowhere else.
    prepared = assemble(
        replace(issuer, spki=b""),
        _ca_contents(subject, key.spki, static, kind),
        validity=(issuer.not_before, issuer.not_after),
    )
    return replace(prepared, authority_id=issuer.authority_id)


def prepare_issuing_ca(
    issuer: Issuer,
    spki: bytes,
    subject: DistinguishedName,
    *,
    now: int,
    validity_days: int,
    path_length: int | None = None,
) -> ToBeSigned:
    """Return the certificate of a CA below ``issuer``. A path length of None means 0.

    Raises ConfigError when the subject is empty or the issuer's, or the issuer's path length
    leaves no room.
    """
    _require_subject(subject)
    path_length = path_length or 0
    if issuer.path_length is not None and path_length >= issuer.path_length:
        raise ConfigError(
            f"the issuer's path length {issuer.path_length} leaves no room for {path_length} below",
            remedy="make the issuer with a greater path_length, or without one",
        )
    if encode_name(subject) == issuer.name:
        raise ConfigError(
            "a CA below another can't have its name", remedy="give it a subject of its own"
        )
    static = (
        extensions.authority_key_identifier(issuer.key_id)
        + extensions.basic_constraints(ca=True, path_length=path_length)
        + usages.key_usage_extension(usages.CA_BITS)
        + extensions.certificate_policies((extensions.ANY_POLICY,))
        + _urls(issuer)
    )
    validity = validity_within(
        issuer,
        now=now,
        validity_seconds=validity_days * _SECONDS_PER_DAY,
        backdate_seconds=BACKDATE_SECONDS,
    )
    contents = _ca_contents(subject, spki, static, "issuing")
    return assemble(issuer, contents, validity=validity)


def prepare_authenticator(
    issuer: Issuer, spki: bytes, identity: NodeIdentity, *, now: int, validity_seconds: int
) -> ToBeSigned:
    """Return a node's authenticator: its identity as URI name, for both ends of a TLS link."""
    return _prepare_end_entity(
        issuer,
        spki,
        (AlternativeName("uri", identity.uri),),
        common_name=identity.name,
        purposes=(usages.SERVER_AUTH, usages.CLIENT_AUTH),
        kind="authenticator",
        validity=_end_entity_validity(issuer, now, validity_seconds),
    )


def prepare_server(
    issuer: Issuer,
    spki: bytes,
    *,
    dns_names: Sequence[str],
    ip_addresses: Sequence[str],
    now: int,
    validity_seconds: int,
) -> ToBeSigned:
    """Return the certificate of a node's own server port. It can't be an authenticator.

    Raises RequestRefused when there is no name or one can't be certified.
    """
    names = (
        *(normalize("dns", name) for name in dns_names),
        *(normalize("ip", address) for address in ip_addresses),
    )
    if not names:
        raise RequestRefused("no name to certify", field="dns_names", remedy="give a name")
    return _prepare_end_entity(
        issuer,
        spki,
        tuple(dict.fromkeys(names)),
        common_name=names[0].value,
        purposes=(usages.SERVER_AUTH,),
        kind="server",
        validity=_end_entity_validity(issuer, now, validity_seconds),
    )


def prepare_ocsp_signer(
    issuer: Issuer, spki: bytes, *, common_name: str, now: int, validity_seconds: int
) -> ToBeSigned:
    """Return the certificate of a delegated OCSP signer (RFC 6960 section 4.2.2.2).

    It has id-pkix-ocsp-nocheck and no pointer to its own status, so keep it short-lived.
    """
    return _prepare_end_entity(
        issuer,
        spki,
        (),
        common_name=common_name[: ATTRIBUTES["common_name"].upper_bound],
        purposes=(usages.OCSP_SIGNING,),
        kind="ocsp_signer",
        validity=_end_entity_validity(issuer, now, validity_seconds),
    )


def _prepare_end_entity(
    issuer: Issuer,
    spki: bytes,
    names: tuple[AlternativeName, ...],
    *,
    common_name: str,
    purposes: tuple[str, ...],
    kind: str,
    validity: tuple[int, int],
) -> ToBeSigned:
    is_signer = usages.OCSP_SIGNING in purposes
    fits = len(common_name) <= ATTRIBUTES["common_name"].upper_bound
    static = (
        extensions.authority_key_identifier(issuer.key_id)
        + extensions.basic_constraints(ca=False)
        + usages.key_usage_extension(_DIGITAL_SIGNATURE)
        + usages.extended_key_usage_extension(purposes)
        + (extensions.ocsp_no_check() if is_signer else _urls(issuer))
    )
    contents = Contents(
        subject=(NameAttribute("common_name", common_name),) if fits else (),
        names=names,
        spki=spki,
        static_extensions=static,
        profile=f"builtin.{kind}",
    )
    return assemble(issuer, contents, validity=validity)


def _ca_contents(
    subject: DistinguishedName, spki: bytes, static_extensions: bytes, kind: str
) -> Contents:
    return Contents(
        subject=subject,
        spki=spki,
        static_extensions=static_extensions,
        profile=f"builtin.{kind}",
        is_ca=True,
    )


def _end_entity_validity(issuer: Issuer, now: int, validity_seconds: int) -> tuple[int, int]:
    """A validity that counts from now, with the backdating added in front of it."""
    return validity_within(
        issuer,
        now=now,
        validity_seconds=validity_seconds + BACKDATE_SECONDS,
        backdate_seconds=BACKDATE_SECONDS,
        requested_seconds=validity_seconds,
    )


def _urls(issuer: Issuer) -> bytes:
    return extensions.authority_information_access(
        issuer.ocsp_urls, issuer.issuer_urls
    ) + extensions.crl_distribution_points(issuer.crl_urls)


def _require_subject(subject: DistinguishedName) -> None:
    if not subject:
        raise ConfigError(
            "a CA needs a subject (RFC 5280 section 4.1.2.6)", remedy="write CN=…,O=…"
        )


def _own_issuer(
    key: SigningKey, subject: DistinguishedName, *, now: int, validity_days: int
) -> Issuer:
    """Return the issuer that a self-signed CA is to itself before it has a certificate."""
    name, spki = encode_name(subject), key.spki
    not_before = now - BACKDATE_SECONDS
    return Issuer(
        key=key,
        chain=(),
        name=name,
        spki=spki,
        key_id=extensions.key_identifier(spki),
        authority_id=authority_id(name, spki),
        algorithm=algorithm_identifier(key.kind),
        not_before=not_before,
        not_after=min(not_before + validity_days * _SECONDS_PER_DAY - 1, LAST_SECOND),
        path_length=None,
        ocsp_urls=(),
        issuer_urls=(),
        crl_urls=(),
    )
