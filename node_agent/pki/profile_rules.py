"""Reading a profile's specification: each part becomes a validated value, or ConfigError says what
is wrong with it, where, and what to write instead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from node_agent.errors import ConfigError
from node_agent.pki import der, usages
from node_agent.pki.names import SanKind, validate_attribute
from node_agent.pki.patterns import Pattern

if TYPE_CHECKING:
    from collections.abc import Sequence

    from node_agent.objects import CertificateProfileSpec, SanRule, SubjectRule

__all__ = [
    "SanField",
    "SubjectField",
    "read_extended_key_usage",
    "read_key_usage",
    "read_policies",
    "read_san",
    "read_subject",
]

# RFC 5280 names no bound; a certificate with more names than this is a mistake or an attack.
_MOST_NAMES_OF_A_KIND = 250


@dataclass(frozen=True, slots=True)
class SubjectField:
    """A validated SubjectRule."""

    attribute: str
    required: bool
    pattern: Pattern | None
    value: str | None


@dataclass(frozen=True, slots=True)
class SanField:
    """A validated SanRule. ``wildcard``: the pattern names ``*`` outright."""

    kind: SanKind
    pattern: Pattern | None
    minimum: int
    maximum: int
    wildcard: bool


def read_subject(rules: Sequence[SubjectRule], where: str) -> tuple[SubjectField, ...]:
    """Return the subject rules in the order in which the attributes will stand."""
    fields: list[SubjectField] = []
    for rule in rules:
        at = f"{where}: subject.{rule.attribute}"
        if any(field.attribute == rule.attribute for field in fields):
            raise ConfigError("the attribute is listed twice", where=at, remedy="keep one rule")
        if rule.value is not None and rule.pattern is not None:
            raise ConfigError("both value and pattern", where=at, remedy="keep one of them")
        if rule.value is not None and (fault := validate_attribute(rule.attribute, rule.value)):
            raise ConfigError(f"the value {fault}", where=at, remedy="correct the value")
        pattern = _pattern(rule.pattern, at)
        fields.append(SubjectField(rule.attribute, rule.required, pattern, rule.value))
    return tuple(fields)


def _pattern(source: str | None, where: str) -> Pattern | None:
    if source is None:
        return None
    try:
        return Pattern(source)
    except ConfigError as error:
        raise error.within(f"{where}.pattern") from error


def read_san(rules: Sequence[SanRule], where: str) -> tuple[SanField, ...]:
    """Return the rules for alternative names, one for each kind."""
    fields: list[SanField] = []
    for rule in rules:
        at = f"{where}: san.{rule.kind}"
        if any(field.kind == rule.kind for field in fields):
            raise ConfigError("the kind is listed twice", where=at, remedy="join the patterns by |")
        if not 0 <= rule.minimum <= rule.maximum <= _MOST_NAMES_OF_A_KIND or rule.maximum == 0:
            raise ConfigError(
                f"minimum {rule.minimum} and maximum {rule.maximum} are impossible",
                where=at,
                remedy=f"use 0 <= minimum <= maximum <= {_MOST_NAMES_OF_A_KIND}, maximum above 0",
            )
        pattern = _pattern(rule.pattern, at)
        wildcard = rule.kind == "dns" and pattern is not None and "*" in pattern.literals
        fields.append(SanField(rule.kind, pattern, rule.minimum, rule.maximum, wildcard))
    return tuple(fields)


def read_key_usage(spec: CertificateProfileSpec, where: str) -> frozenset[int]:
    """Return the key usage bits, after checking that every key kind can serve one of them."""
    at = f"{where}: key_usage"
    unknown = sorted(set(spec.key_usage) - set(usages.KEY_USAGES))
    if unknown:
        known = ", ".join(usages.KEY_USAGES)
        raise ConfigError(f"{unknown[0]!r} is no key usage", where=at, remedy=f"use {known}")
    bits = frozenset(usages.KEY_USAGES[name] for name in spec.key_usage)
    if bits & usages.CA_BITS:
        raise ConfigError(
            "signing certificates or CRLs is not for end entities",
            where=at,
            remedy="make a certification authority on its node instead",
        )
    if bits & {7, 8} and 4 not in bits:
        raise ConfigError(
            "encipher_only and decipher_only mean nothing without key_agreement",
            where=at,
            remedy="add key_agreement (RFC 5280 section 4.2.1.3)",
        )
    _check_key_kinds(spec, bits, where)
    return bits


def _check_key_kinds(spec: CertificateProfileSpec, bits: frozenset[int], where: str) -> None:
    if not spec.key_kinds:
        raise ConfigError("no key kind is allowed", where=f"{where}: key_kinds", remedy="list one")
    for kind in spec.key_kinds:
        if bits and not usages.usable_bits(bits, kind):
            raise ConfigError(
                f"a key of the kind {kind} can serve none of {', '.join(spec.key_usage)}",
                where=f"{where}: key_kinds",
                remedy=f"leave {kind} out or add digital_signature to key_usage",
            )


def read_extended_key_usage(names: Sequence[str], where: str) -> tuple[str, ...]:
    """Return the purposes as dotted OIDs."""
    at = f"{where}: extended_key_usage"
    purposes = tuple(_purpose(name, at) for name in names)
    if len(set(purposes)) != len(purposes):
        raise ConfigError("a purpose is listed twice", where=at, remedy="list it once")
    if usages.OCSP_SIGNING in purposes or usages.ANY_EXTENDED_KEY_USAGE in purposes:
        raise ConfigError(
            "OCSP signing, and any purpose, can't be enrolled for: "
            "who holds such a certificate speaks for the CA",
            where=at,
            remedy="make a signer for OCSP; list the purposes one by one",
        )
    if usages.TIME_STAMPING in purposes and len(purposes) > 1:
        raise ConfigError(
            "time_stamping must stand alone",
            where=at,
            remedy="use a profile of its own (RFC 3161 section 2.3)",
        )
    return purposes


def _purpose(name: str, where: str) -> str:
    if name in usages.EXTENDED_KEY_USAGES:
        return usages.EXTENDED_KEY_USAGES[name]
    try:
        der.oid(name)
    except der.DerError as error:
        known = ", ".join(usages.EXTENDED_KEY_USAGES)
        raise ConfigError(
            f"{name!r} is no extended key usage", where=where, remedy=f"use {known} or a dotted OID"
        ) from error
    return name


def read_policies(dotted: Sequence[str], where: str) -> tuple[str, ...]:
    """Return the policies as dotted OIDs."""
    at = f"{where}: policies"
    for policy in dotted:
        try:
            der.oid(policy)
        except der.DerError as error:
            raise ConfigError(str(error), where=at, remedy="write dotted OIDs") from error
    if len(set(dotted)) != len(dotted):
        raise ConfigError("a policy is listed twice", where=at, remedy="list it once")
    return tuple(dotted)
