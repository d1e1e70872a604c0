"""A control group of its own for each host.

Without one, hosts that are started side by side share a single tree of control groups, and so the
group of each unit that they have in common: one host's systemd removes what another's is just about
to use ("Failed at step CGROUP"), and units fail now and then.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from tools.test_hosts.errors import LabError

if TYPE_CHECKING:
    from tools.test_hosts.places import Places

# The shell goes into each group before "--" and becomes what comes after it.
ENTER = ("sh", "-ec", 'while [ "$1" != -- ]; do mkdir -p "$1"; echo 0 > "$1/cgroup.procs"; shift; '
         'done; shift; exec "$@"', "sh")  # fmt: skip
_PATIENCE_SECONDS = 10
_PAUSE_SECONDS = 0.01


def hierarchies(mountinfo: str) -> list[Path]:
    """Return where the hierarchies are that systemd puts processes into, whichever the machine has.

    They are version 2, and beside it on older machines version 1 without any controller.
    """
    found = []
    for line in mountinfo.splitlines():
        mount, _, kind = line.partition(" - ")
        name, _source, options = kind.split(" ", 2)
        if name == "cgroup2" or (name == "cgroup" and "name=systemd" in options.split(",")):
            found.append(Path(mount.split(" ")[4]))
    return found


def cgroups(places: Places) -> list[Path]:
    """Return the groups that hold those of all hosts of the lab."""
    mountinfo = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    return [root / places.controller_namespace for root in hierarchies(mountinfo)]


def enter_cgroups(places: Places, name: str) -> list[str]:
    """Return the words before a command that start it in the host's own groups."""
    return [*ENTER, *(str(group / name) for group in cgroups(places)), "--"]


def remove_cgroups(places: Places, name: str = "") -> None:
    """Remove the groups of a host without power, or all of the lab's without a name."""
    for group in cgroups(places):
        _remove(group / name)


def _remove(group: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while group.exists():
        try:
            for inner in sorted((p for p in group.rglob("*") if p.is_dir()), reverse=True):
                inner.rmdir()
            group.rmdir()
        except OSError as error:
            # The last processes are on their way out.
            if time.monotonic() > deadline:
                raise LabError(f"the control group {group} isn't empty: {error.strerror}") from None
            time.sleep(_PAUSE_SECONDS)
