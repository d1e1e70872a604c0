"""Rules about an object's own content: what is in it can be put to work once it is stored.

They are held against what a plan writes. An object that was stored before its rule existed hinders
no plan about something else; the node says in its status what it can't do with it.
"""

from __future__ import annotations

import ssl
from collections import defaultdict
from typing import TYPE_CHECKING

from cryptography import x509

from node_agent.errors import ConfigError
from node_agent.net.crls import check_crls
from node_agent.objects import (
    TLS_KEY_KINDS,
    AuthenticatorSpec,
    PeerConnectorSpec,
    PublisherSpec,
    RequesterSpec,
    SignerSpec,
)
from node_agent.pool import PoolSettings
from node_agent.web.tls import check_client_trust_anchors

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from node_agent.functions.plan import Objects, Step
    from node_agent.objects import ObjectSpec

__all__ = ["check_written"]


def check_written(objects: Objects, steps: Iterable[Step]) -> None:
    """Raise ConfigError when what ``steps`` write can't work. ``objects`` is their result."""
    kinds, signers = set(), set[str]()
    for step in steps:
        kinds.add(step.kind)
        where = f"{step.kind}.{step.name}"
        match step.after:
            case AuthenticatorSpec() as spec:
                _check_authenticator(spec, where)
            case PeerConnectorSpec() as spec:
                PoolSettings.from_spec(spec)
            case PublisherSpec() as spec if not spec.authorities:
                raise ConfigError(
                    "is empty", where=f"{where}.authorities", remedy="name the CAs to publish"
                )
            case RequesterSpec() as spec:
                _check_trust_anchors(spec, where)
            case SignerSpec() as spec:
                signers.add(spec.name)
            case _:
                pass
    if "requesters" in kinds:
        _check_clients_can_come(objects.get("requesters", {}))
    if signers:
        _check_only_signers(objects.get("signers", {}), signers)


def _check_authenticator(spec: AuthenticatorSpec, where: str) -> None:
    if spec.key_kind not in TLS_KEY_KINDS:
        raise ConfigError(
            f"TLS has no {spec.key_kind} keys",
            where=f"{where}.key_kind",
            remedy=f"use one of {', '.join(TLS_KEY_KINDS)}",
        )
    if spec.require_current_crl and spec.purpose != "peer":
        raise ConfigError(
            "is for peer links", where=f"{where}.require_current_crl", remedy="leave it out"
        )
    given = () if spec.certificate is None else (spec.certificate,)
    chain = _certificates(given, f"{where}.certificate")
    anchors = _certificates(spec.trust_anchors, f"{where}.trust_anchors")
    try:
        crls = [x509.load_pem_x509_crl(text.encode()) for text in spec.crls]
    except ValueError as error:
        raise ConfigError(f"isn't readable PEM: {error}", where=f"{where}.crls") from error
    check_crls(crls, [*anchors, *chain[1:]], where=f"{where}.crls")


def _certificates(texts: Iterable[str], where: str) -> list[x509.Certificate]:
    try:
        return [found for text in texts for found in x509.load_pem_x509_certificates(text.encode())]
    except ValueError as error:
        raise ConfigError(f"isn't readable PEM: {error}", where=where) from error


def _check_trust_anchors(spec: RequesterSpec, where: str) -> None:
    for index, text in enumerate(spec.client_trust_anchors):
        try:
            check_client_trust_anchors([text])
        except (ValueError, ssl.SSLError) as error:
            raise ConfigError(
                f"isn't a certificate in PEM: {error}",
                where=f"{where}.client_trust_anchors[{index}]",
            ) from error


def _check_only_signers(signers: Mapping[str, ObjectSpec], written: Container[str]) -> None:
    """Refuse each written signer of a CA that has another one, in one pass over all signers."""
    of_one: dict[str, list[str]] = defaultdict(list)
    for spec in signers.values():
        assert isinstance(spec, SignerSpec)
        of_one[spec.authority].append(spec.name)
    for authority, names in of_one.items():
        name = next((name for name in names if name in written), None)
        other = next((other for other in names if other != name), None)
        if name is not None and other is not None:
            raise ConfigError(
                f"the CA {authority} has the signer {other!r} already, and one answers for a CA",
                where=f"signers.{name}.authority",
                remedy=f"change {other!r}, or delete it in the same plan",
            )


def _check_clients_can_come(requesters: Mapping[str, ObjectSpec]) -> None:
    specs = [spec for spec in requesters.values() if isinstance(spec, RequesterSpec)]
    if any(spec.client_trust_anchors for spec in specs):
        return
    for spec in specs:
        if spec.certificate_sha256 is not None:
            raise ConfigError(
                "no requester has client_trust_anchors, so the REST port would accept no client "
                "certificate",
                where=f"requesters.{spec.name}.client_trust_anchors",
                remedy="give the CA certificate above it, or itself if it is self-signed",
            )
