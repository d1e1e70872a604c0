"""A connection from Hello to its end."""

from __future__ import annotations

import pytest

from node_agent.errors import ConfigError, LocalProtocolError
from node_agent.wire import Code, ConnectionState, Status, WireSettings, events, frames
from node_agent.wire.frames import encode_frame
from tests.support.frames import DIALLER, LISTENER, Pair, decoded, make, only


def ended(happened: list[events.Event]) -> events.ConnectionEnded:
    (event,) = only(happened, events.ConnectionEnded)
    return event


def test_both_ends_are_open_after_hello() -> None:
    pair = Pair()
    pair.dialler.start(0)
    pair.listener.start(0)
    pair.shuttle()
    assert pair.dialler.next_events() == [events.HelloReceived(LISTENER, 1)]
    assert pair.listener.next_events() == [events.HelloReceived(DIALLER, 1)]
    assert pair.dialler.state is pair.listener.state is ConnectionState.OPEN
    assert pair.dialler.available_credits == pair.listener.available_credits == 50


def test_the_listening_end_says_nothing_before_the_dialler() -> None:
    pair = Pair()
    pair.listener.start(0)
    assert pair.listener.data_to_send() == b""


def test_hello_must_name_the_node_of_the_certificate() -> None:
    pair = Pair()
    pair.listener.start(0)
    happened = pair.tell_listener(make(frames.Hello, node="spiffe://test.example/node/other"))
    assert ended(happened).code == Code.IDENTITY
    (answer,) = decoded(pair.listener.data_to_send())
    assert isinstance(answer, frames.GoAway)
    assert answer.code == Code.IDENTITY


def test_the_lower_of_the_highest_versions_is_used() -> None:
    pair = Pair()
    pair.listener.start(0)
    happened = pair.tell_listener(make(frames.Hello, highest_version=9))
    assert happened == [events.HelloReceived(DIALLER, 1)]


def test_no_common_version_ends_the_connection() -> None:
    pair = Pair()
    pair.listener.start(0)
    happened = pair.tell_listener(make(frames.Hello, lowest_version=2, highest_version=9))
    assert ended(happened).code == Code.VERSION


@pytest.mark.parametrize(
    "limits",
    [
        {"max_frame_bytes": 16_383},
        {"stream_window_bytes": 65_023},
        {"max_frame_bytes": 20_000, "stream_window_bytes": 19_487},
    ],
)
def test_limits_below_the_minimum_are_refused(limits: dict[str, int]) -> None:
    pair = Pair()
    pair.listener.start(0)
    assert ended(pair.tell_listener(make(frames.Hello, **limits))).code == Code.PROTOCOL


@pytest.mark.parametrize(
    "frame",
    [make(kind) for kind in (frames.Open, frames.Data, frames.Ping, frames.Credits)],
)
def test_nothing_comes_before_hello(frame: frames.Frame) -> None:
    pair = Pair()
    pair.listener.start(0)
    assert ended(pair.tell_listener(frame)).code == Code.PROTOCOL


def test_hello_twice_is_refused() -> None:
    pair = Pair().greet()
    assert ended(pair.tell_listener(make(frames.Hello))).code == Code.PROTOCOL


def test_hello_timeout_ends_the_connection() -> None:
    pair = Pair()
    pair.listener.start(100)
    assert pair.listener.next_deadline == 110
    pair.listener.tick(109.9)
    assert not pair.listener.is_closed
    pair.listener.tick(110)
    assert ended(pair.listener.next_events()).code == Code.HELLO_TIMEOUT


def test_bytes_that_are_not_frames_end_the_connection() -> None:
    pair = Pair().greet()
    pair.listener.receive_data(b"GET / HTTP/1.1\r\n\r\n", 100)
    event = ended(pair.listener.next_events())
    assert event.code == Code.FRAME_TOO_LARGE
    assert event.error is not None
    assert event.error.code == Code.FRAME_TOO_LARGE
    pair.listener.receive_data(b"more", 100)
    assert pair.listener.next_events() == []


def test_silence_is_asked_about_and_then_ends_the_session() -> None:
    pair = Pair().greet()
    assert pair.dialler.next_deadline == 115
    pair.dialler.tick(115)
    (ping,) = decoded(pair.dialler.data_to_send())
    assert isinstance(ping, frames.Ping)
    assert pair.dialler.next_deadline == 125
    pair.dialler.tick(124)
    assert not pair.dialler.is_closed
    pair.dialler.tick(125)
    assert ended(pair.dialler.next_events()).code == Code.KEEP_ALIVE


