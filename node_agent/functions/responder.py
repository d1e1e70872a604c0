"""Status serving: OCSP answers, CRLs and CA certificates, from a Reader and the VA's own signers.

The store is given by type as a Reader: nothing that a stranger sends to the status port can write.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import structlog

from node_agent.errors import NodeAgentError, RequestRefused, Unavailable
from node_agent.functions.answer_renewal import AnswerRenewal
from node_agent.functions.certificate_store import CertificateStore
from node_agent.functions.response_cache import DEFAULT_OCTETS, ResponseCache
from node_agent.pki.ocsp import (
    CertId,
    CertStatusAnswer,
    OcspError,
    OcspRequest,
    complete_response,
    error_response,
    parse_request,
    prepare_response,
)
from node_agent.store.records import CertificateState, CertificateStatus, CrlRecord
from node_agent.web.backends import CachedResponse, Download, Health, OcspAnswer

if TYPE_CHECKING:
    from collections.abc import Callable

    from node_agent.clock import Clock
    from node_agent.functions.known_authorities import KnownAuthorities, KnownAuthority
    from node_agent.functions.receiving import Applied
    from node_agent.functions.response_cache import KeptResponse
    from node_agent.functions.signers import ActiveSigner
    from node_agent.objects import SignerSpec
    from node_agent.pki.keys import SigningKey
    from node_agent.store.api import Reader
    from node_agent.web.bodies import HealthWord

__all__ = ["Responder", "SignatureSource", "SignerSource"]

log = structlog.get_logger(__name__)

# What may be waiting for a signature at once; beyond it a client is told to try later, at once.
_MOST_SIGNINGS = 256
# An answer is made anew when it has this part of its life left, while it is still given.
_REFRESH_PART = 0.1
# One that would end while it is on its way is only given when no new one can be had at once.
_ON_THE_WAY_SECONDS = 15
_PATIENCE_SECONDS = 2.0
# A clock that was set back by more makes answers of the future, which clients refuse: such a one is
# made anew. Time servers correct fractions of a second.
_STEP_SECONDS = 2


class SignerSource(Protocol):
    """Who signs for a CA: the node's ``Signers``, or what a status worker was told of them."""

    def active(self, authority: str) -> ActiveSigner | None:
        """Return the signer that answers for the CA ``authority``, None without a valid one."""
        ...


class SignatureSource(Protocol):
    """Where signatures are made: in this process, or in the one that has the keys."""

    async def sign(self, key: SigningKey, data: bytes) -> bytes:
        """Return the signature of ``data``. Raises TokenError, Unavailable, TimeoutError."""
        ...


class _TooMany(Unavailable):
    """As many wait for a signature as may."""


class _Basis(NamedTuple):
    """What the answers of a CA rest on besides their certificates: while it is the same, answers
    outlive a renewal of the signer.
    """

    name: str
    chain: tuple[bytes, ...]
    is_partial: bool
    spec: SignerSpec


@dataclass(slots=True, eq=False)
class _Making:
    """An answer that is being made, and whether what it says has changed since. ``certificates``
    has the signer's, too.
    """

    certificates: frozenset[tuple[str, int]]
    is_stale: bool = False


