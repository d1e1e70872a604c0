"""Certificate profiles: what a certificate may contain, checked once and unchangeable after.

``Profile.from_spec`` turns what an operator wrote into a Profile or says what is wrong with it.
``Profile.admit`` turns a proven request into an ``AdmittedRequest``, and only from that is an end
entity's certificate issued.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from node_agent.errors import ConfigError, ProfileViolation, RequestRefused
from node_agent.pki import usages
from node_agent.pki.names import (
    AlternativeName,
    DistinguishedName,
    NameAttribute,
    SanKind,
    normalize,
)
from node_agent.pki.profile_rules import (
    SanField,
    SubjectField,
    read_extended_key_usage,
    read_key_usage,
    read_policies,
    read_san,
    read_subject,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from node_agent.objects import CertificateProfileSpec
    from node_agent.pki.csr import Csr

__all__ = ["AdmittedRequest", "Profile", "SanField", "SubjectField"]

_SECONDS_PER_DAY = 86400
_REPEATABLE = frozenset({"organizational_unit", "domain_component"})


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
            subject=read_subject(spec.subject, where),
            san=read_san(spec.san, where),
            key_kinds=spec.key_kinds,
            key_usage=read_key_usage(spec, where),
            extended_key_usage=read_extended_key_usage(spec.extended_key_usage, where),
            validity_seconds=spec.validity_days * _SECONDS_PER_DAY,
            backdate_seconds=spec.backdate_seconds,
            policies=read_policies(spec.policies, where),
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
