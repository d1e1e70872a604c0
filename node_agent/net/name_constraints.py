"""Name constraints of a certification path (RFC 5280, 4.2.1.10).

A constraint of a kind that isn't understood here refuses every name of that kind.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["names_of", "violated_constraint"]


def violated_constraint(
    constraints: x509.NameConstraints, names: Sequence[x509.GeneralName]
) -> str | None:
    """Return what is wrong with the first name that ``constraints`` refuse, None if none is."""
    for name in names:
        excluded = _same_kind(constraints.excluded_subtrees, name)
        if any(_within(name, subtree) is not False for subtree in excluded):
            return f"{_shown(name)} lies in an excluded subtree"
        permitted = _same_kind(constraints.permitted_subtrees, name)
        if permitted and not any(_within(name, subtree) for subtree in permitted):
            return f"{_shown(name)} lies outside the permitted subtrees"
    return None


def names_of(certificate: x509.Certificate) -> list[x509.GeneralName]:
    """Return every name that constraints apply to: the subject and the alternative names.

    E-mail addresses in the subject count when the certificate has no alternative names.
    """
    names: list[x509.GeneralName] = []
    if len(certificate.subject.rdns):
        names.append(x509.DirectoryName(certificate.subject))
    try:
        san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names.extend(san.value)
    except x509.ExtensionNotFound:
        names.extend(_subject_addresses(certificate.subject))
    return names


def _subject_addresses(subject: x509.Name) -> Iterator[x509.RFC822Name]:
    for attribute in subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS):
        yield x509.RFC822Name(str(attribute.value))


def _same_kind(
    subtrees: Sequence[x509.GeneralName] | None, name: x509.GeneralName
) -> list[x509.GeneralName]:
    return [subtree for subtree in subtrees or () if type(subtree) is type(name)]


def _shown(name: x509.GeneralName) -> str:
    if isinstance(name, x509.DirectoryName):
        return name.value.rfc4514_string()
    return str(name.value)


def _within(name: x509.GeneralName, subtree: x509.GeneralName) -> bool | None:
    """Whether ``name`` lies in ``subtree`` of its kind; None when that can't be told."""
    match name, subtree:
        case x509.DirectoryName(), x509.DirectoryName():
            prefix = subtree.value.rdns
            return name.value.rdns[: len(prefix)] == prefix
        case x509.DNSName(), x509.DNSName():
            return _host_within(name.value, subtree.value, bare_covers_children=True)
        case x509.RFC822Name(), x509.RFC822Name():
            return _address_within(name.value, subtree.value)
        case x509.UniformResourceIdentifier(), x509.UniformResourceIdentifier():
            return _uri_within(name.value, subtree.value)
        case x509.IPAddress(), x509.IPAddress():
            return _ip_within(name.value, subtree.value)
        case _:
            return None


def _host_within(host: str, constraint: str, *, bare_covers_children: bool) -> bool:
    host, constraint = host.lower().rstrip("."), constraint.lower()
    if not constraint:
        return True
    if constraint.startswith("."):
        return host.endswith(constraint)
    if host == constraint:
        return True
    return bare_covers_children and host.endswith("." + constraint)


def _address_within(address: str, constraint: str) -> bool:
    mailbox, _, host = address.rpartition("@")
    if "@" in constraint:
        wanted_mailbox, _, wanted_host = constraint.rpartition("@")
        return mailbox == wanted_mailbox and host.lower() == wanted_host.lower()
    return _host_within(host, constraint, bare_covers_children=False)


def _uri_within(uri: str, constraint: str) -> bool | None:
    try:
        host = urlsplit(uri).hostname
    except ValueError:
        return None
    # RFC 5280: where URIs are constrained, one without a host name or with an address is refused.
    if not host or _is_address(host):
        return None
    return _host_within(host, constraint, bare_covers_children=False)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _ip_within(address: object, network: object) -> bool | None:
    addresses = ipaddress.IPv4Address | ipaddress.IPv6Address
    networks = ipaddress.IPv4Network | ipaddress.IPv6Network
    if not isinstance(address, addresses) or not isinstance(network, networks):
        return None
    return address.version == network.version and address in network
