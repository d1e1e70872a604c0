# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""Whose a host is: a mark that keeps two topologies, or two nodes, from sharing one by mistake.

It is written before anything else and removed after everything else.
"""

from __future__ import annotations

import contextlib
import json
import os
import typing as t

from ansible_collections.peersys.pki.plugins.module_utils._file_set import FileSet, WantedFile
from ansible_collections.peersys.pki.plugins.module_utils._host import HostError

CLAIM_PATH = "/etc/peersys/claim.json"


class Claim:
    """The mark in ``path`` and the node that it should name."""

    def __init__(self, path: str, trust_domain: str, node: str) -> None:
        self._path = path
        self._wanted = {"trust_domain": trust_domain, "node": node}

    def check(self) -> None:
        """Raise HostError when the host belongs to another node."""
        found = self._found()
        if found is None or found == self._wanted:
            return
        wanted, owner = _shown(self._wanted), _shown(found)
        raise HostError(
            f"this host belongs to {owner}, not to {wanted} ({self._path})",
            "if the address in the inventory is wrong or has moved to another host, correct it; to "
            f"give the host away, run decommission.yml with the inventory of {owner} first, and where "
            "a database is to go too, drop its cluster and delete this file",
        )

    def is_made(self) -> bool:
        """Return whether the mark is there."""
        return self._found() is not None

    def make(self) -> None:
        """Write the mark."""
        directory = os.path.dirname(self._path)
        content = json.dumps(self._wanted, sort_keys=True).encode() + b"\n"
        wanted = WantedFile(self._path, content, 0o644, secret=False)
        FileSet(directory, 0o755, [wanted]).write(dry_run=False)

    def remove(self) -> None:
        """Remove the mark, and its directory when that is empty."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(self._path))

    def _found(self) -> t.Optional[t.Dict[str, str]]:
        try:
            with open(self._path, encoding="utf-8") as file:
                found = json.load(file)
        except FileNotFoundError:
            return None
        except ValueError:
            # Cut short by a crash: the run that wrote it had done nothing else yet.
            return None
        return {key: str(found.get(key)) for key in self._wanted}


def _shown(claim: t.Mapping[str, str]) -> str:
    return f"node {claim['node']} of {claim['trust_domain']}"
