"""What the agent and a status worker say to each other, and how it is framed.

The pair has one Unix socket, made by the agent and inherited by the worker: nobody else can speak
on it. Frames are a 4-byte length and MessagePack.
"""

from __future__ import annotations

from typing import Final

import msgspec

from node_agent.objects import SignerSpec  # noqa: TC001  # msgspec reads it
from node_agent.web.bodies import HealthWord  # noqa: TC001  # msgspec reads it

__all__ = [
    "MAX_FRAME_OCTETS",
    "Authority",
    "AuthoritiesLearned",
    "Begin",
    "Confirm",
    "CrlDropped",
    "Dropped",
    "Forgotten",
    "FromAgent",
    "FromWorker",
    "Listen",
    "Listening",
    "Pulse",
    "Ready",
    "Sign",
    "Signature",
    "SignerView",
    "SignersChanged",
    "Stop",
    "decode_from_agent",
    "decode_from_worker",
    "encode_frame",
]

MAX_FRAME_OCTETS: Final = 1 << 28
"""Ten thousand CAs with their chains are told of at once, in some 30 MiB."""


class Begin(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """The first message. ``listeners`` are file descriptors that the worker has inherited."""

    number: int
    node: str
    log_level: str
    store_url: str
    store_password_path: str | None
    listeners: tuple[int, ...]
    cache_octets: int


class Authority(msgspec.Struct, frozen=True):
    """A known CA: ``chain`` is DER, its own certificate first."""

    name: str
    chain: tuple[bytes, ...]
    publisher: str
    is_partial: bool
    path: tuple[str, ...]


class AuthoritiesLearned(msgspec.Struct, tag=True, frozen=True):
    """CAs that are new, or have another certificate."""

    authorities: tuple[Authority, ...]


class SignerView(msgspec.Struct, frozen=True):
    """A signer without its key: what goes into an answer besides the signature."""

    spec: SignerSpec
    key_kind: str
    spki: bytes
    certificate: bytes


class SignersChanged(msgspec.Struct, tag=True, frozen=True):
    """Signers that are new or have changed, and the names of CAs that have none any more. Answers
    that aren't right because of that are to be dropped.
    """

    signers: tuple[SignerView, ...]
    gone: tuple[str, ...] = ()


class Forgotten(msgspec.Struct, tag=True, frozen=True):
    """Every kept answer is to be dropped."""


class Dropped(msgspec.Struct, tag=True, frozen=True):
    """What is known of certificates has changed: authority id, and serials, big-endian."""

    authority_id: str
    serials: tuple[bytes, ...]


class CrlDropped(msgspec.Struct, tag=True, frozen=True):
    """A CA has a newer CRL."""

    authority_id: str


class Pulse(msgspec.Struct, tag=True, frozen=True):
    """How the node is. The worker confirms ``number`` at once, and with it all that came before."""

    number: int
    health: HealthWord
    lag_seconds: float | None


class Signature(msgspec.Struct, tag=True, frozen=True):
    """The answer to a Sign; without a signature, why."""

    number: int
    signature: bytes
    failure: str = ""


class Listen(msgspec.Struct, tag=True, frozen=True):
    """Accept connections: from now on the agent waits for confirmations."""


class Stop(msgspec.Struct, tag=True, frozen=True):
    """Answer what was asked, accept nothing more, and end."""


class Ready(msgspec.Struct, tag=True, frozen=True):
    """The worker has opened the store and knows CAs and signers."""


class Listening(msgspec.Struct, tag=True, frozen=True):
    """The worker accepts connections."""


class Confirm(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """Pulse ``number`` and all before it were taken in. The rest is how the worker is."""

    number: int
    answers: dict[str, int]
    kept_answers: int
    kept_octets: int
    connections: int
    memory_octets: int


class Sign(msgspec.Struct, tag=True, frozen=True):
    """Sign ``data`` with the key of a CA's signer that has the certificate ``serial``."""

    number: int
    authority: str
    serial: bytes
    data: bytes


FromAgent = (
    Begin
    | AuthoritiesLearned
    | SignersChanged
    | Forgotten
    | Dropped
    | CrlDropped
    | Pulse
    | Signature
    | Listen
    | Stop
)
FromWorker = Ready | Listening | Confirm | Sign

decode_from_agent = msgspec.msgpack.Decoder(FromAgent).decode
decode_from_worker = msgspec.msgpack.Decoder(FromWorker).decode


def encode_frame(message: FromAgent | FromWorker) -> bytes:
    """Return the length-prefixed frame of ``message``."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(4, "big") + body
