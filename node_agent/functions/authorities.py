"""The CAs of this node, ready to sign. Each is loaded when it is first needed, not at start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from node_agent.errors import NotFound, RequestRefused
from node_agent.functions.known_authorities import KnownAuthorities, kept_authority
from node_agent.functions.node_objects import (
    AuthorityState,
    ManagedObject,
    NodeObjects,
    decode_state,
)
from node_agent.objects import CertificateProfileSpec, CertificationAuthoritySpec, CrlSpec
from node_agent.pki.issuer import Issuer
from node_agent.pki.lint import check_to_be_signed
from node_agent.pki.profile import Profile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from node_agent.functions.tokens import Tokens
    from node_agent.pki.crl import CrlToBeSigned
    from node_agent.pki.issue import IssuedCertificate, ToBeSigned
    from node_agent.pki.signing import SigningPool
    from node_agent.pki.token import TokenKey

__all__ = ["Authorities", "LoadedAuthority"]


@dataclass(frozen=True, slots=True)
class LoadedAuthority:
    """A CA that can sign. ``chain`` is DER, its own certificate first, the root last."""

    name: str
    spec: CertificationAuthoritySpec
    authority_id: str
    chain: tuple[bytes, ...]
    issuer: Issuer
    key: TokenKey

    @property
    def chain_below_root(self) -> tuple[bytes, ...]:
        """What is sent with a certificate: who verifies it has the root already."""
        return self.chain[:-1]

    @property
    def is_offline(self) -> bool:
        """Whether its key opens for local requests only."""
        return self.key.token.activation == "on_demand"


class Authorities:
    """CAs by name and by authority id, profiles by name; ``sign`` is the only use of a CA key."""

    def __init__(
        self,
        *,
        objects: NodeObjects,
        tokens: Tokens,
        known: KnownAuthorities,
        pool: SigningPool,
        check: Callable[[str], None] | None = None,
    ) -> None:
        """``check`` raises Unavailable for the id of a CA that mustn't sign now."""
        self._check = check or (lambda _: None)
        self._objects = objects
        self._tokens = tokens
        self._known = known
        self._pool = pool
        # By the object itself: a CA that was made anew under an old name is another object.
        self._loaded: dict[str, tuple[ManagedObject, LoadedAuthority]] = {}
        self._profiles: dict[str, tuple[ManagedObject, Profile]] = {}

    def names(self) -> list[str]:
        """Return the names of this node's CAs."""
        return [item.name for item in self._objects.all("certification_authorities")]

    def has(self, name: str) -> bool:
        """Tell whether this node has the CA ``name``."""
        return self._objects.find("certification_authorities", name) is not None

    def crl_orders(self) -> Iterator[tuple[str, str, CrlSpec]]:
        """Yield name, authority id and orders for CRLs of every CA, without loading any."""
        for item in self._objects.all("certification_authorities"):
            assert isinstance(item.spec, CertificationAuthoritySpec)
            yield item.name, decode_state(item, AuthorityState).authority_id, item.spec.crl

    def announce(self) -> None:
        """File every CA of this node among the known ones."""
        for item in self._objects.all("certification_authorities"):
            state = decode_state(item, AuthorityState)
            if self._known.get(state.authority_id) is None:
                self._known.add(kept_authority(item.name, state.chain, ""))

    def get(self, name: str) -> LoadedAuthority:
        """Return a CA. Raises NotFound."""
        item = self._objects.get("certification_authorities", name)
        known = self._loaded.get(name)
        if known is not None and known[0] is item:
            return known[1]
        loaded = self._load(item)
        self._loaded[name] = (item, loaded)
        return loaded

    def stage(self, item: ManagedObject) -> LoadedAuthority:
        """Return a CA of a plan that isn't committed yet."""
        return self._load(item)

    def online(self, name: str) -> LoadedAuthority:
        """Return a CA that peers may be served by. Raises NotFound for any other: a management or
        offline CA is not there for them.
        """
        authority = self.get(name)
        if authority.spec.kind == "management" or authority.is_offline:
            raise NotFound(f"there is no CA {name!r}")
        return authority

    def profile(self, authority: LoadedAuthority, name: str) -> Profile:
        """Return a profile that ``authority`` issues by. Raises RequestRefused for another one."""
        if name not in authority.spec.profiles:
            raise RequestRefused(
                f"the CA {authority.name!r} has no profile {name!r}",
                field="profile",
                # Not by name: who asks may be granted some of them only.
                remedy="ask for the catalogue: it lists what you may use",
            )
        item = self._objects.get("certificate_profiles", name)
        known = self._profiles.get(name)
        if known is None or known[0] is not item:
            assert isinstance(item.spec, CertificateProfileSpec)
            known = (item, Profile.from_spec(item.spec))
            self._profiles[name] = known
        return known[1]

    def profile_specs(self) -> Iterator[CertificateProfileSpec]:
        """Yield every profile as it is written."""
        return self._objects.specs("certificate_profiles", CertificateProfileSpec)

    def profile_spec(self, name: str) -> CertificateProfileSpec:
        """Return a profile as it is written. Raises NotFound."""
        spec = self._objects.get("certificate_profiles", name).spec
        assert isinstance(spec, CertificateProfileSpec)
        return spec

    async def sign(self, to_be_signed: ToBeSigned) -> IssuedCertificate:
        """Check and sign a certificate. A slow key signs in a worker process, so that no link of
        this node waits for it. Raises LintFailed, TokenError, Unavailable.
        """
        self._check(to_be_signed.authority_id)
        check_to_be_signed(to_be_signed)
        signature = await self._pool.sign(to_be_signed.key, to_be_signed.der)
        return to_be_signed.complete(signature)

    def check_crl(self, authority: LoadedAuthority) -> None:
        """Raise Unavailable while no CRL of ``authority`` may be made."""
        self._check(authority.authority_id)

    async def sign_crl(self, authority: LoadedAuthority, crl: CrlToBeSigned) -> bytes:
        """Return the signature of a finished CRL. Raises TokenError, Unavailable."""
        self._check(authority.authority_id)
        return await self._pool.sign(authority.key, crl.signing_input, is_digest=crl.is_digest)

    def _load(self, item: ManagedObject) -> LoadedAuthority:
        spec = item.spec
        assert isinstance(spec, CertificationAuthoritySpec)
        state = decode_state(item, AuthorityState)
        key = self._tokens.shared(spec.crypto_token).key(state.key_label)
        issuer = Issuer.load(
            key,
            state.chain,
            ocsp_urls=spec.ocsp_urls,
            issuer_urls=spec.issuer_urls,
            crl_urls=spec.crl_urls,
            crl_shards=spec.crl.shards,
        )
        return LoadedAuthority(spec.name, spec, state.authority_id, state.chain, issuer, key)
