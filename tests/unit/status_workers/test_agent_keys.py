"""Signing with keys that another process has."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from node_agent.errors import TokenError, Unavailable
from node_agent.objects import SignerSpec
from node_agent.status_workers import agent_keys
from node_agent.status_workers.agent_keys import AgentKey, AgentSignatures, AgentSigners
from node_agent.status_workers.messages import Sign, Signature, SignerView
from tests.support.clock import ManualClock
from tests.support.csrs import issuing_ca, root_ca
from tests.support.event_loop import run

if TYPE_CHECKING:
    from node_agent.pki.keys import SigningKey

CERTIFICATE = issuing_ca().chain[0]
SERIAL = x509.load_der_x509_certificate(CERTIFICATE).serial_number
KEY: SigningKey = AgentKey("issuing", "ec-p256", b"public", CERTIFICATE)


class Asked:
    """What a worker asked the agent for, and its way to ask."""

    def __init__(self) -> None:
        self.orders: list[Sign] = []
        self.signatures = AgentSignatures(self.orders.append)

    async def asking(self, data: bytes) -> asyncio.Task[bytes]:
        """Ask, and let the order leave."""
        task = asyncio.create_task(self.signatures.sign(KEY, data))
        await asyncio.sleep(0)
        return task


def test_answers_find_who_asked_in_any_order() -> None:
    async def scenario() -> None:
        asked = Asked()
        tasks = [await asked.asking(bytes([n])) for n in range(3)]
        for order in reversed(asked.orders):
            assert (order.authority, int.from_bytes(order.serial, "big")) == ("issuing", SERIAL)
            asked.signatures.take(Signature(order.number, b"signed " + order.data))
        assert [await task for task in tasks] == [b"signed " + bytes([n]) for n in range(3)]

    run(scenario())


def test_a_refusal_is_unavailable_and_says_why() -> None:
    async def scenario() -> None:
        asked = Asked()
        task = await asked.asking(b"data")
        asked.signatures.take(Signature(asked.orders[0].number, b"", "the signer was replaced"))
        with pytest.raises(Unavailable, match="was replaced"):
            await task

    run(scenario())


def test_an_agent_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        monkeypatch.setattr(agent_keys, "_SIGN_SECONDS", 0.01)
        asked = Asked()
        task = await asked.asking(b"data")
        with pytest.raises(TimeoutError):
            await task
        asked.signatures.take(Signature(asked.orders[0].number, b"too late"))

    run(scenario())


def test_nothing_is_signed_in_the_worker_itself() -> None:
    for sign in (KEY.sign, KEY.sign_digest):
        with pytest.raises(TokenError, match="the agent's"):
            sign(b"data")


def test_an_answer_that_names_one_signer_is_not_signed_as_anothers() -> None:
    async def scenario() -> None:
        signers, asked = AgentSigners(ManualClock()), Asked()
        spec = SignerSpec(name="s", authority="issuing")
        views = [
            SignerView(spec, "ec-p256", b"public", certificate.chain[0])
            for certificate in (issuing_ca(), root_ca())
        ]
        signers.change(views[:1])
        prepared = signers._active["issuing"]
        signers.change(views[1:])
        task = asyncio.create_task(asked.signatures.sign(prepared.key, b"data"))
        await asyncio.sleep(0)
        assert int.from_bytes(asked.orders[0].serial, "big") == prepared.outline.serial
        signers.change([], ["issuing"])
        assert signers.active("issuing") is None
        asked.signatures.take(Signature(asked.orders[0].number, b"", "the signer was replaced"))
        with pytest.raises(Unavailable):
            await task
        gone = asyncio.create_task(asked.signatures.sign(prepared.key, b"data"))
        await asyncio.sleep(0)
        asked.signatures.take(Signature(asked.orders[1].number, b"", "the signer was replaced"))
        with pytest.raises(Unavailable):
            await gone

    run(scenario())
