"""Kept answers: found by request bytes, gone with the certificate's status, bounded in memory."""

from __future__ import annotations

import os
import tracemalloc
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from node_agent.functions.response_cache import ResponseCache
from node_agent.web.backends import OcspAnswer

ANSWER = OcspAnswer(der=b"answer", last_modified=0, expires_at=100, etag="e")


def test_a_kept_answer_is_found_by_the_same_bytes_only() -> None:
    cache = ResponseCache()
    cache.put(b"request", ANSWER, [("ca", 1)], signer=9)
    kept = cache.get(b"request")
    assert kept is not None
    assert kept.answer is ANSWER
    assert cache.get(b"reques") is None


def test_a_changed_certificate_drops_every_answer_that_speaks_of_it() -> None:
    cache = ResponseCache()
    cache.put(b"one", ANSWER, [("ca", 1)], signer=9)
    cache.put(b"both", ANSWER, [("ca", 1), ("ca", 2)], signer=9)
    cache.put(b"other", ANSWER, [("ca", 2)], signer=9)
    cache.drop_certificate("ca", 1)
    assert cache.get(b"one") is None
    assert cache.get(b"both") is None
    assert cache.get(b"other") is not None


def test_the_same_serial_of_another_ca_is_another_certificate() -> None:
    cache = ResponseCache()
    cache.put(b"request", ANSWER, [("ca", 1)], signer=9)
    cache.drop_certificate("other", 1)
    assert len(cache) == 1


def test_the_oldest_answer_makes_room() -> None:
    one = ResponseCache()
    one.put(b"0", ANSWER, [("ca", 0)], signer=9)
    cache = ResponseCache(2 * one.octets)
    for number in range(3):
        cache.put(bytes([number]), ANSWER, [("ca", number)], signer=9)
    assert cache.get(b"\x00") is None
    assert cache.get(b"\x02") is not None
    assert cache.octets == 2 * one.octets


def test_an_answer_larger_than_the_bound_drops_nothing_else() -> None:
    cache = ResponseCache(2000)
    cache.put(b"small", ANSWER, [("ca", 1)], signer=9)
    cache.put(b"large", OcspAnswer(der=bytes(2000), expires_at=100), [("ca", 2)], signer=9)
    assert cache.get(b"small") is not None
    assert cache.get(b"large") is None


def test_what_a_signer_has_signed_goes_alone() -> None:
    cache = ResponseCache()
    cache.put(b"old", ANSWER, [("ca", 1)], signer=8)
    cache.put(b"new", ANSWER, [("ca", 1)], signer=9)
    cache.put(b"other CA", ANSWER, [("other", 1)], signer=8)
    cache.drop_signed_by("ca", 8)
    assert cache.get(b"old") is None
    assert cache.get(b"new") is not None
    assert cache.get(b"other CA") is not None


def test_the_answers_of_a_ca_go_alone() -> None:
    cache = ResponseCache()
    for authority in ("ca", "other"):
        cache.put(authority.encode(), ANSWER, [(authority, 1)], signer=9)
    cache.drop_authority("nobody")
    assert len(cache) == 2
    cache.drop_authority("ca")
    assert cache.get(b"ca") is None
    assert cache.get(b"other") is not None
    cache.drop_authority("other")
    assert (len(cache), cache.octets) == (0, 0)


def put_some_answer(cache: ResponseCache) -> None:
    answer = OcspAnswer(
        der=os.urandom(950), last_modified=2**31, expires_at=2**32, etag=os.urandom(16).hex()
    )
    serial = int.from_bytes(os.urandom(20), "big")
    cache.put(os.urandom(84), answer, [("ca", serial)], signer=9)


def test_octets_are_counted_as_the_memory_that_answers_take() -> None:
    cache, number = ResponseCache(), 20_000
    tracemalloc.start()
    for _ in range(number):
        put_some_answer(cache)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(cache) == number
    assert 0.85 * cache.octets <= taken <= cache.octets


def test_answers_that_were_replaced_keep_to_the_bound() -> None:
    # A little above a third of a power of two dictionaries waste most when they turn over.
    kept, most = 22_000, 41_000_000
    cache = ResponseCache(most)
    tracemalloc.start()
    for _ in range(3 * kept):
        put_some_answer(cache)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < len(cache) < 1.1 * kept
    assert taken <= most


@given(
    st.lists(
        st.one_of(
            st.tuples(
                st.just("put"),
                st.binary(max_size=1),
                st.sets(st.integers(0, 3), min_size=1, max_size=3),
                st.integers(8, 9),
            ),
            st.tuples(st.just("drop"), st.integers(0, 3)),
            st.tuples(st.just("distrust"), st.integers(8, 9)),
            st.tuples(st.just("drop CA"), st.sampled_from(["ca", "other"])),
            st.tuples(st.just("clear")),
        ),
        max_size=40,
    )
)
def test_no_answer_outlives_a_change_and_nothing_leaks(steps: list[tuple[object, ...]]) -> None:
    cache, model = ResponseCache(3 * 1000), {}
    for step in steps:
        match step:
            case ("put", bytes(request), set(serials), int(signer)):
                cache.put(request, ANSWER, [("ca", serial) for serial in serials], signer=signer)
                model[request] = {*serials, signer}
            case ("drop", int(serial)):
                cache.drop_certificate("ca", serial)
                model = {key: value for key, value in model.items() if serial not in value}
            case ("distrust", int(signer)):
                cache.drop_signed_by("ca", signer)
                model = {key: value for key, value in model.items() if signer not in value}
            case ("drop CA", str(authority)):
                cache.drop_authority(authority)
                model = {} if authority == "ca" else model
            case ("clear",):
                cache.clear()
                model = {}
        assert len(cache) <= 3000 // 700
        assert cache.octets <= 3000
        assert all(
            cache.get(key) is None for key in [bytes([n]) for n in range(256)] if key not in model
        )
    spoken = {key for kept in cache._answers.values() for key in kept.certificates}
    assert set(cache._requests) == spoken
    assert cache._signed == Counter(kept.signed_by for kept in cache._answers.values())
    cache.clear()
    assert cache.octets == 0