def test_anything_heard_keeps_the_session_alive() -> None:
    pair = Pair().greet()
    pair.dialler.tick(115)
    pair.now = 124
    pair.tell_dialler(make(frames.Demand))
    pair.dialler.tick(125)
    assert not pair.dialler.is_closed
    assert pair.dialler.next_deadline == 134


def test_a_ping_from_the_other_end_spares_our_own() -> None:
    pair = Pair().greet()
    pair.now = 114
    pair.tell_dialler(make(frames.Ping))
    pair.dialler.data_to_send()
    pair.dialler.tick(115)
    assert pair.dialler.data_to_send() == b""
    assert pair.dialler.next_deadline == 129


def test_a_ping_goes_out_while_something_is_not_known_to_be_read() -> None:
    pair = Pair().greet()
    pair.open()
    pair.now = 114
    pair.tell_dialler(make(frames.Ping))
    pair.dialler.data_to_send()
    pair.dialler.tick(115)
    (ping,) = decoded(pair.dialler.data_to_send())
    assert isinstance(ping, frames.Ping)


def test_a_ping_goes_out_again_after_each_pong() -> None:
    pair = Pair().greet()
    for at in (115, 130, 145):
        pair.now = at
        pair.dialler.tick(at)
        pair.shuttle()
        assert len(only(pair.dialler.next_events(), events.PongReceived)) == 1
        assert pair.dialler.next_deadline == at + 15


def test_a_peer_that_talks_but_never_reads_ends_the_session() -> None:
    pair = Pair().greet()
    pair.dialler.tick(115)
    for at in range(116, 145):
        pair.now = at
        pair.tell_dialler(make(frames.Demand))
        pair.dialler.tick(at)
        assert not pair.dialler.is_closed
    pair.dialler.tick(145)
    assert ended(pair.dialler.next_events()).code == Code.WRITE_STALLED


@pytest.mark.parametrize("proof", [frames.Window, frames.Answer])
def test_a_slow_reader_that_gets_on_is_never_cut_off(proof: type[frames.Frame]) -> None:
    pair = Pair().greet()
    streams = [pair.open(has_body=True) for _ in range(20)]
    pair.dialler.tick(115)
    for number, stream in enumerate(streams):
        pair.now = 115 + number * 9
        pair.tell_dialler(make(proof, stream=stream))
        pair.dialler.tick(pair.now)
        assert not pair.dialler.is_closed


def test_a_peer_that_does_not_read_ends_the_session() -> None:
    pair = Pair().greet()
    pair.dialler.writing_blocked(100)
    pair.dialler.writing_blocked(110)
    pair.now = 129
    pair.tell_dialler(make(frames.Demand))  # it still talks
    pair.dialler.tick(129.9)
    assert not pair.dialler.is_closed
    pair.dialler.tick(130)
    assert ended(pair.dialler.next_events()).code == Code.WRITE_STALLED


def test_writing_that_resumes_in_time_is_no_stall() -> None:
    pair = Pair().greet()
    pair.dialler.writing_blocked(100)
    pair.dialler.writing_resumed()
    pair.now = 120
    pair.tell_dialler(make(frames.Demand))
    pair.dialler.tick(130)
    assert not pair.dialler.is_closed


@pytest.mark.parametrize(("deadline_ms", "seconds"), [(86_400_000, 30), (2000, 7), (0, 5)])
def test_a_message_that_does_not_end_ends_the_connection(deadline_ms: int, seconds: int) -> None:
    """As long as the request has, and a while for its Cancel; more pieces don't make it longer."""
    pair = Pair().greet()
    opening = make(frames.Open, deadline_ms=deadline_ms, payload=b"", message_bytes=500, end=False)
    assert pair.tell_listener(opening) == []
    due = pair.now + seconds
    assert pair.listener.message_due == due
    assert pair.listener.next_deadline == min(due, pair.now + 15)
    pair.now = due - 0.1
    assert pair.tell_listener(make(frames.Data, payload=b"more")) == []
    pair.listener.tick(pair.now)
    assert not pair.listener.is_closed
    pair.listener.tick(due)
    assert ended(pair.listener.next_events()).code == Code.MESSAGE_STALLED


