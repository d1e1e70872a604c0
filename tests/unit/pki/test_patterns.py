"""The pattern language of profiles: what it accepts, what it refuses, and that it can't be slow."""

from __future__ import annotations

import time

import pytest

from node_agent.errors import ConfigError
from node_agent.pki.patterns import Pattern

HOST = r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+example\.org"


@pytest.mark.parametrize(
    ("source", "accepted", "refused"),
    [
        ("", [""], ["a"]),
        ("abc", ["abc"], ["ab", "abcd", "xabc"]),
        ("^abc$", ["abc"], ["xabc", "abcx", "abc\n"]),
        (r"a\$", ["a$"], ["a"]),
        ("a|b|", ["a", "b", ""], ["ab"]),
        ("(ab|cd)+", ["ab", "cdab"], ["", "abc"]),
        ("a*b?", ["", "aaa", "aab", "b"], ["abb"]),
        ("a{2}", ["aa"], ["a", "aaa"]),
        ("a{2,}", ["aa", "aaaaa"], ["a"]),
        ("a{0,2}b", ["b", "ab", "aab"], ["aaab"]),
        ("a{0}", [""], ["a"]),
        ("(?:a{2}){2}", ["aaaa"], ["aaa"]),
        ("a+?b*?", ["a", "aab"], [""]),
        (".", ["x", "\u00fc"], ["", "\n", "xy"]),
        ("[a-c]", ["a", "b", "c"], ["d", "-"]),
        ("[a-]", ["a", "-"], ["b"]),
        ("[]a]", ["]", "a"], [""]),
        ("[^a-c]", ["d", "\u00fc"], ["a", ""]),
        (r"[\]\\]", ["]", "\\"], ["a"]),
        (r"[\w.]+", ["a_9.", "Z"], ["-", "\u00fc"]),
        (r"\d\D\w\W\s\S", ["1x1-\tx"], ["xx1-\tx", "1x1-xx"]),
        (r"[+--]", ["+", ",", "-"], ["."]),
        (HOST, ["a.example.org", "a-b.c.example.org"], ["example.org", "-a.example.org"]),
    ],
)
def test_pattern_matches_the_whole_text(source, accepted, refused):
    pattern = Pattern(source)
    assert all(pattern.matches(text) for text in accepted)
    assert not any(pattern.matches(text) for text in refused)


UNBALANCED = ["(", ")", "(a", "a)", "[a", "[", "[]", "{", "}", "]", "(" * 40 + ")" * 40]
MISPLACED = ["*a", "+", "?", "a**", "a+*", "a{2}{3}", "a^b", "a$b", "\\", "[b-a]", r"[\d-z]"]
MISCOUNTED = ["a{", "a{x}", "a{3,2}", "a{-1}", "a{1,99999}", "a{2000}", "a{1,2000}"]
UNSUPPORTED = [
    r"(a)\1",
    r"\bword",
    r"\x41",
    "(?=a)",
    "(?!a)",
    "(?P<n>a)",
    "(?i)a",
    r"[\n]",
    r"[\D]",
]
TOO_LARGE = ["((a{500}){500})", "a" * 2000, "[\x00-\uffff]"]


@pytest.mark.parametrize(
    "source", [*UNBALANCED, *MISPLACED, *MISCOUNTED, *UNSUPPORTED, *TOO_LARGE, "\\\u00fc"]
)
def test_pattern_outside_the_language_is_refused(source):
    with pytest.raises(ConfigError):
        Pattern(source)


def test_refusal_says_where():
    with pytest.raises(ConfigError, match=r"\\1 is not supported at character 5"):
        Pattern(r"(a)\1")


@pytest.mark.parametrize(
    "source", ["(a+)+", "(a|a)*", "(a|aa)+", "a*a*a*a*a*a*a*a*b", "(.*)*x", "(a?){64}a{64}"]
)
def test_patterns_that_stall_a_backtracking_matcher_are_quick(source):
    pattern = Pattern(source)
    started = time.process_time()
    for length in (64, 253, 2048):
        assert not pattern.matches("a" * length + "!")
    assert time.process_time() - started < 2


def test_hostile_texts_do_not_fill_the_memory():
    pattern = Pattern(".{0,40}")
    for code in range(0x100, 0x100 + 20_000):
        assert pattern.matches(chr(code))
    assert len(pattern._automaton._steps) <= 16384


def test_literals_are_what_is_written_outright():
    assert "*" in Pattern(r"\*\.example\.org").literals
    assert "*" in Pattern(r"[*a]\.example\.org").literals
    assert "*" not in Pattern(r".*\.example\.org").literals
    assert "*" not in Pattern(r"[^a]+").literals
    assert "*" not in Pattern(r"[!-~]+").literals
    assert "*" not in Pattern(r"[^*]+").literals


def test_pattern_shows_its_source():
    assert repr(Pattern("a+")) == "Pattern('a+')"
