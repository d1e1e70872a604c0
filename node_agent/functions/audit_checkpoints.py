"""Signed statements of where the audit log ended: what finds a log that was cut off or made again.

The chain of hashes finds whatever is changed within the log, and nothing that is done to the whole
of it: who can write the database can cut off its end, or chain everything anew. So the node states
the head of the log from time to time, signs that with its authenticator, and keeps it in a file of
its own, away from the database, a line each. Copied elsewhere, it also holds against who controls
the host.

A line is JSON: ``{"node", "sequence", "entry_hash", "at", "signature", "certificate"}`` with octets
in hexadecimal, or ``{"certificate", "chain"}`` for a certificate (SHA-256 of its DER) at its first
use. Signed is ``peersys/1 audit checkpoint``, a zero octet, and the MessagePack array ``[node,
sequence, entry_hash, at]``.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import structlog
from cryptography import x509

from node_agent.errors import NodeAgentError
from node_agent.net.path import PathValidator
from node_agent.net.tls import node_identity_of
from node_agent.peers.codec import ENCODER
from node_agent.peers.signature import sign, verify
from node_agent.store.audit_chain import AuditHead

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from node_agent.clock import Clock
    from node_agent.functions.identities import Identities
    from node_agent.net.tls import IdentityHolder
    from node_agent.store import Store

__all__ = ["AuditCheckpoints", "ReadCheckpoints"]

log = structlog.get_logger(__name__)

_LABEL: Final = b"peersys/1 audit checkpoint\x00"
# What an attacker can cut off without a trace is what was logged since the last one.
_INTERVAL_SECONDS: Final = 300.0
# Each takes about 60 us to check. Those before them are covered by the chain.
_MOST_CHECKED: Final = 1000


class _Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    node: str
    sequence: int
    entry_hash: str
    at: int
    signature: str
    certificate: str


class _Certificate(msgspec.Struct, frozen=True, kw_only=True):
    certificate: str
    chain: tuple[str, ...]


_decode_checkpoint = msgspec.json.Decoder(_Checkpoint).decode
_decode_certificate = msgspec.json.Decoder(_Certificate).decode
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class ReadCheckpoints:
    """The heads that checkpoints state, and what is wrong with the first that can't be believed."""

    heads: tuple[AuditHead, ...] = ()
    fault: str = ""


class AuditCheckpoints:
    """Write checkpoints to ``path``. ``run()`` does it while the log grows."""

    def __init__(self, path: Path, *, store: Store, identities: Identities, clock: Clock) -> None:
        self._path = path
        self._store = store
        self._identities = identities
        self._clock = clock
        self._written = 0
        self._named: set[str] = set()

    async def run(self) -> None:
        """Write a checkpoint whenever the log has grown, until cancelled."""
        while True:
            await self._clock.sleep(_INTERVAL_SECONDS)
            await self.write()

    async def write(self) -> None:
        """Write a checkpoint, unless the log hasn't grown since the last one or no key is there."""
        identity = self._identities.first
        if identity is None:
            return
        try:
            head = await self._store.audit_head()
            if head.sequence == self._written:
                return
            lines = self._lines(identity, head)
            await asyncio.to_thread(_append, self._path, lines)
        except (NodeAgentError, OSError) as error:
            log.error("audit checkpoint not written", reason=str(error))
            return
        self._written = head.sequence
        # In the journal, too, which is often sent elsewhere.
        log.info("audit checkpoint", sequence=head.sequence, entry_hash=head.entry_hash.hex())

    async def read(self) -> ReadCheckpoints:
        """Return what the checkpoints of this node say. No file is no checkpoint."""
        identity = self._identities.first
        try:
            lines = await asyncio.to_thread(_lines_of, self._path)
        except OSError as error:
            return ReadCheckpoints(fault=f"the checkpoints can't be read: {error.strerror}")
        if identity is None:
            return ReadCheckpoints()
        return await asyncio.to_thread(_check, lines, identity)

    def _lines(self, identity: IdentityHolder, head: AuditHead) -> bytes:
        current, at = identity.current, int(self._clock.now())
        node, certificate = identity.node.uri, hashlib.sha256(current.chain_der[0]).hexdigest()
        checkpoint = _Checkpoint(
            node=node,
            sequence=head.sequence,
            entry_hash=head.entry_hash.hex(),
            at=at,
            signature=sign(current.private_key, _signed(node, head, at)).hex(),
            certificate=certificate,
        )
        named = b""
        if certificate not in self._named:
            self._named.add(certificate)
            chain = tuple(der.hex() for der in current.chain_der)
            named = _encode(_Certificate(certificate=certificate, chain=chain)) + b"\n"
        return named + _encode(checkpoint) + b"\n"


def _signed(node: str, head: AuditHead, at: int) -> bytes:
    return _LABEL + ENCODER.encode((node, head.sequence, head.entry_hash, at))


def _append(path: Path, lines: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        # One write: a line is there as a whole, or it isn't.
        os.write(descriptor, lines)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lines_of(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().splitlines()
    except FileNotFoundError:
        return []


def _check(lines: Sequence[bytes], identity: IdentityHolder) -> ReadCheckpoints:
    try:
        chains, checkpoints = _parse(lines)
    except (msgspec.MsgspecError, ValueError) as error:
        return ReadCheckpoints(fault=f"a checkpoint can't be read: {error}")
    heads = []
    for checkpoint in checkpoints[-_MOST_CHECKED:]:
        try:
            heads.append(_head(checkpoint, chains, identity))
        except (NodeAgentError, ValueError) as error:
            fault = f"the checkpoint of entry {checkpoint.sequence} can't be believed: {error}"
            return ReadCheckpoints(tuple(heads), fault)
    return ReadCheckpoints(tuple(heads))


def _parse(
    lines: Iterable[bytes],
) -> tuple[dict[str, list[x509.Certificate]], list[_Checkpoint]]:
    chains: dict[str, list[x509.Certificate]] = {}
    checkpoints = []
    for line in lines:
        if b'"chain"' in line:
            named = _decode_certificate(line)
            ders = [bytes.fromhex(der) for der in named.chain]
            chains[hashlib.sha256(ders[0]).hexdigest()] = [
                x509.load_der_x509_certificate(der) for der in ders
            ]
        else:
            checkpoints.append(_decode_checkpoint(line))
    return chains, checkpoints


def _head(
    checkpoint: _Checkpoint, chains: dict[str, list[x509.Certificate]], identity: IdentityHolder
) -> AuditHead:
    """Return the head that a checkpoint states. Raises HandshakeError, ValueError.

    The certificate was valid when it was used; since then it may have been renewed, and ended.
    """
    chain = chains.get(checkpoint.certificate)
    if chain is None:
        raise ValueError("its certificate isn't there")
    leaf, *others = chain
    head = AuditHead(checkpoint.sequence, bytes.fromhex(checkpoint.entry_hash))
    validator = PathValidator(identity.current.trust_anchors)
    validator.validate(leaf, intermediates=others, now=checkpoint.at)
    if not checkpoint.node == identity.node.uri == node_identity_of(leaf).uri:
        raise ValueError("it is another node's")
    message = _signed(checkpoint.node, head, checkpoint.at)
    if not verify(leaf.public_key(), bytes.fromhex(checkpoint.signature), message):
        raise ValueError("its signature isn't valid")
    return head
