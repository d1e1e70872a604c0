"""Wait until hosts let somebody log in and do something; a program, for the controller's network.

``readiness.py SECONDS SSH_CONFIGURATION NAME=ADDRESS...`` prints ``ready NAME`` once the login user
has run a command there, and for each host that isn't ready in the end ``late NAME CAUSE``. A port
that answers isn't enough: until it has booted, a host refuses every user but root (pam_nologin).
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

_PORT = 22
# Between two tries; a host that is booting refuses or doesn't answer.
_PAUSE_SECONDS = 0.05
_TRY_SECONDS = 1.0
_LOGIN_SECONDS = 10.0


class Host:
    """One host that is waited for."""

    def __init__(self, name: str, address: str, configuration: str) -> None:
        self.name = name
        self.cause: str | None = f"{address} port {_PORT} doesn't answer"
        self._address = address
        # Here the network is the controller's already, and nothing is to stay open behind.
        direct = ("-o", "ProxyCommand=none", "-o", "ProxyUseFdpass=no", "-o", "ControlPath=none")
        self._login = ("ssh", "-F", configuration, *direct, "-o", "BatchMode=yes", name, "true")

    async def watch(self) -> None:
        """Return when the host is ready; until then ``cause`` is why it isn't."""
        while not await self._answers():  # noqa: ASYNC110  a booting host tells nobody
            await asyncio.sleep(_PAUSE_SECONDS)
        while (cause := await self._refusal()) is not None:
            self.cause = cause
            await asyncio.sleep(_PAUSE_SECONDS)
        self.cause = None
        print(f"ready {self.name}", flush=True)

    async def _answers(self) -> bool:
        """Say whether SSH greets. It is cheaper than a login, and most tries are before it does."""
        try:
            async with asyncio.timeout(_TRY_SECONDS):
                reader, writer = await asyncio.open_connection(self._address, _PORT)
                try:
                    return (await reader.readline()).startswith(b"SSH-")
                finally:
                    writer.close()
        except OSError:  # TimeoutError is one
            return False

    async def _refusal(self) -> str | None:
        """Log in and run a command; return why that failed, if it did."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *self._login, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe
        )
        try:
            async with asyncio.timeout(_LOGIN_SECONDS):
                said, complained = await process.communicate()
        except TimeoutError:
            return f"a login takes longer than {_LOGIN_SECONDS:g} s"
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if process.returncode == 0:
            return None
        text = (complained or said).decode(errors="replace")
        return " ".join(text.split()) or f"ssh ends with {process.returncode}"


async def watch_all(seconds: float, hosts: list[Host]) -> int:
    """Wait until all are ready or the time is over; print what came of each."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
            for host in hosts:
                group.create_task(host.watch())
    late = [host for host in hosts if host.cause is not None]
    for host in late:
        print(f"late {host.name} {host.cause}", flush=True)
    return 1 if late else 0


def main() -> int:
    """Wait for the hosts in the arguments; return the exit status."""
    seconds, configuration, *described = sys.argv[1:]
    named = [host.partition("=") for host in described]
    hosts = [Host(name, address, configuration) for name, _, address in named]
    return asyncio.run(watch_all(float(seconds), hosts))


if __name__ == "__main__":
    sys.exit(main())
