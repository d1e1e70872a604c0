"""From what an operator wrote to rules that can't be wrong: parsed once, immutable after."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from cryptography import x509

from node_agent.errors import ConfigError
from node_agent.identity import NodeIdentity
from node_agent.policy.decide import RoleSet
from node_agent.policy.model import Member, MemberKind, PermittedName, Quota, Role, Rule
from node_agent.policy.permitted_names import parse_permitted_name
from node_agent.policy.resources import (
    ALL_BELOW,
    ANY_SEGMENT,
    RESOURCES,
    can_match,
    is_partial,
    split_path,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from node_agent.objects import AccessRule, PeerRoleSpec, RequesterSpec

__all__ = ["parse_member", "parse_requester", "parse_role", "parse_roles", "parse_rule"]

_SHA256_HEX = re.compile(r"[0-9a-f]{64}\Z")
# RFC 5280 section 4.1.2.2: a serial is at most 20 octets.
_SERIAL_HEX = re.compile(r"[0-9a-f]{1,40}\Z")
_LITERAL = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?\Z")
# Begins and ends as a name does, and is no longer than one: some name matches.
_PARTIAL = re.compile(r"(?=.{2,63}\Z)(?:[a-z0-9][a-z0-9_-]*)?\*(?:[a-z0-9_-]*[a-z0-9])?\Z")

_MAX_REMEMBERED = 4096
SECONDS_PER_HOUR = 3600
"""Issued certificates are counted by the hour."""
MOST_PERIOD_SECONDS = 31 * 86400
"""Longer ago than this, issued certificates are no longer counted."""

_MEMBER_REMEDY = (
    "write spiffe://<trust-domain>/node/<name>, fingerprint:<sha256>, spki:<sha256> or "
    "serial:<hex>@<issuer>"
)


def parse_roles(
    peer_roles: Iterable[PeerRoleSpec], requesters: Iterable[RequesterSpec] = ()
) -> RoleSet:
    """Return the role set of a node. Raises ConfigError naming the object and the rule."""
    return RoleSet([*map(parse_role, peer_roles), *map(parse_requester, requesters)])


@lru_cache(maxsize=_MAX_REMEMBERED)
def parse_role(spec: PeerRoleSpec) -> Role:
    """Return the role that ``spec`` describes. Raises ConfigError naming the member or rule.

    Remembered: a change of one role of a thousand makes a new role set of all of them.
    """
    where = f"peer_roles/{spec.name}"
    members = frozenset(
        parse_member(text, where=f"{where}: members[{index}]")
        for index, text in enumerate(spec.members)
    )
    return Role(
        spec.name,
        members,
        _parse_rules(spec.rules, where),
        tenant=spec.tenant or spec.name,
        sees_all=spec.certificate_scope == "all",
        quota=_parse_quota(spec, where),
        permitted_names=_parse_names(spec.names, where),
    )


def parse_requester(spec: RequesterSpec) -> Role:
    """Return the requester's rules as a role that has only it as a member."""
    member = Member(MemberKind.REQUESTER, spec.name)
    where = f"requesters/{spec.name}"
    return Role(
        spec.name,
        frozenset({member}),
        _parse_rules(spec.rules, where),
        permitted_names=_parse_names(spec.names, where),
    )


def parse_member(text: str, *, where: str = "") -> Member:
    """Return the member that ``text`` names, normalized. Raises ConfigError on any other form."""
    scheme, _, value = text.partition(":")
    match scheme:
        case "spiffe":
            return Member(MemberKind.NODE, _node_uri(text, where))
        case "fingerprint" | "spki":
            return Member(MemberKind(scheme), _sha256_hex(value, where))
        case "serial":
            return Member(MemberKind.SERIAL, _serial_and_issuer(value, where))
        case _:
            raise ConfigError(f"{text!r} is not a member", where=where, remedy=_MEMBER_REMEDY)