@pytest.mark.parametrize("last", [frames.Data, frames.Cancel])
def test_a_message_that_ends_in_time_is_waited_for_no_more(last: type[frames.Frame]) -> None:
    pair = Pair().greet()
    pair.tell_listener(make(frames.Open, payload=b"", message_bytes=4, end=False))
    pair.tell_listener(make(last))
    assert pair.listener.message_due is None
    pair.listener.tick(pair.now + 14)
    assert not pair.listener.is_closed


def test_a_message_that_waits_for_room_has_its_time_still() -> None:
    """What holds the room may take as long as its handler does."""
    room = 300_000
    settings = WireSettings(message_budget_bytes=room, keep_alive_seconds=1000)
    pair = Pair(listener_settings=settings, dialler_settings=settings).greet()
    first, second = (pair.open(bytes(room)) for _ in range(2))
    pair.shuttle()
    assert [
        event.stream for event in only(pair.listener.next_events(), events.RequestReceived)
    ] == [first]
    pair.now += 100
    pair.listener.tick(pair.now)
    assert not pair.listener.is_closed
    pair.listener.send_answer(first, 0, b"ok")
    pair.shuttle()
    (request,) = only(pair.listener.next_events(), events.RequestReceived)
    assert request.stream == second
    assert pair.listener.message_due is None


def test_ping_measures_the_round_trip() -> None:
    pair = Pair().greet()
    token = pair.dialler.ping(100)
    pair.now = 100.25
    pair.shuttle()
    assert pair.dialler.next_events() == [events.PongReceived(token, 0.25)]


def test_unasked_pong_is_ignored() -> None:
    pair = Pair().greet()
    assert pair.tell_dialler(make(frames.Pong, token=b"whatever")) == []


def test_a_closed_core_takes_what_comes_late() -> None:
    pair = Pair()
    pair.dialler.writing_blocked(100)
    pair.dialler.writing_resumed()
    pair.greet()
    stream = pair.open()
    pair.dialler.fail(Code.INTERNAL, "")
    pair.dialler.fail(Code.INTERNAL, "")
    pair.dialler.consumed(stream, 10)
    pair.dialler.writing_blocked(100)
    assert not pair.dialler.has_stream(stream)
    assert len(pair.dialler.next_events()) == 1
    with pytest.raises(LocalProtocolError):
        pair.dialler.go_away()


def test_saying_the_same_twice_is_said_once() -> None:
    pair = Pair().greet()
    pair.open()
    pair.dialler.set_credits(50)
    pair.dialler.go_away()
    pair.dialler.go_away()
    assert [type(frame) for frame in decoded(pair.dialler.data_to_send())] == [
        frames.Open,
        frames.GoAway,
    ]


def test_unanswered_pings_are_bounded() -> None:
    pair = Pair().greet()
    for _ in range(100):
        pair.dialler.ping(100)
    with pytest.raises(LocalProtocolError):
        pair.dialler.ping(100)


@pytest.mark.parametrize(
    "frame",
    [
        make(frames.Ping),
        make(frames.Pong),
        make(frames.Credits),
        make(frames.Demand),
    ],
)
def test_a_flood_of_control_frames_ends_the_connection(frame: frames.Frame) -> None:
    pair = Pair().greet()
    pair.listener.receive_data(encode_frame(frame) * 10_001, 100)
    happened = pair.listener.next_events()
    assert ended(happened).code == Code.TOO_MUCH


def test_a_flood_of_empty_data_ends_the_connection() -> None:
    pair = Pair().greet()
    pair.open(has_body=True)
    pair.shuttle()
    pair.listener.receive_data(encode_frame(make(frames.Data, payload=b"")) * 10_001, 100)
    assert ended(pair.listener.next_events()).code == Code.TOO_MUCH


def test_rapid_reset_ends_the_connection() -> None:
    pair = Pair().greet()
    reset = b"".join(
        encode_frame(make(frames.Open, stream=stream))
        + encode_frame(make(frames.Cancel, stream=stream))
        for stream in range(1, 10_003, 2)
    )
    pair.listener.receive_data(reset, 100)
    assert ended(pair.listener.next_events()).code == Code.TOO_MUCH


