"""What strangers do to a status port: the real responder, store and signer behind real sockets, in
this process. Nothing crashes, each gets the right status, and nobody a wrong "good".
"""

from __future__ import annotations

import asyncio
import base64
import os
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch
from urllib.parse import quote

from cryptography import x509
from cryptography.x509 import ocsp

from node_agent.config import Address
from node_agent.functions import responder as responder_module
from node_agent.web import status_server
from node_agent.web.listen import bind_tcp
from node_agent.web.status_server import StatusServer
from tests.support.event_loop import run
from tests.unit.functions.test_responder import Serving, request_for, serving
from tests.unit.web.http_client import Answer, Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import pytest

MALFORMED, TRY_LATER, UNAUTHORIZED = (bytes.fromhex(f"30030a010{number}") for number in (1, 3, 6))


@asynccontextmanager
async def port_of(directory: Path) -> AsyncIterator[tuple[Serving, int]]:
    """Yield a VA and its status port, both by the VA's clock."""
    async with serving(directory) as va:
        sockets = bind_tcp(Address("127.0.0.1", 0))
        with patch.object(status_server, "time", SimpleNamespace(time=va.own.clock.now)):
            async with StatusServer(va.responder, sockets) as server:
                yield va, server.addresses[0][1]


async def post(port: int, body: bytes, *, target: str = "/ocsp") -> Answer:
    """Ask on a connection of its own."""
    async with await Client.tcp(port) as client:
        return await client.request("POST", target, body)


async def get(port: int, request: bytes) -> Answer:
    path = f"/ocsp/{quote(base64.b64encode(request).decode(), safe='')}"
    async with await Client.tcp(port) as client:
        return await client.request("GET", path)


def says(answer: Answer) -> str:
    """Return the certificate's status, or the word of an answer without one."""
    assert answer.status == 200
    response = ocsp.load_der_ocsp_response(answer.body)
    if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        return response.response_status.name.lower()
    return response.certificate_status.name.lower()


