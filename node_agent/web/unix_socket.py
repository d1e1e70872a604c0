"""The admin socket: where it is bound, and who may connect.

The file's mode (0660, group of the administrators) keeps others out; the kernel's word on the
peer's credentials (SO_PEERCRED, SO_PEERGROUPS of socket(7)) is checked as well, because a mode can
be changed by hand and a directory can be bind-mounted into a container.
"""

from __future__ import annotations

import grp
import os
import socket
import stat
import struct
from typing import TYPE_CHECKING, Any

from node_agent.errors import ConfigError
from node_agent.web.admin import CALLER_EXTENSION
from node_agent.web.admin_bodies import LocalCaller
from node_agent.web.serve import Refused

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path

__all__ = ["AdminGate", "bind_admin_socket", "group_id"]

_SUN_PATH_BYTES = 107  # unix(7): 108 with the closing NUL
_UCRED = struct.Struct("iII")
_SO_PEERGROUPS = 59  # asm-generic/socket.h; Python's socket module doesn't name it
_GROUPS_BYTES = 1024  # the most that Python reads: 256 groups


def group_id(name: str | None) -> int | None:
    """Return the number of the group called ``name``. Raises ConfigError for an unknown one."""
    if name is None:
        return None
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError as error:
        raise ConfigError(
            f"there is no group {name!r} on this host",
            where="admin_group",
            remedy="create the group or leave admin_group out",
        ) from error


def bind_admin_socket(path: Path, *, admin_gid: int | None = None) -> socket.socket:
    """Return a bound stream socket at ``path``, mode 0660, owned by ``admin_gid`` if given.

    A socket file left by a dead agent is replaced. Raises ConfigError when a live one answers
    there, when something else than a socket is in the way, or when the directory isn't usable.
    """
    try:
        directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    except OSError as error:
        raise ConfigError(f"can't be used: {error.strerror}", where=str(path.parent)) from error
    try:
        return _bind(path, _short_path(path, directory), admin_gid)
    except OSError as error:
        raise ConfigError(f"can't be bound: {error.strerror}", where=str(path)) from error
    finally:
        os.close(directory)


def _short_path(path: Path, directory: int) -> str:
    if len(os.fsencode(path)) <= _SUN_PATH_BYTES:
        return str(path)
    return f"/proc/self/fd/{directory}/{path.name}"


def _bind(path: Path, address: str, admin_gid: int | None) -> socket.socket:
    _clear(path, address)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Nobody may connect between bind and chmod; a umask would be the whole process's.
    os.fchmod(listener.fileno(), 0o600)
    try:
        listener.bind(address)
        if admin_gid is not None:
            os.chown(address, -1, admin_gid)
        os.chmod(address, 0o660)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def _clear(path: Path, address: str) -> None:
    """Remove the socket of an agent that is gone."""
    try:
        mode = os.lstat(address).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError("is in the way and is no socket", where=str(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(address)
        except ConnectionRefusedError:
            os.unlink(address)
            return
    raise ConfigError(
        "another agent answers there", where=str(path), remedy="stop it, or use its own directory"
    )


class AdminGate:
    """Admits root, the agent's own user and the admin group's members.

    Give its ``inspect`` to the HttpServer of the admin API.
    """

    def __init__(self, *, admin_gid: int | None = None, own_uid: int | None = None) -> None:
        self._admin_gid = admin_gid
        self._own_uid = os.geteuid() if own_uid is None else own_uid

    def inspect(self, transport: asyncio.Transport) -> dict[str, Any]:
        """Return the caller as an ASGI extension. Raises Refused for everybody else."""
        handle = transport.get_extra_info("socket")
        with socket.socket(fileno=os.dup(handle.fileno())) as peer:
            caller = _credentials(peer)
            groups = _groups(peer)
        if not self.admits(caller, groups):
            raise Refused(f"uid {caller.uid} may not manage this node")
        return {CALLER_EXTENSION: caller}

    def admits(self, caller: LocalCaller, groups: frozenset[int]) -> bool:
        """Whether a process with these credentials may manage the node."""
        if caller.uid in (0, self._own_uid):
            return True
        return self._admin_gid is not None and self._admin_gid in groups | {caller.gid}


def _credentials(peer: socket.socket) -> LocalCaller:
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, gid = _UCRED.unpack(raw)
    return LocalCaller(uid=uid, gid=gid, pid=pid)


def _groups(peer: socket.socket) -> frozenset[int]:
    try:
        raw = peer.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_BYTES)
    except OSError:  # more groups than that: the primary group alone counts
        return frozenset()
    return frozenset(number for (number,) in struct.iter_unpack("I", raw))
