"""The statement of a search. Every filter is bound; none is put into SQL text."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from node_agent.store.records import CertificateQuery, NameMatch
from node_agent.store.schema import SERIAL_OCTETS, certificate_names, certificates

__all__ = ["MAX_RESULTS", "search_statement"]

MAX_RESULTS: Final = 10_000
"""The most that one search returns, whatever it asks; ``after`` continues."""

_HIGHEST: Final = "\U0010ffff"
"""Sorts behind every character, so that a prefix is the range up to it."""


def search_statement(query: CertificateQuery) -> sa.Select[Any]:
    """Return the statement that finds ``query``'s certificates, newest first."""
    columns = certificates.c
    order = (columns.issued_at.desc(), columns.authority_id.desc(), columns.serial.desc())
    limit = max(0, min(query.limit, MAX_RESULTS))
    return sa.select(certificates).where(*_filters(query)).order_by(*order).limit(limit)


def _filters(query: CertificateQuery) -> list[sa.ColumnElement[bool]]:
    columns = certificates.c
    filters = [*_of_authorities(query), *_of_tenants(query)]
    if query.serial is not None:
        filters.append(columns.serial == _packed(query.serial))
    if query.name is not None:
        filters.append(columns.id.in_(_named(query.name.lower(), query.name_match)))
    if query.status is not None:
        filters.append(columns.status == query.status.value)
    if query.profile is not None:
        filters.append(columns.profile == query.profile)
    if query.requester is not None:
        filters.append(columns.requester == query.requester)
    if query.expires_before is not None:
        filters.append(columns.not_after < query.expires_before)
    if query.after is not None:
        issued_at, authority_id, serial = query.after
        key = sa.tuple_(columns.issued_at, columns.authority_id, columns.serial)
        filters.append(key < sa.tuple_(issued_at, authority_id, _packed(serial)))
    return filters


def _of_authorities(query: CertificateQuery) -> list[sa.ColumnElement[bool]]:
    if query.authority_ids is None:
        return []
    column = certificates.c.authority_id
    if len(query.authority_ids) == 1:
        return [column == query.authority_ids[0]]
    if query.serial is not None:
        return [column.in_(query.authority_ids)]
    # Read as a plain column, this would lure SQLite into sorting all certificates of these
    # authorities; as an expression it is checked along the index that has the wanted order.
    return [(column + "").in_(query.authority_ids)]


def _of_tenants(query: CertificateQuery) -> list[sa.ColumnElement[bool]]:
    """No tenant's name is empty; saying so lets the index be used that has only tenants' rows."""
    if query.tenants is None:
        return []
    column = certificates.c.tenant
    named = column == query.tenants[0] if len(query.tenants) == 1 else column.in_(query.tenants)
    return [named, column != sa.literal_column("''")]


def _packed(serial: int) -> bytes:
    """A serial number that can't be stored is on no certificate; nothing equals no octets."""
    if serial < 0 or serial.bit_length() > 8 * SERIAL_OCTETS:
        return b""
    return serial.to_bytes(SERIAL_OCTETS, "big")


def _named(name: str, match: NameMatch) -> sa.Select[Any]:
    column = certificate_names.c.name
    found = sa.select(certificate_names.c.certificate_id)
    if match is NameMatch.EXACT:
        return found.where(column == name)
    if match is NameMatch.PREFIX:
        return found.where(column >= name, column < name + _HIGHEST)
    return found.where(column.contains(name, autoescape=True))
