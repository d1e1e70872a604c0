"""What is written in one turn of the event loop leaves in one write."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from node_agent.web.joined_writes import JoinedWrites
from tests.support.event_loop import run


class Transport:
    """Remembers what it is asked to do."""

    def __init__(self) -> None:
        self.calls: list[bytes | str] = []

    def write(self, data: bytes) -> None:
        self.calls.append(data)

    def close(self) -> None:
        self.calls.append("close")

    def abort(self) -> None:
        self.calls.append("abort")

    def is_closing(self) -> bool:
        return bool({"close", "abort"} & {*self.calls})


def calls_of(*steps: str) -> list[bytes | str]:
    """Return what the transport is asked for when ``steps`` happen: "turn", a method, or a text."""

    async def scenario() -> list[bytes | str]:
        transport = Transport()
        joined = JoinedWrites(cast("Any", transport), asyncio.get_running_loop())
        for step in steps:
            if step == "turn":
                await asyncio.sleep(0)
            elif step in ("close", "abort"):
                getattr(joined, step)()
            else:
                joined.write(step.encode())
        await asyncio.sleep(0)
        return transport.calls

    return run(scenario())


def test_one_turn_is_one_write() -> None:
    assert calls_of("head", "body", "turn", "next") == [b"headbody", b"next"]


def test_closing_writes_what_waits_first() -> None:
    assert calls_of("head", "body", "close") == [b"headbody", "close"]


def test_nothing_is_written_after_an_abort() -> None:
    assert calls_of("head", "abort") == ["abort"]
