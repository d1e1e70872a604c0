"""A case of path validation: one function builds one chain and says what the verdict must be.

A case function takes a ``Case`` and ends with ``case.valid(...)`` or
``case.invalid(..., because)``. Its docstring starts with the chain, leaf last, and the verdict in
bold.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.x509.oid import ExtendedKeyUsageOID

from node_agent.errors import HandshakeError
from node_agent.net.path import PathRules, PathValidator
from node_agent.net.tls import peer_identity_of
from tests.support.pki import TRUST_DOMAIN, ThrowawayAuthority

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cryptography import x509

__all__ = ["Case", "cases_in", "judge", "path_case"]

_CASES: dict[str, Callable[[Case], None]] = {}
PEER_USAGES = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH)


def path_case(function: Callable[[Case], None]) -> Callable[[Case], None]:
    """Register a case; it must say in its docstring what it is about."""
    assert function.__doc__, f"{function.__name__} has no docstring"
    assert "**valid**" in function.__doc__ or "**invalid**" in function.__doc__
    _CASES[function.__name__] = function
    return function


def cases_in(module: str) -> list[str]:
    """Return the names of the cases that ``module`` registered so far, in order."""
    return [name for name, function in _CASES.items() if function.__module__ == module]


def judge(name: str) -> Case:
    """Build a case's chain and have the validator judge it."""
    case = Case()
    _CASES[name](case)
    assert case.is_valid is not None, "the case came to no verdict"
    return case


@dataclass
class Case:
    """The trusted authority of the case, and the verdict that it comes to."""

    root: ThrowawayAuthority = field(default_factory=ThrowawayAuthority)
    is_valid: bool | None = None
    fault: str = ""
    because: str = ""

    def valid(self, leaf: x509.Certificate, **options: object) -> None:
        """Expect ``leaf`` to be accepted as a peer."""
        self.is_valid = True
        self.fault = self._fault(leaf, **options)  # type: ignore[arg-type]

    def invalid(self, leaf: x509.Certificate, because: str, **options: object) -> None:
        """Expect ``leaf`` to be refused with ``because`` in the reason."""
        self.is_valid = False
        self.because = because
        self.fault = self._fault(leaf, **options)  # type: ignore[arg-type]

    def _fault(
        self,
        leaf: x509.Certificate,
        *,
        anchors: Sequence[x509.Certificate] | None = None,
        intermediates: Sequence[x509.Certificate] = (),
        sent: Sequence[x509.Certificate] = (),
        crls: Sequence[x509.CertificateRevocationList] = (),
        strict: bool = False,
        at: float = 0.0,
    ) -> str:
        validator = PathValidator(
            [self.root.certificate] if anchors is None else anchors,
            intermediates=intermediates,
            crls=crls,
            rules=PathRules(extended_key_usages=PEER_USAGES, require_current_crl=strict),
        )
        try:
            validator.validate(leaf, intermediates=sent, now=self.root.clock.now() + at)
            identity = peer_identity_of(leaf)
        except HandshakeError as error:
            return str(error) or "refused"
        assert identity.node.trust_domain == TRUST_DOMAIN
        return ""
