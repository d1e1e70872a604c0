"""Requests, answers and bodies between two cores."""

from __future__ import annotations

import pytest

from node_agent.errors import LocalProtocolError
from node_agent.wire import Code, Status, WireSettings, events, frames
from tests.support.frames import REQUEST_ID, Pair, decoded, make, only

LARGE = bytes(range(256)) * 4096  # 1 MiB: four windows, seventeen frames


def code_of(happened: list[events.Event]) -> int:
    (event,) = only(happened, events.ConnectionEnded)
    return event.code


def test_request_and_answer_cost_one_frame_each() -> None:
    pair = Pair().greet()
    stream = pair.open(b"ping")
    request = pair.dialler.data_to_send()
    assert len(decoded(request)) == 1
    pair.listener.receive_data(request, 100)
    assert pair.listener.next_events() == [
        events.RequestReceived(stream, "ra.enroll", REQUEST_ID, 5.0, b"ping", has_body=False)
    ]
    pair.listener.send_answer(stream, Status.OK, b"pong")
    answer = pair.listener.data_to_send()
    assert len(decoded(answer)) == 1
    pair.dialler.receive_data(answer, 100)
    assert pair.dialler.next_events() == [events.AnswerReceived(stream, Status.OK, b"pong")]
    assert pair.dialler.in_flight == pair.listener.serving == 0


def test_the_listening_end_may_ask_too() -> None:
    pair = Pair().greet()
    stream = pair.listener.open_stream(
        "signer.certify", b"csr", request_id=REQUEST_ID, deadline_seconds=1
    )
    pair.shuttle()
    assert only(pair.dialler.next_events(), events.RequestReceived)[0].stream == stream == 2
    pair.dialler.send_answer(stream, Status.DENIED, b"no")
    pair.shuttle()
    assert pair.listener.next_events() == [events.AnswerReceived(2, Status.DENIED, b"no")]


@pytest.mark.parametrize(
    ("asked", "travels"),
    [(-1.0, 0.0), (0.0, 0.0), (0.0001, 0.001), (1.5, 1.5), (1e9, 86_400.0)],
)
def test_the_deadline_travels_as_time_left(asked: float, travels: float) -> None:
    pair = Pair().greet()
    pair.dialler.open_stream("x", b"", request_id=REQUEST_ID, deadline_seconds=asked)
    pair.shuttle()
    (request,) = pair.listener.next_events()
    assert isinstance(request, events.RequestReceived)
    assert request.deadline_seconds == travels


def test_large_messages_pass_in_both_directions() -> None:
    pair = Pair().greet()
    stream = pair.open(LARGE)
    pair.shuttle()
    (request,) = pair.listener.next_events()
    assert isinstance(request, events.RequestReceived)
    assert (request.message, request.has_body) == (LARGE, False)
    pair.listener.send_answer(stream, Status.OK, LARGE[::-1])
    pair.shuttle()
    assert pair.dialler.next_events() == [events.AnswerReceived(stream, 0, LARGE[::-1])]


def test_a_large_message_never_exceeds_the_window_or_the_frame() -> None:
    pair = Pair().greet()
    pair.open(LARGE)
    sent = decoded(pair.dialler.data_to_send())
    assert sum(len(frame.payload) for frame in sent) == 262_144  # type: ignore[union-attr]
    assert all(len(frames.encode_frame(frame)) <= 65_536 for frame in sent)


def test_a_small_peer_limit_is_obeyed() -> None:
    small = WireSettings(max_frame_bytes=16_384, stream_window_bytes=16_384)
    pair = Pair(listener_settings=small).greet()
    pair.open(LARGE)
    pair.shuttle()
    (request,) = only(pair.listener.next_events(), events.RequestReceived)
    assert request.message == LARGE


def test_a_message_above_the_peers_limit_is_a_local_error() -> None:
    pair = Pair(listener_settings=WireSettings(max_message_bytes=1000)).greet()
    with pytest.raises(LocalProtocolError):
        pair.open(bytes(1001))
    assert pair.dialler.in_flight == 0
    assert pair.dialler.data_to_send() == b""


def test_an_answer_above_the_peers_limit_leaves_the_stream_open() -> None:
    pair = Pair(dialler_settings=WireSettings(max_message_bytes=1000)).greet()
    stream = pair.open()
    pair.shuttle()
    with pytest.raises(LocalProtocolError):
        pair.listener.send_answer(stream, Status.OK, bytes(1001))
    pair.listener.send_answer(stream, Status.INTERNAL, b"")
    pair.shuttle()
    assert only(pair.dialler.next_events(), events.AnswerReceived)[0].status == Status.INTERNAL


