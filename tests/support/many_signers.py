"""Thousands of OCSP signers in the store of a stopped VA, each certified by a CA of its own.

All is there as if it had been published and certified over a link: CAs, CRLs, the signers' keys and
certificates, and of each CA one certificate to ask about, which is its signer's.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import TYPE_CHECKING

import msgspec

from node_agent.config import load_settings
from node_agent.functions import known_authorities
from node_agent.functions.node_objects import NodeObjects, SignerState, encode_state
from node_agent.functions.tokens import Tokens, read_passphrase
from node_agent.objects import CryptoTokenSpec, SignerSpec
from node_agent.pki.authorities import prepare_ocsp_signer
from node_agent.pki.issue import sign
from node_agent.pki.outline import outline
from node_agent.store import open_store
from node_agent.store.records import (
    CertificateRecord,
    KeyRecord,
    ObjectChange,
    ObjectRecord,
    Ownership,
)
from tests.support.many_authorities import authority_name, opened_authorities

if TYPE_CHECKING:
    from collections.abc import Sequence

    from node_agent.functions.authorities import LoadedAuthority
    from node_agent.pki.token import CryptoToken
    from node_agent.store import Store
    from tests.support.node_process import Agent

__all__ = ["add_signers"]

_AT_ONCE = 250
_LIFE_SECONDS = 30 * 86400


def add_signers(va: Agent, ca: Agent, numbers: range) -> dict[str, tuple[bytes, bytes]]:
    """Add to ``va`` a signer for each of the CAs that ``add_authorities`` made at ``ca``. Neither
    may run. Return by CA name the signer's certificate and the CA's, DER.
    """
    return asyncio.run(_add(va, ca, numbers))


async def _add(va: Agent, ca: Agent, numbers: range) -> dict[str, tuple[bytes, bytes]]:
    chains: dict[str, tuple[bytes, bytes]] = {}
    settings = load_settings(va.config_path)
    owner = Ownership(node=va.name)
    async with (
        opened_authorities(ca) as (authorities, source),
        open_store(settings.store_url, owner=owner) as store,
    ):
        objects = NodeObjects(await store.objects())
        passphrase = read_passphrase(settings.passphrase_path)
        tokens = Tokens(passphrase, await store.keys(), node=va.name)
        tokens.configure(objects.specs("crypto_tokens", CryptoTokenSpec))
        for first in range(numbers.start, numbers.stop, _AT_ONCE):
            some = range(first, min(numbers.stop, first + _AT_ONCE))
            loaded = [authorities.get(authority_name(number)) for number in some]
            chains |= await _add_some(store, source, loaded, tokens.own("default"), ca.identity)
    return chains


async def _add_some(
    store: Store,
    source: Store,
    authorities: Sequence[LoadedAuthority],
    token: CryptoToken,
    publisher: str,
) -> dict[str, tuple[bytes, bytes]]:
    now = int(time.time())
    made = [_certified(authority, token, now) for authority in authorities]
    changes = [
        ObjectChange(kind=record.kind, name=record.name, record=record)
        for authority, (_, signer, _) in zip(authorities, made, strict=True)
        for record in (_learned(authority, publisher, now), signer)
    ]
    await store.apply_plan(changes, keys=[key for key, _, _ in made])
    crls = [await source.latest_crl(one.authority_id) for one in authorities]
    name = f"{publisher}#many"
    await store.apply_published(
        name,
        await store.source_position(name) + len(authorities),
        certificates=[certificate for _, _, certificate in made],
        crls=[crl for crl in crls if crl is not None],
    )
    return {
        authority.name: (certificate.der, authority.chain[0])
        for authority, (_, _, certificate) in zip(authorities, made, strict=True)
    }


def _learned(authority: LoadedAuthority, publisher: str, now: int) -> ObjectRecord:
    kept = known_authorities.kept_authority(authority.name, authority.chain, publisher)
    return known_authorities.to_record(kept, now)


def _certified(
    authority: LoadedAuthority, token: CryptoToken, now: int
) -> tuple[KeyRecord, ObjectRecord, CertificateRecord]:
    spec = SignerSpec(name=authority.name, authority=authority.name)
    label = f"signer-{spec.name}"
    key = token.generate(label, spec.key_kind, created_at=now)
    prepared = prepare_ocsp_signer(
        authority.issuer,
        key.public_der,
        common_name=spec.name,
        now=now,
        validity_seconds=_LIFE_SECONDS,
    )
    der = sign(prepared).der
    fields = outline(der)
    record = ObjectRecord(
        kind="signers",
        name=spec.name,
        spec=msgspec.json.encode(spec),
        state=encode_state(SignerState(label, (der, *authority.chain_below_root))),
        generation=1,
        updated_at=now,
    )
    certificate = CertificateRecord(
        authority_id=authority.authority_id,
        serial=fields.serial,
        der=der,
        subject=f"CN={spec.name}",
        names=(),
        fingerprint_sha256=hashlib.sha256(der).digest(),
        not_before=fields.not_before,
        not_after=fields.not_after,
        profile="ocsp_signer",
        issued_at=now,
    )
    return key, record, certificate
