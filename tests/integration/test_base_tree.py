"""A base tree whose making is interrupted: what it leaves, and who removes that.

Real processes, mounts and namespaces. Only debootstrap, which takes minutes, is a program of the
test's own: like the real one, it mounts within the tree and has children.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tools.test_hosts.base_tree import base_trees, remove_unfinished
from tools.test_hosts.errors import LabError
from tools.test_hosts.mounts import mounts_below
from tools.test_hosts.recipe import RELEASE
from tools.test_hosts.requirements import missing_packages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MISSING = ["root"] * (os.geteuid() != 0) + missing_packages()
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"test hosts need {', '.join(MISSING)}")

_MAKE = (
    "import pathlib, sys; from tools.test_hosts.base_tree import base_trees; "
    f"base_trees(pathlib.Path(sys.argv[1]), [{RELEASE!r}])"
)
# Called as the real one: options, release, tree, mirror.
_STUCK = """\
#!/bin/sh -e
mkdir "$4/proc"
mount -t proc proc "$4/proc"
sleep infinity &
touch "$4/half-made"
wait
"""
_FAILING = """\
#!/bin/sh
echo "found: $(ls "$4")"
exit 1
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory whose programs are found first."""
    directory = tmp_path / "programs"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}{os.pathsep}{os.environ['PATH']}")
    return directory


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    directory = tmp_path / "cache"
    directory.mkdir()
    return directory


def put_debootstrap(programs: Path, text: str) -> None:
    program = programs / "debootstrap"
    program.write_text(text, encoding="ascii")
    program.chmod(0o755)


@contextmanager
def making(cache: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Yield the process that makes a tree, once debootstrap is at work."""
    maker = subprocess.Popen([sys.executable, "-c", _MAKE, str(cache)], stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: list(cache.glob("*.unfinished/half-made")) or maker.poll() is not None)
        assert maker.poll() is None
        yield maker
    finally:
        maker.kill()
        maker.wait()


def wait_for(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 15
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_free(cache: Path) -> bool:
    """Return whether nobody holds the cache any more: neither the maker nor what it started."""
    descriptor = os.open(cache, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def processes_of(cache: Path) -> list[str]:
    """Return the processes that were told a path in the cache."""
    told = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            # It ended meanwhile.
            continue
        if os.fsencode(cache) in words:
            told.append(words.replace(b"\0", b" ").decode())
    return told


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_interrupted_making_leaves_only_files_and_they_are_removed(
    programs: Path, cache: Path, ending: signal.Signals
) -> None:
    put_debootstrap(programs, _STUCK)
    with making(cache) as maker:
        assert len(processes_of(cache)) > 1
        maker.send_signal(ending)
        maker.wait(15)
    wait_for(lambda: is_free(cache))
    assert processes_of(cache) == []
    assert mounts_below(cache) == []
    assert [path.suffix for path in sorted(cache.iterdir())] == [".log", ".unfinished"]
    remove_unfinished(cache)
    assert list(cache.iterdir()) == []


def test_next_making_starts_from_nothing(programs: Path, cache: Path) -> None:
    put_debootstrap(programs, _STUCK)
    with making(cache) as maker:
        maker.kill()
    put_debootstrap(programs, _FAILING)
    # It waits for whatever is left of the first: the lock is theirs until the last has ended.
    with pytest.raises(LabError, match=r"debootstrap failed.*\nfound: *$"):
        base_trees(cache, [RELEASE])
    assert processes_of(cache) == []


def test_what_somebody_is_making_now_is_left_alone(programs: Path, cache: Path) -> None:
    put_debootstrap(programs, _STUCK)
    with making(cache) as maker:
        remove_unfinished(cache)
        assert list(cache.glob("*.unfinished/half-made"))
        assert maker.poll() is None
