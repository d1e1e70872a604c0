"""A CA whose store was restored from an old copy: held, until it knows again what it had done.

Certificates, revocations and CRL numbers since the copy are lost here, but not in the field: VAs
acknowledged positions in the change log that the copy doesn't have. A publisher that finds this
out (``Publisher.ahead``) has its CAs held: they issue nothing and make no CRL, and no comparison
repairs its peer. A list made now would leave out what was revoked since, and a repair would take it
back.

``recover`` ends that, at an operator's word. The change log goes on above all positions, and CRLs
are numbered above all numbers, that any peer has seen, so that nothing is taken for something old.
What a peer has of our work is read back: certificates that bear the CA's own signature, and every
revocation and hold. A peer can invent neither a certificate nor a release this way; it could invent
revocations, which is why an operator looks at the plan first (``dry_run``). Certificates that the
peer doesn't have itself are listed. What the copy says to be revoked stays so.

A peer that lies about its position holds the CAs that are published to it, and only those. It shows
in status and log by name; deleting its publisher ends it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import structlog
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from node_agent.clock import LAST_SECOND
from node_agent.errors import ConfigError, RequestRefused, Unavailable
from node_agent.functions.change_payloads import certificate_payload, encode, status_payload
from node_agent.functions.compared import read_entry
from node_agent.functions.crl_shards import shard_named_in
from node_agent.peers.codec import UNREADABLE
from node_agent.peers.operations import PUBLISH_RECORDS, RecordsRequest, serial_octets
from node_agent.store.records import AuditRecord, CertificateStatus, StatusChange
from node_agent.web.backends import RecoveredAuthority, RecoveryReport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from node_agent.clock import Clock
    from node_agent.functions.authorities import Authorities, LoadedAuthority
    from node_agent.functions.crl_issuing import CrlIssuing
    from node_agent.functions.known_authorities import KnownAuthorities
    from node_agent.functions.publisher_lanes import PublisherLanes
    from node_agent.functions.signal import ChangeSignal
    from node_agent.functions.verification import Verification
    from node_agent.store.api import Writer
    from node_agent.store.records import CertificateRecord
    from node_agent.web.backends import RecoveryOrder

__all__ = ["Recovery"]

log = structlog.get_logger(__name__)

_SERIALS_AT_ONCE: Final = 200
_MOST_POSITION: Final = 1 << 53
_RETRY_SECONDS: Final = 60


@dataclass(slots=True)
class _Found:
    """What peers have of one CA that the restored store lacks."""

    certificates: dict[int, CertificateRecord] = field(default_factory=dict)
    statuses: dict[int, StatusChange] = field(default_factory=dict)
    listed: set[int] = field(default_factory=set)
    numbers: dict[int, int] = field(default_factory=dict)


class Recovery:
    """Tells whether a CA is held, and recovers the store."""

    def __init__(
        self,
        *,
        store: Writer,
        authorities: Authorities,
        known: KnownAuthorities,
        verification: Verification,
        publishers: Callable[[], Iterable[PublisherLanes]],
        crls: CrlIssuing,
        changed: ChangeSignal,
        clock: Clock,
    ) -> None:
        self._store = store
        self._authorities = authorities
        self._known = known
        self._verification = verification
        self._publishers = publishers
        self._crls = crls
        self._changed = changed
        self._clock = clock

    def check(self, authority_id: str) -> None:
        """Raise Unavailable while a CA is held."""
        for publisher in self._publishers():
            if publisher.ahead and authority_id in self._ids(publisher).values():
                raise Unavailable(
                    "the CA was restored from an old copy and signs nothing until "
                    f"`peersys recover` was run: {publisher.spec.peer} knows of "
                    f"{publisher.ahead} changes",
                    retry_after_seconds=_RETRY_SECONDS,
                )

    async def recover(self, order: RecoveryOrder, *, caller: str) -> RecoveryReport:
        """Find out what peers have seen, and unless ``order.dry_run`` bring the store up to it.

        Raises what asking a peer raises: a peer that knows more must be heard. NotFound for the
        name of a CA that isn't here, ConfigError for an impossible position.
        """
        if not 0 <= order.position <= _MOST_POSITION:
            raise ConfigError(f"must be from 0 to {_MOST_POSITION}", where="position")
        ahead = [publisher for publisher in self._publishers() if publisher.ahead]
        before = await self._store.last_position()
        position = max([before, order.position, *(publisher.ahead for publisher in ahead)])
        if position > _MOST_POSITION:
            raise ConfigError(
                "a peer claims an impossible position",
                where="position",
                remedy="delete the publisher whose peer it is",
            )
        found: dict[str, _Found] = {}
        for publisher in ahead:
            for name in self._ids(publisher):
                await self._ask(publisher, name, found.setdefault(name, _Found()))
        for name, number in order.crl_numbers.items():
            shards = range(self._authorities.get(name).spec.crl.shards + 1)
            numbers = found.setdefault(name, _Found()).numbers
            numbers.update({shard: max(numbers.get(shard, 0), number) for shard in shards})
        report = RecoveryReport(
            dry_run=order.dry_run,
            position_before=before,
            position=position,
            peers=tuple(publisher.spec.peer for publisher in ahead),
            authorities=tuple(_described(name, one) for name, one in sorted(found.items())),
        )
        if not order.dry_run and (ahead or position > before or found):
            await self._commit(report, found, caller)
            for publisher in ahead:
                publisher.recovered()
            for name in found:
                self._crls.want(name)
            self._changed.announce()
        return report

    def _ids(self, publisher: PublisherLanes) -> dict[str, str]:
        """Return name and authority id of the CAs of this node that a publisher is for."""
        ids = self._known.ids_by_name()
        return {
            name: ids[name]
            for name in publisher.spec.authorities
            if name in ids and self._authorities.has(name)
        }

    async def _ask(self, publisher: PublisherLanes, name: str, found: _Found) -> None:
        authority = self._authorities.get(name)
        known = self._known.get(authority.authority_id)
        assert known is not None
        changed, surplus = await self._verification.differences(publisher, name)
        serials = [*changed, *surplus]
        for start in range(0, max(len(serials), 1), _SERIALS_AT_ONCE):
            some = serials[start : start + _SERIALS_AT_ONCE]
            answer = await self._verification.ask(
                publisher,
                PUBLISH_RECORDS,
                RecordsRequest(
                    authority=name,
                    authority_id=authority.authority_id,
                    serials=tuple(serial_octets(serial) for serial in some),
                ),
            )
            for one in answer.lists:
                found.numbers[one.shard] = max(found.numbers.get(one.shard, 0), one.number)
            for entry in answer.entries:
                try:
                    record = read_entry(known, entry)
                except (*UNREADABLE, ValueError) as error:
                    raise RequestRefused(
                        f"{publisher.spec.peer} answers what can't be read", field="entries"
                    ) from error
                await self._take(authority, record, found)

    async def _take(
        self, authority: LoadedAuthority, record: CertificateRecord, found: _Found
    ) -> None:
        """Take over what can be believed of a peer's row."""
        serial = record.serial
        ours = await self._store.certificate(authority.authority_id, serial)
        if ours is None:
            certificate = _own_certificate(authority, record)
            if certificate is None:
                found.listed.add(serial)
            else:
                found.certificates[serial] = certificate
        if record.status is CertificateStatus.GOOD or (
            ours is not None and ours.status in (CertificateStatus.REVOKED, record.status)
        ):
            return
        known = found.statuses.get(serial)
        if known is None or known.status is not CertificateStatus.REVOKED:
            found.statuses[serial] = StatusChange(
                authority_id=authority.authority_id,
                serial=serial,
                status=record.status,
                at=record.revoked_at or record.issued_at,
                reason=record.reason,
                invalidity_at=_writable(record.invalidity_at),
            )

    async def _commit(self, report: RecoveryReport, found: dict[str, _Found], caller: str) -> None:
        certificates = [one for item in found.values() for one in item.certificates.values()]
        statuses = [one for item in found.values() for one in item.statuses.values()]
        ids = {name: self._authorities.get(name).authority_id for name in found}
        await self._store.recover(
            position=report.position,
            crl_numbers={
                (ids[name], shard): number
                for name, item in found.items()
                for shard, number in item.numbers.items()
            },
            certificates=[(one, encode(certificate_payload(one))) for one in certificates],
            statuses=[(one, encode(status_payload(one))) for one in statuses],
            audit=AuditRecord(
                at=self._clock.now(),
                action="manage.recover",
                allowed=True,
                chain=caller,
                resources=tuple(f"/ca/{name}" for name in sorted(found)),
                detail={
                    "position": str(report.position),
                    "certificates": str(len(certificates)),
                    "statuses": str(len(statuses)),
                    "peers": " ".join(report.peers),
                },
            ),
        )
        log.warning("store recovered", position=report.position, peers=list(report.peers))


def _own_certificate(
    authority: LoadedAuthority, record: CertificateRecord
) -> CertificateRecord | None:
    """Return the row of a certificate that the CA did sign; None without such a proof."""
    if not record.der:
        return None
    try:
        certificate = x509.load_der_x509_certificate(record.der)
        certificate.verify_directly_issued_by(
            x509.load_der_x509_certificate(authority.issuer.certificate)
        )
    except (ValueError, TypeError, InvalidSignature):
        return None
    if certificate.serial_number != record.serial:
        return None
    return replace(
        record,
        status=CertificateStatus.GOOD,
        revoked_at=None,
        reason=None,
        invalidity_at=None,
        crl_shard=shard_named_in(certificate, authority.issuer.crl_urls),
    )


def _writable(at: int | None) -> int | None:
    """Return a time as far as a CRL can write it: a peer says what it likes."""
    return at if at is not None and 0 <= at <= LAST_SECOND else None


def _described(name: str, found: _Found) -> RecoveredAuthority:
    return RecoveredAuthority(
        authority=name,
        certificates=len(found.certificates),
        statuses=len(found.statuses),
        crl_number=max(found.numbers.values(), default=0),
        listed=tuple(f"{serial:x}" for serial in sorted(found.listed)),
    )
