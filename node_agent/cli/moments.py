"""Times as people write them."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

from node_agent.cli.failures import UsageError

__all__ = ["moment_of"]

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_AGO = re.compile(r"(\d{1,6})([smhd])")


def moment_of(text: str) -> float:
    """Return seconds since the epoch for ``24h`` (ago) or an ISO 8601 time. Raises UsageError."""
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return time.time() - int(ago[1]) * _SECONDS[ago[2]]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(
            f"{text!r} is no time", remedy="write 90m, 24h, 7d or 2026-11-23T20:00:00Z"
        ) from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
