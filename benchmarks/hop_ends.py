"""What the ends of a measured hop share: sizes, identities, and the loop that takes latencies."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import load_pem_private_key

from node_agent.net import IdentityHolder, TlsIdentity
from tests.support.pki import ThrowawayAuthority, certificate_pem, key_pem

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

__all__ = [
    "ANSWER_BYTES",
    "CALLER",
    "REQUEST_BYTES",
    "SERVER",
    "load_identity",
    "take_latencies",
    "write_identities",
]

# What a signed enrolment and its certificate take on the wire.
REQUEST_BYTES = 1800
ANSWER_BYTES = 1600
CALLER = "ra1"
SERVER = "ca1"
_WARM_UP_CALLS = 200


def write_identities(directory: Path) -> None:
    """Make a Management CA and the authenticators of both ends as PEM files."""
    directory.mkdir(parents=True, exist_ok=True)
    authority = ThrowawayAuthority()
    (directory / "anchor.pem").write_text(certificate_pem(authority.certificate))
    for node in (CALLER, SERVER):
        key, certificate = authority.authenticator(node)
        (directory / f"{node}.key").write_text(key_pem(key))
        (directory / f"{node}.pem").write_text(certificate_pem(certificate))


def load_identity(directory: Path, node: str) -> IdentityHolder:
    """Return the TLS identity of one end."""
    key = load_pem_private_key((directory / f"{node}.key").read_bytes(), password=None)
    identity = TlsIdentity.from_pem(
        private_key=key,
        chain=(directory / f"{node}.pem").read_text(),
        trust_anchors=[(directory / "anchor.pem").read_text()],
    )
    return IdentityHolder(identity)


async def take_latencies(
    exchange: Callable[[], Awaitable[object]], seconds: float
) -> dict[str, float]:
    """Make one exchange after the other; return p50_ms, p99_ms and how many there were."""
    for _ in range(_WARM_UP_CALLS):
        await exchange()
    taken: list[float] = []
    until = time.perf_counter() + seconds
    while (started := time.perf_counter()) < until:
        await exchange()
        taken.append((time.perf_counter() - started) * 1000)
    cuts = statistics.quantiles(taken, n=100, method="inclusive")
    return {"p50_ms": cuts[49], "p99_ms": cuts[98], "exchanges": len(taken)}