def test_demand_is_told_once_per_change() -> None:
    pair = Pair().greet()
    pair.dialler.announce_queue(4)
    pair.dialler.announce_queue(4)
    data = pair.dialler.data_to_send()
    assert decoded(data) == [frames.Demand(4)]
    pair.listener.receive_data(data, 100)
    assert pair.listener.next_events() == [events.DemandReceived(4)]
    assert pair.listener.peer_queued == 4


# Credits.


def test_requests_beyond_the_credits_are_a_local_error() -> None:
    pair = Pair(listener_settings=WireSettings(credits=2)).greet()
    pair.open()
    pair.open()
    assert pair.dialler.available_credits == 0
    with pytest.raises(LocalProtocolError):
        pair.open()
    assert pair.dialler.in_flight == 2


def test_requests_beyond_the_credits_end_the_connection() -> None:
    pair = Pair(listener_settings=WireSettings(credits=1)).greet()
    happened = pair.tell_listener(make(frames.Open), make(frames.Open, stream=3))
    assert ended(happened).code == Code.CREDITS_EXCEEDED


def test_an_answer_frees_the_credit() -> None:
    pair = Pair(listener_settings=WireSettings(credits=1)).greet()
    stream = pair.open()
    pair.shuttle()
    pair.listener.send_answer(stream, Status.OK, b"")
    pair.shuttle()
    assert pair.dialler.available_credits == 1
    assert pair.listener.serving == 0


def test_more_credits_can_be_used_at_once() -> None:
    pair = Pair(listener_settings=WireSettings(credits=1)).greet()
    pair.listener.set_credits(3)
    pair.shuttle()
    assert pair.listener.granted_credits == 3
    assert pair.dialler.available_credits == 3
    assert pair.dialler.next_events() == [events.CreditsChanged()]


def test_fewer_credits_do_not_punish_requests_on_their_way() -> None:
    pair = Pair(listener_settings=WireSettings(credits=3)).greet()
    for _ in range(3):
        pair.open()  # sent before the lower grant is read
    pair.listener.set_credits(1)
    pair.shuttle()
    assert not pair.listener.is_closed
    assert pair.listener.serving == 3
    assert pair.dialler.available_credits == 0


def test_fewer_credits_are_enforced_once_read() -> None:
    pair = Pair(listener_settings=WireSettings(credits=3)).greet()
    pair.listener.set_credits(1)
    pair.shuttle()
    happened = pair.tell_listener(make(frames.Open), make(frames.Open, stream=3))
    assert ended(happened).code == Code.CREDITS_EXCEEDED


# Going away.


def test_drain_waits_for_open_streams_and_ends_both_ends() -> None:
    pair = Pair().greet()
    stream = pair.open()
    pair.shuttle()
    pair.listener.next_events()
    pair.listener.go_away("restart")
    pair.shuttle()
    assert only(pair.dialler.next_events(), events.DrainStarted)[0].reason == "restart"
    assert pair.dialler.available_credits == 0
    with pytest.raises(LocalProtocolError):
        pair.open()
    pair.listener.send_answer(stream, Status.OK, b"done")
    pair.shuttle()
    happened = pair.dialler.next_events()
    assert only(happened, events.AnswerReceived)[0].message == b"done"
    assert ended(happened).code == Code.NONE
    assert pair.listener.is_closed


def test_a_request_that_crosses_go_away_is_refused_and_safe_to_repeat() -> None:
    pair = Pair().greet()
    stream = pair.open()
    pair.listener.go_away()
    pair.shuttle()
    refused = only(pair.dialler.next_events(), events.StreamCancelled)
    assert refused == [events.StreamCancelled(stream, Code.REFUSED)]
    assert only(pair.listener.next_events(), events.RequestReceived) == []
    assert pair.dialler.is_closed
    assert pair.listener.is_closed


def test_requests_up_to_last_stream_are_still_answered() -> None:
    pair = Pair().greet()
    first = pair.open()
    pair.shuttle()
    second = pair.open()
    pair.listener.go_away()
    pair.shuttle()
    pair.listener.send_answer(first, Status.OK, b"")
    pair.shuttle()
    happened = pair.dialler.next_events()
    assert [event.stream for event in only(happened, events.AnswerReceived)] == [first]
    assert [event.stream for event in only(happened, events.StreamCancelled)] == [second]


