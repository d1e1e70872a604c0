"""Thousands of CAs in the store of a stopped agent, made by the parts that make one.

Each has a key, a certificate and a CRL of its own, as if an operator had asked for it over months.
Only the check of a sample certificate is left out: it would be the same sample each time.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from node_agent.clock import SystemClock
from node_agent.config import load_settings
from node_agent.functions.authorities import Authorities
from node_agent.functions.change_payloads import crl_payload, encode
from node_agent.functions.creation import Creation, PlanBatch
from node_agent.functions.crl_content import make_crl
from node_agent.functions.known_authorities import KnownAuthorities
from node_agent.functions.node_objects import NodeObjects
from node_agent.functions.plan import Step
from node_agent.functions.tokens import Tokens, read_passphrase
from node_agent.objects import CertificationAuthoritySpec, CryptoTokenSpec
from node_agent.pki.signing import SigningPool
from node_agent.store import open_store
from node_agent.store.records import Ownership

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from node_agent.store import Store
    from node_agent.store.records import ObjectChange
    from tests.support.node_process import Agent

__all__ = ["add_authorities", "authority_name", "opened_authorities"]

_AT_ONCE = 250
_STATUS = "http://status.example.org"


def authority_name(number: int) -> str:
    """Return the name of the CA ``number``."""
    return f"many-{number:05}"


def add_authorities(
    agent: Agent, numbers: range, *, issuer: str, profiles: Sequence[str] = ()
) -> None:
    """Add CAs below ``issuer`` to the store of ``agent``, which must not run.

    Their CRLs become due one after the other over the days that a CRL lives.
    """
    asyncio.run(_add(agent, numbers, issuer, tuple(profiles)))


@asynccontextmanager
async def opened_authorities(agent: Agent) -> AsyncIterator[tuple[Authorities, Store]]:
    """Yield the CAs of ``agent``, which must not run, and its store."""
    async with _maker(agent) as maker:
        yield maker.authorities, maker.store


async def _add(agent: Agent, numbers: range, issuer: str, profiles: tuple[str, ...]) -> None:
    async with _maker(agent) as maker:
        for first in range(numbers.start, numbers.stop, _AT_ONCE):
            some = range(first, min(numbers.stop, first + _AT_ONCE))
            await maker.add(
                [_specification(number, issuer) for number in some],
                profiles,
                # From half of its life on, that none is due before a test or benchmark is over.
                ages=[(number - numbers.start) / len(numbers) / 2 for number in some],
            )


def _specification(number: int, issuer: str) -> CertificationAuthoritySpec:
    name = authority_name(number)
    return CertificationAuthoritySpec(
        name=name,
        kind="issuing",
        issuer=issuer,
        subject=f"CN=Issuing {number},O=Example",
        ocsp_urls=(f"{_STATUS}/ocsp",),
        issuer_urls=(f"{_STATUS}/ca/{name}.cer",),
        crl_urls=(f"{_STATUS}/crl/{name}.crl",),
    )


class _Maker:
    def __init__(
        self, store: Store, objects: NodeObjects, authorities: Authorities, creation: Creation
    ) -> None:
        self.store = store
        self._objects = objects
        self.authorities = authorities
        self._creation = creation

    async def add(
        self,
        specs: Sequence[CertificationAuthoritySpec],
        profiles: tuple[str, ...],
        *,
        ages: Sequence[float],
    ) -> None:
        """Add CAs; ``ages``: which part of its CRL's life is over, for each."""
        batch = PlanBatch(at=int(time.time()))
        kind = "certification_authorities"
        for spec in specs:
            await self._creation.prepare(Step("create", kind, spec.name, None, spec), batch)
        changes = [
            _with_profiles(change, spec, profiles)
            for change, spec in zip(batch.changes, specs, strict=True)
        ]
        await self.store.apply_plan(
            changes, keys=batch.keys, entries=batch.entries, certificates=batch.certificates
        )
        self._objects.apply(changes)
        pairs = zip(specs, ages, strict=True)
        await asyncio.gather(*(self._publish(spec.name, age) for spec, age in pairs))

    async def _publish(self, name: str, age: float) -> None:
        authority = self.authorities.get(name)
        spec = authority.spec.crl
        passed = int(age * (spec.validity_seconds - spec.overlap_seconds))
        start = await self.store.begin_crl(authority.authority_id)
        record = await make_crl(
            self.store,
            self.authorities,
            authority,
            shard=0,
            start=start,
            now=int(time.time()) - passed,
            base=None,
        )
        await self.store.record_crl(record, encode(crl_payload(record)), start=start)


def _with_profiles(
    change: ObjectChange, spec: CertificationAuthoritySpec, profiles: tuple[str, ...]
) -> ObjectChange:
    assert change.record is not None
    content = msgspec.json.encode(msgspec.structs.replace(spec, profiles=profiles))
    return replace(change, record=replace(change.record, spec=content))


@asynccontextmanager
async def _maker(agent: Agent) -> AsyncIterator[_Maker]:
    settings = load_settings(agent.config_path)
    clock = SystemClock()
    async with (
        open_store(settings.store_url, clock=clock, owner=Ownership(node=agent.name)) as store,
        SigningPool() as pool,
    ):
        objects = NodeObjects(await store.objects())
        passphrase = read_passphrase(settings.passphrase_path)
        tokens = Tokens(passphrase, await store.keys(), node=agent.name)
        tokens.configure(objects.specs("crypto_tokens", CryptoTokenSpec))
        authorities = Authorities(
            objects=objects, tokens=tokens, known=KnownAuthorities(), pool=pool
        )
        creation = Creation(
            node=settings.identity,
            objects=objects,
            tokens=tokens,
            authorities=authorities,
            pool=pool,
            clock=clock,
        )
        yield _Maker(store, objects, authorities, creation)
