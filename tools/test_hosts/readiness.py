"""Wait until hosts let somebody log in; a program, for the controller's network namespace.

``readiness.py SECONDS NAME=ADDRESS...`` prints each name as its SSH answers.
"""

from __future__ import annotations

import asyncio
import sys

_PORT = 22
# Between two tries; a host that is booting refuses or doesn't answer.
_PAUSE_SECONDS = 0.05
_TRY_SECONDS = 1.0


async def _answers(address: str) -> bool:
    try:
        async with asyncio.timeout(_TRY_SECONDS):
            reader, writer = await asyncio.open_connection(address, _PORT)
            try:
                return (await reader.readline()).startswith(b"SSH-")
            finally:
                writer.close()
    except OSError:  # TimeoutError is one
        return False


async def _watch(name: str, address: str) -> None:
    while not await _answers(address):  # noqa: ASYNC110  a booting host tells nobody
        await asyncio.sleep(_PAUSE_SECONDS)
    print(name, flush=True)


async def _watch_all(seconds: float, hosts: list[str]) -> int:
    try:
        async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
            for host in hosts:
                name, _, address = host.partition("=")
                group.create_task(_watch(name, address))
    except TimeoutError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(_watch_all(float(sys.argv[1]), sys.argv[2:])))
