"""The signing worker: a child process that makes slow signatures and keys, and nothing else.

Run as ``python -m node_agent.pki.signing_worker`` by ``signing.SigningPool``. Tasks and answers are
frames (``signing_tasks``) on standard input and output. What opens a token arrives once, on the
pipe; keys of a soft token arrive encrypted. Nothing secret is ever on a command line or in the
environment. The worker ends when its input does.
"""

from __future__ import annotations

import resource
import signal
import sys
from typing import IO, TYPE_CHECKING, Protocol

from node_agent.errors import NodeAgentError, TokenClosed, TokenError, TokenLost
from node_agent.pki.signing_tasks import (
    MAX_FRAME_BYTES,
    Answer,
    DiscardTask,
    Fault,
    GenerateTask,
    OpenPkcs11Task,
    OpenSoftTask,
    SignTask,
    Task,
    decode_task,
    encode_frame,
)
from node_agent.pki.soft_keys import SoftKeys

if TYPE_CHECKING:
    from node_agent.pki.signing_tasks import OpenTask

__all__ = ["main", "serve"]


class OpenedToken(Protocol):
    """A token that this worker has opened."""

    def sign(self, task: SignTask) -> bytes:
        """Return the signature. Raises TokenError."""
        ...

    def generate(self, task: GenerateTask) -> tuple[bytes, bytes]:
        """Return private part and public half of a new key. Raises TokenError, ConfigError."""
        ...

    def discard(self, task: DiscardTask) -> None:
        """Remove a key that nothing uses. Raises TokenError."""
        ...

    def close(self) -> None:
        """End what is open."""
        ...


class _Worker:
    def __init__(self) -> None:
        self._tokens: dict[str, OpenedToken] = {}

    def perform(self, task: Task) -> Answer:
        """Return the answer to ``task``; every deliberate error becomes a failure."""
        try:
            return Answer(parts=self._parts(task))
        except NodeAgentError as error:
            return Answer(failure=str(error), fault=_fault(error))

    def _parts(self, task: Task) -> tuple[bytes, ...]:
        match task:
            case SignTask():
                return (self._tokens[task.token].sign(task),)
            case GenerateTask():
                return self._tokens[task.token].generate(task)
            case DiscardTask():
                self._tokens[task.token].discard(task)
                return ()
            case _:
                self._tokens[task.token] = _open(task)
                return ()

    def close(self) -> None:
        """Log out of every token."""
        for token in self._tokens.values():
            token.close()


def _open(task: OpenTask) -> OpenedToken:
    match task:
        case OpenSoftTask():
            return SoftKeys(task)
        case OpenPkcs11Task():
            try:
                from node_agent.pki.pkcs11_session import Pkcs11Keys
            except ImportError as error:
                raise TokenError(
                    f"crypto token {task.token_name!r} needs the Python package python-pkcs11, "
                    "which isn't installed here; install peersys[pkcs11]"
                ) from error
            return Pkcs11Keys(task)


def _fault(error: NodeAgentError) -> Fault:
    match error:
        case TokenClosed():
            return "closed"
        case TokenLost():
            return "lost"
        case TokenError():
            return "token"
        case _:
            return "config"


def serve(source: IO[bytes], sink: IO[bytes]) -> None:
    """Answer tasks until ``source`` ends."""
    worker = _Worker()
    try:
        _serve(worker, source, sink)
    finally:
        worker.close()


def _serve(worker: _Worker, source: IO[bytes], sink: IO[bytes]) -> None:
    while len(prefix := source.read(4)) == 4:
        size = int.from_bytes(prefix, "big")
        if size > MAX_FRAME_BYTES:
            return
        body = source.read(size)
        if len(body) != size:
            return
        sink.write(encode_frame(worker.perform(decode_task(body))))
        sink.flush()


def main() -> None:
    """Serve standard input and output; leave no core dump with keys in it behind."""
    # An interrupt at the terminal reaches the whole process group; the agent decides when to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    serve(sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