class Responder:
    """Implements ``web.backends.StatusBackend`` and ``KeptAnswers``."""

    def __init__(
        self,
        *,
        store: Reader,
        known: KnownAuthorities,
        signers: SignerSource,
        pool: SignatureSource,
        clock: Clock,
        health: Callable[[], HealthWord],
        lag_seconds: Callable[[], float | None] = lambda: 0.0,
        cache_octets: int = DEFAULT_OCTETS,
    ) -> None:
        self.retrieval = CertificateStore(store=store, known=known, signers=signers, clock=clock)
        self._store = store
        self._known = known
        self._signers = signers
        self._pool = pool
        self._clock = clock
        self._health = health
        self._lag_seconds = lag_seconds
        self.answers = dict.fromkeys(
            ("kept", "signed", "malformed", "unauthorized", "try_later"), 0
        )
        """How many answers there were of each kind."""
        self._cache = ResponseCache(cache_octets)
        self._renewal = AnswerRenewal(self._renew, clock)
        # By authority id, of each CA with kept answers.
        self._bases: dict[str, _Basis] = {}
        # By authority id: the signer's certificate that was found not to be revoked.
        self._sound: dict[str, int] = {}
        self._crls: dict[tuple[str, int, bool], Download] = {}
        # Moves with every new CRL: what was read from the store before is not kept after.
        self._crl_epoch = 0
        self._signings = 0
        # Answers that are being made: one whose certificate changes meanwhile is not kept.
        self._making: set[_Making] = set()

    @property
    def kept_answers(self) -> int:
        """How many answers are kept."""
        return len(self._cache)

    @property
    def kept_octets(self) -> int:
        """How much memory they take."""
        return self._cache.octets

    def cached_response(self, request_der: bytes) -> CachedResponse | None:
        """Return the answer kept for exactly this request; see that it is renewed in time."""
        kept = self._valid(request_der)
        if kept is None:
            return None
        answer = kept.answer
        assert answer.expires_at is not None
        left = answer.expires_at - self._clock.now()
        last_part = (answer.expires_at - answer.last_modified) * _REFRESH_PART
        if left <= last_part:
            if left <= _ON_THE_WAY_SECONDS:
                return None
            self._renewal.start(request_der, kept)
        self.answers["kept"] += 1
        return kept

    async def ocsp_response(self, request_der: bytes) -> OcspAnswer:
        """Answer a request; keep the answer unless it carries a nonce.

        Raises Unavailable when too many wait for a signature.
        """
        try:
            request = parse_request(request_der)
        except RequestRefused:
            self.answers["malformed"] += 1
            return OcspAnswer(der=error_response(OcspError.MALFORMED_REQUEST))
        try:
            if request.nonce is not None or self._valid(request_der) is None:
                return await self._answer_in_turn(request_der, request)
            async with asyncio.timeout(_PATIENCE_SECONDS):
                return await self._answer_in_turn(request_der, request)
        except (NodeAgentError, TimeoutError) as error:
            log.warning("no OCSP answer made", reason=str(error))
            kept = self._valid(request_der)
            if kept is not None:
                self.answers["kept"] += 1
                return kept.answer
            self.answers["try_later"] += 1
            if isinstance(error, _TooMany):
                raise
            raise Unavailable("the answer can't be made now", retry_after_seconds=5) from error

    async def crl(self, authority: str, delta: bool, shard: int = 0) -> Download | None:
        """Return the newest CRL of a CA or of a shard of it. A short one is kept in memory until
        there is a newer one; of a long one each request reads its own pieces.
        """
        known = self._known.named(authority)
        if known is None:
            return None
        key = (known.authority_id, shard, delta)
        if key not in self._crls:
            epoch = self._crl_epoch
            record = await self._store.latest_crl(known.authority_id, shard=shard, delta=delta)
            if record is None:
                return None
            download = self._crl_download(record)
            if epoch != self._crl_epoch:
                return download
            self._crls[key] = download
        return self._crls[key]

    async def issuer_certificate(self, authority: str) -> Download | None:
        """Return a CA's own certificate."""
        known = self._known.named(authority)
        if known is None:
            return None
        return Download(
            data=known.chain[0],
            content_type="application/pkix-cert",
            etag=hashlib.sha256(known.chain[0]).hexdigest()[:32],
            last_modified=known.outline.not_before,
        )

    def health(self) -> Health:
        """Return the node's health in one word."""
        return Health(status=self._health())

    def lag_seconds(self) -> float | None:
        """Return how old what is known of the CAs with a signer here may be; None: unknown."""
        return self._lag_seconds()

    def applied(self, change: Applied) -> None:
        """Drop every answer that ``change`` makes untrue."""
        for certificate in change.certificates:
            self.drop(certificate.authority_id, certificate.serial)
        for status in change.statuses:
            self.drop(status.authority_id, status.serial)

    def drop(self, authority_id: str, serial: int) -> None:
        """Drop every answer about one certificate; if it is a signer's, what was signed by it."""
        self._cache.drop_certificate(authority_id, serial)
        self._cache.drop_signed_by(authority_id, serial)
        if self._sound.get(authority_id) == serial:
            del self._sound[authority_id]
        for making in self._making:
            making.is_stale |= (authority_id, serial) in making.certificates

    def drop_crl(self, authority_id: str) -> None:
        """Forget the CRLs of a CA: there is a newer one."""
        self._crl_epoch += 1
        for key in [key for key in self._crls if key[0] == authority_id]:
            del self._crls[key]

    def reconsider(self, authority: str | None = None) -> None:
        """Drop the answers of each CA that has changed, or whose signer is gone or does otherwise.

        A signer that was renewed changes nothing: what it signed before is true, and valid no
        longer than its certificate of then. To sign all of it anew at once would take minutes.
        """
        bases = self._bases
        if authority is not None:
            named = self._known.ids_named(authority)
            bases = {one: bases[one] for one in named if one in bases}
        for authority_id, basis in tuple(bases.items()):
            known = self._known.get(authority_id)
            if known is None or self._basis(known) != basis:
                self._cache.drop_authority(authority_id)
                del self._bases[authority_id]

    def forget(self) -> None:
        """Drop every answer."""
        for making in self._making:
            making.is_stale = True
        self._cache.clear()
        self._bases.clear()
        self._sound.clear()

    async def settled(self) -> None:
        """Return at once: here a dropped answer is gone when ``drop`` returns."""

    async def close(self) -> None:
        """End what is done in the background. Requests may still be answered."""
        await self._renewal.close()

    def _valid(self, request_der: bytes) -> KeptResponse | None:
        """Return the answer kept for exactly this request while it hasn't ended."""
        kept = self._cache.get(request_der)
        if kept is None:
            return None
        answer, now = kept.answer, self._clock.now()
        is_valid = answer.last_modified - _STEP_SECONDS <= now < (answer.expires_at or 0)
        return kept if is_valid else None

    async def _renew(self, request_der: bytes) -> None:
        answer = await self._answer(request_der, parse_request(request_der))
        if answer.expires_at is None:
            # We may not answer any more.
            self._cache.drop(request_der)

    async def _answer_in_turn(self, request_der: bytes, request: OcspRequest) -> OcspAnswer:
        """Answer while there is room. Raises _TooMany."""
        if self._signings >= _MOST_SIGNINGS:
            raise _TooMany("too many answers are being signed", retry_after_seconds=1)
        self._signings += 1
        try:
            return await self._answer(request_der, request)
        finally:
            self._signings -= 1

    async def _answer(self, request_der: bytes, request: OcspRequest) -> OcspAnswer:
        authority = self._one_authority(request)
        signer = None if authority is None else self._signers.active(authority.name)
        if authority is None or signer is None:
            # RFC 5019 section 2.2.3: not able to answer for this issuer with authority.
            return self._unauthorized()
        serial = signer.outline.serial
        if request.nonce is not None and self._sound.get(authority.authority_id) == serial:
            return await self._sign(request, authority, signer)  # for one client, and not kept
        keys = frozenset((authority.authority_id, item.serial) for item in request.cert_ids)
        making = _Making(keys | {(authority.authority_id, serial)})
        basis = self._basis(authority)
        self._making.add(making)
        try:
            if await self._is_revoked(authority, serial, making):
                return self._unauthorized()
            answer = await self._sign(request, authority, signer)
        finally:
            self._making.discard(making)
        if answer.expires_at is not None and not making.is_stale and basis is not None:
            known = self._known.get(authority.authority_id)
            if known is not None and self._basis(known) == basis:
                self._bases.setdefault(authority.authority_id, basis)
                self._cache.put(request_der, answer, keys, signer=serial)
        return answer

    def _basis(self, known: KnownAuthority) -> _Basis | None:
        active = self._signers.active(known.name)
        if active is None:
            return None
        return _Basis(known.name, known.chain, known.is_partial, active.spec)

    async def _is_revoked(self, authority: KnownAuthority, serial: int, making: _Making) -> bool:
        """Return whether the signer's certificate is revoked or held, as far as is known here."""
        if self._sound.get(authority.authority_id) == serial:
            return False
        state = await self._store.certificate_state(authority.authority_id, serial)
        if state is not None and state.status is not CertificateStatus.GOOD:
            return True
        if not making.is_stale:
            self._sound[authority.authority_id] = serial
        return False

    def _unauthorized(self) -> OcspAnswer:
        self.answers["unauthorized"] += 1
        return OcspAnswer(der=error_response(OcspError.UNAUTHORIZED))

    async def _sign(
        self, request: OcspRequest, authority: KnownAuthority, active: ActiveSigner
    ) -> OcspAnswer:
        now = int(self._clock.now())
        statuses: list[CertStatusAnswer] = []
        for cert_id in request.cert_ids:
            status = await self._status(authority, active, cert_id, now)
            if status is None:
                return self._unauthorized()
            statuses.append(status)
        signer = active.signer
        data = prepare_response(signer, statuses, produced_at=now, nonce=request.nonce)
        der = complete_response(signer, data, await self._pool.sign(signer.key, data))
        self.answers["signed"] += 1
        if request.nonce is not None:
            return OcspAnswer(der=der)
        return OcspAnswer(
            der=der,
            last_modified=now,
            expires_at=min(status.next_update or now for status in statuses),
            etag=hashlib.sha256(der).hexdigest()[:32],
        )

    def _crl_download(self, record: CrlRecord) -> Download:
        content = record.content
        return Download(
            data=record.der,
            content_type="application/pkix-crl",
            etag=f"{record.number:x}-{record.this_update:x}",
            last_modified=record.this_update,
            expires_at=record.next_update,
            octets=0 if content is None else content.octets,
            read=None
            if content is None
            else lambda offset: self._store.crl_pieces(record, offset=offset),
        )

    def _one_authority(self, request: OcspRequest) -> KnownAuthority | None:
        """Return the CA of all CertIDs: one answer has one signer, and that speaks for one CA."""
        first, *others = [self._known.by_issuer(item.issuer) for item in request.cert_ids]
        return first if all(other is first for other in others) else None

    async def _status(
        self, authority: KnownAuthority, active: ActiveSigner, cert_id: CertId, now: int
    ) -> CertStatusAnswer | None:
        """Return what is known of one certificate; None when policy says not to answer."""
        next_update = min(now + active.spec.validity_seconds, active.signer.not_after)
        state = await self._store.certificate_state(authority.authority_id, cert_id.serial)
        if state is not None:
            return _known_status(state, cert_id, now, next_update)
        match _policy(active.spec.unknown_serial, is_partial=authority.is_partial):
            case "unauthorized":
                return None
            case "good":
                return CertStatusAnswer(
                    cert_id=cert_id, status="good", this_update=now, next_update=next_update
                )
            case "revoked":
                return CertStatusAnswer(
                    cert_id=cert_id,
                    status="revoked",
                    this_update=now,
                    next_update=next_update,
                    never_issued=True,
                )
            case "unknown":
                return CertStatusAnswer(
                    cert_id=cert_id, status="unknown", this_update=now, next_update=next_update
                )


def _policy(
    chosen: Literal["unknown", "unauthorized", "revoked", "good"] | None, *, is_partial: bool
) -> Literal["unknown", "unauthorized", "revoked", "good"]:
    """Return how a serial that isn't recorded here is answered.

    Where only revoked certificates are published, silence is "good" only if somebody said so;
    where all are, it never is.
    """
    if is_partial:
        return chosen or "unauthorized"
    return chosen if chosen and chosen != "good" else "unknown"


def _known_status(
    state: CertificateState, cert_id: CertId, now: int, next_update: int
) -> CertStatusAnswer:
    status: Literal["good", "revoked"] = (
        "good" if state.status is CertificateStatus.GOOD else "revoked"
    )
    return CertStatusAnswer(
        cert_id=cert_id,
        status=status,
        this_update=now,
        next_update=next_update,
        revoked_at=state.revoked_at,
        reason=state.reason,
    )
