"""Which names a role may ask for: permitted subtrees as RFC 5280 section 4.2.1.10 writes them.

A profile says what certificates of a kind may contain, for everybody who may use it. This says what
*one* RA, tenant or requester may put there. A role without permitted names restricts nothing; one
with them permits what they match and no other kind of name. Of a member in several roles all such
names together are permitted, and a role without any lifts nothing.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final, get_args
from urllib.parse import urlsplit

from node_agent.errors import ConfigError
from node_agent.policy.decide import name_of
from node_agent.policy.model import NameKind, PermittedName, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from node_agent.policy.decide import RoleSet
    from node_agent.policy.model import Subject

__all__ = ["judge_names", "parse_permitted_name", "refuse_names"]

_KINDS_BY_NAME: Final[dict[str, NameKind]] = {kind: kind for kind in get_args(NameKind)}
_HOST: Final = re.compile(
    r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z"
)
_REMEDY: Final = (
    "write dns:example.org, ip:192.0.2.0/24, email:example.org, email:user@example.org or "
    "uri:example.org, with a dot ahead of the host of email or uri for all below it"
)


def parse_permitted_name(text: str, *, where: str) -> PermittedName:
    """Return what ``kind:value`` permits. Raises ConfigError for any other form."""
    kind, _, value = text.partition(":")
    value = value.lower()
    if kind == "ip":
        try:
            return PermittedName("ip", str(ipaddress.ip_network(value)), where)
        except ValueError as error:
            raise ConfigError(
                f"{text!r} is no network: {error}", where=where, remedy=_REMEDY
            ) from error
    mailbox, at, host = value.rpartition("@")
    is_form = kind == "email" or not at
    if kind in ("email", "uri") and not at:
        host = host.removeprefix(".")
    if (
        kind not in _KINDS_BY_NAME
        or not is_form
        or bool(mailbox) != bool(at)
        or not _HOST.match(host)
    ):
        raise ConfigError(f"{text!r} permits no name", where=where, remedy=_REMEDY)
    return PermittedName(_KINDS_BY_NAME[kind], value, where)


def refuse_names(
    chain: Sequence[Subject],
    names: Iterable[tuple[NameKind, str]],
    common_names: Iterable[str],
    roles: RoleSet,
) -> str | None:
    """Return why somebody of ``chain`` may not ask for a name, None when all may ask for all.

    A common name must be one of the names, or be permitted as a host name or mailbox itself.
    """
    # This stands before every issuance, and mostly nobody is restricted.
    restricted = [subject for subject in chain if roles.permitted_names(subject)]
    verdicts = judge_names(restricted, names, common_names, roles)
    return next((verdict.reason for verdict in verdicts if not verdict.allowed), None)


def judge_names(
    chain: Sequence[Subject],
    names: Iterable[tuple[NameKind, str]],
    common_names: Iterable[str],
    roles: RoleSet,
) -> Iterator[Verdict]:
    """Yield whether each of ``chain`` may ask for each name, with the entry that says so."""
    asked = tuple(names)
    values = {value.lower() for _, value in asked}
    wanted: list[tuple[str, tuple[NameKind, ...], str]] = [
        (f"{kind}:{value}", (kind,), value) for kind, value in asked
    ]
    wanted += [
        (f"the common name {value!r}", ("dns", "email"), value)
        for value in common_names
        if value.lower() not in values
    ]
    for subject in chain:
        permitted = roles.permitted_names(subject)
        for text, kinds, value in wanted:
            yield _verdict(subject, permitted, text, kinds, value)


def _verdict(
    subject: Subject,
    permitted: Sequence[PermittedName],
    text: str,
    kinds: tuple[NameKind, ...],
    value: str,
) -> Verdict:
    who = name_of(subject)
    if not permitted:
        return Verdict(subject, text, True, "", f"{who} may ask for every name of the profile")
    for one in permitted:
        if any(_permits(one, kind, value) for kind in kinds):
            rule = f"{one.where} ({one.kind}:{one.value})"
            return Verdict(subject, text, True, rule, f"{one.where} lets {who} ask for {text}")
    places = ", ".join(dict.fromkeys(one.where for one in permitted))
    reason = f"{places} lets {who} ask for others, not for {text}"
    return Verdict(subject, text, False, places, reason)


def _permits(permitted: PermittedName, kind: NameKind, value: str) -> bool:
    if permitted.kind != kind:
        return False
    value = value.lower()
    match kind:
        case "dns":
            return _HOST.match(value.removeprefix("*.")) is not None and _is_at_or_below(
                value, permitted.value
            )
        case "ip":
            return _is_in(value, permitted.value)
        case "email":
            return _is_mailbox_of(value, permitted.value)
        case "uri":
            return _is_host_of(_host_of(value), permitted.value)


def _is_at_or_below(host: str, domain: str) -> bool:
    return host == domain or host.endswith(f".{domain}")


def _is_in(address: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(network)
    except ValueError:
        return False


def _is_mailbox_of(mailbox: str, permitted: str) -> bool:
    if "@" in permitted:
        return mailbox == permitted
    local, at, host = mailbox.rpartition("@")
    return bool(local and at) and _is_host_of(host, permitted)


def _is_host_of(host: str, permitted: str) -> bool:
    if _HOST.match(host) is None:
        return False
    return host.endswith(permitted) if permitted.startswith(".") else host == permitted


def _host_of(uri: str) -> str:
    try:
        return urlsplit(uri).hostname or ""
    except ValueError:
        return ""
