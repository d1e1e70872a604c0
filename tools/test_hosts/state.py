"""What a lab writes down about itself, and the lock that keeps two commands apart."""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tools.test_hosts.errors import LabError
from tools.test_hosts.model import Lab, lab_from_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tools.test_hosts.places import Places


# A command that was killed holds the lock until its last child has become another program.
_PATIENCE_SECONDS = 1.0
_PAUSE_SECONDS = 0.02


@contextmanager
def locked(places: Places) -> Iterator[None]:
    """Hold the lab's directory; it is made if need be.

    Raises LabError if another command keeps it for longer than a moment.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while (descriptor := _try_lock(places.directory)) is None:
        if time.monotonic() > deadline:
            raise LabError("another command is at work on these test hosts")
        time.sleep(_PAUSE_SECONDS)
    try:
        yield
    finally:
        os.close(descriptor)


def _try_lock(directory: Path) -> int | None:
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_still(descriptor, directory):
            return descriptor
    except BlockingIOError:
        pass
    os.close(descriptor)
    return None


def _is_still(descriptor: int, directory: Path) -> bool:
    """Say whether the locked directory is the one of that name: ``down`` may have removed it."""
    try:
        return os.path.samestat(os.fstat(descriptor), directory.stat())
    except FileNotFoundError:
        return False


def recorded_lab(places: Places) -> Lab | None:
    """Return the lab that was made here, if one was."""
    try:
        return lab_from_json(places.description.read_text(encoding="ascii"))
    except FileNotFoundError:
        return None


def existing_lab(places: Places) -> Lab:
    """Return the lab that was made here. Raises LabError without one."""
    lab = recorded_lab(places)
    if lab is None:
        raise LabError("there are no test hosts; 'make hosts' makes them")
    return lab


def record_lab(lab: Lab, places: Places) -> None:
    """Write the lab down, whole or not at all."""
    _replace(places.description, lab.to_json())


def recorded_cuts(places: Places) -> set[frozenset[str]]:
    """Return the pairs of zones that are cut apart."""
    try:
        pairs = json.loads(_cuts_file(places).read_text(encoding="ascii"))
    except FileNotFoundError:
        return set()
    return {frozenset(pair) for pair in pairs}


def record_cuts(cuts: set[frozenset[str]], places: Places) -> None:
    """Write down which pairs of zones are cut apart."""
    _replace(_cuts_file(places), json.dumps(sorted(sorted(cut) for cut in cuts)))


def _cuts_file(places: Places) -> Path:
    return places.directory / "cuts.json"


def _replace(path: Path, content: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(content, encoding="ascii")
    new.replace(path)
