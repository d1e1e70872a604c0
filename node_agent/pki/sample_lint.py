"""The thorough lint, for profiles: pkilint's RFC 5280 rules on a certificate nobody can use.

When a profile meets an issuer, a sample with every attribute and kind of name that the profile
allows is made for each kind of key and signed by a key that is thrown away: the CA's key has seen
nothing of it. pkilint takes half a second to import, so it is imported on first use.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from node_agent.errors import LintFailed
from node_agent.pki.issue import prepare
from node_agent.pki.keys import LocalKey, algorithm_identifier, generate_key
from node_agent.pki.names import AlternativeName, NameAttribute, SanKind
from node_agent.pki.profile import AdmittedRequest, Profile

if TYPE_CHECKING:
    from node_agent.pki.issuer import Issuer

__all__ = ["lint_certificate", "lint_profile_sample"]

_SAMPLE_NAMES: dict[SanKind, str] = {
    "dns": "host.example.org",
    "ip": "2001:db8::1",
    "email": "someone@example.org",
    "uri": "https://host.example.org/",
}
_SAMPLE_ATTRIBUTES = {
    "country": ("DE",),
    "email_address": ("someone@example.org",),
    "domain_component": ("org", "example"),
}
_SAMPLE_TEXT = ("example",)


def lint_profile_sample(profile: Profile, issuer: Issuer, *, now: int) -> list[str]:
    """Return the warnings about what ``issuer`` would issue after ``profile``.

    Raises LintFailed with all findings when one of them is an error.
    """
    warnings = (
        warning
        for kind in _one_per_family(profile.key_kinds)
        for warning in lint_certificate(_sample(profile, issuer, kind, now))
    )
    return list(dict.fromkeys(warnings))


def lint_certificate(encoded: bytes) -> list[str]:
    """Return pkilint's warnings about a certificate (DER). Raises LintFailed for errors."""
    from pkilint import loader
    from pkilint.validation import ValidationFindingSeverity as Severity

    document = loader.load_certificate(encoded, "sample")
    findings = [
        (description.finding.severity, f"{description.finding.code} at {result.node.path}")
        for result in _validator().validate(document.root)
        for description in result.finding_descriptions
    ]
    errors = [text for severity, text in findings if severity <= Severity.ERROR]
    if errors:
        raise LintFailed(errors, field="certificate_profiles")
    return [text for severity, text in findings if severity <= Severity.WARNING]


@functools.cache
def _validator() -> Any:
    from pkilint.pkix import certificate, extension, name

    return certificate.create_pkix_certificate_validator_container(
        certificate.create_decoding_validators(
            name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS
        ),
        [
            certificate.create_issuer_validator_container([]),
            certificate.create_validity_validator_container(),
            certificate.create_subject_validator_container([]),
            certificate.create_extensions_validator_container([]),
            certificate.create_spki_validator_container([]),
        ],
    )


def _one_per_family(kinds: tuple[str, ...]) -> list[str]:
    """Return one kind of each key family: extensions differ by family, not by size."""
    return list({kind.rpartition("-")[0] or kind: kind for kind in reversed(kinds)}.values())


@functools.cache
def _throwaway_key(kind: str) -> LocalKey:
    return LocalKey.of(generate_key("rsa-2048" if kind.startswith("rsa-") else kind))


@functools.cache
def _sample_spki(kind: str) -> bytes:
    return LocalKey.of(generate_key("rsa-2048" if kind.startswith("rsa-") else kind)).spki


def _sample(profile: Profile, issuer: Issuer, key_kind: str, now: int) -> bytes:
    signer = _throwaway_key(issuer.key.kind)
    stand_in = replace(
        issuer,
        key=signer,
        algorithm=algorithm_identifier(signer.kind),
        static_extensions={},
    )
    request = AdmittedRequest(
        profile=profile,
        spki=_sample_spki(key_kind),
        key_kind=key_kind,
        subject=tuple(_sample_subject(profile)),
        alternative_names=tuple(
            AlternativeName(field.kind, _SAMPLE_NAMES[field.kind]) for field in profile.san
        ),
    )
    # Any moment of the issuer's life will do, also when the clock isn't in it yet.
    moment = min(max(now, issuer.not_before), issuer.not_after - 1)
    prepared = prepare(stand_in, request, now=moment)
    return prepared.complete(signer.sign(prepared.der)).der


def _sample_subject(profile: Profile) -> list[NameAttribute]:
    return [
        NameAttribute(field.attribute, value)
        for field in profile.subject
        for value in (
            (field.value,)
            if field.value is not None
            else _SAMPLE_ATTRIBUTES.get(field.attribute, _SAMPLE_TEXT)
        )
    ]
