"""The signing worker: a child process that makes slow signatures and keys, and nothing else.

Run as ``python -m node_agent.pki.signing_worker`` by ``signing.SigningPool``. Frames on standard
input and output are a 4-byte length and MessagePack. A passphrase arrives once per token, on the
pipe; keys arrive encrypted. Nothing secret is ever on a command line or in the environment. The
worker ends when its input does.
"""

from __future__ import annotations

import resource
import signal
import sys
from typing import IO

import msgspec

from node_agent.errors import NodeAgentError, TokenError
from node_agent.pki.keys import LocalKey, generate_key
from node_agent.pki.pkcs8 import KeyEncryption, ScryptCost

__all__ = [
    "Answer",
    "GenerateTask",
    "SignTask",
    "Task",
    "UnlockTask",
    "decode_answer",
    "encode_frame",
]

# A CRL of a million entries, the largest thing that is ever signed whole, has 40 MB.
MAX_FRAME_BYTES = 1 << 28


class UnlockTask(msgspec.Struct, tag=True, frozen=True):
    """Learn a token's passphrase and scrypt cost. Answered with an empty result."""

    token: str
    passphrase: bytes
    cost: tuple[int, int, int]


class SignTask(msgspec.Struct, tag=True, frozen=True):
    """Sign ``data`` (or the digest that it is). ``keep``: the opened key may stay in memory."""

    token: str
    encrypted_private: bytes
    data: bytes
    is_digest: bool
    keep: bool


class GenerateTask(msgspec.Struct, tag=True, frozen=True):
    """Make a key; the result is its encrypted private and its public half.

    ``sibling`` is an encrypted key of the token, or empty: the new key must open with the same
    passphrase, and joins its scrypt salt.
    """

    token: str
    kind: str
    sibling: bytes


Task = UnlockTask | SignTask | GenerateTask


class Answer(msgspec.Struct, frozen=True):
    """Result parts, or a failure (its text; ``is_token_fault`` when it is a TokenError)."""

    parts: tuple[bytes, ...] = ()
    failure: str = ""
    is_token_fault: bool = False


_decode_task = msgspec.msgpack.Decoder(Task).decode
decode_answer = msgspec.msgpack.Decoder(Answer).decode


def encode_frame(message: Task | Answer) -> bytes:
    """Return the length-prefixed frame of ``message``."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(4, "big") + body


class _Worker:
    def __init__(self) -> None:
        self._tokens: dict[str, KeyEncryption] = {}
        self._open: dict[tuple[str, bytes], LocalKey] = {}

    def perform(self, task: Task) -> Answer:
        """Return the answer to ``task``; every deliberate error becomes a failure."""
        try:
            return Answer(parts=self._parts(task))
        except NodeAgentError as error:
            return Answer(failure=str(error), is_token_fault=isinstance(error, TokenError))

    def _parts(self, task: Task) -> tuple[bytes, ...]:
        match task:
            case UnlockTask():
                encryption = KeyEncryption(task.passphrase, cost=ScryptCost(*task.cost))
                self._tokens[task.token] = encryption
                return ()
            case SignTask():
                key = self._key(task)
                sign = key.sign_digest if task.is_digest else key.sign
                return (sign(task.data),)
            case GenerateTask():
                if task.sibling:
                    self._tokens[task.token].decrypt(task.sibling)
                private_key = generate_key(task.kind)
                encrypted = self._tokens[task.token].encrypt(private_key)
                return encrypted, LocalKey.of(private_key).spki

    def _key(self, task: SignTask) -> LocalKey:
        name = (task.token, task.encrypted_private)
        key = self._open.get(name)
        if key is None:
            key = LocalKey.of(self._tokens[task.token].decrypt(task.encrypted_private))
            if task.keep:
                self._open[name] = key
        return key


def serve(source: IO[bytes], sink: IO[bytes]) -> None:
    """Answer tasks until ``source`` ends."""
    worker = _Worker()
    while len(prefix := source.read(4)) == 4:
        size = int.from_bytes(prefix, "big")
        if size > MAX_FRAME_BYTES:
            return
        body = source.read(size)
        if len(body) != size:
            return
        sink.write(encode_frame(worker.perform(_decode_task(body))))
        sink.flush()


def main() -> None:
    """Serve standard input and output; leave no core dump with keys in it behind."""
    # An interrupt at the terminal reaches the whole process group; the agent decides when to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    serve(sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
