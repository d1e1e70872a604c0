"""Find the Debian archive that this machine itself uses."""

from __future__ import annotations

from dataclasses import dataclass

from tools.test_hosts.commands import run
from tools.test_hosts.errors import LabError

_FIELDS = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)|$(LABEL)"


@dataclass(frozen=True, slots=True)
class _Source:
    uri: str
    suite: str
    component: str
    origin: str
    label: str

    @property
    def is_main_archive(self) -> bool:
        """Updates and security fixes come from other suites, and hold only a few packages."""
        plain = self.component == "main" and not {"-", "/"} & set(self.suite)
        # Both are unknown ("$(ORIGIN)") until 'apt-get update' has run.
        return plain and self.label.startswith(("Debian", "$")) and "security" not in self.uri


def find_mirror() -> str:
    """Return the address of the Debian archive in this machine's package sources."""
    listed = run("apt-get", "indextargets", "--format", _FIELDS, "Created-By: Packages")
    return choose_mirror(listed)


def choose_mirror(listed: str) -> str:
    """Return the archive among the lines that apt lists."""
    sources = [_Source(*line.split("|")) for line in listed.splitlines() if line.count("|") == 4]
    archives = [source for source in sources if source.is_main_archive]
    # What says of itself that it is Debian comes before what says nothing yet.
    archives.sort(key=lambda source: source.origin != "Debian")
    if not archives:
        raise LabError("this machine's package sources (apt) name no Debian archive")
    return archives[0].uri