def test_a_request_that_was_cut_is_malformed_and_never_good(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with port_of(tmp_path) as (va, port):
            whole = request_for(va.issuer, [(await va.issue()).serial_number])
            assert says(await get(port, whole)) == says(await post(port, whole)) == "good"
            text = base64.b64encode(whole).decode()
            async with await Client.tcp(port) as client:
                for end in range(1, len(whole)):
                    answer = await client.request("POST", "/ocsp", whole[:end])
                    assert answer.body == MALFORMED
                for end in range(1, len(text.rstrip("="))):
                    answer = await client.request("GET", f"/ocsp/{quote(text[:end], safe='')}")
                    assert answer.status == 404 or answer.body == MALFORMED, text[:end]

    run(scenario())


def test_a_request_with_a_flipped_bit_gets_no_good(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with port_of(tmp_path) as (va, port), await Client.tcp(port) as client:
            whole = request_for(va.issuer, [(await va.issue()).serial_number])
            for at in range(len(whole)):
                changed = bytearray(whole)
                changed[at] ^= 1 << at % 8
                answer = await client.request("POST", "/ocsp", bytes(changed))
                assert says(answer) in {"malformed_request", "unauthorized", "unknown"}, at

    run(scenario())


def test_what_is_huge_is_refused_before_it_is_read(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with port_of(tmp_path) as (va, port):
            many = request_for(va.issuer, list(range(1, 22)))
            assert (await post(port, many)).body == MALFORMED, "above 20 certificates"
            assert (await post(port, bytes(9000))).status == 413
            head = b"POST /ocsp HTTP/1.1\r\nHost: a\r\nContent-Length: 1%b\r\n\r\n" % (b"0" * 18)
            for data in (head, b"GET /ocsp/" + b"M" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n"):
                async with await Client.tcp(port) as client:
                    await client.send(data)
                    assert (await client.receive()).status in (413, 431)

    run(scenario())


def test_an_issuer_that_nobody_knows_is_answered_unsigned(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with port_of(tmp_path) as (va, port):
            root = x509.load_der_x509_certificate(va.own.authorities.get("root").chain[0])
            signed = va.responder.answers["signed"]
            assert (await post(port, request_for(root, [1]))).body == UNAUTHORIZED
            assert (await get(port, request_for(root, [1]))).body == UNAUTHORIZED
            assert va.responder.answers["signed"] == signed

    run(scenario())


def test_a_method_of_no_use_here_is_told_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with port_of(tmp_path) as (_, port), await Client.tcp(port) as client:
            for method in ("PUT", "DELETE", "OPTIONS", "PATCH", "GET", "HEAD"):
                await client.send(f"{method} /ocsp HTTP/1.1\r\nHost: a\r\n\r\n".encode())
                answer = await client.receive(head=method == "HEAD")
                assert (answer.status, answer.headers["allow"]) == (405, "POST"), method

    run(scenario())


def test_a_flood_of_nonces_is_shed_and_what_is_kept_still_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flood, most = 60, 8
    may_sign = asyncio.Event()

    async def scenario() -> None:
        async with port_of(tmp_path) as (va, port):
            serial = (await va.issue()).serial_number
            known = request_for(va.issuer, [serial])
            assert says(await post(port, known)) == "good"
            sign = va.own.pool.sign

            async def slow(*arguments: Any) -> bytes:
                await may_sign.wait()
                return await sign(*arguments)

            monkeypatch.setattr(va.own.pool, "sign", slow)
            monkeypatch.setattr(responder_module, "_MOST_SIGNINGS", most)
            nonces = [request_for(va.issuer, [serial], nonce=os.urandom(32)) for _ in range(flood)]
            async with asyncio.TaskGroup() as tasks:
                asked = [tasks.create_task(post(port, request)) for request in nonces]
                done: set[asyncio.Task[Answer]] = set()
                while len(done) < flood - most:
                    waiting = [task for task in asked if task not in done]
                    done |= (await asyncio.wait(waiting, return_when="FIRST_COMPLETED"))[0]
                assert {task.result().body for task in done} == {TRY_LATER}
                assert says(await post(port, known)) == "good", "kept answers need no signer"
                may_sign.set()
            bodies = [task.result().body for task in asked]
            assert bodies.count(TRY_LATER) == flood - most
            assert len({body for body in bodies if body != TRY_LATER}) == most, "each its nonce"

    run(scenario())


def test_a_signer_that_expired_signs_nothing_and_keeps_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with port_of(tmp_path) as (va, port):
            request = request_for(va.issuer, [(await va.issue()).serial_number])
            assert says(await post(port, request)) == "good"
            active = va.signers.found
            assert active is not None
            va.own.clock.advance(active.outline.not_after - va.own.clock.now())
            va.signers.found = None  # as Signers.active says of an expired one
            assert (await post(port, request)).body == UNAUTHORIZED
            nonce = request_for(va.issuer, [4711], nonce=b"n" * 16)
            assert (await post(port, nonce)).body == UNAUTHORIZED

    run(scenario())


def test_a_clock_that_stepped_back_gives_no_answer_of_the_future(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with port_of(tmp_path) as (va, port):
            clock = va.own.clock
            serials = [(await va.issue(number)).serial_number for number in (1, 2)]
            good, bad = (request_for(va.issuer, [serial]) for serial in serials)
            await va.revoke(serials[1])
            for seconds in (0, -600, -86400, 90000):
                clock.step(seconds)
                for request, word in ((good, "good"), (bad, "revoked")):
                    for _ in range(2):
                        answer = await post(port, request)
                        assert says(answer) == word
                        response = ocsp.load_der_ocsp_response(answer.body)
                        assert response.this_update_utc.timestamp() <= clock.now()
                        assert response.next_update_utc is not None
                        assert response.next_update_utc.timestamp() > clock.now()

    run(scenario())
