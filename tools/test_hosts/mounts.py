"""Overlay mounts: what the hosts share below, what one host wrote above."""

from __future__ import annotations

from pathlib import Path

from tools.test_hosts.commands import run


def mount_overlay(lower: Path, disk: Path, root: Path) -> None:
    """Let ``root`` show ``lower`` with the changes that are in ``disk``."""
    upper, work = disk / "upper", disk / "work"
    for directory in (upper, work, root):
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    run("mount", "-t", "overlay", "-o", options, "peersys-test-host", root)


def mounts_below(directory: Path) -> list[Path]:
    """Return the mount points below ``directory``, the innermost first."""
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    # The fifth field, with spaces and the like as octal escapes.
    points = [Path(line.split(" ")[4].encode().decode("unicode_escape")) for line in lines]
    return sorted((p for p in points if p.is_relative_to(directory)), reverse=True)


def unmount_below(directory: Path) -> None:
    """Unmount everything below ``directory``."""
    while points := mounts_below(directory):
        run("umount", points[0])
