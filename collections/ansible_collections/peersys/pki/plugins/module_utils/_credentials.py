# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""Secrets of a service, encrypted with a key that doesn't leave the host (systemd-creds).

The same secret encrypts differently each time. Whether one has changed is seen by decrypting what
is stored. Secrets reach and leave ``systemd-creds`` through pipes only.
"""

from __future__ import annotations

import os
import typing as t

from ansible_collections.peersys.pki.plugins.module_utils._file_set import FileSet, WantedFile
from ansible_collections.peersys.pki.plugins.module_utils._host import CommandError, run_command

_PROGRAM = "systemd-creds"
_REMEDY = "see that the host runs systemd 250 or newer (Debian 12) and that /var is writable"
_MODE = 0o600
_DIRECTORY_MODE = 0o700


class CredentialStore:
    """Encrypted credentials, one file each, in a directory of their own."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        # Each decryption is a program that runs.
        self._decrypted: t.Dict[str, t.Optional[str]] = {}

    def differing(self, wanted: t.Mapping[str, str]) -> t.List[str]:
        """Return the names whose secret isn't stored as wanted, or no longer wanted."""
        changed = [name for name, secret in wanted.items() if self.stored(name) != secret]
        return sorted([*changed, *self._unwanted(wanted)])

    def write(self, wanted: t.Mapping[str, str], names: t.Sequence[str]) -> None:
        """Store those of ``wanted`` that are named, and remove the other named ones."""
        self._decrypted.clear()
        files = [
            WantedFile(self._path(name), _encrypt(name, wanted[name]), _MODE, secret=True)
            for name in names
            if name in wanted
        ]
        FileSet(self._directory, _DIRECTORY_MODE, files).write(dry_run=False)
        for name in self._unwanted(wanted):
            os.unlink(self._path(name))

    def stored(self, name: str) -> t.Optional[str]:
        """Return the stored secret, None when there is none that this host can decrypt."""
        if name not in self._decrypted:
            self._decrypted[name] = self._decrypt(name)
        return self._decrypted[name]

    def _decrypt(self, name: str) -> t.Optional[str]:
        path = self._path(name)
        if not os.path.isfile(path):
            return None
        try:
            return run_command(_PROGRAM, "decrypt", f"--name={name}", path, "-", remedy=_REMEDY)
        except CommandError:
            return None

    def _unwanted(self, wanted: t.Mapping[str, str]) -> t.List[str]:
        there = os.listdir(self._directory) if os.path.isdir(self._directory) else []
        return [name for name in there if name not in wanted]

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name)


def _encrypt(name: str, secret: str) -> bytes:
    return run_command(
        _PROGRAM, "encrypt", f"--name={name}", "-", "-", given=secret, remedy=_REMEDY
    ).encode()
