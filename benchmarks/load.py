"""The load generator: wrk with requests made beforehand, the same for every contestant.

wrk is one C process on a core of its own, so that it isn't what is measured; its CPU share is
part of every reading, and near 1 means that the server could have done more.
"""

from __future__ import annotations

import json
import resource
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.measure import Reading

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["HttpRequest", "LoadFailed", "LoadPlan", "run_load"]

_SCRIPT = """\
local requests, turn = {}, 0

-- wrk would first open a connection only to close it again; openssl ocsp waits on such a one.
function wrk.connect(address) return true end

function init(arguments)
   local file = assert(io.open("%(path)s", "rb"))
   while true do
      local length = file:read("*n")
      if not length then break end
      file:read(1)
      requests[#requests + 1] = file:read(length)
   end
   file:close()
   if #requests == 1 then
      wrk.format = function() return requests[1] end
   else
      request = function()
         turn = turn %% #requests + 1
         return requests[turn]
      end
   end
end
%(dynamic)s
function done(summary, latency, requests)
   local errors = summary.errors
   print(string.format(
      '\\nRESULT {"requests": %%d, "microseconds": %%d, "failures": %%d, "refused": %%d,' ..
      ' "p50_ms": %%.3f, "p99_ms": %%.3f}',
      summary.requests, summary.duration,
      errors.connect + errors.read + errors.write + errors.timeout, errors.status,
      latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
"""

# wrk looks for a global ``request`` before ``init`` runs to learn whether requests differ.
_DYNAMIC = "function request() return wrk.request() end\n"


class LoadFailed(Exception):
    """Requests were refused or lost: the figure would say nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """A request as it goes over the wire, ``Host`` and ``Content-Length`` added."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def encode(self, host: str) -> bytes:
        """Return the bytes of the request."""
        lines = [f"{self.method} {self.path} HTTP/1.1", f"Host: {host}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if self.body or self.method == "POST":
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join([*lines, "", ""]).encode() + self.body


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """What to send where: ``requests`` are sent in turn over ``connections`` for ``seconds``."""

    url: str
    requests: Sequence[HttpRequest]
    directory: Path
    name: str
    connections: int = 16
    threads: int = 1
    seconds: float = 4.0
    cpus: str | None = None


def run_load(plan: LoadPlan) -> Reading:
    """Return requests per second with p50_ms, p99_ms and generator_cpu.

    Raises LoadFailed when any request failed or was answered with an error status.
    """
    script = _write_script(plan)
    pin = ["taskset", "--cpu-list", plan.cpus] if plan.cpus else []
    command = [
        *pin,
        "wrk",
        f"--connections={plan.connections}",
        f"--threads={plan.threads}",
        f"--duration={max(1, round(plan.seconds))}s",
        "--timeout=10s",
        f"--script={script}",
        plan.url,
    ]
    before, started = _child_cpu_seconds(), time.monotonic()
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    used = (_child_cpu_seconds() - before) / (time.monotonic() - started)
    return _reading(plan, run.stdout + run.stderr, generator_cpu=used)


def _write_script(plan: LoadPlan) -> Path:
    host = plan.url.split("//", 1)[1].split("/", 1)[0]
    requests = plan.directory / f"{plan.name}.requests"
    with requests.open("wb") as file:
        for request in plan.requests:
            encoded = request.encode(host)
            file.write(b"%d\n%s\n" % (len(encoded), encoded))
    script = plan.directory / f"{plan.name}.lua"
    dynamic = _DYNAMIC if len(plan.requests) > 1 else ""
    script.write_text(_SCRIPT % {"path": requests, "dynamic": dynamic})
    return script


def _reading(plan: LoadPlan, output: str, *, generator_cpu: float) -> Reading:
    lines = [line for line in output.splitlines() if line.startswith("RESULT ")]
    if not lines:
        raise LoadFailed(f"wrk gave no result against {plan.url}:\n{output[-2000:]}")
    result = json.loads(lines[0].removeprefix("RESULT "))
    if result["failures"] or result["refused"] or not result["requests"]:
        raise LoadFailed(f"{plan.name}: {result}")
    return Reading(
        result["requests"] / (result["microseconds"] / 1e6),
        {
            "p50_ms": result["p50_ms"],
            "p99_ms": result["p99_ms"],
            "generator_cpu": generator_cpu,
        },
    )


def _child_cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
