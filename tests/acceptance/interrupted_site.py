"""Begin ``site`` twice and let a host lose its power in the middle of it; boot it again each time.

``python -m tests.acceptance.interrupted_site``; the rerun that completes is somebody else's.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

from tests.acceptance.deployment import PLAIN, ROOT, Deployment
from tools.test_hosts import lab

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_DEADLINE_SECONDS = 300
# Between two looks; the deployment needs the processors.
_LOOK_SECONDS = 0.02


def main() -> int:
    """Interrupt the installation of one host, and the set-up of another."""
    deployment = Deployment.from_environment()
    installing = deployment.places.host("ra1") / "root/opt/peersys/versions"
    interrupt(deployment, "ra1", lambda _: installing.exists())
    interrupt(deployment, "ca1", lambda output: "Give every node its identity" in output)
    return 0


def interrupt(deployment: Deployment, victim: str, is_time: Callable[[str], bool]) -> None:
    """Run ``site``, cut the power of ``victim`` when it is time, and see that the run says so."""
    log = deployment.places.directory / f"interrupted-{victim}.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            deployment.play("site.yml"), cwd=ROOT, stdout=output, stderr=output, env=PLAIN
        ) as playing,
    ):
        _wait(playing, log, is_time)
        lab.kill([victim], deployment.places)
        cut = time.monotonic()
        status = playing.wait(_DEADLINE_SECONDS)
    said = log.read_text(encoding="utf-8")
    print(
        f"{victim} lost its power; the run ended with {status} after {time.monotonic() - cut:.0f} s"
    )
    assert status != 0, "the run doesn't know that a host is gone"
    assert f"[{victim}]: UNREACHABLE" in said or f"fatal: [{victim}]" in said, said[-2000:]
    lab.start([victim], deployment.places)


def _wait(playing: subprocess.Popen[bytes], log: Path, is_time: Callable[[str], bool]) -> None:
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while not is_time(log.read_text(encoding="utf-8", errors="replace")):
        said = log.read_text(encoding="utf-8", errors="replace")[-2000:]
        assert playing.poll() is None, f"the run ended before it was time: {said}"
        assert time.monotonic() < deadline
        time.sleep(_LOOK_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
