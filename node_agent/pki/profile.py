"""Certificate profiles: what a certificate may contain, checked once and unchangeable after.

``Profile.from_spec`` turns what an operator wrote into a Profile or says what is wrong with it.
``Profile.admit`` turns a proven request into an ``AdmittedRequest``, and only from that is an end
entity's certificate issued.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from node_agent.errors import ConfigError, ProfileViolation, RequestRefused
from node_agent.pki import der, usages
from node_agent.pki.names import (
    AlternativeName,
    DistinguishedName,
    NameAttribute,
    SanKind,
    normalize,
    validate_attribute,
)
from node_agent.pki.patterns import Pattern

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from node_agent.objects import CertificateProfileSpec, SanRule, SubjectRule
    from node_agent.pki.csr import Csr

__all__ = ["AdmittedRequest", "Profile", "SanField", "SubjectField"]

_SECONDS_PER_DAY = 86400
# RFC 5280 names no bound; a certificate with more names than this is a mistake or an attack.
_MOST_NAMES_OF_A_KIND = 250
_REPEATABLE = frozenset({"organizational_unit", "domain_component"})


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


@dataclass(frozen=True, slots=True)
class AdmittedRequest:
    """A key and names that the profile allows. Validity is in seconds, None for the profile's."""

    profile: Profile
    spki: bytes
    key_kind: str
    subject: DistinguishedName
    alternative_names: tuple[AlternativeName, ...]
    validity_seconds: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """A validated profile. Compared by identity: a changed specification makes a new one."""

    name: str
    subject: tuple[SubjectField, ...]
    san: tuple[SanField, ...]
    key_kinds: tuple[str, ...]
    key_usage: frozenset[int]
    extended_key_usage: tuple[str, ...]
    validity_seconds: int
    backdate_seconds: int
    policies: tuple[str, ...]
    include_ocsp_url: bool
    include_issuer_url: bool
    include_crl_url: bool

    @classmethod
    def from_spec(cls, spec: CertificateProfileSpec) -> Profile:
        """Return the validated profile. Raises ConfigError naming the field and a remedy."""
        where = f"certificate_profiles/{spec.name}"
        profile = cls(
            name=spec.name,
            subject=_subject_fields(spec.subject, where),
            san=_san_fields(spec.san, where),
            key_kinds=spec.key_kinds,
            key_usage=_key_usage(spec, where),
            extended_key_usage=_extended_key_usage(spec.extended_key_usage, where),
            validity_seconds=spec.validity_days * _SECONDS_PER_DAY,
            backdate_seconds=spec.backdate_seconds,
            policies=_policies(spec.policies, where),
            include_ocsp_url=spec.include_ocsp_url,
            include_issuer_url=spec.include_issuer_url,
            include_crl_url=spec.include_crl_url,
        )
        if not 0 <= spec.backdate_seconds < profile.validity_seconds:
            raise ConfigError(
                "backdating must be shorter than the validity",
                where=f"{where}: backdate_seconds",
                remedy="use a few minutes, enough for the clocks of those who verify",
            )
        if not profile.subject and not profile.san:
            raise ConfigError(
                "no subject attribute and no alternative name is allowed",
                where=where,
                remedy="add a subject rule or a san rule, or nothing could ever be issued",
            )
        return profile

    def admit(self, csr: Csr, *, validity_seconds: int | None = None) -> AdmittedRequest:
        """Return the request as this profile allows it.

        Raises ProfileViolation, naming the field and a remedy, when it allows no part of it.
        """
        if csr.key_kind not in self.key_kinds:
            raise _violation(
                f"keys of the kind {csr.key_kind} are not allowed by profile {self.name}",
                "key",
                f"use {' or '.join(self.key_kinds)}",
            )
        if validity_seconds is not None and not 1 <= validity_seconds <= self.validity_seconds:
            raise _violation(
                f"a validity of {validity_seconds} seconds is not allowed by profile {self.name}",
                "validity_seconds",
                f"ask for 1 to {self.validity_seconds}, or for nothing",
            )
        subject = self._admit_subject(csr.subject)
        names = self._admit_names(csr.alternative_names)
        if not subject and not names:
            raise _violation("the request names nobody", "san", "add an alternative name")
        self._check_host_name(subject, names)
        return AdmittedRequest(self, csr.spki, csr.key_kind, subject, names, validity_seconds)

    def _admit_subject(self, requested: Sequence[NameAttribute]) -> DistinguishedName:
        values: dict[str, list[str]] = {}
        for attribute, value in requested:
            values.setdefault(attribute, []).append(value)
        admitted: list[NameAttribute] = []
        for field in self.subject:
            found = values.pop(field.attribute, [])
            admitted.extend(
                NameAttribute(field.attribute, value) for value in self._values(field, found)
            )
        if values:
            attribute = min(values)
            raise _violation(
                f"profile {self.name} allows no {attribute} in the subject",
                f"subject.{attribute}",
                "leave it out of the request",
            )
        return tuple(admitted)

    def _values(self, field: SubjectField, found: list[str]) -> list[str]:
        name = f"subject.{field.attribute}"
        if field.value is not None:
            if any(value != field.value for value in found):
                raise _violation(
                    f"profile {self.name} sets {field.attribute} to {field.value!r} itself",
                    name,
                    "leave it out of the request",
                )
            return [field.value]
        if not found and field.required:
            raise _violation(f"{field.attribute} is missing", name, "add it to the subject")
        if len(found) > 1 and field.attribute not in _REPEATABLE:
            raise _violation(f"{field.attribute} stands there twice", name, "give it once")
        for value in found:
            if field.pattern is not None and not field.pattern.matches(value):
                raise _violation(
                    f"{value!r} does not match what profile {self.name} allows",
                    name,
                    f"use a value that matches {field.pattern.source}",
                )
        return found

    def _admit_names(self, requested: Iterable[AlternativeName]) -> tuple[AlternativeName, ...]:
        names: dict[SanKind, dict[AlternativeName, None]] = {}
        for kind, value in requested:
            names.setdefault(kind, {})[self._admit_name(kind, value)] = None
        admitted: list[AlternativeName] = []
        for field in self.san:
            found = names.pop(field.kind, {})
            if not field.minimum <= len(found) <= field.maximum:
                raise _violation(
                    f"{len(found)} names of the kind {field.kind}, but profile {self.name} "
                    f"allows {field.minimum} to {field.maximum}",
                    f"san.{field.kind}",
                    "change the request's alternative names",
                )
            admitted.extend(found)
        return tuple(admitted)

    def _admit_name(self, kind: SanKind, value: str) -> AlternativeName:
        field = next((field for field in self.san if field.kind == kind), None)
        if field is None:
            raise _violation(
                f"profile {self.name} allows no alternative names of the kind {kind}",
                f"san.{kind}",
                "leave them out of the request",
            )
        try:
            name = normalize(kind, value, wildcard=field.wildcard)
        except RequestRefused as error:
            raise _violation(error.detail, error.field, error.remedy) from error
        if field.pattern is not None and not field.pattern.matches(name.value):
            raise _violation(
                f"{name.value!r} does not match what profile {self.name} allows",
                f"san.{kind}",
                f"use a name that matches {field.pattern.source}",
            )
        return name

    def _check_host_name(
        self, subject: DistinguishedName, names: tuple[AlternativeName, ...]
    ) -> None:
        """Refuse a host name in the common name that no alternative name rule has judged.

        Old clients read the common name of a server as its host name (RFC 9525 ended it), so a
        free common name would go around the patterns of the alternative names.
        """
        if usages.SERVER_AUTH not in self.extended_key_usage:
            return
        kinds = [field.kind for field in self.san if field.kind in ("dns", "ip")]
        for value in (value for attribute, value in subject if attribute == "common_name"):
            if any(_is_unjudged_host(kind, value, names) for kind in kinds):
                raise _violation(
                    f"the common name {value!r} is a host name that is no alternative name",
                    "subject.common_name",
                    "add it to the alternative names, or leave it out",
                )


