"""What status workers are told of signers: what is new to them, and no more."""

from __future__ import annotations

import dataclasses
from typing import Any

from node_agent.functions.signers import ActiveSigner
from node_agent.objects import SignerSpec
from node_agent.status_workers.messages import SignersChanged
from node_agent.status_workers.workers import _send_signers, _Told
from tests.support.csrs import issuing_ca, root_ca


class Worker:
    """Stands for a process: keeps what it was sent."""

    def __init__(self) -> None:
        self.sent: list[SignersChanged] = []

    def send(self, message: SignersChanged) -> None:
        """Keep it."""
        self.sent.append(message)


def signer(name: str) -> ActiveSigner:
    return ActiveSigner(
        SignerSpec(name=name, authority=name), issuing_ca().key, issuing_ca().chain[0]
    )


def tell(worker: Any, told: _Told, *signers: ActiveSigner) -> None:
    now = {one.spec.authority: one for one in signers}
    _send_signers(worker, told, now, now.keys() | told.signers.keys())


def names(message: SignersChanged) -> tuple[str, ...]:
    return tuple(view.spec.authority for view in message.signers)


def test_each_certified_signer_is_told_once_and_alone() -> None:
    worker, told = Worker(), _Told()
    signers: list[ActiveSigner] = []
    for number in range(5):
        signers.append(signer(f"ca{number}"))
        tell(worker, told, *signers)
    assert [names(message) for message in worker.sent] == [(f"ca{n}",) for n in range(5)]


def test_what_is_the_same_is_not_told_again_when_it_was_loaded_anew() -> None:
    worker, told = Worker(), _Told()
    tell(worker, told, signer("a"), signer("b"))
    tell(worker, told, signer("a"), signer("b"))
    assert len(worker.sent) == 1


def test_another_certificate_another_specification_and_an_end_are_told() -> None:
    worker, told = Worker(), _Told()
    first = signer("a")
    tell(worker, told, first, signer("b"))
    tell(worker, told, dataclasses.replace(first, certificate=root_ca().chain[0]), signer("b"))
    other = SignerSpec(name="a", authority="a", validity_seconds=600)
    tell(worker, told, dataclasses.replace(first, spec=other))
    assert [names(message) for message in worker.sent[1:]] == [("a",), ("a",)]
    assert [message.gone for message in worker.sent[1:]] == [(), ("b",)]
    tell(worker, told)
    assert worker.sent[-1] == SignersChanged((), ("a",))