@pytest.mark.parametrize("end", [True, False])
def test_a_message_above_our_limit_ends_the_connection(end: bool) -> None:
    pair = Pair(listener_settings=WireSettings(max_message_bytes=1000)).greet()
    happened = pair.tell_listener(
        make(frames.Open, message_bytes=1001, payload=bytes(1001), end=end)
    )
    assert code_of(happened) == Code.FRAME_TOO_LARGE


def test_a_message_that_ends_early_ends_the_connection() -> None:
    pair = Pair().greet()
    happened = pair.tell_listener(make(frames.Open, message_bytes=6, payload=b"hello"))
    assert code_of(happened) == Code.PROTOCOL


def test_an_answer_longer_than_it_said_ends_the_connection() -> None:
    pair = Pair().greet()
    pair.open()
    happened = pair.tell_dialler(make(frames.Answer, message_bytes=1, payload=b"ok"))
    assert code_of(happened) == Code.PROTOCOL


def test_more_bytes_than_the_window_end_the_connection() -> None:
    pair = Pair().greet()
    pair.open(has_body=True)
    pair.shuttle()
    flood = [make(frames.Data, payload=bytes(60_000)) for _ in range(5)]
    assert code_of(pair.tell_listener(*flood)) == Code.FLOW_CONTROL


# Bodies.


def test_a_body_streams_with_flat_memory() -> None:
    pair = Pair().greet()
    stream = pair.open(b"meta", has_body=True)
    total = 0
    for _ in range(100):
        room = pair.dialler.send_body(stream, bytes(100_000))
        while not room:
            pair.shuttle()
            for event in only(pair.listener.next_events(), events.BodyReceived):
                total += len(event.data)
                pair.listener.consumed(stream, len(event.data))
            room = bool(only(pair.dialler.next_events(), events.BodySent))
    assert pair.dialler.send_body(stream, b"", end=True)
    pair.shuttle()
    rest = only(pair.listener.next_events(), events.BodyReceived)
    total += sum(len(event.data) for event in rest)
    assert rest[-1].end
    assert total == 100 * 100_000


def test_a_body_that_is_not_consumed_stops_at_the_window() -> None:
    pair = Pair().greet()
    stream = pair.open(b"", has_body=True)
    assert pair.dialler.send_body(stream, bytes(262_144))
    assert not pair.dialler.send_body(stream, b"one more")
    pair.shuttle()
    held = sum(len(e.data) for e in only(pair.listener.next_events(), events.BodyReceived))
    assert held == 262_144
    pair.listener.consumed(stream, 262_144)
    pair.shuttle()
    assert pair.dialler.next_events() == [events.BodySent(stream)]


def test_message_and_body_may_share_a_frame() -> None:
    pair = Pair().greet()
    happened = pair.tell_listener(make(frames.Open, message_bytes=2, payload=b"hibody", end=True))
    assert happened == [
        events.RequestReceived(1, "ra.enroll", REQUEST_ID, 5.0, b"hi", has_body=True),
        events.BodyReceived(1, b"body", end=True),
    ]


def test_consuming_what_is_gone_or_never_had_a_window_is_harmless() -> None:
    pair = Pair().greet()
    stream = pair.open()
    pair.shuttle()
    pair.listener.consumed(stream, 5)
    pair.listener.consumed(99, 5)
    assert pair.listener.data_to_send() == b""


def test_an_empty_body_ends() -> None:
    pair = Pair().greet()
    stream = pair.open(b"meta", has_body=True)
    pair.dialler.send_body(stream, b"", end=True)
    pair.shuttle()
    _, body = pair.listener.next_events()
    assert body == events.BodyReceived(stream, b"", end=True)
    with pytest.raises(LocalProtocolError):
        pair.dialler.send_body(stream, b"late")


def test_data_after_the_end_is_a_protocol_error() -> None:
    pair = Pair().greet()
    happened = pair.tell_listener(make(frames.Open), make(frames.Data))
    assert code_of(happened) == Code.PROTOCOL


def test_an_answer_may_come_before_the_body_has_ended() -> None:
    pair = Pair().greet()
    stream = pair.open(b"", has_body=True)
    pair.shuttle()
    pair.listener.send_answer(stream, Status.DENIED, b"no")
    pair.dialler.send_body(stream, b"on its way")
    pair.shuttle()
    answers = only(pair.dialler.next_events(), events.AnswerReceived)
    assert answers[0].status == Status.DENIED
    assert not pair.listener.is_closed, "what was on its way is ignored"
    assert pair.dialler.in_flight == pair.listener.serving == 0


