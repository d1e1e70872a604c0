"""What an approval is for, and who brought it: the digests and encodings behind it.

The digest covers the request (who asks, for which key and names, after which profile, at which CA),
whose certificate it becomes, and the profile as it is now. So an approval is for nothing else: a
profile that is replaced makes it another request, and the approvals so far are for the old one.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import msgspec

from node_agent.identity import NodeIdentity, PeerIdentity
from node_agent.objects import CertificateProfileSpec
from node_agent.peers.codec import ENCODER

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["approval_id", "chain_of", "encode_chain", "profile_digest"]

_LABEL: Final = b"peersys/1 approval\x00"
_EncodedNode = tuple[str, str, str, str, str]
_decode_chain = msgspec.msgpack.Decoder(tuple[_EncodedNode, ...]).decode


def profile_digest(spec: CertificateProfileSpec) -> bytes:
    """Return SHA-256 over what an operator wrote into a profile.

    Defaults are left out, so that another release of the agent, with options that this one doesn't
    know, says the same of the same profile.
    """
    defaults = CertificateProfileSpec(name=spec.name)
    written = {
        name: msgspec.to_builtins(getattr(spec, name))
        for name in spec.__struct_fields__
        if name == "name" or getattr(spec, name) != getattr(defaults, name)
    }
    return hashlib.sha256(msgspec.json.encode(written, order="deterministic")).digest()


def approval_id(
    authority_id: str, profile: bytes, *, tenant: str, request_id: bytes, request_digest: bytes
) -> bytes:
    """Return the digest that names a request before its approvers. ``profile`` is its digest."""
    what = ENCODER.encode((authority_id, profile, tenant, request_id, request_digest))
    return hashlib.sha256(_LABEL + what).digest()


def encode_chain(chain: Sequence[PeerIdentity]) -> bytes:
    """Return the nodes that brought an approval, as they are stored with it."""
    return ENCODER.encode(
        tuple(
            (
                peer.node.uri,
                peer.issuer,
                f"{peer.serial:x}",
                peer.fingerprint_sha256,
                peer.spki_sha256,
            )
            for peer in chain
        )
    )


def chain_of(encoded: bytes) -> tuple[PeerIdentity, ...]:
    """Return what ``encode_chain`` encoded."""
    return tuple(
        PeerIdentity(NodeIdentity.parse(uri), issuer, int(serial, 16), fingerprint, spki)
        for uri, issuer, serial, fingerprint, spki in _decode_chain(encoded)
    )
