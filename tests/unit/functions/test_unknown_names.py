"""What an operator is told who names what isn't there."""

from __future__ import annotations

from node_agent.functions.node_objects import unknown


def test_an_unknown_ca_is_answered_with_those_that_there_are() -> None:
    told = str(unknown("CA 'nosuch'", ["root", "issuing"]))
    assert told == "there is no CA 'nosuch'; there are: issuing, root"
    assert str(unknown("CA 'nosuch'", [])) == "there is no CA 'nosuch'; there is none"


def test_of_thousands_of_cas_some_are_named_and_the_rest_counted() -> None:
    told = str(unknown("CA 'nosuch'", [f"ca-{number:05}" for number in range(10_000)]))
    assert told.endswith("ca-00018, ca-00019 and 9,980 more")
