"""Answers that are given again instead of acting again, for as long as a replay could be valid."""

from __future__ import annotations

import pytest

from node_agent.errors import Conflict
from node_agent.peers import memory
from node_agent.peers.memory import AnswerMemory
from tests.unit.peers.test_envelope import Parties


def test_an_answer_is_given_again_until_its_request_can_no_longer_be_valid() -> None:
    parties = Parties()
    kept = AnswerMemory(parties.clock)
    request = parties.read(parties.request())
    assert kept.recall(request) is None
    kept.remember(request, b"done")
    assert kept.recall(parties.read(parties.request())) == b"done"
    parties.clock.advance(300 + 60)
    assert kept.recall(request) == b"done"
    parties.clock.advance(61)
    assert kept.recall(request) is None


def test_an_id_that_was_used_for_something_else_is_a_conflict() -> None:
    parties = Parties()
    kept = AnswerMemory(parties.clock)
    kept.remember(parties.read(parties.request()), b"done")
    with pytest.raises(Conflict):
        kept.recall(parties.read(parties.request(payload=b"other")))


def test_what_is_kept_is_bounded_in_time_and_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_MAX_ANSWERS", 3)
    parties = Parties()
    kept = AnswerMemory(parties.clock)
    requests = [
        parties.read(
            parties.request(request_id=bytes([number]) * 16), request_id=bytes([number]) * 16
        )
        for number in range(5)
    ]
    for request in requests:
        kept.remember(request, b"done")
    assert [kept.recall(request) for request in requests] == [None, None, b"done", b"done", b"done"]
    parties.clock.advance(1000)
    kept.remember(requests[0], b"again")
    assert len(kept._answers) == 1
