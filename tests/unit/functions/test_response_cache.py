"""Kept answers: found by request bytes, gone with the certificate's status, bounded in number."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from node_agent.functions.response_cache import ResponseCache
from node_agent.web.backends import OcspAnswer

ANSWER = OcspAnswer(der=b"answer", last_modified=0, expires_at=100, etag="e")


def test_a_kept_answer_is_found_by_the_same_bytes_only() -> None:
    cache = ResponseCache()
    cache.put(b"request", ANSWER, [("ca", 1)])
    kept = cache.get(b"request")
    assert kept is not None
    assert kept.answer is ANSWER
    assert cache.get(b"reques") is None


def test_a_changed_certificate_drops_every_answer_that_speaks_of_it() -> None:
    cache = ResponseCache()
    cache.put(b"one", ANSWER, [("ca", 1)])
    cache.put(b"both", ANSWER, [("ca", 1), ("ca", 2)])
    cache.put(b"other", ANSWER, [("ca", 2)])
    cache.drop_certificate("ca", 1)
    assert cache.get(b"one") is None
    assert cache.get(b"both") is None
    assert cache.get(b"other") is not None


def test_the_same_serial_of_another_ca_is_another_certificate() -> None:
    cache = ResponseCache()
    cache.put(b"request", ANSWER, [("ca", 1)])
    cache.drop_certificate("other", 1)
    assert len(cache) == 1


def test_the_oldest_answer_makes_room() -> None:
    cache = ResponseCache(most_answers=2)
    for number in range(3):
        cache.put(bytes([number]), ANSWER, [("ca", number)])
    assert cache.get(b"\x00") is None
    assert cache.get(b"\x02") is not None


@given(
    st.lists(
        st.one_of(
            st.tuples(
                st.just("put"), st.binary(max_size=1), st.sets(st.integers(0, 3), max_size=3)
            ),
            st.tuples(st.just("drop"), st.integers(0, 3)),
            st.tuples(st.just("clear")),
        ),
        max_size=40,
    )
)
def test_no_answer_outlives_a_change_and_nothing_leaks(steps: list[tuple[object, ...]]) -> None:
    cache, model = ResponseCache(most_answers=3), {}
    for step in steps:
        match step:
            case ("put", bytes(request), set(serials)):
                cache.put(request, ANSWER, [("ca", serial) for serial in serials])
                model[request] = serials
            case ("drop", int(serial)):
                cache.drop_certificate("ca", serial)
                model = {key: value for key, value in model.items() if serial not in value}
            case ("clear",):
                cache.clear()
                model = {}
        assert len(cache) <= 3
        assert all(
            cache.get(key) is None for key in [bytes([n]) for n in range(256)] if key not in model
        )
    assert set(cache._certificates) == set(cache._answers)
    spoken = {key for keys in cache._certificates.values() for key in keys}
    assert set(cache._requests) == spoken
