"""The VA's OCSP signers: keys made here, certified by the CA over a peer link, renewed in time.

The VA asks; nobody at the CA has to remember that it exists: a renewal is a request like the first
one. A renewed signer takes over when its certificate has arrived; the old one's answers stay valid
until their nextUpdate. One whose certificate was revoked gets another key, too: whoever revoked it
may know that the key is known.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import structlog

from node_agent.errors import ConfigError, NodeAgentError, Unavailable
from node_agent.functions.containment import Containment
from node_agent.functions.creation import free_label
from node_agent.functions.node_objects import (
    ManagedObject,
    NodeObjects,
    SignerState,
    decode_state,
    encode_state,
)
from node_agent.functions.signal import ChangeSignal
from node_agent.objects import SignerSpec
from node_agent.peers.operations import CERTIFY_SIGNER, CertifySignerRequest
from node_agent.pki.der import DerError
from node_agent.pki.ocsp import OcspSigner
from node_agent.pki.outline import CertificateOutline, outline
from node_agent.pki.own_csr import prepare_csr
from node_agent.store.records import ObjectChange, ObjectRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from node_agent.clock import Clock
    from node_agent.functions.known_authorities import KnownAuthorities, KnownAuthority
    from node_agent.functions.peer_calls import PeerCalls
    from node_agent.functions.tokens import Tokens
    from node_agent.functions.upstreams import Upstreams
    from node_agent.pki.keys import SigningKey
    from node_agent.pki.signing import SigningPool
    from node_agent.store.api import Writer
    from node_agent.store.records import KeyRecord

__all__ = ["ActiveSigner", "Signers"]

log = structlog.get_logger(__name__)

_CALL_SECONDS = 20.0
_RETRY_SECONDS = 1.0
_LOOK_AGAIN_SECONDS = 60.0
_LOOKS_AT_ONCE = 200


@dataclass(frozen=True)
class ActiveSigner:
    """A signer with a certificate (DER). It is loaded when it first answers."""

    spec: SignerSpec
    key: SigningKey
    certificate: bytes

    @cached_property
    def outline(self) -> CertificateOutline:
        """What says which certificate it is and how long it lives."""
        return outline(self.certificate)

    @cached_property
    def signer(self) -> OcspSigner:
        """What signs. Raises ConfigError when the certificate isn't this key's signer."""
        return OcspSigner.load(self.key, self.certificate)


class Signers:
    """Signers by CA name. ``run()`` certifies and renews them; ``on_change`` is told of which CA
    the signer has changed, or None for any.
    """

    def __init__(
        self,
        *,
        objects: NodeObjects,
        tokens: Tokens,
        pool: SigningPool,
        known: KnownAuthorities,
        store: Writer,
        caller: PeerCalls,
        upstreams: Upstreams,
        clock: Clock,
        on_change: Callable[[str | None], None],
    ) -> None:
        self._objects = objects
        self._tokens = tokens
        self._pool = pool
        self._known = known
        self._store = store
        self._caller = caller
        self._upstreams = upstreams
        self._clock = clock
        self._on_change = on_change
        self._active: dict[str, ActiveSigner] = {}
        self._wake = ChangeSignal()
        self._contained = Containment("signer", clock=clock)
        # Serial numbers of signers' certificates: those whose status was looked up, and those of
        # them that were revoked.
        self._looked_up: set[int] = set()
        self._revoked: set[int] = set()
        # Keys that were made in place of a revoked signer's, until a certificate for them is here.
        self._fresh_keys: dict[str, KeyRecord] = {}
        self.last_error: dict[str, str] = {}

    def active(self, authority: str) -> ActiveSigner | None:
        """Return the signer that answers for the CA ``authority``, None without a valid one."""
        found = self._active.get(authority)
        if found is None or found.outline.not_after <= self._clock.now():
            return None
        return found

    def certificate(self, name: str) -> CertificateOutline | None:
        """Return what the certificate of the signer ``name`` says, None without one."""
        found = self._of(name)
        return None if found is None else found.outline

    def all_active(self) -> list[ActiveSigner]:
        """Return every signer with a certificate, valid or not."""
        return list(self._active.values())

    def configure(self) -> None:
        """Load every certified signer; look after the others soon."""
        self._active = {}
        for item in self._objects.all("signers"):
            self._activate(item)
        self._on_change(None)
        self._wake.announce()

    def wake(self) -> None:
        """Look again now: a link has come up."""
        self._wake.announce()

    def status_changed(self, serial: int) -> None:
        """Look soon whether that was the revocation of a signer."""
        if serial in self._looked_up:
            self._looked_up.discard(serial)
            self._wake.announce()

    def statuses_changed(self) -> None:
        """Look again whether any signer was revoked."""
        self._looked_up.clear()
        self._wake.announce()

    def state(self, name: str) -> str:
        """Return ``active``, ``waiting``, ``expired`` or ``revoked`` for the signer ``name``."""
        found = self._of(name)
        if found is None:
            return "waiting"
        if found.outline.serial in self._revoked:
            return "revoked"
        return "active" if found.outline.not_after > self._clock.now() else "expired"

    def overdue(self, name: str) -> str | None:
        """Return why the signer ``name`` isn't renewed, once half of the time for it has passed."""
        found = self._of(name)
        if found is None or name not in self.last_error:
            return None
        end = found.outline.not_after
        if end - _seconds_ahead(found) // 2 > self._clock.now():
            return None
        return f"not renewed, and its certificate ends at {end}: {self.last_error[name]}"

    async def run(self) -> None:
        """Certify and renew until cancelled."""
        while True:
            seen = self._wake.count
            is_done = await self.look_after()
            await self._wake.wait(seen, _LOOK_AGAIN_SECONDS if is_done else _RETRY_SECONDS)

    async def look_after(self) -> bool:
        """Certify and renew what is due; return whether all of it succeeded."""
        is_done = True
        await self._look_up_statuses()
        for number, item in enumerate(self._objects.all("signers")):
            if number % _LOOKS_AT_ONCE == 0:
                # A look at ten thousand takes 50 ms, in which nobody would be answered.
                await asyncio.sleep(0)
            is_done &= await self._look_after_one(item)
        return is_done

    async def _look_after_one(self, item: ManagedObject) -> bool:
        if self._contained.pause_seconds(item.name) > 0:
            return False
        try:
            with self._contained.around(item.name):
                if self._is_revoked(item) or self._is_due(item):
                    await self._certify(item)
        except (NodeAgentError, TimeoutError) as error:
            if isinstance(error, ConfigError):
                # What came is no use, and each time the CA has issued a certificate.
                self._contained.hold_off(item.name)
            self.last_error[item.name] = str(error)
            log.info("signer not certified yet", signer=item.name, reason=str(error))
            return False
        self.last_error.pop(item.name, None)
        return True

    def _is_due(self, item: ManagedObject) -> bool:
        assert isinstance(item.spec, SignerSpec)
        found = self._active.get(item.spec.authority)
        if found is None:
            return True
        return found.outline.not_after - _seconds_ahead(found) <= self._clock.now()

    def _is_revoked(self, item: ManagedObject) -> bool:
        """Return whether the signer's certificate is known to be revoked or held."""
        found = self._of(item.name)
        return found is not None and found.outline.serial in self._revoked

    async def _look_up_statuses(self) -> None:
        """Find out which signers' certificates were revoked, of all that weren't looked up yet."""
        wanted = set(self._not_looked_up())
        serials = {serial for _, serial in wanted}
        # Noted before the look: what changes meanwhile is looked up again.
        self._looked_up |= serials
        try:
            revoked = await self._store.revoked_among(wanted) if wanted else ()
        except NodeAgentError as error:
            self._looked_up -= serials
            log.warning("signers' statuses can't be read", reason=str(error))
            return
        self._revoked -= serials
        self._revoked.update(serial for _, serial in revoked)

    def _not_looked_up(self) -> Iterator[tuple[str, int]]:
        """Yield authority id and serial number of signers' certificates."""
        for name, found in self._active.items():
            authority = self._known.named(name)
            # One that can't be read is met, and told, where its own signer is looked after.
            with contextlib.suppress(DerError):
                if authority is not None and found.outline.serial not in self._looked_up:
                    yield authority.authority_id, found.outline.serial

    def _of(self, name: str) -> ActiveSigner | None:
        spec = self._objects.get("signers", name).spec
        assert isinstance(spec, SignerSpec)
        found = self._active.get(spec.authority)
        return found if found is not None and found.spec.name == name else None

    async def _certify(self, item: ManagedObject) -> None:
        spec = item.spec
        assert isinstance(spec, SignerSpec)
        # Asked for without it, each certificate would be issued in vain.
        authority = self._known.named(spec.authority)
        if authority is None:
            raise Unavailable(f"no certificate of the CA {spec.authority!r} is known here yet")
        label = await self._key_label(item, spec)
        key = self._tokens.own(spec.crypto_token).key(label)
        csr = prepare_csr(key, spec.name)
        proven = csr.complete(await self._pool.sign(key, csr.info))
        request = CertifySignerRequest(authority=spec.authority, csr=proven)
        answer = await self._caller.call(
            CERTIFY_SIGNER,
            request,
            peers=self._upstreams.serving(spec.authority),
            timeout_seconds=_CALL_SECONDS,
        )
        if not answer.chain:
            raise Unavailable(f"the CA {spec.authority!r} hasn't certified it yet")
        certified = ActiveSigner(spec, key, answer.chain[0])
        self._check(certified, authority)
        serial = certified.signer.serial
        await self._keep(item, SignerState(label, answer.chain))
        self._active[spec.authority] = certified
        self._fresh_keys.pop(item.name, None)
        log.info("signer certified", signer=item.name, serial=f"{serial:x}")
        self._on_change(spec.authority)

    def _check(self, certified: ActiveSigner, authority: KnownAuthority) -> None:
        """Believe no answer: whoever gave it must have been the CA, and clients will look.

        Raises ConfigError for a certificate of another key, another CA or another time.
        """
        certified.signer.check_issuer(authority.outline.subject, authority.spki)
        if certified.signer.not_after <= self._clock.now():
            raise ConfigError("the signer's certificate has ended already")

    async def _key_label(self, item: ManagedObject, spec: SignerSpec) -> str:
        """Return the label of the key to be certified, which is a new one after a revocation."""
        found = self._of(item.name)
        if found is None or found.outline.serial not in self._revoked:
            return decode_state(item, SignerState).key_label
        if item.name not in self._fresh_keys:
            token = self._tokens.own(spec.crypto_token)
            label = free_label(token, f"signer-{spec.name}")
            now = int(self._clock.now())
            record = await self._pool.generate(token, label, spec.key_kind, created_at=now)
            self._fresh_keys[item.name] = record
        return self._fresh_keys[item.name].label

    async def _keep(self, item: ManagedObject, state: SignerState) -> None:
        stored = await self._store.object("signers", item.name)
        if stored is None:
            raise ConfigError("was deleted meanwhile", where=f"signers.{item.name}")
        record = ObjectRecord(
            kind="signers",
            name=item.name,
            spec=stored.spec,
            state=encode_state(state),
            generation=stored.generation,
            updated_at=int(self._clock.now()),
        )
        change = ObjectChange(kind="signers", name=item.name, record=record)
        fresh = self._fresh_keys.get(item.name)
        keys = [fresh] if fresh is not None and fresh.label == state.key_label else []
        await self._store.apply_plan([change], keys=keys)
        self._objects.apply([change])

    def _activate(self, item: ManagedObject) -> None:
        spec = item.spec
        assert isinstance(spec, SignerSpec)
        state = decode_state(item, SignerState)
        if not state.chain:
            return
        key = self._tokens.own(spec.crypto_token).key(state.key_label)
        self._active[spec.authority] = ActiveSigner(spec, key, state.chain[0])


def _seconds_ahead(signer: ActiveSigner) -> int:
    """Return how long before its end a signer is renewed: half of its life at most, or a
    short-lived one would be renewed for ever.
    """
    life = signer.outline.not_after - signer.outline.not_before
    return min(signer.spec.renew_before_seconds, life // 2)
