"""Two cores under random use: nothing is lost, nothing leaks, no limit is passed."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from node_agent.wire import Connection, Status, WireSettings, events
from tests.support.frames import REQUEST_ID, Pair

SIZES = st.one_of(st.integers(0, 100), st.integers(0, 400_000))
SMALL = WireSettings(
    max_frame_bytes=16_384,
    stream_window_bytes=20_000,
    message_budget_bytes=300_000,
    max_message_bytes=400_000,
    credits=4,
)


class _End:
    """One core and what its user knows of it."""

    def __init__(self, core: Connection) -> None:
        self.core = core
        self.asked: dict[int, bytes] = {}
        self.serving: dict[int, bytes] = {}
        self.answers: dict[int, bytes] = {}


class TwoCores(RuleBasedStateMachine):
    """Both ends ask, answer and cancel in any order; bytes travel when they travel."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair(dialler_settings=SMALL, listener_settings=SMALL).greet()
        self.ends = [_End(self.pair.dialler), _End(self.pair.listener)]
        self.sent_answers: dict[tuple[int, int], bytes] = {}

    @rule(side=st.integers(0, 1), size=SIZES)
    def ask(self, side: int, size: int) -> None:
        end = self.ends[side]
        if end.core.available_credits:
            message = bytes([size % 251]) * size
            stream = end.core.open_stream("x", message, request_id=REQUEST_ID, deadline_seconds=1)
            end.asked[stream] = message

    @rule(side=st.integers(0, 1), size=SIZES, pick=st.integers(0, 100))
    def answer(self, side: int, size: int, pick: int) -> None:
        end = self.ends[side]
        if end.serving:
            stream = sorted(end.serving)[pick % len(end.serving)]
            del end.serving[stream]
            message = bytes([size % 241]) * size
            self.sent_answers[1 - side, stream] = message
            end.core.send_answer(stream, Status.OK, message)

    @rule(side=st.integers(0, 1), pick=st.integers(0, 100))
    def cancel(self, side: int, pick: int) -> None:
        end = self.ends[side]
        if end.asked:
            stream = sorted(end.asked)[pick % len(end.asked)]
            del end.asked[stream]
            end.core.cancel(stream)

    @rule(side=st.integers(0, 1), cut=st.integers(1, 50_000))
    def carry(self, side: int, cut: int) -> None:
        data = self.ends[side].core.data_to_send()
        other = self.ends[1 - side]
        for start in range(0, len(data), cut):
            other.core.receive_data(data[start : start + cut], self.pair.now)
        self.listen(1 - side)

    @precondition(lambda self: any(end.asked for end in self.ends))
    @rule()
    def settle(self) -> None:
        """With bytes travelling and every request answered, every request ends."""
        for _ in range(200):
            if not any(end.asked for end in self.ends):
                return
            for side in (0, 1):
                self.carry(side, 50_000)
                while self.ends[side].serving:
                    self.answer(side, 10, 0)
        raise AssertionError("the two ends stand still")

    @invariant()
    def limits_hold(self) -> None:
        for end in self.ends:
            assert not end.core.is_closed
            assert end.core.in_flight == len(end.asked)
            assert end.core.in_flight <= SMALL.credits
            assert end.core.serving <= SMALL.credits

    def listen(self, side: int) -> None:
        end, other = self.ends[side], self.ends[1 - side]
        for event in end.core.next_events():
            match event:
                case events.RequestReceived(stream=stream, message=message):
                    if stream in other.asked:
                        assert message == other.asked[stream]
                    end.serving[stream] = message
                case events.AnswerReceived(stream=stream, message=message):
                    assert message == self.sent_answers.pop((side, stream))
                    del end.asked[stream]
                case events.StreamCancelled(stream=stream):
                    end.serving.pop(stream, None)
                case _:
                    raise AssertionError(event)


TestTwoCores = TwoCores.TestCase
TestTwoCores.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
