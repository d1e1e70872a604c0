"""Times as people write them: so long ago, or ISO 8601."""

from __future__ import annotations

import time

import pytest

from node_agent.cli.failures import UsageError
from node_agent.cli.moments import moment_of


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("90m", 5400), ("24h", 86_400), ("7d", 604_800)]
)
def test_a_span_is_counted_back_from_now(text: str, seconds: int) -> None:
    assert moment_of(text) == pytest.approx(time.time() - seconds, abs=5)


def test_a_time_is_utc_unless_it_says_otherwise() -> None:
    assert moment_of("2026-11-23T20:00:00") == moment_of("2026-11-23T21:00:00+01:00")


@pytest.mark.parametrize("text", ["", "yesterday", "7w", "-1h", "2026-13-01"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no time"):
        moment_of(text)
