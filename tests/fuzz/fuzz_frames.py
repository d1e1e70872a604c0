"""Fuzz the peer protocol: any bytes end a connection properly or keep it going, and never raise.

Run for as long as you like:
``python tests/fuzz/fuzz_frames.py tests/fuzz/corpus/frames -max_total_time=60``.
``tests/fuzz/test_short_runs.py`` runs it for a moment.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["node_agent.wire"]):
    from node_agent.wire import Connection, HelloInfo, WireSettings, events, frames
    from node_agent.wire.frames import decode_frame, encode_frame

from node_agent.errors import LocalProtocolError, RemoteProtocolError

_NODE, _PEER = "spiffe://test.example/node/ra1", "spiffe://test.example/node/ca1"
_HELLO = encode_frame(frames.Hello(1, 1, _PEER, 65_536, 4_194_304, 262_144, 50))
_SETTINGS = WireSettings(credits=4, max_message_bytes=100_000, message_budget_bytes=100_000)


def check(data: bytes) -> None:
    """Take ``data`` as one frame, then as the rest of a conversation, cut as it says."""
    check_codec(data)
    source = atheris.FuzzedDataProvider(data)
    core = Connection(_SETTINGS, initiator=False, local=HelloInfo(_NODE, _PEER))
    core.start(0.0)
    if source.ConsumeBool():
        core.receive_data(_HELLO, 0.0)
    now = 0.0
    while source.remaining_bytes():
        now += source.ConsumeIntInRange(0, 3)
        received = pick(source)
        core.receive_data(received, now)
        use(core, core.next_events(), now)
        core.tick(now)
    core.receive_eof()
    if not core.is_closed:
        raise AssertionError("a connection without a transport is open")


def pick(source: atheris.FuzzedDataProvider) -> bytes:
    """Return bytes of any kind, framed bytes of any kind, or a frame with fields of any value."""
    kind = source.ConsumeIntInRange(0, 12)
    stream = source.ConsumeIntInRange(1, 9)
    number = source.ConsumeIntInRange(0, 70_000)
    chunk = source.ConsumeBytes(source.ConsumeIntInRange(0, 60))
    end = source.ConsumeBool()
    made: frames.Frame
    match kind:
        case 0:
            return chunk
        case 1:
            return len(chunk).to_bytes(4, "big") + chunk
        case 2 | 3:
            whole = len(chunk) if end else number
            made = frames.Open(stream, "x", bytes(16), number, whole, chunk, end)
        case 4 | 5:
            made = frames.Data(stream, chunk * (number % 50 + 1), end)
        case 6 | 7:
            whole = len(chunk) if end else number
            made = frames.Answer(stream, number % 9, whole, chunk, end)
        case 8:
            made = frames.Window(stream, number + 1)
        case 9:
            made = frames.Cancel(stream, number % 20)
        case 10:
            made = frames.Credits(number % 60)
        case 11:
            made = frames.Pong(number.to_bytes(8, "big"))
        case _:
            made = frames.GoAway(number % 3, stream, "")
    return encode_frame(made)


def check_codec(data: bytes) -> None:
    """What decodes must encode to something that decodes to the same."""
    try:
        frame = decode_frame(data)
    except RemoteProtocolError:
        return
    if decode_frame(encode_frame(frame)[4:]) != frame:
        raise AssertionError(frame)


def use(core: Connection, happened: list[events.Event], now: float) -> None:
    """Behave like a shell: answer, consume, ask, and look at the limits."""
    for event in happened:
        if isinstance(event, events.RequestReceived) and core.has_stream(event.stream):
            core.send_answer(event.stream, 0, event.message)
        elif isinstance(event, events.BodyReceived):
            core.consumed(event.stream, len(event.data))
        elif isinstance(event, events.ConnectionEnded) and not core.is_closed:
            raise AssertionError("ended, and yet open")
    if core.serving > _SETTINGS.credits:
        raise AssertionError("more requests than credits")
    if core.available_credits:
        try:
            core.open_stream("x", b"hi", request_id=bytes(16), deadline_seconds=now)
        except LocalProtocolError as error:
            if "the peer takes" not in str(error):  # its message limit may be anything
                raise
    core.data_to_send()


def main() -> None:
    """Hand over to libFuzzer."""
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
