"""Steps of the protocol core: frames, and a whole request between two connections in memory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from node_agent.wire import Connection, HelloInfo, Status, WireSettings
from node_agent.wire.events import RequestReceived
from node_agent.wire.frames import LENGTH_BYTES, Open, decode_frame, encode_frame

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["WIRE_STEPS"]

# A signed enrolment with its CSR and authenticator chain, and the certificate that answers it.
REQUEST_BYTES = 1800
ANSWER_BYTES = 1600


def _frame() -> Open:
    return Open(
        stream=1,
        method="ra.enroll",
        request_id=os.urandom(16),
        deadline_ms=30_000,
        message_bytes=REQUEST_BYTES,
        payload=os.urandom(REQUEST_BYTES),
        end=True,
    )


def _encode() -> Callable[[], object]:
    frame = _frame()
    return lambda: encode_frame(frame)


def _decode() -> Callable[[], object]:
    body = encode_frame(_frame())[LENGTH_BYTES:]
    return lambda: decode_frame(body)


def _round_trip() -> Callable[[], object]:
    client = Connection(WireSettings(), initiator=True, local=HelloInfo("ca1", "ra1"))
    server = Connection(WireSettings(), initiator=False, local=HelloInfo("ra1", "ca1"))
    client.start(0.0)
    server.start(0.0)
    for _ in range(2):
        server.receive_data(client.data_to_send(), 0.0)
        client.receive_data(server.data_to_send(), 0.0)
    client.next_events()
    server.next_events()
    request, answer, request_id = (
        os.urandom(REQUEST_BYTES),
        os.urandom(ANSWER_BYTES),
        os.urandom(16),
    )

    def exchange() -> None:
        client.open_stream("ra.enroll", request, request_id=request_id, deadline_seconds=30.0)
        server.receive_data(client.data_to_send(), 0.0)
        for event in server.next_events():
            assert isinstance(event, RequestReceived)
            server.send_answer(event.stream, Status.OK, answer)
        client.receive_data(server.data_to_send(), 0.0)
        assert client.next_events()

    return exchange


WIRE_STEPS = {
    "wire: encode one request frame": _encode,
    "wire: decode one request frame": _decode,
    "wire: request and answer through both cores": _round_trip,
}