def test_a_large_answer_may_start_before_the_body_has_ended() -> None:
    pair = Pair().greet()
    stream = pair.open(b"", has_body=True)
    pair.shuttle()
    pair.listener.send_answer(stream, Status.OK, LARGE)
    pair.dialler.send_body(stream, b"tail", end=True)
    pair.shuttle()
    assert only(pair.dialler.next_events(), events.AnswerReceived)[0].message == LARGE


# Cancelling.


def test_cancel_frees_the_credit_at_both_ends() -> None:
    pair = Pair(listener_settings=WireSettings(credits=1)).greet()
    stream = pair.open()
    pair.dialler.cancel(stream)
    assert pair.dialler.available_credits == 1
    again = pair.open()
    pair.shuttle()
    happened = pair.listener.next_events()
    assert only(happened, events.StreamCancelled) == [
        events.StreamCancelled(stream, Code.CANCELLED)
    ]
    assert pair.listener.has_stream(again)
    assert not pair.listener.has_stream(stream)


def test_what_crosses_a_cancel_is_ignored() -> None:
    pair = Pair().greet()
    stream = pair.open()
    pair.shuttle()
    pair.listener.send_answer(stream, Status.OK, b"late")
    pair.dialler.cancel(stream)
    pair.shuttle()
    assert only(pair.dialler.next_events(), events.AnswerReceived) == []
    assert not pair.dialler.is_closed
    assert not pair.listener.is_closed


def test_the_answering_end_may_cancel() -> None:
    pair = Pair().greet()
    stream = pair.open(LARGE)
    pair.shuttle()
    pair.listener.cancel(stream, Code.INTERNAL)
    pair.shuttle()
    assert only(pair.dialler.next_events(), events.StreamCancelled) == [
        events.StreamCancelled(stream, Code.INTERNAL)
    ]
    assert pair.dialler.in_flight == pair.listener.serving == 0


@pytest.mark.parametrize(
    "frame",
    [
        make(frames.Data, stream=5),
        make(frames.Answer, stream=5),
        make(frames.Cancel, stream=5),
        make(frames.Window, stream=5),
        make(frames.Answer, stream=2),
        make(frames.Data, stream=2),
    ],
)
def test_frames_on_a_stream_that_never_was_end_the_connection(frame: frames.Frame) -> None:
    pair = Pair().greet()
    assert code_of(pair.tell_listener(frame)) == Code.PROTOCOL


@pytest.mark.parametrize("stream", [2, 1])
def test_a_stream_id_of_the_wrong_end_or_used_before_is_refused(stream: int) -> None:
    pair = Pair().greet()
    happened = pair.tell_listener(make(frames.Open, stream=1), make(frames.Open, stream=stream))
    assert code_of(happened) == Code.PROTOCOL


def test_an_answer_to_the_peers_own_request_is_refused() -> None:
    pair = Pair().greet()
    happened = pair.tell_listener(make(frames.Open), make(frames.Answer))
    assert code_of(happened) == Code.PROTOCOL


def test_a_window_that_grows_too_large_ends_the_connection() -> None:
    pair = Pair().greet()
    stream = pair.open(b"", has_body=True)
    happened = pair.tell_dialler(make(frames.Window, stream=stream, size=2**31 - 1))
    assert code_of(happened) == Code.FLOW_CONTROL


def test_a_window_for_what_has_ended_is_harmless() -> None:
    pair = Pair().greet()
    stream = pair.open()
    assert pair.tell_dialler(make(frames.Window, stream=stream)) == []


# The message budget.


def test_large_messages_share_the_budget_and_none_starves() -> None:
    tight = WireSettings(message_budget_bytes=len(LARGE), credits=10)
    pair = Pair(listener_settings=tight).greet()
    streams = [pair.open(LARGE) for _ in range(10)]
    arrived: list[int] = []
    while len(arrived) < 10:
        pair.shuttle()
        ready = only(pair.listener.next_events(), events.RequestReceived)
        assert len(ready) == 1, "one message at a time fits the budget"
        arrived.append(ready[0].stream)
        pair.listener.send_answer(ready[0].stream, Status.OK, b"")
    assert arrived == streams


def test_cancelling_a_waiting_message_lets_the_next_one_in() -> None:
    tight = WireSettings(message_budget_bytes=len(LARGE), credits=10)
    pair = Pair(listener_settings=tight).greet()
    first, second, third = (pair.open(LARGE) for _ in range(3))
    pair.shuttle()
    pair.dialler.cancel(second)
    pair.shuttle()
    pair.listener.send_answer(first, Status.OK, b"")
    pair.shuttle()
    arrived = [e.stream for e in only(pair.listener.next_events(), events.RequestReceived)]
    assert arrived == [first, third]