def test_both_ends_may_go_away_at_once() -> None:
    pair = Pair().greet()
    pair.dialler.go_away()
    pair.listener.go_away()
    pair.shuttle()
    assert pair.dialler.is_closed
    assert pair.listener.is_closed
    assert ended(pair.dialler.next_events()).code == Code.NONE


def test_a_request_after_go_away_is_a_protocol_error() -> None:
    pair = Pair().greet()
    stream = pair.listener.open_stream(
        "x", b"", request_id=bytes(16), deadline_seconds=1
    )  # keeps the connection from ending at once
    happened = pair.tell_listener(make(frames.GoAway, last_stream=stream), make(frames.Open))
    assert ended(happened).code == Code.PROTOCOL


def test_go_away_twice_is_a_protocol_error() -> None:
    pair = Pair().greet()
    pair.listener.open_stream("x", b"", request_id=bytes(16), deadline_seconds=1)
    goodbye = make(frames.GoAway, last_stream=2)
    assert ended(pair.tell_listener(goodbye, goodbye)).code == Code.PROTOCOL


def test_go_away_with_an_error_ends_at_once() -> None:
    pair = Pair().greet()
    pair.open()
    happened = pair.tell_dialler(make(frames.GoAway, code=Code.UNTRUSTED, reason="revoked"))
    assert ended(happened) == events.ConnectionEnded(Code.UNTRUSTED, "revoked", by_peer=True)


def test_go_away_before_hello_says_why() -> None:
    pair = Pair()
    pair.dialler.start(100)
    happened = pair.tell_dialler(make(frames.GoAway, code=Code.UNTRUSTED, reason="revoked"))
    assert ended(happened).reason == "revoked"


def test_a_code_that_is_not_known_here_is_kept() -> None:
    pair = Pair().greet()
    assert ended(pair.tell_dialler(make(frames.GoAway, code=4711))).reason == "4711"


def test_fail_tells_the_peer_why() -> None:
    pair = Pair().greet()
    pair.listener.fail(Code.UNTRUSTED, "revoked")
    pair.shuttle()
    event = ended(pair.dialler.next_events())
    assert (event.code, event.reason, event.by_peer) == (Code.UNTRUSTED, "revoked", True)
    pair.listener.fail(Code.UNTRUSTED, "again")
    assert pair.listener.data_to_send() == b""


def test_go_away_before_hello_closes() -> None:
    pair = Pair()
    pair.dialler.start(100)
    pair.dialler.go_away("not now")
    assert ended(pair.dialler.next_events()).reason == "not now"


def test_the_end_of_the_transport_ends_the_connection_once() -> None:
    pair = Pair().greet()
    pair.dialler.receive_eof()
    pair.dialler.receive_eof()
    assert ended(pair.dialler.next_events()).by_peer
    assert pair.dialler.next_deadline is None
    pair.dialler.tick(1e9)
    assert pair.dialler.next_events() == []


# Misuse.


def test_misuse_raises_and_changes_nothing() -> None:
    pair = Pair()
    with pytest.raises(LocalProtocolError):
        pair.dialler.receive_data(b"", 1)
    with pytest.raises(LocalProtocolError):
        pair.open()
    with pytest.raises(LocalProtocolError):
        pair.dialler.announce_queue(1)
    pair.dialler.tick(1e9)
    pair.greet()
    with pytest.raises(LocalProtocolError):
        pair.dialler.start(100)
    with pytest.raises(LocalProtocolError):
        pair.dialler.send_answer(1, 0, b"")
    with pytest.raises(LocalProtocolError):
        pair.dialler.cancel(1)
    stream = pair.open()
    with pytest.raises(LocalProtocolError):
        pair.dialler.send_answer(stream, 0, b"")
    with pytest.raises(LocalProtocolError):
        pair.dialler.send_body(stream, b"unannounced")
    assert pair.dialler.state is ConnectionState.OPEN
    assert pair.dialler.in_flight == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_frame_bytes": 16_383},
        {"stream_window_bytes": 10_000},
        {"keep_alive_seconds": 0},
        {"keep_alive_timeout_seconds": -1},
        {"hello_timeout_seconds": 0},
        {"write_stall_seconds": 0},
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        WireSettings(**wrong)  # type: ignore[arg-type]
