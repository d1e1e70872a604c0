"""Make what a plan's new objects need (keys, CSRs, CA certificates) before it is committed.

Everything made is collected in a ``PlanBatch``; one transaction stores it. A plan that fails is
withdrawn: keys that were generated for it leave the tokens again.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
import structlog

from node_agent.errors import ConfigError
from node_agent.functions.certificate_records import Provenance, issued_row
from node_agent.functions.change_payloads import AuthorityPayload, encode
from node_agent.functions.identities import check_certificate
from node_agent.functions.node_objects import (
    AuthenticatorState,
    AuthorityState,
    ManagedObject,
    NodeObjects,
    SignerState,
    decode_state,
    encode_state,
)
from node_agent.objects import (
    AuthenticatorSpec,
    CertificateProfileSpec,
    CertificationAuthoritySpec,
    CryptoTokenSpec,
    ObjectSpec,
    SignerSpec,
)
from node_agent.pki.authorities import prepare_issuing_ca, prepare_self_signed_ca
from node_agent.pki.issuer import Issuer
from node_agent.pki.keys import LocalKey, generate_key
from node_agent.pki.names import authority_id, encode_name, parse_name
from node_agent.pki.own_csr import prepare_csr
from node_agent.pki.profile import Profile
from node_agent.pki.sample_lint import lint_profile_sample
from node_agent.store.records import (
    AuditRecord,
    CertificateRecord,
    KeyRecord,
    ObjectChange,
    ObjectRecord,
)

if TYPE_CHECKING:
    from node_agent.clock import Clock
    from node_agent.functions.authorities import Authorities, LoadedAuthority
    from node_agent.functions.plan import Step
    from node_agent.functions.tokens import Tokens
    from node_agent.identity import NodeIdentity
    from node_agent.pki.issue import IssuedCertificate
    from node_agent.pki.signing import SigningPool
    from node_agent.pki.token import CryptoToken

__all__ = ["Creation", "PlanBatch", "free_label"]


log = structlog.get_logger(__name__)


@dataclass(slots=True)
class PlanBatch:
    """What one transaction will store. ``at`` is the plan's time in seconds since the epoch."""

    at: int
    changes: list[ObjectChange] = field(default_factory=list)
    keys: list[KeyRecord] = field(default_factory=list)
    entries: list[tuple[str, bytes]] = field(default_factory=list)
    certificates: list[tuple[CertificateRecord, bytes]] = field(default_factory=list)
    audit: list[AuditRecord] = field(default_factory=list)
    authorities: dict[str, LoadedAuthority] = field(default_factory=dict)
    profiles: dict[str, Profile] = field(default_factory=dict)