def _is_unjudged_host(kind: SanKind, value: str, names: tuple[AlternativeName, ...]) -> bool:
    if "." not in value and ":" not in value:
        return False
    if kind == "ip" and not (value[0].isdigit() or ":" in value):
        return False
    try:
        return normalize(kind, value, wildcard=True) not in names
    except RequestRefused:
        return False


def _violation(detail: str, field: str, remedy: str) -> ProfileViolation:
    return ProfileViolation(detail, field=field, remedy=remedy)


def _subject_fields(rules: Sequence[SubjectRule], where: str) -> tuple[SubjectField, ...]:
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
        raise ConfigError(str(error), where=f"{where}.pattern", remedy=error.remedy) from error


def _san_fields(rules: Sequence[SanRule], where: str) -> tuple[SanField, ...]:
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


def _key_usage(spec: CertificateProfileSpec, where: str) -> frozenset[int]:
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


def _extended_key_usage(names: Sequence[str], where: str) -> tuple[str, ...]:
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


def _policies(dotted: Sequence[str], where: str) -> tuple[str, ...]:
    at = f"{where}: policies"
    for policy in dotted:
        try:
            der.oid(policy)
        except der.DerError as error:
            raise ConfigError(str(error), where=at, remedy="write dotted OIDs") from error
    if len(set(dotted)) != len(dotted):
        raise ConfigError("a policy is listed twice", where=at, remedy="list it once")
    return tuple(dotted)