def parse_rule(spec: AccessRule, *, where: str = "") -> Rule:
    """Return the rule. Raises ConfigError when its pattern is malformed or can match nothing."""
    pattern = split_path(spec.resource)
    if pattern is None or not _is_pattern(pattern):
        raise ConfigError(
            f"{spec.resource!r} is not a resource pattern",
            where=where,
            remedy="write /segment/segment, with * for one whole segment or, once, for a part of "
            "a name, and ** only at the end",
        )
    if pattern[0] == ANY_SEGMENT and any(map(is_partial, pattern)):
        raise ConfigError(
            f"{spec.resource!r} has a part of a name, and doesn't say of what",
            where=where,
            remedy="write it below /ca, /profile or /signer",
        )
    if not can_match(pattern):
        raise ConfigError(
            f"{spec.resource!r} matches no resource",
            where=where,
            remedy=f"the resources are {', '.join(RESOURCES)}",
        )
    if spec.effect not in ("allow", "deny"):
        raise ConfigError(f"{spec.effect!r} is not an effect", where=where, remedy="allow or deny")
    return Rule(pattern, spec.effect == "allow", where)


def _parse_quota(spec: PeerRoleSpec, where: str) -> Quota:
    period = spec.issued_period_seconds
    if period % SECONDS_PER_HOUR or not SECONDS_PER_HOUR <= period <= MOST_PERIOD_SECONDS:
        raise ConfigError(
            f"{period} is not from 1 hour to 31 days in whole hours",
            where=f"{where}: issued_period_seconds",
            remedy=f"give a multiple of {SECONDS_PER_HOUR} up to {MOST_PERIOD_SECONDS}",
        )
    return Quota(spec.max_issued_certificates, period, spec.max_valid_certificates)


def _parse_rules(rules: Sequence[AccessRule], where: str) -> tuple[Rule, ...]:
    return tuple(
        parse_rule(rule, where=f"{where}: rules[{index}]") for index, rule in enumerate(rules)
    )


def _parse_names(names: Sequence[str], where: str) -> tuple[PermittedName, ...]:
    return tuple(
        parse_permitted_name(text, where=f"{where}: names[{index}]")
        for index, text in enumerate(names)
    )


def _is_pattern(segments: tuple[str, ...]) -> bool:
    *head, last = segments
    return all(_is_part(segment) for segment in head) and (last == ALL_BELOW or _is_part(last))


def _is_part(segment: str) -> bool:
    return segment == ANY_SEGMENT or any(form.match(segment) for form in (_LITERAL, _PARTIAL))


def _node_uri(text: str, where: str) -> str:
    try:
        return NodeIdentity.parse(text).uri
    except ConfigError as error:
        raise error.within(where) from error


def _sha256_hex(text: str, where: str) -> str:
    normalized = text.replace(":", "").lower()
    if _SHA256_HEX.match(normalized) is None:
        raise ConfigError(
            f"{text!r} is not a SHA-256 hash", where=where, remedy="write 64 hexadecimal digits"
        )
    return normalized


def _serial_and_issuer(text: str, where: str) -> str:
    serial, separator, issuer = text.partition("@")
    normalized = serial.replace(":", "").lower()
    if not separator or _SERIAL_HEX.match(normalized) is None:
        raise ConfigError(
            f"{text!r} is not a serial with its issuer",
            where=where,
            remedy="write serial:<hex>@<RFC 4514 issuer>",
        )
    return f"{int(normalized, 16):x}@{_issuer_name(issuer, where)}"


def _issuer_name(text: str, where: str) -> str:
    try:
        name = x509.Name.from_rfc4514_string(text)
    except ValueError as error:
        raise ConfigError(
            f"{text!r} is not an RFC 4514 name", where=where, remedy="write CN=…,O=…"
        ) from error
    if not name.rdns:
        raise ConfigError("the issuer's name is empty", where=where, remedy="write CN=…,O=…")
    return name.rfc4514_string()