class Creation:
    """Prepare the steps of a plan, one after the other."""

    def __init__(
        self,
        *,
        node: NodeIdentity,
        objects: NodeObjects,
        tokens: Tokens,
        authorities: Authorities,
        pool: SigningPool,
        clock: Clock,
    ) -> None:
        self._node = node
        self._objects = objects
        self._tokens = tokens
        self._authorities = authorities
        self._pool = pool
        self._clock = clock

    async def prepare(self, step: Step, batch: PlanBatch) -> None:
        """Make what ``step`` needs and add it to ``batch``.

        Raises ConfigError, RequestRefused or TokenError when it can't be made.
        """
        if step.after is None:
            batch.changes.append(ObjectChange(kind=step.kind, name=step.name, record=None))
            return
        before = self._objects.find(step.kind, step.name)
        state = await self._state(step.after, before, batch)
        record = ObjectRecord(
            kind=step.kind,
            name=step.name,
            spec=msgspec.json.encode(step.after),
            state=state,
            generation=before.generation + 1 if before else 1,
            updated_at=batch.at,
        )
        batch.changes.append(ObjectChange(kind=step.kind, name=step.name, record=record))

    async def withdraw(self, batch: PlanBatch) -> None:
        """Undo what ``prepare`` did outside the batch."""
        for key in batch.keys:
            await self._pool.discard(self._tokens.holder(key), key)
        self._tokens.unstage()
        await self._pool.retire(self._tokens.accesses())

    async def _state(
        self, spec: ObjectSpec, before: ManagedObject | None, batch: PlanBatch
    ) -> bytes:
        match spec:
            case CryptoTokenSpec():
                access = self._tokens.stage(spec)
                if access is not None:
                    await self._pool.open(access)
            case CertificateProfileSpec():
                await self._check_profile(spec)
                batch.profiles[spec.name] = Profile.from_spec(spec)
            case AuthenticatorSpec():
                return await self._authenticator(spec, before, batch)
            case CertificationAuthoritySpec():
                state = before.state if before else await self._authority(spec, batch)
                item = ManagedObject("certification_authorities", spec, state, 0)
                await self._lint_profiles(spec, self._authorities.stage(item).issuer, batch)
                return state
            case SignerSpec() if before is None:
                own = self._tokens.own(spec.crypto_token)
                key = await self._generate(own, f"signer-{spec.name}", spec.key_kind, batch)
                return encode_state(SignerState(key.label))
            case _:
                pass
        return b"" if before is None else before.state

    async def _check_profile(self, spec: CertificateProfileSpec) -> None:
        """Lint what every CA that has this profile would issue by it, or a throwaway CA if none
        has it yet.
        """
        users = [
            self._authorities.get(item.name).issuer
            for item in self._objects.all("certification_authorities")
            if spec.name in getattr(item.spec, "profiles", ())
        ]
        profile = Profile.from_spec(spec)
        for issuer in users or [_throwaway_issuer(int(self._clock.now()))]:
            await self._lint(profile, issuer)

    async def _lint(self, profile: Profile, issuer: Issuer) -> None:
        """Lint a sample; the linter is slow, so it gets a thread."""
        now = int(self._clock.now())
        for warning in await asyncio.to_thread(lint_profile_sample, profile, issuer, now=now):
            log.warning("profile lint", profile=profile.name, finding=warning)

    async def _lint_profiles(
        self, spec: CertificationAuthoritySpec, issuer: Issuer, batch: PlanBatch
    ) -> None:
        for name in spec.profiles:
            planned = batch.profiles.get(name)
            await self._lint(planned or self._stored_profile(name), issuer)

    def _stored_profile(self, name: str) -> Profile:
        spec = self._objects.get("certificate_profiles", name).spec
        assert isinstance(spec, CertificateProfileSpec)
        return Profile.from_spec(spec)

    async def _authenticator(
        self, spec: AuthenticatorSpec, before: ManagedObject | None, batch: PlanBatch
    ) -> bytes:
        holder = self._tokens.own(spec.crypto_token)
        if before is None:
            key = await self._generate(holder, f"authenticator-{spec.name}", spec.key_kind, batch)
            csr = prepare_csr(holder.key(key.label), self._node.name)
            signature = await self._pool.sign(csr.key, csr.info)
            state = AuthenticatorState(key.label, csr.complete(signature))
        else:
            state = decode_state(before, AuthenticatorState)
        spki = holder.record(state.key_label).public_der
        check_certificate(spec, spki, self._node, self._clock)
        return encode_state(state)

    async def _authority(self, spec: CertificationAuthoritySpec, batch: PlanBatch) -> bytes:
        try:
            subject = parse_name(spec.subject)
        except ValueError as error:
            raise ConfigError(
                str(error), where=f"certification_authorities.{spec.name}.subject"
            ) from error
        label = f"authority-{spec.name}"
        holder = self._tokens.shared(spec.crypto_token)
        key = await self._generate(holder, label, spec.key_kind, batch)
        signing_key = holder.key(key.label)
        if spec.kind == "issuing":
            above = self._issuer(spec, batch)
            prepared = prepare_issuing_ca(
                above.issuer,
                key.public_der,
                subject,
                now=batch.at,
                validity_days=spec.validity_days,
                path_length=spec.path_length,
            )
            chain_above = above.chain
        else:
            prepared = prepare_self_signed_ca(
                signing_key,
                subject,
                kind=spec.kind,
                now=batch.at,
                validity_days=spec.validity_days,
                path_length=spec.path_length,
            )
            chain_above = ()
        identifier = authority_id(encode_name(subject), key.public_der)
        issued = await self._authorities.sign(prepared)
        state = AuthorityState(key.label, identifier, (issued.der, *chain_above))
        self._add_authority(spec, state, issued, batch)
        return encode_state(state)

    def _add_authority(
        self,
        spec: CertificationAuthoritySpec,
        state: AuthorityState,
        issued: IssuedCertificate,
        batch: PlanBatch,
    ) -> None:
        item = ManagedObject("certification_authorities", spec, encode_state(state), 1)
        batch.authorities[spec.name] = self._authorities.stage(item)
        payload = AuthorityPayload(spec.name, state.chain)
        batch.entries.append((state.authority_id, encode(payload)))
        if spec.kind == "issuing":
            provenance = Provenance(
                requester="local",
                origin=self._node.uri,
                via="",
                request_id=issued.fingerprint_sha256[:16],
                request_digest=issued.fingerprint_sha256,
            )
            batch.certificates.append(issued_row(issued, issued_at=batch.at, provenance=provenance))

    def _issuer(self, spec: CertificationAuthoritySpec, batch: PlanBatch) -> LoadedAuthority:
        assert spec.issuer is not None
        return batch.authorities.get(spec.issuer) or self._authorities.get(spec.issuer)

    async def _generate(
        self, holder: CryptoToken, label: str, kind: str, batch: PlanBatch
    ) -> KeyRecord:
        free = free_label(holder, label)
        record = await self._pool.generate(holder, free, kind, created_at=batch.at)
        batch.keys.append(record)
        return record


def free_label(holder: CryptoToken, label: str) -> str:
    """Return ``label``, or with the next free number: a deleted object's key stays stored."""
    return next(
        name
        for number in itertools.count(1)
        if not holder.has(name := label if number == 1 else f"{label}-{number}")
    )


def _throwaway_issuer(now: int) -> Issuer:
    """Return a CA that exists for one lint and has every kind of URL."""
    key = LocalKey.of(generate_key("ec-p256"))
    name = parse_name("CN=Throwaway")
    prepared = prepare_self_signed_ca(key, name, kind="root", now=now, validity_days=3650)
    certificate = prepared.complete(key.sign(prepared.der)).der
    url = "http://status.example.org"
    return Issuer.load(
        key,
        (certificate,),
        ocsp_urls=(f"{url}/ocsp",),
        issuer_urls=(f"{url}/ca.cer",),
        crl_urls=(f"{url}/ca.crl",),
    )
