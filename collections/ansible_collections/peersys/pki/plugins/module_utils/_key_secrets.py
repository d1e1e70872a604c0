# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""Whether the secrets that are given are those that the keys of the host's node are encrypted with."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.peersys.pki.plugins.module_utils._credentials import CredentialStore
from ansible_collections.peersys.pki.plugins.module_utils._host import HostError

# The agent doesn't start with another one than its keys were made with.
_KEY_SECRETS = ("passphrase", "shared_passphrase")
# As long as the agent itself asks for.
_SHORTEST = 16


class NodePlace(t.NamedTuple):
    """A node, and where it keeps its things on its host."""

    name: str
    trust_domain: str
    config_directory: str
    state_directory: str

    @property
    def credentials(self) -> str:
        """The directory of the encrypted credentials."""
        return os.path.join(self.config_directory, "credentials")

    @property
    def restart_pending(self) -> str:
        """The mark of a restart that is owed; it names the credentials that are new since the last."""
        return os.path.join(self.config_directory, ".restart-pending")


def check_length(secrets: t.Mapping[str, str]) -> None:
    """Raise HostError unless there is a passphrase that the agent accepts."""
    if len(secrets.get("passphrase", "")) < _SHORTEST:
        raise HostError(
            f"node_passphrase is missing or shorter than {_SHORTEST} characters",
            "write one with ansible-vault",
        )


def check_key_secrets(
    place: NodePlace, stored: CredentialStore, secrets: t.Mapping[str, str]
) -> None:
    """Raise HostError for a passphrase that would take a node that has keys down."""
    if not os.path.exists(place.state_directory):
        return
    unproven = _unproven(place)
    for name in _KEY_SECRETS:
        known = None if name in unproven else stored.stored(name)
        if known is not None and known != secrets.get(name):
            raise _other_secret(name, place)


def _unproven(place: NodePlace) -> t.Set[str]:
    """Return the credentials that the service hasn't started with since they were stored."""
    try:
        with open(place.restart_pending, encoding="utf-8") as file:
            return set(file.read().split())
    except FileNotFoundError:
        return set()


def _other_secret(name: str, place: NodePlace) -> HostError:
    option = f"node_{name}"
    return HostError(
        f"node {place.name} of {place.trust_domain} runs on this host with another {option}, which "
        f"its keys are encrypted with: it wouldn't start with this one ({place.state_directory})",
        f"give the {option} that the node was set up with; if the host belongs to another copy of this "
        "inventory, correct its address in topology.yml; if the node is to go with all its keys, run "
        "decommission.yml first",
    )
