"""Make the tree that all hosts of a Debian release share, once; its name says what is in it.

It is made beside that name and renamed in the end, so what has the name is complete. Its making is
in a process namespace that ends with the process that asked for it: whoever interrupts it leaves
directories, never processes or mounts.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tools.test_hosts import recipe
from tools.test_hosts.commands import run
from tools.test_hosts.errors import LabError
from tools.test_hosts.mirror import find_mirror
from tools.test_hosts.progress import report

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_UNFINISHED = ".unfinished"
_LOG = ".log"


def base_trees(cache: Path, releases: list[str]) -> dict[str, Path]:
    """Return the tree of each release; those that aren't in the cache are made now, all at once."""
    trees = {release: cache / f"{release}-{recipe.recipe_hash(release)}" for release in releases}
    if all(tree.exists() for tree in trees.values()):
        return trees
    cache.mkdir(parents=True, exist_ok=True)
    with _lock(cache, wait=True) as lock, ThreadPoolExecutor() as pool:
        missing = [release for release, tree in trees.items() if not tree.exists()]
        for _ in pool.map(lambda release: _ensure(trees[release], release, lock), missing):
            pass
    return trees


def _ensure(tree: Path, release: str, lock: int) -> None:
    report(f"base tree: {release}, once; takes about two minutes")
    unfinished = tree.with_suffix(_UNFINISHED)
    _remove(unfinished)
    _make(unfinished, release, lock)
    unfinished.rename(tree)
    unfinished.with_suffix(_LOG).unlink()
    report(f"base tree: {tree}")


def remove_unfinished(cache: Path) -> None:
    """Remove what an interrupted making left; leave alone what somebody is making now."""
    if not cache.exists():
        return
    with _lock(cache, wait=False) as lock:
        for path in cache.glob(f"*{_UNFINISHED}") if lock >= 0 else ():
            _remove(path)


def _remove(unfinished: Path) -> None:
    if unfinished.exists():
        shutil.rmtree(unfinished)
    unfinished.with_suffix(_LOG).unlink(missing_ok=True)


@contextmanager
def _lock(cache: Path, *, wait: bool) -> Iterator[int]:
    """Yield the descriptor of the lock, or -1 if it is held and ``wait`` is false."""
    descriptor = os.open(cache, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        yield -1
    else:
        yield descriptor
    finally:
        os.close(descriptor)


def _make(tree: Path, release: str, lock: int) -> None:
    tree.mkdir(mode=0o755)
    packages = ",".join(recipe.FIRST_PACKAGES)
    step = _Step(tree, lock)
    mirror = find_mirror()
    step("debootstrap", "--variant=minbase", f"--include={packages}", release, str(tree), mirror)
    _write(tree, recipe.FILES_BEFORE_LATER_PACKAGES)
    (tree / "usr/sbin/policy-rc.d").chmod(0o755)
    install = ("apt-get", "install", "-y", "-qq", "--no-install-recommends")
    step("chroot", str(tree), *install, "-oDpkg::Options::=--force-confold", *recipe.LATER_PACKAGES)
    step("chroot", str(tree), "useradd", "--create-home", "--no-user-group", "-s", "/bin/bash",
         recipe.LOGIN)  # fmt: skip
    _write(tree, recipe.FILES)
    step("systemctl", f"--root={tree}", "mask", *recipe.MASKED)
    step("systemctl", f"--root={tree}", "enable", *recipe.ENABLED)
    step("systemctl", f"--root={tree}", "disable", *recipe.DISABLED)
    for pattern in recipe.REMOVED:
        for path in tree.glob(pattern):
            path.unlink()


class _Step:
    """Runs one program with a log, in namespaces that end with this process."""

    def __init__(self, tree: Path, lock: int) -> None:
        self._tree = tree
        self._lock = lock

    def __call__(self, *command: str) -> None:
        log = self._tree.with_suffix(_LOG)
        alone = ("setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child")
        within = command[0] == "chroot"
        # debootstrap mounts one in the tree itself, and only if nothing is there.
        own_mounts = ("--mount", f"--mount-proc={self._tree if within else ''}/proc")
        report(f"base tree: {self._tree.stem}: {command[2] if within else command[0]}")
        with log.open("ab") as output:
            status = subprocess.run(
                [*alone, *own_mounts, "--", *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # The lock stays taken until the last of these processes has ended.
                pass_fds=[self._lock],
                env=_environment(),
                check=False,
            ).returncode
        if status:
            last = log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:]
            raise LabError("\n".join([f"base tree: {command[0]} failed; from {log}:", *last]))


def _environment() -> dict[str, str]:
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    # What apt was told about a proxy holds for debootstrap too, which doesn't ask apt.
    if "http_proxy" not in environment:
        said = run("apt-config", "dump", "--format", "%v%n", "Acquire::http::Proxy").strip()
        if said and said != "DIRECT":
            environment["http_proxy"] = said
    return environment


def _write(tree: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
