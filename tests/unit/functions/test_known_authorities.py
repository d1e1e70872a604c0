"""What an operator is told of the CAs that a node knows."""

from __future__ import annotations

from node_agent.functions.known_authorities import unknown_authority


def test_an_unknown_ca_is_answered_with_those_that_there_are() -> None:
    told = str(unknown_authority("nosuch", ["root", "issuing"]))
    assert told == "there is no CA 'nosuch'; there are: issuing, root"
    assert str(unknown_authority("nosuch", [])) == "there is no CA 'nosuch'; there is none"


def test_of_thousands_of_cas_some_are_named_and_the_rest_counted() -> None:
    told = str(unknown_authority("nosuch", [f"ca-{number:05}" for number in range(10_000)]))
    assert told.endswith("ca-00018, ca-00019 and 9,980 more")
